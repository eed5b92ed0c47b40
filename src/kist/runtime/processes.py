"""Processes as ps shows them, read from /proc (proc(5)). No ps is run."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable

import msgspec

from kist.model.errors import InvalidParameter

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class _Process(msgspec.Struct, frozen=True):
    pid: int
    ppid: int
    uid: int
    tty: str
    state: str
    start: float  # seconds since the epoch
    cpu: float  # seconds
    elapsed: float
    vsz: int  # bytes
    rss: int  # bytes
    command: str
    name: str


def table(pids: list[int], arguments: str) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Titles and rows of what still runs. `arguments` are ps options; raises InvalidParameter for unknown ones."""
    columns = parse_arguments(arguments)
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    rows = []
    for pid in pids:
        process = _read(pid, boot)
        if process is not None:
            rows.append(tuple(_COLUMNS[column](process) for column in columns))
    return tuple(_TITLES.get(column, column) for column in columns), tuple(rows)


def parse_arguments(text: str) -> list[str]:
    """`-ef`, `aux`, `-o pid,comm`: the titles of the columns."""
    words = text.split()
    columns: list[str] = []
    while words:
        word = words.pop(0)
        bare = word.lstrip("-")
        flags, o, fields = bare.partition("o")
        if o and not flags.strip("eAaxw") and word.startswith(("-", "o")):
            fields = fields.lstrip("=") or (words.pop(0) if words else "")
            if not fields:
                raise InvalidParameter("ps: error: format specification must follow -o")
            columns += [_field(field.partition("=")[0]) for field in fields.split(",") if field]
        elif bare in ("ef", "fe", "f"):
            columns = columns or ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
        elif bare in ("aux", "axu", "u"):
            columns = columns or [
                "USER",
                "PID",
                "%CPU",
                "%MEM",
                "VSZ",
                "RSS",
                "TTY",
                "STAT",
                "START",
                "TIME",
                "COMMAND",
            ]
        elif bare not in ("e", "a", "x", "ax", "A", "w", "ww"):
            raise InvalidParameter(f"ps: unsupported option {word!r}: use -ef, aux or -o with columns")
    columns = columns or ["PID", "TTY", "TIME", "CMD"]
    if "PID" not in columns:
        raise InvalidParameter("Couldn't find PID field in ps output")
    return columns


def _field(name: str) -> str:
    titles = {"cmd": "CMD", "comm": "COMM", "args": "COMMAND", "etime": "ELAPSED", "uid": "UID", "user": "USER",
              "pcpu": "%CPU", "pmem": "%MEM", "stat": "STAT", "tty": "TT", "tname": "TTY"}  # fmt: skip
    title = titles.get(name, name.upper())
    if title not in _COLUMNS:
        raise InvalidParameter(f"ps: unknown column {name!r}")
    return title


def _read(pid: int, boot: float) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
        with open(f"/proc/{pid}/cmdline", "rb") as raw:
            command = raw.read().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None  # it has just ended
    name = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 2 :].split()
    start = boot + int(fields[19]) / _TICKS
    return _Process(
        pid=pid,
        ppid=int(fields[1]),
        uid=uid,
        tty=_tty(int(fields[4])),
        state=fields[0],
        start=start,
        cpu=(int(fields[11]) + int(fields[12])) / _TICKS,
        elapsed=max(0.001, time.time() - start),
        vsz=int(fields[20]),
        rss=int(fields[21]) * _PAGE,
        command=command or f"[{name}]",
        name=name,
    )


def _tty(device: int) -> str:
    major, minor = device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00
    return f"pts/{minor}" if 136 <= major <= 143 else "?" if device == 0 else f"tty{minor}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _clock(start: float) -> str:
    then = time.localtime(start)
    return time.strftime("%H:%M" if time.time() - start < 86400 else "%b%d", then)


def _duration(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _elapsed(seconds: float) -> str:
    whole = int(seconds)
    days, hours = whole // 86400, whole // 3600 % 24
    text = f"{whole // 60 % 60:02d}:{whole % 60:02d}"
    if days or hours:
        text = f"{hours:02d}:{text}"
    return f"{days}-{text}" if days else text


def _memory_total() -> int:
    return os.sysconf("SC_PHYS_PAGES") * _PAGE


_COLUMNS: dict[str, Callable[[_Process], str]] = {
    "UID": lambda one: _user(one.uid),
    "USER": lambda one: _user(one.uid),
    "PID": lambda one: str(one.pid),
    "PPID": lambda one: str(one.ppid),
    "C": lambda one: str(min(99, int(100 * one.cpu / one.elapsed))),
    "%CPU": lambda one: f"{100 * one.cpu / one.elapsed:.1f}",
    "%MEM": lambda one: f"{100 * one.rss / _memory_total():.1f}",
    "VSZ": lambda one: str(one.vsz // 1024),
    "RSS": lambda one: str(one.rss // 1024),
    "STIME": lambda one: _clock(one.start),
    "START": lambda one: _clock(one.start),
    "ELAPSED": lambda one: _elapsed(one.elapsed),
    "TTY": lambda one: one.tty,
    "TT": lambda one: one.tty,
    "STAT": lambda one: one.state,
    "S": lambda one: one.state,
    "TIME": lambda one: _duration(one.cpu),
    "CMD": lambda one: one.command,
    "COMMAND": lambda one: one.command,
    "COMM": lambda one: one.name,
}
_TITLES = {"COMM": "COMMAND"}  # ps calls both so, the name and the arguments
