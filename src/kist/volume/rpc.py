"""One call to a plug-in: JSON by POST over a unix socket or TCP, as Docker's plug-in protocol has it, with time limits.

https://docs.docker.com/engine/extend/plugin_api/. A plug-in is somebody else's program: it may be slow, gone, or answer
anything, and none of that may hold up the engine or fill its memory.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec

from kist.model.errors import KistError

log = logging.getLogger(__name__)
MIME = "application/vnd.docker.plugins.v1.2+json"
PATIENCE = 30.0  # seconds that a plug-in which cannot be reached is waited for, as it may just be starting
_HOST = "plugin.moby.localhost"  # what Docker calls the other end of a unix socket
_LIMIT = 16 << 20  # bytes of an answer
_CHUNK = 1 << 16


class Unreachable(KistError):
    """The plug-in does not answer, as opposed to answering no."""


class TimedOut(Unreachable):
    """It has heard, and may do what was asked of it all the same."""


class Tls(msgspec.Struct, frozen=True, rename={
    "skip": "InsecureSkipVerify", "ca": "CAFile", "certificate": "CertFile", "key": "KeyFile",
}):  # fmt: skip
    """TLSConfig of a plug-in's .json file."""

    skip: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""


class Address(msgspec.Struct, frozen=True):
    """`url` is `unix:///path` or `tcp://`, `http://`, `https://host:port`."""

    url: str
    tls: Tls | None = None


async def call(
    address: Address, method: str, arguments: dict[str, Any] | None, seconds: float, *, patience: float = PATIENCE
) -> bytes:
    """The body of the answer. Raises Unreachable, and KistError with what the plug-in says went wrong.

    A plug-in that cannot be reached is tried again after 1, 2, 4, … seconds, for no longer than `patience`.
    """
    loop = asyncio.get_running_loop()
    begin, pause = loop.time(), 1.0
    while True:
        kind = Unreachable
        try:
            async with asyncio.timeout(seconds):
                status, data = await _exchange(address, method, arguments)
            break
        except TimeoutError:
            kind, failure = TimedOut, "context deadline exceeded"
        except (OSError, httptools.HttpParserError, ValueError) as error:
            failure = _told(address, error)
        if loop.time() - begin + pause >= patience:
            raise kind(f'Post "{_base(address)}/{method}": {failure}')
        log.warning("unable to reach the plug-in at %s for %s: %s; again in %d s", address.url, method, failure, pause)
        await asyncio.sleep(pause)
        pause *= 2
    if status != 200:
        raise KistError(f"{method}: {_reason(data)}")
    return data


def _reason(data: bytes) -> str:
    """The error of an answer that is not 200: the field Err, or all of it."""
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    if isinstance(found, dict) and isinstance(found.get("Err"), str) and found["Err"]:
        return str(found["Err"])
    return data[:4096].decode("utf-8", "replace")


def _base(address: Address) -> str:
    parts = urlsplit(address.url)
    scheme = "https" if parts.scheme == "https" else "http"
    return f"{scheme}://{_HOST if parts.scheme == 'unix' else parts.netloc}"


def _told(address: Address, error: Exception) -> str:
    """As Go tells of it."""
    if isinstance(error, EOFError):
        return "EOF"
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    parts = urlsplit(address.url)
    where = f"unix {parts.path}" if parts.scheme == "unix" else f"tcp {parts.netloc}"
    return f"dial {where}: connect: {error.strerror.lower()}"


class _Answer:
    """What httptools reports of a response."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.complete = False

    def on_body(self, chunk: bytes) -> None:
        self.data += chunk
        if len(self.data) > _LIMIT:
            raise ValueError(f"the answer has more than {_LIMIT} bytes")

    def on_message_complete(self) -> None:
        self.complete = True


async def _exchange(address: Address, method: str, arguments: dict[str, Any] | None) -> tuple[int, bytes]:
    body = b"" if arguments is None else msgspec.json.encode(arguments)
    reader, writer = await _connect(address)
    try:
        head = (
            f"POST /{method} HTTP/1.1\r\nHost: {urlsplit(_base(address)).netloc}\r\nAccept: {MIME}\r\n"
            f"Content-Type: {MIME}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.complete:
            chunk = await reader.read(_CHUNK)
            if not chunk:
                break
            parser.feed_data(chunk)
        if not answer.complete and (not parser.get_status_code() or parser.should_keep_alive()):
            raise ConnectionResetError("EOF")
        return parser.get_status_code(), bytes(answer.data)
    finally:
        writer.transport.abort()


async def _connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(address.url)
    if parts.scheme == "unix":
        return await asyncio.open_unix_connection(parts.path)
    if parts.scheme not in ("tcp", "http", "https") or not parts.hostname:
        raise ValueError(f"protocol not available: {address.url}")
    secure = parts.scheme == "https" or (address.tls is not None and parts.scheme == "tcp")
    context = _context(address.tls or Tls()) if secure else None
    return await asyncio.open_connection(parts.hostname, parts.port or (443 if secure else 80), ssl=context)


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca or None)
    if tls.skip or not tls.ca:  # without a certificate to check it by Docker does not check either
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.key or None)
    return context
