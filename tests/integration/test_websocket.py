"""Attaching by WebSocket over a unix socket and TCP: output in frames, input from frames, both ends closing."""

from __future__ import annotations

import base64
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Kistd, _end_engine, _make_engine

from kist.http.websocket import BINARY, CLOSE, PING, PONG, TEXT, frame, unmask


class WebSocket:
    """A client of the RFC, as small as can be."""

    def __init__(self, connection: socket.socket, path: str) -> None:
        self.connection = connection
        connection.settimeout(15)
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: http://x\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            assert byte, self.head
            self.head += byte

    def send(self, kind: int, payload: bytes) -> None:
        made = bytearray(frame(kind, payload))
        made[1] |= 0x80
        head = len(made) - len(payload)
        self.connection.sendall(bytes(made[:head]) + b"abcd" + unmask(payload, b"abcd"))

    def receive(self) -> tuple[int, bytes]:
        first, size = self._read(2)
        if size >= 126:
            size = int.from_bytes(self._read(2 if size == 126 else 8), "big")
        return first & 0x0F, self._read(size)

    def until_close(self) -> tuple[set[int], bytes]:
        kinds: set[int] = set()
        found = b""
        while True:
            kind, payload = self.receive()
            if kind == CLOSE:
                assert self.connection.recv(1) == b""
                self.connection.close()
                return kinds, found
            kinds.add(kind)
            found += payload

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            data = self.connection.recv(size - len(found))
            assert data, "the connection broke off"
            found += data
        return found


def unix(engine: Kistd) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(engine.socket)
    return connection


def attach(engine: Kistd, query: str, version: str = "") -> WebSocket:
    made = WebSocket(unix(engine), f"{version}/containers/box/attach/ws?{query}")
    assert made.head.startswith(b"HTTP/1.1 101"), made.head
    return made


def test_output_that_was_and_that_comes(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo one; echo two >&2; sleep 1; echo three")
    time.sleep(0.3)
    both = attach(engine, "logs=1&stream=1&stdout=1&stderr=1")
    live = attach(engine, "stream=1&stdout=1")
    assert both.until_close() == ({BINARY}, b"one\ntwo\nthree\n")
    assert live.until_close() == ({BINARY}, b"three\n")
    assert attach(engine, "logs=1&stderr=1").until_close() == ({BINARY}, b"two\n")
    assert attach(engine, "").until_close() == (set(), b"")


def test_before_the_start_as_docker_py_does(engine: Kistd) -> None:
    engine.ok("create", "--name", "box", "busybox", "echo", "hello")
    client = attach(engine, "logs=1&stream=1&stdout=1")
    engine.ok("start", "box")
    assert client.until_close() == ({BINARY}, b"hello\n")


def test_older_clients_have_text_and_all_streams(engine: Kistd) -> None:
    engine.ok(
        "create", "--name", "box", "busybox", "sh", "-c", r"printf 'gr\303'; sleep 0.3; printf '\274n\n'; echo x >&2"
    )
    client = attach(engine, "stream=1", "/v1.27")
    newer = attach(engine, "stream=1", "/v1.41")
    engine.ok("start", "box")
    kinds, found = client.until_close()
    assert (kinds, sorted(found.split(b"\n"))) == ({TEXT}, sorted("grün\nx\n".encode().split(b"\n")))
    assert newer.until_close()[0] == {BINARY}


def test_input_pings_and_closing(engine: Kistd) -> None:
    engine.ok("run", "-dit", "--name", "box", "busybox", "cat")
    client = attach(engine, "stream=1&stdin=1&stdout=1")
    client.send(PING, b"are you there")
    assert client.receive() == (PONG, b"are you there")
    client.send(TEXT, b"hello\r")
    found = b""
    while found.count(b"hello") < 2:
        found += client.receive()[1]
    client.send(CLOSE, b"")
    while client.receive()[0] != CLOSE:
        pass
    client.connection.close()
    assert engine.request("GET", "/containers/box/json")[1]["State"]["Running"]
    second = attach(engine, "stream=1&stdin=1&stdout=1&detachKeys=a")
    second.send(BINARY, b"a")
    second.until_close()


def test_what_is_no_websocket_is_refused(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "60")
    assert engine.request("GET", "/containers/none/attach/ws")[0] == 404
    assert engine.request("GET", "/containers/box/attach/ws?stream=1") == (400, {"message": "not websocket protocol"})
    client = attach(engine, "stream=1&stdin=1")
    client.connection.sendall(frame(TEXT, b"not masked"))
    kind, payload = client.receive()
    assert (kind, payload[:2]) == (CLOSE, (1002).to_bytes(2, "big"))
    client.connection.close()


@pytest.fixture
def tcp_engine(busybox_archive: Path) -> Iterator[tuple[Kistd, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    engine = _make_engine(busybox_archive, "-H", f"tcp://127.0.0.1:{port}")
    yield engine, port
    _end_engine(engine)


def test_over_tcp_and_a_kistd_that_ends(tcp_engine: tuple[Kistd, int]) -> None:
    engine, port = tcp_engine
    engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", "while sleep 0.1; do echo x; done")
    client = WebSocket(socket.create_connection(("127.0.0.1", port)), "/containers/box/attach/ws?stream=1&stdout=1")
    assert client.receive() == (BINARY, b"x\n")
    begin = time.monotonic()
    assert engine.stop() == 0
    assert time.monotonic() - begin < 5
    while client.connection.recv(1 << 16):
        pass
    client.connection.close()
    engine.start()
    assert engine.request("GET", "/containers/box/json")[1]["State"]["Running"]
