"""Successful requests at version 1.41: the same fields with the same types from kistd as from dockerd.

null, [] and {} are three different types here. What differs is listed with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import Kistd

PLAIN: dict[str, Any] = {"Image": "busybox", "Cmd": ["sleep", "1000"]}
RICH: dict[str, Any] = {
    "Image": "busybox",
    "Cmd": ["sh", "-c", "sleep 1000"],
    "Env": ["A=1"],
    "Labels": {"a": "b"},
    "Hostname": "rich",
    "User": "daemon",
    "WorkingDir": "/tmp",
    "StopSignal": "SIGUSR1",
    "StopTimeout": 3,
    "Tty": True,
    "OpenStdin": True,
    "ExposedPorts": {"80/tcp": {}, "99/tcp": {}},
    "Volumes": {"/anonymous": {}},
    "HostConfig": {
        "Binds": ["/usr/share:/host:ro", "answers:/volume"],
        "Mounts": [{"Type": "tmpfs", "Target": "/mem"}],
        "Tmpfs": {"/t": "size=1m"},
        "Memory": 1 << 26,
        "NanoCpus": 500000000,
        "PidsLimit": 100,
        "CapAdd": ["NET_ADMIN"],
        "CapDrop": ["CHOWN"],
        "SecurityOpt": ["no-new-privileges"],
        "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18199"}]},
        "Dns": ["9.9.9.9"],
        "ExtraHosts": ["a:1.2.3.4"],
        "Sysctls": {"net.ipv4.ip_forward": "0"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
        "CgroupnsMode": "private",
        "Init": True,
        "ReadonlyRootfs": True,
        "ShmSize": 1 << 20,
        "OomScoreAdj": 100,
        "GroupAdd": ["7"],
    },
}
QUESTIONS = (
    "/containers/plain/json", "/containers/plain/json?size=1", "/containers/rich/json", "/containers/made/json",
    "/containers/ended/json", "/containers/json?all=1", "/containers/json?all=1&size=1", "/images/busybox/json",
    "/images/json", "/images/busybox/history", "/volumes", "/volumes/answers", "/networks", "/networks/bridge",
    "/networks/none", "/version", "/info", "/system/df", "/exec/{X}/json", "/containers/plain/top",
)  # fmt: skip


def prepare(engine: Kistd) -> str:
    """Containers in every state and an exec. The exec's id."""
    for one in engine.request("GET", "/containers/json?all=1")[1]:
        engine.request("DELETE", f"/containers/{one['Id']}?force=1&v=1")
    bodies = {"plain": PLAIN, "rich": RICH, "made": PLAIN, "ended": {**PLAIN, "Cmd": ["false"]}}
    for name, body in bodies.items():
        status, answer = engine.request("POST", f"/v1.41/containers/create?name={name}", body)
        assert status == 201, answer
        if name != "made":
            assert engine.request("POST", f"/v1.41/containers/{name}/start")[0] == 204
    engine.request("POST", "/v1.41/containers/ended/wait")
    _, made = engine.request("POST", "/v1.41/containers/plain/exec", {"Cmd": ["true"], "AttachStdout": True})
    engine.request("POST", f"/v1.41/exec/{made['Id']}/start", {})
    return str(made["Id"])


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """(where, type, value) of everything; elements of a list share one place, as do keys that are ids."""
    kind = {dict: "object", list: "list", str: "text", bool: "bool", int: "number", type(None): "null"}[type(value)]
    if value in ({}, []) and isinstance(value, dict | list):
        kind = f"empty {kind}"
    yield path, kind, None if isinstance(value, dict | list) else value
    if isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(one, f"{path}.{'ID' if re.fullmatch('[0-9a-f]{64}', key) else key}")
    elif isinstance(value, list):
        named = all(isinstance(one, dict) and ("Names" in one or "Name" in one) for one in value)
        for one in value:
            label = (one.get("Names") or [one.get("Name")])[0] if named else ""
            label = "ID" if re.fullmatch("[0-9a-f]{64}", label) else label
            yield from leaves(one, f"{path}[{label}]")


