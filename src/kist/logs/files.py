"""The files of one log: the newest has no number, older ones have rising numbers, and `.gz` when they are compressed.

A rotation or the compressor may rename files at any moment. A file is known by its inode, which cannot be another's
while it is open here, and its place by the names of the others; a compressed one says in its header which inode it was.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from itertools import count

from isal import isal_zlib

CHUNK = 1 << 18
GZIP = ".gz"
# RFC 1952: magic, deflate, a name follows, no time, no extra flags, unix. The name is the inode's number.
HEAD = b"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x03"
TAIL = struct.Struct("<II")  # CRC-32 and size of what was compressed


class LogFile:
    """One open file of a log; offsets are those of the plain text."""

    def __init__(self, descriptor: int, packed: bool) -> None:
        self.descriptor, self.packed = descriptor, packed
        status = os.fstat(descriptor)
        self.device, self.inode, self.modified = status.st_dev, status.st_ino, status.st_mtime_ns
        self.origin = _origin(descriptor) if packed else self.inode
        self._inflate = isal_zlib.decompressobj(wbits=31)
        self._ahead = b""

    def read(self) -> bytes:
        """The next bytes; b"" when there are none now."""
        if not self.packed:
            return os.read(self.descriptor, CHUNK)
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        return self._unpack()

    def _unpack(self) -> bytes:
        while not self._inflate.eof:
            data = self._inflate.unconsumed_tail or os.read(self.descriptor, CHUNK)
            if not data:
                break
            try:
                text: bytes = self._inflate.decompress(data, CHUNK)
            except isal_zlib.error:  # type: ignore[misc]  # has no stubs
                break  # somebody else's, or broken: what is newer is still read
            if text:
                return text
        return b""

    def seek(self, offset: int) -> None:
        os.lseek(self.descriptor, 0 if self.packed else offset, os.SEEK_SET)
        if not self.packed:
            return
        self._inflate, self._ahead = isal_zlib.decompressobj(wbits=31), b""
        while offset > 0 and (data := self._unpack()):
            offset -= len(data)
            self._ahead = data[offset:] if offset < 0 else b""

    def give_back(self, data: bytes) -> None:
        """The last of what was read from a compressed file is read again."""
        self._ahead = data

    def is_at(self, other: LogFile) -> bool:
        """Whether this is `other`, which may have no name any more, or older than that."""
        if (self.device, self.inode) == (other.device, other.inode):
            return True
        if self.packed and not other.packed and self.origin == other.inode:
            return True
        status = os.fstat(other.descriptor)
        return not status.st_nlink and self.modified < status.st_mtime_ns

    def close(self) -> None:
        os.close(self.descriptor)


def _origin(descriptor: int) -> int:
    """The inode that a compressed file was; -1 when it does not say."""
    head = os.pread(descriptor, 64, 0)
    name, end, _ = head[len(HEAD) :].partition(b"\x00")
    return int(name) if head.startswith(HEAD) and end and name.isdigit() else -1


def open_files(path: str) -> Iterator[LogFile]:
    """Newest first, for the caller to close. Names only ever move towards older ones, which is the way this goes: a
    file may be met twice, but none that was there is passed over. Of a file and its compressed copy the file is taken.
    """
    for number in count():
        name = f"{path}.{number}" if number else path
        found = _open(name, packed=False) or (_open(name + GZIP, packed=True) if number else None)
        if found is not None:
            yield found
        elif number >= oldest(path):
            return


def _open(name: str, *, packed: bool) -> LogFile | None:
    try:
        return LogFile(os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), packed)
    except FileNotFoundError:
        return None


def oldest(path: str) -> int:
    """The highest number that a file of the log has; 0 when there is none with a number."""
    directory, name = os.path.split(path)
    try:
        suffixes = [one.removeprefix(f"{name}.") for one in os.listdir(directory) if one.startswith(f"{name}.")]
    except FileNotFoundError:
        return 0
    numbers = [suffix.removesuffix(GZIP) for suffix in suffixes]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


class LogChain:
    """The files of a log from one place on, to the end of the newest, and on as the log grows."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.file: LogFile | None = None
        self._next: LogFile | None = None

    def read(self) -> bytes:
        """The next bytes of the file at hand; b"" at its present end."""
        return self.file.read() if self.file is not None else b""

    def back(self, size: int) -> None:
        """The last `size` bytes are read again."""
        if self.file is not None and not self.file.packed:
            os.lseek(self.file.descriptor, -size, os.SEEK_CUR)

    def go_on(self) -> bool:
        """At the end of a file: whether there may be more, in it or in the next newer one."""
        if self._next is not None:
            self.use(self._next)
            self._next = None
            return True
        self._next = self._open_newer()
        if self._next is not None:
            return True  # nothing comes into this one any more, but something may have since its end was met
        if self.file is not None and not self.file.packed and self._was_truncated(self.file):
            self.file.seek(0)
            return True
        return False

    @property
    def leaves_file(self) -> bool:
        """Whether the next `go_on` goes to another file."""
        return self._next is not None

    @staticmethod
    def _was_truncated(file: LogFile) -> bool:
        return os.fstat(file.descriptor).st_size < os.lseek(file.descriptor, 0, os.SEEK_CUR)

    def use(self, file: LogFile) -> None:
        if self.file is not None:
            self.file.close()
        self.file = file

    def _open_newer(self) -> LogFile | None:
        """The file after the one at hand, or the oldest where that is none any more; None if the newest is open."""
        newer = None
        for candidate in open_files(self._path):
            if self.file is not None and candidate.is_at(self.file):
                candidate.close()
                break
            if newer is not None:
                newer.close()
            newer = candidate
        return newer

    def all(self) -> list[LogFile]:
        """Every file once, newest first, for the caller to close or `use`."""
        files: dict[tuple[int, int], LogFile] = {}
        for file in open_files(self._path):
            key = (file.device, file.origin)
            met = files.get(key)
            if met is not None and (met.inode == file.inode or not os.fstat(met.descriptor).st_nlink):
                files.pop(key).close()  # it was renamed or compressed meanwhile: its place is the later one
            files[key if key not in files else (file.device, file.inode)] = file
        return list(files.values())

    def close(self) -> None:
        for file in (self.file, self._next):
            if file is not None:
                file.close()
        self.file = self._next = None
