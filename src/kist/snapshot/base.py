"""What the drivers that keep a directory per snapshot have in common: records, life cycle, removal."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, Protocol

import msgspec

from kist.kernel import path, tree
from kist.kernel.libc import check, libc
from kist.kernel.placement import spread
from kist.model.errors import Conflict, KistError, NotFound
from kist.model.mount import Mount
from kist.snapshot import unpack
from kist.snapshot.changes import Change
from kist.snapshot.contract import SnapshotRecord, Usage

# Mount points that the runtime needs and an image may lack, and the marker by which programs know a container.
_INIT_DIRECTORIES = ("dev", "dev/pts", "dev/shm", "dev/mqueue", "etc", "proc", "sys")
_REMOVED = "removed-"
_INIT_FILES = (".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf")
_INIT_LINKS = (("/proc/mounts", "etc/mtab"),)
# Another file, or none, in the place of a directory; or one that lies too deep for a path.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.ENAMETOOLONG)


class RecordStore(Protocol):
    """Where records are kept: the metadata store's Records, or a dictionary in tests."""

    def get(self, key: str) -> SnapshotRecord | None: ...
    def put(self, key: str, value: SnapshotRecord) -> None: ...
    def delete(self, key: str) -> None: ...
    def values(self) -> list[SnapshotRecord]: ...


