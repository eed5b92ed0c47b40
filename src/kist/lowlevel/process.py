"""What `create`, `run` and `exec` share about the process they start: its terminal, descriptors, pid file, failures."""

from __future__ import annotations

import os
import socket

import msgspec

from kist.kernel import pidfd
from kist.lowlevel.errors import RuntimeFailure
from kist.lowlevel.state import Kept
from kist.runtime import oci


def check_console(tty: bool, console_socket: str, *, foreground: bool) -> None:
    """Raises RuntimeFailure when there is nobody to take the terminal, or no terminal to be taken."""
    if tty and not console_socket and not foreground:
        raise RuntimeFailure("cannot allocate tty if kist-runtime will detach without setting console socket")
    if console_socket and (foreground or not tty):
        raise RuntimeFailure("cannot use console socket if kist-runtime will not detach or allocate tty")


def send_console(path: str, master: int) -> None:
    """Hands the master of the terminal over (SCM_RIGHTS) and closes it. Raises RuntimeFailure."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            socket.send_fds(connection, [b"/dev/ptmx"], [master])
        except OSError as error:
            raise RuntimeFailure(f"cannot hand the terminal to {path}: {(error.strerror or '').lower()}") from error
        finally:
            os.close(master)


def preserved(asked: int) -> int:
    """How many descriptors from 3 on are the program's: those asked for and $LISTEN_FDS. Raises RuntimeFailure."""
    listening = os.environ.get("LISTEN_FDS", "")
    count = asked + (int(listening) if listening.isascii() and listening.isdecimal() else 0)
    for descriptor in range(3, 3 + count):
        try:
            os.fstat(descriptor)
        except OSError as error:
            raise RuntimeFailure(f"cannot preserve descriptor {descriptor}: it is not open") from error
    return count


def with_listeners(spec: oci.Spec, count: int) -> oci.Spec:
    """Tells the program of sockets that were passed on (sd_listen_fds(3)): it is process 1."""
    listening = os.environ.get("LISTEN_FDS", "")
    if not count or not listening:
        return spec
    env = (*spec.process.env, f"LISTEN_FDS={listening}", "LISTEN_PID=1")
    return msgspec.structs.replace(spec, process=msgspec.structs.replace(spec.process, env=env))


def write_pid(path: str, pid: int) -> None:
    """Whole or not at all: who waits for the file reads it at once."""
    directory, _, name = os.path.abspath(path).rpartition("/")
    beside = f"{directory}/.{name}"
    with open(beside, "w", encoding="ascii") as file:
        file.write(str(pid))
    os.rename(beside, path)


def with_pid(kept: Kept, pid: int) -> Kept:
    return kept._replace(pid=pid, pid_start=pidfd.start_time(pid))
