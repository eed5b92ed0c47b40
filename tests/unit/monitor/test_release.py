"""A kistd that lets a monitor go and is gone at once."""

from __future__ import annotations

import socket

from kist.monitor import protocol
from kist.monitor.loop import Loop
from kist.monitor.monitor import Monitor
from kist.monitor.protocol import Receiver


def test_what_kistd_said_last_is_heard_though_nobody_hears_the_monitor() -> None:
    """The end of an exec is told to a closed connection: the release that waits there must not be lost."""
    ours, theirs = socket.socketpair()
    monitor = Monitor.__new__(Monitor)
    monitor.loop, monitor._connection, monitor._receiver = Loop(), None, Receiver()
    monitor._waiters, monitor._released, monitor._state = [], False, {"status": "exited"}
    monitor.connect(ours, Receiver())
    theirs.sendall(protocol.pack({"command": "release", "removed": True, "code": 137}, 0))
    theirs.close()
    monitor.tell({"event": "exec_exited", "id": "a", "code": 137})
    monitor._hear()
    assert monitor._released
    ours.close()
    monitor.loop.close()
