"""One container's name server: its two sockets, on kistd's event loop.

Datagrams are read in batches, as long as there are some and at most 32, then it is everybody else's turn. A container
that asks faster than it is answered gets half of the loop's time at most, together with all others of its kind (Pace).
Connections by TCP are few, take several questions at once (RFC 7766) and end when they idle.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, cast

from kist.network.dns import message
from kist.network.dns.message import Malformed, Query
from kist.network.dns.resolver import Resolver
from kist.network.dns.upstream import Forwarder

log = logging.getLogger(__name__)
_BATCH = 32
_FORWARDING = 0.0001  # seconds that a question for others costs after its batch
_LARGEST = 65507  # bytes in a datagram
_CONNECTIONS = 64
_AT_ONCE = 128  # questions of one connection
_IDLE = 8.0  # seconds, as Docker's
_ACCEPT_AGAIN = 1.0
Reply = Callable[[bytes], object]


class Pace:
    """Of all name servers of a daemon: those that have more to do than fits in a batch share half of the time."""

    def __init__(self) -> None:
        self._free_at = 0.0

    def pause(self, spent: float) -> float:
        """Seconds until the next batch may begin, after one that took `spent`."""
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + spent
        return self._free_at - now


class Server:
    """Serves until closed. The sockets are its own from now on."""

    def __init__(
        self, udp: socket.socket, tcp: socket.socket, resolver: Resolver, forwarder: Forwarder, pace: Pace
    ) -> None:
        self._udp, self._tcp = udp, tcp
        self._resolver, self._forwarder, self._pace = resolver, forwarder, pace
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[_Connection] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        udp.setblocking(False)
        tcp.setblocking(False)
        self._listen_udp()
        self._listen_tcp()

    def _listen_udp(self) -> None:
        self._loop.add_reader(self._udp.fileno(), self._read_batch)

    def _read_batch(self) -> None:
        began, forwarded = time.monotonic(), self.under_way
        for _ in range(_BATCH):
            try:
                data, client = self._udp.recvfrom(message.READ)
            except OSError:  # there is no more
                return
            self.handle(data, partial(self._send, client), tcp=False)
        self._loop.remove_reader(self._udp.fileno())
        self._timers["udp"] = self._loop.call_later(self.pause(began, forwarded), self._listen_udp)

    @property
    def under_way(self) -> int:
        """Questions that others are asked."""
        return len(self._tasks)

    def pause(self, began: float, forwarded: int) -> float:
        """How long who had a full batch is to wait: it began then, with so many questions under way."""
        spent = time.monotonic() - began + _FORWARDING * max(0, self.under_way - forwarded)
        return self._pace.pause(spent)

    def _send(self, client: Any, answer: bytes) -> None:
        try:
            self._udp.sendto(answer, client)
        except OSError as error:  # a client that does not read, or is gone: it asks again or does not
            log.debug("answer to %s: %s", client, error)

    def handle(self, data: bytes, reply: Reply, *, tcp: bool) -> bool:
        """Answers now, or later; whether there will be an answer. Nothing in `data` makes it raise."""
        try:
            query = message.parse(data)
        except Malformed as problem:
            if problem.answer:
                reply(problem.answer)
            return bool(problem.answer)
        limit = message.MAXIMUM if tcp else min(query.size, _LARGEST)
        answer = self._resolver.answer(query, limit)
        if answer is None and self._forwarder.is_full:
            self._forwarder.refused()
            answer = message.failure(query, message.REFUSED)
        if answer is None:
            self._keep(self._forward(query, data, reply, tcp))
        else:
            reply(answer)
        return True

    async def _forward(self, query: Query, data: bytes, reply: Reply, tcp: bool) -> None:
        external = self._resolver.view.has_external_access()
        reply(await self._forwarder.ask(query, data, tcp=tcp, external=external))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a name server's question", exc_info=task.exception())

    # --- connections ---

    def _listen_tcp(self) -> None:
        self._timers.pop("tcp", None)
        self._loop.add_reader(self._tcp.fileno(), self._accept)

    def _accept(self) -> None:
        """One a turn. As many as there may be leave the others where they are, in the kernel's queue."""
        if len(self._connections) >= _CONNECTIONS:
            self._loop.remove_reader(self._tcp.fileno())
            return
        try:
            connection, _ = self._tcp.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor is left, say: it stays ready, and must not be a busy loop
            log.warning("a name server takes no connection: %s", error)
            self._loop.remove_reader(self._tcp.fileno())
            self._timers["tcp"] = self._loop.call_later(_ACCEPT_AGAIN, self._listen_tcp)
            return
        protocol = _Connection(self)
        self._connections.add(protocol)
        self._keep(self._adopt(protocol, connection))

    async def _adopt(self, protocol: _Connection, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
        except BaseException:
            connection.close()
            self.forget(protocol)
            raise

    def forget(self, connection: _Connection) -> None:
        """It ended: there is room for another."""
        full = len(self._connections) >= _CONNECTIONS
        self._connections.discard(connection)
        if full and self._tcp.fileno() >= 0 and "tcp" not in self._timers:
            self._listen_tcp()

    def close(self) -> None:
        """At once: sockets hold the container's network namespace."""
        for timer in self._timers.values():
            timer.cancel()
        for sock in (self._udp, self._tcp):
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock.fileno())
                sock.close()
        for task in self._tasks:
            task.cancel()
        for connection in list(self._connections):
            connection.abort()
        self._forwarder.close()


