"""Processes as `docker top` shows them: what procps' ps would print, read from /proc (proc(5)). No ps is run."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence

import msgspec

from kist.model.errors import InvalidParameter
from kist.runtime.pscolumns import COLUMNS, TICKS, Process
from kist.runtime.pscolumns import command as whole_command
from kist.runtime.psoptions import SELECTORS, Listing, Shown, parse

_Row = tuple[str, ...]
_BLANKS = re.compile("[\t\n\f\r ]+")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ufffd]")
_TITLED_PID = re.compile(r"\s+(\S*)=\s*(PID\S*)")


def table(pids: list[int], arguments: str) -> tuple[_Row, tuple[_Row, ...]]:
    """Titles and rows of what still runs. `arguments` are ps options; raises InvalidParameter for those ps refuses."""
    for name, title in _TITLED_PID.findall(arguments):
        if name != "pid":
            raise InvalidParameter(f'specifying "{name}={title}" is not allowed')
    listing = parse(arguments)
    titles = titles_of(listing)
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    found = [one for pid in pids for one in _read(pid, boot, listing) if _wanted(one, listing)]
    for name, backwards in reversed(listing.sorting):
        found.sort(key=lambda one, name=name: _sort_key(name, one), reverse=backwards)  # type: ignore[misc]
    if listing.forest:
        found = list(forest(found, drawn=listing.forest == "f"))
    return titles, tuple(_columned(titles, cells(listing.columns, one)) for one in found)


def titles_of(listing: Listing) -> _Row:
    """As Docker reads them off the first line, where an empty one leaves nothing."""
    titles = tuple(word for shown in listing.columns for word in shown.title.split())
    if not listing.titled or "PID" not in titles:
        raise InvalidParameter("Couldn't find PID field in ps output")
    return titles


def cells(columns: Sequence[Shown], one: Process) -> Iterator[str]:
    """What ps prints; all but the last are cut to their width."""
    for at, shown in enumerate(columns, 1):
        column = COLUMNS[shown.column]
        cell, width = column.cell(one), shown.width or column.width
        if at == len(columns) or not column.width or len(cell) <= width:
            yield cell
        else:
            yield cell[: width - 1] + "+" if column.title in _NAMES else cell[:width]


_NAMES = {COLUMNS[name].title for name in ("user", "euser", "ruser", "group", "egroup", "rgroup")}


def _columned(titles: _Row, line: Iterator[str]) -> _Row:
    """A line as Docker reads it: one word to a title, and the rest, which the last title takes together."""
    words = _BLANKS.sub(" ", " ".join(line)).strip(" ").split(" ")
    last = len(titles) - 1
    at = titles.index("PID")
    if not words[at].isdecimal():
        raise InvalidParameter(f"Unexpected pid '{words[at]}': strconv.Atoi: parsing \"{words[at]}\": invalid syntax")
    return (*words[:last], " ".join(words[last:]))


def _wanted(one: Process, listing: Listing) -> bool:
    chosen = (
        listing.everything
        or not listing.selected
        or any(SELECTORS[kind](one) in values for kind, values in listing.selected)
    )
    return chosen != listing.negated and (not listing.running or one.state in "RD")


def _sort_key(name: str, one: Process) -> tuple[float, str]:
    column = COLUMNS[name]
    if column.order is not None:
        return column.order(one), ""
    cell = column.cell(one)
    try:
        return float(cell), ""
    except ValueError:
        return 0, cell


def forest(found: list[Process], *, drawn: bool) -> Iterator[Process]:
    """Every process before its children. The first ones hang on a parent that is not listed."""
    here = {one.pid for one in found}
    children: dict[int, list[Process]] = {}
    for one in found:
        children.setdefault(one.ppid if one.ppid in here else 0, []).append(one)

    def grow(parent: int, before: str) -> Iterator[Process]:
        siblings = children.get(parent, [])
        for one in siblings:
            yield msgspec.structs.replace(one, branch=f"{before} \\_ " if drawn else "")
            if one.pid == one.tid:
                yield from grow(one.pid, before + ("    " if one is siblings[-1] else " |  "))

    return grow(0, "")


def _read(pid: int, boot: float, listing: Listing) -> Iterator[Process]:
    """The process, or its threads. Nothing when it has just ended."""
    try:
        tids = sorted(map(int, os.listdir(f"/proc/{pid}/task"))) if listing.threads else [pid]
        arguments = _text(f"/proc/{pid}/cmdline", "\0")
    except OSError:
        return
    environment = _environment(pid) if listing.environment else ""
    for tid in tids:
        try:
            one = _read_one(pid, tid, f"/proc/{pid}/task/{tid}" if listing.threads else f"/proc/{pid}", boot, arguments)
        except OSError:
            continue
        yield msgspec.structs.replace(one, arguments=f"{whole_command(one)} {environment}") if environment else one


def _read_one(pid: int, tid: int, directory: str, boot: float, arguments: str) -> Process:
    text = _text(f"{directory}/stat")
    status = dict(line.split(":", 1) for line in _raw(f"{directory}/status").splitlines() if ":" in line)
    stat = tuple(text[text.rindex(")") + 2 :].split())
    start = boot + int(stat[19]) / TICKS
    return Process(
        pid=pid,
        tid=tid,
        name=text[text.index("(") + 1 : text.rindex(")")],
        arguments=arguments,
        stat=stat,
        uids=tuple(map(int, status["Uid"].split())),
        gids=tuple(map(int, status["Gid"].split())),
        locked=_kilobytes(status, "VmLck") > 0,
        resident=_kilobytes(status, "VmRSS"),
        waits=_waits(directory),
        start=start,
        elapsed=max(1 / TICKS, time.time() - start),
    )


def _kilobytes(status: dict[str, str], name: str) -> int:
    return int(status.get(name, "0").split()[0])  # a thread of the kernel and a zombie have none


def _environment(pid: int) -> str:
    try:
        return _text(f"/proc/{pid}/environ", "\0")
    except OSError:
        return ""  # a zombie has none left


def _waits(directory: str) -> str:
    try:
        name = _text(f"{directory}/wchan").lstrip("._")
    except OSError:
        return "-"
    return "-" if name in ("", "0") else name


def _raw(path: str) -> str:
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


def _text(path: str, separator: str = "") -> str:
    """Without what a terminal would act on, as ps prints it."""
    raw = _raw(path).rstrip("\0\n")
    raw = raw.replace(separator, " ") if separator else raw
    return _UNPRINTABLE.sub("?", raw.replace("\n", " ")).strip(" ")
