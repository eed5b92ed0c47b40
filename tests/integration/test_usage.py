"""What is counted while it changes: sizes of containers and volumes."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

from tests.conftest import Kistd

from kist.snapshot.base import tree_usage
from kist.snapshot.contract import Usage

CHURN = "while true; do mkdir -p {0}/a/b/c {0}/d; echo x > {0}/a/b/c/f; mv {0}/d {0}/a/b/e; rm -rf {0}/a; done"


def test_sizes_are_told_while_files_come_and_go(engine: Kistd) -> None:
    for name in ("one", "two"):
        engine.ok("run", "-d", "--name", name, "-v", "churned:/v", "busybox", "sh", "-c",
                  f"{CHURN.format('/w')} & {CHURN.format('/v/$HOSTNAME')}")  # fmt: skip
    for _ in range(60):
        for path in ("/containers/json?size=1", "/containers/one/json?size=1", "/system/df"):
            status, answer = engine.request("GET", path)
            assert status == 200, (path, answer)
    engine.ok("rm", "-f", "one", "two")
    engine.ok("volume", "rm", "churned")


def test_what_is_removed_while_sizes_are_counted_does_not_fail_the_others(engine: Kistd) -> None:
    engine.ok("create", "--name", "stays", "busybox")
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            engine.request("POST", "/containers/create?name=goes", {"Image": "busybox", "Volumes": {"/v": {}}})
            engine.request("DELETE", "/containers/goes?v=1")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(80):
            status, answer = engine.request("GET", "/containers/json?all=1&size=1")
            assert status == 200, answer
            assert "/stays" in [name for one in answer for name in one["Names"]]
            status, answer = engine.request("GET", "/system/df")
            assert status == 200, answer
    finally:
        done.set()
        thread.join()
    engine.ok("rm", "stays")


def test_a_tree_deeper_than_a_path_is_counted_as_far_as_a_path_reaches(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_PATH | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert 15 < tree_usage(str(tmp_path)).inodes < 40
    shutil.rmtree(tmp_path)


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert tree_usage(f"{tmp_path}/nothing") == Usage(0, 0)
