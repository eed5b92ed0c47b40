"""Compressed files of a log: read like the others, whatever is renamed or compressed meanwhile."""

from __future__ import annotations

import gzip
import os
import threading
import time
from pathlib import Path

import pytest

from kist.logs import compress
from kist.logs.compress import compress_rotated
from kist.logs.files import HEAD, MOST_MEMBERS, LogFile, Member, pack_index, read_index
from kist.logs.reader import LogOptions, LogReader
from kist.logs.writer import JsonFileWriter
from kist.model.timestamp import nanoseconds


def writer_of(path: Path, max_size: int = 2000, max_files: int = 1000) -> JsonFileWriter:
    return JsonFileWriter(str(path / "log"), max_size, max_files, on_rotated=lambda: None)


def write(writer: JsonFileWriter, numbers: range) -> None:
    for number in numbers:
        writer.write(b"stderr" if number % 3 == 0 else b"stdout", b"%d\n" % number)


def read(path: str, **options: object) -> list[int]:
    reader = LogReader(path, LogOptions(multiplexed=False, **options))  # type: ignore[arg-type]  # given by name
    try:
        return [int(line) for line in b"".join(iter(reader.read, b"")).split()]
    finally:
        reader.close()


def names(path: Path) -> set[str]:
    return {one.name for one in path.iterdir()}


def test_all_rotated_files_are_compressed_and_gzip_reads_them(tmp_path: Path) -> None:
    writer = writer_of(tmp_path)
    write(writer, range(100))
    before = sorted(one.stat().st_mtime_ns for one in tmp_path.glob("log.*"))
    plain = (tmp_path / "log.2").read_bytes()
    compress_rotated(writer.path)
    assert names(tmp_path) == {"log", *(f"log.{number}.gz" for number in range(1, len(before) + 1))}
    assert gzip.decompress((tmp_path / "log.2.gz").read_bytes()) == plain
    assert sorted(one.stat().st_mtime_ns for one in tmp_path.glob("log.*")) == before
    assert read(writer.path) == list(range(100))
    writer.close()


@pytest.fixture(params=["one member", "many members", "no index", "no newest"])
def packed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JsonFileWriter:
    """A log of a hundred lines whose older files are compressed, in this way or that."""
    if request.param == "many members":
        monkeypatch.setattr(compress, "_MEMBER", 200)
        monkeypatch.setattr(compress, "_LINE", 20)
    writer = writer_of(tmp_path)
    write(writer, range(100))
    compress_rotated(writer.path)
    files = [LogFile(os.open(one, os.O_RDONLY), packed=True) for one in tmp_path.glob("*.gz")]
    counts = [len(read_index(one.descriptor)) for one in files]
    assert min(counts) > 2 if request.param == "many members" else counts == [1] * len(counts)
    for one, file in zip(tmp_path.glob("*.gz"), files, strict=True):
        if request.param == "no index":  # as kist compressed before, and as anybody else does
            one.write_bytes(HEAD + b"%d\0" % file.origin + gzip.compress(gzip.decompress(one.read_bytes()))[10:])
        file.close()
    if request.param == "no newest":
        os.truncate(writer.path, 0)
    return writer


@pytest.mark.parametrize("tail", [0, 1, 10, 30, 31, 60, 99, 100, 1000])
@pytest.mark.parametrize("streams", [(True, True), (True, False), (False, True)])
def test_the_tail_reaches_into_compressed_files(packed: JsonFileWriter, tail: int, streams: tuple[bool, bool]) -> None:
    writer, numbers = packed, read(packed.path)
    stdout, stderr = streams
    wanted = [number for number in numbers if (stderr if number % 3 == 0 else stdout)]
    assert read(writer.path, tail=tail, stdout=stdout, stderr=stderr) == wanted[len(wanted) - min(tail, len(wanted)) :]
    writer.close()


def test_a_tail_unpacks_what_it_needs(tmp_path: Path) -> None:
    """Of 20 MB, compressed, a few lines take a small part of the time of all."""
    writer = writer_of(tmp_path, 1_000_000_000)
    for start in range(0, 300_000, 10_000):
        writer.write(b"stdout", b"".join(b"%d\n" % number for number in range(start, start + 10_000)))
    os.rename(writer.path, f"{writer.path}.1")
    Path(writer.path).touch()
    compress_rotated(writer.path)
    assert names(tmp_path) == {"log", "log.1.gz"}

    def seconds(**options: object) -> float:
        begin = time.monotonic()
        reader = LogReader(writer.path, LogOptions(multiplexed=False, **options))  # type: ignore[arg-type]
        lines = sum(data.count(b"\n") for data in iter(reader.read, b""))
        reader.close()
        assert lines == options.get("tail", 300_000)
        return time.monotonic() - begin

    assert min(seconds(tail=10) for _ in range(3)) < seconds() / 8
    assert read(writer.path, tail=2) == [299_998, 299_999]
    writer.close()


