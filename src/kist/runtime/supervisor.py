"""kistd's half of the conversation with zygote and monitors.

The supervisor starts the zygote, has it fork a monitor for each launch, and connects again to the monitors of an
earlier kistd. A MonitorHandle is one such connection: commands go out, events come in, and its end without an exit
means that the monitor died.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from kist.kernel import process, sealed
from kist.model.errors import KistError, Unavailable
from kist.monitor import protocol
from kist.monitor.protocol import Receiver
from kist.runtime.plan import Start

log = logging.getLogger(__name__)
Message = dict[str, Any]  # of the protocol between kistd and monitors
EventHandler = Callable[[Message, list[int]], None]
VERSION, ADOPTABLE, HOLDS = protocol.VERSION, protocol.ADOPTABLE, protocol.HOLDS
NAMESERVERS = protocol.NAMESERVERS
_START_SECONDS = 20.0
_AT_ONCE = 64  # clients and waiters in one message: the kernel passes at most 253 descriptors


class AttachClient(msgspec.Struct, frozen=True):
    """A client's connection on its way to a monitor. The descriptor is the holder's to close after it was sent."""

    descriptor: int
    multiplexed: bool
    stdin: bool
    stdout: bool
    stderr: bool
    detach_keys: bytes = b""
    leftover: bytes = b""
    held: str = ""  # output waits at the monitor until this name is let go

    def message(self) -> Message:
        return {
            "multiplexed": self.multiplexed,
            "stdin": self.stdin,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "detach_keys": base64.b64encode(self.detach_keys).decode(),
            "leftover": base64.b64encode(self.leftover).decode(),
            "held": self.held,
        }


class WaitClient(msgspec.Struct, frozen=True):
    """A client that waits for the end (`removed`: for the removal) behind a head that was sent already."""

    descriptor: int
    removed: bool

    def message(self) -> Message:
        return {"removed": self.removed}


class LaunchFailed(Exception):
    """A plan failed. `operation`, `errno`, `message` as the kernel has it; `problem` in the container's terms."""

    def __init__(self, report: Message) -> None:
        super().__init__(report.get("problem") or f"{report.get('operation')}: {report.get('message')}")
        self.operation: str = report.get("operation", "")
        self.errno: int = report.get("errno", 0)
        self.message: str = report.get("message", "")
        self.problem: str = report.get("problem", "")
        self.foreign: bool = report.get("foreign", False)  # the words are another runtime's


@contextmanager
def plan_file(steps: bytes) -> Iterator[int]:
    """A plan as a descriptor: a monitor passes it on without ever having it in memory."""
    memory = os.memfd_create("kist-plan")
    try:
        os.write(memory, steps)
        yield memory
    finally:
        os.close(memory)


class MonitorHandle:
    """One monitor. `on_event` hears every message; `on_lost` that the connection ended."""

    def __init__(
        self, connection: socket.socket, on_event: EventHandler, on_lost: Callable[[MonitorHandle], None]
    ) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._receiver = Receiver()
        self._on_event, self._on_lost = on_event, on_lost
        self._loop = asyncio.get_running_loop()
        self._outgoing: deque[tuple[bytes, list[int]]] = deque()
        self.closed = False
        self._loop.add_reader(connection.fileno(), self._readable)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Queues a command; descriptors are duplicated, so the caller may close its own at once."""
        if self.closed:
            raise Unavailable("the container's monitor is gone")
        copies = [os.dup(descriptor) for descriptor in descriptors]
        self._outgoing.append((protocol.pack(message, len(copies)), copies))
        if len(self._outgoing) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._outgoing:
            data, descriptors = self._outgoing[0]
            try:
                sent = self._connection.sendmsg([data], protocol.rights(descriptors), socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._loop.add_writer(self._connection.fileno(), self._flush)
                return
            except OSError:  # it is gone; what it said before is still to be read, and then its end
                self._drop_outgoing()
                break
            for descriptor in descriptors:
                os.close(descriptor)
            if sent < len(data):
                self._outgoing[0] = (data[sent:], [])
            else:
                self._outgoing.popleft()
        self._loop.remove_writer(self._connection.fileno())

    def _readable(self) -> None:
        try:
            messages = self._receiver.read(self._connection)
        except BlockingIOError:
            return
        except (protocol.Closed, OSError):
            self.close()
            self._on_lost(self)
            return
        for message, descriptors in messages:
            self._on_event(message, descriptors)

    def kill_monitor(self) -> None:
        """For a monitor that does not answer; the pid is that of who listens (SO_PEERCRED, unix(7))."""
        credentials = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        with contextlib.suppress(ProcessLookupError):
            os.kill(struct.unpack("iII", credentials)[0], signal.SIGKILL)

    def _drop_outgoing(self) -> None:
        for _, descriptors in self._outgoing:
            for descriptor in descriptors:
                os.close(descriptor)
        self._outgoing.clear()

    def close(self) -> None:
        """Lets go of the monitor; it goes on without us."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._connection.fileno())
        self._loop.remove_writer(self._connection.fileno())
        self._drop_outgoing()
        self._receiver.close()
        self._connection.close()


