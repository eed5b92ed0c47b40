"""Unpacking a layer: a tar stream becomes files below a directory, nothing outside of it (OCI image spec, layer.md).

Names in a tar are hostile: each parent is opened in the root with openat2, and the last component is handled by its
name in that directory, never followed.
"""

from __future__ import annotations

import enum
import os
import stat
import tarfile
from collections import OrderedDict
from typing import BinaryIO, cast

from kist.kernel import path
from kist.kernel.tree import remove_tree
from kist.model.errors import InvalidParameter
from kist.snapshot.headers import Header
from kist.snapshot.reader import content

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
XATTR = "SCHILY.xattr."
_CACHED_DIRECTORIES = 64


class Whiteouts(enum.Enum):
    """What a whiteout becomes: a device 0:0 for overlayfs, or the removal of what it hides."""

    OVERLAY = enum.auto()
    DELETE = enum.auto()


class Directories:
    """Open directories below the root by name, the least recently used closed first. What `get` gave is open until
    `next_member`.
    """

    def __init__(self, root: int) -> None:
        """Takes the descriptor over."""
        self.root = root
        self._open: OrderedDict[str, int] = OrderedDict()
        self._forgotten: list[int] = []

    def get(self, name: str) -> int:
        found = self._open.get(name)
        if found is not None:
            self._open.move_to_end(name)
            return found
        descriptor = path.make_directories(self.root, name)
        self._open[name] = descriptor
        if len(self._open) > _CACHED_DIRECTORIES:
            self._forgotten.append(self._open.popitem(last=False)[1])
        return descriptor

    def forget(self) -> None:
        """A directory or a link went: any name may lead elsewhere now."""
        self._forgotten += self._open.values()
        self._open.clear()

    def next_member(self) -> None:
        while self._forgotten:
            os.close(self._forgotten.pop())

    def close(self) -> None:
        self.forget()
        self.next_member()
        os.close(self.root)


def clean_name(name: str) -> str:
    """A member's name relative to the root, "" for the root itself. Raises InvalidParameter when it climbs out."""
    parts = path.split(name)
    if ".." in parts:
        raise InvalidParameter(f"invalid layer: {name!r} leads out of the root")
    return "/".join(parts)


def apply_tar(root: str, stream: BinaryIO, whiteouts: Whiteouts) -> int:
    """Unpacks a layer over `root`; bytes of its regular files. Raises InvalidParameter, OSError."""
    directories = Directories(os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    times: dict[str, tarfile.TarInfo] = {}
    made: set[str] = set()
    size = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=Header, bufsize=1 << 18) as archive:
            archive.errorlevel = 0
            for member in archive:
                directories.next_member()
                name = clean_name(member.name)
                parent, _, base = name.rpartition("/")
                if base.startswith(WHITEOUT):
                    _white_out(directories, parent, base, whiteouts, made)
                    continue
                _extract(archive, member, directories, parent, base)
                if member.isdir():
                    times[name] = member
                made.add(name)
                size += member.size if member.isreg() else 0
                archive.members = []  # type: ignore[attr-defined]  # a streamed archive remembers every member otherwise
        for name, member in sorted(times.items(), reverse=True):
            directories.next_member()
            _set_times(directories, name, member)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:  # ValueError: NUL in a name, a wild time
        raise InvalidParameter(f"invalid tar: {error}") from error
    finally:
        directories.close()
    return size


def _white_out(directories: Directories, parent: str, base: str, whiteouts: Whiteouts, made: set[str]) -> None:
    directory = directories.get(parent)
    if base == OPAQUE:
        if whiteouts is Whiteouts.OVERLAY:
            os.setxattr(f"/proc/self/fd/{directory}", "trusted.overlay.opaque", b"y")
            return
        prefix = f"{parent}/" if parent else ""
        for name in os.listdir(f"/proc/self/fd/{directory}"):
            if prefix + name not in made:
                _remove(directories, directory, name)
        return
    name = base[len(WHITEOUT) :]
    if name in ("", ".", ".."):
        raise InvalidParameter(f"invalid layer: whiteout {base!r}")
    _remove(directories, directory, name)
    if whiteouts is Whiteouts.OVERLAY:
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=directory)


