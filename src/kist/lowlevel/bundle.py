"""A bundle (bundle.md) as what the engine's plan takes: config.json read, checked, and completed with what a runtime
gives every Linux container. What cannot be carried out is refused by its name, never passed over.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from kist.kernel import caps
from kist.kernel.process import RLIMITS
from kist.lowlevel.errors import RuntimeFailure
from kist.model.errors import InvalidParameter
from kist.runtime import oci, seccomp
from kist.runtime.plan import NAMESPACES
from kist.runtime.spec import IPC_SYSCTLS

# Properties of the specification that this runtime does not carry out: where, and what the value may be anyway.
_REFUSED: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("process.apparmorProfile", ("", "unconfined")),
    ("process.selinuxLabel", ("",)),
    ("process.ioPriority", (None,)),
    ("process.scheduler", (None,)),
    ("process.execCPUAffinity", (None, {})),
    ("process.commandLine", ("",)),
    ("linux.mountLabel", ("",)),
    ("linux.intelRdt", (None, {})),
    ("linux.personality", (None,)),
    ("linux.timeOffsets", (None, {})),
    ("linux.memoryPolicy", (None,)),
    ("linux.netDevices", (None, {})),
    ("linux.resources.network", (None, {})),
    ("linux.resources.rdma", (None, {})),
    ("linux.resources.memory.kernelTCP", (None, 0, -1)),
    ("linux.resources.memory.kernel", (None, 0, -1)),
    ("linux.resources.cpu.burst", (None, 0)),
    ("linux.resources.cpu.idle", (None, 0)),
    ("linux.resources.blockIO.leafWeight", (None, 0)),
    ("linux.seccomp.listenerPath", ("",)),
    ("windows", (None,)), ("solaris", (None,)), ("vm", (None,)), ("zos", (None,)), ("freebsd", (None,)),
)  # fmt: skip
_NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_ALLOWED = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200), (136, None))
_RECURSIVE = frozenset({
    "rsuid", "rnosuid", "rdev", "rnodev", "rexec", "rnoexec", "rrw", "ratime", "rnoatime", "rdiratime", "rnodiratime",
    "rrelatime", "rnorelatime", "rstrictatime", "rnostrictatime", "rsymfollow", "rnosymfollow", "idmap", "ridmap",
    "remount",
})  # fmt: skip


class Bundle(msgspec.Struct, frozen=True):
    """`copied` are the targets of tmpfs mounts that begin with what they cover."""

    path: str
    spec: oci.Spec
    program: bytes
    flags: int
    copied: frozenset[str]


def read(directory: str) -> Bundle:
    """Raises RuntimeFailure that names what is wrong."""
    path = os.path.abspath(directory or ".")
    try:
        with open(f"{path}/config.json", "rb") as file:
            text = file.read()
    except FileNotFoundError as error:
        raise RuntimeFailure("JSON specification file config.json not found") from error
    raw, spec = decode(text)
    check(spec)
    program, flags = filter_of(raw, spec.process.capabilities)
    copied = frozenset(one.destination for one in spec.mounts if "tmpcopyup" in one.options)
    return Bundle(path, _complete(spec, path), program, flags, copied)


def decode(text: bytes) -> tuple[dict[str, Any], oci.Spec]:
    """The configuration as JSON and as what is carried out of it. Raises RuntimeFailure."""
    try:
        raw = msgspec.json.decode(text, type=dict[str, Any])
        spec = msgspec.convert(raw, oci.Spec)
    except msgspec.MsgspecError as error:
        raise RuntimeFailure(f"config.json is not a configuration: {error}") from error
    refuse(raw)
    return raw, spec


def refuse(raw: dict[str, Any], prefix: str = "") -> None:
    """Raises RuntimeFailure for what is not carried out."""
    for place, harmless in _REFUSED:
        if not place.startswith(prefix):
            continue
        value: Any = raw
        for word in place.removeprefix(prefix).split("."):
            value = value.get(word) if isinstance(value, dict) else None
        if value is not None and value not in harmless:
            raise RuntimeFailure(f"{place} is not supported by kist-runtime")
    for mount in raw.get("mounts") or ():
        if isinstance(mount, dict) and (mount.get("uidMappings") or mount.get("gidMappings")):
            raise RuntimeFailure(f"mounts: id mappings of {mount.get('destination')} are not supported by kist-runtime")


def filter_of(raw: dict[str, Any], capabilities: oci.Capabilities | None) -> tuple[bytes, int]:
    """linux.seccomp as (program, flags). Raises RuntimeFailure."""
    found = (raw.get("linux") or {}).get("seccomp")
    if not found:
        return b"", 0
    held = frozenset(capabilities.bounding) if capabilities else frozenset()
    try:
        return seccomp.user_program(msgspec.json.encode(found).decode(), held)
    except InvalidParameter as error:
        raise RuntimeFailure(f"linux.seccomp: {error.message}") from error


def check(spec: oci.Spec) -> None:
    """Raises RuntimeFailure, where it can with runc's words."""
    if not spec.oci_version.startswith("1."):
        raise RuntimeFailure(f'ociVersion "{spec.oci_version}" is not supported: 1.x is')
    kinds: dict[str, oci.Namespace] = {}
    for one in spec.linux.namespaces:
        if one.type not in NAMESPACES:
            raise RuntimeFailure(f'linux.namespaces: "{one.type}" is not supported by kist-runtime')
        if one.type in kinds:
            raise RuntimeFailure(f"malformed spec file: duplicated ns {one.type!r}")
        kinds[one.type] = one
    for kind in ("mount", "user"):
        if kind in kinds and kinds[kind].path:
            raise RuntimeFailure(f"linux.namespaces: joining a {kind} namespace is not supported by kist-runtime")
    if "mount" not in kinds:
        raise RuntimeFailure("linux.namespaces: a container without a mount namespace of its own is not supported")
    if "user" in kinds and not (spec.linux.uid_mappings and spec.linux.gid_mappings):
        raise RuntimeFailure("user namespaces enabled, but no uid and gid mappings found")
    if spec.hostname and "uts" not in kinds:
        raise RuntimeFailure("unable to set hostname without a private UTS namespace")
    for key in spec.linux.sysctl:
        _check_sysctl(key, kinds)
    check_process(spec.process)
    for mount in spec.mounts:
        _check_mount(mount)


