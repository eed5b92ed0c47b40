"""Devices by CDI name, through the stock docker command."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd, _end_engine, _make_engine

YAML = """
# a vendor's file
cdiVersion: "0.6.0"
kind: vendor.example/thing
containerEdits:
  env: [SHARED=yes]
devices:
- name: one
  containerEdits:
    deviceNodes:
    - {path: /dev/thing, hostPath: /dev/zero, permissions: rw, fileMode: 0640}
    mounts:
    - hostPath: HERE/library
      containerPath: /usr/lib/library
      options: [ro, nosuid, rbind]
    env:
      - "THING=one: of two"
    additionalGids: [4711]
- name: "hooked"
  containerEdits:
    hooks:
      - hookName: createContainer
        path: /usr/bin/true
"""
GPUS: dict[str, Any] = {
    "cdiVersion": "0.5.0",
    "kind": "nvidia.com/gpu",
    "devices": [
        {"name": name, "containerEdits": {"env": [f"GPU_{name}=1"], "deviceNodes": [{"path": "/dev/null"}]}}
        for name in ("0", "1", "all")
    ],
}


@pytest.fixture(scope="module")
def cdi(busybox_archive: Path) -> Iterator[Kistd]:
    directory = Path(tempfile.mkdtemp(prefix="kcdi", dir="/tmp"))
    (directory / "library").write_text("a library\n")
    (directory / "a.yaml").write_text(YAML.replace("HERE", str(directory)))
    (directory / "b.json").write_text(json.dumps(GPUS))
    (directory / "broken.yaml").write_text("cdiVersion: 0.5.0\n\tkind: x\n")
    engine = _make_engine(busybox_archive, "--cdi-spec-dir", str(directory))
    yield engine
    _end_engine(engine)
    shutil.rmtree(directory)


def test_a_device_with_all_that_belongs_to_it(cdi: Kistd) -> None:
    script = (
        "env; ls -l /dev/thing | cut -c1-10; head -c 3 /dev/thing | wc -c; cat /usr/lib/library; id -G; "
        "touch /usr/lib/library"
    )
    told = cdi.docker("run", "--rm", "--device", "vendor.example/thing=one", "busybox", "sh", "-c", script)
    lines = told.text.splitlines()
    assert "SHARED=yes" in lines
    assert "THING=one: of two" in lines
    assert lines[-4:] == ["crw-r-----", "3", "a library", "0 10 4711"], told.text
    assert "Read-only file system" in told.errors


def test_permissions_are_kept(cdi: Kistd) -> None:
    script = "mknod /dev/other c 1 5 && echo made"
    told = cdi.docker("run", "--rm", "--device", "vendor.example/thing=one", "busybox", "sh", "-c", script)
    assert told.text == "made\n", told.errors  # every container may make nodes, but use only some


def test_gpus_are_found_by_number_and_id(cdi: Kistd) -> None:
    def seen(*options: str) -> list[str]:
        return [one for one in cdi.ok("run", "--rm", *options, "busybox", "env").splitlines() if one.startswith("GPU")]

    assert seen("--gpus", "all") == ["GPU_all=1"]
    assert seen("--gpus", "2") == ["GPU_0=1", "GPU_1=1"]
    assert seen("--gpus", "device=1") == ["GPU_1=1"]
    assert seen() == []


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"Driver": "cdi", "DeviceIDs": ["a.b/c=d", "e.f/g=h"]},
         "CDI device injection failed: unresolvable CDI devices a.b/c=d, e.f/g=h"),
        ({"Driver": "cdi", "Count": 1}, "unexpected count in CDI device request"),
        ({"Driver": "cdi", "DeviceIDs": ["vendor.example/thing=one"], "Options": {"a": "b"}},
         "unexpected options in CDI device request"),
        ({"Driver": "cdi", "DeviceIDs": ["vendor.example/thing=hooked"]}, "has hooks: not supported by this engine"),
        ({"Capabilities": [["tpu", "x"], ["y"]]},
         'could not select device driver "" with capabilities: [[tpu x] [y]]'),
        ({"Capabilities": [["gpu"]], "Count": 1, "DeviceIDs": ["0"]},
         "cannot set both Count and DeviceIDs on device request"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_refused_at_the_start(cdi: Kistd, request_: dict[str, Any], words: str) -> None:
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"DeviceRequests": [request_]}}
    status, made = cdi.request("POST", "/containers/create", body)
    assert status == 201, made
    status, told = cdi.request("POST", f"/containers/{made['Id']}/start")
    assert status in (400, 500)
    assert words in told["message"]
    assert cdi.request("GET", f"/containers/{made['Id']}/json")[1]["State"]["Status"] == "created"
    cdi.request("DELETE", f"/containers/{made['Id']}")


def test_info_tells_directories_devices_and_broken_files(cdi: Kistd) -> None:
    _, info = cdi.request("GET", "/v1.51/info")
    (directory,) = info["CDISpecDirs"]
    names = [one["ID"] for one in info["DiscoveredDevices"]]
    assert names == ["nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all", "vendor.example/thing=hooked",
                     "vendor.example/thing=one"]  # fmt: skip
    assert [one for one in info["Warnings"] if f"{directory}/broken.yaml" in one]
    assert "DiscoveredDevices" not in cdi.request("GET", "/v1.48/info")[1]
