"""A spool is read from where it was sent up to, whatever rotated meanwhile; a blocking monitor keeps its bound."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kist.logs.compress import compress_rotated
from kist.logs.writer import JsonFileWriter
from kist.monitor.pace import Pace
from kist.shipper.driver import Info
from kist.shipper.follow import Follower
from kist.shipper.spool import Spool, Task
from kist.shipper.worker import lag

INFO = Info("id", "name", "sha256:1", "image", "sh", "2026-01-01T00:00:00Z", "tag", {}, {})


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(str(tmp_path / ("a" * 64)))
    spool.prepare(Task("syslog", INFO))
    return spool


def lines(follower: Follower, spool: Spool, count: int | None = None) -> list[int]:
    """The next entries; the position behind `count` of the first batch, or behind all, is saved."""
    found: list[int] = []
    while batch := follower.next():
        take = len(batch.entries) if count is None else count
        found += [int(entry.line) for entry in batch.entries[:take]]
        spool.save(batch.position(take))
        if count is not None:
            break
    return found


@pytest.mark.parametrize("packed", [False, True])
def test_a_follower_that_died_is_followed_by_one_that_goes_on(spool: Spool, packed: bool) -> None:
    writer = JsonFileWriter(spool.log, 5000, 100, on_rotated=lambda: None)
    seen: list[int] = []
    for start in range(0, 1000, 100):
        for number in range(start, start + 100):
            writer.write(b"stdout", b"%d\n" % number)
        if packed:
            compress_rotated(spool.log)
        follower = Follower(spool)
        assert not follower.lost
        seen += lines(follower, spool, 7 if start % 200 else None)
        follower.close()
    follower = Follower(spool)
    seen += lines(follower, spool)
    follower.close()
    assert seen == list(range(1000))
    assert lag(spool) == 0
    writer.close()


def test_pieces_of_a_line_have_one_name_across_followers(spool: Spool) -> None:
    writer = JsonFileWriter(spool.log)
    writer.write(b"stdout", b"x" * 40_000)
    first = Follower(spool).next()
    assert first is not None
    spool.save(first.position(len(first.entries)))
    writer.write(b"stdout", b"x\nnext\n")
    second = Follower(spool).next()
    assert second is not None
    pieces = [entry.partial for entry in [*first.entries, *second.entries]]
    assert pieces[-1] is None and second.entries[-1].line == b"next"
    named = [one for one in pieces if one is not None]
    assert {one.id for one in named} == {named[0].id}
    assert [(one.ordinal, one.last) for one in named] == [(1, False), (2, False), (3, True)]
    writer.close()


def test_a_monitor_waits_at_its_bound_and_goes_on_when_something_was_sent(spool: Spool) -> None:
    held: list[bool] = []
    writer = JsonFileWriter(spool.log, 1 << 20, 3)
    wake = os.open(spool.wake_path, os.O_RDWR | os.O_NONBLOCK)
    pace = Pace(writer, spool.shipped, 10_000, wake, lambda: held.append(True))
    number = 0
    while not held:
        pace.write(b"stdout", b"%d\n" % number)
        number += 1
    assert 10_000 <= lag(spool) < 10_200
    assert not pace.has_room()
    follower = Follower(spool)
    assert lines(follower, spool) == list(range(number))
    assert os.read(wake, 1) == b"\0"
    assert pace.has_room()
    follower.close()
    os.close(wake)
    writer.close()
