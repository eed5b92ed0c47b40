"""What the writer wrote the reader gives back, byte for byte, however it was cut."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.logs.reader import LogOptions, LogReader, unescape
from kist.logs.writer import PIECE, JsonFileWriter, escape

TEXT = st.binary(max_size=200) | st.sampled_from(
    [b"\xff\xfe", "grüße \u2028".encode(), b'{"a":"<b>&\\t"}', b"\n\n", b"\t\r\x00"]
)


def read_all(path: str, **options: object) -> bytes:
    reader = LogReader(path, LogOptions(**options))  # type: ignore[arg-type]  # given by name
    out = b""
    while data := reader.read():
        out += data
    reader.close()
    return out


def go_text(data: bytes) -> bytes:
    """Bytes that are not UTF-8 become U+FFFD, each, as in Go."""
    text = data.decode("utf-8", "surrogateescape")
    return "".join("\ufffd" if "\udc80" <= one <= "\udcff" else one for one in text).encode()


@given(TEXT)
def test_escapes_are_json_and_come_back(data: bytes) -> None:
    escaped = escape(data)
    one_line = escaped.replace(b"\n", b"\\n")
    assert json.loads(b'"' + one_line + b'"') == go_text(data).decode()
    assert unescape(one_line) == go_text(data)


@given(st.lists(TEXT, max_size=20))
def test_a_log_gives_back_what_was_written(chunks: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/log"
        writer = JsonFileWriter(path)
        for chunk in chunks:
            writer.write(b"stdout", chunk)
        writer.flush()
        writer.close()
        whole = b"".join(chunks)
        expected = b"".join(go_text(line) for line in split_lines(whole))
        assert read_all(path, multiplexed=False) == expected
        for line in Path(path).read_bytes().splitlines():
            assert set(json.loads(line)) == {"log", "stream", "time"}


def split_lines(data: bytes) -> list[bytes]:
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40_000)), max_size=8))
def test_long_lines_are_split_in_pieces_of_16_kib(lines: list[tuple[bool, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/log"
        writer = JsonFileWriter(path)
        data = b"".join(b"x" * length + (b"\n" if whole else b"") for whole, length in lines)
        for start in range(0, len(data), 65536):
            writer.write(b"stdout", data[start : start + 65536])
        writer.flush()
        writer.close()
        pieces = [json.loads(line)["log"] for line in Path(path).read_bytes().splitlines()]
        assert "".join(pieces).encode() == data
        assert all(len(piece) <= PIECE + 1 for piece in pieces)
        assert all(piece.count("\n") <= 1 for piece in pieces)


def test_streams_keep_apart_and_frames_hold_a_line_each(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    writer = JsonFileWriter(path)
    writer.write(b"stdout", b"a\nb\npart")
    writer.write(b"stderr", b"bad\n")
    writer.write(b"stdout", b"ial\n")
    writer.flush()
    writer.close()
    frames = read_all(path)
    found = []
    while frames:
        stream, length = struct.unpack_from(">BxxxI", frames)
        found.append((stream, frames[8 : 8 + length]))
        frames = frames[8 + length :]
    assert found == [(1, b"a\n"), (1, b"b\n"), (2, b"bad\n"), (1, b"partial\n")]
    assert read_all(path, stdout=False, multiplexed=False) == b"bad\n"


@pytest.mark.parametrize("tail", [0, 1, 5, 99, 100, 500])
def test_tail_counts_lines(tmp_path: Path, tail: int) -> None:
    path = str(tmp_path / "log")
    writer = JsonFileWriter(path)
    writer.write(b"stdout", b"".join(b"%d\n" % number for number in range(100)))
    writer.close()
    expected = [b"%d" % number for number in range(100)][-tail:] if tail else []
    assert read_all(path, tail=tail, multiplexed=False).split() == expected


def test_rotation_loses_no_line(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    writer = JsonFileWriter(path, max_size=20_000, max_files=50)
    for number in range(0, 5000, 50):
        writer.write(b"stdout", b"".join(b"%d\n" % one for one in range(number, number + 50)))
    writer.close()
    assert len(list(tmp_path.iterdir())) > 3
    assert read_all(path, multiplexed=False).split() == [b"%d" % number for number in range(5000)]
    assert read_all(path, tail=1500, multiplexed=False).split() == [b"%d" % number for number in range(3500, 5000)]


def test_a_follower_sees_what_comes_and_survives_rotation(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    writer = JsonFileWriter(path, max_size=500, max_files=5)
    writer.write(b"stdout", b"first\n")
    reader = LogReader(path, LogOptions(multiplexed=False))
    assert reader.read() == b"first\n"
    assert reader.read() == b""
    seen = b""
    for number in range(20):
        writer.write(b"stdout", b"line %d\n" % number)
        while data := reader.read():
            seen += data
    reader.close()
    writer.close()
    assert seen == b"".join(b"line %d\n" % number for number in range(20))


def test_a_backslash_and_an_n_before_the_end_are_not_a_newline(tmp_path: Path) -> None:
    writer = JsonFileWriter(str(tmp_path / "log"))
    writer.write(b"stdout", b"one\nfoo\\n")
    writer.flush()
    writer.close()
    assert read_all(str(tmp_path / "log"), multiplexed=False) == b"one\nfoo\\n"


def test_labels_may_be_called_as_parts_of_a_line_are(tmp_path: Path) -> None:
    attrs = {"a": "1", "stream": "stderr", "time": "x", "z": "2"}
    writer = JsonFileWriter(str(tmp_path / "log"), attrs=attrs)
    writer.write(b"stdout", b"hello\n")
    writer.close()
    path = str(tmp_path / "log")
    assert json.loads(Path(path).read_bytes())["attrs"] == attrs
    assert read_all(path, multiplexed=False) == b"hello\n"
    assert read_all(path, multiplexed=False, stderr=False, tail=1) == b"hello\n"
    assert read_all(path, multiplexed=False, details=True) == b"a=1,stream=stderr,time=x,z=2 hello\n"


def test_a_time_that_is_none_is_passed_over_and_leaves_nothing_open(tmp_path: Path) -> None:
    line = b'{"log":"x\\n","stream":"stdout","time":"no time"}\n'
    (tmp_path / "log").write_bytes(line * 10_000)
    before = len(os.listdir("/proc/self/fd"))
    assert read_all(str(tmp_path / "log"), since=1) == b""
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_log_that_is_cut_off_while_it_is_read_ends(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b'{"log":"x\\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}\n' * 20_000)
    reader = LogReader(str(tmp_path / "log"), LogOptions(), follow=False)
    assert reader.read()
    os.truncate(tmp_path / "log", 0)
    assert reader.read() == b""
    reader.close()
