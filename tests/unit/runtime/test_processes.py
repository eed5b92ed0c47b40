"""What ps would print: its options, its columns, and how Docker reads its lines."""

from __future__ import annotations

import os
import time

import msgspec
import pytest

from kist.model.errors import InvalidParameter
from kist.runtime.processes import cells, forest, table, titles_of
from kist.runtime.pscolumns import Process
from kist.runtime.psoptions import Shown, parse

_BSD = "PID TTY STAT TIME COMMAND"
_USER = "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"
_FULL = "UID PID PPID C STIME TTY TIME CMD"


def _process(pid: int, *, ppid: int = 1, tid: int = 0, name: str = "sleep", arguments: str = "sleep 9") -> Process:
    stat = ["0"] * 50
    stat[0], stat[1] = "S", str(ppid)
    return Process(
        pid=pid,
        tid=tid or pid,
        name=name,
        arguments=arguments,
        stat=tuple(stat),
        uids=(4000000000, 4000000000),
        gids=(0, 0),
        locked=False,
        resident=0,
        waits="hrtimer_nanosleep",
        start=0,
        elapsed=1,
    )


@pytest.mark.parametrize(
    ("text", "titles"),
    [  # as procps 4.0.2 prints them
        ("", "PID TTY TIME CMD"),
        ("-e", "PID TTY TIME CMD"),
        ("-ef", _FULL),
        ("-ef ww", "UID PID PPID C STIME TTY STAT TIME CMD"),
        ("-F", "UID PID PPID C SZ RSS PSR STIME TTY TIME CMD"),
        ("-l", "F S UID PID PPID C PRI NI ADDR SZ WCHAN TTY TIME CMD"),
        ("-ly", "S UID PID PPID C PRI NI RSS SZ WCHAN TTY TIME CMD"),
        ("-lF", "F S UID PID PPID C PRI NI ADDR SZ WCHAN RSS PSR STIME TTY TIME CMD"),
        ("-lf ww", "F S UID PID PPID C PRI NI ADDR SZ WCHAN STIME TTY TIME CMD"),
        ("-lc", "F S UID PID PPID CLS PRI ADDR SZ WCHAN TTY TIME CMD"),
        ("-j", "PID PGID SID TTY TIME CMD"),
        ("-fj", "UID PID PPID PGID SID C STIME TTY TIME CMD"),
        ("-jP", "PID PGID SID PSR TTY TIME CMD"),
        ("-L", "PID LWP TTY TIME CMD"),
        ("-eLf", "UID PID PPID LWP C NLWP STIME TTY TIME CMD"),
        ("-T", "PID SPID TTY TIME CMD"),
        ("-fT", "UID PID SPID PPID C STIME TTY TIME CMD"),
        ("ax", _BSD),
        ("ww", _BSD),
        ("-x", _BSD),
        ("-e ww", _BSD),
        ("aux", _USER),
        ("-aux", _USER),
        ("auxf --sort=-rss", _USER),
        ("aux -L", "USER PID LWP %CPU NLWP %MEM VSZ RSS TTY STAT START TIME COMMAND"),
        ("l", "F UID PID PPID PRI NI VSZ RSS WCHAN STAT TTY TIME COMMAND"),
        ("l -L", "F UID PID PPID LWP PRI NI VSZ RSS WCHAN STAT TTY TIME COMMAND"),
        ("j", "PPID PID PGID SID TTY TPGID STAT UID TIME COMMAND"),
        ("axo pid,comm", "PID COMMAND"),
        ("-axo pid,stat", "PID STAT"),
        ("-o pid,lstart", "PID STARTED"),
        ("-o pid:10,cmd:30", "PID CMD"),
        ("-opid", "PID"),
        ("-o user -o pid=PID", "USER PID"),
        ("-o pid,comm=", "PID"),
        ("--format=pid", "PID"),
        ("-O comm", "PID COMMAND S TTY TIME COMMAND"),
        ("-f -o pid", "PID"),
    ],
)
def test_titles(text: str, titles: str) -> None:
    assert titles_of(parse(text)) == tuple(titles.split())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("-o", "ps: error: format specification must follow -o"),
        ("-eo", "ps: error: format specification must follow -o"),
        ("-o pid,,comm", "ps: error: improper format list"),
        ("-o pid,foo", 'ps: error: unknown user-defined format specifier "foo"'),
        ("-o pid:x", "ps: error: column widths must be unsigned decimal numbers"),
        ("-o comm", "Couldn't find PID field in ps output"),
        ("-o pid= -o comm=CMD", "Couldn't find PID field in ps output"),
        ("h", "Couldn't find PID field in ps output"),
        ("-o comm=PID -o pid", 'specifying "comm=PID" is not allowed'),
        ("-Q", "ps: error: unsupported SysV option"),
        ("Q", "ps: error: unsupported option (BSD syntax)"),
        ("--foo", "ps: error: unknown gnu long option"),
        ("--sort foo", "ps: error: unknown sort specifier"),
        ("--sort", "ps: error: long sort specification must follow --sort"),
        ("-C", "ps: error: list of command names must follow -C"),
        ("-p x", "ps: error: process ID list syntax error"),
        ("-u nosuch", "ps: error: user name does not exist"),
        ("-G nosuch", "ps: error: group name does not exist"),
        ("-y", "ps: error: modifier -y without format -l makes no sense"),
        ("-LT", "ps: error: thread flags conflict; can't use both -L and -T"),
        ("u l", "ps: error: conflicting format options"),
        ("-o pid u", "ps: error: conflicting format options"),
        ("-Z", "ps: option -Z is not supported by this engine"),
        ("X", "ps: option X (BSD syntax) is not supported by this engine"),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        table([os.getpid()], f" {text}")
    assert refused.value.message == told


