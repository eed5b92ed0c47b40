"""Clients that attach, wait or resize: they go to the monitor, or are kept for the start."""

from __future__ import annotations

import os

from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.model.errors import Conflict, InvalidParameter
from kist.runtime.supervisor import AttachClient, WaitClient


def add_waiter(machine: Machine, waiter: WaitClient) -> None:
    """Takes a client that has its head; the descriptor is ours from here on."""
    machine.forget_gone_clients()
    if machine.handle is not None and not machine.handle.closed and machine.state.alive:
        machine.handle.send({"command": "wait", **waiter.message()}, [waiter.descriptor])
        machine.handed_over.append(waiter)
    else:
        machine.pending_waiters.append(waiter)


def attach(engine: Engine, machine: Machine, client: AttachClient) -> None:
    """Hands a client to the monitor, or keeps it for the start."""
    machine.forget_gone_clients()
    if machine.handle is not None and not machine.handle.closed and machine.state.alive:
        machine.handle.send({"command": "attach", **client.message()}, [client.descriptor])
        os.close(client.descriptor)
    else:
        machine.pending_clients.append(client)
    engine.emit(machine, "attach")


def resize(engine: Engine, machine: Machine, height: int, width: int) -> None:
    machine.check_controllable()
    if not machine.state.alive or machine.handle is None:
        raise Conflict(f"container {machine.id} is not running")
    machine.handle.send({"command": "resize", "height": height, "width": width})
    engine.emit(machine, "resize", height=str(height), width=str(width))


def detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` as the bytes a terminal sends. Raises InvalidParameter with Docker's text."""
    found = bytearray()
    for key in (text or "ctrl-p,ctrl-q").split(","):
        if len(key) == 1 and key.isascii():
            found += key.encode()
        elif key.startswith("ctrl-") and len(key) == 6 and (key[5].isalpha() or key[5] in "@[\\]^_"):
            found.append(ord(key[5].upper()) & 0x1F)
        else:
            raise InvalidParameter(f"Invalid escape keys ({text}) provided")
    return bytes(found)
