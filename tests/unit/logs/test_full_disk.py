"""A log whose file system is full: lines are lost whole, never torn, and never written twice."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from kist.logs.writer import JsonFileWriter


@contextmanager
def limited() -> Iterator[None]:
    """A file takes 1000 bytes: write(2) takes a part and then fails, as at the end of a disk (SIGXFSZ is ignored). Over
    when the test writes its own output.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_line_is_torn_or_doubled(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = JsonFileWriter(str(path))
    lost = 0
    for number in range(40):
        with limited() if number <= 30 else nullcontext():
            try:
                writer.write(b"stdout", b"line %d\nrest of %d" % (number, number))
            except OSError:
                lost += 1
    writer.flush()
    writer.close()
    lines = [json.loads(line)["log"] for line in path.read_text().splitlines()]
    assert 10 < lost < 30
    assert lines[0] == "line 0\n" and lines[-1] == "rest of 39"
    numbers = [int(line.rpartition("line ")[2]) for line in lines[:-1]]
    assert numbers == sorted(set(numbers)) and {0, 1, 38, 39} <= set(numbers)
    assert path.stat().st_size == writer.size


def test_a_log_that_somebody_has_cut_off_is_not_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = JsonFileWriter(str(path))
    writer.write(b"stdout", b"x" * 700 + b"\n")
    os.truncate(path, 0)
    writer.write(b"stdout", b"short\n")
    with limited(), pytest.raises(OSError):
        writer.write(b"stdout", b"y" * 2000 + b"\n")
    writer.close()
    assert [json.loads(line)["log"] for line in path.read_text().splitlines()] == ["short\n"]
