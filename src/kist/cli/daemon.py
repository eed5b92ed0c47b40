"""The daemon on this machine: started when nobody answers on the default socket, and stopped."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time

from kist.cli.choice import DEFAULT_SOCKET
from kist.client.http import Endpoint, Unreachable
from kist.model.errors import KistError

PIDFILE = "/run/kist.pid"
_START_LOCK = "/run/kist-start.lock"
_LOG = "/var/log/kist.log"
_START_SECONDS = 15.0
_LOCK = "/run/kist/lock"  # held by the kistd of the default exec root
_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)


def start_if_allowed() -> bool:
    """Starts kistd for the default socket when this process may, and says so. True when one runs afterwards.

    Of several commands at the same moment one starts it; the others wait. Raises KistError when it does not come up.
    """
    if os.geteuid() != 0 or os.environ.get("KIST_NO_AUTOSTART"):
        return False
    lock = os.open(_START_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _answers():
            print("kist: no daemon is running, starting kistd (stop it with: kist daemon stop)", file=sys.stderr)
            _await_start(_spawn())
    finally:
        os.close(lock)
    return True


def _answers() -> bool:
    try:
        Endpoint(f"unix://{DEFAULT_SOCKET}").connect().close()
    except Unreachable:
        return False
    return True


def _await_start(pid: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers():
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            raise KistError(f"kistd ended at once with status {os.waitstatus_to_exitcode(status)}: see {_LOG}")
        if time.monotonic() > deadline:
            raise KistError(f"kistd did not come up within {_START_SECONDS:.0f} s: see {_LOG}")
        time.sleep(0.01)


def _spawn() -> int:
    """kistd in a session of its own, its messages in the log file, with no descriptor of ours. Its process id."""
    log = os.open(_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
    ]
    # A lock or a pipe that a shell gave this command must not live as long as the daemon.
    inherited = [number for number in map(int, os.listdir("/proc/self/fd")) if number > 2 and _is_inherited(number)]
    actions += [(os.POSIX_SPAWN_CLOSE, number) for number in inherited]
    arguments = [sys.executable, "-I", "-m", "kist.daemon.main"]
    try:
        return os.posix_spawn(sys.executable, arguments, os.environ, file_actions=actions, setsid=True)
    finally:
        os.close(log)


def _is_inherited(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # the one that listed them
        return False


def stop() -> None:
    """Raises KistError when none runs here, or it does not end."""
    try:
        with open(PIDFILE, encoding="ascii") as file:
            pid = int(file.read().strip())
        process = os.pidfd_open(pid)
    except (OSError, ValueError, OverflowError) as error:
        raise KistError(f"no kistd is running (there is no live process in {PIDFILE})") from error
    try:
        # Asked after the descriptor was made: from then on the number cannot become another process unnoticed.
        if pid not in (_listener(), _lock_holder()):
            raise KistError(f"no kistd is running (process {pid}, which {PIDFILE} names, is another program)")
        _end(process, pid)
    finally:
        os.close(process)


def _end(process: int, pid: int) -> None:
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except ProcessLookupError:
        return
    except OSError as error:
        raise KistError(f"cannot end kistd (process {pid}): {(error.strerror or '').lower()}") from error
    poller = select.poll()
    poller.register(process, select.POLLIN)  # readable when the process has ended: pidfd_open(2)
    if not poller.poll(_START_SECONDS * 1000):
        raise KistError(f"kistd (process {pid}) did not end within {_START_SECONDS:.0f} s")


def _listener() -> int:
    """The process that listens on the default socket, 0 when nobody does."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(DEFAULT_SOCKET)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except OSError:
        return 0
    return int(_UCRED.unpack(credentials)[0])


def _lock_holder() -> int:
    """The process that locked the default exec root, 0 without one: where systemd listens, the socket is its own."""
    try:
        found = os.stat(_LOCK)
        with open("/proc/locks", encoding="ascii") as file:
            lines = [line.split() for line in file]
    except OSError:
        return 0
    # "1: FLOCK  ADVISORY  WRITE 708 00:1b:14 0 EOF", proc_locks(5); one with "->" only waits
    name = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    return next((int(words[4]) for words in lines if words[1] == "FLOCK" and words[5] == name), 0)
