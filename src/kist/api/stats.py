"""GET /containers/{name}/stats: what a container uses, once or as a stream of samples a second apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from msgspec import UNSET

from kist.api import compat
from kist.api.app import flag, json_response
from kist.http.router import Router
from kist.http.server import Request, Response
from kist.model.container import NEVER, ContainerRecord
from kist.model.errors import InvalidParameter
from kist.model.timestamp import rfc3339
from kist.model.usage import BlockTransfer, BlockUsage, CPUTimes, MemoryUsage, Usage
from kist.wire import stats as wire
from kist.wire.encode import dumps


class Containers(Protocol):
    def get(self, name: str) -> ContainerRecord: ...
    async def usage(self, name: str) -> Usage | None: ...
    def usages(self, name: str) -> AsyncIterator[Usage | None]: ...


class StatsRoutes:
    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def add_to(self, router: Router) -> None:
        router.add("GET", "/containers/{name}/stats", self.stats)

    async def stats(self, request: Request) -> Response | None:
        record = self._containers.get(request.parameters["name"])
        stream, once = flag(request, "stream", True), compat.stats_once(request) and flag(request, "one-shot")
        if stream and once:
            raise InvalidParameter("cannot have stream=true and one-shot=true")
        if stream:
            await self._stream(request, record)
            return None
        if not record.state.running or record.state.status == "restarting":
            return json_response(render(record, None, None))
        if once:
            return json_response(render(record, await self._containers.usage(record.id), None))
        return json_response(await self._second(record))

    async def _second(self, record: ContainerRecord) -> wire.Stats:
        """Of the second sample: the first is what its processor time is compared with."""
        earlier: list[Usage | None] = []
        stream = self._containers.usages(record.id)
        try:
            async for usage in stream:
                if earlier:
                    return render(record, usage, earlier[0])
                earlier.append(usage)
        finally:
            await stream.aclose()  # type: ignore[attr-defined]
        return render(record, None, None)  # it was removed meanwhile

    async def _stream(self, request: Request, record: ContainerRecord) -> None:
        await request.start_stream(endless=True)
        earlier = None
        stream = self._containers.usages(record.id)
        try:
            async for usage in stream:
                await request.write(dumps(render(record, usage, earlier)))
                earlier = usage
        finally:
            await stream.aclose()  # type: ignore[attr-defined]


def render(record: ContainerRecord, usage: Usage | None, earlier: Usage | None) -> wire.Stats:
    """`usage` None: it does not run; `earlier` None: there was no sample before."""
    now = usage or _NOTHING
    return wire.Stats(
        name=f"/{record.name}",
        id=record.id,
        read=rfc3339(usage.time) if usage else NEVER,
        preread=rfc3339(earlier.time) if earlier else NEVER,
        pids_stats=wire.PidsStats(current=now.pids or UNSET, limit=now.pids_limit or UNSET),
        blkio_stats=_blocks(now.blocks),
        num_procs=0,
        storage_stats=wire.StorageStats(),
        cpu_stats=_cpu(now.cpu),
        precpu_stats=_cpu(earlier.cpu if earlier else CPUTimes()),
        memory_stats=_memory(usage.memory) if usage else wire.MemoryStats(),
        networks=_networks(now) or UNSET,
    )


_NOTHING = Usage(0, CPUTimes(), MemoryUsage(0, 0, 0, {}), BlockUsage(), 0, 0, {})


def _cpu(times: CPUTimes) -> wire.CPUStats:
    return wire.CPUStats(
        cpu_usage=wire.CPUUsage(
            total_usage=times.total,
            percpu_usage=list(times.each) if times.each else UNSET,
            usage_in_kernelmode=times.kernel,
            usage_in_usermode=times.user,
        ),
        system_cpu_usage=times.system or UNSET,
        online_cpus=times.online or UNSET,
        throttling_data=wire.ThrottlingData(
            periods=times.periods, throttled_periods=times.throttled_periods, throttled_time=times.throttled_time
        ),
    )


def _memory(memory: MemoryUsage) -> wire.MemoryStats:
    return wire.MemoryStats(
        usage=memory.usage or UNSET,
        max_usage=memory.maximum or UNSET,
        stats=memory.details or UNSET,
        failcnt=memory.failures or UNSET,
        limit=memory.limit or UNSET,
    )


def _blocks(blocks: BlockUsage) -> wire.BlkioStats:
    """On v1 what nobody counts is empty, on v2 null, as in dockerd's answers."""
    others: list[wire.BlkioEntry] | None = None if blocks.serviced is None else []
    return wire.BlkioStats(
        io_service_bytes_recursive=_entries(blocks.service_bytes),
        io_serviced_recursive=_entries(blocks.serviced),
        io_queue_recursive=others,
        io_service_time_recursive=others,
        io_wait_time_recursive=others,
        io_merged_recursive=others,
        io_time_recursive=others,
        sectors_recursive=others,
    )


def _entries(transfers: tuple[BlockTransfer, ...] | None) -> list[wire.BlkioEntry] | None:
    if transfers is None:
        return None
    return [wire.BlkioEntry(major=one.major, minor=one.minor, op=one.operation, value=one.value) for one in transfers]


def _networks(usage: Usage) -> dict[str, wire.NetworkStats]:
    return {
        name: wire.NetworkStats(
            rx_bytes=one.rx_bytes,
            rx_packets=one.rx_packets,
            rx_errors=one.rx_errors,
            rx_dropped=one.rx_dropped,
            tx_bytes=one.tx_bytes,
            tx_packets=one.tx_packets,
            tx_errors=one.tx_errors,
            tx_dropped=one.tx_dropped,
        )
        for name, one in sorted(usage.interfaces.items())
    }
