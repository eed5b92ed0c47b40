"""Devices by name: the Container Device Interface (tags.cncf.io/container-device-interface, SPEC.md).

A vendor's specification, JSON or YAML in one of the engine's directories, says what a container needs to use a device,
as nodes, mounts, variables, groups. `vendor.com/class=name` names one. A specification with hooks, which would run
programs of the host for the container, is refused when its device is asked for.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from kist.container import yaml
from kist.model.config import DeviceRequest
from kist.model.errors import InvalidParameter, KistError
from kist.runtime import oci

log = logging.getLogger(__name__)
_WORD = r"[A-Za-z][A-Za-z0-9_.-]*(?<![_.-])"
_KIND = re.compile(rf"({_WORD})/({_WORD})\Z")
_DEVICE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?\Z")
_VERSION = re.compile(r"(0\.[3-9]|1\.[0-9]+)\.[0-9]+\Z")
_GPU_VENDORS = ("nvidia.com", "amd.com")
_FILE_LIMIT = 8 << 20  # bytes


class DeviceNode(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class Mount(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    host_path: str
    container_path: str
    options: list[str] | None = None
    type: str = ""


class Edits(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is changed in a container's configuration. Hooks and the like are only seen, to be refused."""

    env: list[str] | None = None
    device_nodes: list[DeviceNode] | None = None
    mounts: list[Mount] | None = None
    hooks: list[dict[str, Any]] | None = None
    additional_gids: list[int] | None = msgspec.field(name="additionalGids", default=None)
    intel_rdt: dict[str, Any] | None = None
    net_devices: list[dict[str, Any]] | None = None


