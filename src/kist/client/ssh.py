"""ssh:// hosts: one ssh process per connection, whose standard input and output are the daemon's socket.

The other side runs `kist system dial-stdio`, or docker's command of that name where there is no kist.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import time
from collections.abc import Callable

from kist.client.hosts import parse_ssh
from kist.client.http import Endpoint, Stream, Unreachable

_EXIT_SECONDS = 3.0
_TOLD_BYTES = 4096


class SshEndpoint(Endpoint):
    """A daemon reached through ssh. Ends every ssh it started when it is closed."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.arguments = ssh_arguments(host)
        self._open: set[SshStream] = set()

    def connect(self) -> Stream:
        stream = SshStream(self.arguments, self._open.discard)
        self._open.add(stream)
        return stream

    def close(self) -> None:
        for stream in list(self._open):
            stream.close()


def ssh_arguments(url: str) -> list[str]:
    """The command line of ssh, as Docker's connection helper has it. Raises KistError with Docker's texts."""
    address = parse_ssh(url)
    arguments = ["ssh", "-o", "ConnectTimeout=30", "-T"]
    if address.user:
        arguments += ["-l", address.user]
    if address.port:
        arguments += ["-p", address.port]
    return [*arguments, "--", address.host, remote_command(address.path)]


def remote_command(path: str) -> str:
    """One word for the shell there, whichever it is: sh looks which of the two commands there is."""
    words = ["system", "dial-stdio"]
    if path.strip("/"):
        words = ["--host", shlex.quote(f"unix://{path}"), *words]
    rest = " ".join(words)
    script = f"if command -v kist >/dev/null 2>&1; then exec kist {rest}; else exec docker {rest}; fi"
    return f"sh -c {shlex.quote(script)}"


class SshStream:
    """One ssh process as a connection."""

    def __init__(self, arguments: list[str], closed: Callable[[SshStream], None]) -> None:
        self._arguments = arguments
        self._closed = closed
        self._status: int | None = None
        self._errors = os.memfd_create("ssh-errors", os.MFD_CLOEXEC)  # a pipe nobody reads would fill up
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._pid = self._start(theirs.fileno())

    def _start(self, descriptor: int) -> int:
        actions = [
            (os.POSIX_SPAWN_DUP2, descriptor, 0),
            (os.POSIX_SPAWN_DUP2, descriptor, 1),
            (os.POSIX_SPAWN_DUP2, self._errors, 2),
        ]
        try:
            # A session of its own: ctrl-c at the terminal is for the container, not for ssh.
            return os.posix_spawnp("ssh", self._arguments, os.environ, file_actions=actions, setsid=True,
                                   setsigdef=[signal.SIGPIPE, signal.SIGINT])  # fmt: skip
        except OSError as error:
            self._socket.close()
            os.close(self._errors)
            raise Unreachable(f'error during connect: exec: "ssh": {(error.strerror or "").lower()}') from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def recv(self, size: int, /) -> bytes:
        """b"" at the end. Raises Unreachable when ssh or the command behind it failed."""
        try:
            data = self._socket.recv(size)
        except ConnectionResetError:
            data = b""
        if not data:
            self._check()
        return data

    def sendall(self, data: bytes, /) -> None:
        try:
            self._socket.sendall(data)
        except BrokenPipeError:
            self._check()
            raise

    def shutdown(self, how: int, /) -> None:
        self._socket.shutdown(how)

    def close(self) -> None:
        """Ends the process if it runs, and reaps it."""
        if self._socket.fileno() < 0:
            return
        self._socket.close()
        if self._wait(0) is None:
            os.kill(self._pid, signal.SIGTERM)
            if self._wait(_EXIT_SECONDS) is None:
                os.kill(self._pid, signal.SIGKILL)
                self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self._errors)
        self._closed(self)

    def _wait(self, seconds: float) -> int | None:
        """The exit status, None while it runs."""
        deadline = time.monotonic() + seconds
        while self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= deadline:
                break
            else:
                time.sleep(0.002)
        return self._status

    def _check(self) -> None:
        status = self._wait(_EXIT_SECONDS)
        if not status:
            return
        told = os.pread(self._errors, _TOLD_BYTES, 0).decode("utf-8", "replace")
        ended = f"exit status {status}" if status > 0 else f"signal: {signal.Signals(-status).name}"
        raise Unreachable(
            f"error during connect: command [{' '.join(self._arguments)}] has exited with {ended}, make sure the URL "
            f"is valid, and Docker 18.09 or later is installed on the remote host: stderr={told}"
        )
