"""What ps can show of a process: one column for each format specifier of ps(1)."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import time
from collections.abc import Callable
from typing import Final

import msgspec

TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_POLICIES: Final = {0: "TS", 1: "FF", 2: "RR", 3: "B", 4: "ISO", 5: "IDL", 6: "DLN"}  # sched(7)


class Process(msgspec.Struct, frozen=True):
    """A process, or one thread of it; then pid is the process and tid the thread."""

    pid: int
    tid: int
    name: str
    arguments: str  # empty of a zombie and of a thread of the kernel
    stat: tuple[str, ...]  # from the state on; see field()
    uids: tuple[int, ...]  # real, effective
    gids: tuple[int, ...]
    locked: bool  # it has pages locked into memory
    resident: int  # kilobytes; the number in stat lags behind
    waits: str  # the function of the kernel that it sleeps in
    start: float  # seconds since the epoch
    elapsed: float  # seconds
    branch: str = ""  # drawn before the command by a forest

    def field(self, number: int) -> int:
        """A number of proc_pid_stat(5), counted as there: 4 is the parent."""
        return int(self.stat[number - 3])

    @property
    def state(self) -> str:
        return self.stat[0]

    @property
    def ppid(self) -> int:
        return self.field(4)

    @property
    def session(self) -> int:
        return self.field(6)

    @property
    def tty(self) -> str:
        device = self.field(7)
        major, minor = device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00
        return f"pts/{minor}" if 136 <= major <= 143 else "?" if device == 0 else f"tty{minor}"

    @property
    def cpu(self) -> float:
        """Seconds."""
        return (self.field(14) + self.field(15)) / TICKS


class Column(msgspec.Struct, frozen=True):
    title: str
    cell: Callable[[Process], str]
    width: int = 0  # a longer cell is cut there when another column follows; 0: never
    order: Callable[[Process], float] | None = None  # what sorts it, where that is not the cell


@functools.lru_cache(maxsize=256)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@functools.lru_cache(maxsize=256)
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def command(one: Process) -> str:
    if one.arguments:
        return one.arguments
    return f"[{one.name}] <defunct>" if one.state == "Z" else f"[{one.name}]"


def _status(one: Process) -> str:
    """The state and its signs, of "PROCESS STATE CODES" in ps(1)."""
    nice = one.field(19)
    signs = ("<" if nice < 0 else "N" if nice > 0 else "", "L" if one.locked else "")
    more = ("s" if one.session == one.pid else "", "l" if one.field(20) > 1 else "")
    return "".join((one.state, *signs, *more, "+" if one.field(8) == one.field(5) else ""))


def _share(one: Process, whole: int) -> int:
    return int(whole * one.cpu / one.elapsed)


def _tenths(permille: int) -> str:
    return str(permille // 10) if permille > 999 else f"{permille // 10}.{permille % 10}"


def _memory(one: Process) -> str:
    return _tenths(min(999, 1000 * 1024 * one.resident // (os.sysconf("SC_PHYS_PAGES") * PAGE)))


def _day_or_clock(start: float) -> str:
    then, now = time.localtime(start), time.localtime()
    if then.tm_year != now.tm_year:
        return time.strftime("%Y", then)
    return time.strftime("%H:%M" if then.tm_yday == now.tm_yday else "%b%d", then)


def _within_a_day(start: float, form: str) -> str:
    return time.strftime(form if time.time() - start < 86400 else "%b %d", time.localtime(start))


def duration(seconds: float) -> str:
    whole = int(seconds)
    days = f"{whole // 86400}-" if whole >= 86400 else ""
    return f"{days}{whole // 3600 % 24:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _elapsed(seconds: float) -> str:
    text = duration(seconds)
    return text.removeprefix("00:") if seconds < 86400 else text


def _number(title: str, field: int) -> Column:
    return Column(title, lambda one: str(one.field(field)))


_PID = Column("PID", lambda one: str(one.pid))
_THREAD = Column("LWP", lambda one: str(one.tid))
_USER = Column("USER", lambda one: _user(one.uids[1]), 8)
_EUID = Column("UID", lambda one: str(one.uids[1]))
_GROUP = Column("GROUP", lambda one: _group(one.gids[1]), 8)
_FLAGS = Column("F", lambda one: f"{one.field(9) >> 6 & 7:o}")
_STATE = Column("S", lambda one: one.state)
_STAT = Column("STAT", _status)
_CPU = Column("%CPU", lambda one: _tenths(_share(one, 1000)), order=lambda one: one.cpu / one.elapsed)
_C = Column("C", lambda one: str(min(99, _share(one, 100))))
_MEM = Column("%MEM", _memory, order=lambda one: one.resident)
_VSZ = Column("VSZ", lambda one: str(one.field(23) // 1024))
_RSS = Column("RSS", lambda one: str(one.resident))
_TIME = Column("TIME", lambda one: duration(one.cpu), order=lambda one: one.cpu)
_SECONDS = Column("TIME", lambda one: str(int(one.cpu)))
_START = Column("START", lambda one: _day_or_clock(one.start), order=lambda one: one.start)
_CLASS = Column("CLS", lambda one: _POLICIES.get(one.field(41), "?"))
_RTPRIO = Column("RTPRIO", lambda one: str(one.field(40)) if one.field(41) in (1, 2) else "-")
_WAITS = Column("WCHAN", lambda one: one.waits, 6)
_ARGS = Column("COMMAND", lambda one: one.branch + command(one), 27)
_COMM = Column("COMMAND", lambda one: one.branch + one.name, 15)
_TTY = Column("TTY", lambda one: one.tty, 8)
_NI = Column("NI", lambda one: str(one.field(19)) if one.field(41) in (0, 3) else "-")  # the others have none
_PGID, _SID, _NLWP = _number("PGID", 5), _number("SID", 6), _number("NLWP", 20)


def _titled(title: str, column: Column) -> Column:
    return msgspec.structs.replace(column, title=title)


COLUMNS: Final[dict[str, Column]] = {
    "%cpu": _CPU,
    "%mem": _MEM,
    "addr": Column("ADDR", lambda _: "-"),
    "args": _ARGS,
    "bsdstart": Column("START", lambda one: _within_a_day(one.start, "%H:%M"), order=lambda one: one.start),
    "bsdtime": Column("TIME", lambda one: _minutes(one.cpu), order=lambda one: one.cpu),
    "c": _C,
    "class": _CLASS,
    "cls": _CLASS,
    "cmd": _titled("CMD", _ARGS),
    "comm": _COMM,
    "command": _ARGS,
    "cp": Column("CP", lambda one: str(_share(one, 1000))),
    "cputime": _TIME,
    "cputimes": _SECONDS,
    "egid": Column("EGID", lambda one: str(one.gids[1])),
    "egroup": _titled("EGROUP", _GROUP),
    "etime": Column("ELAPSED", lambda one: _elapsed(one.elapsed), order=lambda one: one.elapsed),
    "etimes": Column("ELAPSED", lambda one: str(int(one.elapsed))),
    "euid": _titled("EUID", _EUID),
    "euser": _titled("EUSER", _USER),
    "f": _FLAGS,
    "flag": _FLAGS,
    "flags": _FLAGS,
    "fname": Column("COMMAND", lambda one: one.name[:8]),
    "gid": Column("GID", lambda one: str(one.gids[1])),
    "group": _GROUP,
    "lstart": Column("STARTED", lambda one: time.ctime(one.start), order=lambda one: one.start),
    "lwp": _THREAD,
    "maj_flt": _number("MAJFLT", 12),
    "majflt": _number("MAJFLT", 12),
    "min_flt": _number("MINFLT", 10),
    "minflt": _number("MINFLT", 10),
    "ni": _NI,
    "nice": _NI,
    "nlwp": _NLWP,
    "opri": Column("PRI", lambda one: str(one.field(18) + 60)),
    "pcpu": _CPU,
    "pgid": _PGID,
    "pgrp": _titled("PGRP", _PGID),
    "pid": _PID,
    "pmem": _MEM,
    "policy": _titled("POL", _CLASS),
    "ppid": Column("PPID", lambda one: str(one.ppid)),
    "pri": Column("PRI", lambda one: str(39 - one.field(18))),
    "priority": _number("PRI", 18),
    "psr": _number("PSR", 39),
    "rgid": Column("RGID", lambda one: str(one.gids[0])),
    "rgroup": Column("RGROUP", lambda one: _group(one.gids[0]), 8),
    "rss": _RSS,
    "rssize": _RSS,
    "rsz": _titled("RSZ", _RSS),
    "rtprio": _RTPRIO,
    "ruid": Column("RUID", lambda one: str(one.uids[0])),
    "ruser": Column("RUSER", lambda one: _user(one.uids[0]), 8),
    "s": _STATE,
    "sess": _titled("SESS", _SID),
    "session": _titled("SESS", _SID),
    "sid": _SID,
    "spid": _titled("SPID", _THREAD),
    "start": Column("STARTED", lambda one: _within_a_day(one.start, "%H:%M:%S"), order=lambda one: one.start),
    "start_time": _START,
    "stat": _STAT,
    "state": _STATE,
    "stime": _titled("STIME", _START),
    "sz": Column("SZ", lambda one: str(one.field(23) // PAGE)),
    "tgid": _titled("TGID", _PID),
    "thcount": _titled("THCNT", _NLWP),
    "tid": _titled("TID", _THREAD),
    "time": _TIME,
    "times": _SECONDS,
    "tname": _TTY,
    "tpgid": _number("TPGID", 8),
    "tt": _titled("TT", _TTY),
    "tty": _titled("TT", _TTY),
    "ucmd": _titled("CMD", _COMM),
    "ucomm": _COMM,
    "uid": _EUID,
    "uname": _USER,
    "user": _USER,
    "vsize": _VSZ,
    "vsz": _VSZ,
    "wchan": _WAITS,
}
