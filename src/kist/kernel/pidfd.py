"""Processes by descriptor (pidfd_open(2)): signals that cannot hit a recycled pid."""

from __future__ import annotations

import os

from kist.kernel.const import SYS_PIDFD_SEND_SIGNAL
from kist.kernel.libc import syscall

_STAT_SIZE = 4096  # 52 numbers and a name, in one read


def pidfd_send_signal(descriptor: int, number: int) -> None:
    """pidfd_send_signal(2). Raises OSError, ESRCH when the process is gone."""
    syscall(SYS_PIDFD_SEND_SIGNAL, descriptor, number, None, 0, call="pidfd_send_signal", path=number)


def pid_of(descriptor: int) -> int:
    """The pid as /proc has it here (proc_pid_fdinfo(5)); -1 when the process was reaped. Raises OSError."""
    file = os.open(f"/proc/self/fdinfo/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(file, _STAT_SIZE)
    finally:
        os.close(file)
    return int(text.partition(b"Pid:")[2].split()[0])


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc_pid_stat(5), field 22). Raises OSError when it is gone.

    A pid and its start time together name a process for good.
    """
    descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(descriptor, _STAT_SIZE)
    finally:
        os.close(descriptor)
    # The second field is the name in parentheses and may hold anything, so count from the last parenthesis.
    return int(text[text.rindex(b")") + 2 :].split()[19])
