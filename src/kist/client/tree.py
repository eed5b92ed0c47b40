"""Local files as a tar, and a tar as local files, with the rules of `docker cp`.

What comes out of a container is hostile: no member may leave the directory, through a link of the same archive either.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
from collections.abc import Callable, Iterator
from typing import Any, cast

from kist.model.errors import KistError

_BUFFER = 1 << 16


class Reader:
    """Chunks as a file that tarfile reads. `seen` is told how many bytes came."""

    def __init__(self, chunks: Iterator[bytes], seen: Callable[[int], None] = lambda count: None) -> None:
        self._chunks, self._seen = chunks, seen
        self._rest = b""

    def read(self, size: int) -> bytes:
        found = [self._rest]
        count = len(self._rest)
        while count < size and (chunk := next(self._chunks, b"")):
            self._seen(len(chunk))
            found.append(chunk)
            count += len(chunk)
        data = b"".join(found)
        self._rest = data[size:]
        return data[:size]


def pack(path: str, name: str) -> Iterator[bytes]:
    """A file or a directory with all below it, as `name`. Raises OSError."""
    waiting: list[bytes] = []
    size = 0
    for piece in _members(path, name):
        waiting.append(piece)
        size += len(piece)
        if size >= _BUFFER:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join([*waiting, bytes(2 * tarfile.BLOCKSIZE)])


def _members(top: str, shown: str) -> Iterator[bytes]:
    links: dict[tuple[int, int], str] = {}
    pending = [(top, shown)]
    while pending:
        path, name = pending.pop()
        status = os.lstat(path)
        if stat.S_ISSOCK(status.st_mode):
            continue
        info = _header(path, name, status)
        if status.st_nlink > 1 and not info.isdir():
            first = links.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, first, 0
        if info.isreg():
            yield from _file(path, info)
            continue
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if info.isdir():
            names = sorted(os.listdir(path), key=os.fsencode, reverse=True)
            pending += [(os.path.join(path, one), f"{name}/{one}") for one in names]


def _header(path: str, name: str, status: os.stat_result) -> tarfile.TarInfo:
    kinds = {
        stat.S_IFREG: tarfile.REGTYPE, stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE,
        stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE, stat.S_IFIFO: tarfile.FIFOTYPE,
    }  # fmt: skip
    info = tarfile.TarInfo(name)
    info.type, info.mode = kinds[stat.S_IFMT(status.st_mode)], stat.S_IMODE(status.st_mode)
    info.uid, info.gid, info.mtime = status.st_uid, status.st_gid, int(status.st_mtime)
    info.size = status.st_size if info.isreg() else 0
    if info.issym():
        info.linkname = os.readlink(path)
    if info.ischr() or info.isblk():
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    if info.isreg():
        try:
            value = os.getxattr(path, "security.capability")
        except OSError:
            return info
        info.pax_headers = {"SCHILY.xattr.security.capability": value.decode("utf-8", "surrogateescape")}
    return info


def _file(path: str, info: tarfile.TarInfo) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        left = info.size
        while left and (chunk := file.read(min(left, _BUFFER))):
            yield chunk
            left -= len(chunk)
    if left:
        raise KistError(f"{path}: it became shorter while it was read")
    yield bytes(-info.size % tarfile.BLOCKSIZE)


def unpack(stream: Reader, directory: str, rename: Callable[[str], str]) -> None:
    """Members under their new names below a directory, owned by whoever calls. Raises KistError, OSError."""
    links: set[str] = set()
    times: list[tuple[str, float]] = []
    try:
        with tarfile.open(fileobj=cast(Any, stream), mode="r|") as archive:
            archive.errorlevel = 2
            for member in archive:
                name = _inside(rename(member.name), directory)
                if not name:
                    continue
                if member.islnk():
                    member.linkname = _inside(rename(member.linkname), directory)
                _check_parents(name, links)
                member.name = name
                _one(archive, member, directory)
                (links.add if member.issym() else links.discard)(name)
                if member.isdir():
                    times.append((os.path.join(directory, name), member.mtime))
                archive.members = []  # type: ignore[attr-defined]  # a streamed archive remembers every member
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise KistError(f"archive/tar: {error}") from error
    for path, time in reversed(times):
        os.utime(path, (time, time))


def _one(archive: tarfile.TarFile, member: tarfile.TarInfo, directory: str) -> None:
    path = os.path.join(directory, member.name)
    try:
        there = stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        there = None
    if there is True and not member.isdir():
        raise KistError(f'cannot overwrite directory "{path}" with non-directory "{directory}"')
    if there is False and member.isdir():
        raise KistError(f'cannot overwrite non-directory "{path}" with directory "{directory}"')
    if there is False:
        os.unlink(path)
    if there and member.isdir():
        os.chmod(path, member.mode & 0o7777)
        return
    mine = member.replace(uid=None, gid=None, uname=None, gname=None, deep=False)  # type: ignore[arg-type]
    archive.extract(mine, directory, filter=lambda one, _: one)


def _inside(name: str, directory: str) -> str:
    clean = posixpath.normpath(name.lstrip("/") or ".")
    if clean == ".." or clean.startswith("../"):
        raise KistError(f'"{name}" is outside of "{directory}"')
    return "" if clean == "." else clean


def _check_parents(name: str, links: set[str]) -> None:
    parent = posixpath.dirname(name)
    while parent:
        if parent in links:
            raise KistError(f'invalid archive: "{name}" is below a symbolic link of the same archive')
        parent = posixpath.dirname(parent)
