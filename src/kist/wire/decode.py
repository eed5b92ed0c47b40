"""Requests as Go reads them: keys without regard to case, null as absent, unknown fields ignored, a string or a list
where Docker takes both, arrays of fixed length cut or filled up. What does not fit is told in Go's words.
"""

from __future__ import annotations

import functools
import json
import types
import typing
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec

from kist.model.config import Uint
from kist.model.errors import InvalidParameter
from kist.wire.syntax import explain

T = TypeVar("T")


class _Literal(msgspec.Struct, frozen=True):
    """A number that no field takes (a fraction, an exponent, too many digits), as it was written."""

    text: str

    def __str__(self) -> str:
        return self.text


# (struct, field) that take a single string for a list of one (Go's strslice).
_STRING_OR_LIST = frozenset(("ContainerConfig", name) for name in ("Cmd", "Entrypoint", "Shell"))
_KINDS = {str: "string", int: "number", _Literal: "number", bool: "bool", list: "array", dict: "object"}
_SCALARS = {str: "string", bool: "bool"}
_EMPTY_STRUCT = dict[str, object]  # Go's struct{}: an object of which nothing is read
# Types that Go has under another name or in another package than `container`.
_GO_NAMES = {
    "MountRequest": "mount.Mount",
    "BindOptions": "mount.BindOptions",
    "KistBindOptions": "mount.KistBindOptions",
    "VolumeOptions": "mount.VolumeOptions",
    "ImageOptions": "mount.ImageOptions",
    "TmpfsOptions": "mount.TmpfsOptions",
    "DriverConfig": "mount.Driver",
    "PortBinding": "nat.PortBinding",
    "Health": "container.HealthConfig",
    "EndpointSettings": "network.EndpointSettings",
    "EndpointIPAMConfig": "network.EndpointIPAMConfig",
    "Ulimit": "units.Ulimit",
    "WeightDevice": "blkiodev.WeightDevice",
    "ThrottleDevice": "blkiodev.ThrottleDevice",
}
_INT64 = range(-(1 << 63), 1 << 63)
_UINT64 = range(1 << 64)
# Go's whole numbers, by the names that annotations give (kist.model.config). A plain int is an int64.
_WHOLE = {
    "int": _INT64,
    "int64": _INT64,
    "time.Duration": _INT64,
    "uint": _UINT64,
    "uint16": range(1 << 16),
    "uint64": _UINT64,
    "fs.FileMode": range(1 << 32),
}
_LONGEST = len(str(_INT64.start))
_Path = tuple[str, ...]  # the Go struct's name, then the names of fields from the outermost value inwards


def decode(data: bytes, type_: type[T], name: str = "") -> T:
    """A JSON object as a typed value; `name` is its Go type (`volume.CreateOptions`). Raises InvalidParameter."""
    return convert(parse(data), type_, name)


def parse(data: bytes) -> Any:
    """Raises InvalidParameter for what is no JSON value. What is no UTF-8 becomes U+FFFD."""
    text = data.decode("utf-8", "replace")
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_Literal, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        if error.msg.startswith("Extra data"):
            raise InvalidParameter("unexpected content after JSON") from error
        if not text.strip():
            raise InvalidParameter("invalid JSON: got EOF while reading request body") from error
        raise InvalidParameter(f"invalid JSON: {explain(text, error)}") from error
    except RecursionError as error:
        raise InvalidParameter("invalid JSON: exceeded max depth") from error
    return _without_surrogates(value) if "\\ud" in text.lower() else value


def _whole(text: str) -> int | _Literal:
    return int(text) if len(text) <= _LONGEST else _Literal(text)


def _refuse_constant(name: str) -> NoReturn:
    where = "in numeric literal" if name[0] == "-" else "looking for beginning of value"
    raise InvalidParameter(f"invalid JSON: invalid character '{name.lstrip('-')[0]}' {where}")


