"""A monitor: the parent of one container.

It starts the container by a plan, carries its streams, writes its log, runs execs, and keeps its exit status in a
file before anybody hears of it. It listens on a socket of its own in the run directory: kistd may die, and the next
one connects there. It stays until kistd has released it.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from typing import Any

from kist.kernel import cgroup
from kist.logs.writer import JsonFileWriter, NullWriter
from kist.monitor import launch
from kist.monitor.loop import READ, Loop
from kist.monitor.operations import Context
from kist.monitor.protocol import VERSION, Closed, Message, Receiver, send
from kist.monitor.streams import Client, Streams

_REMOVE_ATTEMPTS = 50


def main(connection: socket.socket, layout: cgroup.Layout) -> None:
    """Serves one container until it is over and released."""
    receiver = Receiver()
    messages: list[tuple[Message, list[int]]] = []
    try:
        while not messages:
            messages = receiver.read(connection)
    except (Closed, OSError):
        return  # kistd went before it said what to start
    request, descriptors = messages.pop(0)
    try:
        monitor = Monitor(layout, request["config"])
    except OSError as error:
        _refuse(connection, request, descriptors, error)
        return
    monitor.connect(connection, receiver)
    monitor.start(request, descriptors)
    for message, more in messages:
        monitor.handle(message, more)
    monitor.run()


def _refuse(connection: socket.socket, request: Message, descriptors: list[int], error: OSError) -> None:
    """Tells of a start for which not even the log or the socket could be made, for example on a full disk."""
    words = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    clients = len(request["clients"])
    for descriptor in descriptors[:clients]:
        os.close(descriptor)
    for descriptor, spec in zip(descriptors[clients:], request["waiters"], strict=False):
        Waiter(socket.socket(fileno=descriptor), spec["removed"]).answer(128)
    try:
        send(connection, {"event": "failed", "operation": "prepare the log and the monitor's socket",
                          "errno": error.errno or 0, "message": words, "problem": ""})  # fmt: skip
    except OSError:
        return  # kistd is gone too


class Waiter:
    """A client's open `/wait`, whose head kistd has sent already. `removed`: answered when the container is removed."""

    def __init__(self, connection: socket.socket, removed: bool) -> None:
        self.connection = connection
        self.removed = removed

    def answer(self, code: int, error: str = "") -> None:
        body: Message = {"StatusCode": code}
        if error:
            body["Error"] = {"Message": error}
        text = json.dumps(body, separators=(",", ":")).encode() + b"\n"
        try:
            self.connection.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(text), text), socket.MSG_NOSIGNAL)
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the client is gone
        self.connection.close()


