"""The same life under kistd and dockerd: the same events, in the same order, with the same attributes."""

from __future__ import annotations

import io
import json
import re
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd

Step = Callable[[Kistd, Path], object]
_SINCE = ("execDuration",)  # attributes that newer engines add (24.0)


def docker(*words: str, stdin: bytes | None = None) -> Step:
    return lambda engine, place: engine.docker(
        *(word.format(place=place) for word in words), stdin=stdin, DOCKER_API_VERSION="1.41"
    )


def api(method: str, path: str, body: Any = None) -> Step:
    return lambda engine, place: engine.request(method, f"/v1.41{path}", body)


def _exit_and_wait(engine: Kistd, place: Path) -> None:
    engine.docker("run", "-d", "--name", "short", "busybox", "sh", "-c", "exit 3", DOCKER_API_VERSION="1.41")
    engine.docker("wait", "short", DOCKER_API_VERSION="1.41")
    time.sleep(1)


LIVES: dict[str, list[Step]] = {
    "container": [
        docker("create", "--name", "one", "--label", "a=b", "-v", "events:/v", "busybox", "sleep", "1000"),
        docker("start", "one"),
        docker("rename", "one", "two"),
        docker("pause", "two"),
        docker("unpause", "two"),
        docker("update", "-m", "64m", "--memory-swap", "64m", "two"),
        docker("top", "two"),
        api("POST", "/containers/two/resize?h=10&w=20"),
        docker("exec", "two", "true"),
        docker("exec", "two", "sh", "-c", "exit 4"),
        docker("kill", "-s", "USR1", "two"),
        docker("restart", "-t", "0", "two"),
        docker("stop", "-t", "0", "two"),
        docker("rm", "-v", "two"),
        docker("volume", "rm", "events"),
    ],
    "run": [
        docker("run", "--rm", "--name", "brief", "busybox", "true"),
        docker("run", "--name", "failing", "busybox", "/nosuch"),
        docker("rm", "failing"),
        _exit_and_wait,
        docker("run", "--rm", "-i", "--name", "reader", "busybox", "cat", stdin=b"hello"),
        docker("run", "-d", "--name", "forced", "busybox", "sleep", "1000"),
        docker("kill", "forced"),
        docker("start", "forced"),
        docker("rm", "-f", "forced"),
        docker("run", "--rm", "--name", "alone", "--network", "none", "busybox", "true"),
        docker("run", "--rm", "--name", "hosted", "--network", "host", "busybox", "true"),
        docker("run", "--rm", "--name", "anonymous", "-v", "/x", "busybox", "true"),
    ],
    "image": [
        docker("tag", "busybox", "copy:one"),
        docker("tag", "busybox", "copy:two"),
        docker("save", "-o", "{place}/image.tar", "busybox"),
        docker("rmi", "copy:one"),
        docker("rmi", "copy:two"),
        docker("load", "-i", "{place}/image.tar"),
        docker("import", "{place}/empty.tar", "empty:latest"),
        docker("rmi", "empty:latest"),
        docker("import", "{place}/empty.tar"),
        docker("image", "prune", "-f"),
    ],
    "others": [
        docker("volume", "create", "events"),
        docker("volume", "create", "events"),
        docker("volume", "rm", "events"),
        docker("create", "--name", "old", "busybox"),
        docker("container", "prune", "-f"),
        docker("volume", "create", "unused"),
        docker("volume", "prune", "-f"),
        docker("network", "prune", "-f"),
    ],
}


# Steps that are told otherwise by the newer engines whose events kist has: {life: {step: why}}.
DIFFERENCES = {
    "run": {1: "a program that is not there is found before the network is joined, since 25"},
    "others": {
        1: "a volume that was there already is not told as created, since 23",
        6: "each pruned volume is told, since 23",
    },
}
_GIVEN_BACK = ('["network", "disconnect"', '["volume", "unmount"')


def _ends_last(told: list[str]) -> list[str]:
    """With each `die` behind what the container gives back, where newer engines have it."""
    found = list(told)
    for number, one in enumerate(told):
        while (
            one.startswith('["container", "die"') and found[number + 1 :] and found[number + 1].startswith(_GIVEN_BACK)
        ):
            found[number : number + 2] = [found[number + 1], one]
            number += 1
    return found


def _normal(event: dict[str, Any]) -> str:
    attributes = {key: value for key, value in event["Actor"]["Attributes"].items() if key not in _SINCE}
    text = json.dumps([event["Type"], event["Action"], event["Actor"]["ID"], event.get("from"), attributes])
    text = re.sub(r"(sha256:)?[0-9a-f]{64}", "ID", text)
    return re.sub(r'"reclaimed": "\d+"', '"reclaimed": "N"', text)


def _told(engine: Kistd, life: list[Step], place: Path) -> list[list[str]]:
    """The events of each step."""
    found = []
    begin = time.time()
    for step in life:
        step(engine, place)
        time.sleep(0.3)
        end = time.time()
        raw = engine.request("GET", f"/v1.41/events?since={begin:.9f}&until={end:.9f}")[1]
        lines = [json.dumps(raw)] if isinstance(raw, dict) else raw.splitlines()
        found.append([_normal(json.loads(line)) for line in lines])
        begin = end
    return found


@pytest.mark.parametrize("name", LIVES)
def test_the_same_is_told(kist: Kistd, dockerd: Kistd, name: str, tmp_path: Path) -> None:

    with tarfile.open(tmp_path / "empty.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("file"), io.BytesIO())
    ours = _told(kist, LIVES[name], tmp_path)
    theirs = _told(dockerd, LIVES[name], tmp_path)
    known = DIFFERENCES.get(name, {})
    theirs = [_ends_last(one) for one in theirs]
    equal = [number for number in known if ours[number] == theirs[number]]
    assert not equal, "no longer different"
    different = [
        f"step {number}:\n  kistd:   " + "\n           ".join(one) + "\n  dockerd: " + "\n           ".join(two)
        for number, (one, two) in enumerate(zip(ours, theirs, strict=True))
        if one != two and number not in known
    ]
    assert not different, "\n".join(different)
