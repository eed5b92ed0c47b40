"""Spans of time as Docker tells them."""

from __future__ import annotations


def human_duration(seconds: float) -> str:
    """Docker's words for a span of time (go-units' HumanDuration)."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    if whole < 120:
        return "About a minute"
    if whole < 3600:
        return f"{whole // 60} minutes"
    hours = round(whole / 3600)
    for limit, divisor, word in (
        (2, 1, ""),
        (48, 1, "hours"),
        (336, 24, "days"),
        (1440, 168, "weeks"),
        (17520, 720, "months"),
    ):
        if hours < limit:
            return f"{hours // divisor} {word}" if word else "About an hour"
    return f"{hours // 8760} years"
