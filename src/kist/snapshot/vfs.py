"""Driver `vfs`: a full copy for every snapshot. Slow and large; works on any file system and shows the others right."""

from __future__ import annotations

import os

from kist.model.mount import Mount
from kist.snapshot import unpack
from kist.snapshot.base import DirectoryDriver
from kist.snapshot.contract import SnapshotRecord
from kist.snapshot.copy import copy_tree


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
