"""Answers about the engine: version, info, disk usage, events."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET

from kist.wire.answer import Answer, Labels, Maybe, Pairs, Plain, Strings, before, capital_id, since
from kist.wire.containers import ContainerSummary
from kist.wire.images import ImageSummary
from kist.wire.networks import Volume

_INFO_NAMES = {"cpu_shares": "CPUShares", "cpu_set": "CPUSet", "os_version": "OSVersion"}


def _info_name(field: str) -> str:
    return _INFO_NAMES.get(field) or capital_id(field)


class _CapitalId(Answer, frozen=True, kw_only=True, rename=capital_id):
    """Objects that spell `ID` in capitals."""


# --- version ---


class PlatformName(Answer, frozen=True, kw_only=True):
    name: str


class Component(Answer, frozen=True, kw_only=True):
    name: str
    version: str
    details: Maybe[dict[str, str]] = UNSET


class Version(Answer, frozen=True, kw_only=True):
    """The answer of GET /version (SystemVersion)."""

    platform: PlatformName
    components: list[Component]
    version: str
    api_version: str
    min_api_version: str
    git_commit: str
    go_version: str
    os: str
    arch: str
    kernel_version: str
    experimental: Maybe[bool] = UNSET
    build_time: Maybe[str] = UNSET


# --- info ---


class Plugins(Answer, frozen=True, kw_only=True):
    volume: list[str]
    network: list[str]
    authorization: Strings
    log: list[str]


class Index(Answer, frozen=True, kw_only=True):
    name: str
    mirrors: Strings
    secure: bool
    official: bool


class RegistryConfig(Answer, frozen=True, kw_only=True):
    insecure_registry_cidrs: Strings
    index_configs: dict[str, Index]
    mirrors: Strings
    allow_nondistributable_artifacts_cidrs: Annotated[Maybe[Strings], before("1.47")] = UNSET
    allow_nondistributable_artifacts_hostnames: Annotated[Maybe[Strings], before("1.47")] = UNSET


class NamedResource(Answer, frozen=True, kw_only=True):
    kind: str
    value: str


class DiscreteResource(Answer, frozen=True, kw_only=True):
    kind: str
    value: int


class GenericResource(Answer, frozen=True, kw_only=True):
    named_resource_spec: Maybe[NamedResource] = UNSET
    discrete_resource_spec: Maybe[DiscreteResource] = UNSET


class Runtime(Plain, frozen=True, kw_only=True, rename="camel"):
    path: Maybe[str] = UNSET
    runtime_args: Maybe[list[str]] = UNSET
    status: Annotated[Maybe[dict[str, str]], since("1.44")] = UNSET


class Commit(_CapitalId, frozen=True, kw_only=True):
    id: str
    expected: Annotated[Maybe[str], before("1.49")] = UNSET


class PeerNode(Answer, frozen=True, kw_only=True):
    node_id: str
    addr: str


class Swarm(Answer, frozen=True, kw_only=True):
    node_id: str
    node_addr: str
    local_node_state: Literal["", "inactive", "pending", "active", "error", "locked"]
    control_available: bool
    error: str
    remote_managers: list[PeerNode] | None
    nodes: Maybe[int] = UNSET
    managers: Maybe[int] = UNSET


class AddressPool(Answer, frozen=True, kw_only=True):
    base: str
    size: int


class Firewall(Answer, frozen=True, kw_only=True):
    driver: str
    info: Maybe[Pairs] = UNSET


class Device(_CapitalId, frozen=True, kw_only=True):
    source: str
    id: str


class ContainerdNamespaces(Answer, frozen=True, kw_only=True):
    containers: str
    plugins: str


class Containerd(Answer, frozen=True, kw_only=True):
    address: Maybe[str] = UNSET
    namespaces: ContainerdNamespaces


class Info(Answer, frozen=True, kw_only=True, rename=_info_name):
    """The answer of GET /info (SystemInfo)."""

    id: str
    containers: int
    containers_running: int
    containers_paused: int
    containers_stopped: int
    images: int
    driver: str
    driver_status: Pairs
    docker_root_dir: str
    plugins: Plugins
    memory_limit: bool
    swap_limit: bool
    kernel_memory: Annotated[Maybe[bool], before("1.42")] = UNSET
    kernel_memory_tcp: Maybe[bool] = UNSET
    cpu_cfs_period: bool
    cpu_cfs_quota: bool
    cpu_shares: bool
    cpu_set: bool
    pids_limit: bool
    oom_kill_disable: bool
    ipv4_forwarding: bool
    bridge_nf_iptables: Annotated[Maybe[bool], before("1.50")] = UNSET
    bridge_nf_ip6tables: Annotated[Maybe[bool], before("1.50")] = UNSET
    debug: bool
    nfd: int
    ngoroutines: int
    system_time: str
    logging_driver: str
    cgroup_driver: Literal["cgroupfs", "systemd", "none"]
    cgroup_version: Literal["1", "2"]
    nevents_listener: int
    kernel_version: str
    operating_system: str
    os_version: str
    os_type: str
    architecture: str
    ncpu: int
    mem_total: int
    index_server_address: str
    registry_config: RegistryConfig
    generic_resources: list[GenericResource] | None
    http_proxy: str
    https_proxy: str
    no_proxy: str
    name: str
    labels: list[str]
    experimental_build: bool
    server_version: str
    runtimes: dict[str, Runtime]
    default_runtime: str
    swarm: Swarm
    live_restore_enabled: bool
    isolation: Literal["default", "hyperv", "process", ""]
    init_binary: str
    containerd_commit: Commit
    runc_commit: Commit
    init_commit: Commit
    security_options: list[str]
    product_license: Maybe[str] = UNSET
    default_address_pools: Maybe[list[AddressPool]] = UNSET
    firewall_backend: Annotated[Maybe[Firewall], since("1.49")] = UNSET
    discovered_devices: Annotated[Maybe[list[Device]], since("1.50")] = UNSET
    warnings: Strings
    cdi_spec_dirs: Strings
    containerd: Annotated[Maybe[Containerd], since("1.46")] = UNSET


# --- disk usage ---


class BuildCache(_CapitalId, frozen=True, kw_only=True):
    id: str
    parent: Annotated[Maybe[str], before("1.42")] = UNSET
    parents: Maybe[list[str]] = UNSET
    type: Literal["internal", "frontend", "source.local", "source.git.checkout", "exec.cachemount", "regular"]
    description: str
    in_use: bool
    shared: bool
    size: int
    created_at: str
    last_used_at: str | None
    usage_count: int


class DiskUsage(Answer, frozen=True, kw_only=True):
    """The answer of GET /system/df; null for kinds that were not asked for."""

    layers_size: int
    images: list[ImageSummary] | None
    containers: list[ContainerSummary] | None
    volumes: list[Volume] | None
    build_cache: list[BuildCache] | None
    builder_size: Annotated[Maybe[int], before("1.42")] = UNSET


# --- events ---


class Actor(_CapitalId, frozen=True, kw_only=True):
    id: str
    attributes: Labels


EventType: TypeAlias = Literal[
    "builder", "config", "container", "daemon", "image", "network", "node", "plugin", "secret", "service", "volume"
]


def _event_name(field: str) -> str:
    names = {"from_": "from", "time_nano": "timeNano", "type": "Type", "action": "Action", "actor": "Actor"}
    return names.get(field, field)


class Event(Plain, frozen=True, kw_only=True, rename=_event_name):
    """One message of GET /events. `status`, `id` and `from` tell again what Action and Actor say."""

    status: Maybe[str] = UNSET
    id: Maybe[str] = UNSET
    from_: Maybe[str] = UNSET
    type: EventType
    action: str
    actor: Actor
    scope: Literal["local", "swarm"]
    time: int
    time_nano: int
