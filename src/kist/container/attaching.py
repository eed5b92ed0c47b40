"""Attaching to what a container has said and to what it says from then on, with nothing lost or told twice between.

The monitor takes the client first and keeps its output back. It tells when that was; the log up to then goes to the
client from here, and then the monitor is told to let go. What has no newline yet is in no log: the monitor has it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from contextlib import suppress

import msgspec

from kist.container import clients
from kist.container.engine import Engine
from kist.container.logs import read_logs
from kist.container.machine import Machine
from kist.logs.reader import LogOptions
from kist.model.errors import KistError
from kist.runtime.supervisor import HOLDS, AttachClient

_MONITOR_SECONDS = 10.0


async def attach_with_past(engine: Engine, machine: Machine, client: AttachClient) -> None:
    """Takes the client over before anything else can happen. The descriptor is the engine's from here on.

    A monitor of an earlier version holds nothing back: the log comes first, and what is said in that moment is missed.
    """
    if machine.state.alive and machine.monitor_version < HOLDS:
        with suppress(ConnectionError), socket.socket(fileno=os.dup(client.descriptor)) as connection:
            connection.setblocking(False)
            await _send_past(engine, machine, client, 0, connection)
        clients.attach(engine, machine, client)
        return
    key = secrets.token_hex(8)
    hold: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    machine.holds[key] = hold
    if not (machine.handle is not None and not machine.handle.closed and machine.state.alive):
        hold.set_result(time.time_ns())  # it waits for the start: what there is was said before
    with socket.socket(fileno=os.dup(client.descriptor)) as connection:
        connection.setblocking(False)
        clients.attach(engine, machine, msgspec.structs.replace(client, held=key))
        try:
            with suppress(ConnectionError, TimeoutError):
                until = await asyncio.wait_for(hold, _MONITOR_SECONDS)
                await _send_past(engine, machine, client, until, connection)
        finally:
            del machine.holds[key]
            _let_go(machine, key)


async def _send_past(
    engine: Engine, machine: Machine, client: AttachClient, until: int, connection: socket.socket
) -> None:
    options = LogOptions(stdout=client.stdout, stderr=client.stderr, until=until, multiplexed=client.multiplexed)
    if not (client.stdout or client.stderr):
        return
    async for piece in read_logs(engine, machine, options, follow=False):
        await asyncio.get_running_loop().sock_sendall(connection, piece)


def _let_go(machine: Machine, key: str) -> None:
    machine.pending_clients = [
        msgspec.structs.replace(one, held="") if one.held == key else one for one in machine.pending_clients
    ]
    if machine.handle is not None and not machine.handle.closed:
        with suppress(KistError):
            machine.handle.send({"command": "let_go", "id": key})
