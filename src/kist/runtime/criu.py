"""What criu is told: arguments of a dump, and the plan of a start from its images. Pure.

criu makes processes, memory, open files and all file systems that are the container's own. What comes from outside is
left to the engine and only named in the images: the network namespace, binds of the host's directories, the cgroup.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec

from kist.kernel import const
from kist.kernel.cgroup import Layout
from kist.model.errors import KistError
from kist.monitor import operations as do
from kist.monitor.dump import FACTS as FACTS
from kist.monitor.nameserver import OpenNameserver
from kist.monitor.restore import NETWORK, ROOT, BecomeCriu, MountStage
from kist.runtime import plan
from kist.runtime.launch import LaunchRequest

VERSION = 1
_COMMON = ("-v4", "--manage-cgroups=ignore", "--ext-unix-sk", "--file-locks", "--network-lock", "nftables")
_OWN_MOUNTS = "cgroup2"  # made anew for a restore, because what it shows is the group of who mounts it
# Of what init does in an ordinary start: what is outside of the images.
_LEFT_TO_US = (
    *(do.MakeCgroup, do.WriteControl, do.WriteControls, do.AllowDevices, do.MakeVeth, do.JoinCgroup, do.JoinNamespace),
    *(do.Unshare, do.IsolateMounts, do.DisableIPv6, do.ConfigureLink, do.RaiseLoopback, do.JoinKeyring, OpenNameserver),
)


class Facts(msgspec.Struct, frozen=True):
    """What stands beside the images, in kist.json. `streams` are [criu's name, owner in the host] by stream."""

    version: int
    container: str
    address: str  # in the bridge network, "" without one
    mounts: dict[str, str]  # criu's name of a mount from outside -> where the container's configuration has it
    streams: dict[str, tuple[str, int]] = {}


class Outside(NamedTuple):
    """A mount of the container that is not its own. `target` as the configuration has it."""

    name: str
    target: str
    operation: do.BindInside | do.MountInside

    @property
    def source(self) -> str:
        """In the host; "" for a file system of its own."""
        return self.operation.source if isinstance(self.operation, do.BindInside) else ""

    @property
    def inside(self) -> str:
        """The part of the source that is shown, "" for all of it."""
        return self.operation.inside if isinstance(self.operation, do.BindInside) else ""

    @property
    def read_only(self) -> bool:
        return bool(self.operation.attributes & const.MOUNT_ATTR_RDONLY)


def mounts_from_outside(request: LaunchRequest, layout: Layout) -> list[Outside]:
    """In the order in which they are mounted; the names are stable for as long as the configuration is the same."""
    found: list[do.BindInside | do.MountInside] = [
        one
        for one in plan.init_operations(request, layout)
        if isinstance(one, do.BindInside) or (isinstance(one, do.MountInside) and one.fstype == _OWN_MOUNTS)
    ]
    return [Outside(f"kist{number}", one.target, one) for number, one in enumerate(found)]


def dump_arguments(pid: int, network: int, places: dict[str, str], *, leave_running: bool) -> list[str]:
    """`network` is the inode of the container's own network namespace, 0 when it has the host's; `places` are mount
    points in the container by criu's names.
    """
    words = ["--tree", str(pid), *_COMMON, "--tcp-established"]
    words += ["--leave-running"] if leave_running else []
    if network:
        words += ["--external", f"net[{network}]:{NETWORK}"]
    for name, place in places.items():
        words += ["--external", f"mnt[{place}]:{name}"]
    return words


class Restore(NamedTuple):
    """What a start is to be made from: criu, its images, and where it may write."""

    program: str
    images: str
    log: str
    facts: Facts

    def plan(self, request: LaunchRequest, layout: Layout) -> plan.Start:
        """The counterpart of plan.launch."""
        start = plan.launch(request, layout)
        config = dict(start.message["config"])
        config["clone_flags"] &= const.CLONE_NEWNET | const.CLONE_NEWNS
        config["restore"] = {"criu": self.program, "log": self.log, "pid_file": _pid_file(request)}
        outside = mounts_from_outside(request, layout)
        streams = [list(self.facts.streams.get(name, ("", -1))) for name in ("stdin", "stdout", "stderr")]
        network = any(one.type == "network" for one in request.spec.linux.namespaces)
        become = BecomeCriu(self.program, self._arguments(request, outside), streams, network)
        steps = do.encode([*_around(request, layout, outside), do.ParentDeathSignal(), become])
        return plan.Start({**start.message, "config": config}, json.dumps(steps, separators=(",", ":")).encode())

    def _arguments(self, request: LaunchRequest, outside: list[Outside]) -> list[str]:
        """Connections come back closed: in a network that is there already, what criu sends for one end is answered by
        a reset as long as the other end is not restored.
        """
        stage = request.root_dir
        words = ["restore", *_COMMON, "--tcp-close", "--no-default-config"]
        words += [
            "--restore-detached",
            "--restore-sibling",
            "--pidfile",
            _pid_file(request),
            "--root",
            f"{stage}/{ROOT}",
        ]
        words += ["--images-dir", self.images, "--work-dir", request.run_dir, "--log-file", self.log]
        for one in outside:
            words += ["--external", f"mnt[{one.name}]:{stage}/{one.name}"]
        return words


def _pid_file(request: LaunchRequest) -> str:
    return f"{request.run_dir}/criu.pid"


def _around(request: LaunchRequest, layout: Layout, outside: list[Outside]) -> list[Any]:
    """Everything outside of the images, in the order of an ordinary start."""
    stage = request.root_dir
    found: list[Any] = []
    for one in plan.init_operations(request, layout):
        if isinstance(one, do.MountRoot):
            found.append(MountStage(stage))
            found += [place.operation._replace(target=place.name) for place in outside]
            found.append(one._replace(at=f"{stage}/{ROOT}"))
        elif isinstance(one, do.SetSysctl):  # those of IPC are in the images
            found += [one] if one.key.startswith(("net.", "net/")) else []
        elif isinstance(one, _LEFT_TO_US):
            found.append(one)
    return found


# --- where mounts are ---


class MountEntry(NamedTuple):
    """A line of /proc/PID/mountinfo (proc_pid_mountinfo(5))."""

    point: str
    read_only: bool
    fstype: str


def parse_mountinfo(text: str) -> dict[int, MountEntry]:
    """By mount id."""
    found = {}
    for line in text.rstrip("\n").split("\n"):
        words = line.split(" ")
        rest = words[words.index("-") + 1 :]
        found[int(words[0])] = MountEntry(unescape(words[4]), "ro" in words[5].split(","), rest[0])
    return found


def unescape(text: str) -> str:
    """Blanks, tabs, newlines and backslashes are octal there."""
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text


def check_name(place: str) -> None:
    """Raises KistError for a mount point that criu's options cannot name."""
    if "]" in place or "\n" in place:
        raise KistError(f"the mount at {place} cannot be named to criu: it has a character that ends a name there")
