"""Reading a spool from where it was sent up to: lines as entries, each with the place behind it."""

from __future__ import annotations

import re
import secrets
import zlib

from kist.logs.files import LogChain, LogFile
from kist.logs.reader import unescape
from kist.model.timestamp import nanoseconds
from kist.shipper.driver import Entry, Partial
from kist.shipper.spool import Position, Spool

_LINE = re.compile(
    rb'\{"log":"((?:[^"\\]|\\.)*)","stream":"(stdout|stderr)",(?:"attrs":\{[^\n]*?\},)?"time":"([^"]+)"\}'
)
_HEAD = 256


class Batch:
    """Entries of one file in their order. `ends[i]` is the offset behind entry i."""

    def __init__(self, file: LogFile, head: bytes, partials: dict[str, tuple[str, int]]) -> None:
        self._file, self._head = file, head
        self._before = partials
        self.entries: list[Entry] = []
        self.ends: list[int] = []

    def position(self, count: int) -> Position:
        """Where it stands when the first `count` entries are sent."""
        partials = dict(self._before)
        for entry in self.entries[:count]:
            partials.pop(entry.source, None)
            if entry.partial is not None and not entry.partial.last:
                partials[entry.source] = (entry.partial.id, entry.partial.ordinal)
        offset = self.ends[count - 1]
        return Position(self._file.origin, offset, zlib.crc32(self._head[:offset]), partials)


class Follower:
    """`lost` is set when the place to go on from was not there any more."""

    def __init__(self, spool: Spool) -> None:
        self._chain = LogChain(spool.log)
        self._rest = b""
        self._offset = 0
        self._head = b""
        self._partials: dict[str, tuple[str, int]] = {}
        self.lost = False
        position = spool.position()
        if position is not None:
            self._find(position)

    def _find(self, position: Position) -> None:
        for file in self._chain.all():
            head = _head(file)
            found = file.origin == position.inode and zlib.crc32(head[: position.offset]) == position.head
            if self._chain.file is None and found:
                file.seek(position.offset)
                self._chain.use(file)
                self._offset, self._head = position.offset, head[: position.offset]
                self._partials = dict(position.partials)
            else:
                file.close()
        self.lost = self._chain.file is None

    @property
    def inode(self) -> int:
        """Of the file at hand; -1 before the first."""
        return self._chain.file.origin if self._chain.file is not None else -1

    def next(self) -> Batch | None:
        """What is there behind the last one, as far as one read; None when that is nothing."""
        while True:
            data = self._chain.read()
            if not data:
                if self._go_on():
                    continue
                return None
            if len(self._head) < _HEAD:
                self._head += data[: _HEAD - len(self._head)]
            batch = self._take(self._rest + data)
            if batch.entries:
                return batch

    def _go_on(self) -> bool:
        leaves = self._chain.leaves_file
        if self._rest:  # a line that is not whole yet, or that a full disk will take back
            self._head = self._head[: self._offset]
            self._chain.back(len(self._rest))
            self._rest = b""
        before = self._chain.file
        went = self._chain.go_on()
        if leaves or self._chain.file is not before:
            self._offset, self._head = 0, b""
        return went

    def _take(self, data: bytes) -> Batch:
        assert self._chain.file is not None
        batch = Batch(self._chain.file, self._head, dict(self._partials))
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            self._offset += len(line) + 1
            match = _LINE.match(line)
            if match is not None:
                batch.entries.append(self._entry(unescape(match[1]), match[2].decode(), match[3].decode()))
                batch.ends.append(self._offset)
        return batch

    def _entry(self, text: bytes, source: str, stamp: str) -> Entry:
        whole = text.endswith(b"\n")
        before = self._partials.pop(source, None)
        partial = None
        if before is not None or not whole:
            name, ordinal = before or (secrets.token_hex(32), 0)
            partial = Partial(name, ordinal + 1, whole)
            if not whole:
                self._partials[source] = (name, ordinal + 1)
        return Entry(text[:-1] if whole else text, source, nanoseconds(stamp), partial)

    def close(self) -> None:
        self._chain.close()


def _head(file: LogFile) -> bytes:
    head = b""
    while len(head) < _HEAD and (data := file.read()):
        head += data
    file.seek(0)
    return head[:_HEAD]
