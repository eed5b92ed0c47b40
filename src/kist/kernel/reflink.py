"""Files that share their blocks until one is written to (ioctl_ficlone(2))."""

from __future__ import annotations

import errno
import fcntl

FICLONE = 0x40049409
_CANNOT = (
    *(errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.EBADF, errno.ETXTBSY, errno.EISDIR),
    errno.ENOSYS,
)


def clone(source: int, target: int) -> bool:
    """Whether `target` has all of `source` now, without a block copied. Raises OSError, as for a full disk."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True
