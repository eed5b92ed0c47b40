"""A reader that does not follow comes to an end though the log grows, and gives just the lines that were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from kist.logs.reader import LogOptions, LogReader
from kist.logs.writer import JsonFileWriter


def write(writer: JsonFileWriter, first: int, last: int) -> None:
    for number in range(first, last):
        writer.write(b"stdout", f"line {number}\n".encode())
    writer.flush()


def lines(reader: LogReader) -> list[str]:
    found = b""
    while data := reader.read():
        found += data
    return found.decode().splitlines()


@pytest.mark.parametrize("max_size", [None, 2000])
def test_what_is_written_meanwhile_is_not_read(tmp_path: Path, max_size: int | None) -> None:
    path = str(tmp_path / "log")
    writer = JsonFileWriter(path, max_size, 100, None)
    write(writer, 0, 50)
    options = LogOptions(multiplexed=False)
    whole, tail = (
        LogReader(path, options, follow=False),
        LogReader(path, LogOptions(multiplexed=False, tail=7), follow=False),
    )
    following = LogReader(path, options)
    write(writer, 50, 200)
    assert lines(whole) == [f"line {number}" for number in range(50)]
    assert lines(tail) == [f"line {number}" for number in range(43, 50)]
    assert lines(following) == [f"line {number}" for number in range(200)]
    for reader in (whole, tail, following):
        reader.close()


def test_a_log_that_is_empty_yet_has_nothing(tmp_path: Path) -> None:
    reader = LogReader(str(tmp_path / "log"), LogOptions(multiplexed=False), follow=False)
    writer = JsonFileWriter(str(tmp_path / "log"), None, 1, None)
    write(writer, 0, 5)
    assert lines(reader) == []
    reader.close()


def test_an_end_that_is_rotated_away_is_an_end(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    writer = JsonFileWriter(path, 1000, 2, None)
    write(writer, 0, 20)
    reader = LogReader(path, LogOptions(multiplexed=False), follow=False)
    write(writer, 20, 400)
    assert set(lines(reader)) <= {f"line {number}" for number in range(20)}
    reader.close()
