"""Routes of checkpoints: of an experimental engine only, as dockerd has them; not in the contract file."""

from __future__ import annotations

from typing import Protocol

import msgspec

from kist.api.app import body, json_response
from kist.http.router import Router
from kist.http.server import Handler, Request, Response
from kist.model.errors import Forbidden, InvalidParameter, NotSupported
from kist.wire.containers import Checkpoint

_OFF = (
    "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to "
    "enable it."
)


class _CreateBody(msgspec.Struct, frozen=True):
    checkpoint_id: str = msgspec.field(name="CheckpointID", default="")
    checkpoint_dir: str = msgspec.field(name="CheckpointDir", default="")
    exit: bool = msgspec.field(name="Exit", default=False)


class Checkpoints(Protocol):
    def checkpoints(self, name: str, directory: str) -> list[str]: ...
    def checkpoint_create(self, name: str, checkpoint: str, directory: str, *, leave: bool) -> None: ...
    def checkpoint_remove(self, name: str, checkpoint: str, directory: str) -> None: ...
    def checkpoint_start(self, name: str, checkpoint: str) -> None: ...


class CheckpointRoutes:
    def __init__(self, checkpoints: Checkpoints, *, experimental: bool) -> None:
        self._checkpoints, self._experimental = checkpoints, experimental

    def add_to(self, router: Router) -> None:
        router.add("GET", "/containers/{name}/checkpoints", self._when_on(self.list))
        router.add("POST", "/containers/{name}/checkpoints", self._when_on(self.create))
        router.add("DELETE", "/containers/{name}/checkpoints/{checkpoint}", self._when_on(self.remove))

    def _when_on(self, handler: Handler) -> Handler:
        async def refuse(request: Request) -> Response:
            raise NotSupported(_OFF)

        return handler if self._experimental else refuse

    def check_start(self, request: Request) -> None:
        """Raises what a start from a checkpoint deserves; nothing when none is asked for."""
        checkpoint = request.query.get("checkpoint", "")
        if checkpoint and not self._experimental:
            raise InvalidParameter("checkpoint is only supported in experimental mode")
        if request.query.get("checkpoint-dir", ""):
            raise Forbidden("custom checkpointdir is not supported")
        if checkpoint:
            self._checkpoints.checkpoint_start(request.parameters["name"], checkpoint)

    async def list(self, request: Request) -> Response:
        found = self._checkpoints.checkpoints(request.parameters["name"], request.query.get("dir", ""))
        return json_response([Checkpoint(name=one) for one in found] or None)

    async def create(self, request: Request) -> Response:
        asked = await body(request, _CreateBody, "checkpoint.CreateOptions")
        self._checkpoints.checkpoint_create(
            request.parameters["name"], asked.checkpoint_id, asked.checkpoint_dir, leave=not asked.exit
        )
        return Response(201)

    async def remove(self, request: Request) -> Response:
        name, checkpoint = request.parameters["name"], request.parameters["checkpoint"]
        self._checkpoints.checkpoint_remove(name, checkpoint, request.query.get("dir", ""))
        return Response(204)
