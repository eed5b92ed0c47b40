"""Who follows logs hears of what is written: one inotify(7) instance for all of them, as a user may have only 128."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from kist.kernel.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO, Inotify

_MASK = IN_MODIFY | IN_MOVED_TO | IN_CREATE


class Growth:
    """To be used in the loop's thread."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._events: dict[int, set[asyncio.Event]] = {}  # by the number of the watch: a directory has one

    @contextlib.contextmanager
    def of(self, directory: str) -> Iterator[asyncio.Event]:
        """Is set whenever a file in that directory changes. Raises OSError where the kernel has no more watches."""
        event = asyncio.Event()
        number = self._watch(directory, event)
        try:
            yield event
        finally:
            self._forget(number, event)

    def _watch(self, directory: str, event: asyncio.Event) -> int:
        if self._inotify is None:
            self._inotify = Inotify()
            asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._readable)
        try:
            number = self._inotify.watch(directory, _MASK)
        except OSError:
            self._close_unused()
            raise
        self._events.setdefault(number, set()).add(event)
        return number

    def _forget(self, number: int, event: asyncio.Event) -> None:
        found = self._events[number]
        found.discard(event)
        if not found:
            del self._events[number]
            if self._inotify is not None:
                self._inotify.forget(number)
        self._close_unused()

    def _close_unused(self) -> None:
        if self._inotify is not None and not self._events:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    def _readable(self) -> None:
        assert self._inotify is not None
        for number, _, _ in self._inotify.events():
            for event in self._events.get(number, ()):
                event.set()
