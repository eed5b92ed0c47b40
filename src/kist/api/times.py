"""Times in queries and in words: `since=1690000000.5`, `Up 5 minutes`."""

from __future__ import annotations

import datetime
import re
import time

from kist.model.duration import human_duration
from kist.model.errors import InvalidParameter
from kist.model.timestamp import nanoseconds

_INTEGER = re.compile(r"^[+-]?[0-9]+$", re.ASCII)
_UNITS = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}  # nanoseconds
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_SPAN = re.compile(rf"^\+?(?:{_PART.pattern})+$")


def parse_timestamp(text: str) -> int:
    """Seconds with a fraction as nanoseconds; "" is 0. Raises InvalidParameter with Go's texts."""
    if not text:
        return 0
    seconds, dot, fraction = text.partition(".")
    whole = _int64(seconds)
    if dot:
        _int64(fraction)
    return whole * 1_000_000_000 + int((fraction or "0")[:9].ljust(9, "0"))


def _int64(text: str) -> int:
    if not _INTEGER.match(text):
        raise InvalidParameter(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 63:
        raise InvalidParameter(f'strconv.ParseInt: parsing "{text}": value out of range')
    return int(text)


def parse_limit(text: str) -> int:
    """A filter's `until`, as nanoseconds: a span back from now (`24h`, `1h30m`), a date and time, or seconds.

    Raises InvalidParameter with Docker's text.
    """
    if _SPAN.match(text) and text != "0":
        span = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        return int((time.time_ns() - span) // 1e9) * 1_000_000_000  # Docker counts it from whole seconds
    try:
        if _INTEGER.match(text.partition(".")[0]):
            return parse_timestamp(text)
        return int(datetime.datetime.fromisoformat(text).timestamp() * 1e9)
    except (ValueError, OverflowError, InvalidParameter) as error:
        raise InvalidParameter(f'failed to parse value as time or duration: "{text}"') from error


def parse_prune_limit(values: list[str]) -> int | None:
    """The one `until` of a prune, None where nothing is said. Raises InvalidParameter with Docker's texts."""
    if len(set(values)) > 1:
        raise InvalidParameter("more than one until filter specified")
    return parse_limit(values[0]) if values else None


def ago(stamp: str) -> str:
    return human_duration(time.time() - nanoseconds(stamp) / 1e9)
