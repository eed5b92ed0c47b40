"""One connection: requests one at a time and in order, keep-alive, upgrade and hand-over."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

import httptools
import msgspec

from kist.http import framing
from kist.model.errors import InvalidParameter

log = logging.getLogger(__name__)
_HIGH_WATER = 1 << 18  # bytes of a request's body that wait for the handler before reading pauses
_SMALL = 1 << 14  # bytes of a body read at once; less means that its client writes small pieces, as the docker command
_GATHERING = 0.004  # seconds that such pieces may gather in the kernel: a wakeup for each would cost more than its work
_PROMPT = 3  # pieces of a body that are taken as they come: a short one, behind its head, does not wait
_HEAD_SECONDS = 300.0  # dockerd's: a head that is sent drop by drop does not hold a connection for ever
_MAX_HEAD = 1 << 20  # bytes of a request line and its headers, as in Go's server
_LINGER = 2.0  # seconds for a client to stop sending a body that nobody wants, so that it gets to its answer
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class ClientGone(Exception):
    """The client closed its connection before it had its answer."""


class Response(msgspec.Struct):
    """A whole answer. `body` empty and status 204 or 304: no Content-Length is sent."""

    status: int = 200
    body: bytes = b""
    content_type: str = ""
    headers: dict[str, str] = {}


class Hijacked(msgspec.Struct):
    """A connection that left HTTP: its descriptor (the receiver closes it) and what the client sent already."""

    descriptor: int
    leftover: bytes


class Request:
    """One request and the way to answer it. Handlers return a Response, or stream, or hijack."""

    def __init__(
        self, connection: Connection, method: str, target: str, headers: dict[str, str], upgrade: bool
    ) -> None:
        self.method = method
        path, _, query = target.partition("?")
        self.path = unquote(path)
        self.query: dict[str, str] = {}
        self.query_lists: dict[str, list[str]] = {}
        for key, value in parse_qsl(query, keep_blank_values=True):
            self.query.setdefault(key, value)
            self.query_lists.setdefault(key, []).append(value)
        self.headers = headers
        self.upgrade = upgrade
        self.version = ""  # of the API, set by the router
        self.parameters: dict[str, str] = {}
        self.streaming = False
        self.endless = False  # a stream that only the client ends
        self.answered = False
        self.extra_headers: dict[str, str] = {}
        self._connection = connection
        self._chunks: list[bytes] = []
        self._waiting = 0
        self._complete = False
        self._cut = self._discarding = False
        self._more = asyncio.Event()

    # --- the body ---

    def feed(self, data: bytes) -> None:
        if self._discarding:
            return
        self._chunks.append(data)
        self._waiting += len(data)
        if self._waiting > _HIGH_WATER:
            self._connection.pause()
        self._more.set()

    def complete(self) -> None:
        self._complete = True
        self._more.set()

    def cut(self) -> None:
        """The client has nothing more to send, and the body is not all there."""
        self._cut = True
        self._more.set()

    def discard(self) -> None:
        """What is still to come of the body is of no interest."""
        self._discarding = True
        self._chunks.clear()
        self._waiting = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises InvalidParameter when it ends too early, ClientGone when nobody is there."""
        while True:
            while self._chunks:
                data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
                self._chunks.clear()
                self._waiting = 0
                self._connection.resume()
                yield data
            if self._complete:
                return
            if self._connection.lost:
                raise ClientGone
            if self._cut:
                raise InvalidParameter("unexpected EOF")
            self._more.clear()
            await self._more.wait()

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises ValueError when it is longer than `limit` bytes."""
        found = bytearray()
        async for chunk in self.chunks():
            found += chunk
            if len(found) > limit:
                raise ValueError(f"the body is longer than {limit} bytes")
        return bytes(found)

    def wake(self) -> None:
        self._more.set()

    # --- the answer ---

    async def start_stream(
        self, status: int = 200, content_type: str = "application/json", *, endless: bool = False
    ) -> None:
        """Sends a head at once; the body follows in chunks. From now on a vanished client cancels the handler.

        `endless`: only the client ends it, and may do so while there is nothing to write.
        """
        self.streaming = self.answered = True
        self.endless = endless
        self._connection.send_head(status, {"Content-Type": content_type, "Transfer-Encoding": "chunked"}, self)
        if self._connection.lost or (endless and self._connection.half_closed):
            raise ClientGone

    async def write(self, data: bytes) -> None:
        """One chunk. Waits while the client is behind. Raises ClientGone."""
        if data:
            await self._connection.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def hijack(self, head: bytes) -> Hijacked:
        """Sends `head` (complete, with its empty line) and takes the connection out of HTTP."""
        self.answered = True
        return await self._connection.hijack(head)

    def head(self, status: int, headers: Mapping[str, str]) -> bytes:
        """A response head with the headers every answer carries."""
        return self._connection.head(status, headers, self)


Handler = Callable[[Request], Awaitable[Response | None]]


class Connection(asyncio.Protocol):
    """A client's connection. `handler` answers each request; errors it does not catch end the connection."""

    def __init__(self, handler: Handler, connections: set[Connection]) -> None:
        self._handler = handler
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._head = framing.Head()  # of the next request
        self._body: framing.Sized | framing.Chunked = framing.Sized(0)  # of the request under way
        self._request: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._behind = b""  # what was read behind the request under way
        self._holding = False  # the rest stays in the kernel, the client's end too, until that is answered
        self._gathering = False  # small pieces of a body come together in the kernel
        self._pieces = 0  # that came already
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._keep_alive = True
        self._hijacked = False
        self.half_closed = False
        self._paused = False
        self._writable = asyncio.Event()
        self._writable.set()
        self.lost = False

    # --- asyncio's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._stop_head_timer()
        self._stop_lingering()
        self._connections.discard(self)
        self._writable.set()
        if self._request is not None:
            self._request.wake()
        if self._task is not None and self._request is not None and self._request.streaming and not self._hijacked:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def eof_received(self) -> bool:
        """A half-closed client still wants its answer, unless that has no end or both directions are closed."""
        self.half_closed = True
        if self._request is not None and not self._request._complete:
            self._request.cut()
        if self._task is None or self._task.done():
            return False
        if self._request is not None and self._request.endless:
            return False
        return not (self._request is not None and self._request.streaming and self._has_left())

    def _has_left(self) -> bool:
        """A unix socket tells the two apart (poll(2): POLLHUP); on TCP only the next write does."""
        assert self._transport is not None
        plain = self._transport.get_extra_info("socket")
        if plain is None or plain.family != socket.AF_UNIX:
            return False
        poll = select.poll()
        poll.register(plain.fileno(), 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def data_received(self, data: bytes) -> None:
        """Takes bytes up to the end of a request; no other begins before that one is answered."""
        at = 0
        try:
            while at < len(data) and not (self._request is not None and self._request._complete):
                at = self._take_head(data, at) if self._request is None else self._take_body(self._request, data, at)
        except (httptools.HttpParserError, ValueError):
            self._refuse(400, b"400 Bad Request")
            return
        if at < len(data):
            self._hold(data[at:])
        elif len(data) < _SMALL and self._request is not None and not self._request._complete:
            self._pieces += 1
            if self._pieces > _PROMPT:
                self._gather()

    def _gather(self) -> None:
        self._gathering = True
        self.pause()
        asyncio.get_running_loop().call_later(_GATHERING, self._gathered)

    def _gathered(self) -> None:
        self._gathering = False
        if self._request is None or self._request._waiting <= _HIGH_WATER:
            self.resume()

    def _take_head(self, data: bytes, at: int) -> int:
        at = self._head.take(data, at)
        if self._head.complete:
            self._stop_head_timer()
            head, self._head = self._head, framing.Head()
            self._start(head)
        elif self._head.size > _MAX_HEAD:
            self._refuse(431, b"431 Request Header Fields Too Large")
            return len(data)
        elif self._head.begun and self._head_timer is None and self._transport is not None:
            self._head_timer = asyncio.get_running_loop().call_later(_HEAD_SECONDS, self._transport.abort)
        return at

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _take_body(self, request: Request, data: bytes, at: int) -> int:
        piece, at = self._body.take(data, at)
        if piece:
            request.feed(piece)
        if self._body.complete:
            self._complete(request)
        return at

    def _complete(self, request: Request) -> None:
        request.complete()
        if request.upgrade:
            self._hold(b"")
        if request._discarding:  # it is answered, and the next may come
            self._stop_lingering()
            self._finish(request)

    def _hold(self, data: bytes) -> None:
        self._behind += data
        self._holding = True
        self.pause()

    def _refuse(self, status: int, text: bytes) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            line = b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" % (
                status,
                _REASONS[status].encode(),
            )
            self._transport.write(line + text)
            self._transport.close()

    # --- answering ---

    def _start(self, head: framing.Head) -> None:
        """Raises ValueError for a body that cannot be read."""
        self._body = framing.body(head.headers, upgrade=head.upgrade)
        self._pieces = 0
        self._keep_alive = head.keep_alive
        expected = head.headers.get("expect", "").lower() == "100-continue" and not self._body.complete
        if expected and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._request = Request(self, head.method, head.target, head.headers, head.upgrade)
        self._task = asyncio.get_running_loop().create_task(self._answer(self._request))
        if self._body.complete:
            self._complete(self._request)

    async def _answer(self, request: Request) -> None:
        try:
            response = await self._handler(request)
            if self._hijacked or self.lost:
                return
            if response is not None:
                self._send(request, response)
            elif request.streaming:
                await self._write(b"0\r\n\r\n")
            await self._writable.wait()  # who sends requests without reading answers gets no more of them
            if not self.lost:
                self._finish(request)
        except ClientGone:
            self._abort()
        except asyncio.CancelledError:
            self._abort()
        except Exception:
            log.exception("a request failed: %s %s", request.method, request.path)
            self._abort()

    def _abort(self) -> None:
        if self._transport is not None and not self._hijacked:
            self._transport.abort()

    def _send(self, request: Request, response: Response) -> None:
        headers = dict(response.headers)
        if response.content_type:
            headers["Content-Type"] = response.content_type
        if response.status not in (204, 304):
            headers["Content-Length"] = str(len(response.body))
        request.answered = True
        assert self._transport is not None
        body = b"" if request.method == "HEAD" else response.body
        self._transport.write(self.head(response.status, headers, request) + body)

    def _finish(self, request: Request) -> None:
        """After an answer: the connection ends, or the next request of it is read."""
        if not request._complete and not request._cut:
            self._linger(request)
            return
        if request.upgrade or not self._keep_alive or not request._complete:
            self.close()
            return
        self._request = self._task = None
        behind, self._behind, self._holding = self._behind, b"", False
        self.resume()
        self.data_received(behind)
        if self.half_closed and not self.eof_received():
            self.close()

    def _linger(self, request: Request) -> None:
        """Takes the rest of a body for a while: with bytes unread, closing would take the answer from the client."""
        assert self._transport is not None
        request.discard()
        self.resume()
        self._linger_timer = asyncio.get_running_loop().call_later(_LINGER, self._transport.close)

    def _stop_lingering(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None

    def head(self, status: int, headers: Mapping[str, str], request: Request) -> bytes:
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in request.extra_headers.items()]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if not self._keep_alive and "Connection" not in headers:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def send_head(self, status: int, headers: Mapping[str, str], request: Request) -> None:
        assert self._transport is not None
        self._transport.write(self.head(status, headers, request))

    async def write(self, data: bytes) -> None:
        await self._write(data)

    async def _write(self, data: bytes) -> None:
        if self.lost or self._transport is None or self._transport.is_closing():
            raise ClientGone
        self._transport.write(data)
        await self._writable.wait()

    def pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._holding or self._gathering:
            return
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    async def hijack(self, head: bytes) -> Hijacked:
        """Raises ClientGone. The transport is closed here; the connection lives on in the descriptor."""
        self.pause()
        if head:
            await self._write(head)
        transport = self._transport
        assert transport is not None
        transport.set_write_buffer_limits(high=0)  # writable again means: all of it is in the kernel
        await self._writable.wait()
        if self.lost:
            raise ClientGone
        if isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject):
            descriptor = self._relay(transport)
            self._hijacked = True
            return Hijacked(descriptor, self._behind)
        descriptor = os.dup(transport.get_extra_info("socket").fileno())
        self._hijacked = True
        transport.close()
        return Hijacked(descriptor, self._behind)

    def _relay(self, transport: asyncio.Transport) -> int:
        """TLS stays here: a pair of sockets, one end for the receiver, and a task that carries bytes between."""
        ours, theirs = socket.socketpair()
        relay = _Relay(ours, lambda: self._connections.discard(self))
        transport.set_protocol(relay)
        relay.connection_made(transport)
        transport.resume_reading()
        return theirs.detach()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    @property
    def endless(self) -> bool:
        """It answers with a stream that ends only when the client goes."""
        return self._request is not None and self._request.endless

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What answers the request under way; None between requests."""
        return None if self._task is None or self._task.done() else self._task


class _Relay(asyncio.Protocol):
    """Carries an encrypted connection to a plain local socket and back."""

    def __init__(self, local: socket.socket, on_lost: Callable[[], None]) -> None:
        local.setblocking(False)
        self._on_lost = on_lost
        self._local = local
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._outward())
        self._writer = loop.create_task(self._inward())

    def data_received(self, data: bytes) -> None:
        self._queue.put_nowait(data)
        if self._queue.qsize() > 16 and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._queue.put_nowait(b"")
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._on_lost()
        self._writable.set()
        for task in (self._task, self._writer):
            if task is not None:
                task.cancel()
        self._local.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def _inward(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await self._queue.get():
                await loop.sock_sendall(self._local, data)
                if self._queue.qsize() <= 16 and self._transport is not None and not self._transport.is_closing():
                    self._transport.resume_reading()
            self._local.shutdown(socket.SHUT_WR)
        except OSError:
            return

    async def _outward(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._transport is not None
        try:
            while data := await loop.sock_recv(self._local, 1 << 16):
                self._transport.write(data)
                await self._writable.wait()
        except OSError:
            pass
        self._transport.close()