def _remove(directories: Directories, directory: int, name: str) -> None:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        remove_tree(directory, name)
    else:
        os.unlink(name, dir_fd=directory)
    if stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode):
        directories.forget()


def _extract(
    archive: tarfile.TarFile, member: tarfile.TarInfo, directories: Directories, parent: str, base: str
) -> None:
    if not base:
        _attributes_of_root(directories, member)
        return
    directory = directories.get(parent)
    if member.isdir():
        _make_directory(directories, directory, base)
    else:
        _remove(directories, directory, base)
        if member.isreg():
            _write_file(archive, member, directory, base)
        elif member.issym():
            os.symlink(member.linkname, base, dir_fd=directory)
        elif member.islnk():
            _link(directories, directory, base, clean_name(member.linkname))
            return
        elif member.ischr() or member.isblk():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            os.mknod(base, kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=directory)
        elif member.isfifo():
            os.mkfifo(base, 0o600, dir_fd=directory)
        else:
            raise InvalidParameter(f"invalid layer: {member.name!r} is of unknown type {member.type!r}")
    _set_attributes(member, directory, base)


def _make_directory(directories: Directories, directory: int, base: str) -> None:
    try:
        if stat.S_ISDIR(os.stat(base, dir_fd=directory, follow_symlinks=False).st_mode):
            return
    except FileNotFoundError:
        pass
    else:
        _remove(directories, directory, base)
    os.mkdir(base, 0o700, dir_fd=directory)


def _write_file(archive: tarfile.TarFile, member: tarfile.TarInfo, directory: int, base: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(base, flags, 0o600, dir_fd=directory)
    try:
        for offset, chunk in content(member, cast(BinaryIO, archive.fileobj)):
            write_at(descriptor, chunk, offset)
        if member.issparse():
            os.ftruncate(descriptor, member.size)
    finally:
        os.close(descriptor)


def write_at(file: int, data: bytes, offset: int) -> None:
    """All of it."""
    view = memoryview(data)
    while view:
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count


def _link(directories: Directories, directory: int, base: str, target: str) -> None:
    holder, _, name = target.rpartition("/")
    source = directories.get(holder)
    os.link(name, base, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)


def _set_attributes(member: tarfile.TarInfo, directory: int, base: str) -> None:
    """Owner first: chown(2) clears set-id bits and capabilities."""
    os.chown(base, member.uid, member.gid, dir_fd=directory, follow_symlinks=False)
    here = f"/proc/self/fd/{directory}/{base}"
    for key, value in member.pax_headers.items():
        if key.startswith(XATTR):
            raw = value.encode("utf-8", "surrogateescape")
            os.setxattr(here, key[len(XATTR) :], raw, follow_symlinks=False)
    if not member.issym():
        os.chmod(here, member.mode & 0o7777)
    stamp = int(float(member.mtime) * 1_000_000_000)
    os.utime(base, ns=(stamp, stamp), dir_fd=directory, follow_symlinks=False)


def _attributes_of_root(directories: Directories, member: tarfile.TarInfo) -> None:
    if member.isdir():
        here = f"/proc/self/fd/{directories.root}"
        os.chown(here, member.uid, member.gid)
        os.chmod(here, member.mode & 0o7777)


def _set_times(directories: Directories, name: str, member: tarfile.TarInfo) -> None:
    """Times of directories come last: what was made in them changed them."""
    if not name:
        return
    parent, _, base = name.rpartition("/")
    stamp = int(float(member.mtime) * 1_000_000_000)
    try:
        os.utime(base, ns=(stamp, stamp), dir_fd=directories.get(parent), follow_symlinks=False)
    except FileNotFoundError:  # a later entry of the same layer took it away
        return
