"""Answers about containers and their execs."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET

from kist.wire.answer import Answer, Descriptor, Labels, Maybe, Plain, Strings, capital_id, since
from kist.wire.configs import ContainerConfig, HostConfig, MountType, PortBinding
from kist.wire.networks import EndpointSettings

Status: TypeAlias = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]


class ContainerCreated(Answer, frozen=True, kw_only=True):
    """The answer of POST /containers/create (ContainerCreateResponse)."""

    id: str
    warnings: list[str]


class ExitError(Answer, frozen=True, kw_only=True):
    message: str


class ContainerWaited(Answer, frozen=True, kw_only=True):
    """The answer of POST /containers/{id}/wait (ContainerWaitResponse)."""

    status_code: int
    error: Maybe[ExitError] = UNSET


class Processes(Answer, frozen=True, kw_only=True):
    """The answer of GET /containers/{id}/top (ContainerTopResponse)."""

    titles: list[str]
    processes: list[list[str]]


class ContainerUpdated(Answer, frozen=True, kw_only=True):
    warnings: Strings


class ContainersPruned(Answer, frozen=True, kw_only=True):
    containers_deleted: Strings
    space_reclaimed: int


class Change(Answer, frozen=True, kw_only=True):
    """One element of GET /containers/{id}/changes: 0 changed, 1 added, 2 deleted."""

    path: str
    kind: Literal[0, 1, 2]


class Checkpoint(Answer, frozen=True, kw_only=True):
    """One element of GET /containers/{id}/checkpoints, which the contract file does not have."""

    name: str


# --- inspect ---


class MountPoint(Answer, frozen=True, kw_only=True):
    type: Maybe[MountType] = UNSET
    name: Maybe[str] = UNSET
    source: str
    destination: str
    driver: Maybe[str] = UNSET
    mode: str
    rw: bool
    propagation: str


class DriverData(Answer, frozen=True, kw_only=True):
    name: str
    data: Labels


class HealthResult(Answer, frozen=True, kw_only=True):
    start: str
    end: str
    exit_code: int
    output: str


class Health(Answer, frozen=True, kw_only=True):
    status: Literal["none", "starting", "healthy", "unhealthy"]
    failing_streak: int
    log: list[HealthResult] | None


class ContainerState(Answer, frozen=True, kw_only=True):
    status: Status
    running: bool
    paused: bool
    restarting: bool
    oom_killed: bool
    dead: bool
    pid: int
    exit_code: int
    error: str
    started_at: str
    finished_at: str
    health: Maybe[Health] = UNSET


class Address(Answer, frozen=True, kw_only=True):
    addr: str
    prefix_len: int


class NetworkSettings(Answer, frozen=True, kw_only=True):
    bridge: str
    sandbox_id: str
    sandbox_key: str
    ports: dict[str, list[PortBinding] | None] | None
    hairpin_mode: bool
    link_local_ipv6_address: str
    link_local_ipv6_prefix_len: int
    secondary_ip_addresses: list[Address] | None
    secondary_ipv6_addresses: list[Address] | None
    endpoint_id: str
    gateway: str
    global_ipv6_address: str
    global_ipv6_prefix_len: int
    ip_address: str
    ip_prefix_len: int
    ipv6_gateway: str
    mac_address: str
    networks: dict[str, EndpointSettings]


class ContainerInspect(Answer, frozen=True, kw_only=True):
    """The answer of GET /containers/{id}/json (ContainerInspectResponse)."""

    id: str
    created: str
    path: str
    args: list[str]
    state: ContainerState
    image: str
    resolv_conf_path: str
    hostname_path: str
    hosts_path: str
    log_path: str
    name: str
    restart_count: int
    driver: str
    platform: str
    image_manifest_descriptor: Maybe[Descriptor] = UNSET
    mount_label: str
    process_label: str
    app_armor_profile: str
    exec_ids: Strings
    host_config: HostConfig
    graph_driver: DriverData
    size_rw: Maybe[int] = UNSET
    size_root_fs: Maybe[int] = UNSET
    mounts: list[MountPoint]
    config: ContainerConfig
    network_settings: NetworkSettings


# --- the list ---


class Port(Answer, frozen=True, kw_only=True):
    ip: Maybe[str] = UNSET
    private_port: int
    public_port: Maybe[int] = UNSET
    type: Literal["tcp", "udp", "sctp"]


class SummaryHostConfig(Answer, frozen=True, kw_only=True):
    network_mode: Maybe[str] = UNSET
    annotations: Annotated[Maybe[dict[str, str]], since("1.46")] = UNSET


class SummaryNetworkSettings(Answer, frozen=True, kw_only=True):
    networks: dict[str, EndpointSettings]


class ContainerSummary(Answer, frozen=True, kw_only=True):
    """One element of GET /containers/json. Sizes of 0 are left out, as Go does."""

    id: str
    names: list[str]
    image: str
    image_id: str
    image_manifest_descriptor: Maybe[Descriptor] = UNSET
    command: str
    created: int
    ports: list[Port]
    size_rw: Maybe[int] = UNSET
    size_root_fs: Maybe[int] = UNSET
    labels: dict[str, str]
    state: Status
    status: str
    host_config: SummaryHostConfig
    network_settings: SummaryNetworkSettings
    mounts: list[MountPoint]


# --- execs ---


class ProcessConfig(Plain, frozen=True, kw_only=True):
    tty: bool
    entrypoint: str
    arguments: list[str]
    privileged: Maybe[bool] = UNSET
    user: Maybe[str] = UNSET


class ExecInspect(Answer, frozen=True, kw_only=True, rename=capital_id):
    """The answer of GET /exec/{id}/json. `detach_keys` is base64 of the bytes they send, as Go writes []byte."""

    id: str
    running: bool
    exit_code: int | None
    process_config: ProcessConfig
    open_stdin: bool
    open_stderr: bool
    open_stdout: bool
    can_remove: bool
    container_id: str
    detach_keys: str
    pid: int
