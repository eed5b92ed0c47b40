"""One container while kistd runs: its record, its monitor, and who waits for what."""

from __future__ import annotations

import asyncio
import os
import select

import msgspec

from kist.model.config import ExecConfig
from kist.model.container import ContainerRecord, State
from kist.model.errors import Conflict, Unavailable
from kist.runtime.supervisor import VERSION, AttachClient, MonitorHandle, WaitClient


class ExecState(msgspec.Struct):
    """An exec, from its creation until its container is gone. `exit_code` None: it has not ended."""

    id: str
    container: str
    config: ExecConfig
    started: bool = False
    running: bool = False
    pid: int = 0
    exit_code: int | None = None
    detached: bool = False
    outcome: asyncio.Future[None] | None = None  # set when it runs or has failed to
    probe: bool = False  # of a health check
    ended: asyncio.Future[int] | None = None  # the exit code, where kistd itself waits for it


class Machine:
    """Changes of state happen under `lock`; what a monitor reports is recorded at once, without waiting for it."""

    def __init__(self, record: ContainerRecord) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self.handle: MonitorHandle | None = None
        self.pidfd = -1
        self.execs: dict[str, ExecState] = {}
        self.ended = asyncio.Event()  # set while no process runs
        self.ended.set()
        self.removed = asyncio.Event()
        self.started: asyncio.Future[None] | None = None
        self.dumped: asyncio.Future[str] | None = None  # while a checkpoint is made: why it failed, or ""
        self.pending_clients: list[AttachClient] = []  # attached before the start
        self.pending_waiters: list[WaitClient] = []
        self.handed_over: list[WaitClient] = []  # our copies of what waits at the monitor, should that die
        self.writers: set[asyncio.Future[None]] = set()  # who still writes to the root of the container's last life
        # Clients whose past output comes first: when they were attached.
        self.holds: dict[str, asyncio.Future[int]] = {}
        self.cleanup: asyncio.Task[None] | None = None
        self.unmounting: asyncio.Task[None] | None = None  # of the volumes of its last life
        self.restart: asyncio.TimerHandle | None = None  # between two lives, by its restart policy
        self.delay = 0.0  # seconds of its last pause between two lives; 0: it had none
        self.manual_restarts = 0  # under way: the stop within one is not its end
        self.monitor_version = VERSION  # of the protocol, as the monitor of its present life speaks it
        self.foreign_version = ""  # of the monitor's protocol, when this kistd does not know it
        self.greeting: asyncio.Future[dict[str, object] | None] | None = None  # None: the monitor went without one

    def check_controllable(self) -> None:
        """Raises Unavailable when it runs under a monitor that this kistd cannot talk to."""
        if self.foreign_version:
            raise Unavailable(
                f"the monitor of container {self.id} is of another version of kist (protocol {self.foreign_version}): "
                f"start that version again, or stop the container"
            )

    def check_not_restarting(self) -> None:
        """Raises Conflict with Docker's text between two lives."""
        if self.state.restarting:
            raise Conflict(f"Container {self.id} is restarting, wait until the container is running")

    def cancel_restart(self) -> None:
        if self.restart is not None:
            self.restart.cancel()
            self.restart = None

    def forget_gone_clients(self) -> None:
        """Lets go of connections that wait for the start and whose client has left meanwhile."""
        self.pending_clients = [one for one in self.pending_clients if not _closed_if_gone(one.descriptor)]
        self.pending_waiters = [one for one in self.pending_waiters if not _closed_if_gone(one.descriptor)]
        self.handed_over = [one for one in self.handed_over if not _closed_if_gone(one.descriptor)]

    def close_handed_over(self) -> None:
        """The monitor has answered them, or will."""
        for one in self.handed_over:
            os.close(one.descriptor)
        self.handed_over = []

    @property
    def state(self) -> State:
        return self.record.state

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str:
        return self.record.name

    def set_pidfd(self, descriptor: int) -> None:
        self.close_pidfd()
        self.pidfd = descriptor

    def close_pidfd(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def take_pending(self) -> tuple[list[AttachClient], list[WaitClient]]:
        """The connections that waited for the start; the caller closes the descriptors."""
        clients, self.pending_clients = self.pending_clients, []
        waiters, self.pending_waiters = self.pending_waiters, []
        return clients, waiters

    def settle_dump(self, failure: str) -> None:
        """A checkpoint is made, or has failed; nothing when nobody waits for one."""
        if self.dumped is not None and not self.dumped.done():
            self.dumped.set_result(failure)

    def close(self) -> None:
        clients, waiters = self.take_pending()
        for descriptor in [one.descriptor for one in clients] + [one.descriptor for one in waiters]:
            os.close(descriptor)
        self.close_handed_over()
        self.close_pidfd()
        self.cancel_restart()
        if self.handle is not None:
            self.handle.close()
            self.handle = None


def _closed_if_gone(descriptor: int) -> bool:
    """Closes a connection whose other side is closed altogether; a half-closed one still waits for its answer."""
    poll = select.poll()
    poll.register(descriptor, 0)
    gone = any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))
    if gone:
        os.close(descriptor)
    return gone
