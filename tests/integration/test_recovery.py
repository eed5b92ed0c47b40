"""What dies and what survives: kistd, the zygote and monitors are killed, row by row."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

from tests.conftest import Kistd, _monitors
from tests.integration.test_streams import Terminal

from kist.kernel import cgroup


def alive(pid: int) -> bool:
    """A process that is dead and not yet reaped does not count."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        try:
            if open_lines(f"/proc/{pid}/stat")[0].rpartition(")")[2].split()[0] in "ZX":
                return False
        except OSError:
            return False
        time.sleep(0.02)
    return True


def state(engine: Kistd, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(engine.ok("inspect", name))[0]["State"]
    return found


def test_containers_outlive_a_killed_kistd(own_engine: Kistd) -> None:
    own_engine.ok(
        "run",
        "-d",
        "--name",
        "lives",
        "busybox",
        "sh",
        "-c",
        "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done",
    )
    time.sleep(0.3)
    pid = state(own_engine, "lives")["Pid"]
    own_engine.kill()
    time.sleep(0.5)
    own_engine.start()
    after = state(own_engine, "lives")
    assert (after["Running"], after["Pid"]) == (True, pid)
    numbers = [int(line) for line in own_engine.ok("logs", "lives").split()]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 10
    assert own_engine.ok("exec", "lives", "echo", "still").strip() == "still"
    assert own_engine.docker("stop", "-t", "1", "lives").status == 0


def test_an_exit_while_kistd_was_away_is_recorded(own_engine: Kistd) -> None:
    own_engine.ok("run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 0.6; echo last; exit 5")
    own_engine.kill()
    time.sleep(1)
    own_engine.start()
    after = state(own_engine, "ends")
    assert (after["Status"], after["ExitCode"]) == ("exited", 5)
    assert own_engine.ok("logs", "ends") == "last\n"
    assert not _monitors(own_engine)


def test_an_attached_run_does_not_notice_a_new_kistd(own_engine: Kistd) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.15; done; exit 6"
    client = subprocess.Popen(["docker", "-H", own_engine.host, "run", "busybox", "sh", "-c", script],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    time.sleep(0.5)
    own_engine.kill()
    time.sleep(0.2)
    own_engine.start()
    out, errors = client.communicate(timeout=30)
    assert out == b"".join(b"%d\n" % number for number in range(1, 9))
    assert errors == b""
    assert client.returncode == 6


def test_an_automatic_removal_is_made_by_the_next_kistd(own_engine: Kistd) -> None:
    client = subprocess.Popen(
        ["docker", "-H", own_engine.host, "run", "--rm", "-i", "busybox", "sh", "-c", "echo up; read x; exit 4"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    assert client.stdout.readline() == b"up\n"
    time.sleep(0.2)  # for docker to have what start answers
    own_engine.kill()
    client.stdin.write(b"now\n")
    client.stdin.close()
    time.sleep(0.5)
    own_engine.start()
    assert client.wait(20) == 4
    client.stdout.close()
    assert own_engine.ok("ps", "-aq") == ""


def test_an_attached_terminal_lives_through_a_restart(own_engine: Kistd) -> None:
    terminal = Terminal("docker", "-H", own_engine.host, "run", "-it", "--name", "tty", "busybox", "sh")
    terminal.until(b"/ # ")
    terminal.type(b"for i in $(seq 40); do echo line$i; sleep 0.03; done; echo finis''hed\n")
    time.sleep(0.3)
    own_engine.kill()
    own_engine.start()
    seen = terminal.until(b"finished")
    lines = [line for line in seen.replace(b"\r", b"").split(b"\n") if line.startswith(b"line")]
    assert lines == [b"line%d" % number for number in range(1, 41)]
    terminal.type(b"exit 3\n")
    assert terminal.wait() == 3


def test_a_killed_monitor_ends_its_container_with_137(own_engine: Kistd) -> None:
    own_engine.ok("run", "-d", "--name", "victim", "busybox", "sleep", "100")
    own_engine.ok("run", "-d", "--name", "other", "busybox", "sleep", "100")
    pid = int(str(state(own_engine, "victim")["Pid"]))
    monitor = int(next(line.split()[1] for line in open_lines(f"/proc/{pid}/status") if line.startswith("PPid")))
    os.kill(monitor, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while state(own_engine, "victim")["Running"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert state(own_engine, "victim")["ExitCode"] == 137
    assert not alive(pid)
    assert state(own_engine, "other")["Running"] is True


def open_lines(path: str) -> list[str]:
    with open(path) as file:
        return file.readlines()


def test_a_monitor_killed_while_kistd_is_away_is_found_dead(own_engine: Kistd) -> None:
    own_engine.ok("run", "-d", "--name", "victim", "busybox", "sleep", "100")
    pid = int(str(state(own_engine, "victim")["Pid"]))
    monitor = int(next(line.split()[1] for line in open_lines(f"/proc/{pid}/status") if line.startswith("PPid")))
    own_engine.kill()
    os.kill(monitor, signal.SIGKILL)
    time.sleep(0.1)
    own_engine.start()
    assert state(own_engine, "victim")["ExitCode"] == 137
    assert not alive(pid)


def test_a_killed_zygote_is_replaced(own_engine: Kistd) -> None:
    own_engine.ok("run", "-d", "--name", "before", "busybox", "sleep", "100")

    for pid in cgroup.pids(cgroup.detect(), f"kist/{own_engine.id}/engine"):
        if open_lines(f"/proc/{pid}/comm") == ["kist-zygote\n"]:
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert state(own_engine, "before")["Running"] is True
    assert own_engine.ok("run", "--rm", "busybox", "echo", "after").strip() == "after"


def test_names_and_addresses_survive_a_restart(own_engine: Kistd) -> None:
    own_engine.ok("run", "-d", "--name", "first", "busybox", "sleep", "100")
    own_engine.kill()
    own_engine.start()
    taken = own_engine.docker("run", "-d", "--name", "first", "busybox", "true")
    assert 'The container name "/first" is already in use by container' in taken.errors
    own_engine.ok("run", "-d", "--name", "second", "busybox", "sleep", "100")
    addresses = [
        json.loads(own_engine.ok("inspect", name))[0]["NetworkSettings"]["IPAddress"] for name in ("first", "second")
    ]
    assert len(set(addresses)) == 2
