"""The functions of templates: Go's own (text/template) and Docker's (`docker ps --format`)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote_plus

from kist.model.goformat import MISSING, Map, Named, NilList, Number, Struct, kind_of, sprint, sprintf, text


class FunctionError(Exception):
    """What a function says is wrong with its arguments."""


class Function(NamedTuple):
    """`takes` is a letter per parameter: s a string, i an integer, l a list of strings, a anything.

    `rest`: the last may come any number of times, and be left out.
    """

    act: Callable[..., Any]
    takes: str
    rest: bool = False


def truth(value: Any) -> bool:
    """Go's: not zero, not empty; a struct is always true."""
    return isinstance(value, Struct) or bool(value)


def to_json(value: Any) -> str:
    """As Go's encoder writes it, without escapes for HTML but in what a row of a listing writes itself."""
    if isinstance(value, Struct) and value.marshals:
        found = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return found.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if value is MISSING or isinstance(value, NilList) or (isinstance(value, Map) and value.nil):
        return None
    if isinstance(value, Struct | Named) and value.as_json is not None:
        return value.as_json
    if isinstance(value, Number):
        return json.loads(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None or value is MISSING:
            raise FunctionError("index of untyped nil")
        if isinstance(value, Struct | bool | int | float):
            raise FunctionError(f"can't index item of type {kind_of(value).removeprefix('*')}")
        if isinstance(value, dict):
            wanted, empty = (value.key, value.empty) if isinstance(value, Map) else ("string", MISSING)
            if kind_of(key) != wanted:
                raise FunctionError(f"value has type {kind_of(key)}; should be {wanted}")
            value = value.get(key, empty)
            continue
        at = _position(key, len(value))
        if at == len(value):
            raise FunctionError(f"reflect: {'string' if isinstance(value, str) else 'slice'} index out of range")
        value = os.fsencode(value)[at] if isinstance(value, str) else value[at]
    return value


def _position(key: Any, limit: int) -> int:
    if key is None:
        raise FunctionError("cannot index slice/array with nil")
    if isinstance(key, bool) or not isinstance(key, int):
        raise FunctionError(f"cannot index slice/array with type {kind_of(key)}")
    if not 0 <= key <= limit:
        raise FunctionError(f"index out of range: {key}")
    return key


def _slice(value: Any, *bounds: Any) -> Any:
    if isinstance(value, dict | bool | int | float) or value is None or value is MISSING:
        if value is None or value is MISSING:
            raise FunctionError("slice of untyped nil")
        raise FunctionError(f"can't slice item of type {kind_of(value)}")
    if len(bounds) > 3:
        raise FunctionError(f"too many slice indexes: {len(bounds)}")
    if len(bounds) == 3 and isinstance(value, str):
        raise FunctionError("cannot 3-index slice a string")
    found = [_position(one, len(value)) for one in bounds]
    low, high = (*found, len(value))[:2] if found else (0, len(value))
    if low > high:
        raise FunctionError(f"invalid slice index: {low} > {high}")
    return value[low:high]


def _length(value: Any) -> int:
    if value is None or value is MISSING:
        raise FunctionError("len of nil pointer")
    if isinstance(value, Struct | bool | int | float):
        raise FunctionError(f"len of type {kind_of(value)}")
    return len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else len(value)


def _basic(value: Any) -> str:
    if value is None or value is MISSING:
        return "nil"
    if isinstance(value, bool):
        return "bool"
    return {int: "int", float: "float"}.get(type(value), "string" if isinstance(value, str) else "other")


def _equal(first: Any, *others: Any) -> bool:
    kind = _basic(first)
    if kind == "other":
        raise FunctionError(f"non-comparable type {text(first)}: {kind_of(first)}")
    if not others:
        raise FunctionError("missing argument for comparison")
    for other in others:
        if _basic(other) != kind and "nil" not in (kind, _basic(other)):
            raise FunctionError("incompatible types for comparison")
        if _basic(other) == kind and (kind == "nil" or first == other):
            return True
    return False


def _less(first: Any, second: Any) -> bool:
    kind = _basic(first)
    if kind in ("nil", "other", "bool") or _basic(second) in ("nil", "other", "bool"):
        raise FunctionError("invalid type for comparison")
    if kind != _basic(second):
        raise FunctionError("incompatible types for comparison")
    return bool(first < second)


def _call(value: Any, *_: Any) -> Any:
    raise FunctionError(f"non-function of type {kind_of(value)}")


def _title(value: str) -> str:
    """A capital after everything that is no letter, digit, underscore or apostrophe (strings.Title)."""
    out, before = [], " "
    for one in value:
        out.append(one if before.isalnum() or before in "_'" else one.title())
        before = one
    return "".join(out)


def _truncate(value: str, length: int) -> str:
    """So many bytes; half a character stays half, as in Go."""
    data = value.encode("utf-8", "surrogateescape")
    return data[:length].decode("utf-8", "surrogateescape") if 0 <= length < len(data) else value


def _escaper(pairs: dict[str, str]) -> Callable[..., str]:
    table = str.maketrans(pairs)
    return lambda *values: (values[0] if len(values) == 1 and isinstance(values[0], str) else sprint(values)).translate(
        table
    )


def _query(*values: Any) -> str:
    return quote_plus(sprint(values), errors="surrogatepass")


_HTML = {"<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&#34;", "'": "&#39;", "\0": "\ufffd"}
_JS = {**{chr(code): f"\\u{code:04X}" for code in (*range(32), 127, *b"<>&=")}, "\\": "\\\\", "'": "\\'", '"': '\\"'}

FUNCTIONS: dict[str, Function] = {
    "json": Function(to_json, "a"),
    "split": Function(lambda value, separator: value.split(separator) if separator else list(value), "ss"),
    "join": Function(lambda values, separator: separator.join(values or ()), "ls"),
    "title": Function(_title, "s"),
    "lower": Function(str.lower, "s"),
    "upper": Function(str.upper, "s"),
    "pad": Function(lambda value, before, after: " " * before + value + " " * after if value else value, "sii"),
    "truncate": Function(_truncate, "si"),
    "println": Function(lambda *values: " ".join(map(text, values)) + "\n", "a", rest=True),
    "print": Function(lambda *values: sprint(values), "a", rest=True),
    "printf": Function(lambda pattern, *values: sprintf(pattern, values), "sa", rest=True),
    "index": Function(_index, "aa", rest=True),
    "slice": Function(_slice, "aa", rest=True),
    "len": Function(_length, "a"),
    "html": Function(_escaper(_HTML), "a", rest=True),
    "js": Function(_escaper(_JS), "a", rest=True),
    "urlquery": Function(_query, "a", rest=True),
    "call": Function(_call, "aa", rest=True),
    "not": Function(lambda value: not truth(value), "a"),
    "and": Function(lambda *values: values[-1], "aa", rest=True),  # and, or: evaluated one by one in template.py
    "or": Function(lambda *values: values[-1], "aa", rest=True),
    "eq": Function(_equal, "aa", rest=True),
    "ne": Function(lambda left, right: not _equal(left, right), "aa"),
    "lt": Function(_less, "aa"),
    "le": Function(lambda left, right: _less(left, right) or _equal(left, right), "aa"),
    "gt": Function(lambda left, right: not (_less(left, right) or _equal(left, right)), "aa"),
    "ge": Function(lambda left, right: not _less(left, right), "aa"),
}

# A table's titles go through these unchanged.
OVER_TITLES = ("json", "split", "join", "title", "lower", "upper", "truncate", "pad")
