"""Driver `overlay`: a directory a layer, stacked by overlayfs (Documentation/filesystems/overlayfs)."""

from __future__ import annotations

import os

from kist.model.errors import KistError
from kist.model.mount import Mount
from kist.snapshot import unpack
from kist.snapshot.base import DirectoryDriver
from kist.snapshot.contract import SnapshotRecord

MAX_LAYERS = 500  # OVL_MAX_STACK in the kernel


class OverlayDriver(DirectoryDriver):
    """Containers see the layers, then the shared mount points, then their own writable directory."""

    name = "overlay"
    whiteouts = unpack.Whiteouts.OVERLAY

    def mounts(self, key: str, *, read_only: bool = False) -> tuple[Mount, ...]:
        record = self.stat(key)
        lower = [f"{self._path(parent)}/fs" for parent in self._parents(record)]
        if record.init:
            lower.insert(0, self.init_directory)
        if len(lower) > MAX_LAYERS:
            raise KistError(f"overlayfs takes {MAX_LAYERS} layers, the image has {len(lower)}")
        own = f"{self._path(record)}/fs"
        if not lower:
            return (Mount("bind", own, ("rbind", "ro" if read_only or record.committed else "rw")),)
        if read_only or record.committed:
            return (Mount("overlay", "overlay", (f"lowerdir={':'.join([own, *lower])}", "ro")),)
        return (
            Mount(
                "overlay",
                "overlay",
                (f"lowerdir={':'.join(lower)}", f"upperdir={own}", f"workdir={self._path(record)}/work"),
            ),
        )

    def _make(self, record: SnapshotRecord) -> None:
        path = self._path(record)
        os.mkdir(path, 0o711)
        os.mkdir(f"{path}/fs", 0o755)
        os.mkdir(f"{path}/work", 0o700)
        if record.parent:
            status = os.stat(f"{self._path(self.stat(record.parent))}/fs")
            os.chmod(f"{path}/fs", status.st_mode & 0o7777)
            if status.st_uid or status.st_gid:
                os.chown(f"{path}/fs", status.st_uid, status.st_gid)
