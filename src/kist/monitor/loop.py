"""A plain epoll(7) loop: descriptors and what to do when they are ready. Nothing else is needed in a monitor."""

from __future__ import annotations

import select
from collections.abc import Callable

READ, WRITE, EXCEPTION = select.EPOLLIN, select.EPOLLOUT, select.EPOLLPRI
GONE = select.EPOLLHUP | select.EPOLLERR
Handler = Callable[[int], object]


class Loop:
    def __init__(self) -> None:
        self._epoll = select.epoll(sizehint=16)
        self._handlers: dict[int, Handler] = {}
        self._interest: dict[int, int] = {}
        self._fresh: set[int] = set()  # registered since the last poll: its events are of an older file of that number

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Calls `handler(events)` when a descriptor is ready; a second call changes what is waited for."""
        self._handlers[descriptor] = handler
        before = self._interest.get(descriptor)
        if before is None:
            self._epoll.register(descriptor, events)
            self._fresh.add(descriptor)
        elif before != events:
            self._epoll.modify(descriptor, events)
        self._interest[descriptor] = events

    def forget(self, descriptor: int) -> None:
        """Before the descriptor is closed."""
        if self._interest.pop(descriptor, None) is not None:
            self._handlers.pop(descriptor, None)
            self._epoll.unregister(descriptor)

    def run(self, stop: Callable[[], bool]) -> None:
        while not stop():
            ready = self._epoll.poll()
            self._fresh.clear()
            for descriptor, events in ready:
                handler = self._handlers.get(descriptor)
                if handler is not None and descriptor not in self._fresh:
                    handler(events)

    def close(self) -> None:
        self._epoll.close()
