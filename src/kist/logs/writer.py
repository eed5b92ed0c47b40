"""Writing json-file logs chunk by chunk, not line by line (10 million lines a second instead of half a million).

One time stamp a read, escapes only where a chunk needs them, and one bytes.replace that wraps every line. Escapes and
splitting are Docker's: Go's JSON escapes, lines over 16 KiB in pieces without a newline, the rest held until its
newline or the end. Imports little: monitors carry it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Callable

PIECE = 16 * 1024  # dockerd's copy buffer: a longer line is written in pieces of this many bytes
_HALF = PIECE // 2
_AROUND = 80  # bytes that a line gets around it
_BAD = bytes(byte for byte in range(256) if (byte < 0x20 and byte != 0x0A) or byte in b'"\\<>&')
_ESCAPES = {byte: b"\\u%04x" % byte for byte in _BAD} | {0x5C: b"\\\\", 0x22: b'\\"', 0x0D: b"\\r"}
_LONE = re.compile("[\udc80-\udcff]")


def escape(text: bytes) -> bytes:
    """The bytes of a JSON string, newlines left alone; bytes that are not UTF-8 become U+FFFD each."""
    if len(text.translate(None, _BAD)) != len(text):
        present = set(text).intersection(_BAD)
        if 0x5C in present:  # first, or it would escape the others' backslashes
            text = text.replace(b"\\", b"\\\\")
            present.discard(0x5C)
        for byte in present:
            text = text.replace(bytes((byte,)), _ESCAPES[byte])
    if text.isascii():
        return text
    decoded = text.decode("utf-8", "surrogateescape")
    decoded = _LONE.sub("\\\\ufffd", decoded).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return decoded.encode()


class Clock:
    """Now as RFC3339Nano in bytes, the second formatted once."""

    def __init__(self) -> None:
        self._second = -1
        self._head = b""

    def stamp(self) -> bytes:
        second, fraction = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._head = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        digits = b"%09d" % fraction
        digits = digits.rstrip(b"0")
        return self._head + (b"." + digits if digits else b"") + b"Z"


def _packed(attrs: dict[str, str]) -> bytes:
    """As JSON, in which no key looks like the parts of a line that readers search for."""
    text = json.dumps(attrs, separators=(",", ":")).encode()
    return text.replace(b'"stream":', b'"\\u0073tream":').replace(b'"time":', b'"\\u0074ime":')


def open_log(path: str) -> int:
    """Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)


