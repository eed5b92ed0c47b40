"""The filters of `ps`, where they know more than a record says: images by parents, networks and ports by what runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from tests.conftest import Kistd


@pytest.fixture
def images(engine: Kistd) -> Iterator[Kistd]:
    """busybox, `child:1` made from it, `grand:1` from that, and a container of each."""
    engine.ok("create", "--name", "one", "busybox")
    engine.ok("commit", "one", "child:1")
    engine.ok("create", "--name", "two", "child:1")
    engine.ok("commit", "two", "grand:1")
    engine.ok("create", "--name", "three", "grand:1")
    yield engine
    engine.remove_all()
    engine.ok("rmi", "-f", "child:1", "grand:1")


def listed(engine: Kistd, query: str = "all=1", **filters: list[str]) -> set[str]:
    status, found = engine.request("GET", f"/containers/json?{query}&filters={quote(json.dumps(filters))}")
    assert status == 200, found
    return {one["Names"][0][1:] for one in found}


def inspected(engine: Kistd, kind: str, name: str) -> Any:
    return engine.request("GET", f"/{kind}/{name}/json")[1]


def test_an_ancestor_is_found_by_all_its_names_and_counts_for_what_was_made_from_it(images: Kistd) -> None:
    busybox = inspected(images, "images", "busybox")
    for name in ("busybox", "docker.io/library/busybox:latest", busybox["Id"], busybox["Id"][7:19],
                 *busybox["RepoDigests"]):  # fmt: skip
        assert listed(images, ancestor=[name]) == {"one", "two", "three"}, name
    assert listed(images, ancestor=["child:1"]) == {"two", "three"}
    assert listed(images, ancestor=["nosuch", "grand:1"]) == {"three"}
    for nothing in ([], ["nosuch"], ["child"], [""]):
        assert listed(images, ancestor=nothing) == set(), nothing


def test_a_name_that_moved_to_another_image_is_no_longer_the_containers(images: Kistd) -> None:
    before = inspected(images, "images", "child:1")["Id"]
    images.ok("tag", "grand:1", "child:1")
    shown = {one["Names"][0]: one["Image"] for one in images.request("GET", "/containers/json?all=1")[1]}
    assert shown == {"/one": "busybox", "/two": before, "/three": "grand:1"}
    assert listed(images, ancestor=["child:1"]) == {"three"}
    assert before[7:19] in images.ok("ps", "-a", "--filter", "name=two")


def test_ports_are_those_that_are_open_now(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "open", "-p", "18080:80", "--expose", "99", "--expose", "7/udp", "busybox",
              "sleep", "60")  # fmt: skip
    engine.ok("run", "-d", "--name", "host", "--network", "host", "--expose", "99", "busybox", "sleep", "60")
    engine.ok("create", "--name", "made", "--expose", "99", "busybox")
    for value in ("80", "80/tcp", "99", "7/udp", "90-100", "1-9/udp"):
        assert listed(engine, expose=[value]) == {"open"}, value
    for value in ("7", "80/udp", "18080", "100-200"):
        assert listed(engine, expose=[value]) == set(), value
    assert listed(engine, publish=["18000-18100"]) == {"open"}
    assert listed(engine, publish=["80"]) == set()
    assert listed(engine, publish=["80"], expose=["99"]) == {"open"}, "either is enough"
    engine.ok("stop", "-t", "0", "open")
    assert listed(engine, expose=["99"]) == set()


def test_a_network_is_known_by_name_always_and_by_id_since_the_first_start(engine: Kistd) -> None:
    ids = {one["Name"]: one["Id"] for one in engine.request("GET", "/networks")[1]}
    engine.ok("create", "--name", "made", "busybox")
    engine.ok("run", "--name", "ended", "busybox", "true")
    engine.ok("run", "--name", "hosts", "--network", "host", "busybox", "true")
    assert listed(engine, network=["bridge"]) == {"made", "ended"}
    assert listed(engine, network=[ids["bridge"]]) == {"ended"} == listed(engine, network=[ids["bridge"][:6]])
    assert listed(engine, network=[ids["host"]]) == {"hosts"}
    assert listed(engine, network=[]) == set()


def test_exit_codes_ids_and_volumes_as_dockerd_reads_them(engine: Kistd) -> None:
    engine.ok("create", "--name", "made", "-v", "named:/data", "-v", "/tmp:/host", "busybox")
    assert engine.docker("run", "--name", "three", "busybox", "sh", "-c", "exit 3").status == 3
    assert listed(engine, exited=["3"]) == {"three"} == listed(engine, exited=["0", "+3"])
    assert listed(engine, exited=["0"]) == set(), "what was never started has not exited"
    assert listed(engine, "", exited=["3"]) == set(), "without -a only what runs is looked at"
    assert listed(engine, "", status=["exited"]) == {"three"}
    one = inspected(engine, "containers", "made")
    assert listed(engine, id=[one["Id"]]) == {"made"} == listed(engine, id=[one["Id"][:12]])
    assert listed(engine, id=[""]) == listed(engine, id=["made"]) == set()
    for place in ("named", "/data", "/tmp", "/host"):
        assert listed(engine, volume=[place]) == {"made"}, place
    assert listed(engine, volume=[one["Mounts"][0]["Source"], one["Mounts"][1]["Source"]]) == {"made"}
    assert listed(engine, volume=[next(m["Source"] for m in one["Mounts"] if m["Type"] == "volume")]) == set()
    assert listed(engine, isolation=["hyperv"]) == {"made", "three"}
    assert listed(engine, name=["^/made$"]) == {"made"} == listed(engine, name=["^made$"])
    assert engine.request("GET", "/containers/json?filters=" + quote('{"label!":["a"]}')) == (
        400, {"message": "invalid filter 'label!'"})  # fmt: skip
    engine.request("DELETE", "/containers/made?v=1")
    engine.ok("volume", "rm", "-f", "named")
