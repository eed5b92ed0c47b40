"""Lack of memory: seen when it happens, also by a container that lives on; recorded, told, also to the next kistd."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.conftest import Kistd

# A child that takes more than the limit and is killed for it, where the first process sleeps.
HUNGRY = "dd if=/dev/zero of=/dev/null bs=100M count=1"


def events(engine: Kistd, since: float) -> list[str]:
    until = f"{time.time() + 0.2:.3f}"
    out = engine.ok("events", "--since", f"{since:.3f}", "--until", until, "--format", "{{json .}}")
    return [json.loads(line)["Action"] for line in out.splitlines() if '"Type":"container"' in line]


def state(engine: Kistd, name: str) -> Any:
    return engine.request("GET", f"/containers/{name}/json")[1]["State"]


def until_told(engine: Kistd, name: str) -> None:
    deadline = time.monotonic() + 5
    while not state(engine, name)["OOMKilled"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_that_is_killed_is_told_while_the_container_lives(engine: Kistd) -> None:
    began = time.time()
    engine.ok("run", "-d", "--name", "eater", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c",
              f"sleep 0.2; {HUNGRY}; sleep 1000")  # fmt: skip
    until_told(engine, "eater")
    assert state(engine, "eater")["Running"]
    assert "oom" in events(engine, began)
    told = events(engine, began).count("oom")
    engine.ok("kill", "eater")
    after = state(engine, "eater")
    assert (after["OOMKilled"], after["ExitCode"]) == (True, 137)
    assert events(engine, began).count("oom") == told, "the end is no new lack of memory"
    engine.ok("start", "eater")
    assert not state(engine, "eater")["OOMKilled"]


def test_the_first_process_is_killed(engine: Kistd) -> None:
    began = time.time()
    told = engine.docker("run", "--name", "eater", "-m", "16m", "--memory-swap", "16m", "busybox", *HUNGRY.split())
    assert told.status == 137
    assert state(engine, "eater")["OOMKilled"]
    found = events(engine, began)
    assert "oom" in found
    assert found.index("oom") < found.index("die")


def test_a_limit_set_later_is_watched_too(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "eater", "busybox", "sh", "-c", f"sleep 1; {HUNGRY}; sleep 1000")
    engine.ok("update", "-m", "16m", "--memory-swap", "16m", "eater")
    until_told(engine, "eater")
    assert state(engine, "eater")["Running"]


def test_what_happened_while_no_kistd_was_there_is_told_by_the_monitor(own_engine: Kistd) -> None:
    own_engine.ok("run", "-d", "--name", "eater", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c",
                  f"sleep 1; {HUNGRY}; sleep 1000")  # fmt: skip
    own_engine.kill()
    time.sleep(2)
    own_engine.start()
    assert state(own_engine, "eater")["Running"]
    assert state(own_engine, "eater")["OOMKilled"]
