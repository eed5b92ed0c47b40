"""What criu is told: what comes from outside, what is dropped, and how its files are read."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runtime.test_plan import V2, request, spec_of

from kist.kernel import const
from kist.model.config import HostConfig
from kist.model.container import MountPoint
from kist.model.errors import KistError
from kist.model.network import Link
from kist.monitor import dump
from kist.monitor.operations import decode
from kist.runtime import criu
from kist.runtime.launch import LaunchRequest

VOLUME = MountPoint("volume", "/data", "/volumes/one/_data", "one", rw=False)
LINK = Link("veth1", 3, "eth0", "02:42:ac:11:00:02", 1500, ("172.17.0.2/16",), "172.17.0.1")
STREAMS: dict[str, tuple[str, int]] = {"stdin": ("file[16:4]", -1), "stdout": ("pipe:[7]", 1000)}


def asked(host: HostConfig | None = None) -> LaunchRequest:
    return msgspec.structs.replace(request(spec_of(host, None, VOLUME)), links=(LINK,))


def restore(one: LaunchRequest, address: str) -> tuple[dict[str, object], list[object]]:
    mounts = {place.name: place.target for place in criu.mounts_from_outside(one, V2)}
    facts = criu.Facts(criu.VERSION, "a" * 64, address, mounts, STREAMS)
    start = criu.Restore("/sbin/criu", "/images", "/log", facts).plan(one, V2)
    return start.message["config"], list(decode(json.loads(start.plan)))


def test_binds_and_the_groups_mount_come_from_outside_and_nothing_else() -> None:
    found = {one.target: (one.source, one.read_only) for one in criu.mounts_from_outside(asked(), V2)}
    assert found == {"/sys/fs/cgroup": ("", True), "/data": ("/volumes/one/_data", True), "/etc/hosts": ("/h", False)}


def test_a_restore_does_what_a_start_does_around_the_images() -> None:
    host = HostConfig(network_mode="bridge", sysctls={"net.core.somaxconn": "9", "kernel.sem": "1"})
    config, steps = restore(msgspec.structs.replace(asked(host), dns=True), "172.17.0.2")
    assert config["clone_flags"] == const.CLONE_NEWNS | const.CLONE_NEWNET
    kinds = [type(one).__name__ for one in steps]
    for kind in (
        "MakeCgroup",
        "MakeVeth",
        "JoinCgroup",
        "Unshare",
        "ConfigureLink",
        "OpenNameserver",
        "ParentDeathSignal",
    ):
        assert kinds.count(kind) == 1, kind
    for kind in ("PivotRoot", "MakeDevice", "MaskPath", "ReadonlyPath", "SetHostname", "BecomeUser", "Execute"):
        assert kind not in kinds, kind
    sysctls = {one.key for one in steps if type(one).__name__ == "SetSysctl"}  # type: ignore[attr-defined]
    assert "net.core.somaxconn" in sysctls and "kernel.sem" not in sysctls
    assert (
        kinds.index("IsolateMounts") < kinds.index("MountStage") < kinds.index("BindInside") < kinds.index("MountRoot")
    )
    targets = [one.target for one in steps if type(one).__name__ in ("BindInside", "MountInside")]  # type: ignore[attr-defined]
    assert sorted(targets) == ["kist0", "kist1", "kist2"]
    become = steps[-1]
    assert type(become).__name__ == "BecomeCriu"
    assert become.streams == [["file[16:4]", -1], ["pipe:[7]", 1000], ["", -1]]  # type: ignore[attr-defined]
    words = become.arguments  # type: ignore[attr-defined]
    assert words[0] == "restore" and words[words.index("--root") + 1] == "/root/root"
    assert "mnt[kist1]:/root/kist1" in words and "--tcp-close" in words


def test_the_arguments_of_a_dump() -> None:
    words = criu.dump_arguments(7, 4026, {"kist0": "/run/x"}, leave_running=False)
    assert "net[4026]:kistNetwork" in words and "mnt[/run/x]:kist0" in words and "--leave-running" not in words
    assert not any("net[" in word for word in criu.dump_arguments(7, 0, {}, leave_running=True))
    assert "--leave-running" in criu.dump_arguments(7, 0, {}, leave_running=True)
    with pytest.raises(KistError, match="cannot be named"):
        criu.check_name("/a]b")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_mount_points_are_read_as_the_kernel_writes_them(name: str) -> None:
    written = name
    for letter, code in (("\\", "\\134"), (" ", "\\040"), ("\t", "\\011"), ("\n", "\\012")):
        written = written.replace(letter, code)
    text = f"36 35 98:0 /mnt1 /{written} ro,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
    assert criu.parse_mountinfo(text) == {36: criu.MountEntry(f"/{name}", True, "ext3")}


def test_the_first_error_of_a_log_is_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "(00.1) Warn  (criu/a.c:1): odd\n(00.2) Error (criu/b.c:22): Can't (really): x\n(0.3) Error (criu/c.c:3): no"
    )
    assert dump.reason(str(log)) == "Can't (really): x"
    log.write_text("fine\n")
    assert dump.reason(str(log)) == "it ended without an error in its log"
    assert "no log was written" in dump.reason(str(tmp_path / "none"))
    assert dump.partial_of("/a/b/one") == "/a/b/.one.partial"
