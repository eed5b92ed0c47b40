"""Reads what a container uses from its cgroups (v1, v2) and, from outside, from its network namespace.

Sources: the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst, proc_stat(5), proc_pid_net(5). Fields that
one layout lacks are told as Docker tells them: left out, never guessed.
"""

from __future__ import annotations

import os
import select
import time

from kist.kernel import cgroup
from kist.kernel.cgroup import Layout
from kist.model.usage import BlockTransfer, BlockUsage, CPUTimes, InterfaceUsage, MemoryUsage, Usage

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # nanoseconds
_UNLIMITED = (1 << 64) - 1
# Who counts block I/O on v1 depends on the scheduler; the throttling layer always does.
_BLKIO = ("blkio.", "blkio.bfq.", "blkio.throttle.")
_V2_MEMORY = frozenset((
    "anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty", "file_writeback", "anon_thp",
    "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable", "slab_reclaimable",
    "slab_unreclaimable", "pgfault", "pgmajfault", "workingset_refault", "workingset_activate",
    "workingset_nodereclaim", "pgrefill", "pgscan", "pgsteal", "pgactivate", "pgdeactivate", "pglazyfree",
    "pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc",
))  # fmt: skip


def read_usage(layout: Layout, group: str, pid: int, pidfd: int) -> Usage:
    """`pid` and `pidfd` name a process in the container's network namespace; -1 as pidfd: its network is not told."""
    system, online = machine_cpu(cgroup.read("/proc/stat"))
    if layout.is_v2:
        directory = layout.path("", group)
        cpu = _cpu_v2(directory, system, online)
        memory, blocks = _memory_v2(directory), _blocks_v2(directory)
    else:
        cpu = _cpu_v1(layout, group, system, online)
        memory, blocks = _memory_v1(layout, group), _blocks_v1(layout, group)
    pids = layout.path("pids", group)
    limit = cgroup.read(f"{pids}/pids.max")
    unlimited = _UNLIMITED if layout.is_v2 else 0
    return Usage(
        time=time.time_ns(),
        cpu=cpu,
        memory=memory,
        blocks=blocks,
        pids=_number(cgroup.read(f"{pids}/pids.current")),
        pids_limit=unlimited if limit == "max" else _number(limit),
        interfaces=_interfaces(pid, pidfd) if pidfd >= 0 else {},
    )


def machine_cpu(stat: str) -> tuple[int, int]:
    """(nanoseconds of all processors in every state, processors that are online) from /proc/stat."""
    first, *rest = stat.splitlines()
    ticks = sum(int(word) for word in first.split()[1:8])  # guest time is in user time already
    return ticks * _TICK, sum(line.startswith("cpu") for line in rest)


def counters(text: str) -> dict[str, int]:
    """`name number` lines."""
    found = {}
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if number.isdecimal():
            found[name] = int(number)
    return found


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _memory_limit(text: str) -> int:
    """No limit, or one beyond the machine's memory, is the machine's memory."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(int(text), machine) if text.isdecimal() else machine


# --- v1 ---


def _cpu_v1(layout: Layout, group: str, system: int, online: int) -> CPUTimes:
    directory = layout.path("cpuacct", group)
    modes = counters(cgroup.read(f"{directory}/cpuacct.stat"))
    throttling = counters(cgroup.read(f"{layout.path('cpu', group)}/cpu.stat"))
    return CPUTimes(
        total=_number(cgroup.read(f"{directory}/cpuacct.usage")),
        kernel=modes.get("system", 0) * _TICK,
        user=modes.get("user", 0) * _TICK,
        each=tuple(int(word) for word in cgroup.read(f"{directory}/cpuacct.usage_percpu").split()),
        system=system,
        online=online,
        periods=throttling.get("nr_periods", 0),
        throttled_periods=throttling.get("nr_throttled", 0),
        throttled_time=throttling.get("throttled_time", 0),
    )


def _memory_v1(layout: Layout, group: str) -> MemoryUsage:
    prefix = f"{layout.path('memory', group)}/memory"
    return MemoryUsage(
        usage=_number(cgroup.read(f"{prefix}.usage_in_bytes")),
        limit=_memory_limit(cgroup.read(f"{prefix}.limit_in_bytes")),
        failures=_number(cgroup.read(f"{prefix}.failcnt")),
        details=counters(cgroup.read(f"{prefix}.stat")),
        maximum=_number(cgroup.read(f"{prefix}.max_usage_in_bytes")),
    )


def _blocks_v1(layout: Layout, group: str) -> BlockUsage:
    directory = layout.path("blkio", group)
    return BlockUsage(
        _first(directory, "io_service_bytes_recursive"),
        _first(directory, "io_serviced_recursive"),
    )


def _first(directory: str, name: str) -> tuple[BlockTransfer, ...]:
    for prefix in _BLKIO:
        if found := transfers_v1(cgroup.read(f"{directory}/{prefix}{name}")):
            return found
    return ()


def transfers_v1(text: str) -> tuple[BlockTransfer, ...]:
    """`8:0 Read 4096` lines; the sum over all devices, of two words, is left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            major, _, minor = words[0].partition(":")
            found.append(BlockTransfer(int(major), int(minor), words[1], int(words[2])))
    return tuple(found)


