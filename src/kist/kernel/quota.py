"""Project quotas (quotactl(2), ioctl_xfs_fsgetxattr(2)): a limit on the blocks of a directory and all below it."""

from __future__ import annotations

import ctypes
import fcntl
import os

from kist.kernel.const import SYS_QUOTACTL_FD
from kist.kernel.libc import syscall

# linux/quota.h, linux/dqblk_xfs.h
Q_GETQUOTA, Q_SETQUOTA, Q_XGETQSTATV = 0x800007, 0x800008, 0x5808
PRJQUOTA, QIF_BLIMITS = 2, 1
FS_QSTATV_VERSION1, FS_QUOTA_PDQ_ENFD = 1, 1 << 5
# linux/fs.h
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
FS_XFLAG_PROJINHERIT = 0x200
_KIB = 1024


class if_dqblk(ctypes.Structure):
    """struct if_dqblk (linux/quota.h): limits in KiB, what is used in bytes."""

    _fields_ = (
        ("dqb_bhardlimit", ctypes.c_uint64),
        ("dqb_bsoftlimit", ctypes.c_uint64),
        ("dqb_curspace", ctypes.c_uint64),
        ("dqb_ihardlimit", ctypes.c_uint64),
        ("dqb_isoftlimit", ctypes.c_uint64),
        ("dqb_curinodes", ctypes.c_uint64),
        ("dqb_btime", ctypes.c_uint64),
        ("dqb_itime", ctypes.c_uint64),
        ("dqb_valid", ctypes.c_uint32),
    )


class fsxattr(ctypes.Structure):
    """struct fsxattr (linux/fs.h)."""

    _fields_ = (
        ("fsx_xflags", ctypes.c_uint32),
        ("fsx_extsize", ctypes.c_uint32),
        ("fsx_nextents", ctypes.c_uint32),
        ("fsx_projid", ctypes.c_uint32),
        ("fsx_cowextsize", ctypes.c_uint32),
        ("fsx_pad", ctypes.c_uint8 * 8),
    )


def _quotactl(directory: int, command: int, project: int, data: ctypes.Structure | ctypes.Array[ctypes.c_char]) -> None:
    number = command << 8 | PRJQUOTA
    syscall(SYS_QUOTACTL_FD, directory, number, project, ctypes.byref(data), call="quotactl_fd")


def enforced(directory: int) -> bool:
    """Whether limits of projects hold on the file system of a directory."""
    state = ctypes.create_string_buffer(256)
    state[0] = bytes([FS_QSTATV_VERSION1])
    try:
        _quotactl(directory, Q_XGETQSTATV, 0, state)
    except OSError:
        return False
    return bool(int.from_bytes(state.raw[2:4], "little") & FS_QUOTA_PDQ_ENFD)


def is_free(directory: int, project: int) -> bool:
    """Whether nothing counts to a project and it has no limits. Raises OSError."""
    found = if_dqblk()
    try:
        _quotactl(directory, Q_GETQUOTA, project, found)
    except FileNotFoundError:  # never used
        return True
    return not (found.dqb_bhardlimit or found.dqb_ihardlimit or found.dqb_curspace or found.dqb_curinodes)


def limit(directory: int, project: int, size: int) -> None:
    """All that counts to a project has at most `size` bytes; 0 is no limit. Raises OSError."""
    blocks = -(-size // _KIB)
    _quotactl(
        *(directory, Q_SETQUOTA, project),
        if_dqblk(dqb_bhardlimit=blocks, dqb_bsoftlimit=blocks, dqb_valid=QIF_BLIMITS),
    )


def assign(directory: int, project: int) -> None:
    """A directory, and what is made in it from now on, counts to a project. Raises OSError."""
    attributes = fsxattr()
    fcntl.ioctl(directory, FS_IOC_FSGETXATTR, attributes)
    attributes.fsx_projid = project
    attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT
    fcntl.ioctl(directory, FS_IOC_FSSETXATTR, attributes)


def open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
