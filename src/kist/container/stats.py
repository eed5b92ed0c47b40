"""What containers use, sampled while somebody listens: one sampler a container, however many clients it has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.model.usage import Usage
from kist.runtime.usage import read_usage

INTERVAL = 1.0  # seconds


class _Sampler:
    """Clients that are slow miss samples; they never have old ones waiting for them."""

    def __init__(self) -> None:
        self.latest: Usage | None = None
        self.taken = 0.0  # monotonic; 0: not yet
        self.listeners = 0
        self.news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None

    def publish(self, usage: Usage | None) -> None:
        self.latest, self.taken = usage, time.monotonic()
        news, self.news = self.news, asyncio.get_running_loop().create_future()
        news.set_result(None)


class Sampling:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._samplers: dict[str, _Sampler] = {}

    async def now(self, machine: Machine) -> Usage | None:
        """One sample; None when it does not run."""
        if not machine.state.alive:
            return None
        name, pid, pidfd = self._engine.cgroup(machine), machine.state.pid, machine.pidfd
        usage = await asyncio.to_thread(read_usage, self._engine.layout, name, pid, pidfd)
        return usage if machine.state.alive else None

    async def follow(self, machine: Machine) -> AsyncIterator[Usage | None]:
        """A sample at once, then one an interval, until the container is removed; None while it does not run."""
        sampler = self._join(machine)
        removed = asyncio.ensure_future(machine.removed.wait())
        try:
            if time.monotonic() - sampler.taken <= INTERVAL:
                yield sampler.latest
            while not machine.removed.is_set():
                either: list[asyncio.Future[Any]] = [sampler.news, removed]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if machine.removed.is_set():
                    return
                yield sampler.latest
        finally:
            removed.cancel()
            self._leave(machine, sampler)

    def _join(self, machine: Machine) -> _Sampler:
        sampler = self._samplers.get(machine.id)
        if sampler is None:
            sampler = self._samplers[machine.id] = _Sampler()
            sampler.task = self._engine.spawn(self._sample(machine, sampler))
        sampler.listeners += 1
        return sampler

    def _leave(self, machine: Machine, sampler: _Sampler) -> None:
        sampler.listeners -= 1
        if not sampler.listeners:
            del self._samplers[machine.id]
            if sampler.task is not None:
                sampler.task.cancel()

    async def _sample(self, machine: Machine, sampler: _Sampler) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                begun = time.monotonic()
                sampler.publish(await self.now(machine))
                await asyncio.sleep(max(0.0, begun + INTERVAL - time.monotonic()))
