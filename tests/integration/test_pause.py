"""Paused containers: stopped whole, known as such, and never in the way of what ends them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd

COUNT = "while :; do echo $((i=i+1)) > /dev/shm/count; sleep 0.01; done"


@pytest.fixture
def box(engine: Kistd) -> Iterator[str]:
    made = engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", COUNT).strip()
    yield made
    engine.docker("rm", "-f", "box")


def state(engine: Kistd, name: str = "box") -> dict[str, Any]:
    found: dict[str, Any] = engine.request("GET", f"/containers/{name}/json")[1]["State"]
    return found


def count(engine: Kistd) -> int:
    pid = state(engine)["Pid"]
    return int(Path(f"/proc/{pid}/root/dev/shm/count").read_text() or 0)


def test_everything_stops_and_goes_on(engine: Kistd, box: str) -> None:
    assert engine.ok("pause", "box") == "box\n"
    found = state(engine)
    assert (found["Status"], found["Paused"], found["Running"]) == ("paused", True, True)
    assert "(Paused)" in engine.ok("ps", "--filter", "status=paused", "--format", "{{.Status}}")
    before = count(engine)
    time.sleep(0.1)
    assert count(engine) == before
    assert engine.ok("unpause", "box") == "box\n"
    deadline = time.monotonic() + 3
    while count(engine) == before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert count(engine) > before
    assert state(engine)["Status"] == "running"


def test_what_cannot_be(engine: Kistd, box: str) -> None:
    assert engine.request("POST", "/containers/box/unpause") == (500, {"message": f"Container {box} is not paused"})
    assert engine.request("POST", "/containers/box/pause")[0] == 204
    assert engine.request("POST", "/containers/box/pause") == (
        409, {"message": f"Container {box} is already paused"})  # fmt: skip
    assert engine.request("POST", "/containers/box/exec", {"Cmd": ["true"]}) == (
        409, {"message": "Container box is paused, unpause the container before exec"})  # fmt: skip
    assert engine.request("POST", "/containers/box/start")[0] in (409, 500)
    assert engine.request("DELETE", "/containers/box")[0] == 409
    assert engine.request("POST", "/containers/none/pause")[0] == 404


@pytest.mark.parametrize("words", [("stop", "-t", "5"), ("kill",), ("rm", "-f"), ("restart", "-t", "1")])
def test_what_ends_a_container_ends_a_paused_one(engine: Kistd, box: str, words: tuple[str, ...]) -> None:
    engine.ok("pause", "box")
    begin = time.monotonic()
    engine.ok(*words, "box")
    assert time.monotonic() - begin < 8
    if words[0] == "restart":
        assert state(engine)["Status"] == "running"


def test_it_stays_paused_while_kistd_is_away(own_engine: Kistd) -> None:
    own_engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    own_engine.ok("pause", "box")
    own_engine.kill()
    own_engine.start()
    assert state(own_engine)["Status"] == "paused"
    own_engine.ok("unpause", "box")
    assert state(own_engine)["Status"] == "running"
    own_engine.ok("pause", "box")
    own_engine.ok("rm", "-f", "box")
