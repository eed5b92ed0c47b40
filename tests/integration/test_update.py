"""Limits changed while a container runs, and while it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import Kistd

from kist.kernel import cgroup

MIB = 1 << 20


@pytest.fixture
def box(engine: Kistd) -> Iterator[str]:
    made = engine.ok("run", "-d", "--name", "box", "-m", "64m", "busybox", "sleep", "1000").strip()
    yield made
    engine.docker("rm", "-f", "box")


def control(engine: Kistd, container: str, controller: str, v1: str, v2: str) -> str:
    layout = cgroup.detect()
    name = f"kist/{engine.id}/{container}"
    return cgroup.read(f"{layout.path(controller, name)}/{v2 if layout.is_v2 else v1}")


def memory(engine: Kistd, container: str) -> int:
    return int(control(engine, container, "memory", "memory.limit_in_bytes", "memory.max"))


def update(engine: Kistd, **body: Any) -> tuple[int, Any]:
    return engine.request("POST", "/containers/box/update", body)


def test_limits_of_a_running_container(engine: Kistd, box: str) -> None:
    assert memory(engine, box) == 64 * MIB
    for asked, swap in ((256, 512), (32, 64), (128, -1)):  # both ways: memory with swap is never below memory
        assert update(engine, Memory=asked * MIB, MemorySwap=swap * MIB if swap > 0 else swap) == (
            200,
            {"Warnings": None},
        )
        assert memory(engine, box) == asked * MIB
    assert update(engine, PidsLimit=33, CpuShares=512, NanoCpus=500_000_000)[0] == 200
    assert control(engine, box, "pids", "pids.max", "pids.max") == "33"
    assert control(engine, box, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert memory(engine, box) == 128 * MIB, "what a request leaves out stays"
    assert update(engine, PidsLimit=0)[0] == 200
    assert control(engine, box, "pids", "pids.max", "pids.max") == "max"
    host = engine.request("GET", "/containers/box/json")[1]["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["CpuShares"], host["NanoCpus"], host["PidsLimit"]) == (
        128 * MIB, -1, 512, 500_000_000, -1)  # fmt: skip


def test_limits_of_a_stopped_container_hold_at_its_next_start(engine: Kistd, box: str) -> None:
    engine.ok("kill", "box")
    engine.ok("wait", "box")
    assert engine.ok("update", "--memory", "96m", "--memory-swap", "96m", "--pids-limit", "7", "box") == "box\n"
    engine.ok("start", "box")
    assert memory(engine, box) == 96 * MIB
    assert control(engine, box, "pids", "pids.max", "pids.max") == "7"


def test_what_cannot_be(engine: Kistd, box: str) -> None:
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"Memory": 1024}, 400, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 900 * MIB}, 409, "Memory limit should be smaller than already set memoryswap limit"),
        ({"CpusetCpus": "4096"}, 400, "Requested CPUs are not available"),
        ({"NanoCpus": 10**15}, 400, "range of CPUs is from"),
        ({"Memory": "much"}, 400, ""),
        ({"RestartPolicy": {"Name": "sometimes"}}, 400, "unknown policy 'sometimes'"),
    ]
    before = engine.request("GET", "/containers/box/json")[1]["HostConfig"]
    for body, status, words in cases:
        got, told = update(engine, **body)
        assert got == status, (body, told)
        assert words in told["message"]
    assert update(engine, NanoCpus=500_000_000)[0] == 200
    got, told = update(engine, CpuQuota=20_000)
    assert (got, told["message"]) == (409, f"Cannot update container {box}: Conflicting options: CPU Quota cannot be "
                                           f"updated as NanoCPUs has already been set")  # fmt: skip
    after = engine.request("GET", "/containers/box/json")[1]["HostConfig"]
    assert after == before | {"NanoCpus": 500_000_000}
    assert memory(engine, box) == 64 * MIB
    assert engine.request("POST", "/containers/nosuch/update", {"Memory": 64 * MIB})[0] == 404


def test_a_limit_that_the_kernel_refuses_changes_nothing(engine: Kistd) -> None:
    full = "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 && sleep 1000"
    made = engine.ok("run", "-d", "--name", "box", "-m", "64m", "--memory-swap", "64m", "busybox", "sh", "-c", full)
    try:
        engine.ok("exec", "box", "sh", "-c", "while [ $(wc -c < /dev/shm/x) -lt 41943040 ]; do sleep 0.05; done")
        assert update(engine, NanoCpus=700_000_000)[0] == 200
        status, told = update(engine, Memory=16 * MIB, MemorySwap=16 * MIB, NanoCpus=300_000_000)
        if cgroup.detect().is_v2:  # there the kernel takes it and kills for it
            return
        assert status == 500
        assert told["message"].startswith(f"Cannot update container {made.strip()}: write '16777216' to ")
        host = engine.request("GET", "/containers/box/json")[1]["HostConfig"]
        assert (host["Memory"], host["NanoCpus"]) == (64 * MIB, 700_000_000)
        assert memory(engine, made.strip()) == 64 * MIB
        assert control(engine, made.strip(), "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "70000"
    finally:
        engine.docker("rm", "-f", "box")
