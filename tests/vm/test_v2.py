"""What is particular of cgroup v2 alone, in the machine that scripts/vm.sh starts: limits, devices, the view inside."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from tests.conftest import Kistd

TREE = Path("/sys/fs/cgroup")


def group(engine: Kistd, name: str) -> Path:
    """The directory of a container's group, as the kernel says for its first process."""
    pid = json.loads(engine.ok("inspect", name))[0]["State"]["Pid"]
    (line,) = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    assert line.startswith("0::/kist/"), line
    return TREE / line.removeprefix("0::/")


def test_the_engine_says_version_2(engine: Kistd) -> None:
    assert engine.ok("info", "--format", "{{.CgroupVersion}} {{.CgroupDriver}}") == "2 cgroupfs\n"
    _, info = engine.request("GET", "/info")
    assert [info[name] for name in ("MemoryLimit", "SwapLimit", "PidsLimit", "CPUShares", "CpuCfsQuota")] == [True] * 5


def test_limits_are_in_the_containers_own_group(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "limited", "-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m",
              "--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "--pids-limit", "20", "busybox", "sleep",
              "100")  # fmt: skip
    found = {
        name: (group(engine, "limited") / name).read_text().strip()
        for name in ("memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "cpuset.cpus", "pids.max")
    }
    assert found == {
        "memory.max": str(64 << 20),
        "memory.swap.max": str(32 << 20),
        "memory.low": str(32 << 20),
        "cpu.max": "50000 100000",
        "cpu.weight": "20",
        "cpuset.cpus": "0",
        "pids.max": "20",
    }


def test_without_limits_there_are_none(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "free", "busybox", "sleep", "100")
    for name in ("memory.max", "memory.swap.max", "pids.max"):
        assert (group(engine, "free") / name).read_text() == "max\n", name
    assert (group(engine, "free") / "cpu.max").read_text() == "max 100000\n"


def test_bytes_of_a_device_are_throttled(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "slow", "--device-read-bps", "/dev/vda:1mb", "--device-write-iops", "/dev/vda:50",
              "busybox", "sleep", "100")  # fmt: skip
    number = os.stat("/dev/vda").st_rdev
    said = (group(engine, "slow") / "io.max").read_text().split()
    assert said[0] == f"{os.major(number)}:{os.minor(number)}"
    assert set(said[1:]) == {"rbps=1048576", "wbps=max", "riops=max", "wiops=50"}


def test_a_container_over_its_pids_limit_cannot_fork(engine: Kistd) -> None:
    command = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo all"
    refused = engine.docker("run", "--rm", "--pids-limit", "6", "busybox", "sh", "-c", command)
    assert refused.status == 2 and "can't fork: Resource temporarily unavailable" in refused.errors, refused.errors
    assert engine.ok("run", "--rm", "--pids-limit", "10", "busybox", "sh", "-c", command) == "all\n"


def test_a_container_over_its_memory_is_killed_and_its_exec_too(engine: Kistd) -> None:
    grow = "x=a; while true; do x=$x$x; done"
    assert engine.docker("run", "--name", "hungry", "-m", "16m", "busybox", "sh", "-c", grow).status == 137
    state = json.loads(engine.ok("inspect", "hungry"))[0]["State"]
    assert (state["ExitCode"], state["OOMKilled"], state["Running"]) == (137, True, False)
    engine.ok("run", "-d", "--name", "host", "-m", "16m", "--memory-swap", "16m", "busybox", "sleep", "100")
    assert engine.docker("exec", "host", "sh", "-c", grow).status == 137
    assert engine.ok("exec", "host", "echo", "alive") == "alive\n"
    assert "oom_kill 1\n" in (group(engine, "host") / "memory.events").read_text()


def test_a_cpu_limit_slows_down(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "busy", "--cpus", "0.1", "busybox", "sh", "-c", "while true; do :; done")
    directory = group(engine, "busy")

    def used() -> int:
        return int((directory / "cpu.stat").read_text().split()[1])

    before, start = used(), time.monotonic()
    time.sleep(3)
    assert (used() - before) / (time.monotonic() - start) < 200_000  # microseconds a second
    assert int((directory / "cpu.stat").read_text().split("nr_throttled ")[1].split()[0]) > 0


# --- devices ---

# /dev/loop-control, which takes no capability to open and no container has by default. A shell tells why it cannot.
OPEN = "mknod /tmp/node c 10 237 && exec 3</tmp/node && echo opened"


def test_a_device_that_is_not_allowed_can_be_made_and_not_opened(engine: Kistd) -> None:
    refused = engine.docker("run", "--rm", "busybox", "sh", "-c", OPEN)
    assert refused.status != 0 and "Operation not permitted" in refused.errors, refused.errors
    for node in ("null", "zero", "full", "random", "urandom", "tty", "ptmx"):
        expected = "" if node != "tty" else "can't open /dev/tty: No such device or address"
        tried = engine.docker("run", "--rm", "busybox", "sh", "-c", f"exec 3</dev/{node}")
        assert expected in tried.errors and "not permitted" not in tried.errors, (node, tried.errors)


def test_devices_and_rules_that_are_asked_for_are_allowed(engine: Kistd) -> None:
    for options in (["--device", "/dev/loop-control"], ["--device-cgroup-rule", "c 10:237 rwm"],
                    ["--device-cgroup-rule", "c 10:* r"], ["--privileged"]):  # fmt: skip
        assert engine.ok("run", "--rm", *options, "busybox", "sh", "-c", OPEN) == "opened\n", options


def test_only_the_access_that_was_given_is_allowed(engine: Kistd) -> None:
    write = "mknod /tmp/node c 10 237; exec 3<>/tmp/node"
    for options in (["--device-cgroup-rule", "c 10:237 r"], ["--device-cgroup-rule", "c 10:236 rwm"]):
        refused = engine.docker("run", "--rm", *options, "busybox", "sh", "-c", write)
        assert refused.status != 0 and "Operation not permitted" in refused.errors, (options, refused.errors)


def test_an_exec_is_under_the_same_rules(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "host", "busybox", "sleep", "100")
    for options in ([], ["--privileged"]):  # capabilities only, as with dockerd
        refused = engine.docker("exec", *options, "host", "sh", "-c", OPEN + "; rm /tmp/node")
        assert "Operation not permitted" in refused.errors, (options, refused.errors)
        engine.ok("exec", "host", "rm", "-f", "/tmp/node")


def test_block_devices_are_refused_too(engine: Kistd) -> None:
    number = os.stat("/dev/vda").st_rdev
    look = f"mknod /tmp/disk b {os.major(number)} {os.minor(number)} && head -c 512 /tmp/disk | wc -c"
    assert "Operation not permitted" in engine.docker("run", "--rm", "busybox", "sh", "-c", look).errors
    assert engine.ok("run", "--rm", "--device", "/dev/vda:/dev/disk:r", "busybox", "sh", "-c", look) == "512\n"


# --- the view inside ---


def cgroup_mount(text: str) -> tuple[str, list[str]]:
    """File system and options of what is mounted at /sys/fs/cgroup, of /proc/mounts."""
    (found,) = (line.split() for line in text.splitlines() if line.split()[1] == "/sys/fs/cgroup")
    return found[2], found[3].split(",")


def test_a_container_sees_its_own_group_read_only(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "host", "--pids-limit", "30", "busybox", "sleep", "100")
    for command in (["run", "--rm", "--pids-limit", "30", "busybox"], ["exec", "host"]):
        kind, options = cgroup_mount(engine.ok(*command, "cat", "/proc/mounts"))
        assert kind == "cgroup2" and {"ro", "nosuid", "nodev", "noexec"} <= set(options), options
        assert engine.ok(*command, "cat", "/proc/self/cgroup") == "0::/\n"
        assert engine.ok(*command, "cat", "/sys/fs/cgroup/pids.max") == "30\n"
        own = engine.ok(*command, "readlink", "/proc/self/ns/cgroup").strip()
        assert own != os.readlink("/proc/self/ns/cgroup")
        refused = engine.docker(*command, "mkdir", "/sys/fs/cgroup/mine")
        assert "Read-only file system" in refused.errors
    assert engine.ok("exec", "host", "cat", "/sys/fs/cgroup/cgroup.procs").split()[0] == "1"


def test_a_privileged_container_makes_groups_below_its_own(engine: Kistd) -> None:
    made = "mkdir /sys/fs/cgroup/inner && echo $$ > /sys/fs/cgroup/inner/cgroup.procs && cat /proc/self/cgroup"
    assert engine.ok("run", "--rm", "--privileged", "busybox", "sh", "-c", made) == "0::/inner\n"


def test_an_exec_joins_though_the_first_process_has_moved(engine: Kistd) -> None:
    """A group with controllers below it takes no process (cgroups(7), "no internal processes")."""
    move = (
        "cd /sys/fs/cgroup && mkdir init && echo 1 > init/cgroup.procs && echo +pids > cgroup.subtree_control &&"
        "echo moved && exec sleep 100"
    )
    engine.ok("run", "-d", "--name", "inits", "--privileged", "busybox", "sh", "-c", move)
    deadline = time.monotonic() + 30
    while engine.ok("logs", "inits") != "moved\n":
        assert time.monotonic() < deadline
    assert engine.ok("exec", "inits", "cat", "/proc/self/cgroup") == "0::/init\n"
    engine.ok("kill", "inits")


def test_the_hosts_cgroup_namespace_shows_the_hosts_tree_and_leaves_its_options(engine: Kistd) -> None:
    before = cgroup_mount(Path("/proc/mounts").read_text())
    assert "nsdelegate" in before[1]
    run = ["run", "--rm", "--cgroupns", "host", "busybox"]
    kind, options = cgroup_mount(engine.ok(*run, "cat", "/proc/mounts"))
    assert kind == "cgroup2" and "ro" in options
    assert engine.ok(*run, "cat", "/proc/self/cgroup").startswith("0::/kist/")
    assert engine.ok(*run, "ls", "-d", "/sys/fs/cgroup/kist") == "/sys/fs/cgroup/kist\n"
    assert cgroup_mount(Path("/proc/mounts").read_text()) == before


# --- the end ---


def test_a_group_goes_with_its_container_and_all_in_it(engine: Kistd) -> None:
    move = "mkdir -p /sys/fs/cgroup/a/b; setsid sleep 100 & echo $! > /sys/fs/cgroup/a/b/cgroup.procs; wait"
    engine.ok("run", "-d", "--name", "deep", "--privileged", "busybox", "sh", "-c", move)
    directory = group(engine, "deep")
    deadline = time.monotonic() + 30
    while not (directory / "a/b/cgroup.procs").exists() or not (directory / "a/b/cgroup.procs").read_text():
        assert time.monotonic() < deadline
    engine.ok("kill", "deep")
    engine.ok("wait", "deep")
    engine.ok("rm", "deep")
    assert not directory.exists()


def test_what_a_container_with_the_hosts_pids_leaves_is_killed(engine: Kistd) -> None:
    """Nothing of it dies with a pid namespace: cgroup.kill finds all."""
    engine.ok("run", "-d", "--name", "shares", "--pid", "host", "busybox", "sh", "-c", "setsid sleep 1000 & sleep 1000")
    directory = group(engine, "shares")
    deadline = time.monotonic() + 30
    while len(members := (directory / "cgroup.procs").read_text().split()) < 2:
        assert time.monotonic() < deadline
    engine.ok("kill", "shares")
    engine.ok("wait", "shares")
    engine.ok("rm", "shares")
    assert not directory.exists()
    assert not [pid for pid in members if os.path.exists(f"/proc/{pid}")]