def check_process(process: oci.Process) -> None:
    """Raises RuntimeFailure."""
    if not process.args:
        raise RuntimeFailure("args must not be empty")
    if not process.cwd.startswith("/"):
        raise RuntimeFailure("Cwd must be an absolute path")
    for rlimit in process.rlimits:
        if rlimit.type not in RLIMITS:
            raise RuntimeFailure(f"process.rlimits: {rlimit.type} is not a limit")
    sets = process.capabilities or oci.Capabilities()
    for names in (sets.bounding, sets.effective, sets.inheritable, sets.permitted, sets.ambient):
        for name in names:
            if name not in caps.NUMBERS:
                raise RuntimeFailure(f"process.capabilities: {name} is not a capability")


def possible(sets: oci.Capabilities | None) -> oci.Capabilities | None:
    """The sets without ambient capabilities that cannot be: those not permitted and inheritable (capabilities(7))."""
    if sets is None:
        return None
    return msgspec.structs.replace(
        sets, ambient=tuple(name for name in sets.ambient if name in sets.permitted and name in sets.inheritable)
    )


def _check_sysctl(key: str, kinds: dict[str, oci.Namespace]) -> None:
    parts = key.split("/" if "/" in key else ".")
    name = ".".join(parts)
    if any(part in ("", ".", "..") for part in parts):
        raise RuntimeFailure(f'sysctl "{key}" is not the name of a kernel parameter')
    if name.startswith("net."):
        if "network" not in kinds or _is_own(kinds["network"].path):
            raise RuntimeFailure(f'sysctl "{key}" not allowed in host network namespace')
        return
    if name in IPC_SYSCTLS or name.startswith("fs.mqueue."):
        if "ipc" not in kinds:
            raise RuntimeFailure(f'sysctl "{key}" is not allowed in the hosts ipc namespace')
        return
    if name == "kernel.domainname" and "uts" in kinds:
        return
    raise RuntimeFailure(f'sysctl "{key}" is not in a separate kernel namespace')


def _is_own(path: str) -> bool:
    """Whether a namespace file is of this process's network."""
    return bool(path) and os.path.exists(path) and os.path.samefile(path, "/proc/self/ns/net")


def _check_mount(mount: oci.Mount) -> None:
    if not mount.destination.startswith("/"):
        raise RuntimeFailure(f"mount destination {mount.destination} not absolute")
    for word in mount.options:
        if word in _RECURSIVE:
            raise RuntimeFailure(f"mounts: option {word} of {mount.destination} is not supported by kist-runtime")


def _complete(spec: oci.Spec, bundle: str) -> oci.Spec:
    """Paths made absolute, and the devices every container has (config-linux.md, Default Devices)."""
    known = {device.path for device in spec.linux.devices}
    nodes = [oci.Device(f"/dev/{name}", "c", major, minor, 0o666) for name, major, minor in _NODES]
    devices = (*spec.linux.devices, *(node for node in nodes if node.path not in known))
    resources = spec.linux.resources or oci.Resources()
    rules = (
        *resources.devices,
        *(oci.DeviceRule(True, kind, None, None, "m") for kind in ("c", "b")),
        *(oci.DeviceRule(True, "c", major, minor, "rwm") for major, minor in _ALLOWED),
    )
    rules = tuple(msgspec.structs.replace(rule, access=rule.access or "rwm") for rule in rules)
    if not any(not rule.allow for rule in rules):
        rules = ()
    mounts = tuple(_complete_mount(mount, bundle) for mount in spec.mounts)
    linux = msgspec.structs.replace(
        spec.linux, devices=devices, resources=msgspec.structs.replace(resources, devices=rules)
    )
    process = msgspec.structs.replace(spec.process, capabilities=possible(spec.process.capabilities))
    root = msgspec.structs.replace(spec.root, path=os.path.realpath(os.path.join(bundle, spec.root.path)))
    return msgspec.structs.replace(spec, linux=linux, mounts=mounts, root=root, process=process)


def _complete_mount(mount: oci.Mount, bundle: str) -> oci.Mount:
    options = tuple(word for word in mount.options if word not in ("tmpcopyup", "notmpcopyup"))
    if "rro" in options and "ro" not in options:
        options = (*options, "ro")
    source = mount.source
    if mount.type == "bind" or "bind" in options or "rbind" in options:
        source = os.path.join(bundle, source)
    return msgspec.structs.replace(mount, options=options, source=source or mount.type)
