"""Real answers of a running engine against the contract, for all main endpoints, whatever the other tests ask for."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests import contract, wire_check
from tests.conftest import Kistd

pytestmark = pytest.mark.skipif(contract.load() is None, reason=contract.MISSING)

HOST = {
    "Binds": ["/tmp:/t:ro", "answers:/v"],
    "Tmpfs": {"/x": "size=1m"},
    "Mounts": [{"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 448}},
               {"Type": "bind", "Source": "/var/tmp", "Target": "/b", "BindOptions": {"Propagation": "rprivate"}}],
    "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
    "Memory": 64 << 20, "PidsLimit": 50, "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
    "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/n", "CgroupPermissions": "r"}],
    "Annotations": {"who": "me"}, "ExtraHosts": ["a:127.0.0.1"], "CapAdd": ["NET_RAW"], "Init": True,
    "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
}  # fmt: skip
BODY = {
    "Image": "busybox", "Cmd": ["sleep", "60"], "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}, "81/udp": {}},
    "Env": ["A=B"], "StopSignal": "SIGINT", "StopTimeout": 1, "Volumes": {"/anonymous": {}}, "HostConfig": HOST,
    "Healthcheck": {"Test": ["NONE"]},
}  # fmt: skip


class Asked:
    """Answers by endpoint, each held against the contract when it comes."""

    def __init__(self, engine: Kistd) -> None:
        self._engine, self.held = engine, set[str]()

    def __call__(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        code, answer = self._engine.request(method, path, body)
        assert code == status, (method, path, answer)
        endpoint = wire_check.find(method, path.partition("?")[0])
        assert endpoint is not None
        for one in answer.splitlines() if isinstance(answer, bytes) else [json.dumps(answer)]:
            if contract.check_answer(path, method, endpoint.path, status, json.loads(one)):
                self.held.add(f"{method} {endpoint.path}")
        return answer


def test_answers_are_as_the_contract_says(engine: Kistd) -> None:
    ask, since = Asked(engine), time.time()
    _containers(ask, engine)
    for path in ("/images/json", "/images/busybox/json", "/images/busybox/history", "/volumes", "/volumes/answers",
                 "/networks", "/networks/bridge", "/networks/none", "/version", "/info", "/system/df"):  # fmt: skip
        ask("GET", path)
    engine.request("POST", "/images/busybox/tag?repo=answers&tag=1")
    assert ask("DELETE", "/images/answers:1") == [{"Untagged": "answers:1"}]
    assert engine.request("POST", "/containers/answers/kill")[0] == 204
    assert ask("POST", "/containers/answers/wait")["StatusCode"] == 137
    ask("GET", "/containers/answers/json")
    assert b"exec_create" in ask("GET", f"/events?since={since:.9f}&until={time.time():.9f}")
    assert engine.request("DELETE", "/containers/answers?v=1")[0] == 204
    _waits(ask, engine)
    ask("POST", "/volumes/create", {"Name": "answers2", "Labels": {"x": "y"}}, 201)
    for path in ("/volumes/prune?filters={%22all%22:[%22true%22]}", "/images/prune", "/networks/prune"):
        ask("POST", path)
    assert len(ask.held) >= 21, sorted(ask.held)


def test_what_other_clients_are_answered_is_written_down_to_be_checked(engine: Kistd) -> None:
    engine.ok("image", "inspect", "busybox")
    engine.docker("image", "inspect", "nosuchimage")
    lines = [json.loads(line) for line in Path(f"{engine.base}/answers").read_text().splitlines()]
    found = {(one["target"].partition("/images")[2], one["status"]) for one in lines if "/images/" in one["target"]}
    assert {("/busybox/json", 200), ("/nosuchimage/json", 404)} <= found


def _waits(ask: Asked, engine: Kistd) -> None:
    """Answered by the monitor, not by kistd: the end comes after the head."""
    ask("POST", "/containers/create?name=ends", {"Image": "busybox", "Cmd": ["sh", "-c", "sleep 0.5; exit 7"]}, 201)
    assert engine.request("POST", "/containers/ends/start")[0] == 204
    assert ask("POST", "/containers/ends/wait") == {"StatusCode": 7}


def _containers(ask: Asked, engine: Kistd) -> None:
    ask("POST", "/containers/create?name=answers", BODY, 201)
    ask("GET", "/containers/answers/json")
    assert engine.request("POST", "/containers/answers/start")[0] == 204
    shown = ask("GET", "/containers/answers/json?size=1")
    assert shown["HostConfig"]["Annotations"] == {"who": "me"}
    listed = ask("GET", "/containers/json?all=1&size=1")
    assert listed[0]["HostConfig"] == {"NetworkMode": "bridge", "Annotations": {"who": "me"}}
    ask("GET", "/containers/answers/top")
    made = ask("POST", "/containers/answers/exec", {"Cmd": ["true"], "DetachKeys": "ctrl-p,ctrl-q"}, 201)
    assert ask("GET", f"/exec/{made['Id']}/json")["ExitCode"] is None
    assert engine.request("POST", f"/exec/{made['Id']}/start", {})[0] == 200
    ended = ask("GET", f"/exec/{made['Id']}/json")
    assert (ended["ExitCode"], ended["DetachKeys"]) == (0, "EBE=")
    made = ask("POST", "/containers/answers/exec", {"Cmd": ["true"]}, 201)
    assert ask("GET", "/containers/answers/json")["ExecIDs"] == [made["Id"]]
    assert ask("GET", f"/exec/{made['Id']}/json")["DetachKeys"] == ""


def test_what_is_not_supported_is_refused_not_dropped(engine: Kistd) -> None:
    """Each with Docker's own command, which knows all of it; only `create` is asked, nothing is left behind."""
    for words, status, told in (
        (("--mount", "type=volume,src=vv,dst=/x,volume-opt=type=nfs"), 125, 'missing required option: "device"'),
        (
            ("--network", "bridge", "--network", "none"),
            125,
            "container cannot be connected to multiple networks with one",
        ),
        (("--no-healthcheck",), 0, ""),
    ):
        result = engine.docker("run", "--rm", *words, "busybox", "true")
        assert (result.status, told in result.errors) == (status, True), (words, result.errors)
    assert engine.request("GET", "/containers/json?all=1")[1] == []
