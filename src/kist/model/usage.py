"""What a container uses at one moment, as the kernel counts it."""

from __future__ import annotations

import msgspec


class BlockTransfer(msgspec.Struct, frozen=True):
    """Bytes or operations of one kind on one device, from the beginning."""

    major: int
    minor: int
    operation: str
    value: int


class BlockUsage(msgspec.Struct, frozen=True):
    """None where this kind of cgroup does not count it."""

    service_bytes: tuple[BlockTransfer, ...] | None = None
    serviced: tuple[BlockTransfer, ...] | None = None


class CPUTimes(msgspec.Struct, frozen=True):
    """Nanoseconds. `system` is what all processors of the machine did; `each` is None under cgroup v2."""

    total: int = 0
    kernel: int = 0
    user: int = 0
    each: tuple[int, ...] | None = None
    system: int = 0
    online: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


class MemoryUsage(msgspec.Struct, frozen=True):
    """Bytes; `details` are the counters of memory.stat. `maximum` is None under cgroup v2."""

    usage: int
    limit: int
    failures: int
    details: dict[str, int]
    maximum: int | None = None


class InterfaceUsage(msgspec.Struct, frozen=True):
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


class Usage(msgspec.Struct, frozen=True):
    """`time` is in nanoseconds since the epoch. `pids_limit` 0: there is none to tell."""

    time: int
    cpu: CPUTimes
    memory: MemoryUsage
    blocks: BlockUsage
    pids: int
    pids_limit: int
    interfaces: dict[str, InterfaceUsage]
