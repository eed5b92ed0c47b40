"""GET /containers/{name}/attach/ws: attaching by WebSocket, for what cannot take a connection out of HTTP (browsers).

Output is never multiplexed here. The connection ends with this kistd: the monitor has a plain socket, the frames are
made here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Protocol

from kist.api import compat
from kist.api.app import flag
from kist.http.router import Router
from kist.http.server import Request, Response
from kist.http.websocket import BINARY, TEXT, Bridge, accept_head
from kist.model.container import ContainerRecord
from kist.model.request import AttachRequest


class Containers(Protocol):
    def get(self, name: str) -> ContainerRecord: ...
    def check_keys(self, keys: str) -> None: ...
    def check_attachable(self, name: str) -> bool: ...
    async def attach(self, name: str, descriptor: int, request: AttachRequest) -> None: ...


Logs = Callable[[str, dict[str, Any], bool], AsyncIterator[bytes]]


class WebsocketRoutes:
    def __init__(self, containers: Containers, logs: Logs) -> None:
        self._containers, self._logs = containers, logs

    def add_to(self, router: Router) -> None:
        router.add("GET", "/containers/{name}/attach/ws", self.attach)

    async def attach(self, request: Request) -> Response | None:
        name, keys = request.parameters["name"], request.query.get("detachKeys", "")
        self._containers.check_keys(keys)
        self._containers.check_attachable(name)
        record = self._containers.get(name)
        taken = await request.hijack(accept_head(request.headers))
        kind = BINARY if compat.websocket_is_binary(request) else TEXT
        bridge = Bridge(socket.socket(fileno=taken.descriptor), taken.leftover, kind)
        feeding = asyncio.ensure_future(self._feed(request, record, bridge.plain, keys))
        try:
            await bridge.run()
        finally:
            feeding.cancel()
            with suppress(asyncio.CancelledError):
                await feeding
        return None

    async def _feed(self, request: Request, record: ContainerRecord, plain: socket.socket, keys: str) -> None:
        """Gives the plain side to the monitor, or what the log holds to it."""
        everything = compat.websocket_has_all(request)
        stdin, stdout, stderr = (everything or flag(request, one) for one in ("stdin", "stdout", "stderr"))
        past = flag(request, "logs")
        if flag(request, "stream"):
            wanted = AttachRequest(stdin, stdout, stderr, keys, past, multiplexed=False)
            await self._containers.attach(record.id, plain.detach(), wanted)
            return
        with plain:
            plain.setblocking(False)
            if past and (stdout or stderr):
                options = {"stdout": stdout, "stderr": stderr, "multiplexed": False}
                with suppress(ConnectionError):
                    async for piece in self._logs(record.id, options, False):
                        await asyncio.get_running_loop().sock_sendall(plain, piece)
