"""Driver `overlay`: a directory a layer, stacked by overlayfs (Documentation/filesystems/overlayfs)."""

from __future__ import annotations

import os
from collections.abc import Callable

from kist.kernel import aside
from kist.model.errors import KistError
from kist.model.mount import Mount
from kist.snapshot import unpack
from kist.snapshot.base import DirectoryDriver
from kist.snapshot.changes import Change, compare
from kist.snapshot.contract import SnapshotRecord
from kist.snapshot.copy import held
from kist.snapshot.pack import Packer

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
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

    def changes(self, key: str) -> Callable[[], list[Change]]:
        """Only what is in the upper directory is looked at, beside the same paths of all layers together."""
        record = self.stat(key)
        lower = [f"{self._path(parent)}/fs" for parent in self._parents(record)]
        layers = [self.init_directory, *lower] if record.init else lower
        own = self.directory(key)

        def work() -> list[Change]:
            with held(_open_layers(layers)) as old, held(os.open(own, _DIRECTORY)) as new:
                return compare(old, new, upper=True)

        return work

    def diff(self, key: str) -> Callable[[Callable[[bytes], object]], None]:
        own = self.directory(key)

        def work(write: Callable[[bytes], object]) -> None:
            with held(os.open(own, _DIRECTORY)) as top:
                packer = Packer(write, layer=True)
                packer.tree(top, "")
                packer.finish()

        return work

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


def _open_layers(layers: list[str]) -> int:
    """Read-only, all layers as one; a single directory is itself."""
    if len(layers) == 1:
        return os.open(layers[0], _DIRECTORY)
    return aside.detached_overlay("overlay", [f"lowerdir={':'.join(layers)}"])
