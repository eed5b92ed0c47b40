"""One life of a container after the other, and what hangs on to one."""

from __future__ import annotations

import contextlib
import resource
import socket
import time

import pytest
from tests.conftest import Kistd, _monitors


@pytest.mark.parametrize("options", [(), ("--pid", "host")])
def test_a_new_life_is_not_cleared_up_with_the_old_one(engine: Kistd, options: tuple[str, ...]) -> None:
    """The old monitor removes the cgroup by its name, and kills what is in the way, after it told of the end."""
    children = "sleep 1000 & sleep 1000 & sleep 1000 & wait"
    engine.ok("run", "-d", "--name", "again", *options, "busybox", "sh", "-c", children)
    for _ in range(25):
        assert engine.request("POST", "/containers/again/restart?t=0")[0] == 204
    time.sleep(0.1)
    assert engine.request("GET", "/containers/again/json")[1]["State"]["Running"]
    engine.ok("rm", "-f", "again")


def test_more_clients_than_descriptors_do_not_end_a_container(own_engine: Kistd) -> None:
    made = own_engine.ok("run", "-d", "--name", "popular", "busybox", "sleep", "1000").strip()
    deadline = time.monotonic() + 10
    while not (found := _monitors(own_engine)) and time.monotonic() < deadline:  # it takes its name a moment later
        time.sleep(0.01)
    (monitor,) = found
    resource.prlimit(monitor, resource.RLIMIT_NOFILE, (40, 40))
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(own_engine.socket)
            client.sendall(
                f"POST /v1.51/containers/{made}/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
            )
            client.settimeout(5)
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        assert own_engine.request("GET", f"/containers/{made}/json")[1]["State"]["Running"]
    own_engine.ok("rm", "-f", "popular")
