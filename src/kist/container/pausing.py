"""Pause and unpause: every process of a container stopped and continued by the freezer (cgroups(7))."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec

from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.kernel import cgroup
from kist.model.errors import Conflict, KistError


async def pause(engine: Engine, machine: Machine, *, briefly: bool = False) -> None:
    """`briefly`: for the engine itself, and recorded before it is done: the next kistd ends it.

    Raises Conflict with Docker's texts when it does not run or is paused already, KistError when it cannot be."""
    async with machine.lock:
        if not machine.state.running:
            raise Conflict(f"container {machine.id} is not running")
        machine.check_not_restarting()
        if machine.state.paused:
            raise Conflict(f"Container {machine.id} is already paused")
        name = engine.cgroup(machine)
        if briefly:
            _mark(engine, machine, machine.state.status, briefly=True)
        try:
            await asyncio.to_thread(cgroup.freeze, engine.layout, name)
        except OSError as error:
            if not machine.state.running:  # it ended meanwhile, and its group is gone
                raise Conflict(f"container {machine.id} is not running") from error
            with suppress(OSError):
                cgroup.thaw(engine.layout, name)
            raise KistError(f"cannot pause container {machine.id}: {error.strerror}") from error
        if machine.state.running:
            _record(engine, machine, "paused", "pause", briefly=briefly)


async def unpause(engine: Engine, machine: Machine) -> None:
    """Raises KistError with Docker's text when it is not paused."""
    async with machine.lock:
        if not machine.state.paused:
            raise KistError(f"Container {machine.id} is not paused")
        continue_now(engine, machine)


def continue_now(engine: Engine, machine: Machine) -> None:
    """Lets a paused container go on, for a signal that it would not get otherwise. Raises KistError."""
    if not machine.state.paused:
        return
    try:
        cgroup.thaw(engine.layout, engine.cgroup(machine))
    except FileNotFoundError:
        return  # it has just been killed: its end is about to be heard of
    except OSError as error:
        raise KistError(f"cannot resume container {machine.id}: {error.strerror}") from error
    _record(engine, machine, "running", "unpause")


def resume(engine: Engine, machine: Machine) -> None:
    """An earlier kistd paused it, and did not live to let it go on."""
    with suppress(OSError):  # it has ended, and its group is gone
        cgroup.thaw(engine.layout, engine.cgroup(machine))
    _mark(engine, machine, "running", briefly=False)


def _mark(engine: Engine, machine: Machine, status: str, *, briefly: bool) -> None:
    state = msgspec.structs.replace(machine.state, status=status, paused_briefly=briefly)
    engine.index.observe(machine, msgspec.structs.replace(machine.record, state=state))


def _record(engine: Engine, machine: Machine, status: str, action: str, *, briefly: bool = False) -> None:
    _mark(engine, machine, status, briefly=briefly)
    engine.changed(machine)
    engine.emit(machine, action)
