"""What containers have done to break out of other engines, done to this one. Each test fails where the hole is open."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd

from kist.kernel import cgroup


def create(engine: Kistd, name: str, words: list[str], host: dict[str, Any], **config: Any) -> tuple[int, Any]:
    body = {"Image": "busybox", "Cmd": words, "HostConfig": host, **config}
    return engine.request("POST", f"/containers/create?name={name}", body)


def volume_mount(volume: str, target: str, subpath: str) -> dict[str, Any]:
    return {"Type": "volume", "Source": volume, "Target": target, "VolumeOptions": {"Subpath": subpath}}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A directory of the host that no container was given."""
    (tmp_path / "secret").write_text("the host's")
    return tmp_path


def test_a_subpath_that_became_a_link_leads_nowhere(engine: Kistd, secret: Path) -> None:
    engine.ok("run", "--rm", "-v", "shared:/v", "busybox", "mkdir", "/v/sub")
    status, told = create(engine, "victim", ["ls", "/m"], {"Mounts": [volume_mount("shared", "/m", "sub")]})
    assert status == 201, told
    engine.ok("run", "--rm", "-v", "shared:/v", "busybox", "sh", "-c", f"rmdir /v/sub && ln -s {secret} /v/sub")
    result = engine.docker("start", "-a", "victim")
    assert "secret" not in result.text
    assert result.status != 0, "there is no such directory in the volume"
    engine.ok(
        "run", "--rm", "-v", "shared:/v", "busybox", "sh", "-c", "rm /v/sub && mkdir /v/real && ln -s real /v/sub"
    )
    engine.ok("run", "--rm", "-v", "shared:/v", "busybox", "touch", "/v/real/mine")
    assert engine.ok("start", "-a", "victim") == "mine\n", "a link within the volume is followed"
    engine.ok("rm", "victim")
    engine.ok("volume", "rm", "shared")


def test_a_terminal_is_never_one_of_the_hosts(engine: Kistd, tmp_path: Path) -> None:
    """A volume at /dev whose `pts` is a link, absolute as seen from the host (CVE-2025-52565)."""
    (tmp_path / "pts").symlink_to("/dev/pts")
    before = set(os.listdir("/dev/pts"))
    result = engine.docker("run", "--rm", "-t", "-v", f"{tmp_path}:/dev", "busybox", "sh", "-c", "sleep 1; echo in")
    assert result.status != 0
    assert "dev/pts/ptmx: too many levels of symbolic links" in result.errors
    assert set(os.listdir("/dev/pts")) == before


def test_masks_are_a_null_device_and_nothing_else(engine: Kistd, tmp_path: Path) -> None:
    """A volume at /dev whose `null` is a link, or a file, in place of the device (CVE-2025-31133)."""
    for make in (lambda: (tmp_path / "null").symlink_to("/proc/version"), lambda: (tmp_path / "null").write_text("x")):
        make()
        result = engine.docker("run", "--rm", "-v", f"{tmp_path}:/dev", "busybox", "cat", "/proc/interrupts")
        assert result.status in (125, 126, 127), result.errors
        assert "mask /proc/" in result.errors and result.text == ""
        (tmp_path / "null").unlink()


def test_what_is_done_to_a_mask_is_not_done_to_the_host(engine: Kistd) -> None:
    before = os.stat("/dev/null")
    engine.docker("run", "--rm", "busybox", "sh", "-c", "chmod 600 /proc/interrupts /proc/keys; chown 7 /proc/keys")
    after = os.stat("/dev/null")
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)


@pytest.mark.parametrize(
    "key",
    ["net/../kernel/printk_delay", "net.ipv4/../../kernel/printk_delay", "net//x", "net/./x", "net.ipv4.\nx"],
)
def test_a_sysctl_stays_where_its_name_says(engine: Kistd, key: str) -> None:
    before = Path("/proc/sys/kernel/printk_delay").read_text()
    status, told = create(engine, "climber", ["true"], {"Sysctls": {key: "1"}})
    if status == 201:
        status, told = engine.request("POST", "/containers/climber/start")
        engine.docker("rm", "-f", "climber")
    assert status == 400, told
    assert Path("/proc/sys/kernel/printk_delay").read_text() == before


SPY = r"""
while :; do
    for one in /proc/[0-9]*; do
        [ "$one" = /proc/1 ] && continue
        [ "$one" = "/proc/$$" ] && continue
        for name in "$one"/fd/*; do
            case "$(readlink "$name" 2>/dev/null)" in
                ''|/dev/*|pipe:*|"$one"/fd) ;;
                *) echo "$name $(readlink "$name")" ;;
            esac
        done
    done
done
"""


def test_an_exec_shows_no_descriptor_of_the_engines(engine: Kistd) -> None:
    """Before its execve it has the monitor's (CVE-2016-9962). Without a filter no held capability protects it."""
    options = ("--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges")
    engine.ok("run", "-d", "--name", "spy", *options, "busybox", "sh", "-c", SPY)
    for _ in range(25):
        engine.ok("exec", "spy", "true")
    seen = [line for line in engine.ok("logs", "spy").splitlines() if "-json.log" in line or "socket:" in line
            or "memfd" in line or "eventpoll" in line or "pidfd" in line]  # fmt: skip
    engine.ok("rm", "-f", "spy")
    assert seen == []


def test_a_number_is_an_id_whatever_the_image_calls_its_users(engine: Kistd, tmp_path: Path) -> None:
    """CVE-2016-3697."""
    (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\n1000:x:0:0::/:/bin/sh\n")
    (tmp_path / "group").write_text("root:x:0:\n2000:x:0:\n")
    mounts = ("-v", f"{tmp_path}/passwd:/etc/passwd", "-v", f"{tmp_path}/group:/etc/group")
    assert engine.ok("run", "--rm", *mounts, "--user", "1000:2000", "busybox", "id", "-u").strip() == "1000"
    assert engine.ok("run", "--rm", *mounts, "--user", "1000:2000", "busybox", "id", "-g").strip() == "2000"


def test_groups_above_a_containers_are_nobody_elses_to_use(engine: Kistd) -> None:
    parent = "kist-escape-test/one"
    engine.ok("run", "-d", "--name", "deep", "--cgroup-parent", parent, "busybox", "sleep", "1000")
    layout = cgroup.detect()
    try:
        for directory in (*layout.directories(parent), *layout.directories("kist-escape-test")):
            assert stat.S_IMODE(os.stat(directory).st_mode) == 0o755, directory
    finally:
        engine.ok("rm", "-f", "deep")
        for _ in range(100):
            if cgroup.remove(layout, "kist-escape-test"):
                break
            time.sleep(0.02)


def test_files_have_the_modes_that_were_asked_for(engine: Kistd, tmp_path: Path) -> None:
    """Init works without a umask; what it makes on the way to a mount, and what the program makes, must not show it."""
    words = ["sh", "-c", "umask; touch /x; mkdir /y; stat -c %a /x /y /deep /deep/er /dev /dev/null /work"]
    told = engine.ok("run", "--rm", "-v", f"{tmp_path}:/deep/er/here", "-w", "/work", "busybox", *words)
    assert told.split() == ["0022", "644", "755", "755", "755", "755", "666", "755"]
