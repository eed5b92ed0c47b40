"""The configuration of a container as answers show it: what config.py takes, with everything in its place."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET

from kist.wire.answer import Answer, Labels, Maybe, Strings, before

MountType: TypeAlias = Literal["bind", "cluster", "image", "npipe", "tmpfs", "volume"]
Empty: TypeAlias = dict[str, dict[str, object]]  # Go's map[string]struct{}: a set


class HealthConfig(Answer, frozen=True, kw_only=True):
    """Nanoseconds."""

    test: Maybe[list[str]] = UNSET
    interval: Maybe[int] = UNSET
    timeout: Maybe[int] = UNSET
    retries: Maybe[int] = UNSET
    start_period: Maybe[int] = UNSET
    start_interval: Maybe[int] = UNSET


class ContainerConfig(Answer, frozen=True, kw_only=True):
    hostname: str
    domainname: str
    user: str
    attach_stdin: bool
    attach_stdout: bool
    attach_stderr: bool
    exposed_ports: Maybe[Empty] = UNSET
    tty: bool
    open_stdin: bool
    stdin_once: bool
    env: Strings
    cmd: Strings
    healthcheck: Maybe[HealthConfig] = UNSET
    args_escaped: Maybe[bool] = UNSET
    image: str
    volumes: Empty | None
    working_dir: str
    entrypoint: Strings
    network_disabled: Maybe[bool] = UNSET
    mac_address: Maybe[str] = UNSET
    on_build: Strings
    labels: Labels
    stop_signal: Maybe[str] = UNSET
    stop_timeout: Maybe[int] = UNSET
    shell: Maybe[list[str]] = UNSET


class LogConfig(Answer, frozen=True, kw_only=True):
    type: str
    config: Labels


class PortBinding(Answer, frozen=True, kw_only=True):
    host_ip: str
    host_port: str


class RestartPolicy(Answer, frozen=True, kw_only=True):
    name: Literal["", "no", "always", "unless-stopped", "on-failure"]
    maximum_retry_count: int


class KistBindOptions(Answer, frozen=True, kw_only=True):
    id_map: Maybe[str] = UNSET


class BindOptions(Answer, frozen=True, kw_only=True):
    propagation: Maybe[Literal["private", "rprivate", "shared", "rshared", "slave", "rslave"]] = UNSET
    non_recursive: Maybe[bool] = UNSET
    create_mountpoint: Maybe[bool] = UNSET
    read_only_non_recursive: Maybe[bool] = UNSET
    read_only_force_recursive: Maybe[bool] = UNSET
    kist: Maybe[KistBindOptions] = UNSET


class DriverConfig(Answer, frozen=True, kw_only=True):
    name: Maybe[str] = UNSET
    options: Maybe[dict[str, str]] = UNSET


class VolumeOptions(Answer, frozen=True, kw_only=True):
    no_copy: Maybe[bool] = UNSET
    labels: Maybe[dict[str, str]] = UNSET
    driver_config: Maybe[DriverConfig] = UNSET
    subpath: Maybe[str] = UNSET


class ImageOptions(Answer, frozen=True, kw_only=True):
    subpath: Maybe[str] = UNSET


class TmpfsOptions(Answer, frozen=True, kw_only=True):
    size_bytes: Maybe[int] = UNSET
    mode: Maybe[int] = UNSET
    options: Maybe[list[list[str]]] = UNSET


class Mount(Answer, frozen=True, kw_only=True):
    type: Maybe[MountType] = UNSET
    source: Maybe[str] = UNSET
    target: Maybe[str] = UNSET
    read_only: Maybe[bool] = UNSET
    consistency: Maybe[str] = UNSET
    bind_options: Maybe[BindOptions] = UNSET
    volume_options: Maybe[VolumeOptions] = UNSET
    image_options: Maybe[ImageOptions] = UNSET
    tmpfs_options: Maybe[TmpfsOptions] = UNSET


class WeightDevice(Answer, frozen=True, kw_only=True):
    path: str
    weight: int


class ThrottleDevice(Answer, frozen=True, kw_only=True):
    path: str
    rate: int


class DeviceMapping(Answer, frozen=True, kw_only=True):
    path_on_host: str
    path_in_container: str
    cgroup_permissions: str


class DeviceRequest(Answer, frozen=True, kw_only=True):
    driver: str
    count: int
    device_ids: Strings
    capabilities: list[list[str]] | None
    options: Labels


class Ulimit(Answer, frozen=True, kw_only=True):
    name: str
    hard: int
    soft: int


class HostConfig(Answer, frozen=True, kw_only=True):
    binds: Strings
    container_id_file: str
    log_config: LogConfig
    network_mode: str
    port_bindings: dict[str, list[PortBinding] | None] | None
    restart_policy: RestartPolicy
    auto_remove: bool
    volume_driver: str
    volumes_from: Strings
    mounts: Maybe[list[Mount]] = UNSET
    console_size: tuple[int, int]
    annotations: Maybe[dict[str, str]] = UNSET
    cap_add: Strings
    cap_drop: Strings
    cgroupns_mode: Literal["private", "host"]
    dns: Strings
    dns_options: Strings
    dns_search: Strings
    extra_hosts: Strings
    group_add: Strings
    ipc_mode: str
    cgroup: str
    links: Strings
    oom_score_adj: int
    pid_mode: str
    privileged: bool
    publish_all_ports: bool
    readonly_rootfs: bool
    security_opt: Strings
    storage_opt: Maybe[dict[str, str]] = UNSET
    tmpfs: Maybe[dict[str, str]] = UNSET
    uts_mode: str
    userns_mode: str
    shm_size: int
    sysctls: Maybe[dict[str, str]] = UNSET
    runtime: Maybe[str] = UNSET
    isolation: Literal["default", "process", "hyperv", ""]
    masked_paths: Strings
    readonly_paths: Strings
    # Resources
    cpu_shares: int
    memory: int
    nano_cpus: int
    cgroup_parent: str
    blkio_weight: int
    blkio_weight_device: list[WeightDevice] | None
    blkio_device_read_bps: list[ThrottleDevice] | None
    blkio_device_write_bps: list[ThrottleDevice] | None
    blkio_device_read_iops: list[ThrottleDevice] | None
    blkio_device_write_iops: list[ThrottleDevice] | None
    cpu_period: int
    cpu_quota: int
    cpu_realtime_period: int
    cpu_realtime_runtime: int
    cpuset_cpus: str
    cpuset_mems: str
    devices: list[DeviceMapping] | None
    device_cgroup_rules: Strings
    device_requests: list[DeviceRequest] | None
    kernel_memory: Annotated[Maybe[int], before("1.42")] = UNSET
    kernel_memory_tcp: Maybe[int] = UNSET
    memory_reservation: int
    memory_swap: int
    memory_swappiness: int | None
    oom_kill_disable: bool | None
    init: Maybe[bool] = UNSET
    pids_limit: int | None
    ulimits: list[Ulimit] | None
    cpu_count: int
    cpu_percent: int
    io_maximum_iops: int
    io_maximum_bandwidth: int
