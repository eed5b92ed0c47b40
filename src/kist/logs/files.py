"""The files of one log: the newest has no number, older ones have rising numbers, and `.gz` when they are compressed.

A rotation or the compressor may rename files at any moment. A file is known by its inode, which cannot be another's
while it is open here, and its place by the names of the others; a compressed one says in its header which inode it was.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from isal import isal_zlib

CHUNK = 1 << 16  # what is read at once keeps everybody else waiting
GZIP = ".gz"
STDERR = b'","stream":"stderr",'  # in a line: raw quotes are outside of what was written
# RFC 1952: magic, deflate, a name follows, no time, no extra flags, unix. The name is the inode's number.
HEAD = b"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x03"
TAIL = struct.Struct("<II")  # CRC-32 and size of what was compressed

# A compressed log is many gzip members one behind the other, each beginning with a line, and an empty one that has the
# index of the others in its extra field (RFC 1952, 2.3.1.1): so its end is found without what comes before.
_INDEX_HEAD = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\x03"
_INDEX_TAIL = b"\x03\x00" + bytes(8)  # nothing, compressed
_FIELD = struct.Struct("<H2sH")  # length of all, name of the only part, length of that
_NAME = b"ki"
_ENTRY = struct.Struct("<QII")
_LENGTH = struct.Struct("<I")  # of the part; its last bytes, so that the index is found from the file's end
MOST_MEMBERS = (0xFFFF - 4 - _LENGTH.size) // _ENTRY.size


class Member(NamedTuple):
    """A piece of a compressed log: where it begins in the file, and its lines, of which so many are of stderr."""

    offset: int
    lines: int
    stderr: int


def pack_index(members: list[Member]) -> bytes:
    """The last member of a compressed log; of MOST_MEMBERS others at most."""
    entries = b"".join(_ENTRY.pack(*member) for member in members)
    size = len(entries) + _LENGTH.size
    return _INDEX_HEAD + _FIELD.pack(size + 4, _NAME, size) + entries + _LENGTH.pack(size) + _INDEX_TAIL


def read_index(descriptor: int) -> list[Member]:
    """Nothing for a file without one: of an earlier version, or of somebody else."""
    end = os.fstat(descriptor).st_size - len(_INDEX_TAIL) - _LENGTH.size
    if end < 0:
        return []
    last = os.pread(descriptor, _LENGTH.size + len(_INDEX_TAIL), end)
    (size,) = _LENGTH.unpack_from(last)
    begin = end + _LENGTH.size - size - _FIELD.size - len(_INDEX_HEAD)
    if not last.endswith(_INDEX_TAIL) or size > 0xFFFF or begin < 0:
        return []
    data = os.pread(descriptor, end - begin, begin)
    if not data.startswith(_INDEX_HEAD + _FIELD.pack(size + 4, _NAME, size)):
        return []
    return [Member(*one) for one in _ENTRY.iter_unpack(data[len(_INDEX_HEAD) + _FIELD.size :])]


class LogFile:
    """One open file of a log; offsets are those of the plain text."""

    def __init__(self, descriptor: int, packed: bool) -> None:
        self.descriptor, self.packed = descriptor, packed
        status = os.fstat(descriptor)
        self.device, self.inode, self.modified = status.st_dev, status.st_ino, status.st_mtime_ns
        self.origin = _origin(descriptor) if packed else self.inode
        self.limit: int | None = None  # what comes behind that is not read
        self._inflate = isal_zlib.decompressobj(wbits=31)
        self._ahead = b""

    def read(self) -> bytes:
        """The next bytes; b"" when there are none now."""
        if not self.packed:
            return os.read(self.descriptor, self._at_once())
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        return self._unpack()

    def _at_once(self) -> int:
        if self.limit is None:
            return CHUNK
        left = self.size - os.lseek(self.descriptor, 0, os.SEEK_CUR)
        return max(0, min(CHUNK, left))  # somebody may have cut it off before where this is

    @property
    def size(self) -> int:
        """Of a plain file, as far as it is read."""
        present = os.fstat(self.descriptor).st_size
        return present if self.limit is None else min(present, self.limit)

    def _unpack(self) -> bytes:
        rest = b""
        while True:
            if self._inflate.eof:  # of one member
                rest = self._inflate.unused_data
                self._inflate = isal_zlib.decompressobj(wbits=31)
            data = self._inflate.unconsumed_tail or rest or os.read(self.descriptor, CHUNK)
            rest = b""
            if not data:
                return b""
            try:
                text: bytes = self._inflate.decompress(data, CHUNK)
            except isal_zlib.error:  # type: ignore[misc]  # has no stubs
                return b""  # somebody else's, or broken: what is newer is still read
            if text:
                return text

    def seek(self, offset: int) -> None:
        if not self.packed:
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            return
        self.seek_member(0)
        while offset > 0 and (data := self._unpack()):
            offset -= len(data)
            self._ahead = data[offset:] if offset < 0 else b""

    def seek_member(self, offset: int) -> None:
        """Goes on with the member that begins there in a compressed file."""
        os.lseek(self.descriptor, offset, os.SEEK_SET)
        self._inflate, self._ahead = isal_zlib.decompressobj(wbits=31), b""

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
    """The files of a log from one place on, to the end of the newest, and on as the log grows. Without `follow` to the
    end that it has now: a container that goes on writing would never let a reader come to another.
    """

    def __init__(self, path: str, *, follow: bool = True) -> None:
        self._path = path
        self._end: LogFile | None = None
        self._ends = not follow
        if not follow:
            self._end = next(iter(open_files(path)), None)
            if self._end is not None:
                self._end.limit = self._end.size
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
        if self._ends and self._at_end():
            return False
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

    def _at_end(self) -> bool:
        return self._end is None or (self.file is not None and self._is_end(self.file))

    def _is_end(self, file: LogFile) -> bool:
        """Whether it is the last to be read, or its compressed copy: not of an earlier file with that inode number."""
        if self._end is None or (file.device, file.origin) != (self._end.device, self._end.inode):
            return False
        last = os.fstat(self._end.descriptor)
        return not file.packed or (not last.st_nlink and file.modified == last.st_mtime_ns)

    def _limited(self, file: LogFile) -> LogFile:
        if self._end is not None and (file.device, file.inode) == (self._end.device, self._end.inode):
            file.limit = self._end.limit
        return file

    def use(self, file: LogFile) -> None:
        if self.file is not None:
            self.file.close()
        self.file = file

    def _open_newer(self) -> LogFile | None:
        """The file after the one at hand, or the oldest where that is none any more; None if the newest is open."""
        newer, met_end = None, False
        for candidate in open_files(self._path):
            if self.file is not None and candidate.is_at(self.file):
                candidate.close()
                break
            met_end = met_end or self._is_end(candidate)
            if newer is not None:
                newer.close()
            newer = candidate
        if newer is not None and self._ends and not met_end:  # rotated away: what there is has been written since
            newer.close()
            return None
        return newer and self._limited(newer)

    def all(self) -> list[LogFile]:
        """Every file once, newest first, for the caller to close or `use`."""
        files: dict[tuple[int, int], LogFile] = {}
        for file in open_files(self._path):
            key = (file.device, file.origin)
            met = files.get(key)
            if met is not None and (met.inode == file.inode or not os.fstat(met.descriptor).st_nlink):
                files.pop(key).close()  # it was renamed or compressed meanwhile: its place is the later one
            files[key if key not in files else (file.device, file.inode)] = file
        return [self._limited(file) for file in self._without_newer(list(files.values()))]

    def _without_newer(self, files: list[LogFile]) -> list[LogFile]:
        """Those up to the end; what was begun since is closed."""
        if not self._ends:
            return files
        while files and not self._is_end(files[0]):
            files.pop(0).close()
        return files

    def close(self) -> None:
        for file in (self.file, self._next, self._end):
            if file is not None:
                file.close()
        self.file = self._next = None
