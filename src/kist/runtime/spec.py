"""From a container's record to its OCI configuration: every decision about how it is confined. Pure but for `Host`,
which says what this machine and this engine offer.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence

import msgspec

from kist.model import endpoint_sysctls
from kist.model.config import DeviceMapping, HostConfig, Ulimit
from kist.model.container import ContainerRecord, MountPoint
from kist.model.errors import InvalidParameter
from kist.model.mount import Mount
from kist.model.number import is_number
from kist.runtime import oci
from kist.runtime.security import SecurityOptions, parse_security_options, tweak_capabilities

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT_PATH = "/sbin/docker-init"
MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_NODES = (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9))
_ALLOWED_NODES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (10, 200))  # the last is net/tun
IPC_SYSCTLS = frozenset({
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
})  # fmt: skip
_TMPFS_VALUES = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})
_TMPFS_FLAGS = frozenset({
    "defaults", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync", "mand",
    "nomand", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
    "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable", "bind", "rbind",
    "remount",
})  # fmt: skip
_QUIET = ("nosuid", "noexec", "nodev")


class Host(msgspec.Struct, frozen=True):
    """What the engine knows about this machine and its own settings."""

    capabilities: frozenset[str]
    ping_sysctls: bool = True  # /proc/sys/net/ipv4/ping_group_range exists
    default_ulimits: tuple[tuple[str, int, int], ...] = ()
    default_shm_size: int = 64 << 20
    no_new_privileges: bool = False
    cgroupns: str = "private"
    ipc: str = "private"
    init: bool = False
    init_binary: str = ""
    gid_of_tty: int = 5


class Joined(msgspec.Struct, frozen=True):
    """Namespaces of other containers to join: `/proc/<pid>/ns/…`, "" for its own."""

    network: str = ""
    pid: str = ""
    ipc: str = ""
    shm: str = ""  # the mount namespace with the /dev/shm that belongs to that ipc namespace


def build_spec(
    record: ContainerRecord,
    host: Host,
    joined: Joined,
    files: Mapping[str, str],
    rootfs: str,
    id_map: tuple[int, int] | None = None,
    linked: tuple[str, ...] = (),
    images: Mapping[str, Mount] | None = None,
) -> oci.Spec:
    """`files` maps /etc/hosts and so on to the engine's own copies; `id_map` is (first id outside, how many); `linked`
    are variables that tell of linked containers; `images` says by destination how an image is mounted there.
    """
    config, asked = record.config, record.host_config
    options = parse_security_options(asked.security_opt or ())
    capabilities = capabilities_of(asked, host)
    with_init = uses_init(asked, host)
    command = (record.path, *record.args)
    return oci.Spec(
        root=oci.Root(rootfs, asked.readonly_rootfs),
        process=oci.Process(
            cwd=config.working_dir or "/",
            args=(INIT_PATH, "--", *command) if with_init else command,
            env=environment(record, linked),
            terminal=config.tty,
            console_size=_console(asked),
            capabilities=oci.Capabilities(bounding=capabilities, effective=capabilities, permitted=capabilities),
            rlimits=rlimits(asked.ulimits or [], host),
            no_new_privileges=(
                host.no_new_privileges if options.no_new_privileges is None else options.no_new_privileges
            ),
            oom_score_adj=asked.oom_score_adj,  # always: the daemon may have one of its own
        ),
        hostname=config.hostname,
        domainname=config.domainname,
        mounts=_mounts(record, host, options, files, with_init, joined.shm, images or {}),
        linux=oci.Linux(
            namespaces=_namespaces(asked, host, joined, id_map),
            uid_mappings=(oci.IDMapping(0, *id_map),) if id_map else (),
            gid_mappings=(oci.IDMapping(0, *id_map),) if id_map else (),
            devices=_devices(asked),
            cgroups_path="",
            resources=_resources(asked),
            rootfs_propagation=_root_propagation(record),
            sysctl=_sysctls(asked, host, id_map) | _interface_sysctls(record),
            masked_paths=_paths(asked.masked_paths, MASKED_PATHS, asked, options),
            readonly_paths=_paths(asked.readonly_paths, READONLY_PATHS, asked, options),
        ),
        annotations=asked.annotations or {},
    )


def capabilities_of(asked: HostConfig, host: Host) -> tuple[str, ...]:
    return tweak_capabilities(asked.cap_add or (), asked.cap_drop or (), asked.privileged, host.capabilities)


def _console(asked: HostConfig) -> dict[str, int] | None:
    size = asked.console_size
    return {"height": size[0], "width": size[1]} if size and any(size) else None


def uses_init(asked: HostConfig, host: Host) -> bool:
    """Whether the reaper is process 1: asked for, by the container or the engine, and a pid namespace of its own."""
    return asked.pid_mode == "" and (host.init if asked.init is None else asked.init)


def environment(record: ContainerRecord, linked: Sequence[str] = ()) -> tuple[str, ...]:
    """PATH, HOSTNAME and TERM as Docker sets them, those of linked containers, then what was asked; a name without `=`
    takes the former away.
    """
    found = {"PATH": DEFAULT_PATH, "HOSTNAME": record.config.hostname}
    if record.config.tty:
        found["TERM"] = "xterm"
    for variable in (*linked, *(record.config.env or ())):
        name, equals, value = variable.partition("=")
        if equals:
            found[name] = value
        else:
            found.pop(name, None)
    return tuple(f"{name}={value}" for name, value in found.items())


def _paths(
    asked: list[str] | None, default: tuple[str, ...], host: HostConfig, options: SecurityOptions
) -> tuple[str, ...]:
    if host.privileged or options.systempaths_unconfined:
        return ()
    return default if asked is None else tuple(asked)


def _namespaces(
    asked: HostConfig, host: Host, joined: Joined, id_map: tuple[int, int] | None
) -> tuple[oci.Namespace, ...]:
    found = [oci.Namespace("mount")]
    if id_map is not None:
        found.append(oci.Namespace("user"))
    if asked.uts_mode != "host":
        found.append(oci.Namespace("uts"))
    if asked.network_mode != "host":
        found.append(oci.Namespace("network", joined.network))
    if asked.pid_mode != "host":
        found.append(oci.Namespace("pid", joined.pid))
    if asked.ipc_mode != "host":
        found.append(oci.Namespace("ipc", joined.ipc))
    if (asked.cgroupns_mode or host.cgroupns) == "private":
        found.append(oci.Namespace("cgroup"))
    return tuple(found)


def rlimits(asked: Sequence[Ulimit], host: Host) -> tuple[oci.Rlimit, ...]:
    """The container's limits over the daemon's."""
    limits = {name: (soft, hard) for name, soft, hard in host.default_ulimits}
    limits.update({one.name: (one.soft, one.hard) for one in asked})
    return tuple(oci.Rlimit(f"RLIMIT_{name.upper()}", soft, hard) for name, (soft, hard) in limits.items())


def _sysctls(asked: HostConfig, host: Host, id_map: tuple[int, int] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    if asked.network_mode not in ("host",) and not asked.network_mode.startswith("container:"):
        if id_map is None and host.ping_sysctls:
            found["net.ipv4.ping_group_range"] = "0 2147483647"
        found["net.ipv4.ip_unprivileged_port_start"] = "0"
    for key in asked.sysctls or {}:
        _check_sysctl(key, asked)
    return {**found, **(asked.sysctls or {})}


def _interface_sysctls(record: ContainerRecord) -> dict[str, str]:
    """Of the interfaces that the container has, by their names inside."""
    found: dict[str, str] = {}
    for endpoint in record.endpoints:
        settings = record.networks.get(endpoint.network)
        if settings is None and endpoint.network == "bridge":
            settings = record.networks.get("default")
        if settings is not None:
            found |= endpoint_sysctls.parse(settings, endpoint.name)
    return found


def _check_sysctl(key: str, asked: HostConfig) -> None:
    """What is not of a namespace of the container's own would be the host's. Raises InvalidParameter."""
    parts = key.split("/" if "/" in key else ".")
    if not key.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise InvalidParameter(f'sysctl "{key}" is not the name of a kernel parameter')
    name = key.replace("/", ".")
    if name.startswith("net."):
        own, reason = asked.network_mode != "host", "not allowed in host network namespace"
    else:
        of_ipc = name in IPC_SYSCTLS or name.startswith("fs.mqueue.")
        own = (of_ipc and asked.ipc_mode != "host") or (name == "kernel.domainname" and asked.uts_mode != "host")
        reason = "is not in a separate kernel namespace"
    if own:
        return
    raise InvalidParameter(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        f'sysctl "{key}" {reason}'
    )


# --- mounts ---


def _mounts(
    record: ContainerRecord,
    host: Host,
    options: SecurityOptions,
    files: Mapping[str, str],
    with_init: bool,
    shm: str,
    images: Mapping[str, Mount],
) -> tuple[oci.Mount, ...]:
    asked = record.host_config
    user = {mount.destination for mount in record.mounts}
    writable_cgroups = asked.privileged if options.writable_cgroups is None else options.writable_cgroups
    found = [mount for mount in _default_mounts(asked, host, writable_cgroups, shm)
             if mount.destination not in user
             and not ("/dev" in user and mount.destination.startswith("/dev/"))]  # fmt: skip
    if with_init:
        found.append(oci.Mount(INIT_PATH, "bind", host.init_binary, ("bind", "ro")))
    own = [
        _image_mount(mount, images[mount.destination]) if mount.image else _user_mount(mount) for mount in record.mounts
    ]
    own += [
        oci.Mount(target, "bind", source, ("rbind", "rprivate"))
        for target, source in files.items()
        if target not in user
    ]
    # the deeper the later: /etc/hosts is there even where a volume is mounted at /etc
    found += sorted(own, key=lambda mount: mount.destination.rstrip("/").count("/"))
    if asked.readonly_rootfs:
        keep = {"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", *user}
        found = [
            mount if mount.destination in keep else msgspec.structs.replace(mount, options=(*mount.options, "ro"))
            for mount in found
        ]
    return tuple(found)


def _default_mounts(asked: HostConfig, host: Host, writable_cgroups: bool, shm: str) -> list[oci.Mount]:
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", f"gid={host.gid_of_tty}")
    sysfs = _QUIET if asked.privileged else (*_QUIET, "ro")
    found = [
        oci.Mount("/proc", "proc", "proc", _QUIET),
        oci.Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        oci.Mount("/dev/pts", "devpts", "devpts", pts),
        oci.Mount("/sys", "sysfs", "sysfs", sysfs),
    ]
    found.append(oci.Mount("/sys/fs/cgroup", "cgroup", "cgroup", _QUIET if writable_cgroups else ("ro", *_QUIET)))
    if asked.ipc_mode == "host":
        return [
            *found,
            oci.Mount("/dev/mqueue", "mqueue", "mqueue", _QUIET),  # of the namespace it is mounted in: the host's
            oci.Mount("/dev/shm", "bind", "/dev/shm", ("rbind",)),
        ]
    found.append(oci.Mount("/dev/mqueue", "mqueue", "mqueue", _QUIET))
    if shm:
        found.append(oci.Mount("/dev/shm", "bind", "/dev/shm", ("bind", "rprivate", f"{oci.NAMESPACE}{shm}")))
    elif asked.ipc_mode != "none":
        size = asked.shm_size or host.default_shm_size
        found.append(oci.Mount("/dev/shm", "tmpfs", "shm", (*_QUIET, "mode=1777", f"size={size}")))
    return found


def _user_mount(mount: MountPoint) -> oci.Mount:
    if mount.type == "tmpfs":
        words = tuple(mount.options)
        for word in words:
            key, equals, value = word.partition("=")
            if word and key not in (_TMPFS_VALUES if equals else _TMPFS_FLAGS):
                told = f'"{key}" "{value}"' if equals else f'"{key}"'
                raise InvalidParameter(f"invalid tmpfs option [{told}]")
        given = {word.partition("=")[0] for word in words}
        defaults = [word for word in _QUIET if word.removeprefix("no") not in given and word not in given]
        return oci.Mount(mount.destination, "tmpfs", "tmpfs", (*defaults, *words))
    options = ["rbind" if mount.recursive else "bind"]
    if not mount.rw:
        options.append("ro")
        if mount.read_only_recursive:
            options.append("rro")
    options.append(mount.propagation or "rprivate")
    if mount.subpath:  # resolved when it is mounted, below the volume: others may write to that
        options.append(f"{oci.SUBPATH}{mount.subpath}")
    uids, gids = _id_mappings(mount, options)
    return oci.Mount(mount.destination, "bind", mount.source, tuple(options), uids, gids)


def _id_mappings(mount: MountPoint, options: list[str]) -> tuple[tuple[oci.IDMapping, ...], tuple[oci.IDMapping, ...]]:
    """An id-mapped mount's; for one that keeps its owner only init knows them, who looks the user up."""
    ids = mount.id_map
    if ids is None:
        return (), ()
    options.append("ridmap" if mount.recursive else "idmap")
    if ids.keep is not None:
        options.append(f"{oci.KEEP}{ids.keep[0]}:{ids.keep[1]}")
    uids, gids = (tuple(oci.IDMapping(*one) for one in ranges) for ranges in (ids.uids, ids.gids))
    return uids, gids


