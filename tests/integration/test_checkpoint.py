"""Checkpoints as far as they go without a criu that works: who may ask, and what is said. tests/vm makes real ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Kistd, _end_engine, _make_engine, assert_no_leak, footprint

DISABLED = (
    "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable "
    "it."
)


@pytest.fixture(scope="module")
def kept_engine(busybox_archive: Path) -> Iterator[Kistd]:
    engine = _make_engine(busybox_archive, "--experimental")
    yield engine
    _end_engine(engine)


@pytest.fixture
def experimental(kept_engine: Kistd) -> Iterator[Kistd]:
    before = footprint(kept_engine)
    yield kept_engine
    kept_engine.remove_all()
    assert_no_leak(kept_engine, before)


def test_without_experimental_mode_there_are_none(engine: Kistd) -> None:
    engine.ok("create", "--name", "one", "busybox", "true")
    for method, path, body in (
        ("GET", "/containers/one/checkpoints", None),
        ("POST", "/containers/one/checkpoints", {"CheckpointID": "first"}),
        ("DELETE", "/containers/one/checkpoints/first", None),
    ):
        assert engine.request(method, path, body) == (501, {"message": DISABLED})
    wanted = (400, {"message": "checkpoint is only supported in experimental mode"})
    assert engine.request("POST", "/containers/nobody/start?checkpoint=first") == wanted
    wanted = (403, {"message": "custom checkpointdir is not supported"})
    assert engine.request("POST", "/containers/one/start?checkpoint-dir=/x") == wanted
    refused = engine.docker("checkpoint", "ls", "one")
    assert refused.status == 1 and "only supported on a Docker daemon with experimental features" in refused.errors


def test_both_commands_say_the_same(experimental: Kistd) -> None:
    experimental.ok("create", "--name", "made", "busybox", "true")
    kist = shutil.which("kist") or str(Path(sys.executable).with_name("kist"))
    for words in (
        ("checkpoint", "ls", "made"),
        ("checkpoint", "create", "made", "one"),
        ("checkpoint", "rm", "made", "one"),
        ("start", "--checkpoint", "one", "made"),
    ):
        theirs = experimental.docker(*words)
        ours = subprocess.run([kist, "-H", experimental.host, *words], capture_output=True, text=True, check=False)
        assert (ours.returncode, ours.stdout) == (theirs.status, theirs.text), words
        assert ours.stderr.removeprefix("kist: ").strip() == theirs.errors.strip(), words


def test_what_is_wrong_is_said_in_dockers_order(experimental: Kistd) -> None:
    experimental.ok("create", "--name", "made", "busybox", "true")
    experimental.ok("run", "-d", "--name", "runs", "busybox", "sleep", "100")
    for name in ("", "a", "../x", "a/b"):
        body = {"CheckpointID": name}
        status, answer = experimental.request("POST", "/containers/runs/checkpoints", body)
        words = f"Invalid checkpoint ID ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        assert (status, answer) == (400, {"message": words})
        status, answer = experimental.request("POST", "/containers/made/checkpoints", body)
        assert status == 409 and answer["message"].endswith(" is not running")
    assert experimental.request("POST", "/containers/gone/checkpoints", {})[0] == 404
    assert experimental.request("GET", "/containers/gone/checkpoints")[0] == 404
    assert experimental.request("GET", "/containers/runs/checkpoints") == (200, [])
    assert experimental.request("GET", "/containers/runs/checkpoints?dir=relative")[0] == 400
    missing = {"message": "checkpoint first does not exist for container runs"}
    assert experimental.request("DELETE", "/containers/runs/checkpoints/first") == (500, missing)
    missing = {"message": "checkpoint first does not exist for container /made"}
    assert experimental.request("POST", "/containers/made/start?checkpoint=first") == (500, missing)
    assert experimental.request("POST", "/containers/runs/start?checkpoint=first")[0] == 304
    experimental.ok("pause", "runs")
    status, answer = experimental.request("POST", "/containers/runs/checkpoints", {"CheckpointID": "first"})
    assert status == 409 and "is paused, unpause the container" in answer["message"]


@pytest.mark.skipif(shutil.which("criu", path="/usr/local/sbin:/usr/sbin:/sbin") is not None, reason="criu is there")
def test_what_is_missing_is_named_with_what_to_do_and_nothing_is_touched(experimental: Kistd) -> None:
    experimental.ok("run", "-d", "--name", "runs", "busybox", "sleep", "100")
    before = json.loads(experimental.ok("inspect", "runs"))[0]
    refused = experimental.docker("checkpoint", "create", "runs", "first")
    assert refused.status == 1
    assert "Cannot checkpoint container runs: criu is not installed on this machine: install it" in refused.errors
    assert json.loads(experimental.ok("inspect", "runs"))[0] == before
    directory = Path(f"{experimental.base}/d/containers/{before['Id']}")
    assert not any("criu" in name or "checkpoint" in name for name in os.listdir(directory))
    (directory / "checkpoints/first").mkdir(parents=True)
    refused = experimental.docker("checkpoint", "create", "runs", "first")
    assert "checkpoint with name first already exists for container runs" in refused.errors
    assert experimental.ok("checkpoint", "ls", "runs") == "CHECKPOINT NAME\nfirst\n"
    experimental.ok("kill", "runs")
    refused = experimental.docker("start", "--checkpoint", "first", "runs")
    assert refused.status == 1 and "criu is not installed on this machine" in refused.errors
    experimental.ok("checkpoint", "rm", "runs", "first")
    assert experimental.ok("checkpoint", "ls", "runs") == "CHECKPOINT NAME\n"
    experimental.ok("start", "runs")
