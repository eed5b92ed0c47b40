"""How Go prints values: `%v` of what JSON holds, and printf's verbs (package fmt)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_VERB = re.compile(r"%([-+# 0]*)(\d*|\*)(?:\.(\d*))?([a-zA-Z%])|%")


class Missing:
    """Go's zero reflect.Value: what a map has not."""

    def __bool__(self) -> bool:
        return False


MISSING = Missing()


class Struct(dict[str, Any]):
    """A Go struct: a field that it does not have is an error; `kind` is its type's name.

    `methods` take an argument, `calls` take none; `promoted` are the fields of the structs embedded in it.
    """

    kind = "struct"
    marshals = False  # it writes its own JSON: by name, with escapes for HTML
    as_json: Any = None  # what json makes of it, where that is not its fields
    shown: Callable[[Any], str] | None = None  # its String()
    methods: Mapping[str, Any] = {}  # name -> a function of (row, argument)
    calls: Mapping[str, Callable[[Any], Any]] = {}
    promoted: Mapping[str, Any] = {}
    pointers: Mapping[str, str] = {}  # field -> its type: what a nil one is called


class NilList(list[Any]):
    """A nil slice: it prints as an empty one, and is null in JSON."""


class Map(dict[str, Any]):
    """A map of a known type. `empty` is what `index` gives for what it has not; a nil one is null in JSON."""

    kind = "map[string]string"
    key = "string"  # the type of its keys
    empty: Any = ""
    nil = False


class Named(str):
    """A string of a type of its own: no string to functions. `calls` are its methods, which take no arguments."""

    kind = "string"
    as_json: Any = None
    calls: Mapping[str, Callable[[Any], Any]] = {}


class Number(Named):
    """A number of a JSON text of which Go knows no type (json.Number)."""

    kind = "json.Number"


def kind_of(value: Any) -> str:
    """The name of a value's type in Go."""
    if isinstance(value, Struct | Map | Named):
        return value.kind
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, list | tuple):
        return "[]string" if value and all(isinstance(one, str) for one in value) else "[]interface {}"
    return {int: "int", float: "float64", str: "string"}.get(type(value), "<nil>")


def text(value: Any) -> str:
    """`%v`."""
    if value is MISSING:
        return "<no value>"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Struct):
        return (
            value.shown(value)
            if value.shown is not None
            else "{" + " ".join(text(item) for item in value.values()) + "}"
        )
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{text(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(text(item) for item in value) + "]"
    return floating(value) if isinstance(value, float) else str(value)


def floating(value: float) -> str:
    """The shortest digits; an exponent from 1e21 on and below 1e-4."""
    shown = repr(value)
    if "e" in shown or "E" in shown:
        if 1e16 <= abs(value) < 1e21:
            return f"{value:.0f}"
        digits, _, exponent = shown.partition("e")
        return f"{digits.removesuffix('.0')}e{int(exponent):+03d}"
    return shown.removesuffix(".0")


def quoted(value: str) -> str:
    """`%q` of a string."""
    escapes = {'"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
               "\v": "\\v"}  # fmt: skip
    out = []
    for one in value:
        if one in escapes:
            out.append(escapes[one])
        elif one.isprintable():
            out.append(one)
        else:
            code = ord(one)
            out.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(out) + '"'


def sprint(values: tuple[Any, ...]) -> str:
    """fmt.Sprint: a space between operands when neither is a string."""
    out = ""
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            out += " "
        out += text(value)
    return out


def sprintf(pattern: str, values: tuple[Any, ...]) -> str:
    """fmt.Sprintf, with its complaints: `%!d(string=x)`, `%!d(MISSING)`, `%!(EXTRA int=1)`."""
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb is None:
            return "%!(NOVERB)"
        if verb == "%":
            return "%"
        if width == "*":
            width = str(rest.pop(0)) if rest else ""
            if width.startswith("-"):
                flags, width = flags + "-", width[1:]
        if not rest:
            return f"%!{verb}(MISSING)"
        shown = _verb(verb, rest.pop(0), flags, precision)
        return _padded(shown, flags, int(width or 0), verb)

    done = _VERB.sub(one, pattern)
    if rest:
        done += "%!(EXTRA " + ", ".join("<nil>" if one is None else f"{kind_of(one)}={text(one)}" for one in rest) + ")"
    return done


def _padded(shown: str, flags: str, width: int, verb: str) -> str:
    if "-" in flags:
        return shown.ljust(width)
    if "0" in flags and verb not in "sqvT":
        sign = shown[:1] if shown[:1] in ("-", "+") else ""
        return sign + shown[len(sign) :].rjust(width - len(sign), "0")
    return shown.rjust(width)


def _verb(verb: str, value: Any, flags: str, precision: str | None) -> str:
    digits = None if precision is None else int(precision or 0)
    plus = "+" if "+" in flags else " " if " " in flags else ""
    if verb == "T":
        return kind_of(value)
    if verb == "s" and isinstance(value, Struct) and value.shown is not None:
        return value.shown(value)
    if verb == "v":
        return quoted(value) if "#" in flags and isinstance(value, str) else text(value)
    if verb == "t" and isinstance(value, bool):
        return text(value)
    if isinstance(value, list | tuple):
        return "[" + " ".join(_verb(verb, one, flags, precision) for one in value) + "]"
    if isinstance(value, bool) or value is None or value is MISSING:
        pass
    elif isinstance(value, str):
        shown = _string(verb, value, flags, digits)
        if shown is not None:
            return shown
    elif isinstance(value, int):
        shown = _integer(verb, value, flags)
        if shown is not None:
            return (plus if value >= 0 else "") + shown if verb in "dboxX" else shown
    elif isinstance(value, float) and verb in "feEgGF":
        plain = verb in "gG" and digits is None
        shown = floating(value) if plain else f"{value:.{6 if digits is None else digits}{verb}}"
        return (plus if value >= 0 else "") + shown
    return f"%!{verb}({'<nil>' if value is None or value is MISSING else f'{kind_of(value)}={text(value)}'})"


def _string(verb: str, value: str, flags: str, digits: int | None) -> str | None:
    shown = value if digits is None else value[:digits]
    if verb == "s":
        return shown
    if verb == "q":
        return f"`{shown}`" if "#" in flags and "`" not in shown else quoted(shown)
    if verb in "xX":
        plain = shown.encode().hex(" ") if " " in flags else shown.encode().hex()
        return plain if verb == "x" else plain.upper()
    return None


def _integer(verb: str, value: int, flags: str) -> str | None:
    if verb in "dboxX":
        prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}.get(verb, "") if "#" in flags else ""
        return ("-" if value < 0 else "") + prefix + f"{abs(value):{verb}}"
    if verb == "c":
        return chr(value)
    if verb == "U":
        return f"U+{value:04X}"
    return "'" + chr(value) + "'" if verb == "q" else None