class JsonFileWriter:
    """One container's log. `max_size` bytes a file (None: no end), `max_files` of them; the newest has no number."""

    def __init__(
        self,
        path: str,
        max_size: int | None = None,
        max_files: int = 1,
        attrs: dict[str, str] | None = None,
        descriptor: int = -1,
        on_rotated: Callable[[], None] | None = None,
        on_stuck: Callable[[OSError], None] | None = None,
    ) -> None:
        """`descriptor`: the file, opened by open_log already. `on_rotated`: somebody else compresses what is old, and
        is told that there is something to do. `on_stuck` hears of the first rotation that fails, and of the first
        after one that did not.
        """
        self._on_stuck = on_stuck
        self.path = path
        self._on_rotated = on_rotated
        self._max_size, self._max_files = max_size, max_files
        self._rotate_at = max_size
        self._attrs = b'"attrs":' + _packed(attrs) + b"," if attrs else b""
        self._clock = Clock()
        self._rests: dict[bytes, bytes] = {}
        self._use(open_log(path) if descriptor < 0 else descriptor)

    def _use(self, descriptor: int) -> None:
        self._file = descriptor
        self.size = os.fstat(self._file).st_size

    def write(self, stream: bytes, data: bytes) -> None:
        """Bytes of `stdout` or `stderr` as they were read. Raises OSError, for example when the disk is full."""
        rest = self._rests.get(stream, b"")
        text = rest + data if rest else data
        end = text.rfind(b"\n") + 1
        body, rest = text[:end], text[end:]
        self._rests[stream] = b""  # a write that fails loses its chunk, and does not write this again with the next
        if len(body) > _HALF and any(body.find(b"\n", at, at + _HALF) < 0 for at in range(0, len(body), _HALF)):
            self._write_long(stream, body)
        elif body:
            self._append_lines(stream, body)
        while len(rest) >= PIECE:
            self._append(stream, rest[:PIECE])
            rest = rest[PIECE:]
        self._rests[stream] = rest

    def _write_long(self, stream: bytes, body: bytes) -> None:
        """Some line may be longer than a piece: runs of ordinary lines stay together."""
        start = 0
        run = 0
        while start < len(body):
            end = body.find(b"\n", start) + 1
            if end - start > PIECE:
                if run < start:
                    self._append_lines(stream, body[run:start])
                line = body[start:end]
                while len(line) > PIECE:
                    self._append(stream, line[:PIECE])
                    line = line[PIECE:]
                self._append(stream, line)
                run = end
            start = end
        if run < len(body):
            self._append_lines(stream, body[run:])

    def _append_lines(self, stream: bytes, body: bytes) -> None:
        """Whole lines, so many at once that small files do not become much larger than they may be."""
        if self._max_size is None or len(body) * _AROUND <= self._max_size:
            self._append(stream, body)
            return
        pieces = 2 * (len(body) + body.count(b"\n") * _AROUND) // self._max_size + 1
        step, start = len(body) // pieces, 0
        while start < len(body):
            end = body.find(b"\n", min(start + step, len(body) - 1)) + 1
            self._append(stream, body[start:end])
            start = end

    def unwritten(self) -> list[tuple[bytes, bytes]]:
        """What has no newline yet, by stream."""
        return list(self._rests.items())

    def flush(self) -> None:
        """Writes what has no newline yet; at the end of the container."""
        for stream, rest in self._rests.items():
            if rest:
                self._append(stream, rest)
        self._rests.clear()

    def _append(self, stream: bytes, body: bytes) -> None:
        if self._rotate_at is not None and self.size >= self._rotate_at:
            try:
                self._rotate()
                self._rotate_at = self._max_size
            except OSError as error:  # nothing is lost: the file takes more than it should until a later try
                if self._rotate_at == self._max_size and self._on_stuck is not None:
                    self._on_stuck(error)
                self._rotate_at = self.size + PIECE
        tail = b'","stream":"' + stream + b'",' + self._attrs + b'"time":"' + self._clock.stamp() + b'"}\n'
        whole = body.endswith(b"\n")
        escaped = escape(body[:-1] if whole else body)
        newline = b"\\n" + tail
        text = b'{"log":"' + escaped.replace(b"\n", newline + b'{"log":"') + (newline if whole else tail)
        view = memoryview(text)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:  # a full disk took a part: no line is left torn
            os.ftruncate(self._file, max(0, os.fstat(self._file).st_size - (len(text) - len(view))))
            raise
        self.size += len(text)

    def _rotate(self) -> None:
        """Every file takes the next older name, as far as the first that is free. Raises OSError.

        The new file is there before the old one is let go, and the old one is complete once the new one has its name;
        readers rely on that. What failed halfway is gone on with at the next call.
        """
        fresh = f"{self.path}.new"
        descriptor = open_log(fresh)
        lock = -1
        try:
            if self._on_rotated is not None:
                lock = lock_names(self.path)
            self._shift()
            os.replace(fresh, self.path)
        except OSError:
            os.close(descriptor)
            raise
        finally:
            if lock >= 0:
                os.close(lock)
        old = self._file
        self._use(descriptor)
        os.close(old)
        if self._on_rotated is not None:
            self._on_rotated()

    def _shift(self) -> None:
        number = 0
        while number < self._max_files - 1 and self._exists(number):
            number += 1
        for older in range(number, 0, -1):
            if self._on_rotated is None or older == 1:
                os.replace(self._name(older - 1), self._name(older))
                continue
            for suffix in ("", ".gz"):  # one of them is there, or both for a moment
                _replace(self._name(older - 1) + suffix, self._name(older) + suffix)

    def _exists(self, number: int) -> bool:
        name = self._name(number)
        return os.path.exists(name) or (self._on_rotated is not None and os.path.exists(f"{name}.gz"))

    def _name(self, number: int) -> str:
        return f"{self.path}.{number}" if number else self.path

    def close(self) -> None:
        os.close(self._file)


def _replace(source: str, target: str) -> None:
    """Moves a file, or takes away what it would have replaced where there is none."""
    try:
        os.replace(source, target)
    except FileNotFoundError:
        try:
            os.unlink(target)
        except FileNotFoundError:
            pass


def lock_names(path: str) -> int:
    """Until the descriptor is closed nobody else renames files of this log (flock(2) on their directory)."""
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(directory, fcntl.LOCK_EX)
    return directory


class NullWriter:
    """Logging driver `none`."""

    size = 0

    def write(self, stream: bytes, data: bytes) -> None:
        """Nothing is kept."""

    def unwritten(self) -> list[tuple[bytes, bytes]]:
        """Nothing waits to be kept."""
        return []

    def flush(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is open."""
