"""From an OCI configuration to the operations that make it true. Pure: nothing here touches the kernel.

The order is what matters: cgroups and links before anything else, while init still sees the host, mounts before the
pivot, paths masked after it, identity and capabilities last, and the seccomp filter in the very last step.
"""

from __future__ import annotations

import base64
import json
import stat
from typing import Any, NamedTuple

import msgspec

from kist.kernel import caps, const, process
from kist.kernel.cgroup import Layout
from kist.model.network import Link
from kist.monitor import operations as do
from kist.monitor.nameserver import OpenNameserver
from kist.runtime import cgroups, oci
from kist.runtime.launch import ExecRequest, LaunchRequest

NAMESPACES = {
    "mount": const.CLONE_NEWNS,
    "uts": const.CLONE_NEWUTS,
    "ipc": const.CLONE_NEWIPC,
    "pid": const.CLONE_NEWPID,
    "network": const.CLONE_NEWNET,
    "user": const.CLONE_NEWUSER,
    "cgroup": const.CLONE_NEWCGROUP,
}
# fstab words -> MOUNT_ATTR_* to set; the negative ones are the default.
_ATTRIBUTES = {
    "ro": const.MOUNT_ATTR_RDONLY,
    "nosuid": const.MOUNT_ATTR_NOSUID,
    "nodev": const.MOUNT_ATTR_NODEV,
    "noexec": const.MOUNT_ATTR_NOEXEC,
    "noatime": const.MOUNT_ATTR_NOATIME,
    "nodiratime": const.MOUNT_ATTR_NODIRATIME,
    "strictatime": const.MOUNT_ATTR_STRICTATIME,
    "nosymfollow": const.MOUNT_ATTR_NOSYMFOLLOW,
}
_IGNORED = frozenset({
    "rw", "suid", "dev", "exec", "atime", "diratime", "relatime", "norelatime", "nostrictatime", "async", "nomand",
    "symfollow", "defaults", "bind", "rbind", "rro", "idmap", "ridmap",
})  # fmt: skip
MOUNT_OPTIONS = frozenset(_ATTRIBUTES) | _IGNORED
PROPAGATION = {
    "private": const.MS_PRIVATE,
    "slave": const.MS_SLAVE,
    "shared": const.MS_SHARED,
    "unbindable": const.MS_UNBINDABLE,
    "rprivate": const.MS_PRIVATE | const.MS_REC,
    "rslave": const.MS_SLAVE | const.MS_REC,
    "rshared": const.MS_SHARED | const.MS_REC,
    "runbindable": const.MS_UNBINDABLE | const.MS_REC,
}
_DEVICE_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
# What the runtime itself mounts is never put where an image's or a volume's symbolic link leads (CVE-2026-41579).
_KERNEL_FILE_SYSTEMS = frozenset({"proc", "sysfs", "devpts", "mqueue", "cgroup2"})
_PLAIN_TARGETS = frozenset({"/dev", "/dev/shm"})
_SYMLINKS = (
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
    ("pts/ptmx", "dev/ptmx"),
)


class Start(NamedTuple):
    """A message to a monitor, and the plan that it passes on unread to the process it makes."""

    message: dict[str, Any]
    plan: bytes


def launch(request: LaunchRequest, layout: Layout) -> Start:
    """What starts a container: what the monitor must know, its own operations, and apart from them init's."""
    message = {
        "command": "launch",
        "config": start_config(request),
        "before": do.encode(monitor_operations(request, layout)),
    }
    return Start(message, _encode(init_operations(request, layout)))


def _encode(operations: list[do.Operation]) -> bytes:
    return json.dumps(do.encode(operations), separators=(",", ":")).encode()


def start_config(request: LaunchRequest) -> dict[str, Any]:
    """What whoever starts and keeps the container must know of it."""
    flags, pid_path, own_pids = 0, "", False
    for namespace in request.spec.linux.namespaces:
        if namespace.type == "pid":
            own_pids = not namespace.path
            pid_path = namespace.path
        if not namespace.path and namespace.type != "cgroup":
            flags |= NAMESPACES[namespace.type]
    return {
        "id": request.container_id,
        "tty": request.spec.process.terminal,
        "open_stdin": request.open_stdin,
        "stdin_once": request.stdin_once,
        "run_dir": request.run_dir,
        "cgroup": request.cgroup,
        "clone_flags": flags,
        "pid_namespace": pid_path,
        "shares_pids": not own_pids,
        "links": bool(request.links),
        "watch_oom": _is_limited(request.spec.linux.resources),
        "owner": [_outside(request.spec.linux.uid_mappings), _outside(request.spec.linux.gid_mappings)],
        "log": msgspec.structs.asdict(request.log),
        "runtime": None,  # this engine
    }


def _is_limited(resources: oci.Resources | None) -> bool:
    return resources is not None and resources.memory is not None and bool(resources.memory.limit)


