"""Options of create and run, through the stock docker command, as the kernel shows their effect in the container."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from tests.conftest import Kistd

from kist.kernel import cgroup

V1 = not cgroup.detect().is_v2
MIB = 1 << 20


def run(engine: Kistd, *words: str) -> str:
    return engine.ok("run", "--rm", *words)


def disk() -> str:
    """A block device of this machine, whole."""
    for name in sorted(os.listdir("/sys/block")):
        if stat.S_ISBLK(os.stat(f"/dev/{name}").st_mode) if os.path.exists(f"/dev/{name}") else False:
            return f"/dev/{name}"
    pytest.skip("no block device")


# --- limits ---


def test_groups(engine: Kistd) -> None:
    assert run(engine, "--group-add", "4711", "--group-add", "12", "busybox", "id", "-G").split() == [
        "0", "10", "12", "4711",
    ]  # fmt: skip
    for name, words in (
        ("nosuch", "unable to find group nosuch: no matching entries in group file"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("99999999999999999999999", "uids and gids must be in range 0-2147483647"),
    ):
        assert words in engine.docker("run", "--rm", f"--group-add={name}", "busybox", "true").errors


def test_cpu_and_cpuset(engine: Kistd) -> None:
    options = ("--cpuset-cpus", "0", "--cpuset-mems", "0", "--cpu-shares", "77", "--cpu-quota", "5000", "--cpu-period",
               "20000")  # fmt: skip
    if V1:
        files = "cpuset/cpuset.cpus cpuset/cpuset.mems cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us"
        wanted = ["0", "0", "77", "5000", "20000"]
    else:
        files, wanted = "cpuset.cpus cpuset.mems cpu.weight cpu.max", ["0", "0", "3", "5000", "20000"]
    assert run(engine, *options, "busybox", "sh", "-c", f"cd /sys/fs/cgroup; cat {files}").split() == wanted


def test_memory(engine: Kistd) -> None:
    options = ("-m", "50m", "--memory-swap", "60m", "--memory-reservation", "40m", "--oom-score-adj", "300")
    if V1:
        files = "memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes"
        wanted = [50 * MIB, 60 * MIB, 40 * MIB, 300]
    else:
        files, wanted = "memory.max memory.swap.max memory.low", [50 * MIB, 10 * MIB, 40 * MIB, 300]
    script = f"cd /sys/fs/cgroup; cat {files} /proc/self/oom_score_adj"
    assert run(engine, *options, "busybox", "sh", "-c", script).split() == [str(one) for one in wanted]


@pytest.mark.skipif(not V1, reason="what v2 does not have is told with a warning")
def test_swappiness_and_no_oom_killer(engine: Kistd) -> None:
    script = "cd /sys/fs/cgroup/memory; cat memory.swappiness; head -1 memory.oom_control"
    found = run(engine, "-m", "50m", "--memory-swappiness", "5", "--oom-kill-disable", "busybox", "sh", "-c", script)
    assert found.splitlines() == ["5", "oom_kill_disable 1"]


def test_negative_swap_is_no_limit(engine: Kistd) -> None:
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Memory": 50 * MIB, "MemorySwap": -5}}
    _, made = engine.request("POST", "/containers/create", body)
    assert engine.request("POST", f"/containers/{made['Id']}/start")[0] == 204


def test_rates_of_devices(engine: Kistd) -> None:
    device = disk()
    options = ("--device-read-bps", f"{device}:1mb", "--device-write-bps", f"{device}:2mb", "--device-read-iops",
               f"{device}:100", "--device-write-iops", f"{device}:200")  # fmt: skip
    names = ("read_bps", "write_bps", "read_iops", "write_iops")
    files = " ".join(f"blkio/blkio.throttle.{name}_device" for name in names) if V1 else "io.max"
    found = run(engine, *options, "busybox", "sh", "-c", f"cd /sys/fs/cgroup; cat {files}")
    for value in ("1048576", "2097152", "100", "200"):
        assert value in found.replace("=", " ").split()
    told = engine.docker("run", "--rm", "--device-read-bps", "/dev/nosuch:1mb", "busybox", "true").errors
    assert "stat /dev/nosuch: no such file or directory" in told


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"OomKillDisable": True}, "OOM killer is disabled for the container, but no memory limit is set"
         if V1 else "Your kernel does not support OomKillDisable. OomKillDisable discarded."),
        ({"CpuPercent": 5}, "linux does not support CPU percent. Percent discarded."),
    ],
)  # fmt: skip
def test_what_this_kernel_cannot_do_is_warned_of(engine: Kistd, host: dict[str, object], words: str) -> None:
    status, made = engine.request("POST", "/containers/create", {"Image": "busybox", "HostConfig": host})
    assert status == 201
    assert [one for one in made["Warnings"] if words in one], made


def test_weights_of_block_devices(engine: Kistd) -> None:
    """In force where the kernel has them, a warning where not."""
    told = engine.docker("run", "--rm", "--blkio-weight", "505", "busybox", "sh", "-c", "cat /sys/fs/cgroup/io*weight")
    if not told.errors.startswith("WARNING"):
        assert {"505", "5000"} & set(told.text.split()), told.text + told.errors
        return
    told = engine.docker("create", "--blkio-weight", "505", "--blkio-weight-device", "/dev/x:20", "busybox")
    for name in ("weight", "weight_device"):
        assert f"Your kernel does not support Block I/O {name} or the cgroup is not mounted." in told.errors


# --- devices ---


def test_devices(engine: Kistd) -> None:
    device = disk()
    script = "ls -l /dev/foo | cut -c1; exec 3< /dev/foo && echo opened; exec 4> /dev/foo || echo refused"
    told = engine.docker("run", "--rm", "--device", f"{device}:/dev/foo:r", "busybox", "sh", "-c", script)
    assert told.text.split() == ["b", "opened"]
    assert "Operation not permitted" in told.errors


def test_a_directory_of_devices(engine: Kistd) -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.makedirs(f"{directory}/deep")
        os.mknod(f"{directory}/deep/zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        found = run(engine, "--device", f"{directory}:/dev/many", "busybox", "head", "-c", "3", "/dev/many/deep/zero")
        assert found == "\0\0\0"


def test_rules_for_devices(engine: Kistd) -> None:
    number = os.stat(disk()).st_rdev
    major, minor = os.major(number), os.minor(number)
    script = f"mknod /dev/k b {major} {minor} && exec 3< /dev/k && echo opened"
    assert run(engine, "--device-cgroup-rule", f"b {major}:* r", "busybox", "sh", "-c", script) == "opened\n"
    told = engine.docker("run", "--rm", "busybox", "sh", "-c", script)
    assert (told.text, "Operation not permitted" in told.errors) == ("", True)
    body = {"Image": "busybox", "HostConfig": {"Devices": [{"PathOnHost": "/dev/null", "CgroupPermissions": "x"}]}}
    assert engine.request("POST", "/containers/create", body) == (400, {"message": "bad mode specified: x"})


# --- namespaces ---


def test_shared_memory_is_shared_with_the_ipc_namespace(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "donor", "--ipc", "shareable", "--shm-size", "5m", "busybox", "sh", "-c",
              "echo given > /dev/shm/a; sleep 1000")  # fmt: skip
    script = "cat /dev/shm/a; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2; echo back > /dev/shm/b"
    assert run(engine, "--ipc", "container:donor", "busybox", "sh", "-c", script).split() == ["given", "5120"]
    assert engine.ok("exec", "donor", "cat", "/dev/shm/b") == "back\n"
    assert run(engine, "--ipc", "private", "busybox", "ls", "/dev/shm") == ""
    assert "/dev/shm" not in run(engine, "--ipc", "none", "busybox", "mount")


def test_a_private_ipc_namespace_is_not_joined(engine: Kistd) -> None:
    donor = engine.ok("run", "-d", "--name", "donor", "busybox", "sleep", "1000").strip()
    told = engine.docker("run", "--rm", "--ipc", "container:donor", "busybox", "true")
    assert (told.status, f"failed to join IPC namespace: container {donor}: non-shareable IPC (hint: use "
            f"IpcMode:shareable for the donor container)" in told.errors) == (125, True), told.errors  # fmt: skip


def test_processes_are_shared_with_a_container_that_runs(engine: Kistd) -> None:
    donor = engine.ok("run", "-d", "--name", "donor", "busybox", "sleep", "1000").strip()
    assert "sleep 1000" in run(engine, "--pid", "container:donor", "busybox", "ps")
    engine.ok("run", "-d", "--name", "guest", "--pid", "container:donor", "busybox", "sleep", "2000")
    engine.ok("kill", "donor")
    assert engine.ok("wait", "guest") == "137\n", "the end of a pid namespace is that of all in it"
    for kind, words in (
        ("pid", f"failed to join PID namespace: container {donor} is not running"),
        ("ipc", f"failed to join IPC namespace: container {donor} is not running"),
        ("network", f"container {donor} is not running"),
    ):
        told = engine.docker("run", "--rm", f"--{kind}", "container:donor", "busybox", "true")
        assert words in told.errors, told.errors


def test_namespaces_and_groups_of_the_host(engine: Kistd) -> None:
    script = "readlink /proc/self/ns/cgroup; grep -c kist /proc/self/cgroup"
    own, *_ = run(engine, "--cgroupns", "private", "busybox", "sh", "-c", f"{script}; true").split()
    shared, count = run(engine, "--cgroupns", "host", "--userns", "host", "busybox", "sh", "-c", script).split()
    assert own != shared == os.readlink("/proc/self/ns/cgroup")
    assert int(count) > 0


def test_a_parent_group_does_not_lead_out_of_the_hierarchy(engine: Kistd) -> None:
    name = f"kist-test-{os.getpid()}"
    try:
        for parent in (f"/{name}/inner", f"../../../../{name}/inner/../inner"):
            script = f"grep -c /{name}/inner/ /proc/self/cgroup"
            assert int(run(engine, "--cgroupns", "host", "--cgroup-parent", parent, "busybox", "sh", "-c", script)) > 0
    finally:
        cgroup.remove(cgroup.detect(), name)


# --- mounts, names and the rest ---


def test_mounts_in_memory_and_kernel_parameters(engine: Kistd) -> None:
    script = ("df -k /dev/shm /t | tail -2 | tr -s ' ' | cut -d' ' -f2; ls -ld /t | cut -c1-10; "
              "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax")  # fmt: skip
    options = ("--shm-size", "3m", "--tmpfs", "/t:size=1m,mode=700", "--sysctl", "net.core.somaxconn=77", "--sysctl",
               "kernel.msgmax=9000")  # fmt: skip
    found = run(engine, *options, "busybox", "sh", "-c", script).split()
    assert found == ["3072", "1024", "drwx------", "77", "9000"]


def test_names(engine: Kistd) -> None:
    gateway = engine.request("GET", "/networks/bridge")[1]["IPAM"]["Config"][0]["Gateway"]
    options = ("--add-host", "h:host-gateway", "--add-host", "g=1.2.3.4", "--add-host", "v:[::1]", "--dns", "9.9.9.9",
               "--dns-search", "a.b", "--dns-option", "ndots:3")  # fmt: skip
    found = run(engine, *options, "busybox", "cat", "/etc/hosts", "/etc/resolv.conf").splitlines()
    for line in (f"{gateway}\th", "1.2.3.4\tg", "::1\tv", "nameserver 9.9.9.9", "search a.b", "options ndots:3"):
        assert line in found


def test_addresses_belong_to_networks_of_the_user(engine: Kistd) -> None:
    assert "02:42:00:00:00:99" in run(engine, "--mac-address", "02:42:00:00:00:99", "busybox", "ip", "link")
    words = "user specified IP address is supported on user defined networks only"
    for option in ("--ip=172.17.0.99", "--ip6=fd00::5"):
        assert words in engine.docker("run", "--rm", option, "busybox", "true").errors
    told = engine.docker("run", "--rm", "--network-alias", "x", "busybox", "true").errors
    assert "network-scoped aliases are only supported for user-defined networks" in told


def test_a_file_for_the_id(engine: Kistd) -> None:
    with tempfile.TemporaryDirectory() as directory:
        made = engine.ok("create", "--cidfile", f"{directory}/id", "busybox").strip()
        assert Path(directory, "id").read_text() == made
        assert "container ID file found" in engine.docker("create", "--cidfile", f"{directory}/id", "busybox").errors


def test_annotations_isolation_and_what_is_exposed(engine: Kistd) -> None:
    engine.ok("create", "--name", "box", "--annotation", "a=b", "--isolation", "default", "--expose", "80-81",
              "--expose", "9/udp", "busybox")  # fmt: skip
    _, found = engine.request("GET", "/containers/box/json")
    assert found["HostConfig"]["Annotations"] == {"a": "b"}
    assert sorted(found["Config"]["ExposedPorts"]) == ["80/tcp", "81/tcp", "9/udp"]


@pytest.mark.parametrize(
    ("host", "status", "words"),
    [
        ({"StorageOpt": {"size": "1g"}}, 400,
         "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"),
        ({"StorageOpt": {"bogus": "1"}}, 400, "Unknown option bogus"),
        ({"Isolation": "hyperv"}, 400, "invalid isolation (hyperv): linux only supports 'default'"),
        ({"UsernsMode": "bogus"}, 400, "invalid userns mode"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_refused(engine: Kistd, host: dict[str, object], status: int, words: str) -> None:
    got, told = engine.request("POST", "/containers/create", {"Image": "busybox", "HostConfig": host})
    assert (got, told["message"]) == (status, words)


def test_a_reaper_is_the_first_process(engine: Kistd) -> None:
    script = "trap 'echo stopped; exit 7' TERM; (sleep 0.1 &); while :; do sleep 0.05; done"
    engine.ok("run", "-d", "--init", "--name", "box", "busybox", "sh", "-c", script)
    assert "docker-init" in engine.ok("exec", "box", "cat", "/proc/1/cmdline")
    engine.ok("exec", "box", "sleep", "0.3")
    assert " Z " not in engine.ok("exec", "box", "ps", "-o", "pid,stat,comm")
    engine.ok("stop", "-t", "5", "box")
    assert engine.ok("wait", "box") == "7\n", "the signal is passed on, the exit code passed up"
    assert engine.ok("logs", "box") == "stopped\n"