class _Connection(asyncio.Protocol):
    """Questions of one client by TCP, each after its length; answers as they come."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._open = 0  # questions without an answer so far
        self._held = False  # the client does not read
        self._ending = False
        self._turn: asyncio.TimerHandle | None = None  # when the next batch begins
        self._busy = False
        self._idle = self._loop.call_later(_IDLE, self._expired)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        self._take()

    def _take(self) -> None:
        """A batch, and of that as many as may be open at once; the rest waits, and the client with it."""
        if self._busy or self._turn is not None or self._transport is None or self._transport.is_closing():
            return
        self._busy = True
        began, forwarded, left = time.monotonic(), self._server.under_way, _BATCH
        while left and self._may_take and (question := self._next()) is not None:
            left -= 1
            self._open += 1
            if not self._server.handle(question, self._reply, tcp=True):
                self.abort()
        self._busy = False
        if not left:
            self._turn = self._loop.call_later(self._server.pause(began, forwarded), self._next_turn)
        self._pause_or_go_on()

    def _next_turn(self) -> None:
        self._turn = None
        self._take()

    @property
    def _may_take(self) -> bool:
        closing = self._transport is None or self._transport.is_closing()
        return self._open < _AT_ONCE and not self._held and not closing

    def _next(self) -> bytes | None:
        """The first question, when it is there as a whole."""
        end = 2 + int.from_bytes(self._data[:2], "big")
        if len(self._data) < max(end, 2):
            return None
        question = bytes(self._data[2:end])
        del self._data[:end]
        self._rest()
        return question

    def _rest(self) -> None:
        self._idle.cancel()
        self._idle = self._loop.call_later(_IDLE, self._expired)

    def _expired(self) -> None:
        """What is asked upstream may take longer; it has an end."""
        if self._open and not self._held:
            self._rest()
        else:
            self.abort()

    def _reply(self, answer: bytes) -> None:
        self._open -= 1
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(len(answer).to_bytes(2, "big") + answer)
        self._rest()
        if self._ending and not self._open:
            self._transport.close()
        elif not self._busy:
            self._take()

    def _pause_or_go_on(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._may_take and self._turn is None:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._held = True

    def resume_writing(self) -> None:
        self._held = False
        self._take()

    def eof_received(self) -> bool:
        """The client asks no more, but may read on."""
        self._ending = True
        return self._open > 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        self._server.forget(self)

    def _stop_timers(self) -> None:
        self._idle.cancel()
        if self._turn is not None:
            self._turn.cancel()

    def abort(self) -> None:
        self._stop_timers()
        if self._transport is not None:
            self._transport.abort()
