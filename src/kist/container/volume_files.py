"""The files of volumes as a whole: out as a tar, in from one, and from one volume into a new one."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import BinaryIO

from kist.container import pausing
from kist.container.engine import Engine
from kist.container.extract import Rules, extract
from kist.container.machine import Machine
from kist.container.threads import drawn, fed, in_thread
from kist.kernel.tree import remove_tree
from kist.model.errors import Conflict, InvalidParameter, KistError, NotFound
from kist.model.volume import LOCAL, Volume
from kist.snapshot.copy import copy_tree, held
from kist.snapshot.pack import Packer

SNAPSHOT_OF = "kist.snapshot.of"  # label of a snapshot: the volume's name
_IGNORED = frozenset({"lost+found"})  # an empty file system has it


class VolumeFiles:
    def __init__(self, engine: Engine) -> None:
        self._engine, self._volumes = engine, engine.volumes
        self._making: set[str] = set()

    @asynccontextmanager
    async def export(self, name: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """A tar of all that is in it, with the directory itself as `./`. Raises NotFound, KistError."""
        async with (
            self._volumes.borrowed(name) as directory,
            aclosing(drawn(lambda write: _pack(directory, write))) as chunks,
        ):
            yield chunks

    async def import_(self, name: str, chunks: AsyncIterator[bytes]) -> Volume:
        """Unpacks a tar, compressed or not, into a new or an empty volume; all of it, or nothing stays.

        Raises Conflict, InvalidParameter, KistError.
        """
        async with self._guarded(name):
            taker = f"import-{secrets.token_hex(16)}"
            volume = await self._volumes.create(name, taker=taker)
            try:
                async with self._volumes.borrowed(name) as directory:
                    if set(os.listdir(directory)) - _IGNORED:
                        raise Conflict(f"import {name}: volume is not empty")
                    await self._unpack(name, directory, chunks)
            except BaseException:
                await self._volumes.give_back(taker)
                await self._volumes.collect()
                raise
            self._volumes.keep(taker)
            return volume

    async def _unpack(self, name: str, directory: str, chunks: AsyncIterator[bytes]) -> None:
        try:
            await fed(chunks, lambda stream: _extract(directory, stream))
        except BaseException as error:
            await in_thread(lambda: _empty(directory))
            if isinstance(error, OSError) and not isinstance(error, ConnectionError):
                raise KistError(f"import {name}: {_reason(error)}") from error
            if isinstance(error, InvalidParameter):
                raise InvalidParameter(f"import {name}: {error.message}") from error
            raise

    async def clone(self, source: str, target: str, *, snapshot: bool = False) -> Volume:
        """A new local volume with the files, labels and size of another one; blocks are shared where the file system
        can. `snapshot`: running containers that may write to it are paused meanwhile.

        Raises NotFound, Conflict when the name is taken, InvalidParameter, KistError.
        """
        what = "snapshot" if snapshot else "clone"
        if not target:
            raise InvalidParameter(f"{what} {source}: the name of the new volume is missing")
        found = (await self._volumes.inspect(source)).volume
        async with self._guarded(target):
            if await self._exists(target):
                raise Conflict(f"{what} {source}: a volume named {target} exists already")
            labels = {**(found.labels or {}), **({SNAPSHOT_OF: source} if snapshot else {})}
            options = {"size": found.options["size"]} if found.options and "size" in found.options else None
            taker = f"{what}-{secrets.token_hex(16)}"
            volume = await self._volumes.create(target, LOCAL, options, labels or None, taker=taker)
            try:
                await self._copy(source, target, snapshot=snapshot)
            except BaseException as error:
                await self._volumes.give_back(taker)
                await self._volumes.collect()
                if isinstance(error, OSError):
                    raise KistError(f"{what} {source}: {_reason(error)}") from error
                raise
            self._volumes.keep(taker)
            return volume

    async def _exists(self, name: str) -> bool:
        try:
            await self._volumes.inspect(name)
        except NotFound:
            return False
        return True

    async def _copy(self, source: str, target: str, *, snapshot: bool) -> None:
        async with AsyncExitStack() as stack:
            old = await stack.enter_async_context(self._volumes.borrowed(source))
            new = await stack.enter_async_context(self._volumes.borrowed(target))
            for machine in self._writers(source) if snapshot else ():
                await stack.enter_async_context(self._paused(machine))
            await in_thread(lambda: copy_tree(old, new))

    def _writers(self, volume: str) -> list[Machine]:
        return [
            machine
            for machine in self._engine.index.all()
            if machine.state.alive
            and any(point.type == "volume" and point.name == volume and point.rw for point in machine.record.mounts)
        ]

    @asynccontextmanager
    async def _paused(self, machine: Machine) -> AsyncIterator[None]:
        """Should kistd die meanwhile, the next one lets it go on."""
        ours = False
        if machine.state.alive and not machine.state.paused:
            with suppress(Conflict):  # it ended, or somebody else was faster
                await pausing.pause(self._engine, machine, briefly=True)
            ours = machine.state.paused_briefly
        try:
            yield
        finally:
            if ours and machine.state.paused_briefly:
                with suppress(KistError):
                    await pausing.unpause(self._engine, machine)

    @asynccontextmanager
    async def _guarded(self, name: str) -> AsyncIterator[None]:
        """One at a time makes a volume of that name."""
        if name in self._making:
            raise Conflict(f"volume {name} is being made by another import or clone")
        self._making.add(name)
        try:
            yield
        finally:
            self._making.discard(name)


def _pack(directory: str, write: Callable[[bytes], object]) -> None:
    with held(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as top:
        packer = Packer(write)
        packer.top(top, ".")
        packer.tree(top, "./")
        packer.finish()


def _extract(directory: str, stream: BinaryIO) -> None:
    extract(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), "/", stream, Rules(top=True))


def _empty(directory: str) -> None:
    with held(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as top:
        for name in set(os.listdir(top)) - _IGNORED:
            with suppress(OSError):
                remove_tree(top, name)


def _reason(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{(error.strerror or str(error)).lower()}"
