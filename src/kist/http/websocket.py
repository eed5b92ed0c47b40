"""WebSockets (RFC 6455) on a connection that left HTTP: the handshake, frames as pure data, and the bridge to a socket.

Theory of operation: what a client sends comes in frames, masked; messages may be split over several, with control
frames between. Here the payloads of text and binary frames are a stream of bytes, as Docker takes them, and each
piece of output becomes one frame of the kind the API's version says.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import codecs
import hashlib
import socket
from collections.abc import Mapping
from contextlib import suppress

from kist.model.errors import InvalidParameter

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_NORMAL, _PROTOCOL_ERROR, _TOO_BIG = 1000, 1002, 1009  # RFC 6455, 7.4.1
_MOST = 32 << 20  # bytes of a frame
_CONTROL_MOST = 125
_PIECE = 1 << 16


class ProtocolError(Exception):
    """What the client sent is no WebSocket; `code` goes into the closing frame."""

    def __init__(self, message: str, code: int = _PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


def accept_head(headers: Mapping[str, str]) -> bytes:
    """The head that answers a handshake. Raises InvalidParameter for one that is none."""
    if headers.get("upgrade", "").lower() != "websocket" or "upgrade" not in headers.get("connection", "").lower():
        raise InvalidParameter("not websocket protocol")
    if headers.get("sec-websocket-version", "") != "13":
        raise InvalidParameter("missing or bad WebSocket Version: 13 is supported")
    key = headers.get("sec-websocket-key", "")
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise InvalidParameter("mismatch challenge/response: Sec-WebSocket-Key is no key")
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
             f"Sec-WebSocket-Accept: {accept}"]  # fmt: skip
    if protocol := headers.get("sec-websocket-protocol", "").partition(",")[0].strip():
        lines.append(f"Sec-WebSocket-Protocol: {protocol}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def frame(kind: int, payload: bytes) -> bytes:
    """One whole message of a server, unmasked (5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | kind, size))
    elif size < 1 << 16:
        head = bytes((0x80 | kind, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | kind, 127)) + size.to_bytes(8, "big")
    return head + payload


def unmask(payload: bytes, key: bytes) -> bytes:
    """Every byte against the key's, over and over (5.3), as one large number: a loop would be slow."""
    size = len(payload)
    whole = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


class Frames:
    """Takes bytes as they come and gives (kind, payload) of every control frame as a whole, of the others piece by
    piece, as they are a stream: a client cannot have much kept by announcing much. A continuation is data, too.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._continues = False
        self._kind, self._left, self._key = 0, 0, b""  # of the data frame that is not whole yet

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Raises ProtocolError."""
        self._buffer += data
        found = []
        while (one := self._next()) is not None:
            found.append(one)
        return found

    def _next(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if self._left:
            return self._piece() if buffer else None
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        kind, last, size, at = first & 0x0F, bool(first & 0x80), second & 0x7F, 2
        self._check(first, kind, last, masked=bool(second & 0x80), size=size)
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(buffer) < at + width:
                return None
            size = int.from_bytes(buffer[at : at + width], "big")
            at += width
        if size > _MOST:
            raise ProtocolError("the frame is too long", _TOO_BIG)
        if len(buffer) < at + 4 + (size if kind >= CLOSE else 0):
            return None
        self._kind, self._left, self._key = kind, size, bytes(buffer[at : at + 4])
        del buffer[: at + 4]
        if kind < CLOSE:
            self._continues = not last
        return self._piece() if buffer or not size else None

    def _piece(self) -> tuple[int, bytes]:
        """What there is of the frame at hand."""
        data = bytes(self._buffer[: self._left])
        del self._buffer[: self._left]
        self._left -= len(data)
        payload = unmask(data, self._key)
        turn = len(data) % 4
        self._key = self._key[turn:] + self._key[:turn]
        return self._kind, payload

    def _check(self, first: int, kind: int, last: bool, *, masked: bool, size: int) -> None:
        if first & 0x70 or kind not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise ProtocolError("a frame of a kind that was not agreed on")
        if not masked:
            raise ProtocolError("a client's frame must be masked")
        if kind >= CLOSE and (not last or size > _CONTROL_MOST):
            raise ProtocolError("a control frame must be short and whole")
        if kind < CLOSE and (kind == CONTINUATION) != self._continues:
            raise ProtocolError("a message that does not begin, or begins within another")


class Bridge:
    """Carries bytes between a client's connection in frames and a plain socket, until either side ends."""

    def __init__(self, client: socket.socket, leftover: bytes, kind: int) -> None:
        """`kind`: TEXT or BINARY, of the frames to the client. `plain` is for whoever has the other side."""
        self._client, self._leftover, self._kind = client, leftover, kind
        self._ours, self.plain = socket.socketpair()
        for one in (client, self._ours):
            one.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._closed = False  # a closing frame was sent: it is the last

    async def run(self) -> None:
        """Closes both sockets of its own at the end."""
        inward = self._loop.create_task(self._inward())
        try:
            with suppress(OSError):
                await self._outward()
        finally:
            inward.cancel()
            with suppress(asyncio.CancelledError):
                await inward
            self._ours.close()
            self._client.close()

    async def _outward(self) -> None:
        text = codecs.getincrementaldecoder("utf-8")("replace")  # a character may come in two pieces
        while data := await self._loop.sock_recv(self._ours, _PIECE):
            if piece := data if self._kind == BINARY else text.decode(data).encode():
                await self._send(self._kind, piece)
        await self._send(CLOSE, _NORMAL.to_bytes(2, "big"))
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)

    async def _send(self, kind: int, payload: bytes) -> None:
        async with self._sending:
            if self._closed:
                return
            self._closed = kind == CLOSE
            await self._loop.sock_sendall(self._client, frame(kind, payload))

    async def _inward(self) -> None:
        frames = Frames()
        data = self._leftover
        try:
            while True:
                for kind, payload in frames.feed(data):
                    if not await self._take(kind, payload):
                        return
                data = await self._loop.sock_recv(self._client, _PIECE)
                if not data:
                    return
        except ProtocolError as error:
            with suppress(OSError):
                await self._send(CLOSE, error.code.to_bytes(2, "big") + str(error).encode())
        except OSError:
            return
        finally:
            with suppress(OSError):
                self._ours.shutdown(socket.SHUT_RDWR)  # the client is gone altogether: so is its attaching

    async def _take(self, kind: int, payload: bytes) -> bool:
        """False when the client closes."""
        if kind == CLOSE:
            return False
        if kind == PING:
            await self._send(PONG, payload)
        elif kind != PONG and payload:
            await self._loop.sock_sendall(self._ours, payload)
        return True
