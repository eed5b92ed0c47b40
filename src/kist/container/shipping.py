"""Logs that go to servers: spools are made and given up here, and the shipper is started where it is needed.

The shipper is a process of its own (kist.shipper.main). It outlives kistd, which finds it again by the pid in its lock
file, hears of its end by a pidfd, and starts another if it is still needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from kist.container.logging import NO_DRIVER, lag_limit, log_setup, ships
from kist.container.loginfo import info_of
from kist.container.machine import Machine
from kist.model.errors import InvalidParameter, KistError
from kist.shipper import drivers
from kist.shipper.spool import Spool, Task, spools

log = logging.getLogger(__name__)
_AGAIN_SECONDS = 1.0


class Shipping:
    """`machines` gives all that there are now. Used from the loop's thread alone."""

    def __init__(self, data_root: str, exec_root: str, group: str, machines: Callable[[], list[Machine]]) -> None:
        self.root, self._lock = f"{data_root}/shipping", lock_path(exec_root)
        self._group, self._machines = group, machines
        self.pid = 0
        self._pidfd = -1
        self._again: asyncio.TimerHandle | None = None

    def spool(self, container_id: str) -> Spool:
        return Spool(f"{self.root}/{container_id}")

    # --- containers ---

    async def prepare(self, machine: Machine) -> None:
        """Before a start: the server is reached, the spool made, a shipper there. Raises with Docker's text."""
        config = machine.record.host_config.log_config
        if config is None or not ships(machine.record):
            return
        options = config.config or {}
        kind = drivers.driver_class(config.type)
        if kind is None:
            raise KistError(f"failed to get logging factory: logger: no log driver named '{config.type}' is registered")
        try:
            info = info_of(machine.record, options, kind.default_tag)
            if not kind.is_asynchronous(options):
                driver = kind(info)
                try:
                    await asyncio.to_thread(driver.connect)
                finally:
                    driver.close()
        except (OSError, ValueError) as error:
            kind_of_error = InvalidParameter if isinstance(error, ValueError) else KistError
            raise kind_of_error(f"{NO_DRIVER}: {error}") from error
        spool = self.spool(machine.id)
        spool.prepare(Task(config.type, info, log_setup(machine, spool.log).compress, lag_limit(options)))
        self.ensure()

    def give_up(self, machine: Machine) -> None:
        """The container is removed: what was not sent yet is sent if it can be, and then all goes."""
        spool = self.spool(machine.id)
        if ships(machine.record) and os.path.isdir(spool.directory):
            spool.mark_removed()
            self.ensure()

    # --- the process ---

    def start(self) -> None:
        """Finds what an earlier kistd left: its shipper, and spools of containers that are gone."""
        known = {machine.id for machine in self._machines()}
        found = spools(self.root)
        for spool in found:
            if spool.id not in known:
                spool.mark_removed()
        pid = running(self._lock)
        if pid:
            self._watch(pid)
        elif found:
            self.ensure()

    def ensure(self) -> None:
        """Makes sure that a shipper is there or comes."""
        if self._pidfd >= 0:
            return
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        pid = running(self._lock) or _spawn(self.root, self._lock, self._group)
        self._watch(pid)

    def _watch(self, pid: int) -> None:
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._ended()
            return
        self.pid = pid
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        self._forget()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        self.pid = 0
        if self._needed() and self._again is None:
            self._again = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._start_again)

    def _start_again(self) -> None:
        self._again = None
        self.ensure()

    def _needed(self) -> bool:
        """Whether one that ended, by itself or by somebody's signal, has left something."""
        live = (one for one in self._machines() if one.state.alive or (one.started and not one.started.done()))
        return any(ships(one.record) for one in live) or any(one.removed for one in spools(self.root))

    def _forget(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def close(self) -> None:
        """The shipper goes on as long as there is something for it to do."""
        self._forget()
        if self._again is not None:
            self._again.cancel()


def lock_path(exec_root: str) -> str:
    return f"{exec_root}/shipper.lock"


def shipper_pid(exec_root: str) -> int:
    """0 when there is none."""
    return running(lock_path(exec_root))


def running(lock: str) -> int:
    """The pid of the shipper that holds this lock; 0 when there is none."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return 0
    except BlockingIOError:
        text = os.pread(descriptor, 16, 0)
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)


def end_shipper(exec_root: str) -> None:
    """For an engine that goes altogether: what was not sent is not sent any more."""
    pid = running(lock_path(exec_root))
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _spawn(root: str, lock: str, group: str) -> int:
    """posix_spawn(3), as kistd never forks; nothing of kistd's goes along but stderr."""
    source = str(Path(__file__).resolve().parents[2])
    code = (
        f"import sys;sys.path.insert(0,{source!r});from kist.shipper.main import main;main({root!r},{lock!r},{group!r})"
    )
    environment = {key: os.environ[key] for key in ("PATH", "TZ", "LANG", "VIRTUAL_ENV") if key in os.environ}
    actions = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in (0, 1)]
    return os.posix_spawn(
        sys.executable, [sys.executable, "-I", "-X", "utf8", "-c", code], environment, file_actions=actions, setsid=True
    )