def _image_mount(point: MountPoint, image: Mount) -> oci.Mount:
    part = (f"{oci.SUBPATH}{point.subpath}",) if point.subpath else ()
    return oci.Mount(point.destination, image.type, image.source, (*image.options, *part))


def _root_propagation(record: ContainerRecord) -> str:
    wanted = {mount.propagation for mount in record.mounts}
    if wanted & {"shared", "rshared"}:
        return "shared"
    return "rslave" if wanted & {"slave", "rslave"} else ""


# --- devices and limits ---


def _devices(asked: HostConfig) -> tuple[oci.Device, ...]:
    found = [oci.Device(f"/dev/{name}", "c", 1, minor, 0o666) for name, minor in _NODES]
    found.append(oci.Device("/dev/tty", "c", 5, 0, 0o666))
    known = {device.path for device in found} | {"/dev/console", "/dev/ptmx"}
    if asked.privileged:
        found += [device for device in host_devices("/dev") if device.path not in known]
    for mapping in asked.devices or ():
        found += _mapped(mapping)
    return tuple(found)


def host_devices(root: str) -> list[oci.Device]:
    """Every device node of the host, but terminals and what is mounted below /dev."""
    skip = {"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}
    found: list[oci.Device] = []
    for directory, children, names in os.walk(root):
        children[:] = [name for name in children if name not in skip]
        for name in names:
            device = _node(f"{directory}/{name}", f"{directory}/{name}")
            if device is not None and name != "console":
                found.append(device)
    return found


def _node(path: str, inside: str) -> oci.Device | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        return None
    return oci.Device(
        inside,
        "c" if stat.S_ISCHR(status.st_mode) else "b",
        os.major(status.st_rdev),
        os.minor(status.st_rdev),
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
    )


def _mapped(mapping: DeviceMapping) -> list[oci.Device]:
    """A device, or every device below a directory. Raises InvalidParameter with Docker's text."""
    inside = mapping.path_in_container or mapping.path_on_host
    source = os.path.realpath(mapping.path_on_host)
    device = _node(source, inside)
    if device is not None:
        return [device]
    if os.path.isdir(source):
        nodes = host_devices(source)
        return [msgspec.structs.replace(one, path=inside + one.path[len(source) :]) for one in nodes]
    reason = "not a device node" if os.path.exists(source) else "no such file or directory"
    raise InvalidParameter(
        f'error gathering device information while adding custom device "{mapping.path_on_host}": {reason}'
    )


def _resources(asked: HostConfig) -> oci.Resources:
    return oci.Resources(
        devices=_device_rules(asked),
        memory=_memory(asked),
        cpu=_cpu(asked),
        pids=oci.Pids(asked.pids_limit) if asked.pids_limit else None,
        block_io=_block(asked),
    )


def limits_of(asked: HostConfig) -> oci.Resources:
    """What may be changed while a container runs."""
    return oci.Resources(
        memory=_memory(asked),
        cpu=_cpu(asked),
        pids=oci.Pids(asked.pids_limit) if asked.pids_limit else None,
        block_io=oci.BlockIO(weight=asked.blkio_weight or None),
    )


def _device_rules(asked: HostConfig) -> tuple[oci.DeviceRule, ...]:
    if asked.privileged:
        return (oci.DeviceRule(True, "a", access="rwm"),)
    rules = [oci.DeviceRule(False, "a", access="rwm")]
    rules += [oci.DeviceRule(True, kind, None, None, "m") for kind in ("c", "b")]
    rules += [oci.DeviceRule(True, "c", major, minor, "rwm") for major, minor in _ALLOWED_NODES]
    rules.append(oci.DeviceRule(True, "c", 136, None, "rwm"))
    for mapping in asked.devices or ():
        rules += [
            oci.DeviceRule(True, device.type, device.major, device.minor, mapping.cgroup_permissions or "rwm")
            for device in _mapped(mapping)
        ]
    return (*rules, *[parse_device_rule(rule) for rule in asked.device_cgroup_rules or ()])


def parse_device_rule(text: str) -> oci.DeviceRule:
    """`c 1:3 rwm`. Raises InvalidParameter with Docker's text."""
    words = text.split(" ")
    major, colon, minor = words[1].partition(":") if len(words) == 3 else ("", "", "")
    numbers = [None if word == "*" else int(word) if is_number(word) else -1 for word in (major, minor)]
    if not colon or words[0] not in ("a", "b", "c") or -1 in numbers or not set(words[2]) <= set("rwm") or not words[2]:
        raise InvalidParameter(f"invalid device cgroup rule format: '{text}'")
    return oci.DeviceRule(True, words[0], numbers[0], numbers[1], words[2])


def _memory(asked: HostConfig) -> oci.Memory:
    swap = asked.memory_swap
    if asked.memory and not swap:
        swap = 2 * asked.memory
    return oci.Memory(
        limit=asked.memory or None,
        swap=max(swap, -1) or None,
        reservation=asked.memory_reservation or None,
        swappiness=None if asked.memory_swappiness in (None, -1) else asked.memory_swappiness,
        disable_oom_killer=asked.oom_kill_disable or None,
    )


def _cpu(asked: HostConfig) -> oci.CPU:
    period, quota = asked.cpu_period, asked.cpu_quota
    if asked.nano_cpus:
        period = 100_000
        quota = asked.nano_cpus * period // 1_000_000_000
    return oci.CPU(
        shares=asked.cpu_shares or None,
        period=period or None,
        quota=quota or None,
        cpus=asked.cpuset_cpus,
        mems=asked.cpuset_mems,
        realtime_period=asked.cpu_realtime_period or None,
        realtime_runtime=asked.cpu_realtime_runtime or None,
    )


def _block(asked: HostConfig) -> oci.BlockIO:
    def throttle(devices: list[object] | None) -> tuple[oci.ThrottleDevice, ...]:
        found = []
        for one in devices or ():
            major, minor = _block_number(getattr(one, "path", ""))
            found.append(oci.ThrottleDevice(major, minor, getattr(one, "rate", 0)))
        return tuple(found)

    weights = tuple(oci.WeightDevice(*_block_number(one.path), one.weight) for one in asked.blkio_weight_device or ())
    return oci.BlockIO(
        weight=asked.blkio_weight or None,
        weight_device=weights,
        throttle_read_bps_device=throttle(list(asked.blkio_device_read_bps or ())),
        throttle_write_bps_device=throttle(list(asked.blkio_device_write_bps or ())),
        throttle_read_iops_device=throttle(list(asked.blkio_device_read_iops or ())),
        throttle_write_iops_device=throttle(list(asked.blkio_device_write_iops or ())),
    )


def _block_number(path: str) -> tuple[int, int]:
    try:
        number = os.stat(path).st_rdev
    except OSError as error:
        raise InvalidParameter(f"stat {path}: {(error.strerror or '').lower()}") from error
    return os.major(number), os.minor(number)
