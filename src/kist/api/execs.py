"""Routes of execs."""

from __future__ import annotations

import base64
import os
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from kist.api import compat
from kist.api.app import body, json_response
from kist.api.containers import upgrade, window_size
from kist.http.router import Router
from kist.http.server import Request, Response
from kist.model.config import ExecConfig, wire_name
from kist.model.errors import InvalidParameter
from kist.wire.answer import Created
from kist.wire.containers import ExecInspect, ProcessConfig


class _StartBody(msgspec.Struct, frozen=True, rename=wire_name):
    detach: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None


class ExecView(Protocol):
    """What is shown of an exec."""

    id: str
    container: str
    config: ExecConfig
    running: bool
    pid: int
    exit_code: int | None


class Execs(Protocol):
    def exec_create(self, name: str, config: ExecConfig) -> str: ...
    def exec_get(self, exec_id: str) -> Any: ...
    def exec_check(self, exec_id: str) -> Any: ...
    async def exec_start_detached(self, exec_id: str, console: tuple[int, int] | None) -> None: ...
    async def exec_start(
        self, exec_id: str, descriptor: int, leftover: bytes, console: tuple[int, int] | None, *, multiplexed: bool
    ) -> None: ...
    def exec_resize(self, exec_id: str, height: int, width: int) -> None: ...
    def exec_detach_keys(self, exec_id: str) -> bytes: ...


class ExecRoutes:
    def __init__(self, execs: Execs) -> None:
        self._execs = execs

    def add_to(self, router: Router) -> None:
        router.add("POST", "/containers/{name:.*}/exec", self.create)
        router.add("POST", "/exec/{id}/start", self.start)
        router.add("POST", "/exec/{id}/resize", self.resize)
        router.add("GET", "/exec/{id}/json", self.inspect)

    async def create(self, request: Request) -> Response:
        config = compat.exec_create(request, await body(request, ExecConfig, "container.ExecOptions"))
        return json_response(Created(id=self._execs.exec_create(request.parameters["name"], config)), 201)

    async def start(self, request: Request) -> Response | None:
        options = await body(request, _StartBody, "container.ExecStartOptions")
        exec_id = request.parameters["id"]
        state: ExecView = self._execs.exec_check(exec_id)
        console = compat.exec_console_size(request, options.console_size)
        if console is not None and not state.config.tty and any(console):
            raise InvalidParameter("console size is only supported with TTY enabled")
        if options.detach:
            await self._execs.exec_start_detached(exec_id, console)
            return Response(200)
        # The start says how its streams come, as in dockerd: without Tty there a terminal's output is in frames too.
        taken = await upgrade(request, tty=options.tty, headers=request.extra_headers)
        try:
            await self._execs.exec_start(
                exec_id, taken.descriptor, taken.leftover, console, multiplexed=not options.tty
            )
        finally:
            os.close(taken.descriptor)
        return None

    async def resize(self, request: Request) -> Response:
        height, width = window_size(request)
        self._execs.exec_resize(request.parameters["id"], height, width)
        return Response(200)

    async def inspect(self, request: Request) -> Response:
        state: ExecView = self._execs.exec_get(request.parameters["id"])
        config = state.config
        command = config.cmd or [""]
        return json_response(
            ExecInspect(
                id=state.id,
                running=state.running,
                exit_code=state.exit_code,
                process_config=ProcessConfig(
                    tty=config.tty,
                    entrypoint=command[0],
                    arguments=command[1:],
                    privileged=config.privileged,
                    user=config.user or UNSET,
                ),
                open_stdin=config.attach_stdin,
                open_stderr=config.attach_stderr,
                open_stdout=config.attach_stdout,
                can_remove=False,
                container_id=state.container,
                detach_keys=base64.b64encode(self._execs.exec_detach_keys(state.id)).decode(),
                pid=state.pid,
            )
        )
