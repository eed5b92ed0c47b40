"""`exec`: another process in the namespaces and the cgroup of a container."""

from __future__ import annotations

import os
import socket

import msgspec

from kist.kernel.process import INHERITED_NOFILE
from kist.lowlevel import bundle, process, state, steps, terminal
from kist.lowlevel.errors import Log, RuntimeFailure, words
from kist.monitor import launch
from kist.monitor import operations as do
from kist.runtime import oci, plan

_FAILED = 255  # as runc's


def command(root: str, name: str, arguments: list[str], options: dict[str, object], log: Log) -> int:
    """The exit status of the process, 0 when it is detached. Raises RuntimeFailure."""
    try:
        return _execute(root, name, arguments, options)
    except RuntimeFailure as failure:
        raise RuntimeFailure(f"exec failed: {failure.message}", _FAILED) from failure


def _execute(root: str, name: str, arguments: list[str], options: dict[str, object]) -> int:
    container = state.load(root, name)
    _check(container, bool(options["ignore-paused"]))
    with open(f"{container.kept.bundle}/config.json", "rb") as file:
        raw, spec = bundle.decode(file.read())
    asked = _process(spec.process, arguments, options)
    bundle.check_process(asked)
    asked = msgspec.structs.replace(asked, capabilities=bundle.possible(asked.capabilities))
    program, flags = bundle.filter_of(raw, asked.capabilities)
    console, detach = str(options["console-socket"]), bool(options["detach"])
    process.check_console(asked.terminal, console, foreground=not detach and not console)
    preserved = process.preserved(int(str(options["preserve-fds"])))
    if not detach:
        terminal.hold_signals()
    started = _start(container, asked, program, flags, preserved)
    if console:
        process.send_console(console, started.console)
        started = started._replace(console=-1)
    if options["pid-file"]:
        process.write_pid(str(options["pid-file"]), started.pid)
    return 0 if detach else terminal.attend(started.pidfd, started.console)


def _check(container: state.Container, paused_too: bool) -> None:
    status = container.status()
    if status == "stopped":
        raise RuntimeFailure("cannot exec in a stopped container")
    if status == "paused" and not paused_too:
        raise RuntimeFailure("cannot exec in a paused container (use --ignore-paused to override)")


def _process(first: oci.Process, arguments: list[str], options: dict[str, object]) -> oci.Process:
    """What is to run: a file says it all, or the container's own process with what the options change."""
    if options["process"]:
        with open(str(options["process"]), "rb") as file:
            text = file.read()
        try:
            found = msgspec.json.decode(text, type=oci.Process)
            bundle.refuse(msgspec.json.decode(text), "process.")
        except msgspec.MsgspecError as error:
            raise RuntimeFailure(f"{options['process']} is not a process: {error}") from error
        return found
    if not arguments:
        raise RuntimeFailure("process args cannot be empty")
    env, gids = options["env"], options["additional-gids"]
    assert isinstance(env, list)
    assert isinstance(gids, list)
    try:
        user = _user(first.user, str(options["user"]), gids)
    except ValueError as error:
        raise RuntimeFailure(f"--user and --additional-gids take numbers: {error}") from error
    return msgspec.structs.replace(
        first,
        args=tuple(arguments),
        cwd=str(options["cwd"]) or first.cwd,
        env=(*first.env, *env),
        terminal=bool(options["tty"]),
        console_size=None,
        user=user,
        no_new_privileges=first.no_new_privileges or bool(options["no-new-privs"]),
        capabilities=_capabilities(first.capabilities or oci.Capabilities(), options["cap"]),
    )


def _user(first: oci.User, asked: str, gids: list[str]) -> oci.User:
    user = first
    if asked:
        uid, _, gid = asked.partition(":")
        user = oci.User(int(uid), int(gid) if gid else first.gid, first.umask, first.additional_gids)
    if gids:
        more = tuple(int(word) for text in gids for word in text.split(","))
        user = msgspec.structs.replace(user, additional_gids=(*user.additional_gids, *more))
    return user


def _capabilities(first: oci.Capabilities, added: object) -> oci.Capabilities:
    assert isinstance(added, list)
    return oci.Capabilities(
        bounding=(*first.bounding, *added),
        effective=(*first.effective, *added),
        inheritable=first.inheritable,
        permitted=(*first.permitted, *added),
        ambient=first.ambient,
    )


def _start(
    container: state.Container, asked: oci.Process, program: bytes, flags: int, preserved: int
) -> launch.Started:
    """Raises RuntimeFailure with what went wrong on the way."""
    namespaces = sum(flag for kind, flag in plan.NAMESPACES.items() if kind != "user")
    begin: list[do.Operation] = []
    if container.kept.user_namespace:
        namespaces |= plan.NAMESPACES["user"]
        begin.append(do.BecomeRoot())
    if asked.terminal:
        size = asked.console_size or {}
        begin.append(do.OpenConsole(size.get("height", 0), size.get("width", 0), False))
    operations = [*begin, *plan.process_steps(asked, "", (), program, flags, "")]
    user = steps.UseIds(asked.user.uid, asked.user.gid, list(asked.user.additional_gids))
    init = container.open_init()
    helper, wire = launch.start_exec(
        {"namespaces": namespaces},
        steps.of_process(operations, user),
        container.layout,
        container.kept.cgroup,
        init,
        launch.NO_STREAMS,
        INHERITED_NOFILE,
        preserved,
    )
    try:
        return _await(wire)
    finally:
        wire.close()
        os.waitpid(helper, 0)
        os.close(init)


def _await(wire: socket.socket) -> launch.Started:
    """Reads until the program runs. Raises RuntimeFailure."""
    pid, handle, console, failure = 0, -1, -1, None
    while True:
        data, descriptors, _, _ = socket.recv_fds(wire, 1 << 16, 1)
        if data.startswith(b"pid "):
            pid, handle = int(data[4:]), descriptors[0]
        elif data == b"console":
            console = descriptors[0]
        elif data.startswith(b"failed"):
            failure = launch.parse_failure(data)
        elif not data:
            break
    if failure is None and pid:
        return launch.Started(pid, handle, 0, console)
    if handle >= 0:
        os.waitid(os.P_PIDFD, handle, os.WEXITED)
    raise RuntimeFailure(words(failure or {"problem": "the helper died"}))