class Device(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    name: str
    container_edits: Edits
    annotations: dict[str, str] | None = None


class Specification(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    cdi_version: str
    kind: str
    devices: list[Device]
    annotations: dict[str, str] | None = None
    container_edits: Edits = Edits()


Found = dict[str, tuple[Specification, Device]]  # by qualified name


class Registry:
    """The specifications in some directories, read anew for each question: vendors write them while the engine runs."""

    def __init__(self, directories: Sequence[str]) -> None:
        self.directories = tuple(one for one in directories if one)

    def devices(self) -> tuple[Found, list[str]]:
        """Every device, and what is wrong with files. A later directory goes before an earlier one."""
        found: Found = {}
        problems: list[str] = []
        for directory in self.directories:
            here: Found = {}
            twice: set[str] = set()
            for path in _files(directory):
                try:
                    read = parse(path, _read(path))
                except (OSError, ValueError) as error:
                    problems.append(f"CDI: Error associated with spec file {path}: {_reason(error)}")
                    continue
                twice |= here.keys() & read.keys()
                here |= read
            for name in sorted(twice):
                problems.append(f"CDI: conflicting device {name} in {directory}")
                here.pop(name)
                found.pop(name, None)
            found |= here
        return found, problems

    def edits(self, requests: Iterable[DeviceRequest]) -> list[Edits]:
        """What the requested devices change, in order. Raises InvalidParameter, KistError with Docker's texts."""
        found, problems = self.devices()
        edits: list[Edits] = []
        for request in requests:
            names = self._names(request, found)
            missing = [name for name in names if name not in found]
            if missing:
                for problem in problems:
                    log.warning("%s", problem)
                raise KistError(f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}")
            edits += _of(names, found)
        return edits

    def _names(self, request: DeviceRequest, found: Found) -> list[str]:
        if request.driver == "cdi" and self.directories:
            if request.count:
                raise InvalidParameter("unexpected count in CDI device request")
            names = request.device_ids or []
        else:
            names = _gpus(request, found)
        if request.options:
            raise InvalidParameter("unexpected options in CDI device request")
        return names


def _gpus(request: DeviceRequest, found: Found) -> list[str]:
    """A request for GPUs by number or id, as names of the first vendor that has any."""
    wanted = any("gpu" in alternative for alternative in request.capabilities or ())
    kinds = {name.partition("=")[0] for name in found}
    vendor = next((one for one in _GPU_VENDORS if f"{one}/gpu" in kinds), "")
    if not wanted or not vendor or request.driver not in ("", vendor.removesuffix(".com")):
        told = " ".join(f"[{' '.join(alternative)}]" for alternative in request.capabilities or ())
        raise InvalidParameter(f'could not select device driver "{request.driver}" with capabilities: [{told}]')
    if request.count and request.device_ids:
        raise InvalidParameter("cannot set both Count and DeviceIDs on device request")
    ids = request.device_ids or (["all"] if request.count < 0 else [str(number) for number in range(request.count)])
    return [f"{vendor}/gpu={one}" for one in ids]


def _of(names: list[str], found: Found) -> list[Edits]:
    """A specification's own edits come before those of its first device."""
    edits: list[Edits] = []
    seen: list[Specification] = []
    for name in names:
        specification, device = found[name]
        if not any(one is specification for one in seen):
            seen.append(specification)
            edits.append(specification.container_edits)
        edits.append(device.container_edits)
        for one in (specification.container_edits, device.container_edits):
            for what, given in (("hooks", one.hooks), ("intelRdt", one.intel_rdt), ("netDevices", one.net_devices)):
                if given:
                    raise KistError(f"CDI device injection failed: {name} has {what}: not supported by this engine yet")
    return edits


def _files(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    return [f"{directory}/{name}" for name in names if name.endswith((".json", ".yaml"))]


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        text = file.read(_FILE_LIMIT + 1)
    if len(text) > _FILE_LIMIT:
        raise ValueError("it is too large")
    return text


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or "").lower() if isinstance(error, OSError) else str(error)


def parse(path: str, text: str) -> Found:
    """The devices of one file. Raises ValueError (msgspec's is one) that says what is wrong."""
    data = yaml.loads(text) if path.endswith(".yaml") else msgspec.json.decode(text)
    specification = msgspec.convert(data, Specification)
    if not _VERSION.match(specification.cdi_version):
        raise ValueError(f'invalid CDI version "{specification.cdi_version}"')
    if not _KIND.match(specification.kind):
        raise ValueError(f'invalid CDI kind "{specification.kind}"')
    if not specification.devices:
        raise ValueError("no devices")
    _check(specification.container_edits)
    found: Found = {}
    for device in specification.devices:
        name = f"{specification.kind}={device.name}"
        if not _DEVICE_NAME.match(device.name):
            raise ValueError(f'invalid device name "{device.name}"')
        if name in found:
            raise ValueError(f'multiple devices with name "{device.name}"')
        _check(device.container_edits)
        found[name] = specification, device
    return found


def _check(edits: Edits) -> None:
    for variable in edits.env or ():
        if not variable.partition("=")[0] or "=" not in variable:
            raise ValueError(f'invalid environment variable "{variable}"')
    for node in edits.device_nodes or ():
        if not node.path.startswith("/"):
            raise ValueError(f'invalid device node "{node.path}": its path is not absolute')
        if node.type not in ("", "b", "c", "u", "p"):
            raise ValueError(f'device "{node.path}": invalid type "{node.type}"')
        if not set(node.permissions) <= set("rwm"):
            raise ValueError(f'device "{node.path}": invalid permissions "{node.permissions}"')
    for mount in edits.mounts or ():
        if not mount.host_path.startswith("/") or not mount.container_path.startswith("/"):
            raise ValueError(f'invalid mount "{mount.host_path}" at "{mount.container_path}": a path is not absolute')


def apply(spec: oci.Spec, edits: Sequence[Edits]) -> oci.Spec:
    """The configuration with the edits. Raises KistError for a device that the host does not have."""
    replace = msgspec.structs.replace
    env = {one.partition("=")[0]: one for one in spec.process.env}
    mounts = {one.destination: one for one in spec.mounts}
    devices = {one.path: one for one in spec.linux.devices}
    resources = spec.linux.resources or oci.Resources()
    rules = list(resources.devices)
    for edit in edits:
        env.update({one.partition("=")[0]: one for one in edit.env or ()})
        for mount in edit.mounts or ():
            options = tuple(mount.options or ("rbind", "rprivate"))
            mounts.pop(mount.container_path, None)
            kind = mount.type or "bind"
            mounts[mount.container_path] = oci.Mount(mount.container_path, kind, mount.host_path, options)
        for node in edit.device_nodes or ():
            device = devices[node.path] = _device(node)
            if device.type in ("b", "c"):
                rules.append(oci.DeviceRule(True, device.type, device.major, device.minor, node.permissions or "rwm"))
    linux = replace(spec.linux, devices=tuple(devices.values()), resources=replace(resources, devices=tuple(rules)))
    return replace(
        spec, process=replace(spec.process, env=tuple(env.values())), mounts=tuple(mounts.values()), linux=linux
    )


def groups(edits: Sequence[Edits]) -> tuple[str, ...]:
    """Additional groups of the first process, each once; 0 says nothing (SPEC.md)."""
    return tuple(dict.fromkeys(str(gid) for edit in edits for gid in edit.additional_gids or () if gid > 0))


def _device(node: DeviceNode) -> oci.Device:
    """What a node leaves open is as it is on the host."""
    source = node.host_path or node.path
    try:
        status = os.stat(source)
    except OSError as error:
        if not node.type or (node.type != "p" and not (node.major or node.minor)):
            reason = (error.strerror or "").lower()
            raise KistError(
                f"CDI device injection failed: failed to stat CDI host device {source!r}: {reason}"
            ) from error
        return oci.Device(
            node.path, node.type, node.major, node.minor, node.file_mode or 0o666, node.uid or 0, node.gid or 0
        )
    kind = node.type or {stat.S_IFBLK: "b", stat.S_IFCHR: "c", stat.S_IFIFO: "p"}.get(stat.S_IFMT(status.st_mode), "")
    if not kind:
        raise KistError(f"CDI device injection failed: CDI host device {source!r} is not a device")
    given = node.major or node.minor
    return oci.Device(
        node.path,
        kind,
        node.major if given else os.major(status.st_rdev),
        node.minor if given else os.minor(status.st_rdev),
        stat.S_IMODE(status.st_mode) if node.file_mode is None else node.file_mode,
        status.st_uid if node.uid is None else node.uid,
        status.st_gid if node.gid is None else node.gid,
    )
