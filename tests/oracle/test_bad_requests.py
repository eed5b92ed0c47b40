"""Requests that must fail, put to kistd and to dockerd: the same status, the same message, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.conftest import Kistd

HALF_MADE = "/tmp/kist-half-made"  # the source of a bind in a request that fails for another reason


class Case(NamedTuple):
    """`reason` is empty where both must say the same; else `status` and `message` are what kist says."""

    request: str
    reason: str = ""
    status: int = 0
    message: str = ""


def read_cases() -> Iterator[Case]:
    """What bad_requests.txt holds."""
    lines = Path(__file__).with_name("bad_requests.txt").read_text().splitlines()
    del lines[: lines.index("", lines.index("") + 1)]  # the explanation
    reason, request = "", ""
    for line in filter(None, lines):
        if line.startswith("# "):
            reason = line[2:]
        elif not reason:
            yield Case(line)
        elif line.startswith("  "):
            status, _, message = line.strip().partition(" ")
            yield Case(request, reason, int(status), message)
        else:
            request = line


CASES = list(read_cases())
CREATES = [case.request for case in CASES if case.request.startswith("POST /containers/create")]


def short(case: Case) -> str:
    """A name for a test: the request without what all of its kind have."""
    method, path, *body = case.request.split(" ", 2)
    words = " ".join(body).replace('"Image":"busybox",', "").replace('"HostConfig":', "")
    words = re.sub(r'["{}\[\]\\]', "", words)
    if path.startswith("/containers/create") and words:
        method, path = "create", path.removeprefix("/containers/create")
    return f"{method} {path} {words}".strip()[:90]


@pytest.fixture(scope="module")
def places(kist: Kistd, dockerd: Kistd) -> dict[str, dict[str, str]]:
    return {engine.base: prepare(engine) for engine in (kist, dockerd)}


def prepare(engine: Kistd) -> dict[str, str]:
    engine.ok("run", "-d", "--name", "running", "busybox", "sleep", "1000")
    engine.docker("run", "--name", "stopped", "busybox", "false")
    _, made = engine.request("POST", "/containers/running/exec", {"Cmd": ["true"], "AttachStdout": True})
    engine.request("POST", f"/exec/{made['Id']}/start", {})
    return {"{C}": "running", "{S}": "stopped", "{X}": made["Id"]}


def ask(engine: Kistd, line: str, places: dict[str, str]) -> tuple[int, str]:
    """(status, the message with ids taken out)."""
    status, answer = send(engine, line, places)
    return status, normal(answer)


def send(engine: Kistd, line: str, places: dict[str, str]) -> tuple[int, Any]:
    for place, value in places.items():
        line = line.replace(place, value)
    method, path, *rest = line.split(" ", 2)
    path = path.replace('"', "%22").replace("{", "%7B").replace("}", "%7D").replace("[", "%5B").replace("]", "%5D")
    body = rest[0].encode() if rest else None
    return engine.request(method, f"/v1.41{path}", body, {"Content-Type": "application/json"} if body else None)


def normal(answer: Any) -> str:
    """What a test compares: without ids, and without what depends on the machine."""
    if isinstance(answer, dict) and set(answer) == {"message"}:
        text = answer["message"]
    elif isinstance(answer, bytes):
        text = answer.decode("utf-8", "replace").strip()
    else:
        text = json.dumps(answer)
    text = re.sub(r"\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b", "ID", text).replace("\n", "\\n")
    count = len(os.sched_getaffinity(0))
    text = text.replace(f" {count}.00", " {CPUS}.00").replace(f" {count} CPUs", " {CPUS} CPUs")
    return re.sub(r"\blinux/(amd64|arm64)\b", "linux/HOST", text)


@pytest.mark.parametrize("case", CASES, ids=short)
def test_refused_alike(kist: Kistd, dockerd: Kistd, places: dict[str, dict[str, str]], case: Case) -> None:
    ours = ask(kist, case.request, places[kist.base])
    theirs = ask(dockerd, case.request, places[dockerd.base])
    if case.reason:
        assert ours == (case.status, case.message)
        assert ours != theirs, "this no longer differs: move it up"
    else:
        assert ours == theirs


def test_every_request_is_there_once() -> None:
    requests = [case.request for case in CASES]
    assert len(requests) == len(set(requests)) >= 350
    assert all(case.status >= 400 or not case.reason or case.status == 201 for case in CASES)


def test_a_refused_create_leaves_nothing(kist: Kistd, places: dict[str, dict[str, str]]) -> None:
    before = holdings(kist)
    refused = 0
    for line in CREATES:
        status, answer = send(kist, line, places[kist.base])
        if status == 201:
            kist.request("DELETE", f"/containers/{answer['Id']}?v=1")
            for volume in kist.request("GET", "/volumes")[1]["Volumes"] or ():
                kist.request("DELETE", f"/volumes/{volume['Name']}")
        else:
            refused += 1
            kist.request("POST", "/kist/quiesce")
            assert holdings(kist)["volumes"] == before["volumes"], line
    kist.request("POST", "/kist/quiesce")
    assert holdings(kist) == before
    assert not os.path.exists(HALF_MADE)
    assert refused > 150


@pytest.mark.parametrize(
    "rest",
    [
        {"HostConfig": {"VolumeDriver": "bogus", "Binds": ["fine:/t"]}},
        {"HostConfig": {"VolumeDriver": "bogus"}, "Volumes": {"/t": {}}},
        {
            "HostConfig": {
                "Mounts": [{"Type": "volume", "Target": "/t", "VolumeOptions": {"DriverConfig": {"Name": "bogus"}}}]
            }
        },
    ],
)
def test_an_unknown_volume_driver_is_refused(kist: Kistd, rest: dict[str, Any]) -> None:
    """As dockerd does it; dockerd takes 15 s to look for a plugin, so it is not asked again."""
    before = holdings(kist)
    status, answer = kist.request("POST", "/v1.41/containers/create", {"Image": "busybox", **rest})
    assert status == 404
    assert answer["message"].endswith(': error looking up volume plugin bogus: plugin "bogus" not found')
    assert holdings(kist) == before


def holdings(engine: Kistd) -> dict[str, list[str]]:
    """The directories of what a create can make, and what the engine says of it."""
    found = {name: sorted(os.listdir(f"{engine.base}/d/{name}")) for name in ("volumes", "containers")}
    found["run"] = sorted(os.listdir(f"{engine.base}/e/containers"))
    found["snapshots"] = sorted(
        str(path) for path in Path(f"{engine.base}/d/snapshots").glob("*/*") if "/work" not in str(path)
    )
    found["names"] = sorted(one["Id"] for one in engine.request("GET", "/containers/json?all=1")[1])
    return found


# --- bodies and headers ---


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/containers/create", "text/plain", b"{}"),
        ("/containers/create", "text/plain; charset=utf-8", b"{}"),
        ("/containers/create", "application/jsonx", b"{}"),
        ("/containers/running/exec", "text/plain", b"{}"),
        ("/volumes/create", "application/x-tar", b"{}"),
        ("/volumes/create", "text/plain", b""),
    ],
)
def test_only_json_is_taken_for_json(kist: Kistd, places: object, path: str, kind: str, body: bytes) -> None:
    """Docker 28's words; dockerd 20.10 does not look at the type of most of these."""
    status, answer = kist.request("POST", f"/v1.41{path}", body, {"Content-Type": kind})
    wanted = {"message": f"unsupported Content-Type header ({kind}): must be 'application/json'"}
    assert (status, answer) == (400, wanted)


