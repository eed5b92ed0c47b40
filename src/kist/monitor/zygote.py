"""The zygote: a warm, small, single-threaded process that forks a monitor for each container.

It reads no specification. What arrives on its socket (descriptor 3) is one byte with one descriptor, the monitor's end
of a connection to kistd, and goes unread to the child: what the zygote decoded would be copied into every later
monitor. It runs from a sealed copy of the interpreter, so that a container sees no writable host binary through
/proc/self/exe.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys

from kist.kernel import cgroup, process
from kist.monitor import monitor

CONTROL = 3


class _NoImports:
    """Finder that refuses: a package upgraded under a running monitor must not mix with what it has loaded."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ImportError(f"{name}: nothing is imported any more in this process")


def main(cgroup_name: str, nofile: tuple[int, int]) -> None:
    """Serves until kistd closes its end. `cgroup_name`: where this process and the monitors live; `nofile`: the
    limit on them that kistd was started with and that containers inherit.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, nofile)
    process.set_name("kist-zygote")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps monitors
    process.set_child_subreaper()
    layout = cgroup.detect()
    cgroup.make(layout, cgroup_name)
    cgroup.join(layout, cgroup_name)
    os.setsid()
    control = socket.socket(fileno=CONTROL)
    sys.meta_path[:] = [_NoImports]
    sys.path.clear()
    gc.collect()
    gc.freeze()
    gc.disable()
    control.send(b"ready")
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(control, 16, 4)
        except InterruptedError:
            continue
        if not data:
            return
        pid = os.fork()
        if pid == 0:
            _become_monitor(control, descriptors[0], layout)
        for descriptor in descriptors:
            os.close(descriptor)


def _become_monitor(control: socket.socket, descriptor: int, layout: cgroup.Layout) -> None:
    status = 1
    try:
        control.close()
        process.close_all_but({descriptor})
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        process.set_name("kist-monitor")
        monitor.main(socket.socket(fileno=descriptor), layout)
        status = 0
    finally:
        os._exit(status)
