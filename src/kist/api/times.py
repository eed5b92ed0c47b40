"""Times in queries and in words: `since=1690000000.5`, `Up 5 minutes`."""

from __future__ import annotations

import time

from kist.model.errors import InvalidParameter
from kist.model.timestamp import nanoseconds


def parse_timestamp(text: str) -> int:
    """Seconds with a fraction, or RFC 3339, as nanoseconds; "" is 0. Raises InvalidParameter."""
    if not text:
        return 0
    seconds, _, fraction = text.partition(".")
    if seconds.lstrip("-").isdigit() and (not fraction or fraction.isdigit()):
        return int(seconds) * 1_000_000_000 + int((fraction or "0")[:9].ljust(9, "0"))
    try:
        return nanoseconds(text)
    except (ValueError, KeyError, IndexError) as error:
        raise InvalidParameter(f'strconv.ParseInt: parsing "{seconds}": invalid syntax') from error


def human_duration(seconds: float) -> str:
    """Docker's words for a span of time (go-units' HumanDuration)."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = round(whole / 3600)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"


def ago(stamp: str) -> str:
    return human_duration(time.time() - nanoseconds(stamp) / 1e9)
