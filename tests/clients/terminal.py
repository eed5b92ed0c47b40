"""A command on a pseudo terminal of its own, as a person at a keyboard has it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

from tests.conftest import Kistd

COMMANDS = {"docker": ["docker"], "kist": [sys.executable, "-m", "kist.cli.main"]}
PROMPT = b"/ # \x1b[6n"  # busybox's, which asks where the cursor is once it reads


def command(name: str, engine: Kistd, *words: str) -> list[str]:
    """`docker` or `kist` with this engine as the daemon."""
    return [*COMMANDS[name], "-H", engine.host, *words]


def environment(engine: Kistd) -> dict[str, str]:
    return {**os.environ, "TERM": "xterm", "DOCKER_CONFIG": f"{engine.base}/docker-config"}


class Terminal:
    """Runs `arguments` as the session leader of a new terminal of this size."""

    def __init__(self, engine: Kistd, arguments: list[str], rows: int = 24, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.master)
            os.login_tty(slave) if hasattr(os, "login_tty") else _login_tty(slave)
            os.execvpe(arguments[0], arguments, environment(engine))
        self.slave = slave  # kept open: what the command leaves the terminal in can be looked at
        self.seen = b""
        self.status: int | None = None

    def resize(self, rows: int, columns: int) -> None:
        """The kernel sends SIGWINCH to who is in the foreground."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text: bytes, seconds: float = 15, start: int = 0) -> bytes:
        """Everything seen, once `text` is in it behind `start`."""
        deadline = time.monotonic() + seconds
        while self.seen.find(text, start) < 0:
            assert self._read(deadline), f"{text!r} did not come, only {self.seen[-2000:]!r}"
        return self.seen

    def until_match(self, pattern: bytes, seconds: float = 15) -> bytes:
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            assert self._read(deadline), f"{pattern!r} did not come, only {self.seen[-2000:]!r}"
        return found[0]

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        data = os.read(self.master, 65536)
        self.seen += data
        return bool(data)

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def dialogue(self, text: bytes, answer: bytes) -> bytes:
        """Types and waits for an answer that was not there before; answers what came."""
        start = len(self.seen)
        self.type(text)
        return self.until(answer, start=start)[start:]

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = 8) -> int:
        """The exit status; everything it still wrote is in `seen`."""
        deadline = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, f"it does not end: {self.seen[-2000:]!r}"
            self._read(time.monotonic() + 0.02)
        while self._read(time.monotonic() + 0.05):
            continue
        return self.status

    @property
    def restored(self) -> bool:
        """Whether the terminal's modes are what they were."""
        return termios.tcgetattr(self.slave) == self.before

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO)

    def close(self) -> None:
        if self.status is None:
            self.kill()
            os.waitpid(self.pid, 0)
        os.close(self.master)
        os.close(self.slave)


def _login_tty(slave: int) -> None:
    """login_tty(3)."""
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for target in range(3):
        os.dup2(slave, target)
    if slave > 2:
        os.close(slave)
