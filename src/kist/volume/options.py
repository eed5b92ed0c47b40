"""Options of the local driver (`type`, `o`, `device`, `size`): checks with Docker's texts, what mount(2) is given."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from urllib.parse import unquote_plus, urlsplit, urlunsplit

import msgspec

from kist.kernel import const
from kist.model.errors import InvalidParameter, KistError

_KNOWN = frozenset({"type", "o", "device", "size"})
_NEEDS = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
_SIZE = re.compile(r"^(\d+(?:\.\d+)?) ?([kmgtpe]?)(i?b)?$", re.IGNORECASE | re.ASCII)
_UNITS = {letter: 1 << 10 * power for power, letter in enumerate(("", "k", "m", "g", "t", "p", "e"))}
_NETWORK_TYPES = frozenset({"nfs", "cifs"})

# fstab words (mount(8)): the flags they set, or clear. Any other word is for the file system.
_SET = {
    "ro": const.MS_RDONLY, "nosuid": const.MS_NOSUID, "nodev": const.MS_NODEV, "noexec": const.MS_NOEXEC,
    "sync": const.MS_SYNCHRONOUS, "dirsync": const.MS_DIRSYNC, "remount": const.MS_REMOUNT, "mand": const.MS_MANDLOCK,
    "noatime": const.MS_NOATIME, "nodiratime": const.MS_NODIRATIME, "bind": const.MS_BIND,
    "rbind": const.MS_BIND | const.MS_REC, "relatime": const.MS_RELATIME, "strictatime": const.MS_STRICTATIME,
    "unbindable": const.MS_UNBINDABLE, "runbindable": const.MS_UNBINDABLE | const.MS_REC,
    "private": const.MS_PRIVATE, "rprivate": const.MS_PRIVATE | const.MS_REC,
    "shared": const.MS_SHARED, "rshared": const.MS_SHARED | const.MS_REC,
    "slave": const.MS_SLAVE, "rslave": const.MS_SLAVE | const.MS_REC,
}  # fmt: skip
_CLEAR = {
    "rw": const.MS_RDONLY, "suid": const.MS_NOSUID, "dev": const.MS_NODEV, "exec": const.MS_NOEXEC,
    "async": const.MS_SYNCHRONOUS, "nomand": const.MS_MANDLOCK, "atime": const.MS_NOATIME,
    "diratime": const.MS_NODIRATIME, "norelatime": const.MS_RELATIME, "nostrictatime": const.MS_STRICTATIME,
}  # fmt: skip


class MountCall(msgspec.Struct, frozen=True):
    """The arguments of mount(2), but for the target. `told` is `data` as it may be shown: without a password."""

    device: str
    type: str
    flags: int
    data: str
    told: str


def check(options: dict[str, str]) -> None:
    """Raises InvalidParameter with Docker's texts."""
    for name in sorted(options):
        if name not in _KNOWN:
            raise InvalidParameter(f'invalid option: "{name}"')
    for name, value in options.items():
        if "\0" in value:
            raise InvalidParameter(f'the value of option "{name}" has a NUL character')
    if options.get("type") == "cifs" and options.get("device"):
        _check_cifs(options["device"])
    size = parse_size(options["size"]) if "size" in options else 0
    for name, needed in _NEEDS.items():
        for other in needed if name in options else ():
            if other not in options:
                raise InvalidParameter(f'missing required option: "{other}"')
    if size and needs_mount(options):  # a quota on what another file system holds
        raise InvalidParameter("quota size requested but no quota support")


def _check_cifs(device: str) -> None:
    try:
        port = urlsplit(device).port
    except ValueError as error:
        raise InvalidParameter(f"error parsing mount device url: {error}") from error
    if port is not None:
        raise InvalidParameter("port not allowed in CIFS device URL, include 'port' in 'o='")


def parse_size(text: str) -> int:
    """Bytes of `10G`, `512m`, `1.5g`: units are powers of 1024. Raises InvalidParameter with Docker's text."""
    match = _SIZE.match(text)
    if match is None or len(text) > 32:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def size_of(options: dict[str, str] | None) -> int:
    """The limit on a volume's size in bytes; 0 for none."""
    return parse_size(options["size"]) if options and "size" in options else 0


def needs_mount(options: dict[str, str] | None) -> bool:
    return bool(options) and bool((options or {}).get("device") or (options or {}).get("type"))


def parse_flags(words: str) -> tuple[int, str]:
    """`ro,noexec,size=1m` as mount flags and what is left for the file system."""
    flags, data = 0, []
    for word in words.split(","):
        if word in _SET:
            flags |= _SET[word]
        elif word in _CLEAR:
            flags &= ~_CLEAR[word]
        else:
            data.append(word)
    return flags, ",".join(data)


def resolve_address(name: str) -> str:
    """An address of a host, IPv4 first, as the kernel's file systems take no names. Raises KistError."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        text = f"error resolving passed in network volume address: lookup {name}: {reason.lower()}"
        raise KistError(text) from error
    found.sort(key=lambda one: one[0] != socket.AF_INET)
    return str(found[0][4][0])


def mount_call(options: dict[str, str], resolve: Callable[[str], str] = resolve_address) -> MountCall:
    """Blocks while names are looked up. Raises KistError."""
    device, kind, words = options.get("device", ""), options.get("type", ""), options.get("o", "")
    if not device:
        raise KistError("missing device in volume options")
    if kind in _NETWORK_TYPES:
        address = _value(words, "addr")
        if address and not _is_ipv4(address):
            words = words.replace(f"addr={address}", f"addr={resolve(address)}", 1)
        elif kind == "cifs":
            device = _cifs_device(device, resolve)
    flags, data = parse_flags(words)
    password = _value(words, "password")
    told = data.replace(f"password={password}", "password=********", 1) if password else data
    return MountCall(device, kind, flags, data, told)


def _cifs_device(device: str, resolve: Callable[[str], str]) -> str:
    parts = urlsplit(device)
    if not parts.netloc or _is_address(parts.netloc):
        return device
    return unquote_plus(urlunsplit(parts._replace(netloc=resolve(parts.netloc))))


def _value(words: str, name: str) -> str:
    return next((word.partition("=")[2] for word in words.split(",") if word.startswith(f"{name}=")), "")


def _is_ipv4(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def _is_address(text: str) -> bool:
    if _is_ipv4(text):
        return True
    try:
        socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return False
    return True
