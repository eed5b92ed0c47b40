"""Routes of the engine as a whole: ping, version, info, disk usage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kist.api import compat
from kist.api.app import json_response
from kist.api.compat import API_VERSION, MINIMUM_VERSION
from kist.api.filters import parse_filters
from kist.http.router import Router
from kist.http.server import Request, Response
from kist.wire.images import BuildsPruned


class SystemRoutes:
    """`facts` answers /info, `usage` /system/df. `pruned` is told of pruning."""

    def __init__(
        self,
        version: dict[str, Any],
        facts: Callable[[], dict[str, Any]],
        usage: Callable[[frozenset[str]], Any],
        quiesce: Callable[[], Any],
        pruned: Callable[[str, int], None],
    ) -> None:
        self._version, self._facts, self._usage, self._quiesce = version, facts, usage, quiesce
        self._pruned = pruned

    def add_to(self, router: Router) -> None:
        router.add("GET", "/_ping", self.ping)
        router.add("HEAD", "/_ping", self.ping)
        router.add("GET", "/version", self.version)
        router.add("GET", "/info", self.info)
        router.add("GET", "/system/df", self.usage)
        router.add("POST", "/build/prune", self.prune_builds)
        router.add("POST", "/kist/quiesce", self.quiesce)

    async def ping(self, request: Request) -> Response:
        headers = {"Builder-Version": "1", "Swarm": "inactive", "Cache-Control": "no-cache, no-store, must-revalidate",
                   "Pragma": "no-cache"}  # fmt: skip
        body = b"" if request.method == "HEAD" else b"OK"
        return Response(200, body, "text/plain; charset=utf-8", headers)

    async def version(self, request: Request) -> Response:
        return json_response({**self._version, "ApiVersion": API_VERSION, "MinAPIVersion": MINIMUM_VERSION})

    async def info(self, request: Request) -> Response:
        return json_response(compat.info(request, self._facts()))

    async def usage(self, request: Request) -> Response:
        wanted = compat.usage_types(request)
        return json_response(compat.usage(request, await self._usage(wanted)))

    async def prune_builds(self, request: Request) -> Response:
        """There are no builds yet, and so no cache of theirs: `docker system prune` asks for it to be emptied, too."""
        parse_filters(request, None)
        self._pruned("builder", 0)
        return json_response(BuildsPruned(caches_deleted=None, space_reclaimed=0))

    async def quiesce(self, request: Request) -> Response:
        """Beyond Docker: answers when nothing is being torn down any more."""
        await self._quiesce()
        return Response(204)
