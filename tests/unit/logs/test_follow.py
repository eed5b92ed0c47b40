"""Following a log through its rotations: every line once and in order, but for those that rotation deleted."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from kist.logs.reader import LogOptions, LogReader
from kist.logs.writer import JsonFileWriter

_LINES = 20_000
_MOST_FILES = 150  # to rename them all, and for a reader that is behind to look for its place, takes the square of that
_WRITER = """
import random, sys
from kist.logs.writer import JsonFileWriter
path, size, files, lines, seed = sys.argv[1], *map(int, sys.argv[2:])
dice = random.Random(seed)
writer = JsonFileWriter(path, size, files)
number = 0
while number < lines:
    until = min(lines, number + dice.choice((1, 1, 10, 100)))
    writer.write(b"stdout", b"".join(b"%d\\n" % one for one in range(number, until)))
    number = until
writer.close()
"""


def follow(reader: LogReader, alive: Callable[[], bool], pause: Callable[[], float] = lambda: 0.0) -> Iterator[int]:
    """As `logs -f` does: what was written before the end is read after it."""
    while True:
        over = not alive()
        while data := reader.read():
            yield from map(int, data.split())
            time.sleep(pause())
        if over or reader.done:
            return
        time.sleep(pause())


@pytest.mark.parametrize("max_files", [1, 3, 100_000])
@pytest.mark.parametrize("seed", range(6))
def test_a_writer_and_a_follower_side_by_side(tmp_path: Path, seed: int, max_files: int) -> None:
    path = str(tmp_path / "log")
    dice = random.Random(seed)
    size, slow = dice.choice((500, 5_000, 20_000)), dice.choice((0, 0, 0.002))
    lines = _LINES if max_files < 100 else min(_LINES, _MOST_FILES * size // 80)
    words = [path, *map(str, (size, max_files, lines, seed))]
    with subprocess.Popen([sys.executable, "-c", _WRITER, *words]) as writer:
        reader = LogReader(path, LogOptions(multiplexed=False))
        seen = list(follow(reader, lambda: writer.poll() is None, lambda: slow and dice.choice((0, slow))))
        reader.close()
    assert writer.returncode == 0
    if max_files > 100:
        assert seen == list(range(lines))
    else:
        assert all(one < two for one, two in pairwise(seen))
        newest = sorted(map(int, read_all(path)))
        assert newest[-1] == lines - 1
        assert seen[len(seen) - len(newest) :] == newest


def read_all(path: str, since: int = 0) -> list[bytes]:
    reader = LogReader(path, LogOptions(multiplexed=False, since=since))
    out = b"".join(iter(reader.read, b""))
    reader.close()
    return out.split()


class Log:
    """A log whose every line is a file of its own."""

    def __init__(self, path: Path, max_files: int = 100) -> None:
        self.path = str(path / "log")
        self._writer = JsonFileWriter(self.path, 1, max_files)
        self._number = 0

    def add(self, count: int) -> None:
        for _ in range(count):
            self._number += 1
            self._writer.write(b"stdout", b"%d\n" % self._number)

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    log.close()


def rest(reader: LogReader) -> list[int]:
    return list(follow(reader, lambda: False))


@pytest.mark.parametrize("tail", [None, 0, 1, 2, 3, 10])
def test_a_follower_that_slept_goes_on_file_by_file(log: Log, tail: int | None) -> None:
    log.add(3)
    reader = LogReader(log.path, LogOptions(multiplexed=False, tail=tail))
    log.add(5)
    assert rest(reader) == [1, 2, 3, 4, 5, 6, 7, 8][3 - min(3 if tail is None else tail, 3) :]
    log.add(4)
    assert rest(reader) == [9, 10, 11, 12]
    reader.close()


def test_a_file_that_was_rotated_out_is_followed_by_the_oldest_left(tmp_path: Path) -> None:
    log = Log(tmp_path, max_files=4)
    log.add(2)
    reader = LogReader(log.path, LogOptions(multiplexed=False))
    assert rest(reader) == [1, 2]
    log.add(10)
    assert rest(reader) == [9, 10, 11, 12]
    reader.close()
    log.close()


def test_what_comes_between_the_end_and_a_rotation_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The follower has met the end; before it looks at any file, lines come and with them rotations."""
    writer = JsonFileWriter(str(tmp_path / "log"), 200, 100)
    writer.write(b"stdout", b"1\n")
    reader = LogReader(writer.path, LogOptions(multiplexed=False))
    assert reader.read() == b"1\n"
    real = os.open

    def late(path: str, flags: int) -> int:
        monkeypatch.undo()
        for number in range(2, 9):
            writer.write(b"stdout", b"%d\n" % number)
        return real(path, flags)

    monkeypatch.setattr(os, "open", late)
    assert rest(reader) == [2, 3, 4, 5, 6, 7, 8]
    reader.close()
    writer.close()


def test_until_ends_a_follower_in_the_midst_of_the_files(log: Log) -> None:
    log.add(2)
    now = time.time_ns()
    time.sleep(0.001)
    log.add(3)
    reader = LogReader(log.path, LogOptions(multiplexed=False, until=now))
    assert list(follow(reader, lambda: True)) == [1, 2]
    reader.close()
    assert read_all(log.path, since=now) == [b"3", b"4", b"5"]


def test_a_log_that_is_being_deleted_does_not_begin_anew(log: Log) -> None:
    log.add(2)
    time.sleep(0.02)  # the kernel's clock of files is coarse
    log.add(1)
    reader = LogReader(log.path, LogOptions(multiplexed=False))
    assert rest(reader) == [1, 2, 3]
    Path(log.path).unlink()
    assert rest(reader) == []
    reader.close()


def test_a_line_that_is_taken_back_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = JsonFileWriter(str(path))
    writer.write(b"stdout", b"1\n")
    reader = LogReader(str(path), LogOptions(multiplexed=False))
    with path.open("ab") as torn:
        torn.write(b'{"log":"2')
    assert rest(reader) == [1]
    with path.open("r+b") as torn:
        torn.truncate(writer.size)
    assert rest(reader) == []
    writer.write(b"stdout", b"3\n")
    assert rest(reader) == [3]
    reader.close()
    writer.close()
