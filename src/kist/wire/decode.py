"""Requests as Go reads them: keys without regard to case, null as absent, unknown fields ignored, a string or a list
where Docker takes both. What does not fit is told in Go's words.
"""

from __future__ import annotations

import functools
import json
import types
import typing
from typing import Any, TypeVar

import msgspec

from kist.model.errors import InvalidParameter

T = TypeVar("T")
# Fields that take a single string for a list of one (Go's strslice and what else clients rely on).
_STRING_OR_LIST = frozenset({"Cmd", "Entrypoint", "Shell"})


def decode(data: bytes, type_: type[T]) -> T:
    """A JSON object as a typed value. Raises InvalidParameter."""
    return convert(parse(data), type_)


def parse(data: bytes) -> Any:
    """Raises InvalidParameter for what is no JSON value."""
    try:
        return json.loads(data)
    except ValueError as error:
        if str(error).startswith("Extra data"):
            raise InvalidParameter("unexpected content after JSON") from error
        text = data.strip()
        if not text:
            raise InvalidParameter("invalid JSON: got EOF while reading request body") from error
        reason = "unexpected EOF" if text[:1] in b"{[" and _is_cut(text) else str(error)
        raise InvalidParameter(f"invalid JSON: {reason}") from error


def _is_cut(text: bytes) -> bool:
    try:
        json.JSONDecoder().raw_decode(text.decode("utf-8", "replace"))
    except json.JSONDecodeError as error:
        return error.pos >= len(text.decode("utf-8", "replace")) - 1
    return False


def convert(value: Any, type_: type[T]) -> T:
    """A parsed value as a typed one, names matched without case. Raises InvalidParameter."""
    try:
        return msgspec.convert(_normal(value, type_), type_)
    except msgspec.ValidationError as error:
        raise InvalidParameter(_in_go_words(str(error))) from error


def _in_go_words(text: str) -> str:
    """`Expected `str`, got `int` - at `$.Config.Hostname`` as json.Unmarshal would say it."""
    kinds = {"str": "string", "int": "number", "float": "number", "bool": "bool", "object": "object", "array": "array"}
    wanted, _, where = text.partition(" - at ")
    field = where.strip("`").removeprefix("$").lstrip(".")
    if wanted.startswith("Expected "):
        words = wanted.removeprefix("Expected ").replace("`", "").split(", got ")
        if len(words) == 2:
            expected = words[0].replace(" | null", "")
            return (
                f"invalid JSON: json: cannot unmarshal {kinds.get(words[1], words[1])} into Go struct field {field} "
                f"of type {kinds.get(expected, expected)}"
            )
    return f"invalid JSON: {text}"


@functools.cache
def _fields(type_: type[msgspec.Struct]) -> dict[str, tuple[str, Any]]:
    """Lower-case name on the wire -> (name, type)."""
    hints = typing.get_type_hints(type_)
    return {
        field.encode_name.lower(): (field.encode_name, hints[field.name]) for field in msgspec.structs.fields(type_)
    }


def _normal(value: Any, type_: Any) -> Any:
    """The value with names as declared and without nulls."""
    base = _without_none(type_)
    origin = typing.get_origin(base)
    if isinstance(value, dict):
        if isinstance(base, type) and issubclass(base, msgspec.Struct):
            return _normal_struct(value, base)
        if origin is dict:
            inner = typing.get_args(base)[1]
            keep_null = inner is object or type(None) in typing.get_args(inner)
            return {key: _normal(item, inner) for key, item in value.items() if item is not None or keep_null} | {
                key: {}
                for key, item in value.items()
                if item is None and not keep_null and typing.get_origin(inner) is dict
            }
        return value
    if isinstance(value, list) and origin in (list, tuple) and typing.get_args(base):
        return [_normal(item, typing.get_args(base)[0]) for item in value]
    return value


def _normal_struct(value: dict[str, Any], type_: type[msgspec.Struct]) -> dict[str, Any]:
    fields = _fields(type_)
    found: dict[str, Any] = {}
    for key, item in value.items():
        known = fields.get(key.lower())
        if known is None or item is None:
            continue
        name, inner = known
        if name in _STRING_OR_LIST and isinstance(item, str):
            item = [item]
        found[name] = _normal(item, inner)
    return found


def _without_none(type_: Any) -> Any:
    if isinstance(type_, types.UnionType) or typing.get_origin(type_) is typing.Union:
        inner = [one for one in typing.get_args(type_) if one is not type(None)]
        return inner[0] if len(inner) == 1 else type_
    return type_
