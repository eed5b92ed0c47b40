"""The OCI runtime configuration (runtime-spec v1.2, config.md, config-linux.md): what this engine carries out.

Names on the wire are camelCase; what was not said is not written.
"""

from __future__ import annotations

from typing import Any

import msgspec


class User(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()


class Capabilities(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    soft: int
    hard: int


class Process(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    cwd: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    terminal: bool = False
    console_size: dict[str, int] | None = None
    user: User = User()
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None


class Root(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    path: str
    readonly: bool = False


SUBPATH = "x-kist.subpath="  # a mount option of ours (mount(8), x-*): what below the source is bound

KEEP = "x-kist.keep="  # the same: UID:GID of the host, which the container's user has on what is mounted

NAMESPACE = "x-kist.namespace="  # the same: in which mount namespace the source is


class IDMapping(msgspec.Struct, frozen=True, rename="camel"):
    container_id: int = msgspec.field(name="containerID")
    host_id: int = msgspec.field(name="hostID")
    size: int = 0


class Mount(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()  # of an id-mapped mount: from the file system's ids to those shown
    gid_mappings: tuple[IDMapping, ...] = ()


class Namespace(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    type: str
    path: str = ""


class Device(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int = 0o666
    uid: int = 0
    gid: int = 0


class DeviceRule(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    allow: bool
    type: str = ""
    major: int | None = None
    minor: int | None = None
    access: str = ""


class Memory(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool | None = msgspec.field(name="disableOOMKiller", default=None)


class CPU(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""


class Pids(msgspec.Struct, frozen=True, rename="camel"):
    limit: int


class WeightDevice(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    major: int
    minor: int
    weight: int = 0


class ThrottleDevice(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    major: int
    minor: int
    rate: int


class BlockIO(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = msgspec.field(name="throttleReadIOPSDevice", default=())
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = msgspec.field(name="throttleWriteIOPSDevice", default=())


class HugepageLimit(msgspec.Struct, frozen=True, rename="camel"):
    page_size: str
    limit: int


class Resources(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: CPU | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = msgspec.field(name="blockIO", default=None)
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    unified: dict[str, str] = {}


class Seccomp(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    syscalls: tuple[dict[str, Any], ...] = ()


class Linux(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    devices: tuple[Device, ...] = ()
    cgroups_path: str = ""
    resources: Resources | None = None
    rootfs_propagation: str = ""
    seccomp: Seccomp | None = None
    sysctl: dict[str, str] = {}
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()


class Hook(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A program the runtime starts with the container's state on its standard input (config.md, Hooks)."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None  # seconds


class Hooks(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Spec(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`config.json`. Validate with `msgspec.convert`; a test holds its JSON against the specification's schema."""

    root: Root
    process: Process
    linux: Linux
    oci_version: str = msgspec.field(name="ociVersion", default="1.2.0")
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    annotations: dict[str, str] = {}
    hooks: Hooks = Hooks()


def to_json(spec: Spec) -> dict[str, Any]:
    """JSON-ready data. `ociVersion` is written though it has a default: the schema wants it."""
    data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(spec))
    return {"ociVersion": spec.oci_version, **data}