def _outside(mappings: tuple[oci.IDMapping, ...]) -> int:
    """The id in the host of a container's id 0."""
    return next((one.host_id for one in mappings if one.container_id == 0), 0)


def monitor_operations(request: LaunchRequest, layout: Layout) -> list[do.Operation]:
    """What only the monitor may do: all outside of the container when init is in a user namespace, else nothing.

    What the monitor does not do it does not carry in memory for as long as the container lives.
    """
    linux = request.spec.linux
    if not _remapped(request.spec):
        return []
    uids = [[one.container_id, one.host_id, one.size] for one in linux.uid_mappings]
    gids = [[one.container_id, one.host_id, one.size] for one in linux.gid_mappings]
    return [*_cgroup(request, layout), do.WriteIdMaps(uids, gids), *_links(request)]


def _remapped(spec: oci.Spec) -> bool:
    return any(namespace.type == "user" and not namespace.path for namespace in spec.linux.namespaces)


def _cgroup(request: LaunchRequest, layout: Layout) -> list[do.Operation]:
    limits = cgroups.writes(layout, request.cgroup, request.spec.linux.resources or oci.Resources())
    return [do.MakeCgroup(request.cgroup), *limits]


def _links(request: LaunchRequest) -> list[do.Operation]:
    return [
        do.MakeVeth(link.host_name, link.bridge_index, link.name, link.mac, link.mtu, link.hairpin)
        for link in request.links
    ]


def own_links(request: LaunchRequest) -> list[do.Operation]:
    """Links that init makes in its own namespace: what they begin with it says before."""
    found: list[do.Operation] = []
    for link, made in zip(request.links, _links(request), strict=True):
        if _has_ipv6(link):
            found.append(made)
        else:
            found += [do.DisableIPv6("default"), made, do.DisableIPv6("default", "0")]
    return found


def _has_ipv6(link: Link) -> bool:
    return any(":" in address for address in link.addresses)


def init_operations(request: LaunchRequest, layout: Layout) -> list[do.Operation]:
    """Everything between clone and exec."""
    spec = request.spec
    own = {namespace.type for namespace in spec.linux.namespaces if not namespace.path}
    outside = [] if _remapped(spec) else [*_cgroup(request, layout), *own_links(request)]
    return [
        *outside,
        do.JoinCgroup(request.cgroup),
        *_namespaces(spec, own),
        *_root(request, layout, own),
        *_identity(spec, own),
        *network_steps(request),
        *[do.SetSysctl(key, value) for key, value in spec.linux.sysctl.items()],
        *_confine(spec),
        *_process(request),
    ]


def _namespaces(spec: oci.Spec, own: set[str]) -> list[do.Operation]:
    found: list[do.Operation] = [
        do.JoinNamespace(namespace.path, NAMESPACES[namespace.type])
        for namespace in spec.linux.namespaces
        if namespace.path and namespace.type != "pid"
    ]
    if "user" in own:
        found += [do.AwaitMonitor(), do.BecomeRoot()]
    if "cgroup" in own:
        found.append(do.Unshare(const.CLONE_NEWCGROUP))
    return found


def _root(request: LaunchRequest, layout: Layout, own: set[str]) -> list[do.Operation]:
    spec = request.spec
    outside = PROPAGATION.get(spec.linux.rootfs_propagation, const.MS_SLAVE)
    travels = const.MS_SLAVE if outside & (const.MS_SLAVE | const.MS_SHARED) else const.MS_PRIVATE
    found: list[do.Operation] = [*_kept_shared(spec), do.IsolateMounts(travels | const.MS_REC)]
    root, *inside = request.rootfs
    attributes, options, _ = split_options(root.options)
    found.append(do.MountRoot(root.type, root.source, options, attributes, request.root_dir))
    for layer in inside:
        found.append(mount_step(oci.Mount(layer.target, layer.type, layer.source, layer.options)))
    mounted_dev = False
    for mount in spec.mounts:
        if mount.type == "cgroup":
            found += _cgroup_mounts(mount, layout, request.cgroup, own)
            continue
        if not mounted_dev and mount.destination not in ("/proc", "/dev"):
            mounted_dev = True
            found += _devices(spec)
        if any(word.startswith(oci.KEEP) for word in mount.options):
            found.append(do.ResolveUser(request.user, list(request.extra_groups)))
        found.append(mount_step(mount))
    if not mounted_dev:
        found += _devices(spec)
    if spec.process.terminal:
        size = spec.process.console_size or {}
        found.append(do.OpenConsole(size.get("height", 0), size.get("width", 0), True))
    found.append(do.MakeWorkingDirectory(spec.process.cwd))
    found.append(do.PivotRoot())
    if spec.linux.rootfs_propagation in PROPAGATION:
        found.append(do.RootPropagation(PROPAGATION[spec.linux.rootfs_propagation]))
    return found


