"""Events as Docker tells them: replayed between two moments, live, and through every filter."""

from __future__ import annotations

import json
import threading
import time
from typing import Any
from urllib.parse import quote

from tests.conftest import Kistd, UnixConnection


def events(engine: Kistd, since: float, until: float | None = None, **filters: list[str]) -> list[dict[str, Any]]:
    end = time.time() if until is None else until
    query = f"since={since:.9f}&until={end:.9f}&filters={quote(json.dumps(filters))}"
    status, raw = engine.request("GET", f"/events?{query}")
    assert status == 200, raw
    return [raw] if isinstance(raw, dict) else [json.loads(line) for line in raw.splitlines()]


def actions(found: list[dict[str, Any]]) -> list[str]:
    return [f"{one['Type']} {one['Action']}" for one in found]


def test_every_filter(engine: Kistd) -> None:
    begin = time.time()
    engine.ok("run", "-d", "--name", "first", "-l", "colour=red", "-v", "told:/v", "busybox", "sleep", "60")
    made = engine.ok("run", "-d", "--name", "second", "busybox", "sleep", "60").strip()
    engine.ok("exec", "first", "true")
    engine.ok("tag", "busybox", "other:tag")
    engine.ok("rm", "-f", "first", "second")
    engine.ok("volume", "rm", "told")
    engine.ok("rmi", "other:tag")
    end = time.time()

    def found(**filters: list[str]) -> list[str]:
        return actions(events(engine, begin, end, **filters))

    assert found(container=["first"], event=["create", "start"]) == ["container create", "container start"]
    assert set(found(container=[made[:12]])) == {
        "container create", "container start", "container kill", "container die", "container destroy"}  # fmt: skip
    assert found(event=["exec_create", "exec_die"]) == ["container exec_create: true ", "container exec_die"]
    assert found(event=["exec_create: true "]) == ["container exec_create: true "]
    assert found(event=["exec_creat"]) == []
    assert len(found(label=["colour"])) == len(found(label=["colour=red"])) == len(found(container=["first"]))
    assert found(label=["colour=blue"]) == []
    assert found(type=["volume"]) == ["volume create", "volume mount", "volume unmount", "volume destroy"]
    assert found(volume=["told"], event=["mount"]) == ["volume mount"]
    assert found(network=["bridge"]) == [
        "network connect",
        "network connect",
        "network disconnect",
        "network disconnect",
    ]
    assert set(found(image=["busybox"], event=["create"])) == {"container create"}
    assert found(image=["other"]) == ["image tag"]
    assert found(image=["other:tag"], type=["image"]) == ["image tag"]
    assert found(scope=["swarm"]) == []
    assert found(scope=["local"]) == found()
    for kind in ("config", "node", "plugin", "secret", "service", "daemon"):
        assert found(**{kind: ["first"]}) == found(container=["first"]), "by the beginning of a name, whatever the kind"
        assert found(**{kind: ["nosuch"]}) == []
    assert found(type=["container"], container=["first"], event=["nosuch"]) == []


def test_what_is_told_while_one_listens_and_nothing_beyond_the_end(engine: Kistd) -> None:
    found: list[dict[str, Any]] = []
    end = time.time() + 2
    listener = threading.Thread(target=lambda: found.extend(events(engine, time.time(), end)))
    listener.start()
    time.sleep(0.3)
    engine.ok("create", "--name", "box", "busybox")
    listener.join()
    assert time.time() - end < 1
    assert actions(found) == ["container create"]
    assert found[0]["status"] == "create"
    assert found[0]["from"] == "busybox"
    assert found[0]["scope"] == "local"
    assert found[0]["time"] == found[0]["timeNano"] // 10**9


def test_times_in_every_form_of_docker(engine: Kistd) -> None:
    begin = time.time()
    engine.ok("create", "--name", "box", "busybox")
    time.sleep(1.1)  # docker sends a span back from now in whole seconds
    local = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(begin - 1))
    for since in ("1m", "0h1m", str(int(begin)), f"{begin:.9f}", local, local + "Z" if time.timezone == 0 else local,
                  local[:10]):  # fmt: skip
        found = engine.ok("events", "--since", since, "--until", "0s", "--filter", "container=box", "--format",
                          "{{.Action}}")  # fmt: skip
        assert found.splitlines()[-1:] == ["create"], since


def test_the_last_256_are_kept(engine: Kistd) -> None:
    begin = time.time()
    engine.ok("create", "--name", "name0", "busybox")
    for number in range(270):
        engine.request("POST", f"/containers/name{number}/rename?name=name{number + 1}")
    found = events(engine, begin)
    assert len(found) == 256
    assert found[-1]["Actor"]["Attributes"]["name"] == "name270"
    assert found[-1]["Actor"]["Attributes"]["oldName"] == "/name269"


def test_a_reload_is_told(own_engine: Kistd) -> None:
    begin = time.time()
    assert own_engine.process is not None
    own_engine.process.send_signal(1)
    deadline = time.monotonic() + 5
    while not (found := events(own_engine, begin, type=["daemon"])) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert actions(found) == ["daemon reload"]


def test_a_listener_that_goes_leaves_nothing(engine: Kistd) -> None:
    for _ in range(5):
        connection = UnixConnection(engine.socket)
        connection.request("GET", "/events")
        connection.getresponse().close()
        connection.close()
