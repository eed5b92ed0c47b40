"""What a container uses: the answer of GET /containers/{id}/stats, once or as a stream.

The names are those of the wire. Under cgroup v2 several lists are null and `percpu_usage` is missing.
"""

from __future__ import annotations

from msgspec import UNSET

from kist.wire.answer import Maybe, Plain


class BlkioEntry(Plain, frozen=True, kw_only=True):
    major: int
    minor: int
    op: str
    value: int


class BlkioStats(Plain, frozen=True, kw_only=True):
    io_service_bytes_recursive: list[BlkioEntry] | None
    io_serviced_recursive: list[BlkioEntry] | None
    io_queue_recursive: list[BlkioEntry] | None
    io_service_time_recursive: list[BlkioEntry] | None
    io_wait_time_recursive: list[BlkioEntry] | None
    io_merged_recursive: list[BlkioEntry] | None
    io_time_recursive: list[BlkioEntry] | None
    sectors_recursive: list[BlkioEntry] | None


class CPUUsage(Plain, frozen=True, kw_only=True):
    """Nanoseconds."""

    total_usage: int
    percpu_usage: Maybe[list[int]] = UNSET
    usage_in_kernelmode: int
    usage_in_usermode: int


class ThrottlingData(Plain, frozen=True, kw_only=True):
    periods: int
    throttled_periods: int
    throttled_time: int


class CPUStats(Plain, frozen=True, kw_only=True):
    cpu_usage: CPUUsage
    system_cpu_usage: Maybe[int] = UNSET
    online_cpus: Maybe[int] = UNSET
    throttling_data: ThrottlingData


class PidsStats(Plain, frozen=True, kw_only=True):
    current: Maybe[int] = UNSET
    limit: Maybe[int] = UNSET


class MemoryStats(Plain, frozen=True, kw_only=True):
    """Bytes. `commitbytes` and what follows are Windows'."""

    usage: Maybe[int] = UNSET
    max_usage: Maybe[int] = UNSET
    stats: Maybe[dict[str, int]] = UNSET
    failcnt: Maybe[int] = UNSET
    limit: Maybe[int] = UNSET
    commitbytes: Maybe[int] = UNSET
    commitpeakbytes: Maybe[int] = UNSET
    privateworkingset: Maybe[int] = UNSET


class NetworkStats(Plain, frozen=True, kw_only=True):
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int
    endpoint_id: Maybe[str] = UNSET
    instance_id: Maybe[str] = UNSET


class StorageStats(Plain, frozen=True, kw_only=True):
    read_count_normalized: Maybe[int] = UNSET
    read_size_bytes: Maybe[int] = UNSET
    write_count_normalized: Maybe[int] = UNSET
    write_size_bytes: Maybe[int] = UNSET


class Stats(Plain, frozen=True, kw_only=True):
    name: Maybe[str] = UNSET
    id: Maybe[str] = UNSET
    read: str
    preread: str
    pids_stats: PidsStats
    blkio_stats: BlkioStats
    num_procs: int
    storage_stats: StorageStats
    cpu_stats: CPUStats
    precpu_stats: CPUStats
    memory_stats: MemoryStats
    networks: Maybe[dict[str, NetworkStats]] = UNSET
