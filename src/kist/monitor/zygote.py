"""The zygote: a warm, small, single-threaded process that forks a monitor for each container, one ahead of demand.

It reads no specification. What arrives on its socket (descriptor 3) is one byte with one descriptor, the monitor's end
of a connection to kistd, and goes unread to the child: what the zygote decoded would be copied into every later
monitor. It runs from a sealed copy of the interpreter, so that a container sees no writable host binary through
/proc/self/exe.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

from kist.kernel import caps, cgroup, process
from kist.monitor import monitor
from kist.monitor.protocol import SEQPACKET

CONTROL = 3
_DESCRIPTORS = 64  # more than this process ever has open
_CHILD = int(signal.SIGCHLD)


class _NoImports:
    """Finder that refuses: a package upgraded under a running monitor must not mix with what it has loaded."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ImportError(f"{name}: nothing is imported any more in this process")


def main(cgroup_name: str, nofile: tuple[int, int]) -> None:
    """Serves until kistd closes its end. `cgroup_name`: where this process and the monitors live; `nofile`: the
    limit on them that kistd was started with and that containers inherit.
    """
    process.set_descriptor_limit(nofile)
    process.set_name("kist-zygote")
    process.reset_foreign_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps monitors
    process.set_child_subreaper()
    caps.last_cap()
    layout = cgroup.detect()
    cgroup.make(layout, cgroup_name)
    cgroup.join(layout, cgroup_name)
    os.setsid()
    process.close_all_but({CONTROL})
    control = socket.socket(fileno=CONTROL)
    sys.meta_path[:] = [_NoImports]
    sys.path.clear()
    gc.collect()
    gc.freeze()
    gc.disable()
    control.send(b"ready")
    spare = _make_spare(layout)
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(control, 16, 4)
        except InterruptedError:
            continue
        if not data:
            return
        while not _hand_over(spare, descriptors):
            spare.close()
            spare = _make_spare(layout)
        for descriptor in descriptors:
            os.close(descriptor)
        spare.close()
        spare = _make_spare(layout)


def _make_spare(layout: cgroup.Layout) -> socket.socket:
    """A monitor that waits for its container, and the wire to it: two forks that no start has to wait for.

    It ends when this end of the wire is closed.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, SEQPACKET)
    if os.fork() == 0:
        _become_monitor(theirs.fileno(), layout)
    theirs.close()
    return ours


def _hand_over(spare: socket.socket, descriptors: list[int]) -> bool:
    """False when the spare is gone, which only somebody's signal brings about."""
    try:
        socket.send_fds(spare, [b"m"], descriptors)
    except OSError:
        return False
    return True


def _become_monitor(wire: int, layout: cgroup.Layout) -> None:
    """Takes the plainest way to everything: what this touches is memory of every container (see `starter`)."""
    status = 1
    try:
        os.closerange(CONTROL, wire)
        os.closerange(wire + 1, _DESCRIPTORS)
        process.default_signal(_CHILD)
        os.setsid()
        process.set_name("kist-spare")
        monitor.main(socket.socket(fileno=wire), layout)
        status = 0
    finally:
        os._exit(status)
