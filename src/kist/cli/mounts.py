"""--mount: `type=bind,src=/a,dst=/b,readonly`, a line of CSV (RFC 4180) that becomes a mount of the create request."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from kist.cli.parse import UsageError, parse_size

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})  # as strconv.ParseBool of Go reads them
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_ALONE = frozenset(
    {"readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src"}
)  # what may stand without a value
_RECURSIVE: dict[str, dict[str, bool]] = {
    "enabled": {},
    "disabled": {"NonRecursive": True},
    "writable": {"ReadOnlyNonRecursive": True},
    "readonly": {"ReadOnlyForceRecursive": True},
}
_OWNERS = (("VolumeOptions", "volume"), ("ImageOptions", "image"), ("BindOptions", "bind"), ("TmpfsOptions", "tmpfs"))


class _Wrong(ValueError):
    """A reason, in Docker's words."""


def mount(text: str) -> dict[str, Any]:
    """The mount that a value of --mount asks for. Raises UsageError with Docker's texts."""
    try:
        found: dict[str, Any] = {"Type": "volume"}
        for field in _fields(text):
            key, equals, value = field.partition("=")
            key = key.lower()
            if not equals and key not in _ALONE:
                raise _Wrong(f"invalid field '{field}' must be a key=value pair")
            if key not in _KEYS:
                raise _Wrong(f"unexpected key '{key}' in '{field}'")
            _KEYS[key](found, key, value if equals else "true")
        _check(found)
    except _Wrong as wrong:
        quoted = text.replace('"', '\\"')
        raise UsageError(f'invalid argument "{quoted}" for "--mount" flag: {wrong}') from wrong
    return found


def _fields(text: str) -> list[str]:
    import csv  # most commands have no --mount

    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise _Wrong(f"parse error on line 1: {error}") from error
    if not fields:
        raise _Wrong("EOF")
    return fields


def _check(found: dict[str, Any]) -> None:
    """What fits together only when every field is known."""
    for key in ("Type", "Target"):
        if not found.get(key):
            raise _Wrong(f"{key.lower()} is required")
    for key, owner in _OWNERS:
        if key in found and found["Type"] != owner:
            raise _Wrong(f"cannot mix '{owner}-*' options with mount type '{found['Type']}'")
    bind = found.get("BindOptions", {})
    for key, word in (("ReadOnlyNonRecursive", "writable"), ("ReadOnlyForceRecursive", "readonly")):
        if bind.get(key) and not found.get("ReadOnly"):
            raise _Wrong(f"option 'bind-recursive={word}' requires 'readonly' to be specified in conjunction")
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") != "rprivate":
        raise _Wrong(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
        )


_Set = Callable[[dict[str, Any], str, str], None]  # (the mount, the key as it was given, the value)


def _plain(name: str) -> _Set:
    def put(found: dict[str, Any], _: str, value: str) -> None:
        found[name] = value

    return put


def _type(found: dict[str, Any], _: str, value: str) -> None:
    found["Type"] = value.lower()


def _source(found: dict[str, Any], _: str, value: str) -> None:
    found["Source"] = os.path.abspath(value) if value.startswith(".") else value


def _read_only(found: dict[str, Any], key: str, value: str) -> None:
    found["ReadOnly"] = _truth(key, value)


def _options(found: dict[str, Any], group: str) -> dict[str, Any]:
    """Those of one type of mount; Docker's command sends a driver with every volume's."""
    options: dict[str, Any] = found.setdefault(group, {"DriverConfig": {}} if group == "VolumeOptions" else {})
    return options


def _flag(group: str, name: str) -> _Set:
    def put(found: dict[str, Any], key: str, value: str) -> None:
        _options(found, group)[name] = _truth(key, value)

    return put


def _word(group: str, name: str) -> _Set:
    def put(found: dict[str, Any], _: str, value: str) -> None:
        _options(found, group)[name] = value

    return put


def _propagation(found: dict[str, Any], _: str, value: str) -> None:
    _options(found, "BindOptions")["Propagation"] = value.lower()


def _recursive(found: dict[str, Any], key: str, value: str) -> None:
    if value not in _RECURSIVE:
        raise _Wrong(f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")')
    if _RECURSIVE[value]:
        _options(found, "BindOptions").update(_RECURSIVE[value])


def _id_map(found: dict[str, Any], _: str, value: str) -> None:
    """kist's own. `keep` names who calls: to the daemon that is somebody else."""
    if value == "keep":
        value = f"keep={os.getuid()}:{os.getgid()}"
    _options(found, "BindOptions")["Kist"] = {"IDMap": value}


def _consistency(found: dict[str, Any], _: str, value: str) -> None:
    found["Consistency"] = value.lower()


def _label(found: dict[str, Any], _: str, value: str) -> None:
    _pair(_options(found, "VolumeOptions").setdefault("Labels", {}), value)


def _driver(found: dict[str, Any], _: str, value: str) -> None:
    _options(found, "VolumeOptions")["DriverConfig"]["Name"] = value


def _driver_option(found: dict[str, Any], _: str, value: str) -> None:
    _pair(_options(found, "VolumeOptions")["DriverConfig"].setdefault("Options", {}), value)


def _pair(target: dict[str, str], text: str) -> None:
    key, _, value = text.partition("=")
    if key:
        target[key] = value


def _size(found: dict[str, Any], key: str, value: str) -> None:
    try:
        _options(found, "TmpfsOptions")["SizeBytes"] = parse_size(value)
    except ValueError:
        raise _Wrong(f"invalid value for {key}: {value}") from None


def _mode(found: dict[str, Any], key: str, value: str) -> None:
    if not value or set(value) - set("01234567"):
        raise _Wrong(f"invalid value for {key}: {value}")
    _options(found, "TmpfsOptions")["Mode"] = int(value, 8)


def _truth(key: str, value: str) -> bool:
    if value not in _TRUE | _FALSE:
        raise _Wrong(f"invalid value for {key}: {value}")
    return value in _TRUE


_KEYS: dict[str, _Set] = {
    "type": _type,
    "source": _source,
    "src": _source,
    "target": _plain("Target"),
    "dst": _plain("Target"),
    "destination": _plain("Target"),
    "readonly": _read_only,
    "ro": _read_only,
    "consistency": _consistency,
    "bind-propagation": _propagation,
    "bind-nonrecursive": _flag("BindOptions", "NonRecursive"),
    "bind-recursive": _recursive,
    "bind-create-src": _flag("BindOptions", "CreateMountpoint"),
    "idmap": _id_map,
    "volume-subpath": _word("VolumeOptions", "Subpath"),
    "volume-nocopy": _flag("VolumeOptions", "NoCopy"),
    "volume-label": _label,
    "volume-driver": _driver,
    "volume-opt": _driver_option,
    "image-subpath": _word("ImageOptions", "Subpath"),
    "tmpfs-size": _size,
    "tmpfs-mode": _mode,
}
