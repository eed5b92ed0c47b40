"""Restart policies: who starts again, when, and what stops that; with kistd there, away, and killed in between."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.conftest import Kistd, _monitors

from kist.model.container import ContainerRecord
from kist.store.database import Database, Records


def inspect(engine: Kistd, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.ok("inspect", name))[0]
    return found


def status(engine: Kistd, name: str) -> str:
    return str(inspect(engine, name)["State"]["Status"])


def until(true: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def events(engine: Kistd, since: float) -> list[str]:
    told = engine.ok("events", "--since", f"{since:.6f}", "--until", f"{time.time():.6f}", "--filter", "type=container",
                     "--format", "{{.Action}}")  # fmt: skip
    return told.split("\n")[:-1]


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    """A directory that a container writes a byte into with every life."""
    tmp_path.chmod(0o777)
    return tmp_path / "lives"


def lives(counter: Path) -> int:
    return len(counter.read_bytes()) if counter.exists() else 0


def start(engine: Kistd, counter: Path, policy: str, script: str, *flags: str, name: str = "box") -> str:
    return engine.ok("run", "-d", "--name", name, "--restart", policy, "-v", f"{counter.parent}:/c", *flags, "busybox",
                     "sh", "-c", f"printf x >>/c/lives; {script}").strip()  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [("no", 1, 1), ("on-failure:2", 0, 1), ("on-failure:2", 3, 3), ("on-failure:1", 3, 2)],
)
def test_a_policy_that_comes_to_its_end(engine: Kistd, counter: Path, policy: str, code: int, expected: int) -> None:
    start(engine, counter, policy, f"exit {code}")
    until(lambda: status(engine, "box") == "exited" and lives(counter) == expected)
    time.sleep(0.5)
    assert lives(counter) == expected
    found = inspect(engine, "box")
    assert (found["State"]["ExitCode"], found["RestartCount"]) == (code, expected - 1)
    engine.ok("start", "box")
    assert inspect(engine, "box")["RestartCount"] in (0, 1), "a start by hand begins to count anew"


def test_pauses_double(engine: Kistd, counter: Path) -> None:
    began = time.time()
    start(engine, counter, "always", "exit 3")
    until(lambda: lives(counter) >= 5)
    took = time.time() - began
    assert 0.1 + 0.2 + 0.4 + 0.8 <= took < 4, took
    until(lambda: status(engine, "box") == "restarting")
    found = inspect(engine, "box")
    state = found["State"]
    assert (state["Running"], state["Restarting"], state["Pid"], state["ExitCode"]) == (True, True, 0, 3)
    assert found["RestartCount"] == 5
    assert engine.ok("ps", "--format", "{{.Status}}").startswith("Restarting (3) ")
    told = events(engine, began)
    assert told[:6] == ["create", "start", "die", "start", "die", "start"]


def test_what_is_refused_between_two_lives(engine: Kistd, counter: Path) -> None:
    container = start(engine, counter, "always", "exit 3")
    until(lambda: lives(counter) >= 5 and status(engine, "box") == "restarting")
    waits = "is restarting, wait until the container is running"
    for method, path, body, text in (
        ("POST", "/containers/box/exec", {"Cmd": ["true"]}, f"Container {container} {waits}"),
        ("POST", "/containers/box/pause", None, f"Container {container} {waits}"),
        ("GET", "/containers/box/top", None, f"Container {container} {waits}"),
        ("POST", "/containers/box/attach?stream=1&stdout=1", None, f"container box {waits}"),
    ):
        assert engine.request(method, path, body) == (409, {"message": text}), path
    refused = engine.docker("rm", "box")
    assert "container is restarting: stop the container before removing or force remove" in refused.errors
    assert engine.request("POST", "/containers/box/start")[0] == 304
    assert engine.request("POST", "/containers/box/update", {"Memory": 64 << 20, "MemorySwap": 64 << 20})[0] == 200
    engine.ok("rename", "box", "other")
    engine.ok("rm", "-f", "other")


@pytest.mark.parametrize("words", [("stop",), ("kill",), ("kill", "-s", "TERM"), ("rm", "-f")])
def test_the_end_of_a_pause(engine: Kistd, counter: Path, words: tuple[str, ...]) -> None:
    began = time.time()
    start(engine, counter, "always", "exit 3")
    waiting = subprocess.Popen(["docker", "-H", engine.host, "wait", "box"], stdout=subprocess.PIPE)
    until(lambda: lives(counter) >= 5 and status(engine, "box") == "restarting")
    late = subprocess.Popen(["docker", "-H", engine.host, "wait", "box"], stdout=subprocess.PIPE)
    time.sleep(0.3)
    before = time.monotonic()
    engine.ok(*words, "box")
    assert time.monotonic() - before < 1
    seen = lives(counter)
    assert waiting.communicate(timeout=5)[0] == b"3\n", "answered by the first end"
    assert late.communicate(timeout=5)[0] == b"3\n", "answered when it was given up"
    time.sleep(2)
    assert lives(counter) == seen
    told = events(engine, began)
    if words[0] == "rm":
        assert told[-2:] == ["die", "destroy"]
    else:
        state = inspect(engine, "box")["State"]
        assert (state["Status"], state["Running"], state["ExitCode"]) == ("exited", False, 3)
        assert told[-1] == ("stop" if words[0] == "stop" else "die")


def test_restart_within_a_pause_starts_at_once(engine: Kistd, counter: Path) -> None:
    start(engine, counter, "always", "[ -e /c/good ] && exec sleep 100; exit 3")
    until(lambda: lives(counter) >= 5 and status(engine, "box") == "restarting")
    (counter.parent / "good").touch()
    before = time.monotonic()
    engine.ok("restart", "box")
    assert time.monotonic() - before < 1
    found = inspect(engine, "box")
    assert (found["State"]["Status"], found["RestartCount"]) == ("running", 0)
    engine.ok("kill", "box")


def test_stops_by_hand_and_other_signals(engine: Kistd, counter: Path) -> None:
    for how in (("stop", "-t", "0"), ("kill",), ("kill", "-s", "INT"), ("restart", "-t", "0")):
        start(engine, counter, "always", "trap 'exit 4' INT; while :; do sleep 0.05; done")
        time.sleep(0.3)
        engine.ok(*how, "box")
        time.sleep(0.5)
        assert status(engine, "box") == ("running" if how[0] == "restart" else "exited"), how
        engine.ok("rm", "-f", "box")
    start(engine, counter, "always", "trap 'exit 4' HUP; while :; do sleep 0.05; done")
    time.sleep(0.3)
    engine.ok("kill", "-s", "HUP", "box")  # asks for nothing that a policy would know of
    until(lambda: inspect(engine, "box")["RestartCount"] == 1 and status(engine, "box") == "running")


def test_each_life_has_its_own_output_and_clients(engine: Kistd, counter: Path) -> None:
    """An attached client leaves with the life it came to, the log goes on."""
    client = subprocess.run(
        ["docker", "-H", engine.host, "run", "--name", "box", "--restart", "on-failure:2", "busybox",
         "sh", "-c", "echo here; exit 5"],
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert (client.returncode, client.stdout) == (5, b"here\n")
    until(lambda: status(engine, "box") == "exited" and inspect(engine, "box")["RestartCount"] == 2)
    assert engine.ok("logs", "box") == "here\n" * 3


def test_who_waits_for_the_removal_waits_through_all_lives(engine: Kistd, counter: Path) -> None:
    start(engine, counter, "on-failure:2", "exit 6")
    answers: list[tuple[int, Any]] = []
    thread = threading.Thread(
        target=lambda: answers.append(engine.request("POST", "/containers/box/wait?condition=removed"))
    )
    thread.start()
    until(lambda: status(engine, "box") == "exited" and inspect(engine, "box")["RestartCount"] == 2)
    time.sleep(0.3)
    assert not answers
    engine.ok("rm", "box")
    thread.join(5)
    assert answers == [(200, {"StatusCode": 6})]


def test_the_policy_of_a_container_changes(engine: Kistd, counter: Path) -> None:
    start(engine, counter, "no", "sleep 0.7; exit 3")
    engine.ok("update", "--restart", "on-failure:1", "box")
    assert inspect(engine, "box")["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 1}
    until(lambda: lives(counter) == 2)
    engine.ok("update", "--restart=always", "box")
    until(lambda: lives(counter) == 3)
    engine.ok("update", "--restart=no", "box")
    until(lambda: status(engine, "box") == "exited")
    assert lives(counter) in (3, 4)
    told = engine.docker("update", "--restart", "on-failure:-1", "box").errors
    assert "invalid restart policy: maximum retry count cannot be negative" in told
    engine.ok("run", "-d", "--rm", "--name", "passing", "busybox", "sleep", "100")
    told = engine.docker("update", "--restart", "always", "passing").errors
    assert "Restart policy cannot be updated because AutoRemove is enabled for the container" in told
    both = engine.docker("run", "--rm", "--restart", "always", "busybox", "true")
    assert both.status == 125 and "--restart and --rm" in both.errors
    body = {"Image": "busybox", "HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}}
    refusal = {"message": "can't create 'AutoRemove' container with restart policy"}
    assert engine.request("POST", "/containers/create", body) == (400, refusal)


def test_a_start_that_fails_ends_it(engine: Kistd, counter: Path) -> None:
    """As in Docker: a port that somebody else has taken meanwhile is not tried again."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    start(engine, counter, "always", "[ -e /c/go ] || exec sleep 100; exit 3", "-p", "18123:80")
    start(engine, counter, "on-failure", "while ! [ -e /c/go ]; do sleep 0.02; done; exit 3", "-p", "18124:80",
          name="second")  # fmt: skip
    (counter.parent / "go").touch()
    until(lambda: status(engine, "second") == "restarting")
    deadline = time.monotonic() + 10
    while True:  # its port is free only between two lives
        assert time.monotonic() < deadline
        try:
            taken.bind(("0.0.0.0", 18124))
            break
        except OSError:
            time.sleep(0.005)
    with taken:
        taken.listen()
        until(lambda: status(engine, "second") == "exited")
        state = inspect(engine, "second")["State"]
        assert "18124" in state["Error"] and state["ExitCode"] == 3
    engine.ok("start", "second")


