"""HTTP/1.1 for the command: just what the Engine API needs, because http.client alone takes 25 ms to import."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any, Protocol

from kist.model.errors import KistError

API_VERSION = "1.51"
_CHUNK = 1 << 16


class ApiError(KistError):
    """What the daemon answered with a status of 400 and above."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(KistError):
    """No daemon answers."""


class Stream(Protocol):
    """A connection to a daemon: a socket, an encrypted one, or ssh's standard input and output."""

    def fileno(self) -> int: ...

    def recv(self, size: int, /) -> bytes: ...

    def sendall(self, data: bytes, /) -> None: ...

    def shutdown(self, how: int, /) -> None: ...

    def close(self) -> None: ...


class Endpoint:
    """A daemon at `unix://path` or `tcp://host:port[/base]`. Other ways to one derive from this."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.base = ""  # what every path of a request begins with
        self.reached = False  # somebody took a connection: a request may have been carried out
        scheme, _, rest = host.partition("://")
        if scheme == "tcp":
            self.base = rest[len(rest.partition("/")[0]) :].rstrip("/")

    def connect(self) -> Stream:
        """A new connection. Raises Unreachable with Docker's text."""
        connection = self._plain()
        self.reached = True
        return connection

    def close(self) -> None:
        """Ends what connections have left running."""

    def _plain(self) -> socket.socket:
        scheme, _, rest = self.host.partition("://")
        try:
            if scheme == "unix":
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(rest)
                return connection
            name, _, port = rest.partition("/")[0].rpartition(":")
            plain = socket.create_connection((name.strip("[]"), int(port)))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return plain
        except PermissionError as error:
            raise Unreachable(
                f"permission denied while trying to connect to the Docker daemon socket at {self.host}: "
                f"{error.strerror}"
            ) from error
        except (OSError, ValueError) as error:
            raise Unreachable(
                f"Cannot connect to the Docker daemon at {self.host}. Is the docker daemon running?"
            ) from error


class Answer:
    """An answer whose head was read. `chunks` gives the body as it comes; `upgrade` hands the connection out."""

    def __init__(self, connection: Stream, *, bodyless: bool = False) -> None:
        """`bodyless`: to a HEAD, whose answer tells the length of a body that does not come."""
        self._connection = connection
        self._rest = b""
        self._bodyless = bodyless
        self.status, self.headers = self._read_head()

    def _read_head(self) -> tuple[int, dict[str, str]]:
        data = b""
        while b"\r\n\r\n" not in data:
            more = self._connection.recv(_CHUNK)
            if not more:
                raise Unreachable("the daemon closed the connection before it answered")
            data += more
        head, self._rest = data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return int(lines[0].split(" ", 2)[1]), headers

    def _receive(self) -> bytes:
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        return self._connection.recv(_CHUNK)

    def chunks(self) -> Iterator[bytes]:
        if self._bodyless:
            return
        if self.headers.get("transfer-encoding") == "chunked":
            yield from self._chunked()
            return
        length = self.headers.get("content-length")
        left = int(length) if length is not None else -1
        if self.status in (204, 304):
            return
        while left != 0:
            data = self._receive()
            if not data:
                return
            left -= len(data) if left > 0 else 0
            yield data

    def _chunked(self) -> Iterator[bytes]:
        data = b""
        while True:
            while b"\r\n" not in data:
                more = self._receive()
                if not more:
                    raise Unreachable("the daemon broke the answer off")
                data += more
            size_text, data = data.split(b"\r\n", 1)
            size = int(size_text.split(b";")[0], 16)
            while len(data) < size + 2:
                more = self._receive()
                if not more:
                    raise Unreachable("the daemon broke the answer off")
                data += more
            if size == 0:
                return
            yield data[:size]
            data = data[size + 2 :]

    def read(self) -> bytes:
        return b"".join(self.chunks())

    def lines(self) -> Iterator[bytes]:
        """The body line by line, as progress and events come."""
        rest = b""
        for chunk in self.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line for line in whole if line.strip())
        if rest.strip():
            yield rest

    def upgrade(self) -> tuple[Stream, bytes]:
        """The raw connection and what was read of it already."""
        return self._connection, self._rest

    def close(self) -> None:
        self._connection.close()


