"""What brings a container to life and is gone once it runs: a fork of its monitor, so that the monitor stays small.

A page that a forked process writes to is its own from then on, and in Python a reference count is a write. What a
start touches would stay with the monitor for as long as the container lives (1.3 MiB measured). So the monitor forks
once more: the starter reads the request, carries the plan out, clones init as the monitor's child (CLONE_PARENT), tells
kistd, hands what is left over in one message and ends.
"""

from __future__ import annotations

import json
import marshal  # between two forks of one interpreter, and far smaller than json to whoever reads it
import os
import socket
import time
from typing import Any

from kist.kernel import cgroup, process
from kist.logs.writer import open_log
from kist.monitor import foreign, launch, protocol, restore
from kist.monitor.operations import Context
from kist.monitor.protocol import Message

# What the monitor goes on with, in the order in which it is handed over; -1 for what is not there travels as absence.
HANDED = ("connection", "listener", "init", "log", "wake", "stdin", "stdout", "stderr", "console", "criu", "udp", "tcp")


KEPT_SETTINGS = (
    "cgroup", "run_dir", "shares_pids", "open_stdin", "stdin_once", "log", "owner", "watch_oom", "runtime"
)  # fmt: skip
_REAPER = b"reaper"


def start(wire: socket.socket, layout: cgroup.Layout) -> tuple[int, tuple[Message, list[int]] | None]:
    """The monitor's half: forks the starter and takes over what it made. Its pid, to be reaped, and a message with
    descriptors; None instead of those when there was nothing to be started.

    The connection to kistd comes by `wire`, as soon as there is something to do. The message has `config`, `state`,
    `clients`, `waiters` and `handed`, the names of the first descriptors; those of clients and waiters follow.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, protocol.STREAM)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _run(wire, layout, theirs)
    wire.close()
    theirs.close()
    reaper = False
    try:
        body, descriptors = protocol.receive_frame(ours)
        if body == _REAPER:  # a foreign runtime's init becomes a child of the monitor when the runtime ends
            process.set_child_subreaper()
            reaper = True
            ours.send(b"y")
            body, descriptors = protocol.receive_frame(ours)
        return pid, (marshal.loads(body), descriptors)
    except (protocol.Closed, OSError):
        if reaper:
            foreign.kill_children()
        return pid, None
    finally:
        ours.close()


def _run(wire: socket.socket, layout: cgroup.Layout, monitor: socket.socket) -> None:
    """The starter's life; it never returns."""
    status = 1
    try:
        process.set_name("kist-starter")
        _, passed, _, _ = socket.recv_fds(wire, 16, 1)
        if passed:
            connection = socket.socket(fileno=passed[0])
            request, descriptors = protocol.receive(connection)
            _carry_out(connection, layout, monitor, request, descriptors)
            status = 0
    except (protocol.Closed, OSError):
        pass  # kistd went before it said what to start
    finally:
        os._exit(status)


def _carry_out(
    connection: socket.socket, layout: cgroup.Layout, monitor: socket.socket, request: Message, descriptors: list[int]
) -> None:
    """What goes wrong where nothing is expected to, a request of another version say, is told as it is."""
    try:
        _start(connection, layout, monitor, request, descriptors)
    except OSError:
        raise
    except Exception as error:
        protocol.send(connection, {"event": "failed", **launch.report("read the request", error)})


def _start(
    connection: socket.socket, layout: cgroup.Layout, monitor: socket.socket, request: Message, descriptors: list[int]
) -> None:
    """The first descriptor is init's plan, the others are those of clients and waiters."""
    plan, *others = descriptors
    config = request["config"]
    kept = dict.fromkeys(HANDED, -1) | {"connection": connection.fileno()}
    try:
        kept["listener"] = _listen(config["run_dir"])
        kept["log"] = open_log(config["log"]["path"]) if config["log"]["path"] else -1
        if config["log"]["wake"]:
            kept["wake"] = os.open(config["log"]["wake"], os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        if config["runtime"]:
            protocol.send_frame(monitor, _REAPER, [])
            monitor.recv(1)
        started = _launch(config, request["before"], plan, Context(layout, config["cgroup"]), kept)
    except launch.Failed as failure:
        state: Message = {"status": "failed", **failure.report}
        kept["init"] = failure.init
    except Exception as error:
        state = {"status": "failed", **launch.report("prepare the log and the monitor's socket", error)}
    else:
        state = {"status": "running", "pid": started.pid, "pid_start": started.start_time, "started_at": time.time_ns()}
        try:
            protocol.send(connection, {"event": "started", "monitor": os.getppid(), **state}, [started.pidfd])
        except OSError:
            pass  # kistd is gone: the next one hears of it from the monitor's greeting
    handed = [name for name in HANDED if kept[name] >= 0]
    message = {
        "config": {key: config[key] for key in KEPT_SETTINGS},
        "state": state,
        "clients": request["clients"],
        "waiters": request["waiters"],
        "handed": handed,
    }
    protocol.send_frame(monitor, marshal.dumps(message), [*(kept[name] for name in handed), *others])


def _launch(
    config: dict[str, Any], before: list[Any], plan: int, context: Context, kept: dict[str, int]
) -> launch.Started:
    ends = launch.NO_STREAMS
    if not config["tty"]:
        ends = launch.make_pipes(config["open_stdin"], True, True)
        ends.give_to(*config["owner"])
    try:
        if config["runtime"]:
            started = foreign.start(config, plan, context, ends)
        elif "restore" in config:
            started, kept["criu"] = restore.start(config, before, plan, context, ends)
        else:
            started = launch.start(config, before, plan, context, ends)
    except launch.Failed:
        ends.close_ours()
        raise
    kept["init"], kept["console"] = started.pidfd, started.console
    kept["stdin"], kept["stdout"], kept["stderr"] = ends.ours
    kept["udp"], kept["tcp"] = started.nameserver
    return started


def _listen(run_dir: str) -> int:
    """The socket the next kistd connects to. Bound through a descriptor: a path may be longer than sun_path."""
    listener = socket.socket(socket.AF_UNIX, protocol.STREAM)
    directory = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{directory}/monitor.sock")
    finally:
        os.close(directory)
    listener.listen(4)
    listener.setblocking(False)
    return listener.detach()


def write_file(directory: str, name: str, content: Message) -> None:
    """Whole or not at all: written beside, then renamed."""
    path = f"{directory}/{name}"
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, json.dumps(content).encode())
    finally:
        os.close(descriptor)
    os.rename(f"{path}.new", path)