class Exec:
    """One process started beside the container's first."""

    def __init__(self, monitor: Monitor, request: Message, client: Client | None) -> None:
        self._monitor = monitor
        self.id: str = request["id"]
        self.pid = 0
        self._pidfd = -1
        self._failure: Message | None = None
        self._helper = 0
        self._over = False
        config = request["config"]
        self.streams = Streams(monitor.loop, None, self._output_ended, lambda: None)
        self._client = client
        self._config = config
        # Not read before the client is attached: what a quick program says would be given to nobody.
        self._ends = launch.NO_STREAMS
        self._console = -1
        if not config["tty"]:
            self._ends = launch.make_pipes(config["stdin"], config["stdout"], config["stderr"])
        self._helper, self._sync = launch.start_exec(
            config, request["plan"], monitor.layout, monitor.cgroup, monitor.init_pidfd, self._ends
        )
        monitor.loop.watch(self._sync.fileno(), READ, lambda events: self._hear())

    def _hear(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self._sync, 1 << 16, 1)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if data.startswith(b"pid "):
            self.pid, self._pidfd = int(data[4:]), descriptors[0]
        elif data == b"console":
            self._console = descriptors[0]
        elif data.startswith(b"failed"):
            self._failure = launch.parse_failure(data)
        elif not data:
            self._decided()

    def _decided(self) -> None:
        """The wire closed: the program runs, or something failed."""
        self._monitor.loop.forget(self._sync.fileno())
        self._sync.close()
        os.waitpid(self._helper, 0)
        if self._failure is not None or not self.pid:
            failure = self._failure or {"operation": "exec", "errno": 0, "message": "the helper died", "problem": ""}
            self._monitor.tell({"event": "exec_failed", "id": self.id, **failure})
            if self._client is not None:
                self._client.close()  # without an end: kistd has the connection too, and tells why
            if self._pidfd >= 0:
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
            self._ends.close_ours()
            if self._console >= 0:
                os.close(self._console)
            self._finish(failed=True, code=-1)
            return
        self._monitor.tell({"event": "exec_started", "id": self.id, "pid": self.pid})
        if self._client is not None:
            self.streams.attach(self._client)
        if self._console >= 0:
            self.streams.use_terminal(self._console, stdin=self._config["stdin"], stdin_once=True)
        else:
            self.streams.use_pipes(*self._ends.ours, stdin_once=True)
        self.streams.wake_input()
        self._monitor.loop.watch(self._pidfd, READ, lambda events: self._exited())

    def _exited(self) -> None:
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        assert result is not None
        self._monitor.loop.forget(self._pidfd)
        self._finish(failed=False, code=status_of(result))

    def _finish(self, *, failed: bool, code: int) -> None:
        self._over = True
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self.streams.drain()
        if not failed:
            self._monitor.tell({"event": "exec_exited", "id": self.id, "code": code})
        self.streams.finish()
        self._monitor.exec_over(self)

    def _output_ended(self) -> None:
        """All its streams are closed; the process may live on."""


def status_of(result: os.waitid_result) -> int:
    """Docker's exit code: the process's own, or 128 and the signal."""
    if result.si_code == os.CLD_EXITED:
        return result.si_status
    return 128 + result.si_status


