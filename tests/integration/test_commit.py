"""`commit`: images from containers, which are images like any other."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.conftest import Kistd


@pytest.fixture
def box(engine: Kistd) -> Iterator[str]:
    engine.ok("run", "--name", "box", "-e", "A=1", "busybox", "sh", "-c", "echo own >/own; rm /bin/arp; mkdir /d")
    yield "box"
    engine.docker("rm", "-f", "box")
    for image in engine.ok("images", "-q", "--filter", "since=busybox").split():
        engine.docker("rmi", "-f", image)


def inspect(engine: Kistd, image: str) -> dict[str, Any]:
    status, found = engine.request("GET", f"/images/{image}/json")
    assert status == 200
    assert isinstance(found, dict)
    return found


def test_the_image(engine: Kistd, box: str) -> None:
    made = engine.ok("commit", "-a", "me", "-m", "why", "box", "made:one").strip()
    found = inspect(engine, "made:one")
    assert found["Id"] == made
    assert (found["Author"], found["Comment"], found["RepoTags"]) == ("me", "why", ["made:one"])
    base = inspect(engine, "busybox")
    assert found["Parent"] == base["Id"]
    assert found["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]
    assert "A=1" in found["Config"]["Env"]
    assert engine.ok("run", "--rm", "made:one", "sh", "-c", "cat /own; [ -e /bin/arp ] || echo gone; ls -d /d") == (
        "own\ngone\n/d\n"
    )
    newest = engine.request("GET", "/images/made:one/history")[1][0]
    assert newest["CreatedBy"] == "sh -c echo own >/own; rm /bin/arp; mkdir /d"
    assert newest["Comment"] == "why"


def test_the_layer_is_a_layer(engine: Kistd, box: str) -> None:
    engine.ok("commit", "box", "made")
    saved = engine.docker("save", "made").out
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        with tarfile.open(fileobj=archive.extractfile(manifest[0]["Layers"][-1])) as layer:
            names = layer.getnames()
    assert {"own", "d", "bin", "bin/.wh.arp"} <= set(names)
    engine.ok("rmi", "made")
    engine.ok("load", stdin=saved)
    assert engine.ok("run", "--rm", "made", "cat", "/own") == "own\n"


def test_the_same_changes_give_the_same_layer(engine: Kistd, box: str) -> None:
    first, second = (engine.ok("commit", "box").strip() for _ in range(2))
    assert inspect(engine, first)["RootFS"] == inspect(engine, second)["RootFS"]


def test_a_container_that_changed_nothing_gets_no_layer(engine: Kistd, box: str) -> None:
    engine.ok("create", "--name", "still", "busybox", "true")
    made = engine.ok("commit", "still", "made").strip()
    assert inspect(engine, made)["RootFS"] == inspect(engine, "busybox")["RootFS"]
    engine.ok("rm", "still")
    assert engine.ok("run", "--rm", "made", "echo", "hi") == "hi\n"


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ('CMD ["a", "b"]', "Cmd", ["a", "b"]),
        ("CMD a b", "Cmd", ["/bin/sh", "-c", "a b"]),
        ('ENTRYPOINT ["x"]', "Entrypoint", ["x"]),
        ("EXPOSE 80 90-91/udp", "ExposedPorts", {"80/tcp": {}, "90/udp": {}, "91/udp": {}}),
        ('LABEL "a b"="c d" e=$A', "Labels", {"a b": "c d", "e": "1"}),
        ("ONBUILD RUN x", "OnBuild", ["RUN x"]),
        ("USER u:g", "User", "u:g"),
        ('VOLUME ["/a b"]', "Volumes", {"/a b": {}}),
        ("WORKDIR x", "WorkingDir", "/x"),
        ("HEALTHCHECK --interval=5s CMD true", "Healthcheck", {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9}),
    ],
)
def test_changes(engine: Kistd, box: str, change: str, field: str, value: object) -> None:
    made = engine.ok("commit", "--change", change, "box").strip()
    assert inspect(engine, made)["Config"][field] == value


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("container=box&changes=RUN%20x", 400, "run is not a valid change command"),
        ("container=box&changes=", 400, "file with no instructions"),
        ("container=box&repo=UP", 400, "invalid reference format: repository name (library/UP) must be lowercase"),
        ("container=box&repo=foo&tag=b@d", 400, "invalid tag format"),
        ("container=none", 404, "No such container: none"),
        ("", 400, 'invalid name or ID supplied: ""'),
    ],
)
def test_what_cannot_be(engine: Kistd, box: str, query: str, status: int, message: str) -> None:
    before = engine.ok("images", "-aq")
    assert engine.request("POST", f"/commit?{query}") == (status, {"message": message})
    assert engine.ok("images", "-aq") == before


def test_it_pauses_meanwhile_and_tells(engine: Kistd, box: str) -> None:
    engine.ok("run", "-d", "--name", "runs", "busybox", "sleep", "1000")
    try:
        since = str(time.time() - 0.001)
        engine.ok("commit", "runs", "made:two")
        engine.ok("commit", "--pause=false", "-m", "words", "runs")
        until = str(time.time() + 0.01)
        told = engine.ok("events", "--since", since, "--until", until, "--format", "{{.Action}}").split()
        assert told == ["pause", "tag", "commit", "unpause", "commit"]
        raw = engine.ok(
            "events", "--since", since, "--until", until, "--filter", "event=commit", "--format", "{{json .}}"
        )
        first = json.loads(raw.splitlines()[0])["Actor"]["Attributes"]
        assert first["imageRef"] == "made:two"
        assert first["imageID"] == inspect(engine, "made:two")["Id"]
        assert engine.ok("inspect", "-f", "{{.State.Status}}", "runs") == "running\n"
    finally:
        engine.ok("rm", "-f", "runs")


def test_a_config_in_the_body(engine: Kistd, box: str) -> None:
    body = {"Cmd": ["own"], "Labels": {"x": "y"}}
    status, made = engine.request("POST", f"/commit?container=box&changes={quote('ENV B=2')}", body)
    assert status == 201
    config = inspect(engine, made["Id"])["Config"]
    assert config["Cmd"] == ["own"]
    assert {"B=2", "A=1"} <= set(config["Env"])
    assert config["Labels"] == {"x": "y"}


def test_a_failed_commit_leaves_nothing(engine: Kistd, box: str) -> None:
    blobs = Path(f"{engine.base}/d/content/blobs/sha256")
    before = sorted(blobs.iterdir())
    for _ in range(3):
        made = engine.ok("commit", "box", "made").strip()
        engine.ok("rmi", made)
    assert sorted(blobs.iterdir()) == before