# --- kistd comes and goes ---


def test_an_end_while_kistd_is_away_is_followed_by_a_start(own_engine: Kistd, counter: Path) -> None:
    engine = own_engine
    start(engine, counter, "on-failure:3", "sleep 1; exit 3")
    engine.kill()
    time.sleep(1.5)
    assert lives(counter) == 1
    engine.start()
    until(lambda: lives(counter) == 2)
    assert inspect(engine, "box")["RestartCount"] == 1
    until(lambda: status(engine, "box") == "exited", 15)
    assert (lives(counter), inspect(engine, "box")["RestartCount"]) == (4, 3)


def test_a_pause_that_kistd_did_not_live_to_end(own_engine: Kistd, counter: Path) -> None:
    engine = own_engine
    start(engine, counter, "on-failure:6", "exit 3")
    until(lambda: lives(counter) >= 4 and status(engine, "box") == "restarting")
    engine.kill()
    time.sleep(0.3)
    seen = lives(counter)
    engine.start()
    until(lambda: lives(counter) > seen)
    until(lambda: status(engine, "box") == "exited", 15)
    assert (lives(counter), inspect(engine, "box")["RestartCount"]) == (7, 6), "the count goes on"


def test_a_running_container_with_a_policy_is_adopted(own_engine: Kistd, counter: Path) -> None:
    engine = own_engine
    start(engine, counter, "always", "while ! [ -e /c/go ]; do sleep 0.02; done; rm /c/go; exit 3")
    pid = inspect(engine, "box")["State"]["Pid"]
    engine.kill()
    engine.start()
    assert inspect(engine, "box")["State"]["Pid"] == pid
    (counter.parent / "go").touch()
    until(lambda: lives(counter) == 2 and status(engine, "box") == "running")


