"""What the kernel's files say about use, with lines as they are on real machines."""

from __future__ import annotations

import os
from pathlib import Path

from kist.kernel.cgroup import Layout
from kist.model.usage import BlockTransfer, InterfaceUsage
from kist.runtime.usage import counters, interfaces, machine_cpu, read_usage, transfers_v1, transfers_v2

TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def test_the_machines_time_is_the_sum_without_guests() -> None:
    text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5\nctxt 7\n"
    assert machine_cpu(text) == (28 * TICK, 2)


def test_counters_skip_what_is_no_number() -> None:
    assert counters("cache 1\nrss 2\nodd line here\nmax max\n") == {"cache": 1, "rss": 2}


def test_block_transfers() -> None:
    assert transfers_v1("8:0 Read 4096\n8:0 Write 0\nTotal 4096\n") == (
        BlockTransfer(8, 0, "Read", 4096), BlockTransfer(8, 0, "Write", 0))  # fmt: skip
    assert transfers_v2("254:1 rbytes=5 wbytes=6 rios=1 wios=2 dbytes=0 dios=0\n8:0 \n") == (
        BlockTransfer(254, 1, "read", 5), BlockTransfer(254, 1, "write", 6),
        BlockTransfer(8, 0, "read", 0), BlockTransfer(8, 0, "write", 0))  # fmt: skip
    assert transfers_v2("") is None


def test_interfaces_without_loopback_also_with_a_colon_in_the_name() -> None:
    head = "Inter-|   Receive                                                |  Transmit\n face |bytes packets\n"
    text = head + "    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  eth0:1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n"
    assert interfaces(text) == {"eth0": InterfaceUsage(1, 2, 3, 4, 5, 6, 7, 8)}


def test_a_group_of_v2(tmp_path: Path) -> None:
    group = tmp_path / "g"
    group.mkdir()
    for name, text in {
        "cpu.stat": "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 3\nnr_throttled 2\nthrottled_usec 7\n",
        "memory.current": "4096\n",
        "memory.max": "max\n",
        "memory.stat": "anon 1\ninactive_file 2\npercpu 3\n",
        "memory.events": "low 0\noom 4\noom_kill 1\n",
        "io.stat": "",
        "pids.current": "2\n",
        "pids.max": "max\n",
    }.items():
        (group / name).write_text(text)
    found = read_usage(Layout({}, str(tmp_path)), "g", 0, -1)
    assert (found.cpu.total, found.cpu.user, found.cpu.kernel, found.cpu.each) == (30_000, 20_000, 10_000, None)
    assert (found.cpu.periods, found.cpu.throttled_periods, found.cpu.throttled_time) == (3, 2, 7000)
    assert found.memory.details == {"anon": 1, "inactive_file": 2}, "what Docker does not tell is left out"
    assert (found.memory.usage, found.memory.failures, found.memory.maximum) == (4096, 4, None)
    assert found.memory.limit == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert (found.pids, found.pids_limit) == (2, (1 << 64) - 1)
    assert found.blocks.service_bytes is found.blocks.serviced is None


def test_a_group_that_is_gone_uses_nothing(tmp_path: Path) -> None:
    found = read_usage(Layout({"memory": str(tmp_path), "cpuacct": str(tmp_path)}, ""), "gone", 0, -1)
    assert (found.cpu.total, found.memory.usage, found.pids, found.interfaces) == (0, 0, 0, {})
