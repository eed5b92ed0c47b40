"""Checkpoints where criu is not to be had: dockerd's answers, with and without its experimental mode."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Kistd, _end_engine, _make_engine, assert_no_leak, footprint

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def experimental(busybox_archive: Path) -> Iterator[Kistd]:
    engine = _make_engine(busybox_archive, "--experimental")
    before = footprint(engine)
    yield engine
    engine.remove_all()
    assert_no_leak(engine, before)
    _end_engine(engine)


def without_criu(text: str) -> bool:
    return 'exec: "criu": executable file not found in $PATH' in text or "are not supported by this engine yet" in text


def test_an_ordinary_engine_has_none(engine: Kistd) -> None:
    engine.ok("create", "--name", "cc", "busybox", "true")
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", "/one")):
        status, answer = engine.request(method, f"/containers/cc/checkpoints{path}")
        assert status == 501
        assert answer["message"].startswith("This experimental feature is disabled by default.")
    status, answer = engine.request("POST", "/containers/nope/start?checkpoint=one")
    assert (status, answer["message"]) == (400, "checkpoint is only supported in experimental mode")
    status, answer = engine.request("POST", "/containers/cc/start?checkpoint-dir=/x")
    assert (status, answer["message"]) == (403, "custom checkpointdir is not supported")


def test_answers_of_an_experimental_engine(experimental: Kistd) -> None:
    engine = experimental
    engine.ok("run", "-d", "--name", "aa", "busybox", "sleep", "100")
    engine.ok("create", "--name", "cc", "busybox", "true")
    assert engine.request("GET", "/containers/aa/checkpoints") == (200, None)
    assert engine.request("GET", "/containers/nope/checkpoints")[0] == 404
    status, answer = engine.request("POST", "/containers/aa/checkpoints", {"CheckpointID": "one", "Exit": True})
    assert status in (500, 501)
    assert answer["message"].startswith("Cannot checkpoint container aa: ")
    assert without_criu(answer["message"])
    assert engine.request("POST", "/containers/cc/checkpoints", {"CheckpointID": "one"}) == (
        500, {"message": "Container cc not running"})  # fmt: skip
    status, answer = engine.request("POST", "/containers/aa/checkpoints", {"CheckpointID": "a/b"})
    assert (status, answer["message"]) == (
        400, "Invalid checkpoint ID (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")  # fmt: skip
    assert engine.request("DELETE", "/containers/aa/checkpoints/one") == (
        500, {"message": "checkpoint one does not exist for container aa"})  # fmt: skip
    assert engine.request("POST", "/containers/cc/start?checkpoint=one") == (
        500, {"message": "checkpoint one does not exist for container /cc"})  # fmt: skip
    assert engine.request("POST", "/containers/aa/start?checkpoint=one")[0] == 304
    assert engine.ok("inspect", "-f", "{{.State.Status}}", "aa", "cc") == "running\ncreated\n"


def test_both_commands_say_the_same(experimental: Kistd) -> None:
    engine = experimental
    engine.ok("create", "--name", "dd", "busybox", "true")
    kist = str(Path(sys.executable).with_name("kist"))
    for words in (
        ("checkpoint", "ls", "dd"),
        ("checkpoint", "create", "dd", "one"),
        ("checkpoint", "rm", "dd", "one"),
        ("start", "--checkpoint", "one", "dd"),
    ):
        theirs = engine.docker(*words)
        ours = subprocess.run(
            [kist, "-H", engine.host, *words], capture_output=True, text=True, check=False, timeout=20
        )
        assert (ours.returncode, ours.stdout) == (theirs.status, theirs.text), words
        assert ours.stderr.removeprefix("kist: ").strip() == theirs.errors.strip(), words
