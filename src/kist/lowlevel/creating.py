"""`create` and `run`: from a bundle to an init that waits, and with `run` to the program's end."""

from __future__ import annotations

import os
import socket
import time

import msgspec

from kist.lowlevel import bundle, hooks, process, removing, starting, state, steps, terminal
from kist.lowlevel.bundle import Bundle
from kist.lowlevel.errors import Log, RuntimeFailure, words
from kist.model.mount import Mount
from kist.monitor import launch, operations
from kist.monitor.operations import Context
from kist.runtime import oci, plan
from kist.runtime.launch import LaunchRequest, LogSetup

_OUTSIDE = ("prestart", "createRuntime")


def command(root: str, name: str, options: dict[str, object], log: Log, *, run: bool) -> int:
    """The exit status: 0, or that of the program when `run` stays in the foreground. Raises RuntimeFailure."""
    state.check_id(name)
    found = bundle.read(str(options["bundle"]))
    foreground = run and not options["detach"]
    console = str(options["console-socket"])
    process.check_console(found.spec.process.terminal, console, foreground=foreground)
    preserved = process.preserved(int(str(options["preserve-fds"])))
    container = state.make(root, _kept(name, found))
    if foreground:
        terminal.hold_signals()
    with state.locked(root, name):
        try:
            request = _request(name, container, found, bool(options["no-new-keyring"]), preserved)
            started = _create(container, found, request, preserved)
        except BaseException:
            _undo(container)
            raise
        try:
            if console:
                process.send_console(console, started.console)
            if options["pid-file"]:
                process.write_pid(str(options["pid-file"]), started.pid)
            if run:
                starting.let_go(container, log)
        except BaseException:
            _undo(container)
            raise
    if not foreground:
        return 0
    try:
        return terminal.attend(started.pidfd, started.console)
    finally:
        if not options["keep"]:
            with state.locked(root, name):
                removing.remove(container, log)


def _kept(name: str, found: Bundle) -> state.Kept:
    spec = found.spec
    path = spec.linux.cgroups_path.strip("/")
    if ":" in path:
        raise RuntimeFailure(f"linux.cgroupsPath {path}: it is one of systemd, which kist-runtime does not ask")
    if not spec.linux.cgroups_path.startswith("/"):
        path = f"{removing.PARENT}/{path or name}"
    if not path or ".." in path.split("/"):
        raise RuntimeFailure(f"linux.cgroupsPath {spec.linux.cgroups_path} is not a group of the container's own")
    return state.Kept(
        id=name,
        bundle=found.path,
        rootfs=spec.root.path,
        created=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() % 10**9:09d}Z",
        oci_version=spec.oci_version,
        cgroup=path,
        annotations=spec.annotations,
        user_namespace=any(one.type == "user" for one in spec.linux.namespaces),
        hooks=msgspec.to_builtins(spec.hooks),
    )


def _request(name: str, container: state.Container, found: Bundle, keep_keyring: bool, preserved: int) -> LaunchRequest:
    spec = process.with_listeners(found.spec, preserved)
    network = next((one for one in spec.linux.namespaces if one.type == "network"), None)
    return LaunchRequest(
        container_id=name,
        spec=spec,
        user="",
        extra_groups=(),
        rootfs=(Mount("bind", spec.root.path, ("rbind",)),),
        links=(),
        log=LogSetup(),
        run_dir=container.directory,
        root_dir=spec.root.path,
        cgroup=container.kept.cgroup,
        seccomp_program=found.program,
        seccomp_flags=found.flags,
        loopback=network is not None and not network.path,
        keyring="" if keep_keyring else f"_ses.{name}",
    )


def _create(container: state.Container, found: Bundle, request: LaunchRequest, preserved: int) -> launch.Started:
    """Raises RuntimeFailure with runc's words."""
    if not os.path.isdir(found.spec.root.path):
        raise RuntimeFailure(f"invalid rootfs: stat {found.spec.root.path}: no such file or directory")
    context = Context(container.layout, container.kept.cgroup)
    context.preserved = preserved
    listener = _listen(container.directory)
    context.listener = listener.fileno()
    stations = _stations(container, found.spec, found.copied)
    operations_of_init = steps.arrange(plan.init_operations(request, container.layout), stations)
    before = operations.encode(plan.monitor_operations(request, container.layout))

    def station(data: bytes, pid: int, sync: socket.socket) -> bool:
        if data == steps.READY:
            return True
        if data == steps.HOOKS:
            container.save(process.with_pid(container.kept, pid))
            _run_outside(container)
            sync.send(state.GO)
        return False

    try:
        started = launch.start(
            plan.start_config(request), before, operations_of_init, context, launch.NO_STREAMS, station
        )
    except launch.Failed as failure:
        if failure.init >= 0:
            os.waitid(os.P_PIDFD, failure.init, os.WEXITED)
        raise RuntimeFailure(f"kist-runtime create failed: {words(failure.report)}") from failure
    finally:
        listener.close()
    container.save(container.kept._replace(pid=started.pid, pid_start=started.start_time))
    return started


def _stations(container: state.Container, spec: oci.Spec, copied: frozenset[str]) -> steps.Stations:
    user = spec.process.user
    return steps.Stations(
        user=steps.UseIds(user.uid, user.gid, list(user.additional_gids)),
        asks_for_hooks=any(container.kept.hooks.get(kind) for kind in _OUTSIDE),
        in_container=hooks.calls("createContainer", container.kept.hooks),
        before_program=hooks.calls("startContainer", container.kept.hooks),
        state=container.hook_state("creating", 0),
        bundle=container.kept.bundle,
        copied=copied,
    )


def _run_outside(container: state.Container) -> None:
    """Raises launch.Failed, which ends the start."""
    for call in [call for kind in _OUTSIDE for call in hooks.calls(kind, container.kept.hooks)]:
        try:
            hooks.run(call, container.hook_state("creating"), container.kept.bundle)
        except hooks.HookFailed as error:
            raise launch.Failed({"operation": call.kind, "errno": 0, "message": "", "problem": str(error)}) from error


def _listen(directory: str) -> socket.socket:
    """Where init waits for `start`. Bound through a descriptor: a path may be longer than sun_path."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{handle}/{state.START_SOCKET}")
    finally:
        os.close(handle)
    listener.listen(1)
    return listener


def _undo(container: state.Container) -> None:
    """A create that failed leaves nothing."""
    removing.clear_group(container)
    container.remove()
