"""Addresses of daemons as the command takes them: `unix://`, `tcp://`, `ssh://`, or a bare host and port; and the
files of TLS that go with them."""

from __future__ import annotations

from typing import NamedTuple

from kist.model.errors import KistError

DEFAULT_HOST = "unix:///run/kist.sock"
_DEFAULT_TLS_HOST = "tcp://localhost:2376"
_HEX = frozenset("0123456789abcdefABCDEF")


def parse_host(text: str, *, tls: bool) -> str:
    """A complete `scheme://address`; what is left out is filled in. Raises KistError with Docker's texts."""
    text = text.strip()
    if not text:
        return _DEFAULT_TLS_HOST if tls else DEFAULT_HOST
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "tcp", text
    if scheme == "tcp":
        return _tcp(rest)
    if scheme == "unix":
        return f"unix://{rest}" if rest else DEFAULT_HOST
    if scheme == "ssh":
        return text
    if scheme == "npipe":
        raise KistError("protocol not available")
    if scheme == "fd":
        raise KistError(f"unable to parse docker host `{text}`")
    raise KistError(f"invalid bind address format: {text}")


def _tcp(rest: str) -> str:
    address, slash, path = rest.partition("/")
    name, port = split_port(address, f"tcp://{rest}")
    name = name or "localhost"
    return f"tcp://{f'[{name}]' if ':' in name else name}:{port or '2375'}{slash}{path}"


def split_port(address: str, url: str) -> tuple[str, str]:
    """(host, port) of `host:port`, `host`, `[ipv6]:port`. Raises KistError with Go's text."""
    if address.startswith("["):
        name, bracket, port = address[1:].partition("]")
        if not bracket:
            raise KistError(f"parse \"{url}\": missing ']' in host")
    else:
        name, colon, port = address.rpartition(":")
        name, port = (name, colon + port) if colon else (address, "")
    if port and (port[0] != ":" or not (port[1:] == "" or (port[1:].isascii() and port[1:].isdigit()))):
        raise KistError(f'parse "{url}": invalid port "{port}" after host')
    return name, port[1:]


def check_stored(host: str) -> None:
    """Whether a context may have this host. Raises KistError with Docker's texts, which name the step that failed."""
    scheme, separator, rest = host.partition("://")
    if host and not (separator and rest):
        raise KistError(f"unable to apply docker endpoint options: unable to parse docker host `{host}`")
    try:
        if scheme == "ssh":
            parse_ssh(host)
        elif scheme == "tcp":
            split_port(rest.partition("/")[0], host)
    except KistError as error:
        raise KistError(f"invalid docker endpoint options: {error.message}") from error


class SshAddress(NamedTuple):
    """`ssh://[user@]host[:port][/path]` in its parts; empty is not given."""

    user: str
    host: str
    port: str
    path: str


def parse_ssh(url: str) -> SshAddress:
    """Raises KistError with Docker's texts."""

    def wrong(reason: str) -> KistError:
        return KistError(f"ssh host connection is not valid: invalid SSH URL: {reason}")

    rest, _, fragment = url.removeprefix("ssh://").partition("#")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    user, at, address = authority.rpartition("@")
    name, port = split_port(address, url)
    user, colon, _ = user.partition(":")
    if at and colon:
        raise wrong("plain-text password is not supported")
    if not name:
        raise wrong("hostname is empty")
    if query:
        raise wrong(f'query parameters are not allowed: "{query}"')
    if fragment:
        raise wrong(f'fragments are not allowed: "{fragment}"')
    return SshAddress(unquote(user), unquote(name), port, unquote(slash + path))


def unquote(text: str) -> str:
    """Percent-decodes; urllib would take 8 ms to import."""
    head, *parts = text.split("%")
    found = head.encode("utf-8", "surrogateescape")
    for part in parts:
        if len(part) >= 2 and set(part[:2]) <= _HEX:
            found += bytes([int(part[:2], 16)]) + part[2:].encode("utf-8", "surrogateescape")
        else:
            found += b"%" + part.encode("utf-8", "surrogateescape")
    return found.decode("utf-8", "surrogateescape")


class TlsFiles(NamedTuple):
    """Files by path, "" where there is none. `verify` False: whoever answers is taken for the daemon."""

    authority: str = ""
    certificate: str = ""
    key: str = ""
    verify: bool = True


def check_files(files: TlsFiles) -> None:
    """Raises KistError with Docker's text for the first file that cannot be read."""
    for path in (files.authority, files.certificate, files.key):
        if path:
            try:
                with open(path, "rb") as file:
                    file.read(1)
            except OSError as error:
                raise KistError(f"open {path}: {(error.strerror or '').lower()}") from error
