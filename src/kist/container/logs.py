"""`logs`: a container's log as a stream, to its end or following it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from kist.container.engine import Engine
from kist.container.logging import keeps_log
from kist.container.machine import Machine
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
    with contextlib.ExitStack() as stack:
        stack.callback(reader.close)
        grown = _growth(engine, stack, os.path.dirname(path)) if follow else None
        while True:
            over = not machine.state.alive  # asked before reading: what was written until then is read below
            if grown is not None:
                grown.clear()
            while not reader.done and (piece := await _next(engine, reader)) is not None:
                if piece:
                    yield piece
            if reader.done or grown is None or over or machine.removed.is_set():
                return
            await _either(grown, machine)


async def _next(engine: Engine, reader: LogReader) -> bytes | None:
    """Work of a millisecond or so. A client that keeps up never makes its stream wait: everybody else would."""
    async with engine.turn:
        piece = reader.step()
        await asyncio.sleep(0)
    return piece


def _growth(engine: Engine, stack: contextlib.ExitStack, directory: str) -> asyncio.Event:
    try:
        return stack.enter_context(engine.growth.of(directory))
    except OSError:  # no more watches: what is written is seen once a second
        return asyncio.Event()


async def _opened(path: str, options: LogOptions, follow: bool) -> LogReader:
    """In a thread: a tail may reach into compressed files. A client that goes meanwhile leaves nothing open."""
    opening = asyncio.ensure_future(asyncio.to_thread(LogReader, path, options, follow=follow))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        (await opening).close()
        raise


async def _either(grown: asyncio.Event, machine: Machine) -> None:
    """Until the log changes or the container ends."""
    loop = asyncio.get_running_loop()
    ended, seen = loop.create_task(machine.ended.wait()), loop.create_task(grown.wait())
    try:
        await asyncio.wait({ended, seen}, timeout=_IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (ended, seen):
            task.cancel()
