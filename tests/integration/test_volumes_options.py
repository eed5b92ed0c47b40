"""Volumes of the local driver with options: mounted for their users, with Docker's words when that fails."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd

from kist.kernel import const, mount, mountinfo

TMPFS = ("-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=700")


def data(engine: Kistd, name: str) -> str:
    return f"{engine.base}/d/volumes/{name}/_data"


def is_mounted(engine: Kistd, name: str) -> bool:
    return mountinfo.count(data(engine, name)) > 0


def wait_unmounted(engine: Kistd, name: str) -> None:
    """The volume is unmounted a moment after its user's end."""
    deadline = time.monotonic() + 5
    while is_mounted(engine, name):
        assert time.monotonic() < deadline, f"{name} stays mounted"
        time.sleep(0.01)


@pytest.fixture
def made(engine: Kistd) -> Iterator[Kistd]:
    """An engine whose volumes go with the test."""
    yield engine
    engine.remove_all()
    for name in engine.ok("volume", "ls", "-q").split():
        engine.ok("volume", "rm", name)
    assert not mountinfo.below(f"{engine.base}/d/volumes")


REFUSED = {
    ("foo=bar",): 'invalid option: "foo"',
    ("type=tmpfs",): 'missing required option: "device"',
    ("o=x",): 'missing required option: "device"',
    ("device=x",): 'missing required option: "type"',
    ("size=abc",): "invalid size: 'abc'",
    ("size=-1",): "invalid size: '-1'",
    ("size=1m", "type=tmpfs", "device=tmpfs"): "quota size requested but no quota support",
    ("type=cifs", "device=//host:44/x"): "port not allowed in CIFS device URL, include 'port' in 'o='",
}


@pytest.mark.parametrize("options", REFUSED, ids="+".join)
def test_bad_options_are_refused_in_dockers_words(engine: Kistd, options: tuple[str, ...]) -> None:
    body = {"Name": "bad", "DriverOpts": dict(one.split("=", 1) for one in options)}
    assert engine.request("POST", "/volumes/create", body) == (400, {"message": f"create bad: {REFUSED[options]}"})
    assert not os.path.exists(data(engine, "bad"))


def test_a_tmpfs_lives_as_long_as_somebody_uses_it(made: Kistd) -> None:
    made.ok("volume", "create", *TMPFS, "vol")
    assert not is_mounted(made, "vol")
    made.ok("run", "-d", "--name", "one", "-v", "vol:/x", "busybox", "sleep", "1000")
    made.ok("run", "-d", "--name", "two", "-v", "vol:/x", "busybox", "sleep", "1000")
    assert mountinfo.count(data(made, "vol")) == 1
    made.ok("exec", "one", "sh", "-c", "echo kept > /x/file")
    made.ok("rm", "-f", "one")
    assert made.ok("exec", "two", "cat", "/x/file") == "kept\n"
    assert "size=1024k" in made.ok("exec", "two", "grep", " /x ", "/proc/mounts")
    made.ok("kill", "two")
    made.ok("wait", "two")
    wait_unmounted(made, "vol")
    made.ok("start", "two")
    assert made.ok("exec", "two", "ls", "/x") == ""


def test_a_restart_keeps_count(made: Kistd) -> None:
    made.ok("volume", "create", *TMPFS, "vol")
    made.ok("run", "-d", "--name", "box", "-v", "vol:/x", "--stop-timeout", "0", "busybox", "sleep", "1000")
    for _ in range(5):
        made.ok("restart", "box")
        assert made.ok("exec", "box", "stat", "-f", "-c", "%T", "/x") == "tmpfs\n"
        assert mountinfo.count(data(made, "vol")) == 1
    made.ok("rm", "-f", "box")
    made.ok("volume", "rm", "vol")  # without a wait in between


def test_a_bind_shows_the_directory_and_its_removal_leaves_that_alone(made: Kistd, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    made.ok("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}", "vol")
    assert made.ok("run", "--rm", "-v", "vol:/x", "busybox", "cat", "/x/file") == "mine"
    made.ok("run", "--rm", "-v", "vol:/x", "busybox", "touch", "/x/new")
    made.ok("volume", "rm", "vol")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "new"]