class Monitor:
    def __init__(self, layout: cgroup.Layout, config: dict[str, Any]) -> None:
        self.layout = layout
        self.loop = Loop()
        self.cgroup: str = config["cgroup"]
        self.init_pidfd = -1
        self._config = config
        self._connection: socket.socket | None = None
        self._receiver = Receiver()
        self._state: Message = {"status": "created"}
        self._waiters: list[Waiter] = []
        self._execs: dict[str, Exec] = {}
        self._released = False
        log = config["log"]
        self._log: JsonFileWriter | NullWriter
        if log["path"]:
            self._log = JsonFileWriter(log["path"], log["max_size"], log["max_files"], log["attrs"])
        else:
            self._log = NullWriter()
        self.streams = Streams(self.loop, self._log, lambda: None, lambda: None)
        self._listener = self._listen()

    def _listen(self) -> socket.socket:
        """The socket the next kistd connects to. Bound through a descriptor: a path may be longer than sun_path."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        directory = os.open(self._config["run_dir"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            listener.bind(f"/proc/self/fd/{directory}/monitor.sock")
        finally:
            os.close(directory)
        listener.listen(4)
        listener.setblocking(False)
        self.loop.watch(listener.fileno(), READ, lambda events: self._accept())
        return listener

    # --- the wire to kistd ---

    def connect(self, connection: socket.socket, receiver: Receiver) -> None:
        """From now on this is kistd; an older connection is dropped."""
        self._disconnect()
        connection.setblocking(True)
        self._connection, self._receiver = connection, receiver
        self.loop.watch(connection.fileno(), READ, lambda events: self._hear())

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        self.connect(connection, Receiver())
        self.tell({"event": "hello", "version": VERSION, "monitor": os.getpid(), **self._state,
                   "execs": {one.id: one.pid for one in self._execs.values()}}, self._handles())  # fmt: skip

    def _handles(self) -> list[int]:
        return [self.init_pidfd] if self.init_pidfd >= 0 else []

    def _disconnect(self) -> None:
        if self._connection is not None:
            self.loop.forget(self._connection.fileno())
            self._connection.close()
            self._receiver.close()
            self._connection = None

    def tell(self, message: Message, descriptors: list[int] | None = None) -> None:
        """To kistd, if there is one; it learns the same from the greeting when there is none now."""
        if self._connection is None:
            return
        try:
            send(self._connection, message, descriptors)
        except OSError:
            self._disconnect()

    def _hear(self) -> None:
        assert self._connection is not None
        try:
            messages = self._receiver.read(self._connection)
        except (Closed, OSError):
            self._disconnect()
            return
        for message, descriptors in messages:
            self.handle(message, descriptors)

    def handle(self, message: Message, descriptors: list[int]) -> None:
        commands = {
            "attach": self._attach,
            "wait": self._wait,
            "resize": self._resize,
            "exec": self._exec,
            "exec_resize": self._exec_resize,
            "close_clients": self._close_clients,
            "release": self._release,
        }
        command = commands.get(message["command"])
        if command is None:
            for descriptor in descriptors:
                os.close(descriptor)
            self.tell({"event": "unknown_command", "command": message["command"]})
            return
        command(message, descriptors)

    # --- the life of the container ---

    def start(self, request: Message, descriptors: list[int]) -> None:
        """Carries the plan out. The outcome is told; a failure leaves nothing behind but this process."""
        for spec in request["clients"]:
            self._attach(spec, [descriptors.pop(0)])
        for spec in request["waiters"]:
            self._wait(spec, [descriptors.pop(0)])
        config = self._config
        context = Context(self.layout, self.cgroup)
        ends = launch.NO_STREAMS
        if not config["tty"]:
            ends = launch.make_pipes(config["open_stdin"], True, True)
        try:
            started = launch.start(config, request["before"], request["init"], context, ends)
        except launch.Failed as failure:
            ends.close_ours()
            self._remove_cgroup()
            self._state = {"status": "failed", **failure.report}
            self._listener_gone()
            self.tell({"event": "failed", **failure.report})
            self.streams.finish()
            return
        if started.console >= 0:
            once = config["stdin_once"]
            self.streams.use_terminal(started.console, stdin=config["open_stdin"], stdin_once=once)
        else:
            self.streams.use_pipes(*ends.ours, stdin_once=config["stdin_once"])
        self.init_pidfd = started.pidfd
        self.loop.watch(started.pidfd, READ, lambda events: self._exited())
        self._state = {
            "status": "running",
            "pid": started.pid,
            "pid_start": started.start_time,
            "started_at": time.time_ns(),
        }
        self.tell({"event": "started", "monitor": os.getpid(), **self._state}, [started.pidfd])
        self.streams.wake_input()

    def _exited(self) -> None:
        result = os.waitid(os.P_PIDFD, self.init_pidfd, os.WEXITED)
        assert result is not None
        self.loop.forget(self.init_pidfd)
        os.close(self.init_pidfd)
        self.init_pidfd = -1
        oom = cgroup.oom_kills(self.layout, self.cgroup) > 0
        if self._config["shares_pids"]:  # no namespace of its own that would take its other processes along
            cgroup.kill(self.layout, self.cgroup)
        self.streams.drain()
        try:
            self._log.close()
        except OSError as error:
            self.streams.log_error = str(error)
        self._state = self._state | {
            "status": "exited",
            "code": status_of(result),
            "finished_at": time.time_ns(),
            "oom": oom,
            "log_error": self.streams.log_error,
        }
        try:
            self._write_file("exit", self._state)
        except OSError:
            pass  # a full disk: kistd hears of it now, or from the greeting, for this process stays until it has
        self.tell({"event": "exited", **self._state})
        self.streams.finish()
        for waiter in [waiter for waiter in self._waiters if not waiter.removed]:
            self._waiters.remove(waiter)
            waiter.answer(self._state["code"])
        self._remove_cgroup()

    def _write_file(self, name: str, content: Message) -> None:
        """Whole or not at all: written beside, then renamed."""
        path = f"{self._config['run_dir']}/{name}"
        descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, json.dumps(content).encode())
        finally:
            os.close(descriptor)
        os.rename(f"{path}.new", path)

    def _remove_cgroup(self) -> None:
        for _ in range(_REMOVE_ATTEMPTS):  # the last task leaves its group a moment after it was reaped
            if cgroup.remove(self.layout, self.cgroup):
                return
            cgroup.kill(self.layout, self.cgroup)
            time.sleep(0.002)

    def _listener_gone(self) -> None:
        self.loop.forget(self._listener.fileno())
        self._listener.close()
        try:
            os.unlink(f"{self._config['run_dir']}/monitor.sock")
        except FileNotFoundError:
            pass

    def run(self) -> None:
        """Until released, and every client has what it is owed."""
        self.loop.run(self._finished)
        for waiter in self._waiters:
            waiter.connection.close()

    def _finished(self) -> bool:
        over = self._state["status"] in ("exited", "failed")
        gone = self._released or (self._state["status"] == "failed" and self._connection is None)
        return over and gone and not self.streams.has_clients and not self._execs

    # --- commands ---

    def _attach(self, message: Message, descriptors: list[int]) -> None:
        client = _client(message, descriptors[0])
        if self._state["status"] == "exited":
            client.close()
            return
        self.streams.attach(client)

    def _wait(self, message: Message, descriptors: list[int]) -> None:
        waiter = Waiter(socket.socket(fileno=descriptors[0]), message["removed"])
        if self._state["status"] == "exited" and not waiter.removed:
            waiter.answer(self._state["code"])
        else:
            self._waiters.append(waiter)

    def _resize(self, message: Message, descriptors: list[int]) -> None:
        try:
            self.streams.resize(message["height"], message["width"])
        except OSError as error:
            self.tell({"event": "warning", "message": f"resize: {error}"})

    def _exec(self, message: Message, descriptors: list[int]) -> None:
        client = _client(message["client"], descriptors[0]) if descriptors else None
        if self.init_pidfd < 0:
            self.tell({"event": "exec_failed", "id": message["id"], "operation": "exec", "errno": 3,
                       "message": "the container is not running", "problem": ""})  # fmt: skip
            if client is not None:
                client.close()
            return
        try:
            self._execs[message["id"]] = Exec(self, message, client)
        except OSError as error:
            self.tell({"event": "exec_failed", "id": message["id"], "operation": "fork", "errno": error.errno or 0,
                       "message": str(error), "problem": ""})  # fmt: skip
            if client is not None:
                client.close()

    def exec_over(self, one: Exec) -> None:
        self._execs.pop(one.id, None)

    def _exec_resize(self, message: Message, descriptors: list[int]) -> None:
        one = self._execs.get(message["id"])
        if one is not None:
            try:
                one.streams.resize(message["height"], message["width"])
            except OSError as error:
                self.tell({"event": "warning", "message": f"resize: {error}"})

    def _close_clients(self, message: Message, descriptors: list[int]) -> None:
        self.streams.drop_all()

    def _release(self, message: Message, descriptors: list[int]) -> None:
        """kistd has recorded the end, with `code`. `removed`: and the container is gone: who waits for that is told."""
        code, failed = message["code"], self._state["status"] == "failed"
        kept = []
        for waiter in self._waiters:
            if message["removed"] or (failed and not waiter.removed):
                waiter.answer(code)
            else:
                kept.append(waiter)
        self._waiters = []
        if kept:
            self.tell({"event": "waiters"}, [waiter.connection.fileno() for waiter in kept])
            for waiter in kept:
                waiter.connection.close()
        self._released = True


def _client(message: Message, descriptor: int) -> Client:
    return Client(
        socket.socket(fileno=descriptor),
        multiplexed=message["multiplexed"],
        stdin=message["stdin"],
        stdout=message["stdout"],
        stderr=message["stderr"],
        detach_keys=base64.b64decode(message["detach_keys"]),
        leftover=base64.b64decode(message["leftover"]),
    )
