"""The daemon on this machine: started when nobody answers on the default socket, and stopped."""

from __future__ import annotations

import os
import signal
import sys
import time

from kist.client.http import Unreachable, connect
from kist.model.errors import KistError

DEFAULT_SOCKET = "/run/kist.sock"
PIDFILE = "/run/kist.pid"
_LOG = "/var/log/kist.log"
_START_SECONDS = 15.0


def start_if_wanted(host: str) -> bool:
    """Starts kistd when the default socket has no daemon and this process may; says so once. True when it did."""
    if host != f"unix://{DEFAULT_SOCKET}" or os.geteuid() != 0 or os.environ.get("KIST_NO_AUTOSTART"):
        return False
    print("kist: no daemon is running, starting kistd (stop it with: kist daemon stop)", file=sys.stderr)
    start()
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            connect(host).close()
            return True
        except Unreachable:
            time.sleep(0.02)
    raise KistError(f"kistd did not come up within {_START_SECONDS:.0f} s: see {_LOG}")


def start() -> None:
    """kistd in a session of its own, its messages in the log file."""
    log = os.open(_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
    ]
    arguments = [sys.executable, "-I", "-m", "kist.daemon.main"]
    os.posix_spawn(sys.executable, arguments, os.environ, file_actions=actions, setsid=True)
    os.close(log)


def stop(host: str) -> None:
    """Raises KistError when none runs here."""
    try:
        with open(PIDFILE, encoding="ascii") as file:
            pid = int(file.read().strip())
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError) as error:
        raise KistError(f"no kistd is running (there is no live process in {PIDFILE})") from error
    deadline = time.monotonic() + _START_SECONDS
    while os.path.exists(PIDFILE):
        if time.monotonic() > deadline:
            raise KistError(f"kistd (process {pid}) did not end within {_START_SECONDS:.0f} s")
        time.sleep(0.02)
