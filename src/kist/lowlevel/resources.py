"""`update` and `events`: the limits of a container, and what its cgroup counts."""

from __future__ import annotations

import os
import re
import select
import sys
from typing import Any

import msgspec

from kist.kernel import cgroup
from kist.kernel.cgroup import Layout, read
from kist.lowlevel import state
from kist.lowlevel.bundle import refuse
from kist.lowlevel.errors import RuntimeFailure
from kist.runtime import limits, oci

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNLIMITED = 1 << 63


def update(root: str, name: str, options: dict[str, object]) -> int:
    """Raises RuntimeFailure when it does not run, or for resources that cannot be."""
    container = state.load(root, name)
    if container.status() == "stopped":
        raise RuntimeFailure("container not running")
    asked = _from_file(str(options["resources"])) if options["resources"] else _from_options(options)
    try:
        limits.apply(container.layout, container.kept.cgroup, asked)
    except OSError as error:
        raise RuntimeFailure(f"failed to {error.filename}: {(error.strerror or '').lower()}") from error
    return 0


def _from_file(path: str) -> oci.Resources:
    if path == "-":
        text = sys.stdin.buffer.read()
    else:
        with open(path, "rb") as file:
            text = file.read()
    try:
        found = msgspec.json.decode(text, type=oci.Resources)
        refuse(msgspec.json.decode(text), "linux.resources.")
    except msgspec.MsgspecError as error:
        raise RuntimeFailure(f"{path} has no resources: {error}") from error
    return found


def _from_options(options: dict[str, object]) -> oci.Resources:
    def number(name: str) -> int | None:
        value = options[name]
        return value if isinstance(value, int) and value else None

    pids = number("pids-limit")
    weight = number("blkio-weight")
    return oci.Resources(
        memory=oci.Memory(limit=number("memory"), reservation=number("memory-reservation"), swap=number("memory-swap")),
        cpu=oci.CPU(
            shares=number("cpu-share"),
            quota=number("cpu-quota"),
            period=number("cpu-period"),
            realtime_period=number("cpu-rt-period"),
            realtime_runtime=number("cpu-rt-runtime"),
            cpus=str(options["cpuset-cpus"]),
            mems=str(options["cpuset-mems"]),
        ),
        pids=oci.Pids(pids) if pids is not None else None,
        block_io=oci.BlockIO(weight=weight) if weight is not None else None,
    )


def events(root: str, name: str, options: dict[str, object]) -> int:
    """Statistics at every interval and each kill for memory, one JSON a line, until the container has ended."""
    container = state.load(root, name)
    if container.status() == "stopped":
        raise RuntimeFailure("container not running")
    if options["stats"]:
        _say("stats", name, statistics(container.layout, container.kept.cgroup))
        return 0
    interval = seconds(str(options["interval"]))
    process = container.open_init()
    killed = cgroup.oom_kills(container.layout, container.kept.cgroup)
    try:
        while not select.select([process], [], [], interval)[0]:
            now = cgroup.oom_kills(container.layout, container.kept.cgroup)
            if now > killed:
                _say("oom", name, None)
            killed = now
            _say("stats", name, statistics(container.layout, container.kept.cgroup))
    finally:
        os.close(process)
    return 0


def seconds(text: str) -> float:
    """A duration as Go writes it, `1m30s`. Raises RuntimeFailure."""
    parts = re.findall(r"([0-9]*\.?[0-9]+)(ms|h|m|s)", text)
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or total <= 0:
        raise RuntimeFailure("duration interval must be greater than 0")
    return total


def _say(kind: str, name: str, data: object) -> None:
    line = {"type": kind, "id": name, **({"data": data} if data is not None else {})}
    print(msgspec.json.encode(line).decode(), flush=True)


def statistics(layout: Layout, group: str) -> dict[str, Any]:
    """As runc prints them: times in nanoseconds, memory in bytes; empty maps where this host counts nothing."""
    return {
        "cpu": _cpu(layout, group),
        "cpuset": {},
        "memory": _memory(layout, group),
        "pids": _pids(layout, group),
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _flat(path: str) -> dict[str, int]:
    """A file of `name number` lines."""
    pairs = (line.partition(" ") for line in read(path).splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdigit()}


def _cpu(layout: Layout, group: str) -> dict[str, Any]:
    if layout.is_v2:
        found = _flat(f"{layout.unified}/{group}/cpu.stat")
        usage: dict[str, Any] = {
            "total": found.get("usage_usec", 0) * 1000,
            "kernel": found.get("system_usec", 0) * 1000,
            "user": found.get("user_usec", 0) * 1000,
        }
        throttled = found
    else:
        account = layout.path("cpuacct", group)
        tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        times = _flat(f"{account}/cpuacct.stat")
        usage = {
            "total": _number(read(f"{account}/cpuacct.usage")),
            "percpu": [_number(word) for word in read(f"{account}/cpuacct.usage_percpu").split()],
            "kernel": times.get("system", 0) * tick,
            "user": times.get("user", 0) * tick,
        }
        throttled = _flat(f"{layout.path('cpu', group)}/cpu.stat")
    keys = (("periods", "nr_periods"), ("throttledPeriods", "nr_throttled"), ("throttledTime", "throttled_time"))
    return {"usage": usage, "throttling": {name: throttled[key] for name, key in keys if throttled.get(key)}}


def _memory(layout: Layout, group: str) -> dict[str, Any]:
    if layout.is_v2:
        directory = f"{layout.unified}/{group}"
        raw = _flat(f"{directory}/memory.stat")
        limit = read(f"{directory}/memory.max")
        usage = {"limit": _number(limit) or _UNLIMITED, "usage": _number(read(f"{directory}/memory.current"))}
        return {"cache": raw.get("file", 0), "usage": usage, "raw": raw}
    directory = layout.path("memory", group)
    raw = _flat(f"{directory}/memory.stat")
    usage = {
        key: _number(read(f"{directory}/memory.{file}"))
        for key, file in (("limit", "limit_in_bytes"), ("usage", "usage_in_bytes"), ("max", "max_usage_in_bytes"),
                          ("failcnt", "failcnt"))
    }  # fmt: skip
    return {"cache": raw.get("cache", 0), "usage": usage, "raw": raw}


def _pids(layout: Layout, group: str) -> dict[str, int]:
    directory = layout.path("pids", group)
    limit = _number(read(f"{directory}/pids.max"))
    return {"current": _number(read(f"{directory}/pids.current")), **({"limit": limit} if limit else {})}
