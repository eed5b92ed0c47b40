"""Values of log options: what Go's strconv, time and net/url make of them, with their words for what is wrong."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from kist.model.number import is_number

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SIZE = re.compile(r"(\d*\.?\d+|\d+\.) ?([A-Za-z]*)")
_PREFIXES = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def boolean(text: str) -> bool:
    """strconv.ParseBool."""
    if text not in _TRUE + _FALSE:
        raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _TRUE


def integer(text: str, function: str = "Atoi") -> int:
    """A decimal number with or without a sign, as strconv reads it."""
    digits = text[1:] if text[:1] in "+-" else text
    if not is_number(digits):
        raise ValueError(f'strconv.{function}: parsing "{text}": invalid syntax')
    return int(text)


def duration(text: str) -> float:
    """Seconds of a text like `1m30s` (time.ParseDuration)."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    parts = _PART.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        kind = "missing unit in duration" if re.fullmatch(r"[\d.]*\d[\d.]*", rest) else "invalid duration"
        raise ValueError(f'time: {kind} "{text}"')
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)


def size(text: str, base: int) -> int:
    """Bytes of `10m`, `1.5 GiB`; `base` is 1000 (units.FromHumanSize) or 1024 (units.RAMInBytes)."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid size: '{text}'")
    number, suffix = float(match[1]), match[2].lower()
    prefix = suffix.removesuffix("b").removesuffix("i") if suffix not in ("ib", "i") else suffix
    if suffix in ("", "b"):
        return _bytes(text, number)
    if prefix not in _PREFIXES or suffix.endswith("i"):
        raise ValueError(f"invalid suffix: '{suffix}'")
    return _bytes(text, number * base ** _PREFIXES[prefix])


def _bytes(text: str, number: float) -> int:
    if number >= 1 << 63:
        raise ValueError(f"invalid size: '{text}'")
    return int(number)


def url(text: str) -> SplitResult:
    """net/url.Parse, as far as addresses of servers need it."""
    try:
        found = urlsplit(text)
        found.port  # noqa: B018  read for what it raises
    except ValueError as error:
        raise ValueError(_go_reason(text, str(error))) from error
    if ":" in text and not found.scheme:
        raise ValueError(f'parse "{text}": {_no_scheme(text)}')
    return found


def _no_scheme(text: str) -> str:
    if text.startswith(":"):
        return "missing protocol scheme"
    return "first path segment in URL cannot contain colon"


def _go_reason(text: str, reason: str) -> str:
    match = re.search(r":([^:/\]]*)$", text)
    if match is None or "ort" not in reason:
        return f'parse "{text}": {reason}'
    port = match[1]
    if port.isascii() and port.isdecimal():
        return f'invalid port: strconv.ParseUint: parsing "{port}": value out of range'
    return f'parse "{text}": invalid port ":{port}" after host'
