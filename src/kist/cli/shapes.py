"""What `--format` sees: the daemon's JSON as the Go structs that Docker's command reads it into.

A struct prints without its names, has every field even where JSON leaves it out, and knows a nil list from a nil
pointer. Strings of a type of their own have methods.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from kist.cli.gotypes import STRUCTS, fields
from kist.model.goformat import MISSING, Map, Named, NilList, Number, Struct

_KINDS = {"container": "container.InspectResponse", "image": "image.InspectResponse", "volume": "volume.Volume",
          "network": "network.Inspect"}  # fmt: skip
_ZERO: dict[str, Any] = {"string": "", "int": 0, "bool": False, "any": None}
_WITHOUT_EMPTY = ("v1.DockerOCIImageConfig", "v1.ImageConfig", "v1.DockerOCIImageConfigExt")
_NO_TIME = "0001-01-01T00:00:00Z"


class _Object(Struct):
    """A struct of Docker's API."""


class _Text(Named):
    """A string of one of Docker's types, `container.NetworkMode` and so on."""

    def __new__(cls, value: str, kind: str) -> _Text:
        made = super().__new__(cls, value)
        made.kind = kind
        made.calls = _CALLS.get(kind, {})
        return made


class _Time(Named):
    """A time.Time: printed as Go does, and in JSON as it was."""

    kind = "time.Time"

    def __new__(cls, value: str) -> _Time:
        date, _, rest = value.partition("T")
        found = re.fullmatch(r"([\d:]+)(\.\d+)?(Z|[+-]\d\d:\d\d)", rest)
        zone = "" if found is None else found[3].replace(":", "")
        zone = "+0000 UTC" if zone == "Z" else f"{zone} {zone}"
        fraction = "" if found is None else (found[2] or "").rstrip("0.")
        made = super().__new__(cls, value if found is None else f"{date} {found[1]}{fraction} {zone}")
        made.as_json = value
        made.calls = _TIME_CALLS
        return made


def _nanoseconds(one: Named) -> int:
    moment = datetime.fromisoformat(one.as_json)
    whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    fraction = re.search(r"\.(\d+)", one.as_json)
    return whole * 10**9 + (int(fraction[1].ljust(9, "0")) if fraction else 0)


_TIME_CALLS: dict[str, Callable[[Any], Any]] = {
    "String": str,
    "IsZero": lambda one: one.as_json == _NO_TIME,
    "Year": lambda one: int(one[:4]),
    "Unix": lambda one: _nanoseconds(one) // 10**9,
    "UnixMilli": lambda one: _nanoseconds(one) // 10**6,
    "UnixNano": _nanoseconds,
}


class _Duration(int):
    """A time.Duration: nanoseconds."""

    def __str__(self) -> str:
        if not self:
            return "0s"
        sign, whole = "-" if self < 0 else "", abs(int(self))
        for unit, name in ((10**3, "ns"), (10**6, "µs"), (10**9, "ms")):
            if whole < unit:
                return f"{sign}{_decimal(whole, unit // 1000)}{name}"
        minutes, rest = divmod(whole, 60 * 10**9)
        hours, minutes = divmod(minutes, 60)
        before = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
        return f"{sign}{before}{_decimal(rest, 10**9)}s"


class _FileMode(int):
    """An os.FileMode without a type: the bits of its permissions."""

    def __str__(self) -> str:
        return "-" + "".join(one if self >> (8 - at) & 1 else "-" for at, one in enumerate("rwxrwxrwx"))


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else str(whole)


def _after_container(value: str) -> str:
    return value.removeprefix("container:") if value.startswith("container:") else ""


def _is_user_defined(mode: str) -> bool:
    return mode not in ("default", "bridge", "host", "none") and not mode.startswith("container:")


def _network_name(mode: str) -> str:
    if mode.startswith("container:"):
        return "container"
    return mode if mode in ("bridge", "host", "none", "default") or _is_user_defined(mode) else ""


def _is(*wanted: str) -> Callable[[str], bool]:
    return lambda value: value in wanted


