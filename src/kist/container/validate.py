"""Whether a container can be as it is asked for: every check that needs no state, in Docker's order and words.

`HostLimits` says what this kernel can do; everything else is pure. Wrong values raise InvalidParameter; what the
kernel cannot do is left out with a warning, as dockerd does it.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Mapping

import msgspec

from kist.container import binds
from kist.container.signals import check_signal
from kist.model import endpoint_sysctls
from kist.model.config import (
    ContainerConfig,
    EndpointIPAMConfig,
    EndpointSettings,
    Health,
    HostConfig,
    PortBinding,
    RestartPolicy,
)
from kist.model.errors import InvalidParameter
from kist.model.network import Network
from kist.model.number import is_number

MINIMUM_MEMORY = 6 << 20  # dockerd's lowest memory limit, bytes
MINIMUM_HEALTH_TIME = 1_000_000  # 1 ms in nanoseconds
_MOST_SHARES = 262144
_PREDEFINED = frozenset({"default", "bridge", "host", "none"})
_MAC = re.compile(r"^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$")
_NOT_THERE = "or the cgroup is not mounted."


class HostLimits(msgspec.Struct, frozen=True):
    """What the kernel offers for limits (from the cgroup layout). `cpus`/`mems`: numbers that may be named."""

    cpu_count: int
    cpus: frozenset[int] = frozenset()
    mems: frozenset[int] = frozenset()
    memory: bool = True
    swap: bool = True
    swappiness: bool = True
    reservation: bool = True
    kernel_memory: bool = False
    oom_kill_disable: bool = True
    pids: bool = True
    cpu_shares: bool = True
    cpu_quota: bool = True
    cpu_realtime: bool = False
    cpuset: bool = True
    blkio_weight: bool = False
    blkio_throttle: bool = True
    forwarding: bool = True


def validate_config(config: ContainerConfig) -> ContainerConfig:
    """Checks what is the same on every host; the answer has a clean working directory."""
    if config.working_dir:
        if not config.working_dir.startswith("/"):
            raise InvalidParameter(
                f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
            )
        config = msgspec.structs.replace(config, working_dir=posixpath.normpath(config.working_dir))
    if config.stop_signal:
        check_signal(config.stop_signal)
    for variable in config.env or ():
        if not variable.partition("=")[0]:
            raise InvalidParameter(f"invalid environment variable: {variable}")
    _validate_health(config.healthcheck)
    return config


def validate_host_config(host: HostConfig, limits: HostLimits) -> tuple[HostConfig, list[str]]:
    """The host configuration without what the kernel cannot do, and the warnings that say so."""
    if host.auto_remove and host.restart_policy and host.restart_policy.name not in ("", "no"):
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
    for mount in host.mounts or ():
        binds.validate_mount(mount)
    warned = ["Image mount is an experimental feature" for mount in host.mounts or () if mount.type == "image"]
    for entry in host.extra_hosts or ():
        _validate_extra_host(entry)
    validate_ports(host.port_bindings)
    validate_restart_policy(host.restart_policy)
    if "" in (host.annotations or {}):
        raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")
    host, warnings = validate_resources(host, limits)
    warnings = [*warned, *warnings]
    _validate_modes(host)
    if not limits.forwarding and host.network_mode not in ("host", "none"):
        warnings.append("IPv4 forwarding is disabled. Networking will not work.")
    if host.network_mode == "host" and host.port_bindings:
        warnings.append("Published ports are discarded when using host network mode")
    for destination in host.tmpfs or ():
        binds.check_tmpfs_destination(destination)
    return host, warnings


def validate_request(config: ContainerConfig, host: HostConfig, limits: HostLimits) -> None:
    """What dockerd checks first, while it decodes the request: conflicts between its halves, and what Linux has not."""
    mode = host.network_mode
    if mode == "container" or mode.startswith("container:"):
        _validate_joined_network(config, host)
    if host.uts_mode == "host" and config.hostname:
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    if mode == "host" and host.links:
        raise InvalidParameter(
            "conflicting options: host type networking can't be used with links. "
            "This would result in undefined behavior"
        )
    if host.isolation.lower() not in ("", "default"):
        raise InvalidParameter(f"invalid isolation ({host.isolation}): linux only supports 'default'")
    for what, asked in (("bandwidth", host.io_maximum_bandwidth), ("IOPs", host.io_maximum_iops)):
        if asked:
            raise InvalidParameter(f"invalid option: QoS maximum {what} configuration is not supported on linux")
    if (host.cpu_realtime_period or host.cpu_realtime_runtime) and not limits.cpu_realtime:
        raise InvalidParameter("kernel does not support CPU real-time scheduler")
    if 0 != host.cpu_realtime_period < host.cpu_realtime_runtime != 0:
        raise InvalidParameter("cpu real-time runtime cannot be higher than cpu real-time period")


def _validate_joined_network(config: ContainerConfig, host: HostConfig) -> None:
    if not host.network_mode.partition(":")[2]:
        raise InvalidParameter("invalid network mode: invalid container format container:<name|id>")
    conflicts = (
        (config.hostname, "conflicting options: hostname and the network mode"),
        (
            host.links,
            "conflicting options: container type network can't be used with links. "
            "This would result in undefined behavior",
        ),
        (host.dns, "conflicting options: dns and the network mode"),
        (host.extra_hosts, "conflicting options: custom host-to-IP mapping and the network mode"),
        (
            host.port_bindings or host.publish_all_ports,
            "conflicting options: port publishing and the container type network mode",
        ),
        (config.exposed_ports, "conflicting options: port exposing and the container type network mode"),
    )
    for present, text in conflicts:
        if present:
            raise InvalidParameter(text)


def validate_networking(endpoints: dict[str, EndpointSettings] | None, networks: Mapping[str, Network]) -> None:
    """`networks`: those that there are, by the names in the request."""
    for key, endpoint in (endpoints or {}).items():
        name = "bridge" if key == "default" else key
        check_endpoint(name, endpoint, networks.get(key), f"invalid config for network {name}: ")


def check_mac(address: str, where: str = "") -> None:
    """Raises InvalidParameter."""
    if address and not _MAC.match(address):
        raise InvalidParameter(f"{where}invalid MAC address {address}")


def check_endpoint(name: str, endpoint: EndpointSettings, network: Network | None, where: str = "") -> None:
    """Raises InvalidParameter that names everything that is wrong. `network`: None where there is none yet."""
    check_mac(endpoint.mac_address, where)
    try:
        endpoint_sysctls.parse(endpoint, "eth0")
    except InvalidParameter as error:
        raise InvalidParameter(f"{where}{error.message}") from error
    problems = _endpoint_problems(name, endpoint, network)
    if problems:
        told = problems[0] if len(problems) == 1 else "\n".join(f"* {problem}" for problem in problems)
        raise InvalidParameter(f"{where}invalid endpoint settings:\n{told}")


def _endpoint_problems(name: str, endpoint: EndpointSettings, network: Network | None) -> list[str]:
    ipam = endpoint.ipam_config or EndpointIPAMConfig()
    found = []
    if name in _PREDEFINED or name.startswith("container:"):
        if ipam.ipv4_address or ipam.ipv6_address:
            found.append("user specified IP address is supported on user defined networks only")
        if endpoint.aliases:
            found.append("network-scoped alias is supported only for containers in user defined networks")
    for family, address in (("IPv4", ipam.ipv4_address), ("IPv6", ipam.ipv6_address)):
        if address and not _is_address(address, family):
            found.append(f"invalid {family} address: {address}")
    found += [f"invalid link-local IP address: {one}" for one in ipam.link_local_ips or () if not _is_address(one)]
    if network is not None and not found:
        found += [
            told for one in (ipam.ipv4_address, ipam.ipv6_address) if one and (told := _out_of_range(network, one))
        ]
    return found


def _out_of_range(network: Network, address: str) -> str:
    wanted = ipaddress.ip_address(address)
    static = [
        ipaddress.ip_network(pool.subnet) for pool in network.pools if pool.asked and pool.is_ipv6 == (":" in address)
    ]
    if not static:
        return "user specified IP address is supported only when connecting to networks with user configured subnets"
    if any(wanted in subnet for subnet in static):
        return ""
    return f"no configured subnet or ip-range contain the IP address {address}"


def validate_ports(bindings: dict[str, list[PortBinding] | None] | None) -> None:
    for port, targets in (bindings or {}).items():
        number, _, protocol = port.partition("/")
        if not _is_port(number) or protocol not in ("", "tcp", "udp", "sctp"):
            raise InvalidParameter(f'invalid port specification: "{number}"')
        for target in targets or ():
            if target.host_port and not _is_port_or_range(target.host_port):
                raise InvalidParameter(f'invalid port specification: "{target.host_port}"')
            if target.host_ip and not _is_address(target.host_ip):
                raise InvalidParameter(f"invalid IP address: {target.host_ip}")


def validate_resources(host: HostConfig, limits: HostLimits, *, update: bool = False) -> tuple[HostConfig, list[str]]:
    """The resources as they can be here, and warnings. `update`: the container has limits, what is missing stays."""
    warnings: list[str] = []
    if host.memory == 0 and host.memory_swap > 0 and not update:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    host = _memory(host, limits, warnings)
    host = _cpu(host, limits, warnings)
    host = _cpuset(host, limits, warnings)
    return _blkio(host, limits, warnings), warnings


def _memory(host: HostConfig, limits: HostLimits, warnings: list[str]) -> HostConfig:
    replace = msgspec.structs.replace
    if host.memory_swappiness == -1:  # an old way to say "not set"
        host = replace(host, memory_swappiness=None)
    if host.memory != 0 and host.memory < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if host.memory > 0 and not limits.memory:
        warnings.append(f"Your kernel does not support memory limit capabilities {_NOT_THERE} Limitation discarded.")
        host = replace(host, memory=0, memory_swap=-1)
    if host.memory > 0 and host.memory_swap != -1 and not limits.swap:
        warnings.append(
            f"Your kernel does not support swap limit capabilities {_NOT_THERE} Memory limited without swap."
        )
        host = replace(host, memory_swap=-1)
    if host.memory > 0 and 0 < host.memory_swap < host.memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.memory_swappiness is not None and not limits.swappiness:
        warnings.append(
            f"Your kernel does not support memory swappiness capabilities {_NOT_THERE} Memory swappiness discarded."
        )
        host = replace(host, memory_swappiness=None)
    if host.memory_swappiness is not None and not 0 <= host.memory_swappiness <= 100:
        raise InvalidParameter(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")
    if host.memory_reservation > 0 and not limits.reservation:
        warnings.append(
            f"Your kernel does not support memory soft limit capabilities {_NOT_THERE} Limitation discarded."
        )
        host = replace(host, memory_reservation=0)
    if 0 < host.memory_reservation < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if host.memory > 0 and host.memory_reservation > host.memory:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")
    if host.kernel_memory > 0 and not limits.kernel_memory:
        warnings.append(
            f"Your kernel does not support kernel memory limit capabilities {_NOT_THERE} Limitation discarded."
        )
        host = replace(host, kernel_memory=0)
    return _oom_and_pids(host, limits, warnings)


def _oom_and_pids(host: HostConfig, limits: HostLimits, warnings: list[str]) -> HostConfig:
    replace = msgspec.structs.replace
    if host.oom_kill_disable is not None and not limits.oom_kill_disable:
        if host.oom_kill_disable:
            warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
        host = replace(host, oom_kill_disable=None)
    if host.oom_kill_disable and host.memory == 0:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    if host.pids_limit is not None and not limits.pids:
        if host.pids_limit > 0:
            warnings.append(f"Your kernel does not support PIDs limit capabilities {_NOT_THERE} PIDs limit discarded.")
        host = replace(host, pids_limit=None)
    return host


def _cpu(host: HostConfig, limits: HostLimits, warnings: list[str]) -> HostConfig:
    replace = msgspec.structs.replace
    if host.nano_cpus > 0 and host.cpu_period > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus > 0 and host.cpu_quota > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if host.nano_cpus > 0 and not limits.cpu_quota:
        raise InvalidParameter(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    if host.nano_cpus < 0 or host.nano_cpus > limits.cpu_count * 1_000_000_000:
        count = limits.cpu_count
        raise InvalidParameter(f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available")
    if limits.cpu_shares and host.cpu_shares < 0:
        raise InvalidParameter(f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer")
    if limits.cpu_shares and host.cpu_shares == 1:  # what runc says of the kernel's bounds
        raise InvalidParameter("invalid CPU shares (1): the minimum allowed cpu-shares is 2")
    if limits.cpu_shares and host.cpu_shares > _MOST_SHARES:
        raise InvalidParameter(
            f"invalid CPU shares ({host.cpu_shares}): the maximum allowed cpu-shares is {_MOST_SHARES}"
        )
    if host.cpu_shares > 0 and not limits.cpu_shares:
        warnings.append(f"Your kernel does not support CPU shares {_NOT_THERE} Shares discarded.")
        host = replace(host, cpu_shares=0)
    if (host.cpu_period or host.cpu_quota) and not limits.cpu_quota:
        warnings.append("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
        host = replace(host, cpu_period=0, cpu_quota=0)
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host.cpu_percent > 0:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        host = replace(host, cpu_percent=0)
    return host


def _cpuset(host: HostConfig, limits: HostLimits, warnings: list[str]) -> HostConfig:
    if (host.cpuset_cpus or host.cpuset_mems) and not limits.cpuset:
        warnings.append(f"Your kernel does not support cpuset {_NOT_THERE} Cpuset discarded.")
        return msgspec.structs.replace(host, cpuset_cpus="", cpuset_mems="")
    for what, kind, asked, there in (
        ("CPUs", "cpus", host.cpuset_cpus, limits.cpus),
        ("memory nodes", "mems", host.cpuset_mems, limits.mems),
    ):
        if not asked:
            continue
        numbers = parse_cpuset(asked)
        if numbers is None:
            raise InvalidParameter(f"Invalid value {asked} for cpuset {kind}: invalid format: {asked}")
        if not numbers <= there:
            raise InvalidParameter(
                f"Requested {what} are not available - requested {asked}, available: {format_cpuset(there)}"
            )
    return host


def parse_cpuset(text: str) -> frozenset[int] | None:
    """`0-2,7` as numbers (cpuset(7), list format); None when it is malformed."""
    numbers: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if not is_number(low) or (dash and not is_number(high)):
            return None
        first, last = int(low), int(high or low)
        if last < first or last > 8192:
            return None
        numbers.update(range(first, last + 1))
    return frozenset(numbers)


def format_cpuset(numbers: frozenset[int]) -> str:
    ordered = sorted(numbers)
    parts: list[str] = []
    while ordered:
        end = 0
        while end + 1 < len(ordered) and ordered[end + 1] == ordered[end] + 1:
            end += 1
        parts.append(str(ordered[0]) if end == 0 else f"{ordered[0]}-{ordered[end]}")
        ordered = ordered[end + 1 :]
    return ",".join(parts)


def _blkio(host: HostConfig, limits: HostLimits, warnings: list[str]) -> HostConfig:
    replace = msgspec.structs.replace
    if host.blkio_weight > 0 and not limits.blkio_weight:
        warnings.append(f"Your kernel does not support Block I/O weight {_NOT_THERE} Weight discarded.")
        host = replace(host, blkio_weight=0)
    if host.blkio_weight > 0 and not 10 <= host.blkio_weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if host.blkio_weight_device and not limits.blkio_weight:
        warnings.append(f"Your kernel does not support Block I/O weight_device {_NOT_THERE} Weight-device discarded.")
        host = replace(host, blkio_weight_device=[])
    for field, text in (
        ("blkio_device_read_bps", "BPS Block I/O read limit {} Block I/O BPS read limit discarded."),
        ("blkio_device_write_bps", "BPS Block I/O write limit {} Block I/O BPS write limit discarded."),
        ("blkio_device_read_iops", "IOPS Block read limit {} Block I/O IOPS read limit discarded."),
        ("blkio_device_write_iops", "IOPS Block write limit {} Block I/O IOPS write limit discarded."),
    ):
        if getattr(host, field) and not limits.blkio_throttle:
            warnings.append("Your kernel does not support " + text.format(_NOT_THERE))
            host = replace(host, **{field: []})
    return host


def _validate_modes(host: HostConfig) -> None:
    if host.ipc_mode not in ("", "none", "private", "host", "shareable") and not _names_container(
        host.ipc_mode, empty=True
    ):
        raise InvalidParameter(f"invalid IPC mode: {host.ipc_mode}")
    if host.pid_mode not in ("", "host") and not _names_container(host.pid_mode):
        raise InvalidParameter(f"invalid PID mode: {host.pid_mode}")
    if host.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    if host.uts_mode not in ("", "host"):
        raise InvalidParameter(f"invalid UTS mode: {host.uts_mode}")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidParameter(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if host.cgroupns_mode not in ("", "host", "private"):
        raise InvalidParameter(f"invalid cgroup namespace mode: {host.cgroupns_mode}")


def _names_container(mode: str, *, empty: bool = False) -> bool:
    kind, colon, name = mode.partition(":")
    return kind == "container" and bool(colon) and (empty or bool(name))


def _validate_health(health: Health | None) -> None:
    if health is None:
        return
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value != 0 and value < MINIMUM_HEALTH_TIME:
            raise InvalidParameter(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")


def validate_restart_policy(policy: RestartPolicy | None) -> None:
    if policy is None or policy.name == "":
        return
    if policy.name in ("no", "always", "unless-stopped"):
        if policy.maximum_retry_count != 0:
            text = "invalid restart policy: maximum retry count can only be used with 'on-failure'"
            raise InvalidParameter(text + (" and cannot be negative" if policy.maximum_retry_count < 0 else ""))
    elif policy.name == "on-failure":
        if policy.maximum_retry_count < 0:
            raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    else:
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{policy.name}'; "
            f"use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )


def _validate_extra_host(entry: str) -> None:
    name, colon, address = entry.partition(":")
    if not colon or not name:
        raise InvalidParameter(f'bad format for add-host: "{entry}"')
    if address != "host-gateway" and not _is_address(address):
        raise InvalidParameter(f'invalid IP address in add-host: "{address}"')


def _is_address(text: str, family: str = "") -> bool:
    try:
        version = ipaddress.ip_address(text.strip("[]")).version
    except ValueError:
        return False
    return not family or family == f"IPv{version}"


def _is_port(text: str) -> bool:
    return is_number(text) and len(text) <= 5 and 0 < int(text) <= 65535


def _is_port_or_range(text: str) -> bool:
    low, dash, high = text.partition("-")
    if not dash:
        return text == "0" or _is_port(text)
    return _is_port(low) and _is_port(high) and int(low) <= int(high)
