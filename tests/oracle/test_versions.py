"""Which fields answers have in versions dockerd 20.10 speaks, and which of them are null, empty or absent.

Values are not compared, only their kinds: null, "", 0, false, [] and {} against something.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from tests.conftest import Kistd

VERSIONS = ("1.24", "1.30", "1.40", "1.41")
PATHS = {
    "container": "/containers/shown/json",
    "container with size": "/containers/shown/json?size=1",
    "idle container": "/containers/idle/json",
    "containers": "/containers/json?all=1&size=1",
    "image": "/images/busybox/json",
    "images": "/images/json",
    "history": "/images/busybox/history",
    "info": "/info",
    "version": "/version",
    "usage": "/system/df",
    "exec": "/exec/{exec}/json",
    "network": "/networks/bridge",
    "networks": "/networks",
    "volume": "/volumes/shown-volume",
    "volumes": "/volumes",
    "events": "/events?since={begin}&until={end}",
    "processes": "/containers/shown/top",
}
# Where the two differ and why, as `endpoint path`.
ALLOWED = re.compile(
    r"""
    .*\.GraphDriver\.Data.*                     # drivers have facts of their own
    | .*\.(DNSNames|GwPriority|EnableIPv4):.*   # dockerd 28 tells these in every version
    | .*\.RepoDigests.*                         # kist keeps the manifests of what is loaded
    | .*\.MaskedPaths:.*                        # grew since
    | .*\.RestartPolicy\.Name:.*                # dockerd 28 writes "no"
    | .*\.HostConfig\.Runtime:.*                # written down by create
    | .*\.Ports(\.80/tcp)?:\ list\ of.*         # kist publishes on IPv4 only
    | network.*\.IPAM\.Config.*\.Gateway:.*     # dockerd 28 tells it
    | networks.*(IPAM|Options|Containers)\[?.*  # for which bridge of dockerd's fills later
    | info\ \.(BridgeNf|CDISpecDirs|ContainerdCommit|RuncCommit|DriverStatus|LiveRestore|Plugins|RegistryConfig).*
    | info\ \.(Runtimes|SecurityOptions|KernelMemory|ExecutionDriver|InitCommit|InitBinary|Warnings|OSVersion).*
    | info\ \.(Containers|Images|NFd|NEventsListener).*  # shared with other tests
    | usage\ \.BuildCache:.*                    # dockerd 28 says [] for none
    | usage\ \.Volumes.*UsageData.*
    | version\ \.(BuildTime|Components|GoVersion|Platform).*
    | events\ .*\.propagation.*
    """,
    re.VERBOSE,
)


@pytest.fixture(scope="module")
def shown(kist: Kistd, dockerd: Kistd) -> dict[str, dict[str, str]]:
    return {"kist": prepare(kist), "dockerd": prepare(dockerd)}


def prepare(engine: Kistd) -> dict[str, str]:
    """The same containers, volume and exec; what stands in the paths."""
    for name in ("shown", "idle"):
        engine.request("DELETE", f"/containers/{name}?force=1&v=1")
    begin = f"{time.time():.6f}"
    body = {
        "Image": "busybox", "Cmd": ["sleep", "1000"], "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"},
        "HostConfig": {"Binds": ["shown-volume:/v"], "PortBindings": {"80/tcp": [{"HostPort": ""}]}},
    }  # fmt: skip
    assert engine.request("POST", "/v1.41/containers/create?name=shown", body)[0] == 201
    assert engine.request("POST", "/containers/shown/start")[0] == 204
    idle = {"Image": "busybox", "Cmd": ["true"]}
    assert engine.request("POST", "/v1.41/containers/create?name=idle", idle)[0] == 201
    made = engine.request("POST", "/v1.41/containers/shown/exec", {"Cmd": ["true"]})[1]
    assert engine.request("POST", f"/exec/{made['Id']}/start", {"Detach": True})[0] == 200
    deadline = time.monotonic() + 10
    while engine.request("GET", f"/exec/{made['Id']}/json")[1]["Running"] and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.05)
    return {"exec": made["Id"], "begin": begin, "end": f"{time.time():.6f}"}


def ask(engine: Kistd, version: str, path: str, places: dict[str, str]) -> Any:
    status, answer = engine.request("GET", f"/v{version}{path.format(**places)}")
    assert status == 200, answer
    if isinstance(answer, bytes):
        answer = [json.loads(line) for line in answer.splitlines()]
    if isinstance(answer, dict) and isinstance(answer.get("Containers"), dict):
        answer["Containers"] = list(answer["Containers"].values())
    return answer


def ordered(values: list[Any]) -> list[Any]:
    """Lists whose order is nobody's business (dockerd's Mounts come from a map)."""
    return sorted(values, key=lambda one: str(one.get("Destination") or one.get("Names") or one.get("Name") or "")
                  if isinstance(one, dict) else "")  # fmt: skip


def kind(value: Any) -> str:
    if isinstance(value, dict | list) and value:
        return f"list of {len(value)}" if isinstance(value, list) else "object"
    if isinstance(value, bool) or value in (None, "", 0) or not value:
        return json.dumps(value)
    return type(value).__name__


def differences(theirs: Any, ours: Any, path: str = "") -> list[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict) and theirs and ours:
        found = []
        for key in sorted({*theirs, *ours}):
            if key in theirs and key in ours:
                found += differences(theirs[key], ours[key], f"{path}.{key}")
            else:
                found.append(f"{path}.{key}: only {'dockerd' if key in theirs else 'kist'} has it")
        return found
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        pairs = zip(ordered(theirs), ordered(ours), strict=True)
        return [one for n, (left, right) in enumerate(pairs) for one in differences(left, right, f"{path}[{n}]")]
    return [] if kind(theirs) == kind(ours) else [f"{path}: {kind(theirs)} from dockerd, {kind(ours)} from kist"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", PATHS)
def test_fields_are_dockerds(
    kist: Kistd, dockerd: Kistd, shown: dict[str, dict[str, str]], name: str, version: str
) -> None:
    theirs = ask(dockerd, version, PATHS[name], shown["dockerd"])
    ours = ask(kist, version, PATHS[name], shown["kist"])
    found = [f"{name} {one}" for one in differences(theirs, ours)]
    assert [one for one in found if not ALLOWED.fullmatch(one)] == []
