"""What a container lets go of: addresses and ports, its monitor, and those who wait for its end."""

from __future__ import annotations

import os
import shutil

import msgspec

from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.container.volume_mounts import release_volumes
from kist.model.errors import KistError
from kist.runtime.supervisor import WaitClient


def release_surroundings(engine: Engine, machine: Machine) -> None:
    """Addresses, ports and names are free; the record in memory says so. Its volumes are unmounted in a moment."""
    release_volumes(engine, machine)
    engine.naming.stop(machine)
    engine.naming.remove(machine.record.endpoints)
    for endpoint in machine.record.endpoints:
        engine.networks.detach(endpoint)
    if machine.record.ports:
        engine.networks.unpublish(machine.id)
    if machine.record.endpoints or machine.record.ports:
        machine.record = msgspec.structs.replace(machine.record, endpoints=(), ports=())


def release_monitor(engine: Engine, machine: Machine, *, removed: bool) -> None:
    """Lets the monitor go; its directory is not needed any more."""
    handle = machine.handle
    if handle is not None and not handle.closed:
        try:
            handle.send({"command": "release", "removed": removed, "code": machine.state.exit_code})
        except KistError:
            pass
    if removed or engine.index.is_saved(machine):  # or else the next kistd learns the end from its exit file
        shutil.rmtree(engine.run_dir(machine), ignore_errors=True)


def answer_pending(machine: Machine) -> None:
    """It does not run: those who wait for that and found no monitor to wait at are told."""
    for waiter in [one for one in machine.pending_waiters if not one.removed]:
        machine.pending_waiters.remove(waiter)
        answer_waiter(waiter, machine.state.exit_code)


def answer_waiter(waiter: WaitClient, code: int) -> None:
    """The body of a `/wait` whose head was sent; closes the connection."""
    text = b'{"StatusCode":%d}\n' % code
    try:
        os.write(waiter.descriptor, b"%x\r\n%s\r\n0\r\n\r\n" % (len(text), text))
    except OSError:
        pass
    os.close(waiter.descriptor)
