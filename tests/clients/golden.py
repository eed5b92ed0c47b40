"""What each endpoint answers in each version of the API, without what differs from run to run and host to host.

A golden file has one key for every answer that differs: "1.24 1.30 1.40" and so on name the versions that give it.
`python tests/clients/golden.py` (as root) writes the files anew; look at what changed before you commit it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.conftest import Kistd, UnixConnection  # noqa: E402  as a script it is found only now

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = ("1.24", "1.28", "1.30", "1.40", "1.41", "1.42", "1.43", "1.44", "1.45", "1.46", "1.47", "1.48", "1.49",
            "1.50", "1.51")  # fmt: skip

# Facts of the host and of this engine's build: what stands there is not the API's business, that it stands there is.
_HOST = frozenset({
    "ID", "Name", "KernelVersion", "OperatingSystem", "OSVersion", "Architecture", "NCPU", "MemTotal", "NFd",
    "DockerRootDir", "Driver", "DriverStatus", "SystemTime", "CgroupVersion", "CgroupDriver", "MemoryLimit",
    "SwapLimit",
    "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit", "IPv4Forwarding", "OomKillDisable",
    "ServerVersion", "Version", "Arch", "GitCommit", "HttpProxy", "HttpsProxy", "NoProxy", "Debug", "SecurityOptions",
    "BuildTime",
})  # fmt: skip
_HOST_ENDPOINTS = frozenset({"info", "version"})
_TIMES = frozenset({"time", "timeNano", "Created", "CreatedAt", "StartedAt", "FinishedAt", "LastTagTime"})
_SIZES = frozenset({"Size", "VirtualSize", "SizeRw", "SizeRootFs", "LayersSize", "SharedSize"})
_ADDRESSES = frozenset({"IPAddress", "Gateway", "MacAddress", "Subnet", "IPv4Address"})


class Scene:
    """Containers, images, an exec and a volume, and the requests that ask for them."""

    def __init__(self, engine: Kistd) -> None:
        self.engine = engine
        self.created = {version: self._warnings(version) for version in VERSIONS}
        engine.request("POST", "/kist/quiesce")
        self._begin = f"{time.time():.6f}"
        self._post("/volumes/create", {"Name": "golden-volume", "Labels": {"a": "b"}})
        self._post(
            "/containers/create?name=golden",
            {
                "Image": "busybox", "Cmd": ["sleep", "1000"], "Labels": {"kind": "golden"},
                "ExposedPorts": {"80/tcp": {}, "90/udp": {}}, "Env": ["A=b"], "Healthcheck": {"Test": ["NONE"]},
                "HostConfig": {
                    "Binds": ["golden-volume:/v"], "Tmpfs": {"/t": "size=1m"}, "Annotations": {"note": "yes"},
                    "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "28080"}]},
                    "Mounts": [{"Type": "tmpfs", "Target": "/m"}],
                },
            },
        )  # fmt: skip
        self._post("/containers/golden/start")
        self._post("/containers/create?name=golden-idle", {"Image": "busybox", "Cmd": ["true"], "Tty": True})
        self.exec_id = self._post("/containers/golden/exec", {"Cmd": ["sleep", "0"], "User": "daemon"})["Id"]
        self._post(f"/exec/{self.exec_id}/start", {"Detach": True})
        self._await_exec()
        self.ids = {one["Names"][0]: one["Id"] for one in self.get("/containers/json?all=1")}
        self.untagged = self._untagged()
        self._end = f"{time.time() + 0.001:.6f}"

    def _post(self, path: str, body: Any = None) -> Any:
        status, answer = self.engine.request("POST", path, body)
        assert status < 300, (path, status, answer)
        return answer

    def get(self, path: str) -> Any:
        status, answer = self.engine.request("GET", path)
        assert status == 200, (path, status, answer)
        if isinstance(answer, bytes):
            return [json.loads(line) for line in answer.splitlines()]
        return answer

    def _await_exec(self) -> None:
        deadline = time.monotonic() + 10
        while self.get(f"/exec/{self.exec_id}/json")["ExitCode"] is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _untagged(self) -> str:
        """An image without a name."""
        status, answer = self.engine.request("POST", "/images/create?fromSrc=-", b"\0" * 1024)
        assert status == 200, answer
        return str(answer["status"])

    def _warnings(self, version: str) -> Any:
        """The answer to a create that uses what was deprecated on the way."""
        body = {
            "Image": "busybox", "MacAddress": "02:42:ac:11:00:99",
            "HostConfig": {
                "VolumeDriver": "local", "Mounts": [{"Type": "volume", "Target": "/v"}], "KernelMemory": 8 << 20,
                **({"Sysctls": {"net.ipv4.conf.eth0.log_martians": "1"}} if version < "1.48" else {}),
            },
        }  # fmt: skip
        status, answer = self.engine.request("POST", f"/v{version}/containers/create", body)
        assert status == 201, answer
        made = self.get(f"/containers/{answer['Id']}/json")
        host = made["HostConfig"]
        shown = {key: host.get(key) for key in ("IpcMode", "KernelMemory", "Sysctls")}
        shown |= {"MacAddress": made["Config"].get("MacAddress"), "Networks": made["NetworkSettings"]["Networks"]}
        assert self.engine.request("DELETE", f"/containers/{answer['Id']}?v=1")[0] == 204
        answer["Id"] = "ID"
        return {"answer": answer, "then inspect has": shown}

    def answers(self) -> dict[str, dict[str, Any]]:
        """Per endpoint, per version."""
        paths = {
            "container-inspect": "/containers/golden/json?size=1",
            "container-inspect-created": "/containers/golden-idle/json",
            "container-list": "/containers/json?all=1&size=1",
            "image-inspect": "/images/busybox/json",
            "image-list": "/images/json?shared-size=1",
            "info": "/info",
            "version": "/version",
            "system-df": "/system/df",
            "exec-inspect": f"/exec/{self.exec_id}/json",
            "network-inspect": "/networks/bridge",
            "network-list": "/networks",
            "volume-inspect": "/volumes/golden-volume",
            "volume-list": "/volumes",
            "events": f"/events?since={self._begin}&until={self._end}",
        }
        found: dict[str, dict[str, Any]] = {}
        for name, path in paths.items():
            found[name] = {
                version: self._normal(self.get(f"/v{version}{path}"), name in _HOST_ENDPOINTS) for version in VERSIONS
            }
        found["create"] = {version: self._normal(self.created[version], False) for version in VERSIONS}
        found["streams"] = {version: self._streams(version) for version in VERSIONS}
        return found

    def _streams(self, version: str) -> dict[str, str]:
        found = {}
        for name, method, path in (
            ("logs", "GET", "/containers/golden/logs?stdout=1"),
            ("logs of a terminal", "GET", "/containers/golden-idle/logs?stdout=1"),
            ("attach", "POST", "/containers/golden/attach?stdout=1"),
            ("attach to a terminal", "POST", "/containers/golden-idle/attach?stdout=1"),
        ):
            for kind, headers in (("", {}), (", upgraded", {"Connection": "Upgrade", "Upgrade": "tcp"})):
                connection = UnixConnection(self.engine.socket)
                connection.request(method, f"/v{version}{path}", headers=headers if method == "POST" else {})
                answer = connection.getresponse()
                found[f"{name}{kind}"] = f"{answer.status} {answer.reason}, {answer.getheader('Content-Type')}"
                connection.close()
        return found

    # --- placeholders ---

    def _normal(self, value: Any, host: bool, key: str = "") -> Any:
        if isinstance(value, dict):
            return {
                self._text(name): self._normal(one, host, "" if key == "Labels" else name)
                for name, one in sorted(value.items())
            }
        if host and key in _HOST:
            return f"<{key}>"
        if isinstance(value, list):
            return [self._normal(one, host, key) for one in value]
        if key in _TIMES and value not in ("", 0, "0001-01-01T00:00:00Z"):
            return "<time>"
        if key in _SIZES and isinstance(value, int) and value > 0:
            return "<size>"
        if key in _ADDRESSES and value and value != "02:42:ac:11:00:99":
            return f"<{key}>"
        if key in ("Pid", "NEventsListener", "NGoroutines", "OomKillDisable", "com.docker.network.bridge.name"):
            return f"<{key}>"
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        for name, container in self.ids.items():
            text = text.replace(container, f"<id of {name}>").replace(container[:12], f"<short id of {name}>")
        text = text.replace(self.untagged, "<untagged image>").replace(self.exec_id, "<exec>")
        text = text.replace(self.engine.base, "<base>")
        text = re.sub(r"sha256:[0-9a-f]{64}", "<digest>", text)
        text = re.sub(r"\b[0-9a-f]{64}\b", "<id>", text)
        text = re.sub(r"\b[0-9a-f]{12}\b", "<short id>", text)
        text = re.sub(r"\bkist\+?[\w.]*|\d+\.\d+\.\d+\+kist[\w.]*", "<kist>", text)
        text = re.sub(r"/proc/\d+/", "/proc/<pid>/", text)
        text = re.sub(r"Up .*|\d+ seconds? ago", "<age>", text)
        return re.sub(r"\b(overlay2?|vfs)\b", "<driver>", text)


def merged(by_version: dict[str, Any]) -> dict[str, Any]:
    """Equal answers under one key."""
    groups: list[tuple[list[str], Any]] = []
    for version, answer in by_version.items():
        for versions, known in groups:
            if known == answer:
                versions.append(version)
                break
        else:
            groups.append(([version], answer))
    return {" ".join(versions): answer for versions, answer in groups}


def compact(by_version: dict[str, Any]) -> dict[str, Any]:
    """The newest answer whole; of the others what they have in its place, key by key, as `path: value`."""
    newest = by_version[VERSIONS[-1]]
    flat = flatten(newest)
    rest: dict[str, Any] = {}
    for version, answer in by_version.items():
        other = flatten(answer)
        rest[version] = {
            **{path: value for path, value in sorted(other.items()) if path not in flat or flat[path] != value},
            **{path: "(absent)" for path in sorted(flat) if path not in other},
        }
    return {"in 1.51": newest, "different in": {key: value for key, value in merged(rest).items() if value}}


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        found: dict[str, Any] = {}
        for name, one in value.items():
            found |= flatten(one, f"{path}.{name}".lstrip("."))
        return found
    if isinstance(value, list) and value:
        found = {}
        for place, one in enumerate(value):
            found |= flatten(one, f"{path}[{place}]")
        return found
    return {path: value}


def text_of(by_version: dict[str, Any]) -> str:
    return json.dumps(compact(by_version), indent=1, ensure_ascii=False, sort_keys=False) + "\n"


def main() -> None:
    archive = Path("/var/tmp/kist-test-busybox.tar")
    engine = Kistd(tempfile.mkdtemp(prefix="kg", dir="/tmp"))
    os.chmod(engine.base, 0o755)
    engine.start()
    try:
        status, answer = engine.request("POST", "/images/load", archive.read_bytes())
        assert status == 200, answer
        GOLDEN.mkdir(exist_ok=True)
        for name, by_version in Scene(engine).answers().items():
            (GOLDEN / f"{name}.json").write_text(text_of(by_version))
    finally:
        engine.remove_all()
        engine.stop()
        engine.clean_host()
        shutil.rmtree(engine.base, ignore_errors=True)


if __name__ == "__main__":
    main()
