"""Copying a tree whole: owners, modes, times, hard links, devices, extended attributes."""

from __future__ import annotations

import os
import stat


def copy_tree(source: str, target: str) -> None:
    """Everything below `source`: owners, modes, times, hard links, devices, xattrs; holes are not kept."""
    links: dict[int, str] = {}
    _copy_attributes(source, target)
    pending = [("", os.listdir(source))]
    directories = [""]
    while pending:
        prefix, names = pending.pop()
        for name in names:
            inside = f"{prefix}/{name}"
            status = os.lstat(source + inside)
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                first = links.setdefault(status.st_ino, inside)
                if first != inside:
                    os.link(target + first, target + inside, follow_symlinks=False)
                    continue
            _copy_one(source + inside, target + inside, status)
            if stat.S_ISDIR(status.st_mode):
                pending.append((inside, os.listdir(source + inside)))
                directories.append(inside)
            else:
                _copy_attributes(source + inside, target + inside)
    for inside in reversed(directories):  # times of directories last: filling them changed them
        _copy_attributes(source + inside, target + inside)


def _copy_one(source: str, target: str, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        os.mkdir(target, 0o700)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(source), target)
    elif kind == stat.S_IFREG:
        with open(source, "rb") as reader, open(target, "xb") as writer:
            left = status.st_size
            while left > 0:
                copied = os.copy_file_range(reader.fileno(), writer.fileno(), left)
                if copied == 0:
                    break
                left -= copied
    else:
        os.mknod(target, status.st_mode, status.st_rdev)


def _copy_attributes(source: str, target: str) -> None:
    status = os.lstat(source)
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    for name in os.listxattr(source, follow_symlinks=False):
        os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
