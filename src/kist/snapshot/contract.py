"""The contract of snapshot drivers.

A snapshot has a key. It is *active* (made by `prepare`, writable) or *committed* (made by `commit`, read-only, and the
parent of others). `mounts` says how to mount one: the first mount is the root. Removing a snapshot that has children
is refused; a removed one is out of sight at once and off the disk after `collect`. What a driver keeps on disk is
recorded before it is made, so `cleanup` finds what a crash left.

    driver.prepare("layer-1", parent="")          # an empty writable snapshot
    driver.apply("layer-1", tar_stream)           # fill it from a layer's tar
    size = driver.flush("layer-1")                # a crash of the machine does not take it back
    driver.commit("sha256:…", "layer-1", size)    # now an image may stand on it
    fill = driver.prepare("container-a", parent="sha256:…", init=True)
    if fill is not None:                          # a driver that copies: minutes, perhaps
        fill()
    driver.mounts("container-a")                  # (Mount("overlay", …),)
    driver.remove("container-a")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Protocol

import msgspec

from kist.model.mount import Mount
from kist.snapshot.changes import Change


class SnapshotRecord(msgspec.Struct, frozen=True):
    """What is remembered of a snapshot. `directory` is the driver's number for it."""

    key: str
    parent: str
    directory: int
    committed: bool
    size: int = 0  # bytes of its own files, known when committed
    init: bool = False


class Usage(msgspec.Struct, frozen=True):
    size: int  # bytes
    inodes: int


class Snapshotter(Protocol):
    """Raises NotFound for unknown keys, Conflict for keys that exist or have children, KistError when the disk fails.

    `apply`, `flush`, `usage`, `collect`, and what `prepare`, `changes` and `diff` answer take long and may run in a
    thread; the others are quick and belong to the thread that owns the records. What `prepare` answers is to be called
    once, before anything else is done with the snapshot; when it fails, the snapshot is the caller's to remove.
    `changes` compares with the parent; `diff` writes
    the same as a layer's tar. `flush` answers the bytes of its own files; a `commit` without them flushes itself.
    """

    name: str

    def prepare(self, key: str, parent: str, *, init: bool = False) -> Callable[[], None] | None: ...
    def mounts(self, key: str, *, read_only: bool = False) -> tuple[Mount, ...]: ...
    def apply(self, key: str, stream: BinaryIO) -> int: ...
    def flush(self, key: str) -> int: ...
    def commit(self, name: str, key: str, size: int | None = None) -> None: ...
    def remove(self, key: str) -> None: ...
    def all(self) -> list[SnapshotRecord]: ...
    def exists(self, key: str) -> bool: ...
    def stat(self, key: str) -> SnapshotRecord: ...
    def usage(self, key: str) -> Usage: ...
    def changes(self, key: str) -> Callable[[], list[Change]]: ...
    def diff(self, key: str) -> Callable[[Callable[[bytes], object]], None]: ...
    def cleanup(self) -> None: ...
    def collect(self) -> None: ...
    def directory(self, key: str) -> str: ...
