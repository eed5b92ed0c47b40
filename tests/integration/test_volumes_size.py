"""Volumes of a limited size: in a file with a file system of its own, or by project quotas where there are any."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Kistd, _end_engine, _make_engine
from tests.integration.test_volumes_options import data, wait_unmounted

from kist.kernel import mountinfo


def loops() -> set[str]:
    """Files that loop devices show."""
    found = set()
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it goes
            found.add(path.read_text().strip())
    return found


def of_engine(engine: Kistd) -> set[str]:
    return {one for one in loops() if one.startswith(engine.base)}


@pytest.fixture
def made(engine: Kistd) -> Iterator[Kistd]:
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("this kernel has no loop devices")
    yield engine
    engine.remove_all()
    for name in engine.ok("volume", "ls", "-q").split():
        engine.ok("volume", "rm", name)
    wait_no_loops(engine)


def wait_no_loops(engine: Kistd) -> None:
    deadline = time.monotonic() + 5
    while of_engine(engine):
        assert time.monotonic() < deadline, of_engine(engine)
        time.sleep(0.02)


FILL = "dd if=/dev/zero of=/x/big bs=1M count=40"


def test_a_volume_holds_no_more_than_its_size(made: Kistd) -> None:
    made.ok("volume", "create", "--opt", "size=32m", "vol")
    assert made.ok("volume", "inspect", "vol", "-f", "{{json .Options}}") == '{"size":"32m"}\n'
    image = Path(data(made, "vol")).parent / "image"
    assert image.stat().st_size == 32 << 20
    assert image.stat().st_blocks * 512 < 1 << 20, "it takes what is in it"
    result = made.docker("run", "--rm", "-v", "vol:/x", "busybox", "sh", "-c", FILL)
    assert (result.status, "No space left on device" in result.errors) == (1, True)
    assert made.ok("run", "--rm", "-v", "vol:/x", "busybox", "ls", "-A", "/x") == "big\n"
    wait_unmounted(made, "vol")
    wait_no_loops(made)
    fsck = shutil.which("e2fsck", path="/usr/sbin:/sbin")
    if fsck:
        checked = subprocess.run([fsck, "-fn", str(image)], capture_output=True, check=False)
        assert checked.returncode == 0, checked.stdout
    assert image.stat().st_blocks * 512 > 25 << 20
    made.ok("run", "--rm", "-v", "vol:/x", "busybox", "sh", "-c", "rm /x/big; sync")
    wait_no_loops(made)
    assert image.stat().st_blocks * 512 < 2 << 20, "what was removed takes no place"
    made.ok("volume", "rm", "vol")
    assert not image.parent.exists()


def test_its_content_outlives_its_users(made: Kistd) -> None:
    run = ("run", "--rm", "-v", "vol:/x", "busybox", "sh", "-c")
    made.ok("volume", "create", "--opt", "size=8m", "vol")
    made.ok(*run, "echo kept > /x/file")
    assert made.ok(*run, "cat /x/file") == "kept\n"


def test_several_at_once(made: Kistd) -> None:
    for number in range(4):
        made.ok("volume", "create", "--opt", "size=8m", f"vol{number}")
        made.ok("run", "-d", "-v", f"vol{number}:/x", "busybox", "sleep", "1000")
    assert len(of_engine(made)) == 4


@pytest.mark.parametrize("size", ["1k", "100000T"])
def test_sizes_that_cannot_be(made: Kistd, size: str) -> None:
    status, answer = made.request("POST", "/volumes/create", {"Name": "vol", "DriverOpts": {"size": size}})
    assert (status, answer["message"].startswith("create vol: invalid size: ")) == (400, True), answer
    assert not os.path.exists(f"{made.base}/d/volumes/vol")


def test_no_crash_leaves_a_loop_device(own_engine: Kistd) -> None:
    own_engine.ok("volume", "create", "--opt", "size=8m", "vol")
    own_engine.ok("run", "-d", "--name", "box", "-v", "vol:/x", "busybox", "sleep", "1000")
    pid = int(own_engine.ok("inspect", "box", "-f", "{{.State.Pid}}"))
    own_engine.kill()
    os.kill(pid, 9)
    own_engine.start()
    wait_no_loops(own_engine)
    own_engine.ok("rm", "box")
    for step in range(6):

        def work(step: int = step) -> None:
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                body = {"Name": f"v{step}", "DriverOpts": {"size": "64m"}}
                own_engine.request("POST", "/volumes/create", body)
                asked = {"Image": "busybox", "Cmd": ["sleep", "99"], "HostConfig": {"Binds": [f"v{step}:/x"]}}
                own_engine.request("POST", f"/containers/create?name=box{step}", asked)
                own_engine.request("POST", f"/containers/box{step}/start")

        worker = threading.Thread(target=work)
        worker.start()
        time.sleep(0.01 + 0.01 * step)
        own_engine.kill()
        worker.join()
        own_engine.start()
        own_engine.remove_all()
        wait_no_loops(own_engine)
        own_engine.docker("volume", "rm", f"v{step}")
    own_engine.ok("volume", "rm", "vol")
    assert own_engine.ok("volume", "ls", "-q") == ""
    assert os.listdir(f"{own_engine.base}/d/volumes") == []


# --- project quotas ---


@pytest.fixture
def with_quota(busybox_archive: Path) -> Iterator[tuple[Kistd, str]]:
    """An engine whose volumes are on an ext4 with project quotas."""
    mkfs = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin")
    if os.geteuid() != 0 or mkfs is None or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root, mkfs.ext4 and loop devices")
    base = tempfile.mkdtemp(prefix="kq", dir="/tmp")
    image, place = f"{base}/image", f"{base}/mounted"
    os.mkdir(place)
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    subprocess.run([mkfs, "-q", "-O", "quota,project", "-E", "quotatype=prjquota", image], check=True)
    mounted = subprocess.run(["mount", "-o", "loop,prjquota", image, place], capture_output=True, check=False)
    if mounted.returncode:
        shutil.rmtree(base)
        pytest.skip(f"this kernel has no project quotas: {mounted.stderr.decode()}")
    engine = _make_engine(busybox_archive)
    engine.stop()
    shutil.rmtree(f"{engine.base}/d/volumes")
    os.mkdir(f"{place}/volumes")
    os.mkdir(f"{engine.base}/d/volumes")
    subprocess.run(["mount", "--bind", f"{place}/volumes", f"{engine.base}/d/volumes"], check=True)
    engine.start()
    try:
        yield engine, place
    finally:
        engine.remove_all()
        engine.stop()
        subprocess.run(["umount", f"{engine.base}/d/volumes"], check=True)
        _end_engine(engine)
        subprocess.run(["umount", place], check=True)
        shutil.rmtree(base)


def test_a_project_quota_limits_it_where_there_is_one(with_quota: tuple[Kistd, str]) -> None:
    engine, place = with_quota
    engine.ok("volume", "create", "--opt", "size=16m", "vol")
    assert os.listdir(f"{place}/volumes/vol") == ["_data"]
    result = engine.docker("run", "--rm", "-v", "vol:/x", "busybox", "sh", "-c", f"mkdir /x/sub; {FILL}")
    assert (result.status, "quota exceeded" in result.errors.lower() or "No space" in result.errors) == (1, True)
    used = sum(one.stat().st_blocks * 512 for one in Path(f"{place}/volumes/vol").rglob("*"))
    assert 15 << 20 < used <= 17 << 20
    engine.ok("volume", "create", "--opt", "size=16m", "other")
    engine.ok("run", "--rm", "-v", "other:/x", "busybox", "dd", "if=/dev/zero", "of=/x/f", "bs=1M", "count=10")
    engine.ok("volume", "rm", "vol", "other")
    reported = shutil.which("repquota", path="/usr/sbin:/sbin")
    if reported:
        listed = subprocess.run([reported, "-P", "-n", place], capture_output=True, text=True, check=False).stdout
        assert [line for line in listed.splitlines() if line.startswith("#") and not line.startswith("#0 ")] == []
    assert not mountinfo.below(f"{place}/volumes")
