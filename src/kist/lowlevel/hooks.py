"""Hooks of a configuration (config.md, POSIX-platform Hooks): programs that get the container's state on their standard
input.

They are what this command starts besides the container. Those of the container's own namespaces run out of init, where
nothing is imported any more: hence no subprocess module here.
"""

from __future__ import annotations

import os
import select
import signal
from typing import Any, NamedTuple


class Call(NamedTuple):
    """`kind` as in config.json; `timeout` in seconds, 0: none."""

    kind: str
    number: int
    path: str
    arguments: list[str]
    environment: list[str]
    timeout: int


def calls(kind: str, given: dict[str, list[dict[str, Any]]]) -> list[Call]:
    """The hooks of one kind, of `hooks` in config.json."""
    return [
        Call(kind, number, one["path"], one.get("args", []), one.get("env", []), one.get("timeout") or 0)
        for number, one in enumerate(given.get(kind, ()))
    ]


class HookFailed(Exception):
    """The words are runc's."""


def run(call: Call, state: bytes, bundle: str) -> None:
    """Waits for its end. Raises HookFailed for another status than 0; what it wrote to standard error is in it."""
    where = f"error running hook #{call.number}"
    given = os.memfd_create("state", os.MFD_CLOEXEC)
    said = os.memfd_create("said", os.MFD_CLOEXEC)
    try:
        os.write(given, state)
        os.lseek(given, 0, os.SEEK_SET)
        pid = os.fork()
        if pid == 0:
            _become(call, given, said, bundle)
        status = _wait(pid, call.timeout)
        if status is None:
            raise HookFailed(f"{where}: context deadline exceeded: it took longer than {call.timeout} s")
        if status:
            why = f"exit status {status}" if status > 0 else f"signal: {-status}"
            text = os.pread(said, 4096, 0).decode("utf-8", "replace").strip()
            raise HookFailed(f"{where}: {why}, stdout: , stderr: {text}")
    finally:
        os.close(given)
        os.close(said)


def _become(call: Call, given: int, said: int, bundle: str) -> None:
    try:
        if bundle:
            os.chdir(bundle)
        os.dup2(given, 0)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.closerange(3, 1 << 16)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        pairs = (variable.partition("=") for variable in call.environment)
        os.execve(call.path, call.arguments or [call.path], {name: value for name, _, value in pairs})
    except OSError as error:
        os.write(2, f"{call.path}: {error.strerror}".encode())
    finally:
        os._exit(127)


def _wait(pid: int, seconds: int) -> int | None:
    """The exit status, negative for a signal; None when its time was over and it was killed."""
    if seconds:
        descriptor = os.pidfd_open(pid)
        try:
            over = not select.select([descriptor], [], [], seconds)[0]
        finally:
            os.close(descriptor)
        if over:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
