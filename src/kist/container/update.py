"""`update`: new limits for a container, at once where it runs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from kist.container import validate
from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.kernel import cgroup
from kist.model.config import HostConfig, RestartPolicy
from kist.model.errors import Conflict, KistError
from kist.runtime import limits, spec

_FIELDS = (
    "blkio_weight", "cpu_shares", "nano_cpus", "cpu_period", "cpu_quota", "cpuset_cpus", "cpuset_mems", "memory",
    "memory_swap", "memory_reservation", "kernel_memory", "cpu_realtime_period", "cpu_realtime_runtime",
)  # fmt: skip


async def update(engine: Engine, machine: Machine, asked: HostConfig) -> tuple[str, ...]:
    """Warnings. What the request leaves out stays. Raises InvalidParameter, Conflict with Docker's texts."""
    validate.validate_restart_policy(asked.restart_policy)
    asked, warnings = validate.validate_resources(asked, engine.limits, update=True)
    async with machine.lock:
        if machine.record.removing:
            raise Conflict(
                f'Cannot update container {machine.id}: container is marked for removal and cannot be "update"'
            )
        try:
            host = merge(machine.record.host_config, asked)
        except Conflict as error:
            raise Conflict(f"Cannot update container {machine.id}: {error.message}") from error
        try:
            _apply(engine, machine, host)
            engine.index.save(machine, msgspec.structs.replace(machine.record, host_config=host))
        except (OSError, KistError) as error:
            with suppress(OSError):  # what was written before the refusal
                _apply(engine, machine, machine.record.host_config)
            raise KistError(f"Cannot update container {machine.id}: {_reason(error)}") from error
    engine.emit(machine, "update")
    return tuple(warnings)


def _apply(engine: Engine, machine: Machine, host: HostConfig) -> None:
    if machine.state.alive:
        try:
            limits.apply(engine.layout, engine.cgroup(machine), spec.limits_of(host))
        except OSError:
            if cgroup.exists(engine.layout, engine.cgroup(machine)):
                raise
            return  # it has just ended: the limits are those of its next life
        if host.memory and machine.handle is not None and not machine.handle.closed:
            machine.handle.send({"command": "watch_oom"})  # which it does already where it began with a limit


def _reason(error: OSError | KistError) -> str:
    if isinstance(error, KistError):
        return error.message
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def merge(now: HostConfig, asked: HostConfig) -> HostConfig:
    """Raises Conflict where two ways to say the same meet."""
    for wanted, name, present, other in (
        (asked.nano_cpus, "Nano CPUs", now.cpu_period, "CPU Period"),
        (asked.nano_cpus, "Nano CPUs", now.cpu_quota, "CPU Quota"),
        (asked.cpu_period, "CPU Period", now.nano_cpus, "NanoCPUs"),
        (asked.cpu_quota, "CPU Quota", now.nano_cpus, "NanoCPUs"),
    ):
        if wanted > 0 and present > 0:
            raise Conflict(f"Conflicting options: {name} cannot be updated as {other} has already been set")
    if asked.memory > now.memory_swap >= 0 and asked.memory_swap == 0 and now.memory_swap != 0:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    policy = asked.restart_policy or RestartPolicy("")
    if policy.name not in ("", "no") and now.auto_remove:
        raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
    changed: dict[str, Any] = {name: getattr(asked, name) for name in _FIELDS if getattr(asked, name)}
    if policy.name:
        changed["restart_policy"] = policy
    if asked.pids_limit is not None:
        changed["pids_limit"] = asked.pids_limit if asked.pids_limit > 0 else -1
    return msgspec.structs.replace(now, **changed)
