"""Every combination of what an attach asks for, in every state: the same bytes from kistd and dockerd."""

from __future__ import annotations

import itertools
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd
from tests.integration.test_attach import payload

PROGRAM = """
echo past; echo past2 >&2
until [ -e /g/go ]; do sleep 0.05; done
echo live; echo live2 >&2
read -t 2 line && echo "read $line" || echo "read nothing"
"""
ASKED = ("logs", "stream", "stdin", "stdout", "stderr")
COMBINATIONS = ["&".join(chosen) for count in range(6) for chosen in itertools.combinations(ASKED, count)]

# dockerd waits for a client that only types, until it has closed its end; kistd lets it go with the container.
_TYPISTS = ("stream&stdin", "logs&stream&stdin")


class Client:
    """One attached connection, and what it is told until it ends."""

    def __init__(self, engine: Kistd, name: str, asked: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(engine.socket)
        query = "&".join(f"{word}=1" for word in asked.split("&") if word)
        self._socket.sendall(
            f"POST /v1.41/containers/{name}/attach?{query} HTTP/1.1\r\nHost: x\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode()
        )

    def type(self, text: bytes) -> None:
        try:
            self._socket.sendall(text)
        except BrokenPipeError:
            pass  # it was answered in full already

    def told(self, deadline: float) -> dict[str, Any]:
        """Status, streams, and whether it was over by the deadline (of time.monotonic)."""
        raw, ended = b"", False
        try:
            while not ended and (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                data = self._socket.recv(1 << 16)
                raw, ended = raw + data, not data
        except TimeoutError:
            pass
        except ConnectionResetError:
            ended = True
        self._socket.close()
        head, _, body = raw.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1:2]
        if status != [b"101"]:
            return {"status": status, "body": body}
        return {"status": status, "stdout": payload(body, 1), "stderr": payload(body, 2), "ended": ended}


def _create(engine: Kistd, name: str, gate: Path) -> None:
    host = {"Binds": [f"{gate}:/g"], "NetworkMode": "none"}
    body = {"Image": "busybox", "Cmd": ["sh", "-c", PROGRAM], "OpenStdin": True, "HostConfig": host}
    status, answer = engine.request("POST", f"/v1.41/containers/create?name={name}", body)
    assert status == 201, answer


def _start(engine: Kistd, name: str) -> None:
    status, answer = engine.request("POST", f"/v1.41/containers/{name}/start")
    assert status == 204, answer


def _answers(engine: Kistd, state: str, directory: Path) -> dict[str, dict[str, Any]]:
    """By combination. Who attaches to a running container types a line; the others are attached before a start."""
    gate = directory / engine.base.strip("/").replace("/", "-")
    gate.mkdir()
    names = {asked: f"{state}{number}" for number, asked in enumerate(COMBINATIONS)}
    for name in names.values():
        _create(engine, name, gate)
        if state != "created":
            _start(engine, name)
    time.sleep(1)
    if state == "ended":
        (gate / "go").touch()
        for name in names.values():
            engine.request("POST", f"/v1.41/containers/{name}/wait")
    clients = {asked: Client(engine, name, asked) for asked, name in names.items()}
    time.sleep(1)
    if state != "running":
        (gate / "go").touch()
        for name in names.values():
            _start(engine, name)
    else:
        for client in clients.values():
            client.type(b"typed\n")
        time.sleep(0.3)
        (gate / "go").touch()
    deadline = time.monotonic() + 10
    with ThreadPoolExecutor(len(clients)) as pool:
        found = dict(zip(clients, pool.map(lambda client: client.told(deadline), clients.values()), strict=True))
    for name in names.values():
        engine.request("DELETE", f"/v1.41/containers/{name}?force=1")
    return found


@pytest.mark.parametrize("state", ["created", "running", "ended"])
def test_what_an_attach_is_told(kist: Kistd, dockerd: Kistd, state: str, tmp_path: Path) -> None:
    ours, theirs = _answers(kist, state, tmp_path), _answers(dockerd, state, tmp_path)
    for asked in _TYPISTS:
        assert not theirs[asked].pop("ended"), "no longer different"
        assert ours[asked].pop("ended")
    different = [
        f"{asked or 'nothing'}:\n  kistd:   {ours[asked]}\n  dockerd: {theirs[asked]}"
        for asked in COMBINATIONS
        if ours[asked] != theirs[asked]
    ]
    assert not different, "\n".join(different)
