"""Reading a tar as a stream, with less work per member than tarfile's own way: many small files are what `cp` is for.

tarfile does the rest: pax and GNU headers, sparse files, numbers in base 256.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol, cast

from kist.snapshot.headers import Header

_CHUNK = 1 << 18
Piece = tuple[int, bytes]  # of a file, at an offset: what lies between two is a hole
_PLAIN = frozenset({tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.XHDTYPE})


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Forward:
    """A stream that can be sought forward, which is all that reading a tar wants."""

    def __init__(self, stream: BinaryIO) -> None:
        self._read, self._at = stream.read, 0

    def read(self, size: int) -> bytes:
        data = self._read(size)
        while len(data) < size and (more := self._read(size - len(data))):
            data += more
        self._at += len(data)
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, position: int) -> None:
        """Raises ReadError for a way back."""
        left = position - self._at
        if left < 0:
            raise tarfile.ReadError("a stream cannot be read twice")
        while left and (data := self.read(min(left, _CHUNK))):
            left -= len(data)


class _Member(Header):
    """Plain ustar headers at once, everything else by tarfile."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
        block = bytes(buf)
        if block[257:262] != b"ustar" or block[156:157] not in _PLAIN or block[345:346] != b"\0":
            return super().frombuf(buf, encoding, errors)
        member = cls()
        try:
            if int(block[148:156].strip(b" \0"), 8) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
                raise ValueError
            member.mode, member.uid, member.gid = _octal(block[100:108]), _octal(block[108:116]), _octal(block[116:124])
            member.size, member.mtime = _octal(block[124:136]), _octal(block[136:148])
        except ValueError:
            return super().frombuf(buf, encoding, errors)
        member.chksum = 0
        member.name, member.linkname = _text(block[:100], encoding, errors), _text(block[157:257], encoding, errors)
        member.type = block[156:157]
        if member.isdir():
            member.name = member.name.rstrip("/")
        elif member.isreg() and member.name.endswith("/"):
            return super().frombuf(buf, encoding, errors)
        return member


def _octal(field: bytes) -> int:
    """Raises ValueError for what is no octal number."""
    digits = field.partition(b"\0")[0].strip(b" ")
    return int(digits, 8) if digits else 0


def _text(field: bytes, encoding: str, errors: str) -> str:
    return field.partition(b"\0")[0].decode(encoding, errors)


def members(stream: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, Iterator[Piece]]]:
    """Every member with its content, to be read before the next. Raises tarfile.TarError, ValueError, EOFError."""
    source = Forward(stream)
    with tarfile.TarFile(fileobj=cast(Any, source), mode="r", tarinfo=_Member, errorlevel=0) as archive:
        for member in archive:
            yield member, content(member, source)
            archive.members = []  # type: ignore[attr-defined]  # every member is remembered otherwise


def content(member: tarfile.TarInfo, source: Readable) -> Iterator[Piece]:
    """Of the member that `source` has just come to. Raises ReadError."""
    if not member.isreg():
        return
    for offset, size in _extents(member):
        end = offset + size
        while offset < end:
            chunk = source.read(min(end - offset, _CHUNK))
            if not chunk:
                raise tarfile.ReadError("unexpected end of data")
            yield offset, chunk
            offset += len(chunk)


def _extents(member: tarfile.TarInfo) -> list[tuple[int, int]]:
    """(offset, size) of what a file has that is no hole. Raises ReadError for a map that cannot be."""
    if not member.issparse():
        return [(0, member.size)]
    found = [(offset, size) for offset, size in cast(list[tuple[int, int]], member.sparse) if size]
    at = 0
    for offset, size in found:
        if offset < at or size < 0 or offset + size > member.size:
            raise tarfile.ReadError("invalid map of a sparse file")
        at = offset + size
    return found
