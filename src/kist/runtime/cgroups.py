"""Limits as control files: what the resources of an OCI configuration mean on this host (config-linux.md, cgroups(7)).

Pure: the layout and the resources give a list of writes. Values for v2 follow the conversions that runc published.
"""

from __future__ import annotations

from typing import Any

from kist.kernel.cgroup import Layout
from kist.monitor.operations import AllowDevices, WriteControl, WriteControls, WriteFirst
from kist.runtime.oci import CPU, BlockIO, DeviceRule, Memory, Resources

Write = WriteControl | WriteControls | WriteFirst | AllowDevices


def writes(layout: Layout, name: str, resources: Resources) -> list[Write]:
    """The writes, in an order the kernel takes."""
    return _v2(layout, name, resources) if layout.is_v2 else _v1(layout, name, resources)


def _v1(layout: Layout, name: str, resources: Resources) -> list[Write]:
    found: list[Write] = []

    def add(controller: str, file: str, value: object, optional: bool = False) -> None:
        directory = layout.path(controller, name)
        if directory:
            found.append(WriteControl(f"{directory}/{file}", str(value), optional))

    for file, value in _memory_v1(resources.memory or Memory()):
        add("memory", file, value)
    cpu = resources.cpu or CPU()
    for file, number in (
        ("cpu.shares", cpu.shares),
        ("cpu.cfs_period_us", cpu.period),
        ("cpu.cfs_quota_us", cpu.quota),
        ("cpu.rt_period_us", cpu.realtime_period),
        ("cpu.rt_runtime_us", cpu.realtime_runtime),
    ):
        if number:
            add("cpu", file, number)
    if cpu.cpus:
        add("cpuset", "cpuset.cpus", cpu.cpus)
    if cpu.mems:
        add("cpuset", "cpuset.mems", cpu.mems)
    if resources.pids is not None:
        add("pids", "pids.max", resources.pids.limit if resources.pids.limit > 0 else "max")
    found += _devices_v1(layout.path("devices", name), resources.devices)
    for file, value in _block_v1(resources.block_io or BlockIO()):
        add("blkio", file, value)
    for page in resources.hugepage_limits:
        add("hugetlb", f"hugetlb.{page.page_size}.limit_in_bytes", page.limit)
    return found


def _devices_v1(directory: str, rules: tuple[DeviceRule, ...]) -> list[WriteControls]:
    """In their order, those that follow each other in the same file together."""
    found: list[WriteControls] = []
    for rule in rules if directory else ():
        path = f"{directory}/{'devices.allow' if rule.allow else 'devices.deny'}"
        if found and found[-1].path == path:
            found[-1].lines.append(device_line(rule))
        else:
            found.append(WriteControls(path, [device_line(rule)]))
    return found


def _memory_v1(memory: Memory) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    if memory.limit:
        found.append(("memory.limit_in_bytes", memory.limit))
    if memory.swap:
        found.append(("memory.memsw.limit_in_bytes", memory.swap))
    if memory.reservation:
        found.append(("memory.soft_limit_in_bytes", memory.reservation))
    if memory.disable_oom_killer:
        found.append(("memory.oom_control", 1))
    if memory.swappiness is not None:
        found.append(("memory.swappiness", memory.swappiness))
    return found


def _block_v1(block: BlockIO) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    if block.weight:
        found.append(("blkio.bfq.weight", block.weight))
    found += [("blkio.bfq.weight_device", f"{one.major}:{one.minor} {one.weight}") for one in block.weight_device]
    for file, devices in (
        ("blkio.throttle.read_bps_device", block.throttle_read_bps_device),
        ("blkio.throttle.write_bps_device", block.throttle_write_bps_device),
        ("blkio.throttle.read_iops_device", block.throttle_read_iops_device),
        ("blkio.throttle.write_iops_device", block.throttle_write_iops_device),
    ):
        found += [(file, f"{one.major}:{one.minor} {one.rate}") for one in devices]
    return found


def device_line(rule: DeviceRule) -> str:
    """`c 1:3 rwm`, `a` for every device."""
    if rule.type in ("", "a"):
        return "a"
    major = "*" if rule.major is None or rule.major < 0 else rule.major
    minor = "*" if rule.minor is None or rule.minor < 0 else rule.minor
    return f"{rule.type} {major}:{minor} {rule.access}"


def _v2(layout: Layout, name: str, resources: Resources) -> list[Write]:
    directory = f"{layout.unified}/{name}"
    values: list[tuple[str, object]] = []
    memory, cpu = resources.memory or Memory(), resources.cpu or CPU()
    if memory.limit:
        values.append(("memory.max", "max" if memory.limit < 0 else memory.limit))
    if memory.swap:
        swap: object = "max" if memory.swap < 0 else memory.swap - (memory.limit or 0)
        values.append(("memory.swap.max", swap))
    if memory.reservation:
        values.append(("memory.low", memory.reservation))
    if cpu.shares:
        values.append(("cpu.weight", shares_to_weight(cpu.shares)))
    if cpu.quota or cpu.period:
        quota = "max" if not cpu.quota or cpu.quota < 0 else str(cpu.quota)
        values.append(("cpu.max", f"{quota} {cpu.period or 100_000}"))
    if cpu.cpus:
        values.append(("cpuset.cpus", cpu.cpus))
    if cpu.mems:
        values.append(("cpuset.mems", cpu.mems))
    if resources.pids is not None:
        values.append(("pids.max", resources.pids.limit if resources.pids.limit > 0 else "max"))
    block = resources.block_io or BlockIO()
    for key, devices in (
        ("rbps", block.throttle_read_bps_device),
        ("wbps", block.throttle_write_bps_device),
        ("riops", block.throttle_read_iops_device),
        ("wiops", block.throttle_write_iops_device),
    ):
        values += [("io.max", f"{one.major}:{one.minor} {key}={one.rate}") for one in devices]
    values += [(f"hugetlb.{page.page_size}.max", page.limit) for page in resources.hugepage_limits]
    values += list(resources.unified.items())
    found: list[Write] = [WriteControl(f"{directory}/{file}", str(value)) for file, value in values]
    found += _weights_v2(directory, block)
    if any(not rule.allow for rule in resources.devices):
        rules: list[list[Any]] = [_numbers(rule) for rule in resources.devices]
        found.append(AllowDevices(directory, rules))
    return found


def _weights_v2(directory: str, block: BlockIO) -> list[WriteFirst]:
    """Weights are BFQ's or those of the io controller itself, whichever there is (cgroup-v2.rst, bfq-iosched.rst)."""
    weights = [("default ", block.weight)] if block.weight else []
    weights += [(f"{one.major}:{one.minor} ", one.weight) for one in block.weight_device]
    return [
        WriteFirst([
            [f"{directory}/io.bfq.weight", f"{device}{weight}"],
            [f"{directory}/io.weight", f"{device}{io_weight(weight)}"],
        ])
        for device, weight in weights
    ]  # fmt: skip


def io_weight(weight: int) -> int:
    """blkio.weight (10 to 1000) as io.weight (1 to 10000)."""
    return 1 + (weight - 10) * 9999 // 990


def _numbers(rule: DeviceRule) -> list[Any]:
    """A rule as its program's compiler takes it."""
    major, minor = (None if number is None or number < 0 else number for number in (rule.major, rule.minor))
    if rule.type in ("", "a"):
        return [rule.allow, "a", None, None, "rwm"]
    return [rule.allow, rule.type, major, minor, rule.access]


def shares_to_weight(shares: int) -> int:
    """cpu.shares (2 to 262144) as cpu.weight (1 to 10000)."""
    return 1 + (shares - 2) * 9999 // 262142
