"""Capabilities (capabilities(7)): names, the sets of this process, dropping them."""

from __future__ import annotations

import functools
import struct

from kist.kernel.const import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    SYS_CAPSET,
)
from kist.kernel.libc import check, libc, syscall

# linux/capability.h, in the order of their numbers.
NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
    "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
    "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
NUMBERS = {name: number for number, name in enumerate(NAMES)}
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


def mask(names: list[str]) -> int:
    """The bit set of capability names. Raises KeyError for one that is unknown."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits


def names(bits: int) -> list[str]:
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


@functools.cache
def last_cap() -> int:
    """The highest capability this kernel knows; the zygote asks once for all containers."""
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        return int(file.read())


def current() -> dict[str, int]:
    """The sets of this process as bit sets: `inh`, `prm`, `eff`, `bnd`, `amb` (proc_pid_status(5))."""
    with open("/proc/self/status", "rb") as file:
        lines = [line.split() for line in file if line.startswith(b"Cap")]
    return {key[3:-1].decode().lower(): int(value, 16) for key, value in lines}


def drop_bounding(keep: int, last: int) -> None:
    """Drops every capability up to `last` that is not in `keep` from the bounding set. Raises OSError."""
    for number in range(last + 1):
        if not keep >> number & 1:
            check(libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), "prctl PR_CAPBSET_DROP", number)


def set_caps(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of this thread. Raises OSError."""
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    low, high = 0xFFFFFFFF, 32
    data = struct.pack(
        "=IIIIII",
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> high,
        permitted >> high,
        inheritable >> high,
    )
    syscall(SYS_CAPSET, header, data, call="capset")


def clear_ambient() -> None:
    check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl PR_CAP_AMBIENT_CLEAR_ALL")


def raise_ambient(bits: int) -> None:
    for number in range(len(NAMES)):
        if bits >> number & 1:
            check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0), "prctl PR_CAP_AMBIENT_RAISE", number)