def test_only_the_last_column_is_never_cut() -> None:
    one = _process(7, arguments="sleep " + "9" * 40)
    shown = [Shown("user", "USER"), Shown("args", "COMMAND", 8), Shown("wchan", "WCHAN"), Shown("args", "COMMAND", 8)]
    assert list(cells(shown, one)) == ["4000000+", "sleep 99", "hrtime", "sleep " + "9" * 40]


def test_a_forest_draws_children_below_their_parents() -> None:
    found = [_process(7), _process(8), _process(9, ppid=7), _process(10, ppid=9)]
    drawn = [(one.pid, one.branch) for one in forest(found, drawn=True)]
    assert drawn == [(7, " \\_ "), (9, " |   \\_ "), (10, " |       \\_ "), (8, " \\_ ")]
    assert [one.pid for one in forest(found, drawn=False)] == [7, 9, 10, 8]


def test_a_young_process_has_its_share_of_its_own_age() -> None:
    stat = list(_process(7).stat)
    stat[11] = "25"  # utime in ticks, of a hundred a second
    one = msgspec.structs.replace(_process(7), stat=tuple(stat), elapsed=0.5)
    assert list(cells(parse("-o pcpu,c,cp,time,bsdtime").columns, one)) == ["50.0", "50", "500", "00:00:00", "0:00"]


def test_a_process_of_this_machine() -> None:
    me = str(os.getpid())
    titles, rows = table([os.getpid()], "-o pid,ppid,uid,comm,lstart")
    assert titles == ("PID", "PPID", "UID", "COMMAND", "STARTED")
    with open("/proc/self/comm", encoding="utf-8") as file:
        name = file.read().strip()
    (row,) = rows
    assert row[:4] == (me, str(os.getppid()), str(os.geteuid()), name)
    assert abs(time.mktime(time.strptime(row[4])) - time.time()) < 86400


def test_words_beyond_the_titles_move_on_to_the_last_as_docker_reads_them() -> None:
    (row,) = table([os.getpid()], "-o pid,lstart,uid")[1]
    whole = table([os.getpid()], "-o pid,lstart")[1][0][1]
    assert " ".join(row[1:]) == f"{whole} {os.geteuid()}"
    assert row[1] == whole[:3]
    with pytest.raises(InvalidParameter, match="Unexpected pid"):
        table([os.getpid()], "-o lstart,pid")


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("-p {pid}", True),
        ("{pid}", True),
        ("-p 1,2", False),
        ("-e -p 1", True),
        ("-N -p {pid}", False),
        ("--ppid {ppid}", True),
        ("-u {uid}", True),
        ("-C nosuch", False),
    ],
)
def test_who_is_selected(text: str, listed: bool) -> None:
    options = text.format(pid=os.getpid(), ppid=os.getppid(), uid=os.geteuid())
    assert bool(table([os.getpid()], options)[1]) == listed


def test_sorted_by_numbers_and_backwards() -> None:
    pids = [os.getpid(), os.getppid()]
    rows = table(pids, "-o pid --sort=-pid")[1]
    assert rows == tuple((str(pid),) for pid in sorted(pids, reverse=True))
    assert table(pids, "-o pid k uid,pid")[1] == tuple(reversed(rows))


def test_what_has_ended_is_left_out() -> None:
    assert table([2**22 + 1], "-ef") == (tuple(_FULL.split()), ())
