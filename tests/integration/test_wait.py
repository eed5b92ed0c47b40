"""`/wait` with every condition and several who wait: what each is told, and when, whatever becomes of kistd."""

from __future__ import annotations

import json
import select
import time
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd, UnixConnection

CONDITIONS = ("not-running", "next-exit", "removed")


class Waiting:
    """One client's open `/wait`."""

    def __init__(self, engine: Kistd, name: str, condition: str) -> None:
        self._connection = UnixConnection(engine.socket)
        self._connection.request("POST", f"/containers/{name}/wait?condition={condition}")
        self._socket = self._connection.sock
        self._answer: HTTPResponse = self._connection.getresponse()
        # with its length in the head the answer is there at once, and in a buffer
        self._was_over = self._answer.getheader("Content-Length") is not None

    def answered(self, seconds: float = 0) -> bool:
        return self._was_over or bool(select.select([self._socket], [], [], seconds)[0])

    def told(self, seconds: float = 10) -> Any:
        """The answer, once it is there."""
        assert self.answered(seconds), "nobody was told"
        return json.loads(self._answer.read())

    def leave(self) -> None:
        self._answer.close()
        self._connection.close()


Wait = Callable[[str, str], Waiting]


def waits(engine: Kistd) -> Iterator[Wait]:
    opened: list[Waiting] = []

    def wait(name: str, condition: str) -> Waiting:
        opened.append(Waiting(engine, name, condition))
        return opened[-1]

    yield wait
    for one in opened:
        one.leave()


@pytest.fixture
def wait(engine: Kistd) -> Iterator[Wait]:
    yield from waits(engine)


@pytest.fixture
def own_wait(own_engine: Kistd) -> Iterator[Wait]:
    yield from waits(own_engine)


def until(true: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)


def state(engine: Kistd, name: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.request("GET", f"/containers/{name}/json")[1]["State"]
    return found


def gate(directory: Path) -> tuple[str, Callable[[], None]]:
    """A shell's wait for a file in `directory`, mounted at /g, and what makes that file."""
    directory.chmod(0o777)
    return "until [ -e /g/go ]; do sleep 0.02; done", (directory / "go").touch


def test_all_who_wait_for_a_container_with_rm_are_told(engine: Kistd, wait: Wait, tmp_path: Path) -> None:
    script, go = gate(tmp_path)
    engine.ok("run", "-d", "--rm", "--name", "box", "-v", f"{tmp_path}:/g", "busybox", "sh", "-c", f"{script}; exit 9")
    clients = [wait("box", condition) for condition in CONDITIONS * 3]
    time.sleep(0.2)
    assert not any(client.answered() for client in clients)
    go()
    assert [client.told() for client in clients] == [{"StatusCode": 9}] * 9
    assert engine.request("GET", "/containers/box/json")[0] == 404


def test_who_waits_for_the_removal_is_told_when_the_container_is_gone(engine: Kistd, wait: Wait) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "100")
    clients = {condition: wait("box", condition) for condition in CONDITIONS}
    engine.ok("kill", "box")
    assert clients["not-running"].told() == clients["next-exit"].told() == {"StatusCode": 137}
    late = {condition: wait("box", condition) for condition in CONDITIONS}
    assert late["not-running"].told() == {"StatusCode": 137}
    time.sleep(0.2)
    assert not (clients["removed"].answered() or late["removed"].answered() or late["next-exit"].answered())
    engine.ok("rm", "box")
    for client in (clients["removed"], late["removed"], late["next-exit"]):  # the removal ends every wait
        assert client.told() == {"StatusCode": 137}


def test_a_container_that_never_ran(engine: Kistd, wait: Wait) -> None:
    engine.ok("create", "--name", "box", "busybox", "true")
    clients = {condition: wait("box", condition) for condition in CONDITIONS}
    assert clients["not-running"].told() == {"StatusCode": 0}
    engine.ok("rm", "box")
    assert clients["next-exit"].told() == clients["removed"].told() == {"StatusCode": 0}


def test_why_a_start_failed_is_told_to_who_waits_afterwards(engine: Kistd, wait: Wait) -> None:
    engine.ok("create", "--name", "box", "busybox", "nosuch")
    removed = wait("box", "removed")
    assert engine.docker("start", "box").status == 1
    told = wait("box", "not-running").told()
    assert told["StatusCode"] == 127
    assert told["Error"]["Message"] == state(engine, "box")["Error"]
    assert '"nosuch": executable file not found in $PATH' in told["Error"]["Message"]
    assert not removed.answered()
    engine.ok("rm", "box")
    assert removed.told() == {"StatusCode": 127}


