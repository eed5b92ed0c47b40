"""Unpacking a client's archive into a container, with the rules of `docker cp`.

The container may run and is hostile: every parent is found in its root, links in it included, and what is made is
changed by its own descriptor or by its name in a directory, never through a link.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from kist.image.compression import decompressed
from kist.kernel import path
from kist.kernel.tree import remove_tree
from kist.model.errors import InvalidParameter
from kist.snapshot.copy import held
from kist.snapshot.reader import Piece, members
from kist.snapshot.unpack import XATTR, Directories, write_at

_CHUNK = 1 << 18
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_WITHOUT_ATTRIBUTES = (errno.EOPNOTSUPP, errno.EPERM)
_KINDS = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}


class Rules(msgspec.Struct, frozen=True):
    """`keep_kinds`: a directory is not replaced by something else, nor the other way. `owner` of everything, where it
    is not the archive's. `top`: the directory itself becomes as the archive says, too.
    """

    keep_kinds: bool = False
    owner: tuple[int, int] | None = None
    top: bool = False


def extract(root: int, place: str, stream: BinaryIO, rules: Rules) -> None:
    """Unpacks a tar, compressed or not, into a directory of the container given without links. Takes `root` over.

    Raises InvalidParameter with Docker's texts, OSError.
    """
    extractor = _Extractor(root, place, rules)
    try:
        head: bytes = stream.peek(tarfile.BLOCKSIZE)  # type: ignore[attr-defined]  # it is buffered
        if not head:
            return  # an empty body is an empty archive
        # A tar may begin as if it were compressed: with a file of such a name.
        plain = stream if head[257:262] == b"ustar" else decompressed(stream)
        for member, content in members(plain):
            extractor.add(member, content)
        extractor.set_times()
        while plain.read(_CHUNK):  # what pads the archive
            continue
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise InvalidParameter(f"archive/tar: invalid tar header: {error}") from error
    finally:
        extractor.close()


class _Extractor:
    def __init__(self, root: int, place: str, rules: Rules) -> None:
        self._directories = Directories(root)
        self._place, self._rules = place.rstrip("/"), rules
        self._times: dict[str, float] = {}
        self._top: tarfile.TarInfo | None = None

    def close(self) -> None:
        self._directories.close()

    def add(self, member: tarfile.TarInfo, content: Iterator[Piece]) -> None:
        self._directories.next_member()
        name = self._inside(member.name)
        if not name:
            self._top = member if member.isdir() else self._top
            return  # the directory itself is there
        parent, _, base = name.rpartition("/")
        directory = self._directories.get(f"{self._place}/{parent}")
        if member.isreg():
            self._file(member, content, directory, base, name)
            return
        self._make_room(directory, base, member, name)
        if member.isdir():
            self._directory(member, directory, base)
            self._times[name] = member.mtime
        elif member.issym():
            self._check_link(member, name)
            os.symlink(member.linkname, base, dir_fd=directory)
            os.chown(base, *self._owner(member), dir_fd=directory, follow_symlinks=False)
            os.utime(base, ns=_times(member.mtime), dir_fd=directory, follow_symlinks=False)
        elif member.islnk():
            self._link(member, directory, base)
        elif member.type in _KINDS:
            self._node(member, directory, base)
        else:
            raise InvalidParameter(f"unhandled tar header type {member.type[0]}")

    def set_times(self) -> None:
        """Of directories, last: what was made in them changed them."""
        for name, time in self._times.items():
            self._directories.next_member()
            parent, _, base = name.rpartition("/")
            try:
                directory = self._directories.get(f"{self._place}/{parent}")
                os.utime(base, ns=_times(time), dir_fd=directory, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):  # somebody took it away
                continue
        if self._top is not None and self._rules.top:
            place = f"/proc/self/fd/{self._directories.get(self._place)}"
            os.chown(place, *self._owner(self._top))
            os.chmod(place, self._top.mode & 0o7777)
            os.utime(place, ns=_times(self._top.mtime))

    def _inside(self, name: str) -> str:
        """Relative to the place. Raises InvalidParameter when it climbs out."""
        clean = posixpath.normpath(name.lstrip("/") or ".")
        if clean == ".." or clean.startswith("../"):
            raise InvalidParameter(f'"{name}" is outside of "{self._place or "/"}"')
        return "" if clean == "." else clean

    def _check_link(self, member: tarfile.TarInfo, name: str) -> None:
        here = posixpath.dirname(f"{self._place}/{name}")
        target = posixpath.normpath(f"{here}/{member.linkname}")
        if not f"{target}/".startswith(f"{self._place}/"):
            raise InvalidParameter(f'invalid symlink "{self._place}/{name}" -> "{member.linkname}"')

    def _make_room(self, directory: int, base: str, member: tarfile.TarInfo, name: str) -> None:
        """What is there goes, unless a directory is to be merged with it."""
        try:
            kind = stat.S_IFMT(os.stat(base, dir_fd=directory, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return
        there = kind == stat.S_IFDIR
        shown, place = f"{self._place}/{name}", self._place or "/"
        if self._rules.keep_kinds and there and not member.isdir():
            raise InvalidParameter(f'cannot overwrite directory "{shown}" with non-directory "{place}"')
        if self._rules.keep_kinds and not there and member.isdir():
            raise InvalidParameter(f'cannot overwrite non-directory "{shown}" with directory "{place}"')
        if there and member.isdir():
            return
        if there:
            remove_tree(directory, base)
        else:
            os.unlink(base, dir_fd=directory)
        if kind != stat.S_IFREG:
            self._directories.forget()  # any name may lead elsewhere now

    def _file(self, member: tarfile.TarInfo, content: Iterator[Piece], directory: int, base: str, name: str) -> None:
        try:
            file = os.open(base, _CREATE, member.mode & 0o777, dir_fd=directory)
        except FileExistsError:
            self._make_room(directory, base, member, name)
            file = os.open(base, _CREATE, member.mode & 0o777, dir_fd=directory)
        with held(file):
            for offset, chunk in content:
                write_at(file, chunk, offset)
            if member.issparse():
                os.ftruncate(file, member.size)
            self._attributes(member, file)
            os.utime(file, ns=_times(member.mtime))

    def _directory(self, member: tarfile.TarInfo, directory: int, base: str) -> None:
        try:
            os.mkdir(base, 0o700, dir_fd=directory)
        except FileExistsError:
            pass
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        with held(os.open(base, flags, dir_fd=directory)) as made:
            self._attributes(member, made)

    def _link(self, member: tarfile.TarInfo, directory: int, base: str) -> None:
        clean = posixpath.normpath(f"/{member.linkname}").lstrip("/")
        if posixpath.normpath(member.linkname).startswith(".."):
            raise InvalidParameter(f'invalid hardlink "{self._place}/{clean}" -> "{member.linkname}"')
        parent, _, name = clean.rpartition("/")
        source = self._directories.get(f"{self._place}/{parent}")
        os.link(name, base, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)

    def _node(self, member: tarfile.TarInfo, directory: int, base: str) -> None:
        kind = _KINDS[member.type]
        device = 0 if kind == stat.S_IFIFO else os.makedev(member.devmajor, member.devminor)
        os.mknod(base, kind | 0o600, device, dir_fd=directory)
        with held(os.open(base, _NAME, dir_fd=directory)) as made:
            status = os.fstat(made)
            if stat.S_IFMT(status.st_mode) != kind or status.st_rdev != device:
                raise OSError(errno.EBUSY, "replaced while it was made", base)
            here = f"/proc/self/fd/{made}"  # the node itself, whatever its name leads to now
            os.chown(here, *self._owner(member))
            os.chmod(here, member.mode & 0o7777)
            os.utime(here, ns=_times(member.mtime))

    def _owner(self, member: tarfile.TarInfo) -> tuple[int, int]:
        return self._rules.owner or (member.uid, member.gid)

    def _attributes(self, member: tarfile.TarInfo, file: int) -> None:
        """Owner first: chown(2) clears set-id bits and capabilities. What is so already costs the journal nothing."""
        status = os.fstat(file)
        changed = False
        if (status.st_uid, status.st_gid) != self._owner(member):
            os.chown(file, *self._owner(member))
            changed = True
        for key, value in member.pax_headers.items():
            if key.startswith(XATTR):
                changed = True
                try:
                    os.setxattr(file, key[len(XATTR) :], value.encode("utf-8", "surrogateescape"))
                except OSError as error:
                    if error.errno not in _WITHOUT_ATTRIBUTES:
                        attribute = key[len(XATTR) :]
                        raise OSError(error.errno, error.strerror, f"{member.name}: {attribute}") from error
        mode = os.fstat(file).st_mode if changed else status.st_mode
        if stat.S_IMODE(mode) != member.mode & 0o7777:
            os.chmod(file, member.mode & 0o7777)


def _times(mtime: float) -> tuple[int, int]:
    stamp = int(mtime * 1_000_000_000) if isinstance(mtime, int) else int(float(mtime) * 1_000_000_000)
    return stamp, stamp


def resolve(root: int, inside: str, *, last: bool = True) -> str:
    """A path without links as the container has it; what is missing stays as it is written. Raises OSError ELOOP.

    With `last` the last component is followed too.
    """
    found: list[str] = []
    pending = path.split(inside)[::-1]
    followed = 0
    while pending:
        part = pending.pop()
        if part == "..":
            found = found[:-1]
            continue
        target = _target(root, "/".join([*found, part])) if last or pending else None
        if target is None:
            found.append(part)
            continue
        followed += 1
        if followed > 255:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), inside)
        if target.startswith("/"):
            found = []
        pending += path.split(target)[::-1]
    return "/" + "/".join(found)


def _target(root: int, inside: str) -> str | None:
    """Where a link leads; None for what is no link, or is not there."""
    try:
        with held(path.open_in_root(root, inside, os.O_PATH | os.O_NOFOLLOW)) as descriptor:
            if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
                return None
            return os.readlink("", dir_fd=descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return None
