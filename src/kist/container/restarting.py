"""Restart policies: which containers start again by themselves, and after which pause.

The rules and the times are those of dockerd's restart manager: 100 ms, doubled with every end up to a minute, and from
the beginning once a container has run for ten seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.model.config import RestartPolicy
from kist.model.container import ContainerRecord
from kist.model.errors import KistError, NotModified

log = logging.getLogger(__name__)
FIRST_SECONDS, LONGEST_SECONDS = 0.1, 60.0
STABLE_SECONDS = 10.0
Start = Callable[[Machine], Awaitable[None]]
_NO_POLICY = RestartPolicy("no")
_DONOR_SECONDS = 5.0  # how long a container waits at boot for the one whose network it joins


def policy_of(record: ContainerRecord) -> RestartPolicy:
    return record.host_config.restart_policy or _NO_POLICY


def has_policy(record: ContainerRecord) -> bool:
    return policy_of(record).name not in ("", "no")


def starts_again(record: ContainerRecord, code: int) -> bool:
    """Whether a container that ended with `code` right now is to start again. Nothing does that was told to stop."""
    if record.manually_stopped:
        return False
    return policy_of(record).name in ("always", "unless-stopped") or _failed(record, code)


def starts_at_boot(record: ContainerRecord) -> bool:
    """Whether one that does not run is to be started by a kistd that begins.

    `always` holds even after a manual stop, as Docker documents it.
    """
    if record.state.running or not record.has_been_started:
        return False
    name = policy_of(record).name
    if name == "always":
        return True
    return not record.manually_stopped and (name == "unless-stopped" or _failed(record, record.state.exit_code))


def _failed(record: ContainerRecord, code: int) -> bool:
    policy = policy_of(record)
    most = policy.maximum_retry_count
    return policy.name == "on-failure" and code != 0 and (most == 0 or record.restart_count < most)


def next_delay(last: float, ran: float) -> float:
    """Seconds before a start, after a pause of `last` (0: none yet) and a life of `ran`."""
    if last == 0 or ran >= STABLE_SECONDS:
        return FIRST_SECONDS
    return min(last * 2, LONGEST_SECONDS)


class Restarts:
    """The pauses between two lives: one timer for each container that is in one."""

    def __init__(self, engine: Engine, start: Start, start_again: Start) -> None:
        self._engine, self._start, self._start_again = engine, start, start_again
        self._early: list[Machine] | None = []  # whose pause ended before all was found that an earlier kistd left

    def schedule(self, machine: Machine, ran: float) -> None:
        """It has ended after `ran` seconds, and is to start again after a pause."""
        machine.delay = next_delay(machine.delay, ran)
        machine.restart = asyncio.get_running_loop().call_later(machine.delay, self._due, machine)

    def _due(self, machine: Machine) -> None:
        if self._early is not None:
            self._early.append(machine)
            return
        machine.restart = None
        self._engine.spawn(self._begin(machine))

    def begin(self, machines: Iterable[Machine]) -> None:
        """All is found: pauses may end from here on, and `machines` start now, each after the ones that it joins."""
        early, self._early = self._early or [], None
        for machine in early:
            self._due(machine)
        tasks: dict[str, asyncio.Task[None]] = {}
        for machine in sorted(machines, key=lambda one: one.record.created):
            tasks[machine.id] = self._engine.spawn(self._boot(machine, tasks))

    async def _boot(self, machine: Machine, tasks: dict[str, asyncio.Task[None]]) -> None:
        donors = [task for donor in self._donors(machine) if (task := tasks.get(donor)) is not None]
        if donors:
            await asyncio.wait(donors, timeout=_DONOR_SECONDS)
        await self._begin(machine, anew=True)

    def _donors(self, machine: Machine) -> list[str]:
        """Ids of the containers whose namespaces it joins."""
        host, found = machine.record.host_config, []
        for mode in (host.network_mode, host.ipc_mode, host.pid_mode):
            if mode.startswith("container:"):
                try:
                    found.append(self._engine.index.find(mode.partition(":")[2]).id)
                except KistError:
                    continue  # it is gone: the start says so
        return [one for one in found if one != machine.id]

    async def _begin(self, machine: Machine, *, anew: bool = False) -> None:
        try:
            await (self._start if anew else self._start_again)(machine)
        except NotModified:
            return  # a client was faster
        except KistError as error:
            log.warning("container %s is not started again: %s", machine.name, error.message)
        except Exception:
            log.exception("container %s is not started again", machine.name)