class DirectoryDriver:
    """Keeps `<root>/<number>/fs` for each snapshot. Subclasses say how parents show through."""

    name = ""
    whiteouts = unpack.Whiteouts.DELETE

    def __init__(self, root: str, records: RecordStore) -> None:
        self._root = root
        self._records = records
        self._lock = threading.Lock()
        os.makedirs(root, mode=0o700, exist_ok=True)
        spread(root)
        numbers = [record.directory for record in records.values()]
        numbers += [int(name) for name in os.listdir(root) if name.isdigit()]
        self._next = max(numbers, default=0) + 1
        self._make_init()

    # --- the contract ---

    def prepare(self, key: str, parent: str, *, init: bool = False) -> Callable[[], None] | None:
        with self._lock:
            if self._records.get(key) is not None:
                raise Conflict(f"snapshot {key} exists already")
            if parent and not self.stat(parent).committed:
                raise Conflict(f"snapshot {parent} is not committed, so nothing can stand on it")
            record = SnapshotRecord(key, parent, self._next, False, init=init)
            self._next += 1
        self._records.put(key, record)
        try:
            fill = self._make(record)
        except OSError as error:
            self._discard(str(record.directory))
            self._records.delete(key)
            raise self._cannot_make(error) from error
        return None if fill is None else partial(self._fill, fill)

    def _fill(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            raise self._cannot_make(error) from error

    def _cannot_make(self, error: OSError) -> KistError:
        return KistError(f"cannot make a snapshot in {self._root}: {error.strerror}")

    def flush(self, key: str) -> int:
        size = self.usage(key).size
        self._sync()
        return size

    def commit(self, name: str, key: str, size: int | None = None) -> None:
        record = self.stat(key)
        if record.committed:
            raise Conflict(f"snapshot {key} is committed already")
        if self._records.get(name) is not None:
            raise Conflict(f"snapshot {name} exists already")
        if size is None:
            size = self.flush(key)
        self._records.put(name, msgspec.structs.replace(record, key=name, committed=True, size=size))
        self._records.delete(key)

    def remove(self, key: str) -> None:
        record = self.stat(key)
        children = [other.key for other in self._records.values() if other.parent == key]
        if children:
            raise Conflict(f"snapshot {key} has children: {children[0]}")
        self._records.delete(key)
        if all(other.directory != record.directory for other in self._records.values()):
            self._discard(str(record.directory))  # a commit that was cut off left two records of one directory

    def all(self) -> list[SnapshotRecord]:
        return self._records.values()

    def exists(self, key: str) -> bool:
        return self._records.get(key) is not None

    def stat(self, key: str) -> SnapshotRecord:
        record = self._records.get(key)
        if record is None:
            raise NotFound(f"snapshot {key}: not found")
        return record

    def directory(self, key: str) -> str:
        """The directory that holds the snapshot's own files."""
        return f"{self._path(self.stat(key))}/fs"

    def apply(self, key: str, stream: BinaryIO) -> int:
        """Unpacks a layer's tar over an active snapshot; bytes of its files. Raises InvalidParameter for a bad tar."""
        try:
            return unpack.apply_tar(self.directory(key), stream, self.whiteouts)
        except OSError as error:
            raise KistError(f"cannot unpack a layer: {error}") from error

    def usage(self, key: str) -> Usage:
        return tree_usage(self.directory(key))

    def changes(self, key: str) -> Callable[[], list[Change]]:
        raise NotImplementedError

    def diff(self, key: str) -> Callable[[Callable[[bytes], object]], None]:
        raise NotImplementedError

    def cleanup(self) -> None:
        """Removes directories that no record names."""
        known = {str(record.directory) for record in self._records.values()}
        for name in os.listdir(self._root):
            if name.isdigit() and name not in known:
                self._discard(name)
        self.collect()

    def collect(self) -> None:
        """Takes what was removed off the disk."""
        for name in os.listdir(self._root):
            if name.startswith(_REMOVED):
                _remove_tree(f"{self._root}/{name}")

    def _discard(self, name: str) -> None:
        try:
            os.rename(f"{self._root}/{name}", f"{self._root}/{_REMOVED}{name}")
        except FileNotFoundError:
            return
        except OSError as error:
            raise KistError(f"cannot remove a snapshot: {error}") from error

    def mounts(self, key: str, *, read_only: bool = False) -> tuple[Mount, ...]:
        raise NotImplementedError

    # --- for subclasses ---

    def _make(self, record: SnapshotRecord) -> Callable[[], None] | None:
        """Makes the directories; what takes long is the answer. Raises OSError, as that does."""
        raise NotImplementedError

    def _path(self, record: SnapshotRecord) -> str:
        return f"{self._root}/{record.directory}"

    def _parents(self, record: SnapshotRecord) -> list[SnapshotRecord]:
        """The parent, its parent, and so on."""
        found = []
        while record.parent:
            record = self.stat(record.parent)
            found.append(record)
        return found

    def _sync(self) -> None:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            check(libc.syncfs(descriptor), "syncfs", self._root)
        finally:
            os.close(descriptor)

    def _make_init(self) -> None:
        self.init_directory = f"{self._root}/init"
        for name in ("", *_INIT_DIRECTORIES):
            os.makedirs(f"{self.init_directory}/{name}", mode=0o755, exist_ok=True)
        for name in _INIT_FILES:
            with open(f"{self.init_directory}/{name}", "ab"):
                os.chmod(f"{self.init_directory}/{name}", 0o755 if name == ".dockerenv" else 0o644)
        for target, name in _INIT_LINKS:
            with contextlib.suppress(FileExistsError):
                os.symlink(target, f"{self.init_directory}/{name}")


def tree_usage(directory: str) -> Usage:
    """Bytes of regular files (each inode once) and number of inodes. What goes or moves meanwhile is not counted."""
    size, seen = 0, set()
    try:
        root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Usage(0, 0)
    try:
        pending = ["."]
        while pending:
            inside = pending.pop()
            for name, status in _entries(root, inside):
                if status.st_ino in seen:
                    continue
                seen.add(status.st_ino)
                if stat.S_ISREG(status.st_mode):
                    size += status.st_size
                elif stat.S_ISDIR(status.st_mode):
                    pending.append(f"{inside}/{name}")
    finally:
        os.close(root)
    return Usage(size, len(seen))


def _entries(root: int, inside: str) -> Iterator[tuple[str, os.stat_result]]:
    """Of a directory that its container may change at any time: by descriptors, so that a link leads nowhere."""
    try:
        descriptor = path.open_beneath(root, inside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in _GONE:
            return
        raise
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield entry.name, status
    finally:
        os.close(descriptor)


def _remove_tree(path: str) -> None:
    """Two collectors may meet: one finds less."""
    with contextlib.suppress(OSError):
        tree.remove_path(path)
