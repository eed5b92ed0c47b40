"""A copy of the interpreter that nobody can write. It has a file of its own: who starts it imports nothing else."""

from __future__ import annotations

import fcntl
import os

from kist.kernel.const import (
    F_ADD_SEALS,
    F_SEAL_GROW,
    F_SEAL_SEAL,
    F_SEAL_SHRINK,
    F_SEAL_WRITE,
    MFD_ALLOW_SEALING,
    MFD_CLOEXEC,
)


def sealed_interpreter() -> int:
    """A memfd with a copy of the running interpreter that nobody can write any more. Raises OSError.

    What enters a container runs from it, so that /proc/self/exe seen from inside is never a writable file of the
    host (CVE-2019-5736).
    """
    memory = os.memfd_create("kist-python", MFD_CLOEXEC | MFD_ALLOW_SEALING)
    source = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        left = os.fstat(source).st_size
        while left:
            left -= os.sendfile(memory, source, None, left)
        os.fchmod(memory, 0o500)
        fcntl.fcntl(memory, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
    except OSError:
        os.close(memory)
        raise
    finally:
        os.close(source)
    return memory
