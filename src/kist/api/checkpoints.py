"""Routes of checkpoints, which dockerd has in experimental mode only."""

from __future__ import annotations

from typing import Protocol

import msgspec

from kist.api.app import body, json_response
from kist.http.router import Router
from kist.http.server import Handler, Request, Response
from kist.model.errors import NotSupported
from kist.wire.containers import Checkpoint

_DISABLED = (
    "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable "
    "it."
)


class _CreateBody(msgspec.Struct, frozen=True):
    """`Exit`: the container ends with it."""

    name: str = msgspec.field(name="CheckpointID", default="")
    directory: str = msgspec.field(name="CheckpointDir", default="")
    exit: bool = msgspec.field(name="Exit", default=False)


class Containers(Protocol):
    async def checkpoint(self, name: str, checkpoint: str, directory: str, *, leave_running: bool) -> None: ...
    def checkpoints(self, name: str, directory: str) -> list[str]: ...
    async def remove_checkpoint(self, name: str, checkpoint: str, directory: str) -> None: ...


class CheckpointRoutes:
    def __init__(self, containers: Containers, *, experimental: bool) -> None:
        self._containers, self._experimental = containers, experimental

    def add_to(self, router: Router) -> None:
        for method, pattern, handler in (
            ("GET", "/containers/{name}/checkpoints", self.list),
            ("POST", "/containers/{name}/checkpoints", self.create),
            ("DELETE", "/containers/{name}/checkpoints/{checkpoint}", self.remove),
        ):
            router.add(method, pattern, handler if self._experimental else _refuse())

    async def list(self, request: Request) -> Response:
        found = self._containers.checkpoints(request.parameters["name"], request.query.get("dir", ""))
        return json_response([Checkpoint(name=name) for name in found])

    async def create(self, request: Request) -> Response:
        asked = await body(request, _CreateBody, "checkpoint.CreateOptions")
        name = request.parameters["name"]
        await self._containers.checkpoint(name, asked.name, asked.directory, leave_running=not asked.exit)
        return Response(201)

    async def remove(self, request: Request) -> Response:
        name, checkpoint = request.parameters["name"], request.parameters["checkpoint"]
        await self._containers.remove_checkpoint(name, checkpoint, request.query.get("dir", ""))
        return Response(204)


def _refuse() -> Handler:
    async def handler(request: Request) -> Response:
        raise NotSupported(_DISABLED)

    return handler
