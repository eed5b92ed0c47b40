"""Containers of another OCI runtime: a command that is called for create, start, exec, kill and delete (runtime.md).

The monitor is the parent here too: it is the subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)) to which init falls when the
command has ended. The root file system is mounted in a mount namespace of the starter's, and the links are made in a
network namespace that only a descriptor of it holds, so that neither shows on the host nor can be left there. A plan is
JSON here: `spec` or `process`, who the user is, and operations for the starter.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import Any, NamedTuple

from kist.kernel import cgroup, const, ns, pidfd, rtnetlink
from kist.monitor import init, protocol
from kist.monitor.launch import Ends, Failed, Started, report
from kist.monitor.operations import Context, ResolveUser, decode
from kist.monitor.protocol import Message

_LOG_TAIL = 1 << 16
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Runtime(NamedTuple):
    """The command and the container it knows by `id`; all it keeps is below `directory`."""

    path: str
    args: list[str]
    id: str
    directory: str
    cgroup: str

    def call(self, words: list[str], stdio: tuple[int, int, int] = (-1, -1, -1), log: str = "log") -> str:
        """Runs the command to its end. What went wrong as it tells it, or "". `stdio` -1: /dev/null."""
        log = f"{self.directory}/{log}"
        if os.path.exists(log):
            os.unlink(log)
        general = ["--root", f"{self.directory}/state", "--log", log, "--log-format", "json"]
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, null if one < 0 else one, number) for number, one in enumerate(stdio)]
        environment = {"PATH": os.environ.get("PATH", _PATH)}
        try:
            arguments = [self.path, *self.args, *general, *words]
            pid = os.posix_spawnp(self.path, arguments, environment, file_actions=actions, setsigdef=[signal.SIGPIPE])
        except OSError as error:
            return f"fork/exec {self.path}: {(error.strerror or '').lower()}"
        finally:
            os.close(null)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return "" if status == 0 else _last_error(log) or f"{self.path} ended with status {status}"

    def kill(self, number: int) -> str:
        return self.call(["kill", self.id, str(number)], log="kill.log")

    def delete(self) -> None:
        """After the end; what it does not remove goes with the directory and the group."""
        if os.path.isdir(f"{self.directory}/state"):
            self.call(["delete", "--force", self.id])


def _last_error(log: str) -> str:
    """The message of the last error in a log of JSON lines."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL))
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal") and entry.get("msg"):
            return str(entry["msg"]).strip()
    return ""


# --- start ---


def start(config: Message, plan: int, context: Context, ends: Ends) -> Started:
    """In the starter: mounts the root, makes the links, has the runtime create and start. Raises Failed."""
    runtime = Runtime(**config["runtime"])
    given = json.loads(os.pread(plan, os.fstat(plan).st_size, 0))
    spec = given["spec"]
    network = _make_network(given["network"], context)
    try:
        if network >= 0:
            path = f"/proc/{os.getpid()}/fd/{network}"
            spec["linux"]["namespaces"].append({"type": "network", "path": path})
        _mount_root(given, context)
        _write_bundle(runtime, spec, context)
        return _create(runtime, config, context, ends)._replace(nameserver=context.nameserver)
    finally:
        ends.close_child()
        if network >= 0:
            os.close(network)


def _make_network(operations: list[Any], context: Context) -> int:
    """A namespace with the container's links, as a descriptor; -1 when the runtime makes its own, or joins one."""
    if not operations:
        return -1
    host = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with rtnetlink.RouteSocket() as route:
            context.route = route
            ns.unshare(const.CLONE_NEWNET)
            try:
                made = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                _execute(operations, context)
            finally:
                ns.setns(host, const.CLONE_NEWNET)
    except OSError as error:
        raise Failed(report("make the network namespace", error)) from error
    finally:
        context.route = None
        os.close(host)
    return made


def _mount_root(given: Message, context: Context) -> None:
    """In a mount namespace of this process's own, which the container's is made from."""
    try:
        ns.unshare(const.CLONE_NEWNS)
    except OSError as error:
        raise Failed(report("unshare", error)) from error
    _execute(given["root"], context)
    _resolve(given, context)


def _execute(operations: list[Any], context: Context) -> None:
    for operation in decode(operations):
        try:
            operation.execute(context)
        except OSError as error:
            raise Failed({**report(operation.describe(), error), "problem": context.problem}) from error


def _resolve(given: Message, context: Context) -> None:
    try:
        ResolveUser(given["user"], given["groups"]).execute(context)
    except OSError as error:
        raise Failed({**report("look up the user", error), "problem": context.problem}) from error


def _user(context: Context) -> Message:
    identity = context.identity
    return {"uid": identity.uid, "gid": identity.gid, "umask": 0o022, "additionalGids": identity.groups}


def _write_bundle(runtime: Runtime, spec: Message, context: Context) -> None:
    spec["process"]["user"] = _user(context)
    bundle = f"{runtime.directory}/bundle"
    os.makedirs(bundle, 0o700)
    _write(f"{bundle}/config.json", spec)


def _write(path: str, content: Message) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file)


def _create(runtime: Runtime, config: Message, context: Context, ends: Ends) -> Started:
    pid_file = f"{runtime.directory}/pid"
    words = ["create", "--bundle", f"{runtime.directory}/bundle", "--pid-file", pid_file]
    console, listener = -1, None
    if config["tty"]:
        listener, path = _listen(runtime.directory, "console")
        words += ["--console-socket", path]
    os.chdir("/")
    try:
        _call(runtime, [*words, runtime.id], ends)
        pid, handle = _open(pid_file)
        try:
            if listener is not None:
                console = _receive(listener)
            _join_unified(context.layout, context.cgroup, pid)
            started_at = pidfd.start_time(pid)
            _call(runtime, ["start", runtime.id], ends)
        except Exception as error:
            _kill(runtime, handle)
            failed = error if isinstance(error, Failed) else Failed(report("start", error))
            failed.init = handle
            raise failed from error
    finally:
        if listener is not None:
            listener.close()
    return Started(pid, handle, started_at, console)