# Methods without arguments: type -> name -> what it does (moby, api/types/container/hostconfig.go).
_CALLS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "container.NetworkMode": {
        "IsDefault": _is("default"), "IsBridge": _is("bridge"), "IsHost": _is("host"), "IsNone": _is("none"),
        "IsContainer": lambda mode: mode.startswith("container:"), "ConnectedContainer": _after_container,
        "IsPrivate": lambda mode: mode != "host" and not mode.startswith("container:"),
        "IsUserDefined": _is_user_defined, "NetworkName": _network_name,
        "UserDefined": lambda mode: str(mode) if _is_user_defined(mode) else "",
    },
    "container.IpcMode": {
        "IsPrivate": _is("private"), "IsHost": _is("host"), "IsShareable": _is("shareable"), "IsNone": _is("none"),
        "IsContainer": lambda mode: mode.startswith("container:"), "IsEmpty": _is(""), "Container": _after_container,
    },
    "container.PidMode": {
        "IsHost": _is("host"), "IsContainer": lambda mode: bool(_after_container(mode)), "Container": _after_container,
        "IsPrivate": lambda mode: mode != "host" and not _after_container(mode),
    },
    "container.UTSMode": {"IsHost": _is("host"), "IsPrivate": lambda mode: mode != "host"},
    "container.UsernsMode": {"IsHost": _is("host"), "IsPrivate": lambda mode: mode != "host"},
    "container.CgroupnsMode": {"IsPrivate": _is("private"), "IsHost": _is("host"), "IsEmpty": _is("")},
    "container.RestartPolicy": {
        "IsAlways": lambda policy: policy["Name"] == "always", "IsNone": lambda policy: policy["Name"] in ("no", ""),
        "IsOnFailure": lambda policy: policy["Name"] == "on-failure",
        "IsUnlessStopped": lambda policy: policy["Name"] == "unless-stopped",
    },
    "nat.Port": {
        "Port": lambda port: port.partition("/")[0], "Proto": lambda port: port.partition("/")[2] or "tcp",
        "Int": lambda port: int(port.partition("/")[0] or 0),
    },
}  # fmt: skip
_SHOWN: dict[str, Callable[[Any], str]] = {
    "units.Ulimit": lambda one: f"{one['Name']}={one['Soft']}:{one['Hard']}",
    "blkiodev.WeightDevice": lambda one: f"{one['Path']}:{one['Weight']}",
    "blkiodev.ThrottleDevice": lambda one: f"{one['Path']}:{one['Rate']}",
}


def kind_of(value: Any) -> str:
    """container, image, volume or network, by the fields that only one of them has."""
    for kind, key in (("container", "State"), ("image", "RootFS"), ("volume", "Mountpoint")):
        if key in value:
            return kind
    return "network"


def typed(value: Any) -> Struct:
    """A container, image, network or volume as its struct."""
    return struct(value, _KINDS[kind_of(value)])


def struct(value: dict[str, Any], name: str, *, pointer: bool = False) -> Struct:
    """A JSON object as one of Docker's structs (gotypes)."""
    made = _Object()
    made.kind = f"*{name}" if pointer else name
    made.as_json = _without_empty(value) if name in _WITHOUT_EMPTY else value
    made.calls, made.shown = _CALLS.get(name, {}), _SHOWN.get(name)
    made.pointers, made.promoted = {}, {}
    for field in fields(name):
        if not field.name:
            inner = struct(_own(value, field.type), field.type.removeprefix("*"), pointer=field.type.startswith("*"))
            made[field.type.rpartition(".")[2]] = inner
            made.pointers |= inner.pointers
            made.promoted |= {**inner.promoted, **inner}
            continue
        made[field.name] = _value(value.get(field.key), field.type)
        if field.type.startswith("*"):
            made.pointers[field.name] = field.type
    return made


def _own(value: dict[str, Any], embedded: str) -> dict[str, Any]:
    """What of an object belongs to a struct embedded in its own."""
    keys = [field.key for field in fields(embedded.removeprefix("*"))]
    return {key: value[key] for key in keys if key in value}


def _without_empty(value: dict[str, Any]) -> dict[str, Any]:
    """The configuration of an image, in Go's order and without what is empty."""
    keys = [field.key for name in _WITHOUT_EMPTY for field in fields(name) if field.key]
    return {key: value[key] for key in keys if value.get(key)}


def _value(value: Any, kind: str) -> Any:
    if kind.startswith("[]"):
        return NilList() if value is None else [_value(one, kind[2:]) for one in value]
    if kind.startswith("map["):
        return _map(value, *kind.removeprefix("map[").split("]", 1))
    if kind.startswith("*"):
        return None if value is None else _pointed(value, kind[1:])
    if kind in _ZERO:
        return _ZERO[kind] if value is None else value
    if kind == "struct{}":
        return _Object()
    if kind == "time.Time":
        return _Time(value or _NO_TIME)
    if kind == "time.Duration":
        return _Duration(value or 0)
    if kind == "os.FileMode":
        return _FileMode(value or 0)
    return struct(value or {}, kind) if kind in STRUCTS else _Text(value or "", kind)


def _pointed(value: Any, kind: str) -> Any:
    return struct(value, kind, pointer=True) if kind in STRUCTS else _value(value, kind)


def _map(value: Any, key: str, kind: str) -> Map:
    pairs = (value or {}).items()
    made = Map({(name if key == "string" else _Text(name, key)): _value(one, kind) for name, one in pairs})
    made.key, made.kind, made.nil = key, f"map[{key}]{kind}", value is None
    made.empty = MISSING if kind == "any" else _value(None, kind)
    return made


def raw(value: Any) -> Any:
    """The JSON itself, its numbers as text."""
    if isinstance(value, dict):
        return {key: raw(one) for key, one in value.items()}
    if isinstance(value, list):
        return [raw(one) for one in value]
    return Number(repr(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value
