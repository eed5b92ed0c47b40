"""kist as a service of systemd by the units in packaging/: after a power failure, activated, restarted, in slices."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.vm import boot
from tests.vm.boot import HOST, docker, ok, systemctl

from kist.daemon.purge import purge

TREE = Path("/sys/fs/cgroup")


@pytest.fixture(scope="module", autouse=True)
def _end() -> Iterator[None]:
    yield
    names = ok("ps", "-aq").split()
    if names:
        ok("rm", "-f", *names)
    systemctl("disable", "--now", "kist.service", "kist.socket")
    purge("/var/lib/kist", "/run/kist")


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def shown(unit: str, name: str) -> str:
    return subprocess.check_output(["systemctl", "show", "-P", name, unit], text=True).strip()


def state(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(ok("inspect", name))[0]["State"]
    return found


def test_after_a_power_failure_containers_are_as_their_policies_say() -> None:
    def names(*options: str) -> set[str]:
        return set(ok("ps", "--format", "{{.Names}}", *options).split())

    until(lambda: names() >= {"always", "unless", "stopped-always"}, f"they do not run: {ok('ps', '-a')}")
    assert names() == {"always", "unless", "stopped-always"}
    assert names("-a") == set(boot.CONTAINERS) - {"gone"}
    for name in ("always", "unless"):
        assert state(name)["Running"], name
    plain = state("plain")
    assert (plain["Status"], plain["Running"], plain["ExitCode"]) == ("exited", False, 255)
    assert len(ok("run", "--rm", "-v", "kept:/v", "busybox", "cat", "/v/starts").splitlines()) == 6 + 3


def test_a_client_of_the_socket_starts_the_service() -> None:
    systemctl("stop", "kist.service")
    assert shown("kist.service", "ActiveState") == "inactive" and shown("kist.socket", "ActiveState") == "active"
    assert ok("version", "--format", "{{.Server.Version}}").strip()
    assert shown("kist.service", "ActiveState") == "active"
    assert int(shown("kist.service", "MainPID")) > 1


def test_a_restart_of_the_service_is_not_felt_by_containers_and_clients() -> None:
    ok("run", "-d", "--name", "counts", "busybox", "sh", "-c", "i=0; while true; do echo $((i+=1)); sleep 0.1; done")
    before = state("counts")
    with subprocess.Popen(["docker", "-H", HOST, "attach", "--no-stdin", "counts"], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        first = int(client.stdout.readline())
        old = shown("kist.service", "MainPID")
        systemctl("restart", "kist.service")
        assert shown("kist.service", "MainPID") != old
        numbers = [int(client.stdout.readline()) for _ in range(20)]
        assert numbers == list(range(first + 1, first + 21))
        assert state("counts") == before
        ok("kill", "counts")
        client.stdout.read()
        assert client.wait(30) == 137
    lines = [int(line) for line in ok("logs", "counts").split()]
    assert lines == list(range(1, len(lines) + 1))


def test_a_killed_service_is_started_again_by_systemd_and_takes_its_containers_back() -> None:
    ok("run", "-d", "--name", "lives", "busybox", "sleep", "1000")
    before, old = state("lives"), shown("kist.service", "MainPID")
    os.kill(int(old), 9)
    until(lambda: shown("kist.service", "MainPID") not in ("0", old), "systemd does not start it again")
    assert state("lives") == before
    assert ok("exec", "lives", "echo", "there") == "there\n"


def test_a_stopped_service_leaves_containers_running_and_the_end_is_known_afterwards() -> None:
    ok("run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 3; exit 7")
    pid = state("ends")["Pid"]
    systemctl("stop", "kist.service")
    assert os.path.exists(f"/proc/{pid}")
    until(lambda: not os.path.exists(f"/proc/{pid}"), "it does not end")
    assert (state("ends")["ExitCode"], state("ends")["Status"]) == (7, "exited")


def test_the_configuration_is_read_again_at_a_reload() -> None:
    config = Path("/etc/docker/daemon.json")
    daemon = Path("/etc/kist/daemon.json")
    assert not config.exists()
    daemon.parent.mkdir(exist_ok=True)
    daemon.write_text('{"labels": ["read=again"]}')
    try:
        systemctl("reload", "kist.service")
        until(lambda: "read=again" in ok("info", "--format", "{{json .Labels}}"), "labels are not reloaded", 15)
    finally:
        daemon.unlink()


def test_limits_stay_when_systemd_arranges_its_units_anew() -> None:
    """It takes controllers from groups that are not its own when no unit needs them."""
    ok("run", "-d", "--name", "limited", "-m", "64m", "--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0",
       "--pids-limit", "20", "--device-read-bps", "/dev/vda:1mb", "busybox", "sleep", "1000")  # fmt: skip
    pid = state("limited")["Pid"]
    directory = TREE / Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::/")

    def limits() -> dict[str, str]:
        names = ("memory.max", "cpu.max", "cpu.weight", "cpuset.cpus", "pids.max", "io.max")
        return {name: (directory / name).read_text() for name in names if (directory / name).exists()}

    before = limits()
    assert len(before) == 6, before
    systemctl("daemon-reload")
    assert limits() == before
    unit = boot.UNITS / "other.service"
    unit.write_text("[Service]\nExecStart=/bin/sleep 1000\nCPUQuota=50%\nIOWeight=50\nAllowedCPUs=0\n")
    try:
        systemctl("daemon-reload")
        systemctl("start", "other.service")
        assert limits() == before
        systemctl("stop", "other.service")
        assert limits() == before
    finally:
        unit.unlink()
        systemctl("daemon-reload")
    assert limits() == before


def test_a_container_in_a_slice_is_under_its_limits_and_the_slice_stays_systemds() -> None:
    unit = boot.UNITS / "kisttest.slice"
    unit.write_text("[Slice]\nMemoryMax=48M\nTasksMax=40\n")
    systemctl("daemon-reload")
    systemctl("start", "kisttest.slice")
    try:
        ok(
            "run",
            "-d",
            "--name",
            "sliced",
            "--cgroup-parent",
            "kisttest.slice",
            "--pids-limit",
            "30",
            "busybox",
            "sleep",
            "1000",
        )
        pid = state("sliced")["Pid"]
        (line,) = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        directory = TREE / line.removeprefix("0::/")
        assert directory.parent.parent == TREE / "kisttest.slice"
        assert (directory / "pids.max").read_text() == "30\n"
        assert (TREE / "kisttest.slice/memory.max").read_text() == f"{48 << 20}\n"
        grow = "x=a; while true; do x=$x$x; done"
        assert docker("exec", "sliced", "sh", "-c", grow).returncode == 137
        systemctl("daemon-reload")
        assert (directory / "pids.max").read_text() == "30\n"
        assert state("sliced")["Pid"] == pid
        ok("rm", "-f", "sliced")
        assert not directory.parent.exists()
        assert shown("kisttest.slice", "ActiveState") == "active"
    finally:
        systemctl("stop", "kisttest.slice")
        unit.unlink()
        systemctl("daemon-reload")


def test_the_units_are_as_systemd_wants_them() -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "kist.service", "kist.socket"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "kist" not in done.stderr, done.stderr
