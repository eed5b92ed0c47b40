"""Pruning containers, and removals that meet a start."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from tests.conftest import Kistd


def prune(engine: Kistd, **filters: list[str]) -> tuple[list[str] | None, int]:
    asked = json.dumps(filters, separators=(",", ":"))
    status, told = engine.request("POST", f"/containers/prune?filters={asked}")
    assert status == 200, told
    return told["ContainersDeleted"], told["SpaceReclaimed"]


def test_what_runs_stays(engine: Kistd) -> None:
    begin = time.time()
    stopped = engine.ok("run", "-d", "--label", "a=b", "busybox", "sh", "-c", "head -c 5000 /dev/zero > /f").strip()
    engine.ok("wait", stopped)
    created = engine.ok("create", "busybox").strip()
    running = engine.ok("run", "-d", "--name", "runs", "busybox", "sleep", "1000").strip()
    paused = engine.ok("run", "-d", "--name", "paused", "busybox", "sleep", "1000").strip()
    engine.ok("pause", "paused")
    assert prune(engine, label=["nobody"]) == (None, 0)
    assert prune(engine, until=["1h"]) == (None, 0)
    assert prune(engine, label=["a=b"]) == ([stopped], 5000)
    assert prune(engine) == ([created], 0)
    left = {one["Id"] for one in engine.request("GET", "/containers/json?all=1")[1]}
    assert left == {running, paused}
    assert engine.request("POST", '/containers/prune?filters={"bogus":["x"]}')[0] == 400
    told = engine.ok("events", "--since", f"{begin:.3f}", "--until", f"{time.time():.3f}", "--filter", "event=prune",
                     "--format", "{{.Type}} {{.Actor.Attributes.reclaimed}}")  # fmt: skip
    assert told.splitlines() == [f"container {size}" for size in (0, 0, 5000, 0)]
    engine.ok("rm", "-f", "runs", "paused")


def test_a_removal_waits_for_a_start_that_is_under_way(engine: Kistd) -> None:
    """Neither a running container without a record, nor one that the client believes to be gone."""
    for round_ in range(12):
        name = f"met{round_}"
        engine.ok("create", "--name", name, "busybox", "sleep", "1000")
        answers: dict[str, Any] = {}

        def ask(method: str, path: str, answers: dict[str, Any] = answers) -> None:
            answers[method] = engine.request(method, path)[0]

        both = [
            threading.Thread(target=ask, args=("POST", f"/containers/{name}/start")),
            threading.Thread(target=ask, args=("DELETE", f"/containers/{name}")),
        ]
        for one in both:
            one.start()
        for one in both:
            one.join()
        assert answers in ({"POST": 204, "DELETE": 409}, {"POST": 409, "DELETE": 204}, {"POST": 404, "DELETE": 204})
        if answers["DELETE"] == 409:
            assert engine.request("GET", f"/containers/{name}/json")[1]["State"]["Running"]
            engine.ok("rm", "-f", name)