def _call(runtime: Runtime, words: list[str], ends: Ends) -> None:
    problem = runtime.call(words, ends.child if words[0] == "create" else (-1, -1, -1))
    if problem:
        raise Failed({"operation": words[0], "errno": 0, "message": problem, "problem": problem, "foreign": True})


def _open(pid_file: str) -> tuple[int, int]:
    """The process whose number a runtime has left in a file. Raises Failed."""
    try:
        with open(pid_file, encoding="utf-8") as file:
            pid = int(file.read())
        return pid, os.pidfd_open(pid)
    except (OSError, ValueError) as error:
        problem = f"the runtime says that it has started a process, and there is none: {error}"
        raise Failed({"operation": "create", "errno": 0, "message": problem, "problem": problem}) from error


def _join_unified(layout: cgroup.Layout, name: str, pid: int) -> None:
    """Beside v1 trees a runtime may leave the v2 tree out, where everything of a container is found and killed."""
    if layout.unified and not layout.is_v2:
        cgroup.make_unified(layout, name)
        cgroup.write(f"{layout.unified}/{name}/cgroup.procs", str(pid))


def _kill(runtime: Runtime, handle: int) -> None:
    try:
        pidfd.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _listen(directory: str, name: str) -> tuple[socket.socket, str]:
    """A socket for a terminal, and the path to it: by a descriptor, as that of the directory may be too long."""
    listener = socket.socket(socket.AF_UNIX, protocol.STREAM)
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener.bind(f"/proc/self/fd/{handle}/{name}")
    listener.listen(1)
    listener.settimeout(10)
    return listener, f"/proc/{os.getpid()}/fd/{handle}/{name}"  # the descriptor goes with this short-lived process


def _receive(listener: socket.socket) -> int:
    """The terminal's master. Raises OSError."""
    connection, _ = listener.accept()
    with connection:
        _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
    if not descriptors:
        raise OSError("the runtime sent no terminal")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


# --- exec ---


def start_exec(runtime: Runtime, request: Message, plan: int, ends: Ends, first: int) -> tuple[int, socket.socket]:
    """As `launch.start_exec`: a helper to be reaped, and the wire on which pid, terminal and failures come.

    `first` is the pid of the container's first process.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, protocol.SEQPACKET)
    helper = os.fork()
    if helper:
        theirs.close()
        ends.close_child()
        return helper, ours
    try:
        ours.close()
        _execute_process(runtime, request, plan, ends, theirs, first)
    except Failed as failure:
        theirs.send(b"failed" + json.dumps(failure.report).encode())
    except BaseException as error:
        init.tell(theirs, "exec", "", error)
    finally:
        os._exit(0)


def _execute_process(
    runtime: Runtime, request: Message, plan: int, ends: Ends, wire: socket.socket, first: int
) -> None:
    """In the helper, which ends when the process runs; that is the monitor's then."""
    name = f"exec-{os.getpid()}"
    directory = f"{runtime.directory}/{name}"
    os.mkdir(directory, 0o700)
    try:
        given = json.loads(os.pread(plan, os.fstat(plan).st_size, 0))
        layout = cgroup.detect()
        context = Context(layout, runtime.cgroup)
        context.root = os.open(f"/proc/{first}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        _resolve(given, context)
        given["process"]["user"] = _user(context)
        _write(f"{directory}/process.json", given["process"])
        pid_file = f"{directory}/pid"
        words = ["exec", "--process", f"{directory}/process.json", "--detach", "--pid-file", pid_file]
        listener = None
        if request["config"]["tty"]:
            listener, path = _listen(directory, "console")
            words += ["--tty", "--console-socket", path]
        problem = runtime.call([*words, runtime.id], ends.child, f"{name}/log")
        if problem:
            raise Failed({"operation": "exec", "errno": 0, "message": problem, "problem": problem, "foreign": True})
        pid, handle = _open(pid_file)
        if listener is not None:
            socket.send_fds(wire, [b"console"], [_receive(listener)])
        try:
            _join_unified(layout, runtime.cgroup, pid)
        except OSError:
            pass  # it has ended
        socket.send_fds(wire, [b"pid %d" % pid], [handle])
    finally:
        for file in os.listdir(directory):
            os.unlink(f"{directory}/{file}")
        os.rmdir(directory)


# --- children of the monitor ---


def hear_of_children() -> int:
    """A descriptor that is readable when a child has ended: orphans of the container's come to the monitor."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _CHILDREN.append(read)
    return read


_CHILDREN: list[int] = []


def reap_all_but(known: set[int]) -> None:
    """Reaps every ended child that nobody waits for."""
    for descriptor in _CHILDREN:
        try:
            os.read(descriptor, 4096)
        except BlockingIOError:
            pass
    for pid in _children():
        if pid not in known:
            os.waitpid(pid, os.WNOHANG)


def kill_children() -> None:
    """The starter died: what the runtime had begun falls to the monitor, child after child, and ends here."""
    while found := _children():
        for pid in found:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _children() -> list[int]:
    return [int(word) for word in cgroup.read(f"/proc/self/task/{os.getpid()}/children").split()]
