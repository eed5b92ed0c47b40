"""Routes of the engine as a whole: ping, version, info, events, disk usage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from msgspec import UNSET

from kist.api import compat
from kist.api.app import json_response
from kist.api.compat import API_VERSION, MINIMUM_VERSION
from kist.api.filters import Filters, match_labels, parse_filters
from kist.api.times import parse_timestamp
from kist.http.router import Router
from kist.http.server import Request, Response
from kist.model.errors import InvalidParameter
from kist.wire.encode import dumps
from kist.wire.system import Actor, Event, EventType


class EventView(Protocol):
    type: EventType
    action: str
    actor: str
    attributes: dict[str, str]
    time: int


class SystemRoutes:
    """`facts` answers /info, `usage` /system/df; `listen(since, until)` gives events."""

    def __init__(
        self,
        version: dict[str, Any],
        facts: Callable[[], dict[str, Any]],
        usage: Callable[[frozenset[str]], Any],
        listen: Callable[[int | None, int | None], AsyncIterator[Any]],
        quiesce: Callable[[], Any],
    ) -> None:
        self._version, self._facts, self._usage, self._listen, self._quiesce = version, facts, usage, listen, quiesce

    def add_to(self, router: Router) -> None:
        router.add("GET", "/_ping", self.ping)
        router.add("HEAD", "/_ping", self.ping)
        router.add("GET", "/version", self.version)
        router.add("GET", "/info", self.info)
        router.add("GET", "/events", self.events)
        router.add("GET", "/system/df", self.usage)
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

    async def quiesce(self, request: Request) -> Response:
        """Beyond Docker: answers when nothing is being torn down any more."""
        await self._quiesce()
        return Response(204)

    async def events(self, request: Request) -> Response | None:
        filters = parse_filters(request, None)  # dockerd takes any name here
        since = parse_timestamp(request.query.get("since", "")) or None
        until = parse_timestamp(request.query.get("until", "")) or None
        if since and until and until < since:
            raise InvalidParameter(
                f"`since` time ({request.query['since']}) cannot be after `until` time ({request.query['until']})"
            )
        await request.start_stream(endless=until is None)
        async for event in self._listen(since, until):
            action = compat.event_action(request, event.type, event.action)
            if action is not None and matches(event, action, filters):
                await request.write(dumps(render(event, action)))
        return None


def render(event: EventView, action: str) -> Event:
    in_old_form = event.type in ("container", "image")
    return Event(
        status=action if in_old_form else UNSET,
        id=event.actor if in_old_form else UNSET,
        from_=event.attributes.get("image", "") or UNSET if event.type == "container" else UNSET,
        type=event.type,
        action=action,
        actor=Actor(id=event.actor, attributes=event.attributes),
        scope="local",
        time=event.time // 1_000_000_000,
        time_nano=event.time,
    )


def matches(event: EventView, action: str, filters: Filters) -> bool:
    """Values of one filter are alternatives; all filters must hold."""
    name = event.attributes.get("name", "")
    for kind in ("container", "image", "network", "volume", "daemon"):
        wanted = filters.get(kind)
        if wanted and not (
            event.type == kind and any(one in (event.actor, name) or event.actor.startswith(one) for one in wanted)
        ):
            return False
    if filters.get("type") and event.type not in filters["type"]:
        return False
    actions = filters.get("event")
    if actions and not any(action == one or action.startswith(f"{one}:") for one in actions):
        return False
    if filters.get("scope") and "local" not in filters["scope"]:
        return False
    if any(filters.get(key) for key in ("config", "node", "plugin", "secret", "service")):
        return False
    return match_labels(filters, event.attributes)