def _without_surrogates(value: Any) -> Any:
    """Half a pair of UTF-16 stands for no character; it would fail wherever the string is written."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def convert(value: Any, type_: type[T], name: str = "") -> T:
    """A parsed value as a typed one, names matched without case. Raises InvalidParameter."""
    try:
        return msgspec.convert(_normal({} if value is None else value, type_, (name or _go_name(type_),)), type_)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"invalid JSON: {error}") from error


def names_any(value: Any, type_: type[msgspec.Struct]) -> bool:
    """Whether a parsed object says anything that the type knows."""
    return isinstance(value, dict) and any(
        item is not None and key.lower() in _fields(type_) for key, item in value.items()
    )


def _go_name(type_: Any) -> str:
    """`container.HostConfig`."""
    name = str(type_.__name__).lstrip("_")
    return _GO_NAMES.get(name, f"container.{name}")


@functools.cache
def _fields(type_: type[msgspec.Struct]) -> dict[str, tuple[str, Any]]:
    """Lower-case name on the wire -> (name, type)."""
    hints = typing.get_type_hints(type_, include_extras=True)
    return {
        field.encode_name.lower(): (field.encode_name, hints[field.name]) for field in msgspec.structs.fields(type_)
    }


def _normal(value: Any, type_: Any, path: _Path) -> Any:
    """The value with names as declared and without nulls. Raises InvalidParameter for what is of another type."""
    base = _without_none(type_)
    origin = typing.get_origin(base)
    if isinstance(base, type) and issubclass(base, msgspec.Struct):
        return _normal_struct(value, base, path) if isinstance(value, dict) else _refuse(value, base, path)
    if base == _EMPTY_STRUCT:
        return {} if isinstance(value, dict) else _refuse(value, base, path)
    if origin is dict:
        return _normal_map(value, base, path) if isinstance(value, dict) else _refuse(value, base, path)
    if origin in (list, tuple):
        return _normal_list(value, base, path) if isinstance(value, list) else _refuse(value, base, path)
    if base in _SCALARS and type(value) is not base:
        return _refuse(value, base, path)
    whole = _whole_type(base)
    if whole and (type(value) is not int or value not in _WHOLE[whole]):
        return _refuse(value, base, path)
    if isinstance(value, str):
        _check_text(value, path)
    return value


def _check_text(text: str, path: _Path) -> None:
    """The kernel takes no NUL anywhere; what holds one would fail late and half-done."""
    if "\0" in text:
        raise InvalidParameter(f"invalid value for {'.'.join(path[1:])}: it has a NUL character")


def _normal_map(value: dict[str, Any], base: Any, path: _Path) -> dict[str, Any]:
    inner = typing.get_args(base)[1]
    keep_null = type(None) in typing.get_args(inner)
    found = {}
    for key, item in value.items():
        _check_text(key, path)
        if item is not None:
            found[key] = _normal(item, inner, path)
        elif keep_null:
            found[key] = None
        elif typing.get_origin(inner) is dict:
            found[key] = {}
    return found


def _normal_list(value: list[Any], base: Any, path: _Path) -> list[Any]:
    inner, *more = typing.get_args(base)
    if more:  # Go's [2]uint
        length = 1 + len(more)
        value, inner = [*value, *[0] * length][:length], Uint
    return [_normal(item, inner, path) for item in value]


def _normal_struct(value: dict[str, Any], type_: type[msgspec.Struct], path: _Path) -> dict[str, Any]:
    fields = _fields(type_)
    struct = path[0] if len(path) == 1 else _go_name(type_)
    found: dict[str, Any] = {}
    for key, item in value.items():
        known = fields.get(key.lower())
        if known is None or item is None:
            continue
        name, inner = known
        where = (struct, *path[1:], name)
        if (type_.__name__, name) in _STRING_OR_LIST:
            item = item if _is_strings(item) else [_normal(item, str, where)]
        found[name] = _normal(item, inner, where)
    return found


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _refuse(value: Any, type_: Any, path: _Path) -> NoReturn:
    kind = _KINDS.get(type(value), "null")
    if kind == "number" and _whole_type(type_):
        kind = f"number {value}"
    if len(path) == 1:
        place = f"value of type {path[0]}"
    else:
        place = f"struct field {'.'.join(path).partition('.')[2]} of type {_go_type(type_)}"
    raise InvalidParameter(f"invalid JSON: json: cannot unmarshal {kind} into Go {place}")


def _go_type(type_: Any) -> str:
    """`list[DeviceMapping]` as `[]container.DeviceMapping`."""
    base = _without_none(type_)
    inner = typing.get_args(base)
    origin = typing.get_origin(base)
    if base == _EMPTY_STRUCT:
        return "struct {}"
    if origin is dict:
        return f"map[string]{_go_type(inner[1])}"
    if origin is list:
        return f"[]{_go_type(inner[0])}"
    if origin is tuple:
        return f"[{len(inner)}]uint"
    return _SCALARS.get(base) or _whole_type(base) or _go_name(base)


def _without_none(type_: Any) -> Any:
    if isinstance(type_, types.UnionType) or typing.get_origin(type_) is typing.Union:
        inner = [one for one in typing.get_args(type_) if one is not type(None)]
        return inner[0] if len(inner) == 1 else type_
    return type_


def _whole_type(type_: Any) -> str:
    """The name in Go of a whole number's type; "" for other types."""
    if typing.get_origin(type_) is Annotated:
        return str(type_.__metadata__[0].extra["go"])
    return "int64" if type_ is int else ""
