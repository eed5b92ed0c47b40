"""The typed models against dockerd itself: what Debian's dockerd (API 1.41) answers fits them, but for what came later.

The contract does not tell what may be null or missing; dockerd does.
"""

from __future__ import annotations

import json
import time
from typing import Any

from tests import wire_check
from tests.oracle.conftest import Dockerd

BODY = {
    "Image": "busybox", "Cmd": ["sleep", "60"], "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}},
    "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": ""}]}, "Binds": ["/tmp:/t:ro", "models:/v"],
                   "Tmpfs": {"/x": "size=1m"}, "Mounts": [{"Type": "tmpfs", "Target": "/m"}], "Init": True,
                   "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}]},
}  # fmt: skip
GETS = (
    "/containers/models/json", "/containers/models/json?size=1", "/containers/json?all=1", "/containers/json?size=1",
    "/containers/models/top", "/images/json", "/images/busybox/json", "/images/busybox/history", "/volumes",
    "/volumes/models", "/networks", "/networks/bridge", "/networks/host", "/version", "/info", "/system/df",
    "/containers/nosuch/json",
)  # fmt: skip


def today(value: Any) -> Any:
    """An answer of 1.41 with the fields that later engines always send; null where they send an empty list."""
    if isinstance(value, list):
        return [today(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: today(one) for key, one in value.items()}
    if "IPAMConfig" in found:
        found |= {"GwPriority": 0, "DNSNames": None}
    if "IPAM" in found:
        found |= {"EnableIPv4": True}
    if "CgroupDriver" in found:
        found |= {"CDISpecDirs": None}
    if "RepoDigests" in found:
        found["RepoDigests"] = found["RepoDigests"] or []
    if "StatusCode" in found and found["Error"] is None:
        del found["Error"]
    return found


class Asked:
    def __init__(self, dockerd: Dockerd) -> None:
        self._dockerd, self.held = dockerd, set[str]()

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self._dockerd.request(method, path, body)
        lines = answer.splitlines() if isinstance(answer, bytes) else [json.dumps(today(answer)).encode()]
        for one in lines:
            wire_check.check(method, f"/v1.41{path}", status, "application/json", one)
            self.held.add(f"{method} {path}")
        return answer


def test_what_dockerd_answers_fits_the_models(dockerd: Dockerd) -> None:
    ask, since = Asked(dockerd), int(time.time())
    ask("POST", "/containers/create?name=models", BODY)
    try:
        ask("GET", "/containers/models/json")
        assert dockerd.request("POST", "/containers/models/start")[0] == 204
        exec_id = ask("POST", "/containers/models/exec", {"Cmd": ["true"], "DetachKeys": "ctrl-p", "User": "root"})[
            "Id"
        ]
        ask("GET", f"/exec/{exec_id}/json")
        for path in GETS:
            ask("GET", path)
        ask("POST", f"/exec/{exec_id}/start", {"Detach": True})
        dockerd.request("POST", "/images/busybox/tag?repo=models&tag=1")
        ask("DELETE", "/images/models:1")
        dockerd.request("POST", "/containers/models/kill")
        ask("POST", "/containers/models/wait")
        ask("GET", f"/exec/{exec_id}/json")
        ask("GET", "/containers/models/json")
        ask("GET", f"/events?since={since}&until={int(time.time()) + 1}")
    finally:
        dockerd.request("DELETE", "/containers/models?force=1&v=1")
    for path in ("/volumes/prune", "/images/prune", "/networks/prune"):
        ask("POST", path)
    assert len(ask.held) >= 25
