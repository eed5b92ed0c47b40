"""`top`: the processes of a container."""

from __future__ import annotations

import msgspec

from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.kernel import cgroup
from kist.model.errors import Conflict
from kist.runtime import processes


class Top(msgspec.Struct, frozen=True):
    titles: tuple[str, ...]
    processes: tuple[tuple[str, ...], ...]


def top(engine: Engine, machine: Machine, arguments: str) -> Top:
    """Raises Conflict when it does not run, InvalidParameter for ps options this engine does not know."""
    machine.check_not_restarting()
    if not machine.state.alive:
        raise Conflict(f"container {machine.id} is not running")
    return Top(*processes.table(cgroup.pids(engine.layout, engine.cgroup(machine)), arguments or "-ef"))
