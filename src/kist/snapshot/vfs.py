"""Driver `vfs`: a full copy for every snapshot. Slow and large; works on any file system and shows the others right."""

from __future__ import annotations

import os
import stat

from kist.model.mount import Mount
from kist.snapshot import unpack
from kist.snapshot.base import DirectoryDriver
from kist.snapshot.contract import SnapshotRecord


class VfsDriver(DirectoryDriver):
    name = "vfs"
    whiteouts = unpack.Whiteouts.DELETE

    def mounts(self, key: str, *, read_only: bool = False) -> tuple[Mount, ...]:
        record = self.stat(key)
        mode = "ro" if read_only or record.committed else "rw"
        return (Mount("bind", f"{self._path(record)}/fs", ("rbind", mode)),)

    def _make(self, record: SnapshotRecord) -> None:
        path = self._path(record)
        os.mkdir(path, 0o711)
        os.mkdir(f"{path}/fs", 0o755)
        if record.parent:
            copy_tree(f"{self._path(self.stat(record.parent))}/fs", f"{path}/fs")
        if record.init:
            self._add_mount_points(f"{path}/fs")

    def _add_mount_points(self, target: str) -> None:
        for directory, _, files in os.walk(self.init_directory):
            inside = directory[len(self.init_directory) :]
            if not os.path.lexists(target + inside):
                os.mkdir(target + inside, 0o755)
            if os.path.islink(target + inside):
                continue  # the image leads elsewhere: the runtime makes what it needs, inside the root
            for name in files:
                if not os.path.lexists(f"{target}{inside}/{name}"):
                    with open(f"{target}{inside}/{name}", "xb"):
                        pass


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
