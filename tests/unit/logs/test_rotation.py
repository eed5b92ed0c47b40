"""A rotation that fails, halfway or at once: the writer goes on in its file, touches no other, and rotates later."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from kist.logs.writer import JsonFileWriter

_LINES = 2000


class Fault:
    """From the call of that number on, a function fails as on a full disk."""

    def __init__(self, patch: pytest.MonkeyPatch, function: str, first: int = 0) -> None:
        self.calls, self._first, self._call = 0, first, getattr(os, function)
        patch.setattr(os, function, self)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls > self._first:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._call(*arguments, **options)


def kept(path: Path) -> list[int]:
    """The numbers in all files of a log, oldest first; fails where a line is torn."""
    files = sorted(path.parent.glob("log.[0-9]*"), key=lambda one: -int(one.suffix[1:]))
    files += [path] if path.exists() else []
    return [int(json.loads(line)["log"]) for one in files for line in one.read_text().splitlines()]


@pytest.mark.parametrize("max_files", [1, 2, 100])
@pytest.mark.parametrize(("function", "first"), [("open", 0), ("replace", 0), ("replace", 1), ("truncate", 0)])
def test_a_rotation_that_fails_loses_no_line_and_hits_no_other_file(
    tmp_path: Path, function: str, first: int, max_files: int
) -> None:
    path = tmp_path / "log"
    writer = JsonFileWriter(str(path), max_size=50_000, max_files=max_files)
    with pytest.MonkeyPatch.context() as patch:
        fault = Fault(patch, function, first)
        others = [os.memfd_create("before")]
        for number in range(_LINES):
            try:
                writer.write(b"stdout", b"%d\n" % number)
            except OSError:  # what the monitor does: it notes the error and goes on
                others.append(os.memfd_create("after"))  # takes the number of a descriptor that was closed
    assert [os.fstat(other).st_size for other in others] == [0] * len(others)
    assert len(others) == 1  # and no write failed
    assert fault.calls < 20  # nor was it tried again at every line
    if max_files == 100:
        assert kept(path) == list(range(_LINES))
    for number in range(_LINES, 2 * _LINES):
        writer.write(b"stdout", b"%d\n" % number)
    writer.close()
    for other in others:
        os.close(other)
    numbers = kept(path)
    assert numbers == list(range(2 * _LINES))[-len(numbers) :]
    assert path.stat().st_size < 60_000  # rotated again, once it could be
    if max_files == 100:
        assert len(numbers) == 2 * _LINES


def test_the_names_after_rotations(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = JsonFileWriter(str(path), max_size=1, max_files=3)
    for number in range(5):
        writer.write(b"stdout", b"%d\n" % number)
    writer.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert kept(path) == [2, 3, 4]
    assert kept(path)[-1] == int(json.loads(path.read_text())["log"])  # a log never ends with an empty file
