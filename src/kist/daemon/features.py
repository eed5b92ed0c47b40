"""What kistd needs of the machine, asked before anything is made: each lack is named, with what to do about it."""

from __future__ import annotations

import errno
import os

from kist.kernel import caps, cgroup, const
from kist.kernel.libc import syscall
from kist.model.errors import KistError

# (name, number, arguments that no kernel accepts, first kernel that has it): EINVAL, EFAULT, EBADF say it is there.
_CALLS: tuple[tuple[str, int, tuple[object, ...], str], ...] = (
    ("fsopen", const.SYS_FSOPEN, (None, 0), "5.2"),
    ("fsconfig", const.SYS_FSCONFIG, (-1, 0, None, None, 0), "5.2"),
    ("fsmount", const.SYS_FSMOUNT, (-1, 0, 0), "5.2"),
    ("move_mount", const.SYS_MOVE_MOUNT, (-1, None, -1, None, 0), "5.2"),
    ("open_tree", const.SYS_OPEN_TREE, (-1, None, 0), "5.2"),
    ("pidfd_send_signal", const.SYS_PIDFD_SEND_SIGNAL, (-1, 0, None, 0), "5.1"),
    ("pidfd_open", const.SYS_PIDFD_OPEN, (-1, 0), "5.3"),
    ("clone3", const.SYS_CLONE3, (None, 0), "5.3"),
    ("openat2", const.SYS_OPENAT2, (-1, None, None, 0), "5.6"),
    ("close_range", const.SYS_CLOSE_RANGE, (1, 0, 0), "5.9"),
    ("mount_setattr", const.SYS_MOUNT_SETATTR, (-1, None, 0, None, 0), "5.12"),
)
_NEEDED = ("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_MKNOD", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SYS_CHROOT",
           "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_FOWNER")  # fmt: skip
_NAMESPACES = ("mnt", "uts", "ipc", "pid", "net")


def check() -> None:
    """Raises KistError that names the first thing that is missing."""
    _check_user_namespace()
    _check_capabilities()
    for name, number, arguments, since in _CALLS:
        _check_call(name, number, arguments, since)
    for name in _NAMESPACES:
        if not os.path.exists(f"/proc/self/ns/{name}"):
            raise KistError(f"this kernel has no {name} namespaces: kistd needs one that was built with them")
    _check_cgroups()


def _check_user_namespace() -> None:
    """uid 0 of a user namespace is not root (user_namespaces(7))."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        if file.read().split() != ["0", "0", "4294967295"]:
            raise KistError(
                "kistd runs in a user namespace, where root is not the machine's: running without root comes with a "
                "later version, so start it outside of the namespace"
            )


def _check_capabilities() -> None:
    have = caps.names(caps.current()["eff"])
    missing = [name for name in _NEEDED if name not in have]
    if missing:
        raise KistError(
            f"kistd lacks {', '.join(missing)}: start it as root of the machine, or in a container with --privileged"
        )


def _check_call(name: str, number: int, arguments: tuple[object, ...], since: str) -> None:
    try:
        syscall(number, *arguments, call=name)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise KistError(
                f"this kernel ({os.uname().release}) has no {name}(2), which Linux {since} brought, or a seccomp "
                f"filter hides it: kistd needs Linux 5.12 or later, and no such filter"
            ) from error
        if error.errno == errno.EPERM:
            raise KistError(
                f"{name}(2) is forbidden here, probably by a seccomp filter: start kistd without one "
                f"(--security-opt seccomp=unconfined inside a container)"
            ) from error


def _check_cgroups() -> None:
    layout = cgroup.detect()
    if not layout.roots:
        raise KistError(
            "no cgroup file system is mounted, so containers cannot be limited or found again: mount one, for example "
            "with: mount -t cgroup2 none /sys/fs/cgroup"
        )
    for root in layout.roots:
        if os.statvfs(root).f_flag & os.ST_RDONLY:
            raise KistError(f"{root} is mounted read-only: kistd makes a cgroup for each container, remount it with rw")