def _kept_shared(spec: oci.Spec) -> list[do.Operation]:
    """Without a root that is shared nothing travels out, as in runc."""
    if spec.linux.rootfs_propagation not in ("shared", "rshared"):
        return []
    return [
        do.KeepShared(mount.source, mount.destination, "rbind" in mount.options)
        for mount in spec.mounts
        if {"shared", "rshared"} & set(mount.options)
        and {"bind", "rbind"} & {mount.type, *mount.options}
        and not any(word.startswith((oci.SUBPATH, oci.NAMESPACE)) for word in mount.options)
    ]


def split_options(words: tuple[str, ...]) -> tuple[int, list[str], int]:
    """fstab words as (MOUNT_ATTR_*, options for the file system, MS_* propagation)."""
    attributes, options, propagation = 0, [], 0
    for word in words:
        if word in _ATTRIBUTES:
            attributes |= _ATTRIBUTES[word]
        elif word in PROPAGATION:
            propagation |= PROPAGATION[word]
        elif word not in _IGNORED:
            options.append(word)
    return attributes, options, propagation


def mount_step(mount: oci.Mount) -> do.Operation:
    attributes, options, propagation = split_options(mount.options)
    target = mount.destination
    if mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options:
        recursive = "rbind" in mount.options
        deep = "rro" in mount.options
        inside = next((one[len(oci.SUBPATH) :] for one in mount.options if one.startswith(oci.SUBPATH)), "")
        elsewhere = next((one[len(oci.NAMESPACE) :] for one in mount.options if one.startswith(oci.NAMESPACE)), "")
        return do.BindInside(
            *(mount.source, target, recursive, attributes, deep, propagation, inside, elsewhere), _ids(mount)
        )
    if mount.type == "overlay":
        inside = next((one[len(oci.SUBPATH) :] for one in options if one.startswith(oci.SUBPATH)), "")
        options = [one for one in options if not one.startswith(oci.SUBPATH)]
        return do.MountOverlay(mount.source, options, attributes, target, inside)
    if mount.type == "sysfs" and attributes & const.MOUNT_ATTR_RDONLY:
        options = [*options, "ro"]  # the file system of this network namespace, not only this mount of it
    plain = mount.type in _KERNEL_FILE_SYSTEMS or target in _PLAIN_TARGETS
    return do.MountInside(mount.type, mount.source, options, attributes, target, plain)


def _ids(mount: oci.Mount) -> list[list[list[int]]]:
    """As BindInside takes them."""
    kept = next((one[len(oci.KEEP) :] for one in mount.options if one.startswith(oci.KEEP)), "")
    if kept:
        return [[[int(number)] for number in kept.split(":")]]
    if not mount.uid_mappings:
        return []
    both = (mount.uid_mappings, mount.gid_mappings)
    return [[[one.container_id, one.host_id, one.size] for one in mappings] for mappings in both]


def _cgroup_mounts(mount: oci.Mount, layout: Layout, group: str, own: set[str]) -> list[do.Operation]:
    """The container's own group in each v1 hierarchy; of the v2 tree what its cgroup namespace shows.

    A new mount of the v2 tree from the host's cgroup namespace would set the options of every mount of it (nsdelegate,
    cgroups(7)), so the host's is bound there.
    """
    attributes, _, _ = split_options(mount.options)
    if layout.is_v2 and "cgroup" not in own:
        return [do.BindInside(layout.unified, mount.destination, False, attributes, False, 0)]
    if layout.is_v2:
        return [do.MountInside("cgroup2", "cgroup", [], attributes, mount.destination, True)]
    groups, links = [], []
    for point in dict.fromkeys(layout.v1.values()):
        names = [name for name, where in layout.v1.items() if where == point]
        directory = point.rsplit("/", 1)[1]
        groups.append([f"{point}/{group}", directory])
        if "," in directory or len(names) > 1:
            links += [[directory, name] for name in names if name != directory]
    return [do.MountCgroups(mount.destination, groups, links, attributes)]


def _devices(spec: oci.Spec) -> list[do.Operation]:
    found: list[do.Operation] = []
    mapped = any(namespace.type == "user" for namespace in spec.linux.namespaces)
    for device in spec.linux.devices:
        name = device.path.lstrip("/")
        if mapped:  # mknod is not allowed in a user namespace: the host's node is bound
            found.append(do.BindInside(device.path, name, False, 0, False, 0))
            continue
        kind = _DEVICE_KINDS[device.type]
        found.append(
            do.MakeDevice(name, kind, device.major, device.minor, device.file_mode & 0o7777, device.uid, device.gid)
        )
    found += [do.MakeLink(target, name) for target, name in _SYMLINKS]
    found.append(do.MakeLink("/proc/kcore", "dev/core", True))
    return found