class Supervisor:
    """Starts the zygote when it is needed, and again when it died."""

    def __init__(self, cgroup_name: str) -> None:
        self._cgroup = cgroup_name
        self._control: socket.socket | None = None
        self.zygote_pid = 0
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Makes sure that a zygote is there. Raises KistError when it does not come up."""
        async with self._lock:
            if self._control is None:
                await self._spawn()

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            pid = _spawn_zygote(theirs.fileno(), self._cgroup)
        finally:
            theirs.close()
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            answer = await asyncio.wait_for(loop.sock_recv(ours, 16), _START_SECONDS)
        except TimeoutError:
            answer = b""
        if answer != b"ready":
            ours.close()
            os.kill(pid, 9)
            await asyncio.to_thread(os.waitpid, pid, 0)
            raise KistError("the zygote did not start; its messages are in the daemon's log")
        self._control, self.zygote_pid = ours, pid
        loop.add_reader(ours.fileno(), self._zygote_ended)

    def _zygote_ended(self) -> None:
        """The zygote never speaks again after `ready`: a readable socket is its end."""
        if self._control is None:
            return
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        self._control = None
        try:
            os.waitpid(self.zygote_pid, 0)
        except ChildProcessError:
            log.debug("the zygote was reaped by somebody else")
        log.warning("the zygote ended; the next start makes a new one")

    async def launch(
        self,
        start: Start,
        clients: Sequence[AttachClient],
        waiters: Sequence[WaitClient],
        on_event: EventHandler,
        on_lost: Callable[[MonitorHandle], None],
    ) -> MonitorHandle:
        """Forks a monitor and tells it to start. What happened comes as an event, `started` or `failed`."""
        await self.start()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with theirs:
            await self._fork(theirs.fileno())
        handle = MonitorHandle(ours, on_event, on_lost)
        first, later = clients[:_AT_ONCE], clients[_AT_ONCE:]
        message = {
            **start.message,
            "clients": [client.message() for client in first],
            "waiters": [waiter.message() for waiter in waiters[:_AT_ONCE]],
        }
        with plan_file(start.plan) as unread:
            held = [*(one.descriptor for one in first), *(one.descriptor for one in waiters[:_AT_ONCE])]
            handle.send(message, [unread, *held])
        for client in later:
            handle.send({"command": "attach", **client.message()}, [client.descriptor])
        for waiter in waiters[_AT_ONCE:]:
            handle.send({"command": "wait", **waiter.message()}, [waiter.descriptor])
        return handle

    async def _fork(self, descriptor: int) -> None:
        for attempt in range(2):
            assert self._control is not None
            try:
                socket.send_fds(self._control, [b"m"], [descriptor])
                return
            except OSError as error:
                if attempt:
                    raise KistError(f"cannot reach the zygote: {error.strerror}") from error
                if self._control is not None:
                    self._zygote_ended()
                await self.start()

    async def adopt(
        self, run_dir: str, on_event: EventHandler, on_lost: Callable[[MonitorHandle], None]
    ) -> MonitorHandle | None:
        """Connects to the monitor of an earlier kistd, whose greeting comes as an event; None when there is none."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            directory = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            connection.close()
            return None
        try:
            connection.connect(f"/proc/self/fd/{directory}/monitor.sock")
        except OSError:
            connection.close()
            return None
        finally:
            os.close(directory)
        return MonitorHandle(connection, on_event, on_lost)

    async def close(self) -> None:
        """Ends the zygote; monitors go on."""
        if self._control is None:
            return
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        self._control = None
        await asyncio.to_thread(os.waitpid, self.zygote_pid, 0)


def _spawn_zygote(control: int, cgroup_name: str) -> int:
    """posix_spawn(3) of the sealed interpreter; nothing of kistd's but the socket and stderr goes along."""
    source = str(Path(__file__).resolve().parents[2])
    arguments_of_main = f"{cgroup_name!r}, {process.INHERITED_NOFILE!r}"
    code = f"import sys;sys.path.insert(0,{source!r});from kist.monitor.zygote import main;main({arguments_of_main})"
    memory = sealed.sealed_interpreter()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    arguments: list[Any] = [sys.executable, "-I", "-S", "-X", "utf8", "-c", code]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):  # mallopt(3)
        environment[name] = str(1 << 20)  # what a monitor needs for a read, so that no page is new for each
    environment["LD_BIND_NOW"] = "1"  # symbols are bound here once, not again in every fork (ld.so(8))
    # The descriptors are moved out of the way first: 3 and 4 may be in use as sources.
    moved_control, moved_memory = os.dup(control), os.dup(memory)
    high = 100
    actions = [
        (os.POSIX_SPAWN_DUP2, moved_control, high),
        (os.POSIX_SPAWN_DUP2, moved_memory, high + 1),
        (os.POSIX_SPAWN_DUP2, null, 0),
        (os.POSIX_SPAWN_DUP2, null, 1),
        (os.POSIX_SPAWN_DUP2, high, 3),
        (os.POSIX_SPAWN_DUP2, high + 1, 4),
        (os.POSIX_SPAWN_CLOSE, high),
        (os.POSIX_SPAWN_CLOSE, high + 1),
    ]
    try:
        return os.posix_spawn("/proc/self/fd/4", arguments, environment, file_actions=actions)
    finally:
        for descriptor in (moved_control, moved_memory, memory, null):
            os.close(descriptor)
