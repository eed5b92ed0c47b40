"""What a process inherits and must shed or set before it runs somebody else's program."""

from __future__ import annotations

import _signal
import errno
import os
import resource
import signal

from kist.kernel.const import (
    KEYCTL_JOIN_SESSION_KEYRING,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    SYS_CLOSE_RANGE,
    SYS_KEYCTL,
)
from kist.kernel.libc import check, libc, syscall

# Names of OCI and Docker for resources that Python knows under the same name.
RLIMITS = {
    name: number for name, number in vars(resource).items() if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}
RLIMITS.setdefault("RLIMIT_RTTIME", 15)
RLIMITS.setdefault("RLIMIT_LOCKS", 10)
INHERITED_NOFILE = resource.getrlimit(resource.RLIMIT_NOFILE)  # what this process was started with


def raise_descriptor_limit() -> tuple[int, int]:
    """Every client and container costs descriptors: the soft limit goes up to the hard one, as Go's runtime does it.

    What it was.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard


def set_descriptor_limit(limit: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def prctl(option: int, argument: int, call: str) -> None:
    check(libc.prctl(option, argument, 0, 0, 0), f"prctl {call}", argument)


def set_no_new_privs() -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")


def set_parent_death_signal(number: int) -> None:
    prctl(PR_SET_PDEATHSIG, number, "PR_SET_PDEATHSIG")


def set_dumpable(dumpable: bool) -> None:
    prctl(PR_SET_DUMPABLE, int(dumpable), "PR_SET_DUMPABLE")


def set_keep_caps(keep: bool) -> None:
    prctl(PR_SET_KEEPCAPS, int(keep), "PR_SET_KEEPCAPS")


def set_child_subreaper() -> None:
    prctl(PR_SET_CHILD_SUBREAPER, 1, "PR_SET_CHILD_SUBREAPER")


def default_signal(number: int) -> None:
    """The default disposition of a signal (signal(7))."""
    _signal.signal(number, _DEFAULT)


def set_name(name: str) -> None:
    """The name `ps` shows, at most 15 bytes (proc_pid_comm(5))."""
    descriptor = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(descriptor, name.encode())
    os.close(descriptor)


# Dispositions that the interpreter, the zygote or the monitor changed; all others are as at exec.
_IGNORED_BY_PYTHON = (
    *(int(signal.SIGPIPE), int(signal.SIGXFSZ), int(signal.SIGINT)),
    *(int(signal.SIGCHLD), int(signal.SIGHUP), int(signal.SIGTERM)),
)
# The functions below the signal module's, with plain numbers: its own go through half of the enum module.
_DEFAULT, _SET_MASK = int(signal.SIG_DFL), int(signal.SIG_SETMASK)
_CLOSE_RANGE_CLOEXEC = 4  # linux/close_range.h
_SYS_RT_SIGACTION = 13 if os.uname().machine == "x86_64" else 134
_DEFAULT_ACTION = bytes(32)  # struct kernel_sigaction: SIG_DFL, no flags, no mask
_OTHERS = [number for number in range(1, 65) if number not in (signal.SIGKILL, signal.SIGSTOP, *_IGNORED_BY_PYTHON)]


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """close_range(2). Raises OSError."""
    syscall(SYS_CLOSE_RANGE, first, last, 0, call="close_range")


def close_all_but(keep: set[int]) -> None:
    """Closes every descriptor from 3 on that is not named, known or not."""
    first = 3
    for descriptor in sorted(keep):
        if descriptor > first:
            close_range(first, descriptor - 1)
        first = max(first, descriptor + 1)
    close_range(first)


def close_on_exec_from(first: int) -> None:
    """Marks every descriptor from `first` on to be closed by execve(2), whoever left it open."""
    syscall(SYS_CLOSE_RANGE, first, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC, call="close_range cloexec")


def reset_foreign_signals() -> None:
    """The default disposition of every signal that Python does not use itself, for all processes that come of this one.

    posix_spawn(3) of glibc ignores its own 32 and 33, a shell SIGQUIT of what it starts behind itself. The C library
    lets nobody touch 32 and 33: hence the system call.
    """
    for number in _OTHERS:
        syscall(_SYS_RT_SIGACTION, number, _DEFAULT_ACTION, None, 8, call="rt_sigaction", path=number)


def reset_inherited_state() -> None:
    """What survives exec(2) and was Python's or the daemon's: signal dispositions and mask; affinity is kept.

    Python ignores SIGPIPE and SIGXFSZ; a program that inherits that does not die when its reader does. The other
    signals were reset when the zygote started.
    """
    for number in _IGNORED_BY_PYTHON:
        _signal.signal(number, _DEFAULT)
    _signal.pthread_sigmask(_SET_MASK, ())


def join_session_keyring(name: str) -> None:
    """A session keyring of its own (keyctl(2)), so that the daemon's keys are not the container's. Raises OSError."""
    syscall(SYS_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, name.encode(), call="keyctl join", path=name)


def set_rlimit(name: str, soft: int, hard: int) -> None:
    """One limit (getrlimit(2)); -1 is no limit. Lowering always works, raising the hard one needs CAP_SYS_RESOURCE.

    Raises OSError that says what was asked and what there is when it may not be raised.
    """
    number = RLIMITS[name]
    try:
        resource.setrlimit(number, (soft, hard))
    except ValueError as error:  # how Python reports EINVAL and a refused EPERM of the hard limit
        now = resource.getrlimit(number)
        raise OSError(
            errno.EPERM,
            f"cannot raise {name} to {soft}:{hard}: the limit of the engine is {now[0]}:{now[1]}",
            "setrlimit",
        ) from error
