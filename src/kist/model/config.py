"""What a user asks of a container, in Docker's own terms: Config, HostConfig and what they hold.

Field names are Docker's in snake case; `rename` turns them into the names on the wire (Engine API v1.51, definitions
ContainerConfig and HostConfig). None means "the client did not say", which Docker's answers show as null. Sizes are
bytes, times nanoseconds, unless a field says otherwise. Decoding is strict about types; unknown fields are ignored.
A whole number is Go's int64 unless its type says otherwise; requests are held to it (kist.wire.decode), what is stored
is not, so that it stays readable.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

GoInt: TypeAlias = Annotated[int, msgspec.Meta(extra={"go": "int"})]
Uint: TypeAlias = Annotated[int, msgspec.Meta(extra={"go": "uint"})]
Uint16: TypeAlias = Annotated[int, msgspec.Meta(extra={"go": "uint16"})]
Uint64: TypeAlias = Annotated[int, msgspec.Meta(extra={"go": "uint64"})]
FileMode: TypeAlias = Annotated[int, msgspec.Meta(extra={"go": "fs.FileMode"})]
Duration: TypeAlias = Annotated[int, msgspec.Meta(extra={"go": "time.Duration"})]

# Names that a plain snake_case -> PascalCase conversion does not give.
_EXCEPTIONS = {
    "container_id_file": "ContainerIDFile",
    "uts_mode": "UTSMode",
    "oom_kill_disable": "OomKillDisable",
    "io_maximum_iops": "IOMaximumIOps",
    "io_maximum_bandwidth": "IOMaximumBandwidth",
    "kernel_memory_tcp": "KernelMemoryTCP",
    "blkio_device_read_iops": "BlkioDeviceReadIOps",
    "blkio_device_write_iops": "BlkioDeviceWriteIOps",
    "ipam_config": "IPAMConfig",
    "network_id": "NetworkID",
    "endpoint_id": "EndpointID",
    "ip_address": "IPAddress",
    "ip_prefix_len": "IPPrefixLen",
    "ipv6_gateway": "IPv6Gateway",
    "global_ipv6_address": "GlobalIPv6Address",
    "global_ipv6_prefix_len": "GlobalIPv6PrefixLen",
    "dns_names": "DNSNames",
    "ipv4_address": "IPv4Address",
    "ipv6_address": "IPv6Address",
    "link_local_ips": "LinkLocalIPs",
    "device_ids": "DeviceIDs",
    "host_ip": "HostIp",
    "id_map": "IDMap",
}


def wire_name(field: str) -> str:
    """The name of a field on the wire: `open_stdin` -> `OpenStdin`, with Go's initialisms where Docker has them."""
    return _EXCEPTIONS.get(field) or "".join(part[:1].upper() + part[1:] for part in field.split("_"))


class Health(msgspec.Struct, frozen=True, rename=wire_name):
    """A health check (HealthConfig). `test` empty inherits the image's; ["NONE"] switches it off. Nanoseconds."""

    test: list[str] | None = None
    interval: Duration = 0
    timeout: Duration = 0
    retries: GoInt = 0
    start_period: Duration = 0
    start_interval: Duration = 0


class ContainerConfig(msgspec.Struct, frozen=True, rename=wire_name):
    """What is the same on every host (ContainerConfig). Also the `config` object of an image."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, object]] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: Health | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, dict[str, object]] | None = None
    working_dir: str = ""
    entrypoint: list[str] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: GoInt | None = None
    shell: list[str] | None = None


class LogConfig(msgspec.Struct, frozen=True, rename=wire_name):
    type: str = ""
    config: dict[str, str] | None = None


class PortBinding(msgspec.Struct, frozen=True, rename=wire_name):
    """Where a port of the container is to be reached on the host; empty host_port: any free one."""

    host_ip: str = ""
    host_port: str = ""


class RestartPolicy(msgspec.Struct, frozen=True, rename=wire_name):
    name: str = ""
    maximum_retry_count: GoInt = 0


class KistBindOptions(msgspec.Struct, frozen=True, rename=wire_name, omit_defaults=True):
    """What only this engine has of binds; dockerd reads over it. `id_map` as in model/idmap.py."""

    id_map: str = ""


class BindOptions(msgspec.Struct, frozen=True, rename=wire_name, omit_defaults=True):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False
    kist: KistBindOptions | None = None


class DriverConfig(msgspec.Struct, frozen=True, rename=wire_name, omit_defaults=True):
    name: str = ""
    options: dict[str, str] | None = None


class VolumeOptions(msgspec.Struct, frozen=True, rename=wire_name, omit_defaults=True):
    no_copy: bool = False
    labels: dict[str, str] | None = None
    driver_config: DriverConfig | None = None
    subpath: str = ""


class ImageOptions(msgspec.Struct, frozen=True, rename=wire_name, omit_defaults=True):
    subpath: str = ""


class TmpfsOptions(msgspec.Struct, frozen=True, rename=wire_name, omit_defaults=True):
    size_bytes: int = 0
    mode: FileMode = 0
    options: list[list[str]] | None = None


class MountRequest(msgspec.Struct, frozen=True, rename=wire_name, omit_defaults=True):
    """One entry of HostConfig.Mounts, what `--mount` says. `type` is bind, volume, tmpfs, image, cluster or npipe."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class WeightDevice(msgspec.Struct, frozen=True, rename=wire_name):
    path: str = ""
    weight: Uint16 = 0


class ThrottleDevice(msgspec.Struct, frozen=True, rename=wire_name):
    path: str = ""
    rate: Uint64 = 0


class DeviceMapping(msgspec.Struct, frozen=True, rename=wire_name):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(msgspec.Struct, frozen=True, rename=wire_name):
    driver: str = ""
    count: GoInt = 0
    device_ids: list[str] | None = None
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class Ulimit(msgspec.Struct, frozen=True, rename=wire_name):
    name: str = ""
    hard: int = 0
    soft: int = 0


class HostConfig(msgspec.Struct, frozen=True, rename=wire_name):
    """What depends on this host (HostConfig, the embedded Resources included)."""

    binds: list[str] | None = None
    container_id_file: str = ""
    log_config: LogConfig | None = None
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy | None = None
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    mounts: list[MountRequest] | None = None
    console_size: tuple[Uint, Uint] | None = None
    annotations: dict[str, str] | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: GoInt = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    # Resources
    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: Uint16 = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = None
    blkio_device_write_iops: list[ThrottleDevice] | None = None
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    kernel_memory: int = 0
    kernel_memory_tcp: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    init: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: Uint64 = 0
    io_maximum_bandwidth: Uint64 = 0


class EndpointIPAMConfig(msgspec.Struct, frozen=True, rename=wire_name, omit_defaults=True):
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: list[str] | None = None


class EndpointSettings(msgspec.Struct, frozen=True, rename=wire_name):
    """How a container is to be, or is, attached to one network."""

    ipam_config: EndpointIPAMConfig | None = None
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: GoInt = 0
    network_id: str = ""
    endpoint_id: str = ""
    gateway: str = ""
    ip_address: str = ""
    ip_prefix_len: GoInt = 0
    ipv6_gateway: str = ""
    global_ipv6_address: str = ""
    global_ipv6_prefix_len: GoInt = 0
    dns_names: list[str] | None = None


class ExecConfig(msgspec.Struct, frozen=True, rename=wire_name):
    """What an exec is to run (the body of POST /containers/{id}/exec)."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: tuple[Uint, Uint] | None = None
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | None = None