def quote(text: str) -> str:
    """Percent-encodes everything but unreserved characters (RFC 3986); urllib would take 8 ms to import."""
    safe = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~/"
    return "".join(chr(byte) if byte in safe else f"%{byte:02X}" for byte in os.fsencode(text))


def encode_query(query: dict[str, Any] | None) -> str:
    """Lists repeat their key; None is left out; booleans are 1 or left out."""
    pairs = []
    for key, value in (query or {}).items():
        for one in value if isinstance(value, list) else [value]:
            if one is None or one is False:
                continue
            text = "1" if one is True else str(one)
            pairs.append(f"{quote(key)}={quote(text).replace('/', '%2F')}")
    return f"?{'&'.join(pairs)}" if pairs else ""


def _send_chunks(connection: Stream, stream: Iterator[bytes]) -> None:
    try:
        for chunk in stream:
            if chunk:
                connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        connection.sendall(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        return  # the daemon wants no more: it has answered already


class Client:
    """One daemon. Each request has a connection of its own, kept open for the next one when it may be."""

    def __init__(self, endpoint: Endpoint, version: str = API_VERSION, *, fixed: bool = False) -> None:
        self.endpoint, self.version, self.fixed = endpoint, version, fixed
        self.headers: dict[str, str] = {}  # for every request
        self._idle: Stream | None = None

    def open(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        stream: Iterator[bytes] | None = None,
    ) -> Answer:
        """Sends a request and reads the head of its answer. Raises ApiError, Unreachable.

        An older daemon says which version it speaks; from then on that one is spoken.
        """
        reused = self._idle is not None
        connection = self._idle or self.endpoint.connect()
        self._idle = None
        lines = [
            f"{method} {self.endpoint.base}/v{self.version}{quote(path)}{encode_query(query)} HTTP/1.1",
            "Host: api.moby.localhost",
        ]
        lines += [f"{name}: {value}" for name, value in {**self.headers, **(headers or {})}.items()]
        data = b""
        if stream is not None:
            lines.append("Transfer-Encoding: chunked")
        elif body is not None:
            data = json.dumps(body, separators=(",", ":")).encode()
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        elif method in ("POST", "PUT"):
            lines.append("Content-Length: 0")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
        try:
            connection.sendall(head + data)
            if stream is not None:
                _send_chunks(connection, stream)
            answer = Answer(connection, bodyless=method == "HEAD")
        except (OSError, Unreachable):
            connection.close()
            if reused and stream is None:
                return self.open(method, path, query, body, headers=headers)
            raise
        if answer.status >= 400:
            message = _message(answer).strip()
            answer.close()
            if stream is None and self._step_down(message):
                return self.open(method, path, query, body, headers=headers)
            raise ApiError(answer.status, message)
        return answer

    def _step_down(self, message: str) -> bool:
        """Whether the daemon refused the version of the API only, and there is a lower one to ask with."""
        _, found, rest = message.partition("is too new. Maximum supported API version is ")
        offered = rest.strip()
        if self.fixed or not found or not offered.replace(".", "").isdigit() or offered == self.version:
            return False
        self.version = offered
        return True

    def call(self, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None) -> Any:
        """A whole answer as JSON, None when it has no body."""
        answer = self.open(method, path, query, body)
        data = answer.read()
        if answer.headers.get("connection", "").lower() == "close":
            answer.close()
        else:
            self._idle = answer.upgrade()[0]
        return json.loads(data) if data.strip() else None

    def close(self) -> None:
        if self._idle is not None:
            self._idle.close()
            self._idle = None


def _message(answer: Answer) -> str:
    data = answer.read()
    try:
        found = json.loads(data)
        return str(found["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode("utf-8", "replace").strip() or f"the daemon answered with status {answer.status}"
