"""Bringing processes to life: the container's init, and execs beside it. The parent's half; `init` is the child's."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from kist.kernel import cgroup, const, ns, pidfd, process, rtnetlink
from kist.monitor import init, nameserver, protocol
from kist.monitor.operations import Context, Operation, decode
from kist.monitor.protocol import Message


class Ends(NamedTuple):
    """A process's three streams: the child's ends, and the monitor's (-1 where there is none)."""

    child: tuple[int, int, int]
    ours: tuple[int, int, int]

    def give_to(self, uid: int, gid: int) -> None:
        """Makes the root of a user namespace their owner, who cannot take from inside what is the host root's."""
        if not (uid or gid):
            return
        for ours, child in zip(self.ours, self.child, strict=True):
            if ours >= 0:
                os.fchown(child, uid, gid)

    def close_child(self) -> None:
        for descriptor in self.child:
            if descriptor >= 0:
                os.close(descriptor)

    def close_ours(self) -> None:
        for descriptor in self.ours:
            if descriptor >= 0:
                os.close(descriptor)


def make_pipes(stdin: bool, stdout: bool, stderr: bool) -> Ends:
    """A pipe for each stream that is wanted, /dev/null for the others."""
    child, ours = [], []
    for number, wanted in enumerate((stdin, stdout, stderr)):
        if not wanted:
            child.append(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
            ours.append(-1)
            continue
        read, write = os.pipe2(os.O_CLOEXEC)
        child.append(read if number == 0 else write)
        ours.append(write if number == 0 else read)
    return Ends((child[0], child[1], child[2]), (ours[0], ours[1], ours[2]))


NO_STREAMS = Ends((-1, -1, -1), (-1, -1, -1))


class Started(NamedTuple):
    pid: int
    pidfd: int
    start_time: int  # clock ticks since boot
    console: int  # master of the terminal, or -1
    nameserver: tuple[int, int] = (-1, -1)  # its sockets for UDP and TCP


class Failed(Exception):
    """The plan could not be carried out; `report` says which operation, why, and in which words."""

    def __init__(self, report: Message) -> None:
        super().__init__(report)
        self.report = report
        self.init = -1  # pidfd of a killed init that its parent has to reap


Station = Callable[[bytes, int, socket.socket], bool]  # (what init says, its pid, the wire to it)


def start(
    config: dict[str, Any],
    before: list[Any],
    plan: int | list[Operation],
    context: Context,
    ends: Ends,
    station: Station | None = None,
) -> Started:
    """Carries out what is to be done outside, clones init as the caller's sibling, and waits until the program runs.

    `plan` is a descriptor that only init reads, or the operations. With a `station` init is the caller's own child and
    may stop on its way and say so: it answers then, and True lets this return. Raises Failed.
    """
    early, late = _split(decode(before))
    _execute(early, context)
    ours, theirs = socket.socketpair(socket.AF_UNIX, protocol.SEQPACKET)
    group = -1
    try:
        cgroup.make_unified(context.layout, context.cgroup)
        group = _cgroup_descriptor(context)
        if config["links"]:
            context.route = rtnetlink.RouteSocket()
        if config["pid_namespace"]:
            descriptor = os.open(config["pid_namespace"], os.O_RDONLY | os.O_CLOEXEC)
            ns.setns(descriptor, const.CLONE_NEWPID)
            os.close(descriptor)
        flags, number = config["clone_flags"] | const.CLONE_PARENT, 0
        if station is not None:
            flags, number = config["clone_flags"], signal.SIGCHLD
        pid, handle = ns.clone(flags, cgroup_fd=group, exit_signal=number)
    except Exception as error:
        raise Failed(report("clone", error)) from error
    finally:
        if group >= 0:
            os.close(group)
    if pid == 0:
        ours.close()
        context.sync = theirs
        init.run(plan, context, ends.child)
    theirs.close()
    context.pid = pid
    try:
        started_at = pidfd.start_time(pid)
        _execute(late, context)
        if before:  # init waits for it only then, and an unread message would break the wire
            ours.send(b"go")
        handed = _await_exec(ours, pid, station)
    except Exception as error:
        _kill(handle)
        failed = error if isinstance(error, Failed) else Failed(report("start", error))
        failed.init = handle
        raise failed from error
    finally:
        ours.close()
        ends.close_child()
        if context.route is not None:
            context.route.close()
    return Started(pid, handle, started_at, *handed)


def _split(operations: list[Operation]) -> tuple[list[Operation], list[Operation]]:
    """Those that need init's pid come after clone(2)."""
    needs_pid = ("WriteIdMaps", "MakeVeth")
    early = [operation for operation in operations if type(operation).__name__ not in needs_pid]
    return early, [operation for operation in operations if type(operation).__name__ in needs_pid]


def _execute(operations: list[Operation], context: Context) -> None:
    for operation in operations:
        try:
            operation.execute(context)
        except Exception as error:
            raise Failed(report(operation.describe(), error)) from error


def _cgroup_descriptor(context: Context) -> int:
    if not context.layout.unified:
        return -1
    directory = f"{context.layout.unified}/{context.cgroup}"
    return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def report(operation: str, error: Exception) -> Message:
    """What is told to kistd of a failure; of one that is no refusal of the kernel's, the type as well."""
    if not isinstance(error, OSError):
        return {"operation": operation, "errno": 0, "message": f"{type(error).__name__}: {error}", "problem": ""}
    words = error.strerror or str(error)
    if error.filename:
        words = f"{error.filename}: {words}"
    return {"operation": operation, "errno": error.errno or 0, "message": words, "problem": ""}


def _await_exec(sync: socket.socket, pid: int, station: Station | None) -> tuple[int, tuple[int, int]]:
    """Reads what init says until execve(2) closes its end. The terminal's master, the name server's sockets; or -1."""
    console, servers = -1, (-1, -1)
    while True:
        data, descriptors, _, _ = socket.recv_fds(sync, 1 << 16, 2)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if data == nameserver.EVENT:
            servers = descriptors[0], descriptors[1]
        elif descriptors:
            console = descriptors[0]
        elif data.startswith(b"failed"):
            for descriptor in (console, *servers):
                if descriptor >= 0:
                    os.close(descriptor)
            raise Failed(parse_failure(data))
        elif not data or (station is not None and station(data, pid, sync)):
            return console, servers


def parse_failure(data: bytes) -> Message:
    report: Message = json.loads(data[len(b"failed") :])
    return report


def _kill(handle: int) -> None:
    try:
        pidfd.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass


def start_exec(
    config: dict[str, Any],
    plan: int | list[Operation],
    layout: cgroup.Layout,
    name: str,
    init_pidfd: int,
    ends: Ends,
    nofile: tuple[int, int],
    preserved: int = 0,
) -> tuple[int, socket.socket]:
    """Forks into the namespaces of a container: (pid of the helper to reap, wire on which pid and failures come).

    The helper joins the cgroups and namespaces and clones with CLONE_PARENT, so that the monitor is the parent of the
    new process and the helper can go. The cgroup namespace comes after the clone: where the v2 tree is mounted with
    nsdelegate, none of it comes from outside into a group (cgroups(7)). `nofile` is the limit on descriptors that
    containers inherit.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, protocol.SEQPACKET)
    helper = os.fork()
    if helper:
        theirs.close()
        ends.close_child()
        return helper, ours
    context = Context(layout, name)
    context.sync, context.preserved = theirs, preserved
    try:
        ours.close()
        process.set_dumpable(False)  # before anything of the container's can see this process
        process.set_descriptor_limit(nofile)
        if cgroup.hands_down(layout, name):  # as where systemd runs inside: beside the first process
            context.cgroup = cgroup.unified_of(pidfd.pid_of(init_pidfd))
        group = _cgroup_descriptor(context)
        cgroup.join_v1(layout, name)
        ns.setns(init_pidfd, config["namespaces"] & ~const.CLONE_NEWCGROUP)
        pid, handle = ns.clone(const.CLONE_PARENT, cgroup_fd=group, exit_signal=0)
        if pid:
            socket.send_fds(theirs, [b"pid %d" % pid], [handle])
            os._exit(0)
        if config["namespaces"] & const.CLONE_NEWCGROUP:
            ns.setns(init_pidfd, const.CLONE_NEWCGROUP)
        context.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except BaseException as error:
        init.tell(theirs, "enter the container", "", error)
        os._exit(1)
    init.run(plan, context, ends.child)
    os._exit(1)
