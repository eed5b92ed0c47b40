"""Volumes that several creates want at once, and their filling from the image."""

from __future__ import annotations

import io
import os
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd
from tests.integration.test_faults import stored

FILES = 3000


@pytest.fixture
def filled(engine: Kistd) -> Iterator[Kistd]:
    """An engine with an image `many` that has FILES files in each of /data and /other."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for directory in ("data", "other"):
            info = tarfile.TarInfo(directory)
            info.type, info.mode, info.uid = tarfile.DIRTYPE, 0o750, 33
            archive.addfile(info)
            for number in range(FILES):
                archive.addfile(tarfile.TarInfo(f"{directory}/{number}"))
    kind = {"Content-Type": "application/x-tar"}
    status, answer = engine.request("POST", "/images/create?fromSrc=-&repo=many", buffer.getvalue(), kind)
    assert status == 200, answer
    yield engine
    engine.remove_all()
    engine.ok("rmi", "many")


def mount(name: str, target: str, **options: Any) -> dict[str, Any]:
    return {"Type": "volume", "Source": name, "Target": target, "VolumeOptions": options}


class Create(threading.Thread):
    """One create beside others; its answer, and the files of a volume when it came."""

    def __init__(self, engine: Kistd, *mounts: dict[str, Any]) -> None:
        super().__init__()
        self.engine, self.mounts = engine, mounts
        self.status, self.answer, self.found = 0, None, -1

    def run(self) -> None:
        asked = {"Image": "many", "Cmd": ["/none"], "HostConfig": {"Mounts": list(self.mounts)}}
        self.status, self.answer = self.engine.request("POST", "/containers/create", asked)
        self.found = len(os.listdir(data(self.engine, "vol"))) if data(self.engine, "vol").exists() else -1


def data(engine: Kistd, name: str) -> Path:
    return Path(engine.base) / "d/volumes" / name / "_data"


def run(*creates: Create) -> None:
    for create in creates:
        create.start()
        time.sleep(0.02)  # in this order
    for create in creates:
        create.join()


FAILS = mount("x", "/x")  # a name that is too short


def test_a_volume_is_whole_for_everybody_who_takes_it(filled: Kistd) -> None:
    creates = [Create(filled, mount("vol", "/data")) for _ in range(3)]
    creates.append(Create(filled, mount("vol", "/data", NoCopy=True)))
    run(*creates)
    assert [(one.status, one.found) for one in creates] == [(201, FILES)] * 4
    status = data(filled, "vol").stat()
    assert (status.st_mode & 0o7777, status.st_uid) == (0o750, 33)
    filled.remove_all()
    filled.ok("volume", "rm", "vol")


def test_a_create_that_fails_leaves_its_volume_to_another_that_took_it_meanwhile(filled: Kistd) -> None:
    failing = Create(filled, mount("vol", "/data"), FAILS)
    other = Create(filled, mount("vol", "/data"), mount("second", "/other"))
    run(failing, other)
    assert (failing.status, other.status) == (400, 201), (failing.answer, other.answer)
    assert other.found == len(os.listdir(data(filled, "second"))) == FILES
    assert not list(data(filled, "vol").parent.glob("pending"))
    filled.remove_all()
    filled.ok("volume", "rm", "vol", "second")


def test_a_create_that_fails_tells_its_own_error_and_leaves_nothing(filled: Kistd) -> None:
    before = stored(filled)
    failing = Create(filled, mount("vol", "/data"), FAILS)
    other = Create(filled, mount("vol", "/data", NoCopy=True))
    run(failing, other)
    assert (failing.status, other.status) == (400, 201), (failing.answer, other.answer)
    assert "too short" in str(failing.answer)
    filled.remove_all()
    filled.ok("volume", "rm", "vol")
    assert stored(filled) == before


def test_two_creates_that_fail_leave_no_volume(filled: Kistd) -> None:
    before = stored(filled)
    one, two = (Create(filled, mount("vol", "/data"), FAILS) for _ in range(2))
    run(one, two)
    assert (one.status, two.status) == (400, 400), (one.answer, two.answer)
    assert stored(filled) == before


def test_a_volume_of_the_users_own_stays_when_a_create_fails(filled: Kistd) -> None:
    failing = Create(filled, mount("vol", "/data"), FAILS)
    failing.start()
    while failing.is_alive() and not data(filled, "vol").exists():
        time.sleep(0.001)
    assert filled.request("POST", "/volumes/create", {"Name": "vol"})[0] == 201
    assert filled.request("DELETE", "/volumes/vol")[0] == 409, "it is being filled"
    failing.join()
    assert (failing.status, failing.found) == (400, FILES)
    filled.ok("volume", "rm", "vol")


def test_an_empty_volume_that_a_container_has_is_filled_in_its_place(filled: Kistd) -> None:
    filled.ok("run", "-d", "--name", "has", "-v", "vol:/v", "busybox", "sleep", "1000")
    run(Create(filled, mount("vol", "/data")))
    assert filled.ok("exec", "has", "sh", "-c", "ls /v | wc -l").strip() == str(FILES)
    filled.remove_all()
    filled.ok("volume", "rm", "vol")
