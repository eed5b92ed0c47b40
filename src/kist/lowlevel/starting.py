"""`start`: lets the init of a created container go."""

from __future__ import annotations

import json
import os
import socket

from kist.lowlevel import hooks, state
from kist.lowlevel.errors import Log, RuntimeFailure, words


def command(root: str, name: str, log: Log) -> int:
    """Raises RuntimeFailure with runc's words."""
    with state.locked(root, name):
        container = state.load(root, name)
        status = container.status()
        if status == "stopped":
            raise RuntimeFailure("cannot start a container that has stopped")
        if status != "created":
            raise RuntimeFailure("cannot start an already running container")
        let_go(container, log)
    return 0


def let_go(container: state.Container, log: Log) -> None:
    """Returns when the program runs. Raises RuntimeFailure when it does not; then init has ended."""
    handle = os.open(container.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(f"/proc/self/fd/{handle}/{state.START_SOCKET}")
        except OSError as error:
            raise RuntimeFailure("cannot start a container that has stopped") from error
        finally:
            os.close(handle)
        os.unlink(f"{container.directory}/{state.START_SOCKET}")
        connection.send(state.GO)
        try:
            answer = connection.recv(1 << 16)
        except ConnectionResetError:
            answer = b""
    if answer.startswith(b"failed"):
        report = json.loads(answer.removeprefix(b"failed"))
        raise RuntimeFailure(f"kist-runtime start failed: {words(report)}")
    for call in hooks.calls("poststart", container.kept.hooks):
        try:
            hooks.run(call, container.hook_state("running"), container.kept.bundle)
        except hooks.HookFailed as error:
            log.write("warning", str(error))
