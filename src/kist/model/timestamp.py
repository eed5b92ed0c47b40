"""Times as Docker writes them: RFC 3339 with up to nine digits of a second, in UTC (Go's time.RFC3339Nano)."""

from __future__ import annotations

import time


def rfc3339(nanoseconds: int | None = None) -> str:
    """Nanoseconds since the epoch (None: now) as RFC3339Nano: trailing zeros of the fraction are left out."""
    ns = time.time_ns() if nanoseconds is None else nanoseconds
    seconds, fraction = divmod(ns, 1_000_000_000)
    head = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    digits = f"{fraction:09d}".rstrip("0")
    return f"{head}.{digits}Z" if digits else f"{head}Z"


def nanoseconds(text: str) -> int:
    """The reverse of rfc3339, for the engine's own times; offsets are understood. Raises ValueError.

    Go's zero time gives a negative number, as it lies before the epoch.
    """
    head, fraction, offset = text[:19], "", text[19:]
    if offset.startswith("."):
        end = 1
        while end < len(offset) and offset[end].isdigit():
            end += 1
        fraction, offset = offset[1:end], offset[end:]
    seconds = _timegm(head) - _offset_seconds(offset)
    return seconds * 1_000_000_000 + int((fraction or "0")[:9].ljust(9, "0"))


def _offset_seconds(offset: str) -> int:
    if offset in ("Z", ""):
        return 0
    sign = {"+": 1, "-": -1}[offset[0]]
    return sign * (int(offset[1:3]) * 3600 + int(offset[4:6]) * 60)


def _timegm(head: str) -> int:
    year, month, day = int(head[0:4]), int(head[5:7]), int(head[8:10])
    hour, minute, second = int(head[11:13]), int(head[14:16]), int(head[17:19])
    # Days from civil (proleptic Gregorian calendar), years counted from March so that leap days come last.
    shifted = year - (month <= 2)
    era, year_of_era = divmod(shifted, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468
    return ((days * 24 + hour) * 60 + minute) * 60 + second
