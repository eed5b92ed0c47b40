"""Routes of volumes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from kist.api import compat, render
from kist.api.app import body, flag, json_response
from kist.api.filters import boolean, match_labels, parse_filters
from kist.http.router import Router
from kist.http.server import Request, Response
from kist.model.config import wire_name
from kist.model.volume import ShownVolume, Volume
from kist.wire import networks as wire


class _CreateBody(msgspec.Struct, frozen=True, rename=wire_name):
    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class Volumes(Protocol):
    def all(self) -> list[Volume]: ...
    async def listed(self) -> tuple[list[ShownVolume], list[str]]: ...
    async def inspect(self, name: str) -> ShownVolume: ...
    async def create(
        self,
        name: str = "",
        driver: str = "",
        driver_options: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
    ) -> Volume: ...
    async def remove(self, name: str, *, force: bool = False) -> None: ...
    async def collect(self) -> None: ...
    def in_use(self, name: str) -> bool: ...
    async def prune(self, names: list[str]) -> tuple[list[str], int]: ...


class VolumeFiles(Protocol):
    """The engine's own: volumes as a whole."""

    def export(self, name: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...
    async def import_(self, name: str, chunks: AsyncIterator[bytes]) -> Volume: ...
    async def clone(self, source: str, target: str, *, snapshot: bool = False) -> Volume: ...


class VolumeFileRoutes:
    """What Docker has not: a volume as a tar, from a tar, and from another volume."""

    def __init__(self, files: VolumeFiles) -> None:
        self._files = files

    def add_to(self, router: Router) -> None:
        router.add("GET", "/kist/volumes/{name:.*}/export", self.export)
        router.add("POST", "/kist/volumes/{name:.*}/import", self.import_)
        router.add("POST", "/kist/volumes/{name:.*}/clone", self.clone)

    async def export(self, request: Request) -> None:
        async with self._files.export(request.parameters["name"]) as chunks:
            await request.start_stream(content_type="application/x-tar")
            async for chunk in chunks:
                await request.write(chunk)

    async def import_(self, request: Request) -> Response:
        made = await self._files.import_(request.parameters["name"], request.chunks())
        return json_response(render.volume(made), 201)

    async def clone(self, request: Request) -> Response:
        """`to` names the new volume; `snapshot`: nobody writes meanwhile."""
        made = await self._files.clone(
            request.parameters["name"], request.query.get("to", ""), snapshot=flag(request, "snapshot")
        )
        return json_response(render.volume(made), 201)


class VolumeRoutes:
    """`pruned` is told the kind of what was pruned and how many bytes that freed."""

    def __init__(self, volumes: Volumes, pruned: Callable[[str, int], None]) -> None:
        self._volumes, self._pruned = volumes, pruned

    def add_to(self, router: Router) -> None:
        router.add("GET", "/volumes", self.all)
        router.add("POST", "/volumes/create", self.create)
        router.add("POST", "/volumes/prune", self.prune)
        router.add("GET", "/volumes/{name:.*}", self.inspect)
        router.add("DELETE", "/volumes/{name:.*}", self.remove)

    async def all(self, request: Request) -> Response:
        filters = parse_filters(
            request, frozenset({"dangling", "driver", "label", "name"}), "error reading volume filters: "
        )
        dangling = boolean(filters, "dangling")
        listed, warnings = await self._volumes.listed()
        found = [
            msgspec.structs.replace(render.shown_volume(one), status=msgspec.UNSET)
            for one in listed
            if match_labels(filters, one.volume.labels)
            and (not filters.get("name") or any(part in one.volume.name for part in filters["name"]))
            and (not filters.get("driver") or one.volume.driver in filters["driver"])
            and (dangling is None or dangling != self._volumes.in_use(one.volume.name))
        ]
        return json_response(wire.Volumes(volumes=found, warnings=warnings or None))

    async def create(self, request: Request) -> Response:
        asked = await body(request, _CreateBody, "volume.CreateOptions")
        made = await self._volumes.create(asked.name, asked.driver, asked.driver_opts, asked.labels)
        return json_response(render.volume(made), 201)

    async def inspect(self, request: Request) -> Response:
        return json_response(render.shown_volume(await self._volumes.inspect(request.parameters["name"])))

    async def remove(self, request: Request) -> Response:
        await self._volumes.remove(request.parameters["name"], force=flag(request, "force"))
        await self._volumes.collect()
        return Response(204)

    async def prune(self, request: Request) -> Response:
        filters = parse_filters(request, frozenset({"label", "label!", "all"}))
        everything = boolean(filters, "all") is True or compat.prunes_named_volumes(request)
        names = [
            volume.name
            for volume in self._volumes.all()
            if volume.is_plain  # of others no space is known to be freed, and what is in them may be anybody's
            and (everything or volume.anonymous)
            and match_labels(filters, volume.labels)
            and not ("label!" in filters and match_labels(filters, volume.labels, "label!"))
            and not self._volumes.in_use(volume.name)
        ]
        removed, freed = await self._volumes.prune(names)
        self._pruned("volume", freed)
        return json_response(wire.VolumesPruned(volumes_deleted=removed or None, space_reclaimed=freed))
