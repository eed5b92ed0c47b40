"""`kist.health-on-failure`: what is done with a container that has become unhealthy."""

from __future__ import annotations

import logging

from kist.container import health
from kist.container.engine import Engine
from kist.container.lifecycle import Lifecycle
from kist.container.machine import Machine
from kist.model.errors import KistError, NotModified

log = logging.getLogger(__name__)


class Unhealthy:
    """`kill` ends it as a crash would, so that its restart policy decides; `stop` is as a user's; `restart` counts."""

    def __init__(self, engine: Engine, lifecycle: Lifecycle) -> None:
        self._engine, self._lifecycle = engine, lifecycle

    def heard(self, machine: Machine) -> None:
        action = health.action(machine.record.config, machine.record.host_config)
        if action != "none":
            self._engine.spawn(self._act(machine, action))

    async def _act(self, machine: Machine, action: str) -> None:
        log.warning("container %s is unhealthy: %s", machine.name, action)
        try:
            if action == "kill":
                self._lifecycle.ending.put_down(machine)
            elif action == "stop":
                await self._lifecycle.ending.stop(machine)
            elif action == "restart":
                await self._lifecycle.restart(machine, counted=True)
        except NotModified:
            return  # it has ended meanwhile
        except KistError as error:
            log.error("unhealthy container %s: %s failed: %s", machine.name, action, error.message)
