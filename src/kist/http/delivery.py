"""Until the client has read an answer's head, before bytes follow that are not HTTP.

Some clients (docker-py is one) read the head through a buffer and what follows past it, from the socket itself: bytes
that come together with the head are lost to them. An engine that is slow enough hides that.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import struct
import termios

_LONGEST = 0.25  # seconds; a client may send on without reading
_REMOTE = 0.005  # what a peer on TCP has read cannot be asked


async def head_read(descriptor: int) -> None:
    """Returns once all that was sent on the connection is read by a local peer, or when that takes too long."""
    if _family(descriptor) != socket.AF_UNIX:
        await asyncio.sleep(_REMOTE)
        return
    if not _unread(descriptor):
        return
    loop = asyncio.get_running_loop()
    read = asyncio.Event()
    # unix(7) sockets wake a waiting writer whenever the peer takes something: an edge each, though it never blocked
    with select.epoll() as edges:
        edges.register(descriptor, select.EPOLLOUT | select.EPOLLET)

        def look() -> None:
            edges.poll(0)
            if not _unread(descriptor):
                read.set()

        loop.add_reader(edges.fileno(), look)
        try:
            async with asyncio.timeout(_LONGEST):
                await read.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(edges.fileno())


def _unread(descriptor: int) -> int:
    """Bytes, with their bookkeeping, that wait for the peer (SIOCOUTQ of a unix(7) socket)."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0" * 4))[0])
    except OSError:
        return 0


def _family(descriptor: int) -> int:
    with socket.socket(fileno=descriptor) as asked:
        family = asked.family
        asked.detach()
    return family