def test_a_stop_that_kistd_did_not_live_to_see_is_a_stop(own_engine: Kistd, counter: Path) -> None:
    engine = own_engine
    start(engine, counter, "unless-stopped", "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.05; done")
    time.sleep(0.3)
    client = subprocess.Popen(
        ["docker", "-H", engine.host, "stop", "box"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(0.5)
    engine.kill()
    client.communicate()
    time.sleep(1)
    engine.start()
    time.sleep(1)
    assert (status(engine, "box"), lives(counter)) == ("exited", 1)


def test_stopped_by_hand_and_the_next_kistd(own_engine: Kistd, counter: Path) -> None:
    """`unless-stopped` and `on-failure` stay, `always` begins with the daemon, as Docker documents it."""
    engine = own_engine
    for policy in ("unless-stopped", "on-failure", "always", "no"):
        start(engine, counter, policy, "exec sleep 100", name=policy)
        engine.ok("stop", "-t", "0", policy)
    engine.ok("create", "--name", "made", "--restart", "always", "busybox", "sleep", "100")
    assert engine.stop() == 0
    engine.start()
    until(lambda: status(engine, "always") == "running")
    time.sleep(0.3)
    others = [status(engine, name) for name in ("unless-stopped", "on-failure", "no", "made")]
    assert others == ["exited", "exited", "exited", "created"]


def change(engine: Kistd, name: str, **fields: Any) -> None:
    """The record of a container of a kistd that does not run, changed."""
    database = Database(f"{engine.base}/d/kist.db")
    records: Records[ContainerRecord] = Records(database, "container", ContainerRecord)
    record = next(one for one in records.values() if one.name == name)
    records.put(record.id, msgspec.structs.replace(record, state=msgspec.structs.replace(record.state, **fields)))
    database.close()


def test_after_a_reboot(own_engine: Kistd, counter: Path) -> None:
    """Another boot id, and nothing left of what ran: as after the machine went down."""
    engine = own_engine
    for policy in ("always", "unless-stopped", "on-failure", "no"):
        start(engine, counter, policy, "exec sleep 100", name=policy)
    engine.ok("run", "-d", "--name", "joins", "--restart", "always", "--network", "container:unless-stopped", "busybox",
              "sleep", "100")  # fmt: skip
    start(engine, counter, "unless-stopped", "exec sleep 100", name="stopped")
    engine.ok("stop", "-t", "0", "stopped")
    start(engine, counter, "always", "exit 3", name="pausing")
    until(lambda: inspect(engine, "pausing")["RestartCount"] >= 3 and status(engine, "pausing") == "restarting")
    engine.kill()
    before = lives(counter)
    for name in ("always", "unless-stopped", "on-failure", "no", "joins"):
        change(engine, name, boot_id="another")
    change(engine, "pausing", boot_id="another")
    for monitor in _monitors(engine):
        subprocess.run(["kill", "-9", str(monitor)], check=False)
    engine.start()
    for name in ("always", "unless-stopped", "on-failure", "joins"):
        until(lambda name=name: status(engine, name) == "running")  # type: ignore[misc]
        assert inspect(engine, name)["RestartCount"] == 0
    assert (status(engine, "no"), status(engine, "stopped")) == ("exited", "exited")
    assert inspect(engine, "no")["State"]["ExitCode"] == 255
    counted = inspect(engine, "pausing")["RestartCount"]
    assert counted <= lives(counter) - before - 3, "it began anew; three lives are of the others"
    sandbox = inspect(engine, "unless-stopped")["State"]["Pid"]
    joined = inspect(engine, "joins")["State"]["Pid"]
    assert Path(f"/proc/{sandbox}/ns/net").readlink() == Path(f"/proc/{joined}/ns/net").readlink()


def test_kistd_killed_again_and_again_in_crash_loops(own_engine: Kistd, tmp_path: Path) -> None:
    """Wherever it is cut off, the loops go on, and every life is counted once."""
    engine, seed = own_engine, random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    tmp_path.chmod(0o777)
    for number, length in enumerate((0, 0, 0.05, 0.1, 0.2, 0.5)):
        script = f"printf x >>/c/{number}; sleep {length}; exit 3"
        engine.ok("run", "-d", "--name", f"box{number}", "--restart", "on-failure:6", "-v", f"{tmp_path}:/c", "busybox",
                  "sh", "-c", script)  # fmt: skip
    for _ in range(12):
        time.sleep(dice.uniform(0, 0.7))
        engine.kill()
        time.sleep(max(0, dice.uniform(-0.5, 0.5)))
        engine.start()
    for number in range(6):
        until(lambda name=f"box{number}": status(engine, name) == "exited", 40)  # type: ignore[misc]
        counted = inspect(engine, f"box{number}")["RestartCount"]
        assert ((tmp_path / str(number)).stat().st_size, counted) == (7, 6), number


def test_an_automatic_removal_that_was_cut_off(own_engine: Kistd) -> None:
    """An ended --rm container whose kistd recorded the end and no more."""
    engine = own_engine
    engine.ok("run", "-d", "--rm", "--name", "passing", "busybox", "sleep", "100")
    engine.ok("create", "--rm", "--name", "made", "busybox", "true")
    pid = inspect(engine, "passing")["State"]["Pid"]
    engine.kill()
    for monitor in _monitors(engine):
        subprocess.run(["kill", "-9", str(monitor)], check=False)
    subprocess.run(["kill", "-9", str(pid)], check=False)
    change(engine, "passing", status="exited", exit_code=137, pid=0)
    engine.start()
    until(lambda: engine.ok("ps", "-a", "--format", "{{.Names}}") == "made\n")
