"""Rotated log files are compressed here, in a thread: a monitor only tells that there is one."""

from __future__ import annotations

import asyncio
import logging
import os

from kist.container.engine import Engine
from kist.container.logging import compresses
from kist.container.machine import Machine
from kist.logs.compress import compress_rotated
from kist.model.errors import KistError

log = logging.getLogger(__name__)


class Packing:
    """One task per container at a time; what is rotated meanwhile is its too."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._more: set[str] = set()
        self._told: set[str] = set()  # whose log could not be compressed last time

    def rotated(self, machine: Machine) -> None:
        if machine.id in self._tasks:
            self._more.add(machine.id)
            return
        task = self._tasks[machine.id] = self._engine.spawn(self._pack(machine))
        task.add_done_callback(lambda _: self._tasks.pop(machine.id, None))

    async def _pack(self, machine: Machine) -> None:
        while True:
            self._more.discard(machine.id)
            try:
                await asyncio.to_thread(compress_rotated, self._engine.log_path(machine))
            except OSError as error:
                if not machine.record.removing and machine.id not in self._told:
                    self._told.add(machine.id)
                    log.warning("the log of container %s is not compressed: %s", machine.id, error)
                return
            self._told.discard(machine.id)
            if machine.id not in self._more:
                return

    async def settled(self, machine: Machine) -> None:
        """Before its directory is removed."""
        self._told.discard(machine.id)
        task = self._tasks.get(machine.id)
        if task is not None:
            await asyncio.wait([task])

    async def catch_up(self) -> None:
        """What was rotated while no kistd was there."""
        for machine in self._engine.index.all():
            try:
                path = self._engine.log_path(machine)
                if compresses(machine.record) and os.path.exists(f"{path}.1"):
                    self.rotated(machine)
            except (KistError, ValueError):
                continue  # options of another version