def test_a_body_without_a_type_is_refused(kist: Kistd) -> None:
    head = b"POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    status, body = talk(kist, head)
    assert status == 400
    assert b"malformed Content-Type header (): mime: no media type" in body


def test_no_body_is_as_good_as_an_empty_object(kist: Kistd) -> None:
    status, volume = kist.request("POST", "/v1.41/volumes/create")
    assert status == 201
    assert kist.request("DELETE", f"/volumes/{volume['Name']}")[0] == 204


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b'{"Labels":' + b"[" * 50_000 + b"]" * 50_000])
def test_deep_nesting_is_refused_in_gos_words(kist: Kistd, body: bytes) -> None:
    status, answer = kist.request("POST", "/v1.41/containers/create", body)
    assert (status, answer["message"]) == (400, "invalid JSON: exceeded max depth")


def test_deep_filters_are_refused(kist: Kistd) -> None:
    assert kist.request("GET", f"/v1.41/containers/json?filters={'[' * 60_000}") == (
        400,
        {"message": "invalid filter"},
    )


def test_a_huge_body_is_refused_and_the_client_gets_to_know(kist: Kistd) -> None:
    """Longer than what is taken for JSON; the answer arrives though the client is still sending."""
    status, answer = kist.request("POST", "/v1.41/containers/create", b'{"Image":"' + b"a" * (40 << 20) + b'"}')
    assert status == 400
    assert answer["message"].startswith("the request body is too large")


