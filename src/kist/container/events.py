"""What happened, told to whoever listens: the source of `docker events`, with a short memory for `--since`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping

import msgspec

HISTORY = 256  # dockerd's
_SLOWEST = 4096  # events a reader may be behind before it is dropped


class Event(msgspec.Struct, frozen=True):
    type: str  # container, image, network, volume, daemon
    action: str
    actor: str  # id or name
    attributes: dict[str, str]
    time: int  # nanoseconds since the epoch


class EventBus:
    def __init__(self) -> None:
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._listeners: set[asyncio.Queue[Event | None]] = set()

    def emit(self, type_: str, action: str, actor: str, attributes: Mapping[str, str] | None = None) -> None:
        event = Event(type_, action, actor, dict(attributes or {}), time.time_ns())
        self._history.append(event)
        for queue in list(self._listeners):
            if queue.qsize() < _SLOWEST:
                queue.put_nowait(event)
            else:
                self._listeners.discard(queue)
                queue.put_nowait(None)

    async def listen(self, since: int | None = None, until: int | None = None) -> AsyncIterator[Event]:
        """Past events from `since` on, then new ones, to `until` (nanoseconds) or for ever."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        past = [] if since is None and until is None else [one for one in self._history if one.time >= (since or 0)]
        self._listeners.add(queue)
        try:
            for event in past:
                if until is None or event.time <= until:
                    yield event
            while until is None or time.time_ns() < until:
                wait = None if until is None else max(0.0, (until - time.time_ns()) / 1e9)
                try:
                    found = await asyncio.wait_for(queue.get(), wait)
                except TimeoutError:
                    return
                if found is None:
                    return
                yield found
        finally:
            self._listeners.discard(queue)
