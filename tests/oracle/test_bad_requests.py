"""Requests that must fail, put to kistd and to dockerd: the same status, the same message."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.conftest import Kistd

# METHOD PATH [BODY]; {C} is a running container, {S} a stopped one, {X} a finished exec. All at version 1.41.
REQUESTS = """
GET /nosuch
POST /containers/json
GET /containers/json?filters=nojson
GET /containers/json?filters={"status":["bogus"]}
GET /containers/json?filters={"nosuch":["x"]}
GET /containers/json?filters={"exited":["x"]}
GET /containers/json?filters={"before":["nosuch"]}
GET /containers/json?filters={"health":["bogus"]}
GET /containers/json?filters=[]
GET /containers/json?limit=x
GET /containers/nosuch/json
GET /containers/nosuch/logs?stdout=1
GET /containers/{C}/logs
GET /containers/{C}/logs?stdout=1&since=bogus
GET /containers/{C}/logs?stdout=1&until=bogus
GET /containers/nosuch/top
GET /containers/{S}/top
GET /containers/{C}/top?ps_args=-Z%20bogus
POST /containers/nosuch/start
POST /containers/{C}/start
POST /containers/nosuch/stop
POST /containers/{S}/stop
POST /containers/{C}/stop?t=x
POST /containers/nosuch/kill
POST /containers/{S}/kill
POST /containers/{C}/kill?signal=BOGUS
POST /containers/{C}/kill?signal=999
POST /containers/nosuch/restart
POST /containers/{C}/restart?t=x
POST /containers/nosuch/wait
POST /containers/{C}/wait?condition=bogus
POST /containers/nosuch/rename?name=other
POST /containers/{S}/rename
POST /containers/{S}/rename?name={C}
POST /containers/{S}/rename?name=bad/name
POST /containers/{S}/rename?name={S}
POST /containers/nosuch/resize?h=1&w=1
POST /containers/{C}/resize?h=x&w=1
POST /containers/{C}/resize?h=1
POST /containers/{S}/resize?h=1&w=1
DELETE /containers/nosuch
DELETE /containers/{C}
DELETE /containers/{C}?link=1
POST /containers/nosuch/attach?stream=1
POST /containers/nosuch/exec {"Cmd":["true"]}
POST /containers/{S}/exec {"Cmd":["true"]}
POST /containers/{C}/exec {"Cmd":[]}
POST /containers/{C}/exec {}
POST /containers/{C}/exec nojson
POST /containers/{C}/exec {"Cmd":5}
POST /exec/nosuch/start {}
POST /exec/{X}/start {"Detach":true}
POST /exec/nosuch/resize?h=1&w=1
GET /exec/nosuch/json
POST /exec/{X}/resize?h=1&w=1
POST /containers/create
POST /containers/create nojson
POST /containers/create {}
POST /containers/create []
POST /containers/create "text"
POST /containers/create {"Image":"nosuch"}
POST /containers/create {"Image":"UPPER"}
POST /containers/create {"Image":"busybox","Cmd":5}
POST /containers/create {"Image":5}
POST /containers/create {"Image":"busybox","Env":"A=1"}
POST /containers/create {"Image":"busybox","Labels":[]}
POST /containers/create {"Image":"busybox"} trailing
POST /containers/create?name=bad/name {"Image":"busybox"}
POST /containers/create?name=x {"Image":"busybox"}
POST /containers/create?name={C} {"Image":"busybox"}
POST /containers/create {"Image":"busybox","WorkingDir":"relative"}
POST /containers/create {"Image":"busybox","StopSignal":"BOGUS"}
POST /containers/create {"Image":"busybox","Env":["=x"]}
POST /containers/create {"Image":"busybox","Env":[""]}
POST /containers/create {"Image":"busybox","ExposedPorts":{"x/tcp":{}}}
POST /containers/create {"Image":"busybox","ExposedPorts":{"80/bogus":{}}}
POST /containers/create {"Image":"busybox","Volumes":{"relative":{}}}
POST /containers/create {"Image":"busybox","Healthcheck":{"Test":["CMD","x"],"Interval":5}}
POST /containers/create {"Image":"busybox","HostConfig":{"Memory":1000}}
POST /containers/create {"Image":"busybox","HostConfig":{"Memory":"big"}}
POST /containers/create {"Image":"busybox","HostConfig":{"NanoCpus":9000000000000}}
POST /containers/create {"Image":"busybox","HostConfig":{"NanoCpus":-1}}
POST /containers/create {"Image":"busybox","HostConfig":{"NanoCpus":1000000000,"CpuPeriod":1000}}
POST /containers/create {"Image":"busybox","HostConfig":{"NanoCpus":1000000000,"CpuQuota":1000}}
POST /containers/create {"Image":"busybox","HostConfig":{"CpuPeriod":5}}
POST /containers/create {"Image":"busybox","HostConfig":{"CpuQuota":5}}
POST /containers/create {"Image":"busybox","HostConfig":{"CpusetCpus":"bogus"}}
POST /containers/create {"Image":"busybox","HostConfig":{"CpusetCpus":"99"}}
POST /containers/create {"Image":"busybox","HostConfig":{"CpusetMems":"bogus"}}
POST /containers/create {"Image":"busybox","HostConfig":{"CpusetMems":"99"}}
POST /containers/create {"Image":"busybox","HostConfig":{"MemorySwap":5}}
POST /containers/create {"Image":"busybox","HostConfig":{"MemorySwap":10000000}}
POST /containers/create {"Image":"busybox","HostConfig":{"Memory":100000000,"MemorySwap":5}}
POST /containers/create {"Image":"busybox","HostConfig":{"MemorySwappiness":500}}
POST /containers/create {"Image":"busybox","HostConfig":{"Memory":10000000,"MemoryReservation":20000000}}
POST /containers/create {"Image":"busybox","HostConfig":{"MemoryReservation":100}}
POST /containers/create {"Image":"busybox","HostConfig":{"KernelMemory":100}}
POST /containers/create {"Image":"busybox","HostConfig":{"BlkioWeight":5}}
POST /containers/create {"Image":"busybox","HostConfig":{"ShmSize":-1}}
POST /containers/create {"Image":"busybox","HostConfig":{"OomScoreAdj":5000}}
POST /containers/create {"Image":"busybox","HostConfig":{"PidsLimit":"x"}}
POST /containers/create {"Image":"busybox","HostConfig":{"Ulimits":[{"Name":"bogus","Soft":1,"Hard":1}]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Ulimits":[{"Name":"nofile","Soft":5,"Hard":1}]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Binds":["bogus"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Binds":["/tmp:relative"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Binds":["/tmp:/"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Binds":["/tmp:/t:bogus"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Binds":["/tmp:/t:ro,rw"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Binds":["a:b:c:d:e"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Binds":["bad*name:/t"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Binds":["/tmp:/t","/var:/t"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Binds":[":/t"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Binds":[""]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Mounts":[{"Type":"bogus","Source":"/tmp","Target":"/t"}]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Mounts":[{"Type":"bind","Source":"/nosuch","Target":"/t"}]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp"}]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Mounts":[{"Type":"bind","Target":"/t"}]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Mounts":[{"Type":"bind","Source":"relative","Target":"/t"}]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/t","VolumeOptions":{}}]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Mounts":[{"Type":"tmpfs","Source":"x","Target":"/t"}]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/t","BindOptions":{}}]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Mounts":[{"Type":"volume","Target":"/t","BindOptions":{}}]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Mounts":[{"Type":"volume","ReadOnly":true,"Target":"/t"},{"Type":"tmpfs","Target":"/t"}]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Tmpfs":{"relative":""}}}
POST /containers/create {"Image":"busybox","HostConfig":{"Tmpfs":{"/t":"bogus=1"}}}
POST /containers/create {"Image":"busybox","HostConfig":{"PortBindings":{"x/tcp":[]}}}
POST /containers/create {"Image":"busybox","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"x"}]}}}
POST /containers/create {"Image":"busybox","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"99999"}]}}}
POST /containers/create {"Image":"busybox","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"80","HostIp":"bogus"}]}}}
POST /containers/create {"Image":"busybox","HostConfig":{"NetworkMode":"container:"}}
POST /containers/create {"Image":"busybox","HostConfig":{"NetworkMode":"container:x","PortBindings":{"80/tcp":[{"HostPort":"80"}]}}}
POST /containers/create {"Image":"busybox","Hostname":"x","HostConfig":{"NetworkMode":"container:y"}}
POST /containers/create {"Image":"busybox","HostConfig":{"NetworkMode":"host","Links":["x:y"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"PidMode":"bogus"}}
POST /containers/create {"Image":"busybox","HostConfig":{"IpcMode":"bogus"}}
POST /containers/create {"Image":"busybox","HostConfig":{"UTSMode":"bogus"}}
POST /containers/create {"Image":"busybox","Hostname":"x","HostConfig":{"UTSMode":"host"}}
POST /containers/create {"Image":"busybox","HostConfig":{"UsernsMode":"bogus"}}
POST /containers/create {"Image":"busybox","HostConfig":{"CgroupnsMode":"bogus"}}
POST /containers/create {"Image":"busybox","HostConfig":{"RestartPolicy":{"Name":"bogus"}}}
POST /containers/create {"Image":"busybox","HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":3}}}
POST /containers/create {"Image":"busybox","HostConfig":{"RestartPolicy":{"Name":"always","MaximumRetryCount":3}}}
POST /containers/create {"Image":"busybox","HostConfig":{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":-3}}}
POST /containers/create {"Image":"busybox","HostConfig":{"RestartPolicy":{"Name":"always"},"AutoRemove":true}}
POST /containers/create {"Image":"busybox","HostConfig":{"CapAdd":["BOGUS"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"CapDrop":["BOGUS"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"SecurityOpt":["bogus"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"SecurityOpt":["bogus=1"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"SecurityOpt":["no-new-privileges=bogus"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"SecurityOpt":["seccomp=nojson"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"LogConfig":{"Type":"bogus"}}}
POST /containers/create {"Image":"busybox","HostConfig":{"LogConfig":{"Type":"json-file","Config":{"bogus":"1"}}}}
POST /containers/create {"Image":"busybox","HostConfig":{"LogConfig":{"Type":"json-file","Config":{"max-size":"x"}}}}
POST /containers/create {"Image":"busybox","HostConfig":{"ExtraHosts":["bogus"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"ExtraHosts":["a:bogus"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Dns":["bogus"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"DnsSearch":["bad name"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"VolumesFrom":["nosuch"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Runtime":"bogus"}}
POST /containers/create {"Image":"busybox","HostConfig":{"Isolation":"hyperv"}}
POST /containers/create {"Image":"busybox","HostConfig":{"Sysctls":[]}}
POST /containers/create {"Image":"busybox","HostConfig":{"Devices":"x"}}
POST /containers/create {"Image":"busybox","HostConfig":{"Links":["nosuch:x"]}}
POST /containers/create {"Image":"busybox","HostConfig":{"ConsoleSize":[1]}}
POST /containers/create {"Image":"busybox","NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}
POST /containers/create {"Image":"busybox","MacAddress":"bogus"}
GET /images/nosuch/json
GET /images/nosuch/history
GET /images/UPPER/json
GET /images/json?filters={"nosuch":["x"]}
GET /images/json?filters={"dangling":["x"]}
GET /images/json?filters={"before":["nosuch"]}
GET /images/json?filters=nojson
DELETE /images/nosuch
DELETE /images/busybox
POST /images/nosuch/tag?repo=a
POST /images/busybox/tag
POST /images/busybox/tag?repo=UPPER
POST /images/busybox/tag?repo=a&tag=bad/tag
POST /images/prune?filters=nojson
POST /images/prune?filters={"nosuch":["x"]}
POST /images/load nojson
GET /images/nosuch/get
GET /volumes?filters=nojson
GET /volumes?filters={"nosuch":["x"]}
GET /volumes/nosuch
DELETE /volumes/nosuch
POST /volumes/create nojson
POST /volumes/create {"Name":"bad/name"}
POST /volumes/create {"Name":"x"}
POST /volumes/create {"Name":"okay","Driver":"bogus"}
POST /volumes/create {"Name":"okay","DriverOpts":{"bogus":"1"}}
POST /volumes/prune?filters={"nosuch":["x"]}
GET /networks?filters=nojson
GET /networks?filters={"nosuch":["x"]}
GET /networks/nosuch
DELETE /networks/nosuch
DELETE /networks/bridge
DELETE /networks/host
GET /events?since=bogus
GET /events?filters=nojson
GET /events?since=5&until=3
POST /auth nojson
"""
LINES = [line for line in REQUESTS.strip().splitlines() if line]

# What differs on purpose, with the reason. A line that no longer differs must leave this list.
DIFFERENCES: dict[str, str] = {}


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
    for place, value in places.items():
        line = line.replace(place, value)
    method, path, *rest = line.split(" ", 2)
    path = path.replace('"', "%22").replace("{", "%7B").replace("}", "%7D").replace("[", "%5B").replace("]", "%5D")
    body = rest[0].encode() if rest else None
    headers = {"Content-Type": "application/json"} if body else None
    status, answer = engine.request(method, f"/v1.41{path}", body, headers)
    return status, normal(answer)


def normal(answer: Any) -> str:
    if isinstance(answer, dict) and set(answer) == {"message"}:
        text = answer["message"]
    elif isinstance(answer, bytes):
        text = answer.decode("utf-8", "replace").strip()
    else:
        text = json.dumps(answer)
    return re.sub(r"\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b", "ID", text)


@pytest.mark.parametrize("line", LINES)
def test_refused_alike(kist: Kistd, dockerd: Kistd, places: dict[str, dict[str, str]], line: str) -> None:
    ours = ask(kist, line, places[kist.base])
    theirs = ask(dockerd, line, places[dockerd.base])
    if line in DIFFERENCES:
        assert ours != theirs, "this no longer differs: take it from the list"
        assert ours[0] >= 400 or theirs[0] < 400, f"dockerd refuses this, kist does not: {theirs}"
    else:
        assert ours == theirs


def test_the_list_is_about_these_requests() -> None:
    assert len(LINES) >= 80
    assert set(DIFFERENCES) <= set(LINES)