def test_a_body_for_nobody_does_not_cost_the_answer(kist: Kistd) -> None:
    assert kist.request("POST", "/v1.41/nosuch", b"a" * (40 << 20)) == (404, {"message": "page not found"})


# --- what is hardly HTTP ---

_CREATE = b"POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GARBAGE = {
    "no HTTP at all": b"GARBAGE\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
    "no version": b"GET /info\r\n\r\n",
    "negative length": _CREATE + b"Content-Length: -5\r\n\r\n",
    "absurd length": _CREATE + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "a word as length": _CREATE + b"Content-Length: abc\r\n\r\n",
    "two lengths": _CREATE + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "length before an upgrade": _CREATE
    + b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 9999999999999999999999"
    b"\r\n\r\n",
    "long header": b"GET /_ping HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (2 << 20) + b"\r\n\r\n",
    "endless header": b"GET /_ping HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (8 << 20),
    "long line": b"GET /" + b"a" * (2 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "many headers": b"GET /_ping HTTP/1.1\r\nHost: x\r\n"
    + b"".join(b"X%d: y\r\n" % n for n in range(200_000))
    + b"\r\n",
    "half a megabyte of header": b"GET /_ping HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (500 << 10) + b"\r\n\r\n",
    "no colon": b"GET /_ping HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n",
    "a space in a name": b"GET /_ping HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n",
    "NUL in a value": b"GET /_ping HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
    "nothing": b"",
    "unknown method": b"PROPFIND /_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "length and chunks": _CREATE + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "body that is cut": _CREATE + b'Content-Length: 100\r\n\r\n{"Image":',
    "chunk that is cut": _CREATE + b'Transfer-Encoding: chunked\r\n\r\n20\r\n{"Image"',
    "chunk without a size": _CREATE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "invented method": b"BREW /_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "invented encoding": _CREATE + b"Transfer-Encoding: bogus\r\n\r\n",
    "version 9.9": b"GET /_ping HTTP/9.9\r\nHost: x\r\n\r\n",
    "head that is cut": b"GET /_ping HTTP/1.1\r\nHost:",
}
# Where the status differs: (kist's, why).
OTHER_STATUS = {
    "length and chunks": (400, "a request that can be read in two ways is not read at all; Go takes the chunks"),
    "body that is cut": (400, "the client broke off: not the engine's fault"),
    "chunk that is cut": (400, "the client broke off: not the engine's fault"),
    "chunk without a size": (400, "the client's fault, not the engine's"),
    "invented method": (400, "the parser knows the methods that there are; Go's routes any word"),
    "invented encoding": (400, "the parser does not tell it from other nonsense"),
    "version 9.9": (400, "the parser does not tell it from other nonsense"),
    "head that is cut": (0, "nobody is there any more to be answered"),
}


def talk(engine: Kistd, data: bytes) -> tuple[int, bytes]:
    """Sends bytes and the end; (status or 0 for none, body). Raises TimeoutError for an engine that hangs."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(engine.socket)
        got = b""
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass
        try:
            while piece := client.recv(65536):
                got += piece
        except ConnectionResetError:
            pass
    head, _, body = got.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]) if head else 0), body


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_refused_alike(kist: Kistd, dockerd: Kistd, places: object, name: str) -> None:
    ours, theirs = talk(kist, GARBAGE[name])[0], talk(dockerd, GARBAGE[name])[0]
    if name in OTHER_STATUS:
        assert ours == OTHER_STATUS[name][0]
        assert ours != theirs
    else:
        assert ours == theirs
    assert kist.request("GET", "/_ping") == (200, b"OK")


def test_none_of_this_made_kistd_stumble(kist: Kistd) -> None:
    """Runs last: whatever was sent, no handler fell over."""
    assert "Traceback" not in kist.log()
    assert "internal error" not in kist.log()
