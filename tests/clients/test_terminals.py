"""Streams and terminals through both commands, with kistd killed in the middle where that must not show."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.clients.terminal import COMMANDS, PROMPT, Terminal, command, environment
from tests.conftest import Kistd

DETACH = b"\x10\x11"
COUNT = 120_000

Open = Callable[..., Terminal]


@pytest.fixture(params=sorted(COMMANDS))
def cli(request: pytest.FixtureRequest) -> str:
    """Each test runs with the stock docker command and with kist."""
    return str(request.param)


@pytest.fixture
def terminals() -> Iterator[Open]:
    """Opens terminals, and closes them whatever happens."""
    opened: list[Terminal] = []

    def open_one(engine: Kistd, name: str, *words: str, rows: int = 24, columns: int = 80) -> Terminal:
        opened.append(Terminal(engine, command(name, engine, *words), rows, columns))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def spawn(engine: Kistd, name: str, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(name, engine, *words), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=environment(engine))  # fmt: skip


def run(engine: Kistd, name: str, *words: str, stdin: bytes | None = None) -> tuple[int, bytes, bytes]:
    """(status, standard output, standard error)."""
    done = subprocess.run(
        command(name, engine, *words),
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        env=environment(engine),
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def state(engine: Kistd, name: str) -> dict[str, object]:
    status, found = engine.request("GET", f"/containers/{name}/json")
    assert status == 200, found
    return dict(found["State"])


def restart(engine: Kistd) -> None:
    engine.kill()
    time.sleep(0.1)
    engine.start()


def numbers(data: bytes, prefix: bytes = b"n") -> list[int]:
    """The numbers of the lines that begin with `prefix`, each of which must be whole."""
    lines = [line for line in data.replace(b"\r", b"").split(b"\n") if line.startswith(prefix) and line[1:].isdigit()]
    return [int(line[1:]) for line in lines]


def loop(count: int = COUNT) -> str:
    """Counts in the shell: it is at it for a second or more, not a moment as seq is."""
    return f"i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo n$i; done"


# --- kistd is killed in the middle ---


@pytest.mark.parametrize("how", ["run", "exec"])
def test_a_terminal_loses_and_doubles_no_byte_while_kistd_is_killed(
    own_engine: Kistd, terminals: Open, cli: str, how: str
) -> None:
    if how == "run":
        one = terminals(own_engine, cli, "run", "-it", "--name", "box", "busybox", "sh")
    else:
        own_engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
        one = terminals(own_engine, cli, "exec", "-it", "box", "sh")
    one.until(PROMPT)
    one.type(f"{loop()}; echo fin''ished\n".encode())
    for mark in (COUNT // 100, COUNT // 4, COUNT // 2):
        one.until(b"n%d\r\n" % mark)
        restart(own_engine)
    seen = one.until(b"finished\r\n", 60)
    assert numbers(seen) == list(range(1, COUNT + 1))
    one.until(PROMPT, start=seen.index(b"finished\r\n"))
    one.resize(41, 133)
    deadline = time.monotonic() + 10
    while b"41 133\r\n" not in one.dialogue(b"stty size\n", b"\r\n/ # \x1b[6n"):
        assert time.monotonic() < deadline, one.seen[-500:]
    if how == "run":
        one.type(DETACH)
        assert one.wait() == 0
        assert one.restored
        assert state(own_engine, "box")["Running"] is True
        restart(own_engine)
        one = terminals(own_engine, cli, "attach", "box")
        one.dialogue(b"echo ag''ain\n", b"again\r\n")
        restart(own_engine)
    one.type(b"exit 7\n")
    assert one.wait() == 7
    if how == "run":
        assert state(own_engine, "box")["ExitCode"] == 7
        logged = own_engine.docker("logs", "box").out
        assert numbers(logged) == list(range(1, COUNT + 1))


@pytest.mark.parametrize("how", ["run", "exec"])
def test_megabytes_pass_whole_through_cat_while_kistd_is_killed(own_engine: Kistd, cli: str, how: str) -> None:
    data = os.urandom(1 << 20) * 8
    words = ["run", "-i", "busybox"]
    if how == "exec":
        own_engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
        words = ["exec", "-i", "box"]
    client = spawn(own_engine, cli, *words, "sh", "-c", "cat; exit 3", stdin=subprocess.PIPE)
    fed = threading.Event()

    def feed() -> None:
        assert client.stdin is not None
        for start in range(0, len(data), 1 << 20):
            client.stdin.write(data[start : start + (1 << 20)])
            fed.set()
            time.sleep(0.15)
        client.stdin.close()

    feeder = threading.Thread(target=feed)
    out, err = [], []
    assert client.stdout is not None and client.stderr is not None
    readers = [threading.Thread(target=lambda: out.append(client.stdout.read())),  # type: ignore[union-attr]
               threading.Thread(target=lambda: err.append(client.stderr.read()))]  # type: ignore[union-attr]  # fmt: skip
    for thread in (feeder, *readers):
        thread.start()
    assert fed.wait(10)
    restart(own_engine)
    restart(own_engine)
    for thread in (feeder, *readers):
        thread.join(30)
    assert client.wait(10) == 3, err
    assert err == [b""]
    assert hashlib.sha256(out[0]).digest() == hashlib.sha256(data).digest()
    client.stdout.close()
    client.stderr.close()


def test_stdout_and_stderr_stay_apart_and_whole_while_kistd_is_killed(own_engine: Kistd, cli: str) -> None:
    script = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo n$i; echo e$i >&2; done; exit 4"
    client = spawn(own_engine, cli, "run", "--name", "box", "busybox", "sh", "-c", script)
    found: dict[str, bytes] = {}
    assert client.stdout is not None and client.stderr is not None
    out, err = client.stdout, client.stderr
    first = out.readline()
    readers = [threading.Thread(target=lambda: found.update(out=first + out.read())),
               threading.Thread(target=lambda: found.update(err=err.read()))]  # fmt: skip
    for thread in readers:
        thread.start()
    for _ in range(2):
        restart(own_engine)
    for thread in readers:
        thread.join(30)
    assert client.wait(10) == 4
    assert numbers(found["out"], b"n") == list(range(1, 60_001)) and found["out"].count(b"\n") == 60_000
    assert numbers(found["err"], b"e") == list(range(1, 60_001)) and found["err"].count(b"\n") == 60_000
    logged = own_engine.docker("logs", "box")
    assert (logged.out, logged.err) == (found["out"], found["err"])
    out.close()
    err.close()
