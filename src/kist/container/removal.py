"""`rm`, and --rm: the record goes first, then all that the container had."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from contextlib import suppress

import msgspec

from kist.container.ending import KILL_SECONDS, Ending, ended
from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.container.packing import Packing
from kist.container.pausing import continue_now
from kist.container.release import answer_waiter, release_monitor, release_surroundings
from kist.model.errors import Conflict, KistError

log = logging.getLogger(__name__)


class Removal:
    def __init__(self, engine: Engine, ending: Ending, packing: Packing) -> None:
        self._engine, self._ending, self._packing = engine, ending, packing

    async def remove(self, machine: Machine, asked: str, *, force: bool = False, volumes: bool = False) -> None:
        """Name, record, addresses and ports are free when this returns; the files go in the background.

        `asked` is the name or id the user gave. A start that is under way comes first.
        """
        if machine.record.removing:
            raise Conflict(f"removal of container {asked} is already in progress")
        async with machine.lock:
            await self._remove_locked(machine, asked, force=force, volumes=volumes)

    async def _remove_locked(self, machine: Machine, asked: str, *, force: bool, volumes: bool) -> None:
        if machine.record.removing:  # another one, or --rm of the start that was waited for
            raise Conflict(f"removal of container {asked} is already in progress")
        if machine.state.running and not force:
            why = f"{machine.state.status}: stop the container before removing or force remove"
            if machine.state.paused:
                why = "paused and must be unpaused first"
            raise Conflict(f'cannot remove container "{asked}": container is {why}')
        machine.record = msgspec.structs.replace(machine.record, removing=True)
        try:
            if machine.state.restarting:
                self._ending.give_up(machine)
            if machine.state.alive:
                self._ending.signal(machine, 9)
                self._engine.emit(machine, "kill", signal="9")
                continue_now(self._engine, machine)
                if not await ended(machine, KILL_SECONDS):
                    raise KistError(f"container {machine.name} did not end within {KILL_SECONDS:.0f} s of SIGKILL")
            await self._remove(machine, volumes)
        except BaseException:
            machine.record = msgspec.structs.replace(machine.record, removing=False)
            raise

    def auto_remove(self, machine: Machine) -> None:
        """--rm: it has ended."""
        machine.cleanup = self._engine.spawn(self._auto_remove(machine))

    async def _auto_remove(self, machine: Machine) -> None:
        if not machine.record.removing:
            machine.record = msgspec.structs.replace(machine.record, removing=True)
            await self._remove(machine, volumes=True)

    async def _remove(self, machine: Machine, volumes: bool) -> None:
        """The record goes first: what cannot be removed behind it is found by the next kistd. Raises KistError."""
        engine = self._engine
        release_surroundings(engine, machine)
        going = [
            mount.name for mount in machine.record.mounts if volumes and mount.type == "volume" and mount.anonymous
        ]
        for name in going:
            with suppress(OSError, KistError):  # a full disk: then a crash right now would leave it to a prune
                engine.volumes.mark(name)
        engine.index.forget(machine)
        try:
            if engine.snapshotter.exists(machine.record.snapshot):
                engine.snapshotter.remove(machine.record.snapshot)
        except KistError as error:
            log.error("the files of container %s stay until the next start: %s", machine.id, error.message)
        await self._remove_volumes(machine, going)
        engine.emit(machine, "destroy")
        release_monitor(engine, machine, removed=True)
        with suppress(OSError):  # a full disk: the next kistd finds that it is nobody's
            engine.shipping.give_up(machine)
        for waiter in machine.pending_waiters:
            answer_waiter(waiter, machine.state.exit_code)
        machine.pending_waiters = []
        for client in machine.pending_clients:
            os.close(client.descriptor)
        machine.pending_clients = []
        machine.removed.set()
        engine.spawn(self._remove_files(machine))

    async def _remove_volumes(self, machine: Machine, names: list[str]) -> None:
        volumes = self._engine.volumes
        for name in names:
            try:
                if volumes.users(name):
                    volumes.settle([name])
                else:
                    await volumes.remove(name, force=True)
            except (KistError, OSError) as error:
                log.error("volume %s of container %s stays: %s", name, machine.id, error)

    async def _remove_files(self, machine: Machine) -> None:
        await self._packing.settled(machine)
        await asyncio.to_thread(shutil.rmtree, self._engine.directory(machine.id), ignore_errors=True)
        await asyncio.to_thread(self._engine.snapshotter.collect)
        if machine.record.mounts:
            await self._engine.volumes.collect()
