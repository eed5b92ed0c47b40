"""What dies and what survives: kistd, the zygote and monitors are killed, row by row."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.conftest import ROOT, SLOWNESS, Kistd, UnixConnection, _directories, _monitors
from tests.integration.test_streams import Terminal

from kist.kernel import cgroup
from kist.model.container import ContainerRecord
from kist.monitor import protocol
from kist.store.database import Database, Records


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
    assert client.stdout is not None
    first = os.read(client.stdout.fileno(), 100)
    time.sleep(0.2)  # for docker to have what start answers
    own_engine.kill()
    time.sleep(0.2)
    own_engine.start()
    out, errors = client.communicate(timeout=30 * SLOWNESS)
    assert first + out == b"".join(b"%d\n" % number for number in range(1, 9))
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


# --- what attached and waiting clients, execs and ports notice of it: nothing ---


def monitor_of(engine: Kistd, name: str) -> int:
    pid = state(engine, name)["Pid"]
    return int(next(line.split()[1] for line in open_lines(f"/proc/{pid}/status") if line.startswith("PPid")))


def zygote_of(engine: Kistd) -> int:
    pids = cgroup.pids(cgroup.detect(), f"kist/{engine.id}/engine")
    return next(pid for pid in pids if open_lines(f"/proc/{pid}/comm") == ["kist-zygote\n"])


def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)


def test_an_open_wait_is_answered_across_two_restarts(own_engine: Kistd) -> None:
    own_engine.ok(
        "run", "-d", "--name", "box", "busybox", "sh", "-c", "trap 'exit 8' TERM; while :; do sleep 0.05; done"
    )
    waiting = {condition: UnixConnection(own_engine.socket) for condition in ("not-running", "next-exit", "removed")}
    answers = {}
    for condition, connection in waiting.items():
        connection.request("POST", f"/containers/box/wait?condition={condition}")
        answers[condition] = connection.getresponse()
    time.sleep(0.2)  # the monitor has the connection a moment after the head is out
    for _ in range(2):
        own_engine.kill()
        own_engine.start()
    own_engine.request("POST", "/containers/box/kill?signal=TERM")
    for condition in ("not-running", "next-exit"):
        assert json.loads(answers[condition].read()) == {"StatusCode": 8}
    assert own_engine.request("DELETE", "/containers/box")[0] == 204
    assert json.loads(answers["removed"].read()) == {"StatusCode": 8}
    for connection in waiting.values():
        connection.close()


def test_waiting_clients_that_leave_cost_no_descriptor(own_engine: Kistd) -> None:
    own_engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    _, made = own_engine.request("POST", "/containers/create?name=later", {"Image": "busybox", "Cmd": ["true"]})
    monitor = monitor_of(own_engine, "box")
    assert own_engine.process is not None
    counted = [f"/proc/{monitor}/fd", f"/proc/{own_engine.process.pid}/fd"]
    before = [len(os.listdir(path)) for path in counted]

    def visit(path: str, upgrade: str = "") -> None:
        client = socket.socket(socket.AF_UNIX)
        client.connect(own_engine.socket)
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{upgrade}Content-Length: 0\r\n\r\n".encode())
        assert client.recv(100).startswith((b"HTTP/1.1 200", b"HTTP/1.1 101"))
        client.close()

    for _ in range(10):
        visit("/containers/box/wait")
        visit("/containers/later/wait?condition=next-exit")
        visit(f"/containers/{made['Id']}/attach?stream=1&stdout=1", "Connection: Upgrade\r\nUpgrade: tcp\r\n")
    until(lambda: len(os.listdir(counted[0])) <= before[0])
    until(lambda: len(os.listdir(counted[1])) <= before[1] + 3)  # the last ones go with the next visit
    for name in ("later", "box"):
        own_engine.request("DELETE", f"/containers/{name}?force=1")
    until(lambda: len(os.listdir(counted[1])) <= before[1])


def test_exit_codes_of_execs_are_known_to_the_next_kistd(own_engine: Kistd) -> None:
    own_engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")

    def start_exec(script: str) -> str:
        _, made = own_engine.request("POST", "/containers/box/exec", {"Cmd": ["sh", "-c", script], "User": "daemon"})
        assert own_engine.request("POST", f"/exec/{made['Id']}/start", {"Detach": True})[0] == 200
        return str(made["Id"])

    def shown(exec_id: str) -> dict[str, object]:
        status, answer = own_engine.request("GET", f"/exec/{exec_id}/json")
        assert status == 200, answer
        return dict(answer)

    ended, ends_away, runs_on = start_exec("exit 4"), start_exec("sleep 0.6; exit 6"), start_exec("sleep 1000")
    until(lambda: shown(ended)["ExitCode"] == 4)
    before = shown(runs_on)
    own_engine.kill()
    time.sleep(0.8)
    own_engine.start()
    assert [shown(one)["ExitCode"] for one in (ended, ends_away, runs_on)] == [4, 6, None]
    assert shown(runs_on) == before
    assert json.loads(own_engine.ok("inspect", "box"))[0]["ExecIDs"] == [runs_on]
    assert own_engine.request("POST", f"/exec/{ended}/start", {"Detach": True})[0] == 409


def test_published_ports_answer_while_kistd_is_away_and_after(own_engine: Kistd) -> None:
    own_engine.ok("run", "-d", "--name", "web", "-p", "127.0.0.1:18080:80", "busybox", "sh", "-c",
                  "echo hello > /index.html; exec httpd -f -p 80 -h /")  # fmt: skip

    def ask() -> str:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", 18080, timeout=5)) as connection:
            connection.request("GET", "/index.html")
            return connection.getresponse().read().decode()

    until(lambda: _answers(ask))
    own_engine.kill()
    assert ask() == "hello\n"
    own_engine.start()
    assert ask() == "hello\n"
    taken = own_engine.docker("run", "-p", "127.0.0.1:18080:80", "busybox", "true")
    assert taken.status == 125 and "port is already allocated" in taken.errors
    own_engine.ok("rm", "-f", "web")
    own_engine.ok("run", "--rm", "-p", "127.0.0.1:18080:80", "busybox", "true")


def _answers(ask: Callable[[], str]) -> bool:
    try:
        return ask() == "hello\n"
    except OSError:
        return False


def test_a_start_that_kistd_did_not_live_to_record_is_adopted_with_its_address(own_engine: Kistd) -> None:
    """The zygote is held up, so that the container comes to life only after kistd was killed."""
    own_engine.ok("create", "--name", "box", "-p", "127.0.0.1:18081:80", "busybox", "sleep", "1000")
    zygote = zygote_of(own_engine)
    os.kill(zygote, signal.SIGSTOP)
    client = socket.socket(socket.AF_UNIX)
    client.connect(own_engine.socket)
    client.sendall(b"POST /containers/box/start HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    time.sleep(0.5)
    own_engine.kill()
    client.close()
    os.kill(zygote, signal.SIGCONT)
    until(lambda: len(_monitors(own_engine)) == 1)
    time.sleep(0.3)
    own_engine.start()
    found = json.loads(own_engine.ok("inspect", "box"))[0]
    assert found["State"]["Running"] is True and found["State"]["StartedAt"] > "2000"
    own_engine.ok("run", "-d", "--name", "next", "busybox", "sleep", "1000")
    other = json.loads(own_engine.ok("inspect", "next"))[0]
    addresses = [one["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] for one in (found, other)]
    assert all(addresses) and len(set(addresses)) == 2
    inside = own_engine.ok("exec", "box", "ip", "-4", "addr", "show", "eth0")
    assert addresses[0] in inside
    assert found["NetworkSettings"]["Ports"]["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "18081"}]


def test_an_automatic_removal_without_any_client_is_made_too(own_engine: Kistd) -> None:
    own_engine.ok("run", "-d", "--rm", "-v", "/data", "busybox", "sleep", "0.4")
    own_engine.kill()
    time.sleep(0.6)
    own_engine.start()
    until(lambda: own_engine.ok("ps", "-aq") == "")
    assert own_engine.ok("volume", "ls", "-q") == ""


def test_a_stopped_kistd_leaves_containers_and_clients_alone(own_engine: Kistd) -> None:
    client = subprocess.Popen(
        ["docker", "-H", own_engine.host, "run", "--name", "box", "busybox", "sh", "-c",
         "for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.1; done; exit 5"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert client.stdout is not None
    first = client.stdout.readline()
    assert own_engine.stop() == 0
    own_engine.start()
    assert first + client.communicate(timeout=20)[0] == b"".join(b"%d\n" % number for number in range(1, 10))
    assert client.returncode == 5


# --- the zygote, a monitor, the machine ---


def test_a_killed_zygote_takes_nothing_along(own_engine: Kistd) -> None:
    client = subprocess.Popen(["docker", "-H", own_engine.host, "run", "-i", "--name", "box", "busybox", "cat"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write(b"one\n")
    client.stdin.flush()
    assert client.stdout.readline() == b"one\n"
    os.kill(zygote_of(own_engine), signal.SIGKILL)
    assert own_engine.ok("exec", "box", "echo", "still").strip() == "still"
    assert own_engine.ok("run", "--rm", "busybox", "echo", "after").strip() == "after"
    assert client.communicate(b"two\n", timeout=10)[0] == b"two\n"
    assert client.returncode == 0


def test_a_killed_monitor_takes_its_whole_container_and_its_clients_along(own_engine: Kistd) -> None:
    client = subprocess.Popen(["docker", "-H", own_engine.host, "run", "--name", "box", "--pid", "host", "busybox",
                               "sh", "-c", "sleep 1001 & sleep 1002 & echo ready; wait"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"
    own_engine.ok("exec", "-d", "box", "sleep", "1003")
    group = f"kist/{own_engine.id}/{json.loads(own_engine.ok('inspect', 'box'))[0]['Id']}"
    members = cgroup.pids(cgroup.detect(), group)
    assert len(members) == 4  # with --pid host no namespace ends with its first process
    os.kill(monitor_of(own_engine, "box"), signal.SIGKILL)
    client.communicate(timeout=10)
    assert client.returncode == 137
    until(lambda: state(own_engine, "box")["Running"] is False)
    assert state(own_engine, "box")["ExitCode"] == 137
    assert not [pid for pid in members if alive(pid)]
    own_engine.ok("start", "box")
    assert state(own_engine, "box")["Running"] is True


def crash(engine: Kistd) -> None:
    """What is left when the machine has gone down: the data root and nothing else."""
    engine.kill()
    layout = cgroup.detect()
    groups = {f"kist/{engine.id}/{os.path.basename(path)}" for root in layout.directories(f"kist/{engine.id}")
              for path in _directories(root)}  # fmt: skip
    for group in groups:
        for pid in cgroup.pids(layout, group):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    until(lambda: not any(alive(pid) for group in groups for pid in cgroup.pids(layout, group)))
    for group in groups:
        until(lambda group=group: cgroup.remove(layout, group))  # type: ignore[misc]
    engine.clean_host()


def test_after_the_machine_went_down_records_images_and_volumes_are_there(own_engine: Kistd) -> None:
    own_engine.ok("volume", "create", "--label", "a=b", "kept")
    own_engine.ok("run", "-d", "--name", "box", "-v", "kept:/data", "-p", "127.0.0.1:18082:80", "busybox", "sh", "-c",
                  "echo precious > /data/file; echo own > /own; echo logged; exec sleep 1000")  # fmt: skip
    own_engine.ok("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "1000")
    own_engine.docker("run", "--name", "ended", "busybox", "sh", "-c", "exit 3")
    until(lambda: own_engine.ok("logs", "box") == "logged\n")
    crash(own_engine)
    os.makedirs(f"{own_engine.base}/d/volumes/unknown/_data")  # a volume whose record was not written any more
    own_engine.start()
    found = state(own_engine, "box")
    assert (found["Status"], found["ExitCode"], found["Running"], found["Pid"]) == ("exited", 255, False, 0)
    assert state(own_engine, "ended")["ExitCode"] == 3
    assert own_engine.docker("inspect", "brief").status == 1
    assert own_engine.ok("images", "-q", "busybox") != ""
    assert set(own_engine.ok("volume", "ls", "-q").split()) == {"kept", "unknown"}
    assert own_engine.ok("volume", "inspect", "-f", "{{.Labels.a}}", "kept").strip() == "b"
    assert own_engine.ok("logs", "box") == "logged\n"
    own_engine.ok("start", "box")
    assert own_engine.ok("exec", "box", "cat", "/data/file", "/own") == "precious\nown\n"
    own_engine.ok("run", "--rm", "busybox", "true")


def test_an_exec_root_on_a_disk_does_not_hide_that_the_machine_went_down(own_engine: Kistd) -> None:
    """The run directory is still there; only the boot id tells."""
    own_engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    pid, monitor = int(str(state(own_engine, "box")["Pid"])), monitor_of(own_engine, "box")
    own_engine.kill()
    os.kill(monitor, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    database = Database(f"{own_engine.base}/d/kist.db")
    records = Records(database, "container", ContainerRecord)
    for record in list(records.values()):
        earlier = msgspec.structs.replace(record.state, boot_id="00000000-0000-0000-0000-000000000000")
        records.put(record.id, msgspec.structs.replace(record, state=earlier))
    database.close()
    own_engine.start()
    assert state(own_engine, "box")["ExitCode"] == 255


# --- another version of kist ---


def other_version(directory: Path, version: int) -> str:
    """A source tree whose monitors speak this version of the protocol."""
    shutil.copytree(ROOT / "src", directory, ignore=shutil.ignore_patterns("__pycache__"))
    path = directory / "kist/monitor/protocol.py"
    text = path.read_text()
    assert f"\nVERSION = {protocol.VERSION}\n" in text
    text = text.replace(f"\nVERSION = {protocol.VERSION}\n", f"\nVERSION = {version}\n")
    path.write_text(text.replace("\nADOPTABLE = ", f"\nADOPTABLE = ({version},) or "))
    if version < protocol.HOLDS:  # what is to be held back it takes for any other attach
        path = directory / "kist/monitor/monitor.py"
        text = path.read_text()
        for now, then in (('            "let_go": self._let_go,\n', ""), ('held=message.get("held", "")', 'held=""')):
            assert now in text
            text = text.replace(now, then)
        path.write_text(text)
    if version == 1:  # its greeting told the pids of running execs, and nothing that was kept
        path = directory / "kist/monitor/monitor.py"
        text = path.read_text()
        old = '"execs": [*running, *self._ended_execs]}'
        assert old in text
        path.write_text(text.replace(old, '"execs": {one["id"]: one["pid"] for one in running}}'))
    return str(directory)


def start_under(engine: Kistd, version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Starts a container with another version of kist, which then goes, and the present one comes."""
    engine.stop()
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", other_version(tmp_path / "src", version))
        engine.start()
    engine.ok("run", "-d", "--name", "box", "busybox", *words)
    engine.stop()
    engine.start()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_monitor_of_a_version_before_is_adopted(
    own_engine: Kistd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    script = "trap 'echo bye; exit 9' TERM; echo past; while :; do sleep 0.05; done"
    start_under(own_engine, version, tmp_path, monkeypatch, "sh", "-c", script)
    assert state(own_engine, "box")["Running"] is True
    assert own_engine.ok("exec", "box", "echo", "hello") == "hello\n"
    connection = UnixConnection(own_engine.socket)
    connection.request("POST", "/containers/box/attach?logs=1&stream=1&stdout=1")
    answer = connection.getresponse()
    begin = time.monotonic()
    assert answer.read(8 + 5)[8:] == b"past\n"
    assert time.monotonic() - begin < 5, "it waited for what this monitor never says"
    time.sleep(0.3)
    own_engine.ok("stop", "box")
    assert answer.read()[8:] == b"bye\n"
    connection.close()
    assert state(own_engine, "box")["ExitCode"] == 9


def test_a_monitor_of_an_unknown_version_is_told_of_and_left_alone(
    own_engine: Kistd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_under(own_engine, 99, tmp_path, monkeypatch, "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.05; done")
    assert "speaks version 99 of the protocol, this kistd" in own_engine.log()
    before = state(own_engine, "box")
    assert before["Running"] is True
    monitor = monitor_of(own_engine, "box")
    refused = own_engine.docker("exec", "box", "true")
    assert refused.status == 1 and "another version of kist (protocol 99)" in refused.errors
    assert "received 503" in own_engine.docker("attach", "--no-stdin", "box").errors
    assert own_engine.docker("run", "--rm", "busybox", "echo", "others").text == "others\n"
    waiting = subprocess.Popen(["docker", "-H", own_engine.host, "wait", "box"], stdout=subprocess.PIPE)
    time.sleep(0.3)
    own_engine.ok("stop", "box")
    assert (state(own_engine, "box")["Status"], state(own_engine, "box")["ExitCode"]) == ("exited", 9)
    assert waiting.communicate(timeout=10)[0] == b"9\n"
    own_engine.ok("rm", "box")
    os.kill(monitor, signal.SIGKILL)  # nobody here can release it


def test_fifty_containers_are_adopted_in_a_moment(own_engine: Kistd) -> None:
    for number in range(50):
        _, made = own_engine.request(
            "POST", f"/containers/create?name=c{number}", {"Image": "busybox", "Cmd": ["sleep", "1000"]}
        )
        assert own_engine.request("POST", f"/containers/{made['Id']}/start")[0] == 204
    until(lambda: len(_monitors(own_engine)) == 50)  # a monitor takes its name just after the start was told
    own_engine.kill()
    before = time.monotonic()
    own_engine.start()
    took = time.monotonic() - before
    print(f"50 containers adopted, kistd up after {took:.2f} s")
    assert took < 5 * SLOWNESS
    assert len(own_engine.ok("ps", "-q").split()) == 50
    assert own_engine.ok("exec", "c49", "echo", "yes") == "yes\n"
