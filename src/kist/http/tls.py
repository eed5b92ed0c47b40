"""TLS for a server, with half-closed streams: asyncio's own ends both directions when a client ends one.

A client that has no more input sends close_notify (RFC 8446, 6.1) and waits for output: that is how `docker run -i`
works over TLS. So this carries the encryption between the plain transport and the protocol of the server.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)
_CHUNK = 1 << 16
_HANDSHAKE_SECONDS = 60.0
_NOT_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


class TlsTransport(asyncio.Transport):
    """What the server's protocol sees of an encrypted connection."""

    def __init__(self, plain: asyncio.Transport, session: _Session) -> None:
        super().__init__()
        self._plain, self._session = plain, session

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._session.object if name == "ssl_object" else self._plain.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._session.write(data)

    def close(self) -> None:
        self._session.end()
        self._plain.close()

    def abort(self) -> None:
        self._plain.abort()

    def is_closing(self) -> bool:
        return self._plain.is_closing()

    def pause_reading(self) -> None:
        self._session.pause()

    def resume_reading(self) -> None:
        self._session.resume()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._session.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._session.protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._plain.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._plain.get_write_buffer_size()


class _Session:
    """The state of TLS on one connection. What is decrypted while reading is paused stays in the buffer."""

    def __init__(self, context: ssl.SSLContext, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._plain: asyncio.Transport | None = None
        self._paused = self._eof = False

    def start(self, plain: asyncio.Transport) -> None:
        """The handshake is over: from here on the server's protocol has the connection."""
        self._plain = plain
        self.protocol.connection_made(TlsTransport(plain, self))

    def feed(self, data: bytes) -> None:
        """Bytes of the wire; b"" is their end."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def pending_output(self) -> bytes:
        return self._outgoing.read()

    def deliver(self) -> None:
        """Hands on what can be decrypted, as long as the protocol wants it. Ends the connection on nonsense."""
        assert self._plain is not None
        while not (self._paused or self._eof or self._plain.is_closing()):
            try:
                data = self.object.read(_CHUNK)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                data = b""
            except ssl.SSLError as error:
                log.debug("a TLS connection broke: %s", error)
                self._flush()
                self._plain.abort()
                return
            if data:
                self.protocol.data_received(data)
                continue
            self._eof = True
            if not self.protocol.eof_received():
                self.end()
                self._plain.close()
        self._flush()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert self._plain is not None
        if not self._plain.is_closing() and data:
            self.object.write(data)
            self._flush()

    def end(self) -> None:
        """Sends close_notify."""
        assert self._plain is not None
        if self._plain.is_closing():
            return
        try:
            self.object.unwrap()
        except ssl.SSLError:
            pass  # it waits for the client's close_notify, which nobody else does
        self._flush()

    def _flush(self) -> None:
        assert self._plain is not None
        data = self._outgoing.read()
        if data and not self._plain.is_closing():
            self._plain.write(data)

    def pause(self) -> None:
        assert self._plain is not None
        if not self._paused:
            self._paused = True
            self._plain.pause_reading()

    def resume(self) -> None:
        assert self._plain is not None
        if self._paused:
            self._paused = False
            self._plain.resume_reading()
            asyncio.get_running_loop().call_soon(self.deliver)


class TlsProtocol(asyncio.Protocol):
    """The plain side of an encrypted connection; makes the server's protocol when the handshake is over."""

    def __init__(self, context: ssl.SSLContext, factory: Callable[[], asyncio.Protocol]) -> None:
        self._context, self._factory = context, factory
        self._session: _Session | None = None
        self._plain: asyncio.Transport | None = None
        self._open = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._plain = transport
        self._session = _Session(self._context, self._factory())
        self._timer = asyncio.get_running_loop().call_later(_HANDSHAKE_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        assert self._session is not None
        self._session.feed(data)
        if self._open or self._shake_hands():
            self._session.deliver()

    def eof_received(self) -> bool:
        if not self._open:
            return False
        assert self._session is not None
        assert self._plain is not None
        self._session.feed(b"")
        self._session.deliver()
        return not self._plain.is_closing()

    def _shake_hands(self) -> bool:
        """True when the handshake is over; a failure of it ends the connection after its alert was sent."""
        assert self._session is not None
        assert self._plain is not None
        answer = b""
        try:
            self._session.object.do_handshake()
            self._open = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            log.info("TLS handshake error from %s: %s", self._plain.get_extra_info("peername"), error)
            answer = _NOT_TLS if error.reason == "HTTP_REQUEST" else b""
            self._plain.write(answer or self._session.pending_output())
            self._plain.close()
            return False
        if data := self._session.pending_output():
            self._plain.write(data)
        if self._open:
            self._stop_timer()
            self._session.start(self._plain)
        return self._open

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_timer()
        if self._open and self._session is not None:
            self._session.protocol.connection_lost(error)

    def pause_writing(self) -> None:
        if self._open and self._session is not None:
            self._session.protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._open and self._session is not None:
            self._session.protocol.resume_writing()