def test_a_read_only_bind(made: Kistd, tmp_path: Path) -> None:
    made.ok("volume", "create", "-o", "type=none", "-o", "o=bind,ro", "-o", f"device={tmp_path}", "vol")
    result = made.docker("run", "--rm", "-v", "vol:/x", "busybox", "touch", "/x/new")
    assert "Read-only file system" in result.errors


def test_a_mount_that_fails_is_told_as_docker_does(made: Kistd) -> None:
    made.ok("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/nosuch", "vol")
    made.ok("create", "--name", "box", "-v", "vol:/x", "busybox", "true")
    where = data(made, "vol")
    text = (
        f"error while mounting volume '{where}': failed to mount local volume: mount /nosuch:{where}, flags: 0x1000: "
        f"no such file or directory"
    )
    assert made.request("POST", "/containers/box/start") == (500, {"message": text})
    state = json.loads(made.ok("inspect", "box", "-f", "{{json .State}}"))
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 128, text)
    status, answer = made.request(
        "POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Binds": ["vol:/etc"]}}
    )
    assert (status, answer) == (500, {"message": f"failed to populate volume: {text}"})


FAILURES = {
    "tmpfs|tmpfs|nosuch=1,ro,noexec": "mount tmpfs:{W}, flags: 0x9, data: nosuch=1: invalid argument",
    "tmpfs|tmpfs|defaults": "mount tmpfs:{W}, data: defaults: invalid argument",
    "nosuchfs|:/x|rw": "mount :/x:{W}: no such device",
    "nosuchfs|//h/x|password=secret,user=me": ("mount //h/x:{W}, data: password=********,user=me: no such device"),
}


@pytest.mark.parametrize("what", FAILURES)
def test_the_words_of_failed_mounts(made: Kistd, what: str) -> None:
    kind, device, words = what.split("|")
    options = {"type": kind, "device": device, "o": words}
    assert made.request("POST", "/volumes/create", {"Name": "vol", "DriverOpts": options})[0] == 201
    made.ok("create", "--name", "box", "-v", "vol:/x", "busybox", "true")
    where = data(made, "vol")
    expected = FAILURES[what].replace("{W}", where)
    _, answer = made.request("POST", "/containers/box/start")
    assert answer["message"] == f"error while mounting volume '{where}': failed to mount local volume: {expected}"


def test_an_address_that_has_no_name(made: Kistd) -> None:
    made.ok("volume", "create", "-o", "type=nfs", "-o", "o=addr=nosuch.invalid,rw", "-o", "device=:/x", "vol")
    result = made.docker("run", "--rm", "-v", "vol:/x", "busybox", "true")
    assert "error resolving passed in network volume address: lookup nosuch.invalid" in result.errors


def test_a_type_without_a_device(made: Kistd) -> None:
    made.ok("volume", "create", "-o", "type=tmpfs", "-o", "device=", "vol")
    result = made.docker("run", "--rm", "-v", "vol:/x", "busybox", "true")
    assert "missing device in volume options" in result.errors


def test_options_of_mount_make_the_volume(made: Kistd) -> None:
    spec = "type=volume,source=vol,target=/x,volume-label=a=b,volume-opt=type=tmpfs,volume-opt=device=tmpfs"
    assert made.ok("run", "--rm", "--mount", spec, "busybox", "stat", "-f", "-c", "%T", "/x") == "tmpfs\n"
    (found,) = json.loads(made.ok("volume", "inspect", "vol"))
    assert found["Options"] == {"type": "tmpfs", "device": "tmpfs"}
    assert found["Labels"] == {"a": "b"}
    assert (found["Scope"], found["Mountpoint"]) == ("local", data(made, "vol"))


def test_an_anonymous_volume_with_options_goes_with_its_container(made: Kistd) -> None:
    spec = "type=volume,target=/x,volume-opt=type=tmpfs,volume-opt=device=tmpfs"
    made.ok("run", "--rm", "--mount", spec, "busybox", "true")
    assert made.ok("volume", "ls", "-q") == ""