# --- v2 ---


def _cpu_v2(directory: str, system: int, online: int) -> CPUTimes:
    found = counters(cgroup.read(f"{directory}/cpu.stat"))
    return CPUTimes(
        total=found.get("usage_usec", 0) * 1000,
        kernel=found.get("system_usec", 0) * 1000,
        user=found.get("user_usec", 0) * 1000,
        system=system,
        online=online,
        periods=found.get("nr_periods", 0),
        throttled_periods=found.get("nr_throttled", 0),
        throttled_time=found.get("throttled_usec", 0) * 1000,
    )


def _memory_v2(directory: str) -> MemoryUsage:
    details = counters(cgroup.read(f"{directory}/memory.stat"))
    return MemoryUsage(
        usage=_number(cgroup.read(f"{directory}/memory.current")),
        limit=_memory_limit(cgroup.read(f"{directory}/memory.max")),
        failures=counters(cgroup.read(f"{directory}/memory.events")).get("oom", 0),
        details={name: value for name, value in details.items() if name in _V2_MEMORY},
    )


def _blocks_v2(directory: str) -> BlockUsage:
    return BlockUsage(transfers_v2(cgroup.read(f"{directory}/io.stat")))


def transfers_v2(text: str) -> tuple[BlockTransfer, ...] | None:
    """`8:0 rbytes=1 wbytes=2 …` lines; None when there is none, as Docker has it."""
    found = []
    for line in text.splitlines():
        device, *words = line.split()
        major, colon, minor = device.partition(":")
        values = dict(word.partition("=")[::2] for word in words)
        if colon and major.isdecimal() and minor.isdecimal():
            found += [
                BlockTransfer(int(major), int(minor), operation, _number(values.get(key, "0")))
                for operation, key in (("read", "rbytes"), ("write", "wbytes"))
            ]
    return tuple(found) or None


# --- network ---


def _interfaces(pid: int, pidfd: int) -> dict[str, InterfaceUsage]:
    """Interfaces of the namespace of a process, without loopback; none when it is gone or in the host's own."""
    try:
        process = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        if not _alive(pidfd):
            return {}  # or else the directory might be that of another process with the same number
        if os.stat("ns/net", dir_fd=process).st_ino == os.stat("/proc/self/ns/net").st_ino:
            return {}
        descriptor = os.open("net/dev", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
        with open(descriptor, encoding="ascii", errors="replace") as file:
            return interfaces(file.read())
    except OSError:
        return {}
    finally:
        os.close(process)


def _alive(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)


def interfaces(text: str) -> dict[str, InterfaceUsage]:
    """/proc/PID/net/dev: two lines of titles, then eight numbers received and eight sent for each interface."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.rpartition(":")
        numbers = [int(word) for word in rest.split()]
        if name.strip() != "lo" and len(numbers) >= 12:
            found[name.strip()] = InterfaceUsage(*numbers[:4], *numbers[8:12])
    return found
