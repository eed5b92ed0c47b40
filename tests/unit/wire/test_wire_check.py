"""What is held against the models in every test is really noticed when it is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests import contract
from tests.wire_check import WrongAnswer, check, check_file

JSON = "application/json"
VOLUME = {
    "CreatedAt": "2026-01-01T00:00:00Z", "Driver": "local", "Labels": None, "Mountpoint": "/v", "Name": "v",
    "Options": None, "Scope": "local",
}  # fmt: skip
DESCRIBED = {
    "Id": "sha256:1", "ParentId": "", "RepoTags": [], "RepoDigests": [], "Created": 1, "Size": 1, "SharedSize": -1,
    "Labels": None, "Containers": 0,
}  # fmt: skip


def _body(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_right_answers_pass() -> None:
    check("GET", "/v1.51/volumes/v?x=1", 200, JSON, _body(VOLUME))
    check("GET", "/volumes/v", 404, JSON, b'{"message":"no such volume"}')
    check("DELETE", "/volumes/v", 204, "", b"")
    check("HEAD", "/nothing", 404, "", b"")
    check("GET", "/containers/c/logs", 200, "application/vnd.docker.raw-stream", b"\0")
    check("GET", "/v1.43/images/json", 200, JSON, _body([DESCRIBED | {"VirtualSize": 1}]))


@pytest.mark.parametrize(
    ("path", "status", "kind", "body", "why"),
    [
        ("/nothing", 200, JSON, b"{}", "no model"),
        ("/volumes/v", 200, JSON, _body(VOLUME | {"More": 1}), "unknown field `More`"),
        ("/volumes/v", 200, JSON, _body({**VOLUME, "Name": 1}), "Expected `str`"),
        ("/volumes/v", 200, JSON, _body({**VOLUME, "Name": None}), "Expected `str`"),
        ("/volumes/v", 200, JSON, _body({**VOLUME, "Scope": "here"}), "Invalid enum value"),
        ("/volumes/v", 200, JSON, _body({key: VOLUME[key] for key in VOLUME if key != "Name"}), "missing required"),
        ("/volumes/v", 404, "text/plain", b"no such volume", "instead of JSON"),
        ("/volumes/v", 404, JSON, b'{"Message":"no such volume"}', "unknown field"),
        ("/events", 200, JSON, b'{"Type":"image"}\n', "missing required"),
        ("/v1.44/images/json", 200, JSON, _body([DESCRIBED | {"VirtualSize": 1}]), "versions before 1.44"),
        ("/v1.48/info", 200, JSON, b"{}", "missing required"),
    ],
)
def test_wrong_answers_do_not(path: str, status: int, kind: str, body: bytes, why: str) -> None:
    for _ in range(2):  # also not when it was seen before
        with pytest.raises(WrongAnswer, match=why):
            check("GET", path, status, kind, body)


@pytest.mark.skipif(contract.load() is None, reason=contract.MISSING)
def test_the_contract_is_asked_too() -> None:
    with pytest.raises(AssertionError, match="not as the contract says"):
        contract.check_answer("volume", "GET", "/volumes/{name}", 200, {**VOLUME, "Mountpoint": 1})
    with pytest.raises(AssertionError, match="is a required property"):
        contract.check_answer("volume", "GET", "/volumes/{name}", 200, {})
    assert contract.check_answer("volume", "GET", "/volumes/{name}", 200, VOLUME)


def test_what_was_written_down_is_checked_once(tmp_path: Path) -> None:
    file = tmp_path / "answers"
    line = {"method": "GET", "target": "/volumes/v", "status": 200, "type": JSON}
    assert check_file(file) == 0
    file.write_bytes(_body({**line, "body": json.dumps(VOLUME)}) + b"\n")
    offset = check_file(file)
    assert offset == file.stat().st_size
    with file.open("ab") as more:
        more.write(_body({**line, "body": "{}"}) + b"\n")
    with pytest.raises(WrongAnswer):
        check_file(file, offset)
