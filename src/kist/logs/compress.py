"""Compressing what a rotation left, beside the monitor that goes on writing and rotating.

The work is done into a file without a place in the log; only for its renaming are the log's names locked. A crash
leaves that file, which the next call removes, or a file beside its compressed copy, of which readers take the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from isal import isal_zlib

from kist.logs.files import GZIP, HEAD, MOST_MEMBERS, STDERR, TAIL, Member, oldest, pack_index
from kist.logs.writer import lock_names

_LEVEL = 1  # of 0 to 3
_MEMBER = 1 << 20  # bytes of text, which a tail has to unpack in vain at most
_LINE = 1 << 17  # bytes: few lines are longer


def compress_rotated(path: str, before: int = 0) -> None:
    """Compresses every file of the log but the newest, oldest first, as far as the file of inode `before`.

    Blocks. Raises OSError.
    """
    partial = f"{path}.packing"
    with suppress(FileNotFoundError):
        os.unlink(partial)
    while (number := _oldest_plain(path)) > 0:
        try:
            descriptor = os.open(f"{path}.{number}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # a rotation was faster
        try:
            if os.fstat(descriptor).st_ino == before:
                return
            _pack(descriptor, partial)
            _put_in_place(path, partial, os.fstat(descriptor).st_ino)
        finally:
            os.close(descriptor)


def _oldest_plain(path: str) -> int:
    return next((number for number in range(oldest(path), 0, -1) if os.path.exists(f"{path}.{number}")), 0)


def _pack(source: int, target: str) -> None:
    """A gzip file with the time of the original, and its inode for a name; in members, see `logs.files`."""
    status = os.fstat(source)
    head = HEAD + b"%d\x00" % status.st_ino
    members = []
    with open(target, "xb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o640)) as file:
        for text in _pieces(source, max(_MEMBER, status.st_size // (MOST_MEMBERS - 1))):
            members.append(Member(file.tell(), text.count(b"\n"), text.count(STDERR)))
            deflate = isal_zlib.compressobj(level=_LEVEL, wbits=-15)
            file.write(head + deflate.compress(text) + deflate.flush())
            file.write(TAIL.pack(isal_zlib.crc32(text), len(text) & 0xFFFFFFFF))
        file.write(pack_index(members))
        file.flush()
        os.utime(file.fileno(), ns=(status.st_mtime_ns, status.st_mtime_ns))


def _pieces(source: int, size: int) -> Iterator[bytes]:
    """A file in pieces of at least that many bytes and whole lines."""
    offset, most = 0, size + _LINE
    while data := os.pread(source, most, offset):
        end = data.rfind(b"\n", size - 1) + 1
        if len(data) == most and not end:
            most *= 2
            continue
        piece = data[:end] if len(data) == most else data
        yield piece
        offset += len(piece)


def _put_in_place(path: str, partial: str, inode: int) -> None:
    """Under whatever number the original has by now; nowhere when a rotation has dropped it."""
    lock = lock_names(path)
    try:
        for number in range(oldest(path), 0, -1):
            name = f"{path}.{number}"
            with suppress(FileNotFoundError):
                if os.stat(name, follow_symlinks=False).st_ino == inode:
                    os.rename(partial, name + GZIP)
                    os.unlink(name)
                    return
        os.unlink(partial)
    finally:
        os.close(lock)