def _identity(spec: oci.Spec, own: set[str]) -> list[do.Operation]:
    found: list[do.Operation] = []
    if spec.hostname and "uts" in own:
        found.append(do.SetHostname(spec.hostname))
    if spec.domainname and "uts" in own:
        found.append(do.SetDomainname(spec.domainname))
    return found


def network_steps(request: LaunchRequest) -> list[do.Operation]:
    found: list[do.Operation] = []
    for link in request.links:
        if _remapped(request.spec) and not _has_ipv6(link):
            found.append(do.DisableIPv6(link.name))
        gateways = [gateway for gateway in (link.gateway4, link.gateway6) if gateway]
        found.append(do.ConfigureLink(link.name, list(link.addresses), gateways))
    if not request.links and request.loopback:
        found.append(do.RaiseLoopback())
    if request.dns:
        found.append(OpenNameserver())
    return found


def _confine(spec: oci.Spec) -> list[do.Operation]:
    found: list[do.Operation] = [do.ReadonlyPath(path) for path in spec.linux.readonly_paths]
    found += [do.MaskPath(path) for path in spec.linux.masked_paths]
    if spec.root.readonly:
        found.append(do.ReadonlyRoot())
    return found


def _process(request: LaunchRequest) -> list[do.Operation]:
    spec = request.spec
    return process_steps(
        spec.process,
        request.user,
        request.extra_groups,
        request.seccomp_program,
        request.seccomp_flags,
        f"_kist.{request.container_id[:12]}" if request.keyring is None else request.keyring,
    )


def process_steps(
    spec: oci.Process, user: str, groups: tuple[str, ...], program: bytes, flags: int, keyring: str
) -> list[do.Operation]:
    """The end of every plan: who the process is, what it may do, the program. `keyring`: a session keyring's name."""
    capabilities = spec.capabilities or oci.Capabilities()
    hold = 0 if spec.no_new_privileges or not program else caps.mask(["CAP_SYS_ADMIN"])
    search = next((one[5:] for one in spec.env if one.startswith("PATH=")), "")
    found: list[do.Operation] = [do.ResolveUser(user, list(groups)), do.NewSession(spec.terminal), do.OwnStreams()]
    if keyring:
        found.append(do.JoinKeyring(keyring))
    if spec.oom_score_adj is not None:
        found.append(do.SetOomScore(spec.oom_score_adj))
    found += [do.SetRlimit(one.type, one.soft, one.hard) for one in spec.rlimits]
    found += [
        do.ChangeDirectory(spec.cwd),
        do.DropBounding(caps.mask(list(capabilities.bounding))),
        do.BecomeUser(0o022 if spec.user.umask is None else spec.user.umask),
        do.SetCapabilities(
            caps.mask(list(capabilities.effective)),
            caps.mask(list(capabilities.permitted)),
            caps.mask(list(capabilities.inheritable)),
            caps.mask(list(capabilities.ambient)),
            hold,
        ),
        do.FindExecutable(spec.args[0], search),
    ]
    if spec.no_new_privileges:
        found.append(do.NoNewPrivileges())
    found.append(do.ParentDeathSignal())
    found.append(do.Execute(list(spec.args), list(spec.env), base64.b64encode(program).decode(), flags))
    return found


def exec_start(request: ExecRequest, shares: dict[str, bool]) -> Start:
    """What starts an exec. `shares`: namespaces of the container that are the host's (not joined)."""
    namespaces = 0
    for name, flag in NAMESPACES.items():
        if not shares.get(name) and (name != "user" or request.user_namespace):
            namespaces |= flag
    process_spec = oci.Process(
        cwd=request.cwd,
        args=request.args,
        env=request.env,
        terminal=request.tty,
        capabilities=oci.Capabilities(
            bounding=request.capabilities, effective=request.capabilities, permitted=request.capabilities
        ),
        no_new_privileges=request.no_new_privileges,
        rlimits=request.rlimits,
        oom_score_adj=request.oom_score_adj,
    )
    plan: list[do.Operation] = [do.BecomeRoot()] if request.user_namespace else []
    if request.tty:
        plan.append(do.OpenConsole(*request.console_size, False))
    plan += process_steps(
        process_spec, request.user, request.extra_groups, request.seccomp_program, request.seccomp_flags, ""
    )
    message = {
        "command": "exec",
        "id": request.exec_id,
        "config": {
            "tty": request.tty,
            "stdin": request.stdin,
            "stdout": request.stdout,
            "stderr": request.stderr,
            "namespaces": namespaces,
        },
    }
    return Start(message, _encode(plan))


def rlimit_names() -> frozenset[str]:
    """Names of ulimits that may be asked for, as in `nofile`."""
    return frozenset(name.removeprefix("RLIMIT_").lower() for name in process.RLIMITS)