# Place (a regular expression over the whole of it), and why the two differ there.
_DRIVER = "the snapshot driver has its own name and tells its own directory"
_FIELDS_28 = "a field that 28 sends at every version and 20.10 does not know"
_GONE = "a field of kernel memory, which 28 no longer has"
_HOST = "of this engine: its name, version, roots, parts"
_DIGESTS = "kist keeps the manifests of loaded images, so they have digests"
DIFFERENCES = (
    (r".*\.GraphDriver\.(Name|Data(\..*)?)|\.Driver|\.DriverStatus.*", _DRIVER),
    (r".*\.(DNSNames|GwPriority|EnableIPv4|CDISpecDirs(\[\])?)", _FIELDS_28),
    (r".*\.(KernelMemory|KernelMemoryTCP)|\.BuilderSize", _GONE),
    (r".*\.RepoDigests(\[\])?", _DIGESTS),
    (r".*\.HostConfig\.NetworkMode", "`default` is kept as `bridge` since 26.0 (moby 47431)"),
    (r"\.HostConfig\.RestartPolicy\.Name", "no policy is called `no` since 25.0"),
    (r"\.HostConfig\.CgroupnsMode", "kist gives a cgroup namespace on v1 too"),
    (r"\.HostConfig\.MaskedPaths\[\]", "28 masks two more"),
    (r".*\.Runtime", "the runtime's name; 20.10 leaves it out until the start"),
    (r"\.NetworkSettings\.SandboxKey", "a file of libnetwork; kist's namespaces are their processes'"),
    (r".*IPAM\.Config\[\]\.Gateway", "28 tells the gateway of the default bridge"),
    (r".*\.Options\.com\.docker\.network\.bridge\.name", _HOST),
    (r"\.(ApiVersion|MinAPIVersion|GitCommit|GoVersion|BuildTime|Version|Platform\.Name)|\.Components.*", _HOST),
    (
        r"\.(BridgeNf\w+|\w+Commit\..*|DefaultRuntime|Runtimes\..*|DockerRootDir|InitBinary|LiveRestoreEnabled|NFd)",
        _HOST,
    ),
    (r"\.(NGoroutines|Plugins\..*|RegistryConfig\..*|SecurityOptions\[\]|ServerVersion|SystemTime|ID)", _HOST),
    (
        r"\.Volumes\[ID\]\.Labels(\.com\.docker\.volume\.anonymous)?",
        "a label of volumes that the engine named, which 20.10 has not",
    ),
    (r"\.BuildCache", "kist builds nothing yet"),
)
# What is another's in every container or run: only the types are compared.
PASSING = (
    r".*(Id|ID|Created|CreatedAt|At|Pid|Status|Path|Source|Mountpoint|Hostname|MacAddress|IPAddress|Size|SizeRootFs|"
    r"LayersSize|SizeRw|RootDir|EndpointID|SandboxID|Image|ImageID)|.*Processes.*|.*\.Mounts\[.*\]\.(Name|Source)|"
    r".*\.(Containers|Volumes)\[.*\]\.Name|.*\.UsageData\..*|.*\.Containers\.ID\..*|.*Titles.*|.*\.LastTagTime|.*CanRemove"
)


def told(engine: Kistd, question: str, exec_id: str) -> dict[str, tuple[list[str], list[str]]]:
    status, answer = engine.request("GET", f"/v1.41{question.replace('{X}', exec_id)}")
    assert status == 200, answer
    found: dict[str, tuple[list[str], list[str]]] = {}
    for path, kind, value in leaves(answer):
        kinds, values = found.setdefault(path, ([], []))
        kinds.append(kind)
        values.append(str(value))
    return {path: (sorted(set(kinds)), sorted(values)) for path, (kinds, values) in found.items()}


def unlike(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, str]:
    """Place: what is told there."""
    found = {}
    for path in {**ours, **theirs}:
        mine, other = ours.get(path), theirs.get(path)
        if mine is None or other is None or mine[0] != other[0]:
            found[path] = f"kist {mine}, dockerd {other}"
        elif mine[1] != other[1] and not re.fullmatch(PASSING, path):
            found[path] = f"kist {mine[1]}, dockerd {other[1]}"
    return found


@pytest.fixture(scope="module")
def answers(kist: Kistd, dockerd: Kistd) -> dict[str, dict[str, str]]:
    """Per question what differs."""
    ids = {engine.base: prepare(engine) for engine in (kist, dockerd)}
    return {
        question: unlike(told(kist, question, ids[kist.base]), told(dockerd, question, ids[dockerd.base]))
        for question in QUESTIONS
    }


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_have_the_same_form(answers: dict[str, dict[str, str]], question: str) -> None:
    different = {
        path: what
        for path, what in answers[question].items()
        if not any(re.fullmatch(pattern, path) for pattern, _ in DIFFERENCES)
    }
    assert different == {}


def test_every_difference_of_the_list_is_seen(answers: dict[str, dict[str, str]]) -> None:
    places = {path for found in answers.values() for path in found}
    for pattern, why in DIFFERENCES:
        assert any(re.fullmatch(pattern, path) for path in places), (pattern, why)
