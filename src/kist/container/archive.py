"""Files in and out of a container: stat, archive, extract (`docker cp`) and the whole root (`docker export`)."""

from __future__ import annotations

import errno
import os
import posixpath
import stat as kinds
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import BinaryIO

import msgspec

from kist.container.engine import Engine
from kist.container.extract import Rules, extract, resolve
from kist.container.machine import Machine
from kist.container.threads import drawn, fed, in_thread
from kist.container.view import Root, own_root, root_of
from kist.kernel import path as paths
from kist.model.container import ContainerRecord
from kist.model.errors import InvalidParameter, KistError, NotFound
from kist.runtime import accounts
from kist.snapshot.copy import held
from kist.snapshot.pack import Packer

_RUNTIMES_OWN = frozenset({"dev", "proc", "sys"})
Chunks = AsyncIterator[bytes]


class PathStat(msgspec.Struct, frozen=True):
    """A file of a container. `mode` has the file type's bits of stat(2); `target` is a link's, as far as it leads."""

    name: str
    size: int
    mode: int
    mtime: int  # nanoseconds since the epoch
    target: str = ""


async def stat(engine: Engine, machine: Machine, asked: str, path: str) -> PathStat:
    """`asked` is the container's name in messages. Raises NotFound with Docker's text."""
    async with root_of(engine, machine) as root:
        with _told(path, asked):
            return await in_thread(lambda: _stat(root.descriptor, path))


@asynccontextmanager
async def archive(engine: Engine, machine: Machine, asked: str, path: str) -> AsyncIterator[tuple[PathStat, Chunks]]:
    """A file or a tree as a tar whose names begin with the last component. Raises NotFound."""
    async with root_of(engine, machine) as root:
        absolute = _absolute(path)
        with _told(path, asked):
            file, found = await in_thread(lambda: _opened(root.descriptor, absolute), lambda made: os.close(made[0]))
        with held(file):
            engine.emit(machine, "archive-path")
            async with aclosing(drawn(lambda write: _pack(root, file, absolute, found, write))) as chunks:
                yield found, chunks


@asynccontextmanager
async def export(engine: Engine, machine: Machine) -> AsyncIterator[Chunks]:
    """The container's root without what is mounted in it, as a tar."""

    def work(write: Callable[[bytes], object]) -> None:
        packer = Packer(write)
        packer.tree(root, "")
        packer.finish()

    async with own_root(engine, machine) as root:
        engine.emit(machine, "export")
        async with aclosing(drawn(work)) as chunks:
            yield _whole(machine, chunks)


async def _whole(machine: Machine, chunks: Chunks) -> Chunks:
    """Raises NotFound at the end when the files were removed while they were read."""
    async for chunk in chunks:
        yield chunk
    if machine.removed.is_set():
        raise NotFound(f"No such container: {machine.id}")


async def put(
    engine: Engine,
    machine: Machine,
    asked: str,
    path: str,
    chunks: Chunks,
    *,
    keep_kinds: bool = False,
    to_user: bool = False,
) -> None:
    """Unpacks an archive into a directory; `to_user` gives all of it to the container's user.

    Raises NotFound, InvalidParameter with Docker's texts, KistError.
    """
    async with root_of(engine, machine, writes=True) as root:
        record = machine.record
        with _told(path, asked):
            await fed(chunks, lambda stream: _extract(root.descriptor, record, path, stream, keep_kinds, to_user))
    engine.emit(machine, "extract-to-dir")


class _told:
    """Turns the kernel's errors into Docker's."""

    def __init__(self, path: str, container: str) -> None:
        self._path, self._container = path, container

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise NotFound(f"Could not find the file {self._path} in container {self._container}") from error
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            name = str(error.filename or self._path)
            if name.startswith("openat2 "):
                name = f"lstat {self._path}"  # dockerd's call, which its message names
            raise KistError(f"{name}: {(error.strerror or str(error)).lower()}") from error


def _absolute(path: str) -> str:
    """Cleaned, but a last `/` or `/.` says that a directory is meant."""
    clean = posixpath.normpath(f"/{path.lstrip('/')}")
    if _base(path) == ".":
        return f"{clean.rstrip('/')}/."
    return f"{clean}/" if path.endswith("/") and clean != "/" else clean


def _base(path: str) -> str:
    """Go's filepath.Base."""
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"


def _stat(root: int, path: str) -> PathStat:
    file, found = _opened(root, path)
    os.close(file)
    return found


def _opened(root: int, path: str) -> tuple[int, PathStat]:
    """A descriptor of the file itself, a link too, so that what is packed is what was told of."""
    directory = path.endswith(("/", "/."))
    file = paths.open_in_root(root, path, os.O_PATH | (os.O_DIRECTORY if directory else os.O_NOFOLLOW))
    try:
        status = os.fstat(file)
        target = resolve(root, path) if kinds.S_ISLNK(status.st_mode) else ""
    except OSError:
        os.close(file)
        raise
    return file, PathStat(_base(path), status.st_size, status.st_mode, status.st_mtime_ns, target)


def _pack(root: Root, file: int, path: str, found: PathStat, write: Callable[[bytes], object]) -> None:
    packer = Packer(write)
    name = "" if found.name == "/" else found.name
    packer.top(file, name)
    if kinds.S_ISDIR(found.mode):
        # What the runtime mounts is part of no tree; who asks for it itself gets it.
        closed = _RUNTIMES_OWN if root.live and resolve(root.descriptor, path) == "/" else frozenset()
        packer.tree(file, f"{name}/", closed)
    packer.finish()


def _extract(root: int, record: ContainerRecord, path: str, stream: BinaryIO, keep_kinds: bool, to_user: bool) -> None:
    place = resolve(root, path)
    with held(paths.open_in_root(root, place, os.O_PATH | os.O_NOFOLLOW)) as descriptor:
        if not kinds.S_ISDIR(os.fstat(descriptor).st_mode):
            raise InvalidParameter("extraction point is not a directory")
    _check_writable(record, place)
    owner = accounts.owner(root, record.config.user) if to_user and record.config.user else None
    try:
        extract(os.dup(root), place, stream, Rules(keep_kinds, owner))
    except OSError as error:
        if error.errno == errno.EROFS:
            raise KistError(f"{error.filename or place}: read-only file system") from error
        raise KistError(f"{error.filename or place}: {(error.strerror or str(error)).lower()}") from error


def _check_writable(record: ContainerRecord, place: str) -> None:
    """Raises InvalidParameter when the place is in a read-only volume, or in a root that is read-only."""
    inside = [point for point in record.mounts if f"{place}/".startswith(f"{point.destination.rstrip('/')}/")]
    if not all(point.rw for point in inside):
        raise InvalidParameter("mounted volume is marked read-only")
    if not inside and record.host_config.readonly_rootfs:
        raise InvalidParameter("container rootfs is marked read-only")