def test_a_start_that_fails_before_there_is_a_monitor_removes_nothing(engine: Kistd, wait: Wait) -> None:
    engine.ok("run", "-d", "--name", "first", "-p", "127.0.0.1:18093:80", "busybox", "sleep", "100")
    engine.ok("create", "--name", "box", "-p", "127.0.0.1:18093:80", "busybox", "true")
    removed = wait("box", "removed")
    result = engine.docker("start", "box")
    assert result.status == 1
    assert "port is already allocated" in result.errors
    time.sleep(0.2)
    assert not removed.answered()
    engine.ok("rm", "-f", "first")
    engine.ok("start", "box")
    until(lambda: state(engine, "box")["Status"] == "exited")
    engine.ok("rm", "box")
    assert removed.told() == {"StatusCode": 0}


def test_lives_of_a_restart_policy(engine: Kistd, wait: Wait, tmp_path: Path) -> None:
    """The end of a life is an end; between two lives nobody is told that it does not run."""
    script, go = gate(tmp_path)
    engine.ok("run", "-d", "--name", "box", "--restart", "on-failure:3", "-v", f"{tmp_path}:/g", "busybox",
              "sh", "-c", f"{script}; exit 6")  # fmt: skip
    first = {condition: wait("box", condition) for condition in CONDITIONS}
    go()
    assert first["not-running"].told() == first["next-exit"].told() == {"StatusCode": 6}
    until(lambda: state(engine, "box")["Restarting"])
    between = {condition: wait("box", condition) for condition in CONDITIONS}
    assert between["not-running"].told() == between["next-exit"].told() == {"StatusCode": 6}
    until(lambda: state(engine, "box")["Status"] == "exited")
    assert not (first["removed"].answered() or between["removed"].answered())
    engine.ok("rm", "box")
    assert first["removed"].told() == between["removed"].told() == {"StatusCode": 6}


def test_a_restart_by_hand_is_an_end_and_no_removal(engine: Kistd, wait: Wait) -> None:
    engine.ok("run", "-d", "--rm", "--name", "box", "busybox", "sleep", "100")
    clients = {condition: wait("box", condition) for condition in CONDITIONS}
    engine.ok("restart", "-t", "0", "box")
    assert clients["not-running"].told() == clients["next-exit"].told() == {"StatusCode": 137}
    assert not clients["removed"].answered()
    engine.ok("kill", "box")
    assert clients["removed"].told() == {"StatusCode": 137}


def test_a_client_that_leaves_takes_nobody_along(engine: Kistd, wait: Wait, tmp_path: Path) -> None:
    script, go = gate(tmp_path)
    engine.ok("create", "--name", "box", "-v", f"{tmp_path}:/g", "busybox", "sh", "-c", f"{script}; exit 3")
    before = [wait("box", condition) for condition in ("next-exit", "removed") * 2]
    before[0].leave()
    before[1].leave()
    engine.ok("start", "box")
    during = [wait("box", condition) for condition in CONDITIONS * 2]
    for one in during[:3]:
        one.leave()
    time.sleep(0.2)
    go()
    assert [before[2].told(), during[3].told(), during[4].told()] == [{"StatusCode": 3}] * 3
    engine.ok("rm", "box")
    assert [before[3].told(), during[5].told()] == [{"StatusCode": 3}] * 2


@pytest.mark.parametrize("flags", [(), ("--rm",)])
def test_an_end_while_kistd_is_away(own_engine: Kistd, own_wait: Wait, tmp_path: Path, flags: tuple[str, ...]) -> None:
    script, go = gate(tmp_path)
    own_engine.ok("run", "-d", *flags, "--name", "box", "-v", f"{tmp_path}:/g", "busybox", "sh", "-c",
                  f"{script}; exit 8")  # fmt: skip
    clients = {condition: own_wait("box", condition) for condition in CONDITIONS}
    time.sleep(0.2)  # the monitor has the connection a moment after the head is out
    own_engine.kill()
    go()
    assert clients["not-running"].told() == clients["next-exit"].told() == {"StatusCode": 8}
    assert not clients["removed"].answered(), "nobody is there to remove it"
    own_engine.start()
    if not flags:
        time.sleep(0.2)
        assert not clients["removed"].answered()
        own_engine.ok("rm", "box")
    assert clients["removed"].told() == {"StatusCode": 8}
    assert own_engine.request("GET", "/containers/box/json")[0] == 404


def test_lives_that_a_kistd_did_not_live_to_see(own_engine: Kistd, own_wait: Wait, tmp_path: Path) -> None:
    script, go = gate(tmp_path)
    own_engine.ok("run", "-d", "--name", "box", "--restart", "on-failure:1", "-v", f"{tmp_path}:/g", "busybox",
                  "sh", "-c", f"{script}; exit 5")  # fmt: skip
    clients = {condition: own_wait("box", condition) for condition in CONDITIONS}
    time.sleep(0.2)
    own_engine.kill()
    go()
    assert clients["not-running"].told() == clients["next-exit"].told() == {"StatusCode": 5}
    own_engine.start()
    until(lambda: state(own_engine, "box")["Status"] == "exited")
    assert own_engine.request("GET", "/containers/box/json")[1]["RestartCount"] == 1
    assert not clients["removed"].answered()
    own_engine.ok("rm", "box")
    assert clients["removed"].told() == {"StatusCode": 5}
