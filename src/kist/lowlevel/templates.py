"""`spec` and `features`: a configuration to begin with, and what this runtime can do (features.md)."""

from __future__ import annotations

import os

import msgspec

from kist import __version__
from kist.kernel import caps, seccomp
from kist.lowlevel.errors import RuntimeFailure
from kist.runtime import oci
from kist.runtime.plan import MOUNT_OPTIONS, NAMESPACES, PROPAGATION
from kist.runtime.profile import ARCHITECTURES

_SPEC_VERSION = "1.2.0"
_KEPT = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_QUIET = ("nosuid", "noexec", "nodev")
_MASKED = ("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
           "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi")  # fmt: skip


def template() -> oci.Spec:
    """A shell with a terminal, as runc begins too."""
    return oci.Spec(
        root=oci.Root("rootfs", True),
        process=oci.Process(
            cwd="/",
            args=("sh",),
            env=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"),
            terminal=True,
            capabilities=oci.Capabilities(bounding=_KEPT, effective=_KEPT, permitted=_KEPT),
            rlimits=(oci.Rlimit("RLIMIT_NOFILE", 1024, 1024),),
            no_new_privileges=True,
        ),
        linux=oci.Linux(
            namespaces=tuple(oci.Namespace(kind) for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")),
            resources=oci.Resources(devices=(oci.DeviceRule(False, access="rwm"),)),
            masked_paths=_MASKED,
            readonly_paths=("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"),
        ),
        oci_version=_SPEC_VERSION,
        hostname="kist",
        mounts=(
            oci.Mount("/proc", "proc", "proc"),
            oci.Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
            oci.Mount("/dev/pts", "devpts", "devpts",
                      ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
            oci.Mount("/dev/shm", "tmpfs", "shm", (*_QUIET, "mode=1777", "size=65536k")),
            oci.Mount("/dev/mqueue", "mqueue", "mqueue", _QUIET),
            oci.Mount("/sys", "sysfs", "sysfs", (*_QUIET, "ro")),
            oci.Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*_QUIET, "relatime", "ro")),
        ),
    )  # fmt: skip


def spec(directory: str) -> int:
    """Raises RuntimeFailure when there is a configuration already."""
    path = os.path.join(directory, "config.json")
    text = msgspec.json.format(msgspec.json.encode(oci.to_json(template())), indent=4)
    try:
        with open(path, "xb") as file:
            file.write(text + b"\n")
    except FileExistsError as error:
        raise RuntimeFailure("File config.json exists. Remove it first") from error
    return 0


def features() -> int:
    shown = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": _SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": sorted({*MOUNT_OPTIONS, *PROPAGATION, "tmpcopyup"}),
        "linux": {
            "namespaces": sorted(NAMESPACES),
            "capabilities": sorted(caps.NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": True,
                "actions": sorted(seccomp.ACTIONS),
                "operators": sorted(f"SCMP_CMP_{name}" for name in seccomp.OPERATORS),
                "archs": sorted(ARCHITECTURES.get(os.uname().machine, ())),
                "knownFlags": sorted(seccomp.FLAGS),
                "supportedFlags": sorted(seccomp.FLAGS),
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": False}},
        },
        "annotations": {"io.kist.version": __version__},
        "potentiallyUnsafeConfigAnnotations": [],
    }
    print(msgspec.json.format(msgspec.json.encode(shown), indent=4).decode())
    return 0
