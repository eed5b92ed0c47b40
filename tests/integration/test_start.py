"""A container on the real kernel: what its first process sees."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.conftest import Kistd

from kist.kernel import cgroup


def run(engine: Kistd, *arguments: str) -> str:
    return engine.ok("run", "--rm", *arguments)


def test_a_container_has_its_own_pid_1_hostname_and_address(engine: Kistd) -> None:
    out = run(engine, "busybox", "sh", "-c", "echo $$; hostname; ip -4 -o addr show eth0; cat /etc/hostname")
    pid, hostname, address, named = out.splitlines()
    assert pid == "1"
    assert len(hostname) == 12
    assert named == hostname
    assert " 172." in address or " 192.168." in address


def test_the_mounts_are_dockers(engine: Kistd) -> None:
    lines = [line.split() for line in run(engine, "busybox", "cat", "/proc/self/mounts").splitlines()]
    found = {line[1]: (line[2], set(line[3].split(","))) for line in lines}
    assert found["/"][0] == "overlay"
    assert found["/proc"][0] == "proc" and {"nosuid", "nodev", "noexec"} <= found["/proc"][1]
    assert found["/dev"][0] == "tmpfs" and "nosuid" in found["/dev"][1]
    assert found["/dev/pts"][0] == "devpts" and "ptmxmode=666" in found["/dev/pts"][1]
    assert found["/dev/shm"][0] == "tmpfs" and "size=65536k" in found["/dev/shm"][1]
    assert found["/dev/mqueue"][0] == "mqueue"
    assert found["/sys"][0] == "sysfs" and "ro" in found["/sys"][1]
    assert "ro" in found["/sys/fs/cgroup"][1]
    for name in ("resolv.conf", "hostname", "hosts"):
        assert f"/etc/{name}" in found


def test_paths_are_masked_and_read_only(engine: Kistd) -> None:
    out = run(engine, "busybox", "sh", "-c",
              "wc -c < /proc/keys; ls /sys/firmware | wc -l; echo > /proc/sys/kernel/sem || echo no")  # fmt: skip
    assert out.split() == ["0", "0", "no"]


def test_capabilities_and_seccomp_are_the_default_set(engine: Kistd) -> None:
    status = dict(
        line.split(":\t") for line in run(engine, "busybox", "cat", "/proc/self/status").splitlines() if ":\t" in line
    )
    assert status["CapEff"] == status["CapPrm"] == status["CapBnd"] == "00000000a80425fb"
    assert status["CapInh"] == status["CapAmb"] == "0000000000000000"
    assert status["Seccomp"].strip() == "2"
    assert status["NoNewPrivs"].strip() == "0"


def test_capabilities_can_be_added_dropped_and_lifted(engine: Kistd) -> None:
    show = ["sh", "-c", "grep CapEff /proc/self/status"]
    assert "0000000000000000" in run(engine, "--cap-drop", "all", "busybox", *show)
    assert int(run(engine, "--cap-add", "NET_ADMIN", "busybox", *show).split()[1], 16) & 1 << 12
    status = Path("/proc/self/status").read_text().splitlines()
    own = int(next(line for line in status if line.startswith("CapPrm")).split()[1], 16)
    assert int(run(engine, "--privileged", "busybox", *show).split()[1], 16) == own
    assert int(run(engine, "--cap-add", "ALL", "busybox", *show).split()[1], 16) == own


def test_a_user_without_capabilities_has_none(engine: Kistd) -> None:
    out = run(engine, "-u", "1000:2000", "busybox", "sh", "-c", "id; grep CapEff /proc/self/status; echo $HOME")
    assert out.splitlines()[0] == "uid=1000 gid=2000 groups=2000"
    assert out.splitlines()[1].split()[1] == "0000000000000000"
    assert out.splitlines()[2] == "/"


def test_users_and_groups_come_from_the_images_files(engine: Kistd) -> None:
    assert run(engine, "-u", "daemon", "busybox", "id").strip() == "uid=1(daemon) gid=1(daemon) groups=1(daemon)"
    assert "groups=0(root),10(wheel)" in run(engine, "busybox", "id")
    result = engine.docker("run", "--rm", "-u", "nosuch", "busybox", "true")
    assert result.status != 0
    assert "unable to find user nosuch: no matching entries in passwd file" in result.errors


def test_no_new_privileges_when_asked(engine: Kistd) -> None:
    assert (
        run(
            engine, "--security-opt", "no-new-privileges", "busybox", "grep", "NoNewPrivs", "/proc/self/status"
        ).split()[1]
        == "1"
    )


def test_environment_is_dockers(engine: Kistd) -> None:
    out = run(engine, "-e", "A=b c", "-h", "box", "busybox", "env")
    found = dict(line.split("=", 1) for line in out.splitlines())
    assert found == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": "box",
        "A": "b c",
        "HOME": "/root",
    }


def test_the_working_directory_is_made(engine: Kistd) -> None:
    assert run(engine, "-w", "/made/deep", "busybox", "pwd").strip() == "/made/deep"


def test_sysctls_and_domainname(engine: Kistd) -> None:
    out = run(engine, "--sysctl", "net.ipv4.ip_forward=0", "--domainname", "example.test", "busybox", "sh", "-c",
              "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/domainname")  # fmt: skip
    assert out.split() == ["0", "example.test"]


def test_a_limit_that_cannot_be_raised_is_reported(engine: Kistd) -> None:
    out = run(engine, "--ulimit", "nofile=100:200", "busybox", "sh", "-c", "ulimit -n; ulimit -Hn")
    assert out.split() == ["100", "200"]
    result = engine.docker("run", "--rm", "--ulimit", "memlock=-1:-1", "busybox", "true")
    if result.status != 0:
        assert "cannot raise RLIMIT_MEMLOCK" in result.errors


@pytest.mark.parametrize(
    ("arguments", "v1", "v2"),
    [
        (["--memory", "64m"], ("memory/memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")),
        (["--pids-limit", "50"], ("pids/pids.max", "50"), ("pids.max", "50")),
        (["--cpus", "0.5"], ("cpu/cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")),
        (["--cpu-shares", "512"], ("cpu/cpu.shares", "512"), ("cpu.weight", "20")),
    ],
    ids=["memory", "pids", "cpus", "cpu-shares"],
)
def test_limits_are_set(engine: Kistd, arguments: list[str], v1: tuple[str, str], v2: tuple[str, str]) -> None:
    file, value = v2 if cgroup.detect().is_v2 else v1
    assert run(engine, *arguments, "busybox", "cat", f"/sys/fs/cgroup/{file}").strip() == value


def test_devices_outside_the_list_are_refused(engine: Kistd) -> None:
    out = run(engine, "busybox", "sh", "-c", "mknod /tmp/mem c 1 1 && cat /tmp/mem; head -c 1 /dev/zero | wc -c")
    assert out.strip().endswith("1")
    refused = engine.docker("run", "--rm", "busybox", "sh", "-c", "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem")
    assert refused.status != 0 and "Operation not permitted" in refused.errors


def test_out_of_memory_is_recorded(engine: Kistd) -> None:
    engine.docker("run", "--name", "hungry", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c",
                  "x=a; while true; do x=$x$x; done")  # fmt: skip
    state = json.loads(engine.ok("inspect", "hungry"))[0]["State"]
    assert state["ExitCode"] == 137
    assert state["OOMKilled"] is True


@pytest.mark.parametrize(
    ("command", "status"),
    [(["true"], 0), (["sh", "-c", "exit 7"], 7), (["nosuch"], 127), (["/etc"], 126), (["/etc/passwd"], 126)],
)
def test_exit_codes_are_dockers(engine: Kistd, command: list[str], status: int) -> None:
    assert engine.docker("run", "--rm", "busybox", *command).status == status


def test_namespaces_of_the_host_can_be_shared(engine: Kistd) -> None:
    for option, kind in (("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--network", "net")):
        inside = run(engine, option, "host", "busybox", "readlink", f"/proc/self/ns/{kind}").strip()
        assert inside == os.readlink(f"/proc/self/ns/{kind}")


def test_a_network_can_be_joined(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "owner", "busybox", "sleep", "60")
    mine = run(engine, "--network", "container:owner", "busybox", "readlink", "/proc/self/ns/net")
    assert mine == engine.ok("exec", "owner", "readlink", "/proc/self/ns/net")


def test_a_read_only_root_is_read_only(engine: Kistd) -> None:
    result = engine.docker("run", "--rm", "--read-only", "--tmpfs", "/scratch", "busybox", "sh", "-c",
                           "touch /scratch/a && touch /b")  # fmt: skip
    assert result.status == 1
    assert "Read-only file system" in result.errors


def test_bind_mounts_and_tmpfs(engine: Kistd, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("here")
    assert run(engine, "-v", f"{source}:/data", "busybox", "cat", "/data/file") == "here"
    run(engine, "--mount", f"type=bind,src={source},dst=/data", "busybox", "sh", "-c", "echo new > /data/file")
    assert (source / "file").read_text() == "new\n"
    refused = engine.docker("run", "--rm", "-v", f"{source}:/data:ro", "busybox", "touch", "/data/x")
    assert "Read-only file system" in refused.errors
    out = run(engine, "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m", "busybox", "grep", " /t ", "/proc/mounts")
    assert "size=1024k" in out


def test_a_named_volume_keeps_its_data_and_is_filled_from_the_image(engine: Kistd) -> None:
    try:
        run(engine, "-v", "keep:/etc", "busybox", "sh", "-c", "test -e /etc/passwd && echo x > /etc/kept")
        assert run(engine, "-v", "keep:/data", "busybox", "cat", "/data/kept").strip() == "x"
        assert "root" in run(engine, "-v", "keep:/data", "busybox", "cat", "/data/passwd")
    finally:
        engine.ok("volume", "rm", "keep")
