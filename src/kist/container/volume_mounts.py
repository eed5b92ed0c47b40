"""Volumes that are to be mounted before a container can use them: for its life, and for copies from one at rest."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec

from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.model.container import MountPoint
from kist.model.errors import KistError


async def mount_volumes(engine: Engine, machine: Machine) -> None:
    """Before a start: mounted until `release_volumes`. The record tells where they are. Raises KistError."""
    if any(_is_mounted(engine, point) for point in machine.record.mounts):
        mounts = await _mounted(engine, machine.record.mounts, machine.id)
        machine.record = msgspec.structs.replace(machine.record, mounts=mounts)


def release_volumes(engine: Engine, machine: Machine) -> None:
    """It does not run any more. A start that follows waits until that is done (`machine.unmounting`)."""
    if engine.volumes.has_mounts(machine.id):
        machine.unmounting = engine.spawn(engine.volumes.unmount(machine.id))


@asynccontextmanager
async def borrowed_volumes(engine: Engine, machine: Machine) -> AsyncIterator[tuple[MountPoint, ...]]:
    """The container's mount points, with all volumes where they say, for a while. Raises KistError."""
    points = machine.record.mounts
    if not any(_is_mounted(engine, point) for point in points):
        yield points
        return
    holder = f"copy-{secrets.token_hex(16)}"
    try:
        yield await _mounted(engine, points, holder)
    finally:
        await engine.volumes.unmount(holder)


def _is_mounted(engine: Engine, point: MountPoint) -> bool:
    return point.type == "volume" and engine.volumes.needs_mount(point.name)


async def _mounted(engine: Engine, points: Iterable[MountPoint], holder: str) -> tuple[MountPoint, ...]:
    """Raises KistError with Docker's text; what was mounted until then is the holder's to release."""
    found = []
    for point in points:
        if _is_mounted(engine, point):
            try:
                source = await engine.volumes.mount(point.name, holder, point.destination)
            except KistError as error:
                raise type(error)(f"error while mounting volume '{point.source}': {error.message}") from error
            point = msgspec.structs.replace(point, source=source)
        found.append(point)
    return tuple(found)
