"""A container's root as the container sees it, by descriptor: what `cp` works in.

Of a container that runs it is its process's own root, with all its mounts. Of another one it is its snapshot, mounted
nowhere, with volumes and binds on top as a start would put them; while it is in use the container cannot be started or
removed, as two overlays may not write to one directory.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec

from kist.container import mounts
from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.container.threads import in_thread
from kist.container.volume_mounts import borrowed_volumes
from kist.kernel import aside, const, mount, path, pidfd
from kist.model.container import MountPoint, State
from kist.model.errors import KistError, NotFound
from kist.model.mount import Mount
from kist.snapshot.copy import held
from kist.volume.filling import open_root

_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILES = ("hostname", "hosts", "resolv.conf")


class Root(NamedTuple):
    """`live`: with /proc, /sys and /dev, which a container that does not run has not."""

    descriptor: int
    live: bool


class _Layout(msgspec.Struct, frozen=True):
    """What to mount where. `place` is an empty directory of the engine's."""

    root: tuple[Mount, ...]
    points: tuple[MountPoint, ...]
    images: dict[str, Mount]  # by destination
    files: tuple[tuple[str, str], ...]  # (path inside, the engine's own copy)
    place: str


@asynccontextmanager
async def root_of(engine: Engine, machine: Machine, *, writes: bool = False) -> AsyncIterator[Root]:
    """The container's root. One that is written to keeps the container from its next start.

    Raises NotFound, KistError.
    """
    descriptor = _running_root(machine)
    if descriptor >= 0:
        done = asyncio.get_running_loop().create_future()
        if writes:
            machine.writers.add(done)
        try:
            yield Root(descriptor, live=True)
        finally:
            os.close(descriptor)
            machine.writers.discard(done)
            done.set_result(None)
        return
    async with machine.lock:
        if machine.removed.is_set():
            raise NotFound(f"No such container: {machine.id}")
        descriptor = _running_root(machine)  # started meanwhile
        if descriptor >= 0:
            async with _closed(descriptor):
                yield Root(descriptor, live=True)
            return
        if machine.unmounting is not None:
            await asyncio.wait([machine.unmounting])
        async with borrowed_volumes(engine, machine) as points:
            layout = _layout(engine, machine, points)
            async with _closed(await in_thread(lambda: _assembled(layout), undo=os.close)) as descriptor:
                yield Root(descriptor, live=False)


@asynccontextmanager
async def own_root(engine: Engine, machine: Machine) -> AsyncIterator[int]:
    """A descriptor of the container's own files and its image's, to read, without anything mounted on top."""
    layers = engine.snapshotter.mounts(machine.record.snapshot, read_only=True)
    async with _closed(await in_thread(lambda: open_root(layers), undo=os.close)) as descriptor:
        yield descriptor


@asynccontextmanager
async def _closed(descriptor: int) -> AsyncIterator[int]:
    """The last descriptor of a detached tree unmounts it, which takes a while."""
    try:
        yield descriptor
    finally:
        await in_thread(lambda: os.close(descriptor))


def _running_root(machine: Machine) -> int:
    """-1 when it does not run."""
    if not machine.state.alive or not machine.state.pid:
        return -1
    return _root_of_process(machine.state)


def _root_of_process(state: State) -> int:
    """Checked after it was opened: a process with this number that started at another time is another one."""
    try:
        descriptor = os.open(f"/proc/{state.pid}/root", _ROOT)
    except (FileNotFoundError, ProcessLookupError):
        return -1
    try:
        if pidfd.start_time(state.pid) == state.pid_start:
            return descriptor
    except (FileNotFoundError, ProcessLookupError):
        pass
    os.close(descriptor)
    return -1


def _layout(engine: Engine, machine: Machine, points: tuple[MountPoint, ...]) -> _Layout:
    directory = engine.directory(machine.id)
    taken = {point.destination for point in machine.record.mounts}
    files = [(f"/etc/{name}", f"{directory}/{name}") for name in _FILES]
    return _Layout(
        root=engine.snapshotter.mounts(machine.record.snapshot),
        points=tuple(sorted(points, key=lambda point: point.destination.rstrip("/").count("/"))),
        images=mounts.layers_of(engine, points),
        files=tuple((inside, source) for inside, source in files if inside not in taken and os.path.exists(source)),
        place=f"{engine.exec_root}/rootfs",
    )


def _assembled(layout: _Layout) -> int:
    """Raises KistError."""
    points = [point for point in layout.points if point.type != "tmpfs" and os.path.exists(point.source)]
    if not points and not layout.files:
        return open_root(layout.root)
    try:
        return aside.detached_tree(lambda: _mounted(layout, points))
    except OSError as error:
        raise KistError(f"cannot mount the container's root file system: {error}") from error


def _mounted(layout: _Layout, points: list[MountPoint]) -> str:
    """In a mount namespace of its own."""
    first = layout.root[0]
    if first.type == "bind":
        root = mount.open_tree(first.source, const.OPEN_TREE_CLONE)
    else:
        root = open_root(layout.root)
    with held(root):
        mount.move_mount(root, layout.place)
    with held(os.open(layout.place, _ROOT)) as top:
        for point in points:
            _attach(top, _source(layout, point), point.destination, read_only=not writable(point))
        for inside, source in layout.files:
            _attach(top, mount.open_tree(source, const.OPEN_TREE_CLONE), inside, read_only=False)
    return layout.place


def writable(point: MountPoint) -> bool:
    """Whether files go into it. Where ids are mapped only a running container's own mount gives them their owners."""
    return point.rw and point.id_map is None


def _source(layout: _Layout, point: MountPoint) -> int:
    """A detached copy of what is to be mounted; a part of a volume is found below it, which others may change."""
    if point.image:
        return _image(layout, point)
    flags = const.OPEN_TREE_CLONE | (const.AT_RECURSIVE if point.recursive else 0)
    if not point.subpath:
        return mount.open_tree(point.source, flags)
    with (
        held(os.open(point.source, _ROOT)) as volume,
        held(path.open_beneath(volume, point.subpath, os.O_PATH)) as part,
    ):
        return mount.open_tree(b"", flags | const.AT_EMPTY_PATH, part)


def _image(layout: _Layout, point: MountPoint) -> int:
    """An image, or a part of it: that can be cut out of what is mounted somewhere only (before Linux 6.15)."""
    whole = open_root((layout.images[point.destination],))
    if not point.subpath and layout.images[point.destination].type != "bind":
        return whole
    with held(whole):
        if layout.images[point.destination].type == "bind":
            return _part(whole, point.subpath)
        mount.move_mount(whole, layout.place)
        try:
            with held(os.open(layout.place, _ROOT)) as top:
                return _part(top, point.subpath)
        finally:
            mount.umount2(layout.place, const.MNT_DETACH)


def _part(root: int, inside: str) -> int:
    with held(path.open_beneath(root, inside or ".", os.O_PATH)) as part:
        return mount.open_tree(b"", const.OPEN_TREE_CLONE | const.AT_EMPTY_PATH, part)


def _attach(top: int, source: int, inside: str, *, read_only: bool) -> None:
    with held(source):
        if read_only:
            mount.mount_setattr(source, b"", const.AT_EMPTY_PATH | const.AT_RECURSIVE, const.MOUNT_ATTR_RDONLY)
        is_directory = os.path.isdir(f"/proc/self/fd/{source}")
        with held(path.make_mountpoint(top, inside, is_directory)) as target:
            mount.move_mount(source, target)
