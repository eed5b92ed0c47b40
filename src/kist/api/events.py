"""GET /events: what happened and what happens, through the filters of Docker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from msgspec import UNSET

from kist.api import compat
from kist.api.filters import Filters, match_labels, parse_filters
from kist.api.times import parse_timestamp
from kist.http.router import Router
from kist.http.server import Request, Response
from kist.model.errors import InvalidParameter
from kist.wire.encode import dumps
from kist.wire.system import Actor, Event, EventType

# Filters that take the beginning of an actor's id or name, whatever kind of actor it is.
_ACTORS = ("daemon", "container", "plugin", "volume", "network", "node", "service", "secret", "config")
# Actions with more behind a colon; where one of these is asked for, the beginning of an action is enough.
_WITH_MORE = frozenset({"health_status", "exec_create", "exec_start"})


class EventView(Protocol):
    type: EventType
    action: str
    actor: str
    attributes: dict[str, str]
    time: int


class EventRoutes:
    """`listen(since, until)` gives events; times are nanoseconds since the epoch, None where there is no bound."""

    def __init__(self, listen: Callable[[int | None, int | None], AsyncIterator[Any]]) -> None:
        self._listen = listen

    def add_to(self, router: Router) -> None:
        router.add("GET", "/events", self.events)

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
        actor=Actor(id=event.actor, attributes=dict(sorted(event.attributes.items()))),
        scope="local",
        time=event.time // 1_000_000_000,
        time_nano=event.time,
    )


def matches(event: EventView, action: str, filters: Filters) -> bool:
    """Values of one filter are alternatives; all filters must hold."""
    names = (event.actor, event.attributes.get("name", ""))
    return (
        _is_one_of(action, filters.get("event"))
        and (not filters.get("type") or event.type in filters["type"])
        and ("scope" not in filters or "local" in filters["scope"])
        and all(_begins_one(names, filters[kind]) for kind in _ACTORS if filters.get(kind))
        and (not filters.get("image") or _is_of_image(event, filters["image"]))
        and match_labels(filters, event.attributes)
    )


def _is_one_of(action: str, wanted: list[str] | None) -> bool:
    if not wanted or action in wanted:
        return True
    return not _WITH_MORE.isdisjoint(wanted) and action.startswith(tuple(wanted))


def _begins_one(names: tuple[str, ...], beginnings: list[str]) -> bool:
    return any(name.startswith(tuple(beginnings)) for name in names)


def _is_of_image(event: EventView, wanted: list[str]) -> bool:
    """An image's own events, and those of containers made from it; a name may stand without its tag."""
    name = event.attributes.get("name" if event.type == "image" else "image", "")
    return any(one in wanted or _without_tag(one) in wanted for one in (event.actor, name))


def _without_tag(name: str) -> str:
    bare = name.partition("@")[0]
    head, colon, tag = bare.rpartition(":")
    return head if colon and "/" not in tag else bare
