"""Attaching with past output and live output together: nothing lost, nothing told twice, nobody held up."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
from tests.conftest import SLOWNESS, Kistd

COUNT = "i=0; while [ $i -lt {0} ]; do echo $i; i=$((i+1)); done"


def ask(engine: Kistd, path: str, body: str = "") -> socket.socket:
    """The connection of an upgrade whose answer is not read yet."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20 * SLOWNESS)
    connection.connect(engine.socket)
    connection.sendall(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    return connection


def attach(engine: Kistd, name: str, query: str) -> socket.socket:
    """The connection behind its head, which is read byte by byte."""
    connection = ask(engine, f"/containers/{name}/attach?{query}")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, head
        head += byte
    assert head.startswith(b"HTTP/1.1 101"), head
    return connection


def rest(connection: socket.socket) -> bytes:
    found = b""
    with connection:
        while data := connection.recv(1 << 16):
            found += data
    return found


def payload(raw: bytes, stream: int = 1) -> bytes:
    found = b""
    while raw:
        size = int.from_bytes(raw[4:8], "big")
        if raw[0] == stream:
            found += raw[8 : 8 + size]
        raw = raw[8 + size :]
    return found


def test_every_line_comes_once_however_many_attach_in_the_middle(engine: Kistd) -> None:
    lines = 30_000
    engine.ok("create", "--name", "box", "busybox", "sh", "-c", COUNT.format(lines) + "; sleep 2")
    assert engine.request("POST", "/containers/box/start")[0] == 204
    found: list[bytes] = []
    threads = []
    for _ in range(12):
        connection = attach(engine, "box", "logs=1&stream=1&stdout=1&stderr=1")
        threads.append(threading.Thread(target=lambda one=connection: found.append(payload(rest(one)))))
        threads[-1].start()
        time.sleep(0.01)
    for one in threads:
        one.join()
    expected = "".join(f"{number}\n" for number in range(lines)).encode()
    assert len(found) == 12
    assert all(one == expected for one in found), [len(one) for one in found]


def test_a_line_without_its_end_is_there_too(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo one; printf 'half '; sleep 1; echo done")
    time.sleep(0.4)
    assert payload(rest(attach(engine, "box", "logs=1&stream=1&stdout=1"))) == b"one\nhalf done\n"


def test_prompts_of_a_terminal_are_there(engine: Kistd) -> None:
    engine.ok("run", "-dit", "--name", "box", "busybox", "sh", "-c", "printf 'name? '; read x; echo hello $x")
    time.sleep(0.3)
    connection = attach(engine, "box", "logs=1&stream=1&stdout=1&stdin=1")
    assert connection.recv(6, socket.MSG_WAITALL) == b"name? "
    connection.sendall(b"you\n")
    assert rest(connection).endswith(b"hello you\r\n")


def test_before_the_start_the_log_of_earlier_runs_comes_first(engine: Kistd) -> None:
    engine.ok("run", "--name", "box", "busybox", "echo", "again")
    connection = attach(engine, "box", "logs=1&stream=1&stdout=1")
    engine.ok("start", "box")
    assert payload(rest(connection)) == b"again\nagain\n"


def test_a_client_that_starts_at_once_misses_nothing(engine: Kistd) -> None:
    for number in range(10):
        engine.ok("create", "--name", f"box{number}", "busybox", "echo", "first")
        connection = attach(engine, f"box{number}", "logs=1&stream=1&stdout=1")
        assert engine.request("POST", f"/containers/box{number}/start")[0] == 204
        assert payload(rest(connection)) == b"first\n"


def test_streams_that_were_not_asked_for_do_not_come(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c",
              "echo out; echo err >&2; sleep 1; echo out; echo err >&2")  # fmt: skip
    time.sleep(0.3)
    both = attach(engine, "box", "logs=1&stream=1&stdout=1&stderr=1")
    only = attach(engine, "box", "logs=1&stream=1&stderr=1")
    neither = attach(engine, "box", "logs=1&stream=1")
    raw = rest(both)
    assert (payload(raw, 1), payload(raw, 2)) == (b"out\nout\n", b"err\nerr\n")
    raw = rest(only)
    assert (payload(raw, 1), payload(raw, 2)) == (b"", b"err\nerr\n")
    assert rest(neither) == b""


def test_a_stalled_client_stops_neither_the_log_nor_others(engine: Kistd) -> None:
    size = 16 << 20
    engine.ok("create", "--name", "box", "--log-opt", "max-size=-1", "busybox", "sh", "-c",
              f"yes | head -c {size}; echo over; sleep 60")  # fmt: skip
    stalled = [attach(engine, "box", "stream=1&stdout=1") for _ in range(2)]
    assert engine.request("POST", "/containers/box/start")[0] == 204
    time.sleep(0.2)
    stalled.append(attach(engine, "box", "logs=1&stream=1&stdout=1"))
    reader = attach(engine, "box", "logs=1&stream=1&stdout=1")
    total, tail = 0, b""
    while b"over\n" not in tail:
        data = reader.recv(1 << 16)
        assert data
        total += len(data)
        tail = (tail + data)[-32:]
    assert total >= size
    assert engine.ok("logs", "--tail", "1", "box") == "over\n"
    assert engine.request("GET", "/_ping")[0] == 200
    for one in (*stalled, reader):
        one.close()


def test_what_a_killed_kistd_was_sending_breaks_off_and_the_container_goes_on(own_engine: Kistd) -> None:
    engine = own_engine
    engine.ok(
        "run", "-d", "--name", "box", "busybox", "sh", "-c", "yes | head -c 30000000; while sleep 0.1; do echo x; done"
    )
    time.sleep(1)
    connection = attach(engine, "box", "logs=1&stream=1&stdout=1")  # and does not read
    time.sleep(0.2)
    engine.kill()
    rest(connection)  # ends
    engine.start()
    assert engine.request("GET", "/containers/box/json")[1]["State"]["Running"]
    fresh = attach(engine, "box", "stream=1&stdout=1")
    assert fresh.recv(8)
    fresh.close()


def test_detaching_is_told(engine: Kistd) -> None:
    engine.ok("run", "-dit", "--name", "box", "busybox", "cat")
    connection = attach(engine, "box", "stream=1&stdout=1&stdin=1")
    connection.sendall(b"\x10\x11")
    rest(connection)
    now = time.time() + 0.5
    raw = engine.request("GET", f"/events?since=1&until={now:.3f}")[1]
    actions = [json.loads(line)["Action"] for line in raw.splitlines() if b"box" in line]
    assert actions[-2:] == ["attach", "detach"]


@pytest.mark.parametrize("verb", ["the log", "the log and more", "an exec"])
def test_nothing_follows_a_head_that_is_not_read(engine: Kistd, verb: str) -> None:
    """docker-py reads the head through a buffer and then past it: what came with the head would be lost."""
    engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo out; exec sleep 1000")
    while engine.ok("logs", "box") != "out\n":
        time.sleep(0.01)
    path, body = f"/containers/box/attach?logs=1&stdout=1&stream={int(verb.endswith('more'))}", ""
    if verb == "an exec":
        config = {"Cmd": ["echo", "out"], "AttachStdout": True}
        path, body = f"/exec/{engine.request('POST', '/containers/box/exec', config)[1]['Id']}/start", "{}"
    for seconds in (0.1, 0.5):  # soon, and after the engine waited long enough
        if seconds > 0.1 and verb == "an exec":
            break
        with ask(engine, path, body) as connection:
            time.sleep(seconds)
            found = connection.recv(1 << 16)
            assert found.startswith(b"HTTP/1.1 101"), found
            assert found.endswith(b"\r\n\r\n") == (seconds < 0.2), found
            while not found.endswith(b"out\n"):
                found += connection.recv(1 << 16)
            _, _, raw = found.partition(b"\r\n\r\n")
            assert payload(raw) == b"out\n"
