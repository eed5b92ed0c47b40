"""What goes wrong in a starter, expected or not, is told with its type: no start just "died"."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from kist.kernel.cgroup import Layout
from kist.monitor import protocol, starter

LAYOUT = Layout({}, "")


def start(request: dict[str, Any]) -> tuple[dict[str, Any] | None, socket.socket]:
    """The starter's word to its monitor, and kistd's end of the connection."""
    wire, theirs = socket.socketpair(socket.AF_UNIX, protocol.SEQPACKET)
    kistd, passed = socket.socketpair(socket.AF_UNIX, protocol.STREAM)
    socket.send_fds(wire, [b"m"], [passed.fileno()])
    passed.close()
    plan = os.memfd_create("plan")
    protocol.send(kistd, request, [plan])
    os.close(plan)
    pid, told = starter.start(theirs, LAYOUT)
    os.waitpid(pid, 0)
    wire.close()
    for descriptor in told[1] if told is not None else ():
        os.close(descriptor)
    return told[0] if told is not None else None, kistd


def request(directory: Path, **changes: Any) -> dict[str, Any]:
    config = dict.fromkeys(starter.KEPT_SETTINGS, "") | {
        "run_dir": str(directory), "log": {"path": "", "wake": ""}, "tty": True, "links": [], "pid_namespace": "",
        "clone_flags": 0, "owner": [0, 0], "cgroup": "nosuch",
    }  # fmt: skip
    return {"config": config | changes, "before": [], "clients": [], "waiters": []}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"before": [["NoSuchOperation", {}]]}, "KeyError: 'NoSuchOperation'"),
        ({"config": {"log": {}}}, "KeyError: 'path'"),
    ],
)
def test_an_exception_is_a_failed_start(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    asked = request(tmp_path, **changes.pop("config", {}))
    told, kistd = start(asked | changes)
    kistd.close()
    assert told is not None
    assert told["state"]["status"] == "failed"
    assert (told["state"]["errno"], told["state"]["message"]) == (0, text)


def test_a_request_that_makes_no_sense_is_told_to_kistd(tmp_path: Path) -> None:
    asked = request(tmp_path)
    del asked["config"]
    told, kistd = start(asked)
    with kistd:
        assert told is None
        event, _ = protocol.receive(kistd)
    assert (event["event"], event["operation"]) == ("failed", "read the request")
    assert event["message"] == "KeyError: 'config'"
