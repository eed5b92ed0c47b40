"""Copying a tree whole: owners, modes, times, hard links, devices, extended attributes, holes.

By descriptors: somebody else may write to the target meanwhile (a volume that is mounted already), and a name that
becomes a link leads nowhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from kist.kernel import path, reflink

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_OTHER_FILE_SYSTEM = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP)
_SMALL = 128 << 10  # bytes that are read and written at once: one call less than asking the file system to do it


@contextmanager
def held(descriptor: int) -> Iterator[int]:
    """Closes a descriptor in the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def copy_tree(source: str, target: str, *, drop_attributes: bool = False) -> None:
    """Everything below `source`: owners, modes, times, hard links, devices, xattrs, holes.

    `drop_attributes`: without the extended attributes that the file system of the target does not know. Raises
    OSError, also where somebody puts something else in the place of what was just made.
    """
    with held(os.open(source, _ROOT)) as old, held(os.open(target, _ROOT)) as new:
        _Copy(old, new, drop_attributes).run()


class _Copy:
    """From the directory `old` to `new`, both by descriptors."""

    def __init__(self, old: int, new: int, drop_attributes: bool) -> None:
        self._old, self._new = old, new
        self._drop_attributes = drop_attributes
        self._links: dict[tuple[int, int], tuple[str, str]] = {}  # the first name of each inode that has several
        self._directories = ["."]
        self._shares = True  # until the file system says that it cannot copy by itself
        # What root makes is root's, where no directory gives its own group away.
        inherits = os.fstat(new).st_mode & stat.S_ISGID
        self._owner = (-1, -1) if inherits else (os.geteuid(), os.getegid())

    def run(self) -> None:
        for inside in self._directories:  # grows meanwhile
            with (
                _directory(self._old, inside) as source,
                _directory(self._new, inside) as target,
                os.scandir(source) as entries,
            ):
                for entry in entries:
                    self._copy_entry(entry, inside, source, target)
        for inside in reversed(self._directories):  # last, children first: filling them changes their times
            with _directory(self._old, inside) as source, _directory(self._new, inside) as target:
                self._copy_attributes(source, target, os.fstat(source))

    def _copy_entry(self, entry: os.DirEntry[str], inside: str, source: int, target: int) -> None:
        if entry.is_dir(follow_symlinks=False):
            os.mkdir(entry.name, 0o700, dir_fd=target)
            self._directories.append(f"{inside}/{entry.name}")
        elif entry.is_file(follow_symlinks=False):
            with held(os.open(entry.name, _READ, dir_fd=source)) as old:
                status = os.fstat(old)
                if not self._is_linked(status, inside, entry.name, target):
                    self._copy_file(entry.name, old, status, target)
        else:
            with held(os.open(entry.name, _NAME, dir_fd=source)) as old:
                status = os.fstat(old)
                if not self._is_linked(status, inside, entry.name, target):
                    self._copy_special(entry.name, old, status, target)

    def _is_linked(self, status: os.stat_result, inside: str, name: str, target: int) -> bool:
        """Whether it was another name of what is copied already, and is so in the target now."""
        if status.st_nlink < 2:
            return False
        holder, first = self._links.setdefault((status.st_dev, status.st_ino), (inside, name))
        if (holder, first) == (inside, name):
            return False
        with _directory(self._new, holder) as there:
            os.link(first, name, src_dir_fd=there, dst_dir_fd=target, follow_symlinks=False)
        return True

    def _copy_file(self, name: str, old: int, status: os.stat_result, target: int) -> None:
        with held(os.open(name, _CREATE, 0o600, dir_fd=target)) as new:
            size = status.st_size
            if size <= _SMALL and status.st_blocks * 512 >= size:
                if size:
                    _write(new, os.read(old, size))
            else:
                self._copy_content(old, new, size)
            self._copy_attributes(old, new, status)

    def _copy_content(self, old: int, new: int, size: int) -> None:
        """Shared, where the file system can, or else what is between the holes, which stay holes."""
        if reflink.clone(old, new):
            return
        place = 0
        while place < size:
            try:
                place = os.lseek(old, place, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole is left
                    break
                raise
            end = min(os.lseek(old, place, os.SEEK_HOLE), size)
            os.lseek(old, place, os.SEEK_SET)
            os.lseek(new, place, os.SEEK_SET)
            while place < end:
                copied = self._copy_some(old, new, end - place)
                if copied == 0:
                    return
                place += copied
        os.ftruncate(new, size)

    def _copy_some(self, reader: int, writer: int, count: int) -> int:
        """Bytes copied, by the file system itself where it can (shared extents)."""
        if self._shares:
            try:
                return os.copy_file_range(reader, writer, count)
            except OSError as error:
                if error.errno not in _OTHER_FILE_SYSTEM:
                    raise
                self._shares = False
        return os.sendfile(writer, reader, None, count)

    def _copy_special(self, name: str, old: int, status: os.stat_result, target: int) -> None:
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink("", dir_fd=old), name, dir_fd=target)
        else:
            os.mknod(name, kind | 0o600, status.st_rdev, dir_fd=target)
        with held(os.open(name, _NAME, dir_fd=target)) as new:
            if stat.S_IFMT(os.fstat(new).st_mode) != kind:  # no set-id bits for somebody's own file
                raise OSError(errno.EBUSY, "replaced while it was made", name)
            # Through /proc, where an O_PATH descriptor of a link is the link itself.
            self._copy_attributes(f"/proc/self/fd/{old}", f"/proc/self/fd/{new}", status)

    def _copy_attributes(self, old: int | str, new: int | str, status: os.stat_result) -> None:
        """chown(2) first: it clears set-id bits and capabilities."""
        if (status.st_uid, status.st_gid) != self._owner:
            os.chown(new, status.st_uid, status.st_gid)
        for name in os.listxattr(old):
            try:
                os.setxattr(new, name, os.getxattr(old, name))
            except OSError as error:
                if not self._drop_attributes or error.errno != errno.EOPNOTSUPP:
                    raise
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(new, stat.S_IMODE(status.st_mode))
        os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))


def _directory(root: int, inside: str) -> AbstractContextManager[int]:
    return held(path.open_beneath(root, inside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))


def _write(descriptor: int, data: bytes) -> None:
    """All of it: a signal or a full disk may cut a write short."""
    while data:
        data = data[os.write(descriptor, data) :]
