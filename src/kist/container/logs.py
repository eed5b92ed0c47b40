"""`logs`: a container's log as a stream, to its end or following it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from kist.container.engine import Engine
from kist.container.logging import keeps_log
from kist.container.machine import Machine
from kist.kernel import inotify
from kist.logs.reader import LogOptions, LogReader
from kist.model.errors import KistError

_IDLE_SECONDS = 1.0


def read_logs(engine: Engine, machine: Machine, options: LogOptions, follow: bool) -> AsyncIterator[bytes]:
    """Pieces of the answer. Raises KistError with Docker's text, here and now, when the driver keeps none."""
    if not keeps_log(machine.record):
        raise KistError("configured logging driver does not support reading")
    return _pieces(engine, machine, options, follow)


async def _pieces(engine: Engine, machine: Machine, options: LogOptions, follow: bool) -> AsyncIterator[bytes]:
    path = engine.log_path(machine)
    reader = await _opened(path, options, follow)
    watcher = inotify.Inotify() if follow else None
    try:
        if watcher is not None:
            watcher.watch(os.path.dirname(path), inotify.IN_MODIFY | inotify.IN_MOVED_TO | inotify.IN_CREATE)
        while True:
            over = not machine.state.alive  # asked before reading: what was written until then is read below
            while data := reader.read():
                yield data
            if reader.done or watcher is None or over or machine.removed.is_set():
                return
            await _grown(watcher, machine)
    finally:
        reader.close()
        if watcher is not None:
            watcher.close()


async def _opened(path: str, options: LogOptions, follow: bool) -> LogReader:
    """In a thread: a tail may reach into compressed files. A client that goes meanwhile leaves nothing open."""
    opening = asyncio.ensure_future(asyncio.to_thread(LogReader, path, options, follow=follow))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        (await opening).close()
        raise


async def _grown(watcher: inotify.Inotify, machine: Machine) -> None:
    """Until the log changes or the container ends."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    loop.add_reader(watcher.fileno(), changed.set)
    ended = loop.create_task(machine.ended.wait())
    seen = loop.create_task(changed.wait())
    try:
        await asyncio.wait({ended, seen}, timeout=_IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(watcher.fileno())
        watcher.drain()
        for task in (ended, seen):
            task.cancel()
