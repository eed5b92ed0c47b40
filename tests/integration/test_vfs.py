"""The driver that copies: a create takes as long as the image is large, and nobody else waits for it."""

from __future__ import annotations

import io
import os
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Kistd, _end_engine, _make_engine, assert_no_leak, footprint

FILES = 4_000


@pytest.fixture
def engine(busybox_archive: Path) -> Iterator[Kistd]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    engine = _make_engine(busybox_archive, "--storage-driver", "vfs")
    before = footprint(engine)
    yield engine
    engine.remove_all()
    assert_no_leak(engine, before)
    _end_engine(engine)


def many_files() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for number in range(FILES):
            info = tarfile.TarInfo(f"d{number // 100}/f{number}")
            info.size = 2
            archive.addfile(info, io.BytesIO(b"x\n"))
    return out.getvalue()


def test_kistd_answers_while_an_image_is_copied(engine: Kistd) -> None:
    headers = {"Content-Type": "application/x-tar"}
    status, answer = engine.request("POST", "/images/create?fromSrc=-&repo=large&tag=1", many_files(), headers)
    assert status == 200, answer
    made: list[tuple[int, float]] = []

    def create() -> None:
        begin = time.monotonic()
        made.append((engine.request("POST", "/containers/create?name=large", {"Image": "large:1", "Cmd": ["x"]})[0],
                     time.monotonic() - begin))  # fmt: skip

    thread = threading.Thread(target=create)
    thread.start()
    pings = []
    while thread.is_alive():
        begin = time.monotonic()
        assert engine.request("GET", "/_ping")[0] == 200
        pings.append(time.monotonic() - begin)
    thread.join()
    assert made[0][0] == 201
    assert max(pings) < made[0][1] / 3, f"a ping of {max(pings):.2f} s within a create of {made[0][1]:.2f} s"
    path = engine.ok("inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", "large").strip()
    assert sum(len(names) for _, _, names in os.walk(path)) >= FILES
    assert engine.ok("run", "--rm", "busybox", "echo", "still", "works") == "still works\n"


def test_a_create_that_is_killed_leaves_no_copy(engine: Kistd) -> None:
    headers = {"Content-Type": "application/x-tar"}
    assert engine.request("POST", "/images/create?fromSrc=-&repo=large&tag=1", many_files(), headers)[0] == 200
    snapshots = f"{engine.base}/d/vfs"
    before = set(os.listdir(snapshots))

    def create() -> None:
        with pytest.raises(OSError):
            engine.request("POST", "/containers/create?name=large", {"Image": "large:1", "Cmd": ["x"]})

    thread = threading.Thread(target=create)
    thread.start()
    deadline = time.monotonic() + 10
    while set(os.listdir(snapshots)) == before:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    engine.kill()
    thread.join()
    engine.start()
    assert set(os.listdir(snapshots)) == before
    assert engine.request("GET", "/containers/large/json")[0] == 404
