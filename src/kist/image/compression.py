"""Compressed streams: known by their first bytes, read as plain ones (isal for gzip, zstandard)."""

from __future__ import annotations

import bz2
import hashlib
import io
import lzma
import zlib
from typing import Any, BinaryIO, cast

import zstandard
from isal import igzip

from kist.model.errors import InvalidParameter

GZIP, ZSTD, BZIP2, XZ = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\x00"
_HEAD = 6
_CHUNK = 1 << 18


class _Prefixed(io.RawIOBase):
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count] = self._head[:count]
            self._head = self._head[count:]
            return count
        data = self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def kind(head: bytes) -> str:
    """`gzip`, `zstd`, `bzip2`, `xz`, or "" for what is not compressed."""
    for magic, name in ((GZIP, "gzip"), (ZSTD, "zstd"), (BZIP2, "bzip2"), (XZ, "xz")):
        if head.startswith(magic):
            return name
    return ""


class _Plain:
    """Reads of a decompressor, whose errors name the data as their cause."""

    def __init__(self, stream: BinaryIO, kind: str) -> None:
        self._stream, self._kind = stream, kind

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise InvalidParameter(f"cannot decompress ({self._kind}): {error}") from error


def decompressed(stream: BinaryIO) -> BinaryIO:
    """The plain content of a stream, whatever it is compressed with. Reading raises InvalidParameter for bad data."""
    head = b""
    while len(head) < _HEAD and (more := stream.read(_HEAD - len(head))):
        head += more
    whole = io.BufferedReader(_Prefixed(head, stream), _CHUNK)
    found = kind(head)
    if found == "gzip":
        inner: Any = igzip.IGzipFile(fileobj=whole, mode="rb")  # type: ignore[no-untyped-call]  # it has none
    elif found == "zstd":
        inner = zstandard.ZstdDecompressor().stream_reader(whole, read_across_frames=True)
    elif found == "bzip2":
        inner = bz2.BZ2File(whole)
    elif found == "xz":
        inner = lzma.LZMAFile(whole)
    else:
        return cast(BinaryIO, whole)
    return cast(BinaryIO, _Plain(inner, found))


class Hashed:
    """Passes reads through and hashes what passes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        return data

    def drain(self) -> None:
        """To the end: what follows the archive belongs to the digest too."""
        while self.read(_CHUNK):
            continue

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"
