"""Long work in a thread of its own, with a stream of bytes in or out.

The default executor has few threads: clients that read or send slowly would take them all. The socket between thread
and loop holds what is under way, so that memory is bounded; the end that goes first ends the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, BinaryIO, TypeVar, cast

from kist.kernel.thread import started

T = TypeVar("T")
_CHUNK = 1 << 18
_ENOUGH = 1 << 15  # bytes for which the thread is woken


async def in_thread(work: Callable[[], T], undo: Callable[[T], object] = lambda result: None) -> T:
    """What `work` answers or raises, of a new thread. A caller that is cancelled waits for its end all the same, as it
    lends it descriptors; then `undo` gets the answer that nobody takes.
    """
    future = started(work, "files")
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await _ended(future)
        if not future.cancelled() and future.exception() is None:
            undo(future.result())
        raise


async def drawn(work: Callable[[Callable[[bytes], object]], None]) -> AsyncGenerator[bytes, None]:
    """What `work` writes. Raises what it raises; to be closed (`aclosing`), which ends the work."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def run() -> None:
        with theirs:
            work(theirs.sendall)

    future = started(run, "files")
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(ours, _CHUNK):
            yield data
        await asyncio.shield(future)
    finally:
        ours.close()
        await _ended(future)


async def fed(chunks: AsyncIterator[bytes], work: Callable[[BinaryIO], T]) -> T:
    """What `work` answers that reads the chunks as a file. It may end before them."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def run() -> T:
        with theirs, theirs.makefile("rb", _CHUNK) as stream:
            return work(cast(BinaryIO, stream))

    async def send() -> None:
        loop = asyncio.get_running_loop()
        waiting = bytearray()  # many small pieces would wake the thread for each
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            async for chunk in chunks:
                waiting += chunk
                if len(waiting) >= _ENOUGH:
                    await loop.sock_sendall(ours, waiting)
                    waiting = bytearray()
            await loop.sock_sendall(ours, waiting)
            ours.shutdown(socket.SHUT_WR)

    future = started(run, "files")
    sender = asyncio.get_running_loop().create_task(send())
    try:
        both: list[asyncio.Future[Any]] = [future, sender]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            await sender  # raises what kept the chunks from coming
        return await asyncio.shield(future)
    finally:
        sender.cancel()
        try:
            await _ended(sender)
        finally:
            ours.close()
            await _ended(future)


async def _ended(future: asyncio.Future[T]) -> None:
    """Nothing of the work goes on behind the back of its caller, however often that is cancelled."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if not future.cancelled():
        future.exception()  # told, or of no interest: the other end went
    if cancelled is not None:
        raise cancelled
