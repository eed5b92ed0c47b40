"""Numbers in the text of requests."""

from __future__ import annotations

_MOST = 18  # digits: they fit 64 bits, and int() takes them


def is_number(text: str) -> bool:
    """Decimal digits that int() takes; to str.isdigit() `²` is one too, and there may be any number of them."""
    return text.isascii() and text.isdecimal() and len(text) <= _MOST
