"""Copying a tree whole: owners, modes, times, hard links, devices, extended attributes.

By descriptors: somebody else may write to the target meanwhile (a volume that is mounted already), and a name that
becomes a link leads nowhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from kist.kernel import path

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_OTHER_FILE_SYSTEM = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP)


@contextmanager
def held(descriptor: int) -> Iterator[int]:
    """Closes a descriptor in the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def copy_tree(source: str, target: str) -> None:
    """Everything below `source`: owners, modes, times, hard links, devices, xattrs; holes are not kept.

    Raises OSError, also where somebody puts something else in the place of what was just made.
    """
    with held(os.open(source, _ROOT)) as old, held(os.open(target, _ROOT)) as new:
        _copy_below(old, new)


def _copy_below(old: int, new: int) -> None:
    links: dict[tuple[int, int], tuple[str, str]] = {}
    directories = ["."]
    for inside in directories:  # grows meanwhile
        with _directory(old, inside) as source, _directory(new, inside) as target:
            for name in os.listdir(source):
                status = os.stat(name, dir_fd=source, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    os.mkdir(name, 0o700, dir_fd=target)
                    directories.append(f"{inside}/{name}")
                    continue
                if status.st_nlink > 1:
                    holder, first = links.setdefault((status.st_dev, status.st_ino), (inside, name))
                    if (holder, first) != (inside, name):
                        with _directory(new, holder) as there:
                            os.link(first, name, src_dir_fd=there, dst_dir_fd=target, follow_symlinks=False)
                        continue
                _copy_one(name, source, target)
    for inside in reversed(directories):  # last, children first: filling them changes their times
        with _directory(old, inside) as source, _directory(new, inside) as target:
            _copy_attributes(source, target)


def _directory(root: int, inside: str) -> AbstractContextManager[int]:
    return held(path.open_beneath(root, inside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))


def _copy_one(name: str, source: int, target: int) -> None:
    """What is no directory, from one directory to another."""
    with held(os.open(name, _NAME, dir_fd=source)) as old:
        status = os.fstat(old)
        if stat.S_ISREG(status.st_mode):
            with held(os.open(name, _CREATE, 0o600, dir_fd=target)) as new:
                _copy_content(old, new, status.st_size)
                _copy_attributes(old, new)
            return
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, kind | 0o600, status.st_rdev, dir_fd=target)
        with held(os.open(name, _NAME, dir_fd=target)) as new:
            if stat.S_IFMT(os.fstat(new).st_mode) != kind:  # no set-id bits for somebody's own file
                raise OSError(errno.EBUSY, "replaced while it was made", name)
            _copy_attributes(old, new)


def _copy_content(old: int, new: int, left: int) -> None:
    with held(os.open(f"/proc/self/fd/{old}", os.O_RDONLY | os.O_CLOEXEC)) as reader:
        while left > 0:
            copied = _copy_some(reader, new, left)
            if copied == 0:
                break
            left -= copied


def _copy_some(reader: int, writer: int, count: int) -> int:
    """Bytes copied, by the file system itself where it can (shared extents)."""
    try:
        return os.copy_file_range(reader, writer, count)
    except OSError as error:
        if error.errno not in _OTHER_FILE_SYSTEM:
            raise
    return os.sendfile(writer, reader, None, count)


def _copy_attributes(old: int, new: int) -> None:
    """Through /proc, where an O_PATH descriptor of a link is the link itself. chown(2) first: it clears set-id bits."""
    status = os.fstat(old)
    source, target = f"/proc/self/fd/{old}", f"/proc/self/fd/{new}"
    os.chown(target, status.st_uid, status.st_gid)
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
