"""Namespaces: clone3(2), unshare(2), setns(2), user namespace maps (user_namespaces(7))."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from contextlib import suppress

from kist.kernel.const import CLONE_INTO_CGROUP, CLONE_NEWUSER, CLONE_PIDFD, SYS_CLONE3
from kist.kernel.libc import check, libc
from kist.kernel.process import set_dumpable


class clone_args(ctypes.Structure):
    """struct clone_args (linux/sched.h)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


def clone(flags: int, *, cgroup_fd: int = -1, exit_signal: int = signal.SIGCHLD) -> tuple[int, int]:
    """Forks with namespaces: (pid, pidfd) in the parent, (0, -1) in the child. Raises OSError.

    With `cgroup_fd`, a directory of the v2 tree, the child is born in that cgroup. CLONE_PARENT wants
    `exit_signal` 0: the child takes over its creator's. The interpreter is told before and
    after, as os.fork() does it, so that its locks and its notion of the main thread are right in the child.
    """
    descriptor = ctypes.c_int(-1)
    arguments = clone_args(flags=flags | CLONE_PIDFD, pidfd=ctypes.addressof(descriptor), exit_signal=exit_signal)
    if cgroup_fd >= 0:
        arguments.flags |= CLONE_INTO_CGROUP
        arguments.cgroup = cgroup_fd
    number, size, place = ctypes.c_long(SYS_CLONE3), ctypes.c_long(ctypes.sizeof(arguments)), ctypes.byref(arguments)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = libc.syscall(number, place, size)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0, -1
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    check(pid, "clone3", f"flags={flags:#x}")
    return pid, descriptor.value


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    check(libc.unshare(flags), "unshare", f"flags={flags:#x}")


def setns(descriptor: int, flags: int = 0) -> None:
    """setns(2): a namespace file, or a pidfd with the CLONE_NEW* flags to join. Raises OSError."""
    check(libc.setns(descriptor, flags), "setns", f"flags={flags:#x}")


def user_namespace(uids: list[tuple[int, int, int]], gids: list[tuple[int, int, int]]) -> int:
    """A descriptor of a new user namespace with these maps, in which no process is. Raises OSError.

    It begins with a process, which waits for its maps to be written. What number that has in the /proc that is mounted
    here only it can say: that may be of another pid namespace.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid, pidfd = clone(CLONE_NEWUSER)
    if pid == 0:
        try:
            set_dumpable(True)  # or its files in /proc were closed to a creator without CAP_SYS_PTRACE
            ours.close()  # the creator's end has to be the only one
            its.send(os.readlink("/proc/self").encode())
            its.recv(1)
        finally:
            os._exit(0)
    try:
        os.close(pidfd)
        number = int(ours.recv(32) or b"0")
        write_id_maps(number, uids, gids)
        return os.open(f"/proc/{number}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        ours.close()
        its.close()
        with suppress(ChildProcessError):  # who ignores SIGCHLD has nobody to wait for
            os.waitpid(pid, 0)


def write_id_maps(pid: int, uids: list[tuple[int, int, int]], gids: list[tuple[int, int, int]]) -> None:
    """Writes (inside, outside, count) triples as the maps of a process in a new user namespace. Raises OSError."""
    for name, triples in (("uid_map", uids), ("gid_map", gids)):
        text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in triples)
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
