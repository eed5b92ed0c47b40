"""Signal names as Docker takes them: `SIGTERM`, `term`, `15`, `RTMIN+3` (signal(7))."""

from __future__ import annotations

import re
import signal

from kist.model.errors import InvalidParameter
from kist.model.number import is_number

_NAMES = {name[3:]: number.value for name, number in signal.Signals.__members__.items() if "RT" not in name}
_NAMES |= {"IOT": 6, "CLD": 17, "POLL": 29, "STKFLT": 16, "UNUSED": 31}
# The C library keeps the first two real-time signals for itself, so RTMIN is 34.
RTMIN, RTMAX = 34, 64


def parse_signal(text: str) -> int:
    """The number of a signal, 1 to 64. Raises InvalidParameter with Docker's text."""
    if re.fullmatch("[+-]?[0-9]{1,18}", text):
        number = int(text)
        if number == 0:
            raise InvalidParameter(f"invalid signal: {text}")
        if 1 <= number <= 31 or RTMIN <= number <= RTMAX:
            return number
        raise InvalidParameter(f"the linux daemon does not support signal {number}")
    name = text.upper().removeprefix("SIG")
    number = _NAMES.get(name, 0) or _realtime(name)
    if not number:
        raise InvalidParameter(f"invalid signal: {text}")
    return number


def check_signal(text: str) -> None:
    """As for a later stop, for which any number but 0 will do. Raises InvalidParameter with Docker's text."""
    if not re.fullmatch("[+-]?[0-9]{1,18}", text) or int(text) == 0:
        parse_signal(text)


def _realtime(name: str) -> int:
    """`RTMIN`, `RTMIN+n`, `RTMAX`, `RTMAX-n`; 0 when it is none of these."""
    for base, start, sign in (("RTMIN", RTMIN, "+"), ("RTMAX", RTMAX, "-")):
        if name == base:
            return start
        if name.startswith(base + sign) and is_number(name[len(base) + 1 :]):
            offset = int(name[len(base) + 1 :])
            number = start + offset if sign == "+" else start - offset
            return number if RTMIN <= number <= RTMAX else 0
    return 0
