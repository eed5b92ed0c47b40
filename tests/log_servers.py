"""Log servers for tests: each takes its protocol to the letter, and fails the test where it is not kept."""

from __future__ import annotations

import gzip
import http.server
import json
import re
import socket
import socketserver
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.conftest import SLOWNESS


class Server:
    """What came, in `got`; what was wrong with it, in `problems`."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.problems: list[str] = []

    def take(self, parse: Callable[[], Any]) -> None:
        try:
            self.got.append(parse())
        except Exception as error:
            self.problems.append(f"{type(error).__name__}: {error}")
            raise

    def wait(self, count: int, seconds: float = 15) -> list[Any]:
        deadline = time.monotonic() + seconds * SLOWNESS
        while len(self.got) < count and not self.problems and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not self.problems, self.problems
        assert len(self.got) >= count, f"{len(self.got)} of {count}: {self.got[-3:]}"
        return self.got


class Stream(Server):
    """Connections, each read by `read(file)` until that returns None. `close` breaks them off."""

    def __init__(
        self, read: Callable[[Any], Any], address: Any = ("127.0.0.1", 0), context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__()
        self._read, self._context = read, context
        self.listener = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(address)
        self.listener.listen(8)
        self.port = 0 if isinstance(address, str) else self.listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
            except (OSError, ValueError) as error:
                if isinstance(error, ssl.SSLError):
                    continue
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(ConnectionError), connection, connection.makefile("rwb") as file:
            while True:
                try:
                    message = self._read(file)
                except (ConnectionError, ValueError) as error:
                    if isinstance(error, ValueError) and "closed file" not in str(error):
                        self.problems.append(str(error))
                    return
                if message is None:
                    return
                self.got.append(message)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Datagrams(Server):
    def __init__(self, parse: Callable[[bytes], Any], address: Any = ("127.0.0.1", 0)) -> None:
        super().__init__()
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.bind(address)
        self.port = 0 if isinstance(address, str) else self.socket.getsockname()[1]
        self._parse = parse
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        with suppress(OSError):
            while True:
                data, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 18, 1)
                if descriptors:
                    with open(descriptors[0], "rb") as file:
                        data = file.read()
                if not data:
                    continue
                with suppress(Exception):
                    found = self._parse(data)
                    if found is not None:
                        self.got.append(found)
                    continue
                self.problems.append(repr(data[:200]))

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


# --- syslog ---

_3164 = re.compile(rb"<(\d+)>([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)(?: (\S+))? ([^\s\[]+)\[(\d+)\]: (.*)\n", re.DOTALL)
_5424 = re.compile(
    rb"<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)) "
    rb"(\S+) (\S{1,48}) (\d+) (\S{1,32}) - (.*)\n",
    re.DOTALL,
)


def rfc3164(data: bytes) -> dict[str, Any]:
    match = _3164.fullmatch(data)
    if match is None:
        raise ValueError(f"not RFC 3164: {data!r}")
    return _fields(match[1], match[4], match[6], time=match[2].decode(), host=(match[3] or b"").decode())


def rfc5424(data: bytes) -> dict[str, Any]:
    match = _5424.fullmatch(data)
    if match is None:
        raise ValueError(f"not RFC 5424: {data!r}")
    return _fields(match[1], match[4], match[7], time=match[2].decode(), host=match[3].decode())


def _fields(priority: bytes, tag: bytes, text: bytes, **others: str) -> dict[str, Any]:
    facility, severity = divmod(int(priority), 8)
    return {"facility": facility, "severity": severity, "tag": tag.decode(), "text": text, **others}


def lines(parse: Callable[[bytes], Any]) -> Callable[[Any], Any]:
    """Messages that are ended by a newline."""
    return lambda file: parse(line) if (line := file.readline()) else None


def counted(parse: Callable[[bytes], Any]) -> Callable[[Any], Any]:
    """RFC 5425: length, space, message."""

    def read(file: Any) -> Any:
        digits = b""
        while (one := file.read(1)) != b" ":
            if not one:
                return None
            if not one.isdigit():
                raise ValueError(f"no length: {digits + one!r}")
            digits += one
        return parse(file.read(int(digits)))

    return read


# --- fluentd ---


class Short(Exception):
    """The connection ended within a message."""


def unpack(file: Any) -> Any:
    """One msgpack value."""

    def read(count: int) -> bytes:
        data: bytes = file.read(count)
        if len(data) < count:
            raise Short
        return data

    kind = read(1)[0]
    if kind < 0x80:
        return kind
    if kind < 0x90:
        return {unpack(file): unpack(file) for _ in range(kind & 15)}
    if kind < 0xA0:
        return [unpack(file) for _ in range(kind & 15)]
    if kind < 0xC0:
        return read(kind & 31).decode()
    if kind in (0xD9, 0xDA, 0xDB):
        return read(int.from_bytes(read(1 << kind - 0xD9), "big")).decode()
    if kind in (0xCC, 0xCD, 0xCE, 0xCF):
        return int.from_bytes(read(1 << kind - 0xCC), "big")
    if kind == 0xDE:
        return {unpack(file): unpack(file) for _ in range(int.from_bytes(read(2), "big"))}
    if kind == 0xD7:
        code, (seconds, nanoseconds) = read(1)[0], struct.unpack(">II", read(8))
        if code != 0:
            raise ValueError(f"extension {code}")
        return ("EventTime", seconds, nanoseconds)
    raise ValueError(f"msgpack type {kind:#x}")


def forward(file: Any) -> Any:
    """One message of the forward protocol in message mode; answers where an acknowledgement is asked for."""
    try:
        message = unpack(file)
    except Short:
        return None
    if not (isinstance(message, list) and len(message) == 4):
        raise ValueError(f"not a message: {message!r}")
    tag, when, record, option = message
    if not isinstance(tag, str) or not isinstance(record, dict) or not isinstance(option, dict):
        raise ValueError(f"not a message: {message!r}")
    if "chunk" in option:
        chunk = option["chunk"].encode()
        file.write(b"\x81\xa3ack" + bytes((0xA0 | len(chunk),)) + chunk)
        file.flush()
    return {"tag": tag, "time": when, "record": record, "chunk": option.get("chunk")}


# --- gelf ---


class Chunks:
    """Puts GELF datagrams together, and unpacks them."""

    def __init__(self) -> None:
        self._parts: dict[bytes, dict[int, bytes]] = {}

    def __call__(self, data: bytes) -> Any:
        if data[:2] == b"\x1e\x0f":
            if len(data) > 1420:
                raise ValueError("a chunk is too large")
            name, number, count = data[2:10], data[10], data[11]
            parts = self._parts.setdefault(name, {})
            if not number < count <= 128 or number in parts:
                raise ValueError("wrong numbers")
            parts[number] = data[12:]
            if len(parts) < count:
                return None
            data = b"".join(parts[one] for one in range(count))
        if data[:2] == b"\x1f\x8b":
            return gelf(gzip.decompress(data))
        return gelf(zlib.decompress(data) if data[0] == 0x78 else data)


def gelf(data: bytes) -> dict[str, Any]:
    message = json.loads(data)
    if message["version"] != "1.1" or not message["host"] or not message["short_message"]:
        raise ValueError("not GELF 1.1")
    others = set(message) - {"version", "host", "short_message", "timestamp", "level"}
    if not all(re.fullmatch(r"_[\w.-]+", key) for key in others) or "_id" in others:
        raise ValueError(f"additional fields: {others}")
    return dict(message)


def zeros(file: Any) -> Any:
    """Messages over TCP."""
    data = b""
    while (one := file.read(1)) != b"\x00":
        if not one:
            return None
        data += one
    return gelf(data)


# --- journald ---


def journal(data: bytes) -> dict[str, bytes]:
    fields: dict[str, bytes] = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + size], data[8 + size :]
            if data[:1] != b"\n":
                raise ValueError("no newline behind a field")
            data = data[1:]
        if not re.fullmatch(rb"[A-Z0-9][A-Z0-9_]{0,63}", name):
            raise ValueError(f"field {name!r}")
        fields[name.decode()] = value
    return fields


# --- splunk ---


class Collector(Server):
    """An HTTP Event Collector."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.status = 200
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_OPTIONS(self) -> None:
                outer.requests.append(("OPTIONS", dict(self.headers)))
                self._answer(outer.status, b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append(("POST", dict(self.headers)))
                if self.headers["Authorization"] != f"Splunk {token}":
                    self._answer(403, b'{"text":"Invalid token","code":4}')
                    return
                if outer.status != 200:
                    self._answer(outer.status, b'{"text":"Server is busy","code":9}')
                    return
                outer.take_events(self.path, gzip.decompress(body) if self.headers["Content-Encoding"] else body)
                self._answer(200, b'{"text":"Success","code":0}')

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                """Nothing is said."""

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take_events(self, path: str, body: bytes) -> None:
        if path != "/services/collector/event/1.0":
            self.problems.append(path)
        text, decoder = body.decode(), json.JSONDecoder()
        while text:
            event, end = decoder.raw_decode(text)
            text = text[end:]
            self.got.append(event)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
