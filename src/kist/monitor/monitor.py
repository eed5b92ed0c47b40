"""A monitor: the parent of one container.

It has the container started, carries its streams, writes its log, runs execs, and keeps its exit status in a
file before anybody hears of it. It listens on a socket of its own in the run directory: kistd may die, and the next
one connects there. It stays until kistd has released it.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from collections import deque

from kist.kernel import cgroup
from kist.kernel.process import raise_descriptor_limit, set_name
from kist.logs.writer import JsonFileWriter, NullWriter
from kist.monitor import dump, foreign, launch, nameserver, starter
from kist.monitor.loop import EXCEPTION, READ, Loop
from kist.monitor.pace import Pace
from kist.monitor.protocol import LOST, VERSION, Closed, Message, Receiver, send
from kist.monitor.starter import write_file
from kist.monitor.streams import Client, Streams

_REMOVE_ATTEMPTS = 50
_RETRY_SECONDS = 0.05
_ENDED_EXECS = 32  # whose exit codes a client may still ask the next kistd for


def main(wire: socket.socket, layout: cgroup.Layout) -> None:
    """Serves one container until it is over and released. The connection to kistd comes by `wire`."""
    pid, handed = starter.start(wire, layout)
    if handed is None:
        return
    set_name("kist-monitor")
    monitor = Monitor(layout, *handed)
    os.waitpid(pid, 0)
    monitor.run()


class Waiter:
    """A client's open `/wait`, whose head kistd has sent already. `removed`: answered when the container is removed."""

    def __init__(self, connection: socket.socket, removed: bool) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.removed = removed

    def gone(self) -> bool:
        """Whether the client has closed its end; what it says is not heard any more."""
        try:
            return not self.connection.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            return True

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

    def __init__(self, monitor: Monitor, request: Message, plan: int, client: Client | None) -> None:
        self._monitor = monitor
        self.id: str = request["id"]
        self.kept: str = request.get("kept", "")
        self.pid = 0
        self._pidfd = -1
        self._failure: Message | None = None
        self._doomed = False
        self._helper = 0
        config = request["config"]
        self.streams = Streams(monitor.loop, None, self._output_ended, lambda: None, self._detached)
        self._client = client
        self._config = config
        self._console = -1
        self._ends = launch.NO_STREAMS
        if not config["tty"]:
            self._ends = launch.make_pipes(config["stdin"], config["stdout"], config["stderr"])
            self._ends.give_to(*monitor.stream_owner)
        try:
            if monitor.runtime is not None:
                self._helper, self._sync = foreign.start_exec(
                    monitor.runtime, request, plan, self._ends, monitor.init_pid
                )
            else:
                self._helper, self._sync = launch.start_exec(
                    config, plan, monitor.layout, monitor.cgroup, monitor.init_pidfd, self._ends, monitor.nofile
                )
        except OSError:
            self._ends.close_child()
            self._ends.close_ours()
            raise
        monitor.loop.watch(self._sync.fileno(), READ, lambda events: self._hear())

    @property
    def deciding(self) -> bool:
        """Whether it is not known yet what it has come to: a child that ends now may be its own."""
        return self._helper != 0

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
        self._helper = 0
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
        self._carry_streams()
        self._monitor.loop.watch(self._pidfd, READ, lambda events: self._exited())
        if self._doomed:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to its group, as soon as it runs. The number is its own until it is reaped, which is done here."""
        self._doomed = True
        if self.pid:
            try:
                os.killpg(self.pid, 9)
            except ProcessLookupError:
                pass  # it has no group of its own yet: once more when it runs

    def _carry_streams(self) -> None:
        """Only now, and client and output together: what the program has said already waits in the kernel."""
        if self._config["tty"]:
            self.streams.use_terminal(self._console, stdin=self._config["stdin"], stdin_once=True)
        else:
            self.streams.use_pipes(*self._ends.ours, stdin_once=True)
        if self._client is not None:
            self.streams.attach(self._client)

    def _exited(self) -> None:
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        assert result is not None
        self._monitor.loop.forget(self._pidfd)
        self._finish(failed=False, code=status_of(result))

    def _finish(self, *, failed: bool, code: int) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self.streams.drain()
        if not failed:
            self._monitor.tell({"event": "exec_exited", "id": self.id, "code": code})
        self.streams.finish()
        self._monitor.exec_over(self, None if failed else code)

    def _detached(self) -> None:
        self._monitor.tell({"event": "exec_detached", "id": self.id})

    def _output_ended(self) -> None:
        """All its streams are closed; the process may live on."""


def status_of(result: os.waitid_result) -> int:
    """Docker's exit code: the process's own, or 128 and the signal."""
    if result.si_code == os.CLD_EXITED:
        return result.si_status
    return 128 + result.si_status


class Monitor:
    """`handed` and `descriptors` are what the starter left."""

    def __init__(self, layout: cgroup.Layout, handed: Message, descriptors: list[int]) -> None:
        self.layout = layout
        self.nofile = raise_descriptor_limit()  # every attached client is one
        self.loop = Loop()
        self._config = handed["config"]
        self.cgroup: str = self._config["cgroup"]
        self._state: Message = handed["state"]
        self.stream_owner: list[int] = self._config["owner"]  # (uid, gid) in the host
        self._connection: socket.socket | None = None
        self._receiver = Receiver()
        self._waiters: list[Waiter] = []
        self._execs: dict[str, Exec] = {}
        self._ended_execs: deque[Message] = deque(maxlen=_ENDED_EXECS)
        self._released = False
        self.runtime: foreign.Runtime | None = None
        self._dumper = 0  # pid while a checkpoint is being made
        self._ended_in_dump = False
        rest = iter(descriptors)
        kept = {name: next(rest) for name in handed["handed"]}
        self.init_pidfd = kept.get("init", -1)
        self._nameserver = [kept[name] for name in ("udp", "tcp") if name in kept]
        self._oom_watch = -1
        self._oom_kills = 0
        if self._config["runtime"]:
            self.runtime = foreign.Runtime(**self._config["runtime"])
        self._log = self._open_log(kept)
        self._wake = kept.get("wake", -1)
        self.streams = Streams(
            self.loop, self._log, lambda: None, lambda: None, lambda: self.tell({"event": "detached"})
        )
        for spec in handed["clients"]:
            self._attach(spec, [next(rest)])
        for spec in handed["waiters"]:
            self._wait(spec, [next(rest)])
        if "criu" in kept:  # which made init in the starter's stead
            os.waitid(os.P_PIDFD, kept["criu"], os.WEXITED)
            os.close(kept["criu"])
        self._listener = socket.socket(fileno=kept["listener"]) if "listener" in kept else None
        self.connect(socket.socket(fileno=kept["connection"]), Receiver())
        if self._state["status"] == "running":
            self._take_over(kept)
        else:
            self._start_failed()

    def _open_log(self, kept: dict[str, int]) -> JsonFileWriter | NullWriter | Pace:
        setup = self._config["log"]
        if "log" not in kept:
            return NullWriter()
        on_rotated = None
        if setup["compress"]:  # what is sent to a server is compressed by who sends it
            on_rotated = self._nothing if setup["wake"] else self._rotated
        log = JsonFileWriter(
            setup["path"], setup["max_size"], setup["max_files"], setup["attrs"], kept["log"], on_rotated, self._stuck
        )
        if not setup["bound"]:
            return log
        return Pace(log, setup["shipped"], setup["bound"], kept["wake"], self._hold)

    def _nothing(self) -> None:
        pass

    def _rotated(self) -> None:
        self.tell({"event": "rotated"})

    def _stuck(self, error: OSError) -> None:
        self.tell({"event": "warning", "message": f"the log is not rotated and grows on: {error}"})

    def _hold(self) -> None:
        """The log is as far ahead of the server as it may be."""
        self.streams.hold()
        self.loop.watch(self._wake, READ, lambda events: self._go_on())

    def _go_on(self) -> None:
        assert isinstance(self._log, Pace)
        if self._log.has_room():
            self.loop.forget(self._wake)
            self.streams.resume()

    def _take_over(self, kept: dict[str, int]) -> None:
        """The container runs: its streams and its end are this process's from here on."""
        once = self._config["stdin_once"]
        if self.runtime is not None:
            self.loop.watch(foreign.hear_of_children(), READ, lambda events: self._reap_strays())
        if "console" in kept:
            self.streams.use_terminal(kept["console"], stdin=self._config["open_stdin"], stdin_once=once)
        else:
            ends = [kept.get(name, -1) for name in ("stdin", "stdout", "stderr")]
            self.streams.use_pipes(ends[0], ends[1], ends[2], stdin_once=once)
        self.loop.watch(self.init_pidfd, READ, lambda events: self._exited())
        if self._config["watch_oom"]:
            self._watch_oom({}, [])
        if self._listener is not None:
            self._listener.listen(4)  # once more: from now on the kernel names this process to who connects
            self.loop.watch(self._listener.fileno(), READ, lambda events: self._accept())
        self.streams.wake_input()

    def _start_failed(self) -> None:
        """Nothing is left behind but this process, until kistd lets it go."""
        if self.init_pidfd >= 0:
            os.waitid(os.P_PIDFD, self.init_pidfd, os.WEXITED)
            os.close(self.init_pidfd)
            self.init_pidfd = -1
        self._remove_cgroup()
        if self.runtime is not None:
            self.runtime.delete()
        if self._listener is not None:
            self._listener.close()
            os.unlink(f"{self._config['run_dir']}/monitor.sock")
        self.tell({**self._state, "event": "failed"})
        self.streams.finish()

    # --- the wire to kistd ---

    def connect(self, connection: socket.socket, receiver: Receiver) -> None:
        """From now on this is kistd; an older connection is dropped."""
        self._disconnect()
        connection.setblocking(True)
        self._connection, self._receiver = connection, receiver
        self.loop.watch(connection.fileno(), READ, lambda events: self._hear())

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            self.tell({"event": "warning", "message": f"accept: {error}"})
            time.sleep(_RETRY_SECONDS)  # it stays ready: nothing may make this a busy loop
            return
        self.connect(connection, Receiver())
        running = [{"id": one.id, "pid": one.pid, "kept": one.kept} for one in self._execs.values()]
        self.tell({"event": "hello", "version": VERSION, "monitor": os.getpid(), **self._state,
                   "execs": [*running, *self._ended_execs]}, self._handles())  # fmt: skip

    @property
    def init_pid(self) -> int:
        """0 when there was none."""
        return int(self._state.get("pid", 0))

    def _handles(self) -> list[int]:
        return [self.init_pidfd] if self.init_pidfd >= 0 else []

    def _disconnect(self) -> None:
        if self._connection is not None:
            self.loop.forget(self._connection.fileno())
            self._connection.close()
            self._receiver.close()
            self._connection = None
            self.streams.drop_held()

    def tell(self, message: Message, descriptors: list[int] | None = None) -> None:
        """To kistd, if there is one; it learns the same from the greeting when there is none now."""
        if self._connection is None:
            return
        try:
            send(self._connection, message, descriptors)
        except OSError:
            pass  # it is gone; what it said before, as that this may go, is still to be read, and then its end

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
            "let_go": self._let_go,
            "wait": self._wait,
            "resize": self._resize,
            "signal": self._signal,
            "exec": self._exec,
            "exec_resize": self._exec_resize,
            "exec_kill": self._exec_kill,
            "close_clients": self._close_clients,
            "watch_oom": self._watch_oom,
            "checkpoint": self._checkpoint,
            "nameserver": self._send_nameserver,
            "release": self._release,
        }
        command = commands.get(message["command"])
        if message.get(LOST):
            self.tell({"event": "warning", "message": f"no descriptor is left for {message['command']}"})
            return
        if command is None:
            for descriptor in descriptors:
                os.close(descriptor)
            self.tell({"event": "unknown_command", "command": message["command"]})
            return
        command(message, descriptors)

    # --- the life of the container ---

    def _watch_oom(self, message: Message, descriptors: list[int]) -> None:
        """From now on kistd hears of every time that the container runs into its limit. Asked for by a limit."""
        if self._oom_watch >= 0 or self.init_pidfd < 0:
            return
        try:
            self._oom_watch = cgroup.watch_oom(self.layout, self.cgroup)
            self._oom_kills = cgroup.oom_kills(self.layout, self.cgroup)
        except OSError as error:
            self.tell({"event": "warning", "message": f"watch for lack of memory: {error}"})
            return
        self.loop.watch(self._oom_watch, EXCEPTION if self.layout.is_v2 else READ, lambda events: self._out_of_memory())

    def _out_of_memory(self) -> None:
        """On v1 it is told before the kernel has killed, or when it may not; on v2 other counters change too."""
        if self.layout.is_v2:
            os.pread(self._oom_watch, 1, 0)  # or it stays ready
            kills = cgroup.oom_kills(self.layout, self.cgroup)
            if kills <= self._oom_kills:
                return
            self._oom_kills = kills
        else:
            try:
                os.eventfd_read(self._oom_watch)
            except BlockingIOError:
                return
        self._state = self._state | {"oom": True}
        self.tell({"event": "oom"})

    def _forget_oom(self) -> None:
        """The last news, and none when the group goes, which the kernel tells there too."""
        if self._oom_watch >= 0:
            self._out_of_memory()
            self.loop.forget(self._oom_watch)
            os.close(self._oom_watch)
            self._oom_watch = -1

    def _exited(self) -> None:
        if self._dumper:  # as long as it is not reaped its pid is nobody else's, whom criu would take for it
            self.loop.forget(self.init_pidfd)
            self._ended_in_dump = True
            return
        result = os.waitid(os.P_PIDFD, self.init_pidfd, os.WEXITED)
        assert result is not None
        self.loop.forget(self.init_pidfd)
        os.close(self.init_pidfd)
        self.init_pidfd = -1
        self._forget_oom()
        self._close_nameserver()
        oom = self._state.get("oom", False) or cgroup.oom_kills(self.layout, self.cgroup) > 0
        if self._config["shares_pids"]:  # no namespace of its own that would take its other processes along
            cgroup.kill(self.layout, self.cgroup)
        self.streams.drain()
        try:
            self._log.close()
        except OSError as error:
            self.streams.log_error = str(error)
        if self._wake >= 0:
            self.loop.forget(self._wake)
            os.close(self._wake)
            self._wake = -1
        self._state = self._state | {
            "status": "exited",
            "code": status_of(result),
            "finished_at": time.time_ns(),
            "oom": oom,
            "log_error": self.streams.log_error,
        }
        try:
            write_file(self._config["run_dir"], "exit", self._state)
        except OSError:
            pass  # a full disk: kistd hears of it now, or from the greeting, for this process stays until it has
        if self.runtime is not None:
            self.runtime.delete()
        self.tell({"event": "exited", **self._state})
        self.streams.finish()
        for waiter in [waiter for waiter in self._waiters if not waiter.removed]:
            self._waiters.remove(waiter)
            self._answer(waiter, self._state["code"])
        self._remove_cgroup()

    def _remove_cgroup(self) -> None:
        for _ in range(_REMOVE_ATTEMPTS):  # the last task leaves its group a moment after it was reaped
            if cgroup.remove(self.layout, self.cgroup):
                return
            cgroup.kill(self.layout, self.cgroup)
            time.sleep(0.002)

    def run(self) -> None:
        """Until released, and every client has what it is owed."""
        self.loop.run(self._finished)
        for waiter in self._waiters:
            self.loop.forget(waiter.connection.fileno())
            waiter.connection.close()

    def _answer(self, waiter: Waiter, code: int) -> None:
        self.loop.forget(waiter.connection.fileno())
        waiter.answer(code)

    def _finished(self) -> bool:
        over = self._state["status"] in ("exited", "failed")
        gone = self._released or (self._state["status"] == "failed" and self._connection is None)
        return over and gone and not self.streams.has_clients and not self._execs and not self._dumper

    def _close_nameserver(self) -> None:
        """Sockets keep a network namespace, and its links on the host."""
        while self._nameserver:
            os.close(self._nameserver.pop())

    # --- commands ---

    def _attach(self, message: Message, descriptors: list[int]) -> None:
        client = _client(message, descriptors[0])
        if client.held:
            self.tell({"event": "held", "id": client.held, "time": time.time_ns()})
        if self._state["status"] == "exited":
            client.close()
            return
        self.streams.attach(client)

    def _let_go(self, message: Message, descriptors: list[int]) -> None:
        self.streams.let_go(message["id"])

    def _wait(self, message: Message, descriptors: list[int]) -> None:
        waiter = Waiter(socket.socket(fileno=descriptors[0]), message["removed"])
        if self._state["status"] == "exited" and not waiter.removed:
            waiter.answer(self._state["code"])
        else:
            self._waiters.append(waiter)
            self.loop.watch(descriptors[0], READ, lambda events: self._waiter_speaks(waiter))

    def _waiter_speaks(self, waiter: Waiter) -> None:
        """A waiting client has nothing to say: it went, and its descriptor must not stay until the container ends."""
        if waiter.gone():
            self._waiters.remove(waiter)
            self.loop.forget(waiter.connection.fileno())
            waiter.connection.close()

    def _resize(self, message: Message, descriptors: list[int]) -> None:
        try:
            self.streams.resize(message["height"], message["width"])
        except OSError as error:
            self.tell({"event": "warning", "message": f"resize: {error}"})

    def _signal(self, message: Message, descriptors: list[int]) -> None:
        """Of a container of another runtime, whose first process may not be what the signal is for."""
        if self.runtime is not None and self.init_pidfd >= 0:
            problem = self.runtime.kill(message["signal"])
            if problem:
                self.tell({"event": "warning", "message": f"signal {message['signal']}: {problem}"})

    def _reap_strays(self) -> None:
        """Children that came here because their parents ended; whose end somebody waits for is left alone."""
        if not any(one.deciding for one in self._execs.values()):
            foreign.reap_all_but({self.init_pid, *(one.pid for one in self._execs.values())})

    def _exec(self, message: Message, descriptors: list[int]) -> None:
        plan, *rest = descriptors
        client = _client(message["client"], rest[0]) if rest else None
        if self.init_pidfd < 0:
            self.tell({"event": "exec_failed", "id": message["id"], "operation": "exec", "errno": 3,
                       "message": "the container is not running", "problem": ""})  # fmt: skip
            if client is not None:
                client.close()
            os.close(plan)
            return
        try:
            self._execs[message["id"]] = Exec(self, message, plan, client)
        except OSError as error:
            self.tell({"event": "exec_failed", "id": message["id"], "operation": "fork", "errno": error.errno or 0,
                       "message": str(error), "problem": ""})  # fmt: skip
            if client is not None:
                client.close()
        finally:
            os.close(plan)

    def exec_over(self, one: Exec, code: int | None) -> None:
        """It ended with `code`, or never ran (None)."""
        self._execs.pop(one.id, None)
        if code is not None:
            self._ended_execs.append({"id": one.id, "code": code, "kept": one.kept})

    def _exec_resize(self, message: Message, descriptors: list[int]) -> None:
        one = self._execs.get(message["id"])
        if one is not None:
            try:
                one.streams.resize(message["height"], message["width"])
            except OSError as error:
                self.tell({"event": "warning", "message": f"resize: {error}"})

    def _exec_kill(self, message: Message, descriptors: list[int]) -> None:
        one = self._execs.get(message["id"])
        if one is not None:
            one.kill()

    def _close_clients(self, message: Message, descriptors: list[int]) -> None:
        self.streams.drop_all()

    def _checkpoint(self, message: Message, descriptors: list[int]) -> None:
        """The answer is `dumped`, with `failure` empty or the reason; it comes when the files are on the disk."""
        failure = ""
        if self._dumper:
            failure = "another checkpoint of it is being made"
        elif self.init_pidfd < 0:
            failure = "the container is not running"
        if failure:
            self.tell({"event": "dumped", "failure": failure})
            return
        try:
            self._dumper, wire = dump.start(message, self.streams.ends(), not self._config["open_stdin"])
        except OSError as error:
            self.tell({"event": "dumped", "failure": f"fork: {error}"})
            return
        self.loop.watch(wire.fileno(), READ, lambda events: self._dumped(wire))

    def _dumped(self, wire: socket.socket) -> None:
        data = wire.recv(1 << 16) or b'{"failure": "the dumper was killed"}'
        self.loop.forget(wire.fileno())
        wire.close()
        os.waitpid(self._dumper, 0)
        self._dumper = 0
        self.tell({"event": "dumped", **json.loads(data)})
        if self._ended_in_dump:
            self._exited()

    def _send_nameserver(self, message: Message, descriptors: list[int]) -> None:
        """`open`: of a container that was started without one, and is in a network now that wants it."""
        failure = ""
        if message.get("open") and not self._nameserver and self.init_pidfd >= 0:
            try:
                self._nameserver = nameserver.open_in(self.init_pidfd)
            except OSError as error:
                failure = str(error)
        self.tell({"event": "nameserver", "failure": failure}, self._nameserver)

    def _release(self, message: Message, descriptors: list[int]) -> None:
        """kistd has recorded the end, with `code`. `removed`: and the container is gone: who waits for that is told."""
        code, failed = message["code"], self._state["status"] == "failed"
        kept = []
        for waiter in self._waiters:
            if message["removed"] or (failed and not waiter.removed):
                self._answer(waiter, code)
            else:
                self.loop.forget(waiter.connection.fileno())
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
        held=message.get("held", ""),
    )