def test_what_is_no_index_is_none(tmp_path: Path) -> None:
    good = pack_index([Member(0, 5, 2), Member(77, 6, 0)])
    for data, wanted in ((good, 2), (b"x" * 50 + good, 2), (good[1:], 0), (good[:-1], 0), (b"", 0), (good[-14:], 0),
                         (b"\xff" * 4 + good[-10:], 0), (b"\0" * 100 + good[-10:], 0)):  # fmt: skip
        path = tmp_path / "file"
        path.write_bytes(data)
        descriptor = os.open(path, os.O_RDONLY)
        assert len(read_index(descriptor)) == wanted
        os.close(descriptor)
    assert gzip.decompress(good) == b""
    whole = pack_index([Member(1 << 40, 7, 7)] * MOST_MEMBERS)
    assert gzip.decompress(gzip.compress(b"x") + whole) == b"x"


def test_what_is_rotated_and_compressed_under_a_follower_comes_once(tmp_path: Path) -> None:
    writer = writer_of(tmp_path)
    write(writer, range(10))
    reader = LogReader(writer.path, LogOptions(multiplexed=False))
    got = [int(line) for line in b"".join(iter(reader.read, b"")).split()]
    for start in range(10, 400, 65):
        write(writer, range(start, start + 65))
        compress_rotated(writer.path)
        got += [int(line) for line in b"".join(iter(reader.read, b"")).split()]
    assert got == list(range(400))
    reader.close()
    writer.close()


def test_writer_compressor_and_readers_at_once(tmp_path: Path) -> None:
    writer = writer_of(tmp_path, 5000)
    over = threading.Event()

    def compress_all() -> None:
        while not over.is_set():
            compress_rotated(writer.path)

    helper = threading.Thread(target=compress_all)
    helper.start()
    try:
        reader = LogReader(writer.path, LogOptions(multiplexed=False))
        got: list[bytes] = []
        for start in range(0, 2000, 100):
            write(writer, range(start, start + 100))
            got += iter(reader.read, b"")
            assert read(writer.path) == list(range(start + 100))
        assert [int(line) for line in b"".join(got).split()] == list(range(2000))
        reader.close()
    finally:
        over.set()
        helper.join()
    writer.close()


def test_only_so_many_files_are_kept(tmp_path: Path) -> None:
    writer = writer_of(tmp_path, 2000, 3)
    for start in range(0, 500, 50):
        write(writer, range(start, start + 50))
        compress_rotated(writer.path)
    assert names(tmp_path) == {"log", "log.1.gz", "log.2.gz"}
    numbers = read(writer.path)
    assert numbers == list(range(numbers[0], 500))
    writer.close()


@pytest.mark.parametrize("call", ["rename", "unlink", "utime"])
def test_a_crash_halfway_loses_and_doubles_nothing(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = writer_of(tmp_path)
    write(writer, range(100))

    def die(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, call, die)
        if call == "unlink":
            real = os.unlink
            patch.setattr(os, call, lambda path: real(path) if path.endswith("packing") else die())
        with pytest.raises(KeyboardInterrupt):
            compress_rotated(writer.path)
    assert read(writer.path) == list(range(100))
    write(writer, range(100, 200))
    assert read(writer.path) == list(range(200))
    compress_rotated(writer.path)
    assert read(writer.path) == list(range(200))
    assert not any(one.endswith("packing") for one in names(tmp_path))
    writer.close()


def test_since_begins_near_its_place(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [
        b'{"log":"%d\\n","stream":"stdout","time":"2026-01-01T%02d:%02d:%02d.5Z"}\n'
        % (second, second // 3600, second // 60 % 60, second % 60)
        for second in range(20_000)
    ]
    path.write_bytes(b"".join(lines))
    since = nanoseconds("2026-01-01T05:00:00Z")
    assert read(str(path), since=since) == list(range(18_000, 20_000))
    assert read(str(path), since=since, until=nanoseconds("2026-01-01T05:00:09Z")) == list(range(18_000, 18_009))
    assert read(str(path), since=nanoseconds("2025-01-01T05:00:00Z")) == list(range(20_000))
