"""Driver `vfs`: a full copy for every snapshot. Slow and large; works on any file system and shows the others right."""

from __future__ import annotations

import os
from collections.abc import Callable

from kist.model.mount import Mount
from kist.snapshot import unpack
from kist.snapshot.base import DirectoryDriver
from kist.snapshot.changes import Change, Kind, compare
from kist.snapshot.contract import SnapshotRecord
from kist.snapshot.copy import copy_tree, held
from kist.snapshot.pack import Packer

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class VfsDriver(DirectoryDriver):
    name = "vfs"
    whiteouts = unpack.Whiteouts.DELETE

    def mounts(self, key: str, *, read_only: bool = False) -> tuple[Mount, ...]:
        record = self.stat(key)
        mode = "ro" if read_only or record.committed else "rw"
        return (Mount("bind", f"{self._path(record)}/fs", ("rbind", mode)),)

    def changes(self, key: str) -> Callable[[], list[Change]]:
        """By comparison with the parent, file by file. The mount points that every container gets are no changes."""
        record = self.stat(key)
        old_path = self.directory(record.parent) if record.parent else ""
        new_path, init = self.directory(key), self.init_directory if record.init else ""

        def given(inside: str) -> bool:
            return bool(init) and os.path.lexists(f"{init}/{inside}")

        def work() -> list[Change]:
            with (
                held(os.open(old_path or f"{init}/proc", _DIRECTORY)) as old,
                held(os.open(new_path, _DIRECTORY)) as new,
            ):
                return compare(old, new, ignore=given)

        return work

    def diff(self, key: str) -> Callable[[Callable[[bytes], object]], None]:
        """Of the changes, as overlay's: directories on the way to a change are told with it."""
        changes, own = self.changes(key), self.directory(key)

        def work(write: Callable[[bytes], object]) -> None:
            packer = Packer(write)
            with held(os.open(own, _DIRECTORY)) as top:
                for change in changes():
                    inside = change.path.lstrip("/")
                    if change.kind is Kind.DELETED:
                        packer.whiteout(inside)
                    else:
                        packer.one(top, inside)
            packer.finish()

        return work

    def _make(self, record: SnapshotRecord) -> Callable[[], None] | None:
        path = self._path(record)
        os.mkdir(path, 0o711)
        os.mkdir(f"{path}/fs", 0o755)
        parent = self.directory(record.parent) if record.parent else ""

        def fill() -> None:
            if parent:
                copy_tree(parent, f"{path}/fs")
            if record.init:
                self._add_mount_points(f"{path}/fs")

        return fill if parent or record.init else None

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