def test_what_the_image_has_is_copied_into_the_mounted_volume(made: Kistd, tmp_path: Path) -> None:
    made.ok("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}", "vol")
    made.ok("create", "--name", "box", "-v", "vol:/etc", "busybox", "true")
    assert (tmp_path / "passwd").exists()
    assert not is_mounted(made, "vol")


def test_cp_sees_the_volume_of_a_container_at_rest(made: Kistd, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the volume")
    made.ok("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}", "vol")
    made.ok("create", "--name", "box", "-v", "vol:/x", "busybox", "true")
    assert b"in the volume" in made.docker("cp", "box:/x/file", "-").out
    made.ok("cp", "/etc/hostname", "box:/x/hostname")
    assert (tmp_path / "hostname").exists()
    wait_unmounted(made, "vol")


def test_a_part_of_a_mounted_volume(made: Kistd, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("part")
    made.ok("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}", "vol")
    spec = "type=volume,source=vol,target=/x,volume-subpath=sub"
    assert made.ok("run", "--rm", "--mount", spec, "busybox", "cat", "/x/file") == "part"


def test_a_volume_in_use_is_not_removed_and_never_pruned(made: Kistd) -> None:
    made.ok("volume", "create", *TMPFS, "vol")
    made.ok("run", "-d", "--name", "box", "-v", "vol:/x", "busybox", "sleep", "1000")
    _, answer = made.request("DELETE", "/volumes/vol")
    identity = made.ok("inspect", "box", "-f", "{{.Id}}").strip()
    assert answer == {"message": f"remove vol: volume is in use - [{identity}]"}
    made.ok("rm", "-f", "box")
    assert made.ok("volume", "prune", "-af") == "Total reclaimed space: 0B\n"
    _, usage = made.request("GET", "/system/df")
    assert usage["Volumes"] == []
    assert made.ok("volume", "ls", "-q") == "vol\n"


def test_a_volume_with_another_driver_is_a_conflict(made: Kistd) -> None:
    made.ok("volume", "create", "vol")
    body: dict[str, Any] = {"Name": "vol", "Driver": "nosuch"}
    text = 'create vol: error looking up volume plugin nosuch: plugin "nosuch" not found'
    assert made.request("POST", "/volumes/create", body) == (404, {"message": text})
    # with other options it is simply the volume that is there, as dockerd has it
    assert made.request("POST", "/volumes/create", {"Name": "vol", "DriverOpts": {"size": "1m"}})[1]["Options"] is None


def test_the_mounts_of_a_recursive_bind_stay_in_their_place(made: Kistd, tmp_path: Path) -> None:
    """An unmount must not spread to the shared mounts of the source."""
    made_at = tmp_path / "top"
    made_at.mkdir()
    mount.mount("t", str(made_at), "tmpfs")
    mount.mount(None, str(made_at), None, const.MS_SHARED)
    (made_at / "sub").mkdir()
    mount.mount("t", str(made_at / "sub"), "tmpfs")
    try:
        made.ok("volume", "create", "-o", "type=none", "-o", "o=rbind", "-o", f"device={made_at}", "vol")
        made.ok("run", "--rm", "-v", "vol:/x", "busybox", "stat", "/x/sub")
        wait_unmounted(made, "vol")
        assert mountinfo.count(str(made_at / "sub")) == 1
    finally:
        for path in (made_at / "sub", made_at):
            if mountinfo.count(str(path)):
                mount.umount2(str(path))


# --- kistd killed ---


def test_after_a_crash_running_containers_keep_their_volumes_and_others_are_unmounted(own_engine: Kistd) -> None:
    for name in ("used", "left"):
        own_engine.ok("volume", "create", *TMPFS, name)
        own_engine.ok("run", "-d", "--name", name, "-v", f"{name}:/x", "busybox", "sleep", "1000")
    own_engine.ok("exec", "used", "touch", "/x/file")
    pid = int(own_engine.ok("inspect", "left", "-f", "{{.State.Pid}}"))
    own_engine.kill()
    os.kill(pid, 9)
    own_engine.start()
    wait_unmounted(own_engine, "left")
    assert mountinfo.count(data(own_engine, "used")) == 1
    assert own_engine.ok("exec", "used", "ls", "/x") == "file\n"
    own_engine.ok("rm", "-f", "used", "left")
    own_engine.ok("volume", "rm", "used", "left")
    assert not mountinfo.below(f"{own_engine.base}/d/volumes")


def test_a_crash_at_any_moment_of_a_start_leaves_no_mount(own_engine: Kistd) -> None:
    own_engine.ok("volume", "create", *TMPFS, "vol")
    own_engine.ok("create", "--name", "box", "-v", "vol:/x", "busybox", "sleep", "1000")
    for step in range(8):
        starter = os.fork()
        if starter == 0:
            try:
                own_engine.request("POST", "/containers/box/start")
            finally:
                os._exit(0)
        time.sleep(0.004 * step)
        own_engine.kill()
        os.waitpid(starter, 0)
        own_engine.start()
        running = own_engine.ok("inspect", "box", "-f", "{{.State.Running}}").strip() == "true"
        if not running:
            wait_unmounted(own_engine, "vol")
        assert mountinfo.count(data(own_engine, "vol")) == int(running)
        own_engine.docker("kill", "box")
        own_engine.ok("wait", "box")
        wait_unmounted(own_engine, "vol")
    own_engine.ok("rm", "box")
    own_engine.ok("volume", "rm", "vol")


def test_a_volume_that_the_engine_named_has_dockers_label(made: Kistd) -> None:
    name = made.request("POST", "/volumes/create", {"Labels": {"a": "b"}})[1]["Name"]
    made.ok("volume", "create", "named")
    made.ok("create", "--name", "box", "-v", "/x", "busybox")
    listed = made.ok("volume", "ls", "-q", "--filter", "label=com.docker.volume.anonymous").split()
    assert len(listed) == 2
    assert made.request("GET", f"/volumes/{name}")[1]["Labels"] == {"a": "b", "com.docker.volume.anonymous": ""}
    assert made.ok("volume", "prune", "-f").splitlines()[1] == name


def test_many_users_that_come_and_go_at_once(made: Kistd) -> None:
    """Every life sees the volume mounted, whoever ends meanwhile; in the end it is not."""
    made.ok("volume", "create", *TMPFS, "vol")
    wrong: list[str] = []

    def work(number: int) -> None:
        for life in range(6):
            name = f"user{number}-{life}"
            asked = {
                "Image": "busybox",
                "Cmd": ["sh", "-c", "[ $(stat -f -c %T /x) = tmpfs ] && sleep 0.0$(($$ % 9))"],
                "HostConfig": {"Binds": ["vol:/x"], "NetworkMode": "none"},
            }
            answers = [
                made.request("POST", f"/containers/create?name={name}", asked),
                made.request("POST", f"/containers/{name}/start"),
                made.request("POST", f"/containers/{name}/wait"),
                made.request("DELETE", f"/containers/{name}?force=1"),
            ]
            if answers[2][1].get("StatusCode") != 0:
                wrong.append(f"{name}: {answers}")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong, "\n".join(wrong)
    wait_unmounted(made, "vol")
    made.ok("volume", "rm", "vol")


def test_removals_beside_creates(made: Kistd) -> None:
    """A container that was made has its volume, however often somebody removes that."""
    stopping = threading.Event()

    def remove() -> None:
        while not stopping.is_set():
            made.request("DELETE", "/volumes/vol")

    remover = threading.Thread(target=remove)
    remover.start()
    spec = {"Type": "volume", "Source": "vol", "Target": "/x"}
    spec["VolumeOptions"] = {"DriverConfig": {"Options": {"type": "tmpfs", "device": "tmpfs"}}}  # type: ignore[assignment]
    asked = {"Image": "busybox", "Cmd": ["stat", "/x"], "HostConfig": {"Mounts": [spec], "NetworkMode": "none"}}
    try:
        for number in range(15):
            assert made.request("POST", f"/containers/create?name=box{number}", asked)[0] == 201
            assert made.request("POST", f"/containers/box{number}/start")[0] == 204
            assert made.request("POST", f"/containers/box{number}/wait")[1]["StatusCode"] == 0
            assert made.request("DELETE", f"/containers/box{number}")[0] == 204
    finally:
        stopping.set()
        remover.join()
