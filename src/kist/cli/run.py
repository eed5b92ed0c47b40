"""`run`, `create`, `start`, `attach`, `exec`: what has streams."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kist.cli.context import Context, RunFailed
from kist.cli.mounts import mount
from kist.cli.options import body
from kist.cli.parse import Parsed
from kist.cli.stream import Detached, RawTerminal, Session, check_terminal, follow_size, parse_keys, terminal_size
from kist.client.http import Answer, ApiError, Client, Unreachable
from kist.model.errors import KistError

_RESTART_SECONDS = 10.0  # a daemon needs one or two
_UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}
# Signals that say nothing to a container: our own children, the terminal's, and what the system keeps to itself.
_NOT_PASSED_ON = {signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGPIPE, signal.SIGKILL, signal.SIGSTOP,
                  signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP, signal.SIGCONT}  # fmt: skip


def create(context: Context, options: Parsed) -> int:
    print(create_or_pull(context, options, "create"))
    return 0


def create_container(context: Context, options: Parsed) -> str:
    """The id of a new container; warnings go to standard error. Raises ApiError, UsageError."""
    image, *command = options.arguments
    is_run = "detach" in options._values
    try:
        config = body(options, image, command)
    except KistError as error:
        raise RunFailed(error.message, 125, "run" if is_run else "create") from error
    said = {one.partition("=")[0] for one in options.env}
    config["Env"] += [f"{key}={value}" for key, value in context.proxies().items() if key not in said]
    if is_run:  # a terminal begins with the size of ours
        config["HostConfig"]["ConsoleSize"] = list(terminal_size())
    if any((mount.get("BindOptions") or {}).get("Kist") for mount in config["HostConfig"].get("Mounts") or ()):
        _check_maps_ids(context, "run" if is_run else "create")
    query = {"name": options.name or None, "platform": options.platform or None}
    _check_version(context.client, config["NetworkingConfig"]["EndpointsConfig"])
    with _id_file(options.cidfile) as keep:
        made = context.client.call("POST", "/containers/create", query, config)
        keep(made["Id"])
    for warning in made["Warnings"] or ():
        print(f"WARNING: {warning}", file=sys.stderr)
    return str(made["Id"])


def _check_maps_ids(context: Context, command: str) -> None:
    """dockerd would read over it, and files would be root's. Raises RunFailed."""
    about = context.client.call("GET", "/version")
    if not str((about.get("Platform") or {}).get("Name", "")).startswith("kist "):
        raise RunFailed("idmap: this daemon is not kistd and cannot map the ids of a mount", 125, command)


def _check_version(client: Client, endpoints: dict[str, dict[str, Any]]) -> None:
    """Raises KistError where a daemon would overlook what it is asked of networks, with the text of Docker's client."""
    if not any(one.get("MacAddress") for one in endpoints.values()):
        return
    client.call("GET", "/version")  # an older daemon says then what it speaks
    if tuple(map(int, client.version.split("."))) < (1, 44):
        raise KistError(
            '"specify mac-address per network" requires API version 1.44, but the Docker daemon API version is '
            f"{client.version}"
        )


@contextmanager
def _id_file(path: str) -> Iterator[Callable[[str], int]]:
    """Takes the file of --cidfile before there is a container; gives what writes the id. Without one it is removed."""
    if not path:
        yield lambda _: 0
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise KistError(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        ) from None
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise KistError(f"failed to create the container ID file: open {path}: {reason}") from error
    with open(descriptor, "w", encoding="ascii") as file:
        try:
            yield file.write
        finally:
            if not file.tell():
                os.unlink(path)


def run(context: Context, options: Parsed) -> int:
    """Docker's exit codes: 125 when the engine refuses, 126 and 127 for the command, or the container's own."""
    if options.detach and options.attach:
        raise RunFailed("Conflicting options: -a and -d", 125, "run")
    if not options.detach:
        check_terminal(options.tty, options.interactive)
    try:
        container = create_or_pull(context, options, "run")
    except ApiError as error:
        told = error.message
        if not told.startswith("invalid reference format"):
            told = f"Error response from daemon: {told}"
        raise RunFailed(told, _start_status(told), "run") from error
    except RunFailed:  # of the command line itself
        raise
    except (KistError, OSError) as error:
        raise RunFailed(str(error), _start_status(str(error)), "run") from error
    if options.detach:
        try:
            context.client.call("POST", f"/containers/{container}/start")
        except ApiError as error:
            raise RunFailed(
                f"Error response from daemon: {error.message}", _start_status(error.message), "run"
            ) from error
        except (KistError, OSError) as error:
            raise RunFailed(str(error), 125, "run") from error
        print(container)
        return 0
    streams = {name.lower() for name in options.attach} or {"stdout", "stderr"} | (
        {"stdin"} if options.interactive else set()
    )
    return _attached(context, container, streams, options, options.rm, wraps_errors=True)


def create_or_pull(context: Context, options: Parsed, command: str) -> str:
    """Creates; an image that is missing is asked for first. Raises ApiError, RunFailed in the command's name."""
    if options.pull not in ("", "always", "missing", "never"):
        raise RunFailed(
            f'invalid pull option: \'{options.pull}\': must be one of "always", "missing" or "never"', 125, command
        )
    if options.pull == "always":
        _ask_for_image(context, options.arguments[0])
    mounted = [one["Source"] for one in map(mount, options.mount) if one["Type"] == "image" and one.get("Source")]
    for _ in range(1 + len(mounted)):
        try:
            return create_container(context, options)
        except ApiError as error:
            if error.status != 404 or not error.message.startswith("No such image") or options.pull == "never":
                raise
            image = _missing(error.message, mounted) or options.arguments[0]
        name, tag = _name_and_tag(image)
        print(f"Unable to find image '{name}:{tag}' locally", file=sys.stderr)
        _ask_for_image(context, image)
    return create_container(context, options)


def _missing(told: str, mounted: list[str]) -> str:
    """Which of the images that are to be mounted is not there; docker would ask for the container's again."""
    named = told.removeprefix("No such image: ")
    return next((image for image in mounted if ":".join(_name_and_tag(image)) == named), "")


def _ask_for_image(context: Context, image: str) -> None:
    from kist.client import credentials

    name, tag = _name_and_tag(image)
    who = credentials.for_image(context.choice.config, image)
    headers = {"X-Registry-Auth": who.header()}
    context.client.open("POST", "/images/create", {"fromImage": name, "tag": tag}, headers=headers).read()


def _name_and_tag(image: str) -> tuple[str, str]:
    name, _, tag = image.rpartition(":") if ":" in image.rpartition("/")[2] else (image, "", "latest")
    return name, tag


def _start_status(text: str) -> int:
    """Docker's command looks for these words in whatever went wrong."""
    text = text.lower()
    if any(word in text for word in ("executable file not found", "no such file or directory")):
        return 127
    if any(word in text for word in ("permission denied", "is a directory", "exec format error")):
        return 126
    return 125


def _attached(
    context: Context,
    container: str,
    streams: set[str],
    options: Parsed,
    removed: bool,
    *,
    wraps_errors: bool,
    restored: dict[str, str | None] | None = None,
) -> int:
    """Attaches, waits, starts, and pumps until the end. `wraps_errors`: told as `run` tells them, with its status.
    `restored` names the checkpoint that is started from.
    """
    client = context.client
    detach = context.detach_keys(options.detach_keys)
    query = {"stream": True, "detachKeys": detach or None, **dict.fromkeys(sorted(streams), True)}
    try:
        attached = client.open("POST", f"/containers/{container}/attach", query, headers=_UPGRADE)
    except ApiError as error:
        raise KistError(f"unable to upgrade to tcp, received {error.status}") from error
    keys = parse_keys(detach)
    condition = "removed" if removed else "next-exit"
    waiting = context.another().open("POST", f"/containers/{container}/wait", {"condition": condition})
    stop_signals = _pass_signals_on(context, container) if options.sig_proxy else None
    try:
        try:
            client.call("POST", f"/containers/{container}/start", restored)
        except ApiError as error:
            if not wraps_errors:
                raise
            raise RunFailed(
                f"Error response from daemon: {error.message}", _start_status(error.message), "run"
            ) from error
        return _pump(context, container, attached, waiting, "stdin" in streams, options.tty, keys)
    except Detached:
        return 0
    finally:
        if stop_signals is not None:
            stop_signals()


def _pump(
    context: Context, container: str, attached: Answer, waiting: Answer, stdin: bool, tty: bool, keys: bytes
) -> int:
    connection, early = attached.upgrade()
    session = Session(connection, early, stdin=stdin, multiplexed=not tty, keys=keys, raw=tty)
    stop = None
    if tty:
        resizing = context.another()
        stop = follow_size(lambda h, w: resizing.call("POST", f"/containers/{container}/resize", {"h": h, "w": w}))
    try:
        with RawTerminal(tty and stdin):
            session.pump()
    finally:
        if stop is not None:
            stop()
        connection.close()
    return exit_code(waiting)


def exit_code(waiting: Answer) -> int:
    import json

    found = json.loads(waiting.read() or b'{"StatusCode":125}')
    if found.get("Error") and found["Error"].get("Message"):
        raise KistError(str(found["Error"]["Message"]))
    return int(found["StatusCode"])


def _pass_signals_on(context: Context, container: str) -> Any:
    """Signals sent to this process go to the container's first process instead."""
    before = {}
    killing = context.another()
    waiting: list[int] = []

    def pass_on(number: int, _: object) -> None:
        waiting.append(number)
        if len(waiting) > 1:  # this one interrupted the loop below, which sends it too
            return
        while waiting:
            try:
                killing.call("POST", f"/containers/{container}/kill", {"signal": str(waiting[0])})
            except KistError:
                pass
            waiting.pop(0)

    for number in signal.valid_signals() - _NOT_PASSED_ON:
        try:
            before[number] = signal.signal(number, pass_on)
        except (OSError, ValueError):
            continue

    def stop() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return stop


def start(context: Context, options: Parsed) -> int:
    client = context.client
    restored = {"checkpoint": options.checkpoint or None, "checkpoint-dir": options.checkpoint_dir or None}
    if options.checkpoint and not (options.attach or options.interactive):
        if len(options.arguments) > 1:
            raise KistError("you cannot restore multiple containers at once")
        client.call("POST", f"/containers/{options.arguments[0]}/start", restored)
        return 0
    if not (options.attach or options.interactive):
        return context.for_each(
            options.arguments,
            lambda name: client.call("POST", f"/containers/{name}/start"),
            after="failed to start containers: ",
        )
    if len(options.arguments) > 1:
        raise KistError("you cannot start and attach multiple containers at once")
    name = options.arguments[0]
    found = client.call("GET", f"/containers/{name}/json")
    streams = {"stdout", "stderr"} | ({"stdin"} if options.interactive and found["Config"]["OpenStdin"] else set())
    view = _View(found["Config"]["Tty"], options)
    removed = found["HostConfig"]["AutoRemove"]
    return _attached(
        context,
        found["Id"],
        streams,
        view,  # type: ignore[arg-type]  # the same names
        removed,
        wraps_errors=False,
        restored=restored,
    )


class _View:
    """What attaching needs of options, where they are not run's."""

    def __init__(self, tty: bool, options: Parsed) -> None:
        self.tty, self.detach_keys, self.sig_proxy = tty, options.detach_keys, options.sig_proxy and not tty


def attach(context: Context, options: Parsed) -> int:
    client = context.client
    name = options.arguments[0]
    found = client.call("GET", f"/containers/{name}/json")
    if not found["State"]["Running"]:
        raise KistError("You cannot attach to a stopped container, start it first")
    if found["State"]["Paused"]:
        raise KistError("You cannot attach to a paused container, unpause it first")
    tty, stdin = found["Config"]["Tty"], found["Config"]["OpenStdin"] and not options.no_stdin
    check_terminal(tty, stdin)
    detach = context.detach_keys(options.detach_keys)
    query = {"stream": True, "stdout": True, "stderr": True, "stdin": stdin, "detachKeys": detach or None}
    attached = client.open("POST", f"/containers/{found['Id']}/attach", query, headers=_UPGRADE)
    waiting = context.another().open("POST", f"/containers/{found['Id']}/wait")
    stop = _pass_signals_on(context, found["Id"]) if options.sig_proxy and not tty else None
    try:
        return _pump(context, found["Id"], attached, waiting, stdin, tty, parse_keys(detach))
    finally:
        if stop is not None:
            stop()


def exec_(context: Context, options: Parsed) -> int:
    """The exit code of the process; 126 and 127 when it could not be run."""
    from kist.cli.options import environment

    client = context.client
    name, *command = options.arguments
    if not options.detach:
        check_terminal(options.tty, options.interactive)
    size = terminal_size()
    detach = context.detach_keys(options.detach_keys)
    config = {
        "User": options.user,
        "Privileged": options.privileged,
        "Tty": options.tty,
        "AttachStdin": options.interactive and not options.detach,
        "AttachStdout": not options.detach,
        "AttachStderr": not options.detach,
        "DetachKeys": detach,
        "Env": environment(options.env_file, options.env) or None,
        "WorkingDir": options.workdir,
        "Cmd": command,
    }
    if options.tty and all(size):
        config["ConsoleSize"] = list(size)
    exec_id = client.call("POST", f"/containers/{name}/exec", None, config)["Id"]
    start_body: dict[str, Any] = {"Detach": options.detach, "Tty": options.tty}
    if options.tty and all(size):
        start_body["ConsoleSize"] = list(size)
    if options.detach:
        client.call("POST", f"/exec/{exec_id}/start", None, start_body)
        return 0
    answer = context.another().open("POST", f"/exec/{exec_id}/start", None, start_body, headers=_UPGRADE)
    connection, early = answer.upgrade()
    session = Session(connection, early, stdin=options.interactive, multiplexed=not options.tty,
                      keys=parse_keys(detach), raw=options.tty)  # fmt: skip
    stop = None
    if options.tty:
        resizing = context.another()
        stop = follow_size(lambda h, w: resizing.call("POST", f"/exec/{exec_id}/resize", {"h": h, "w": w}))
    try:
        with RawTerminal(options.tty and options.interactive):
            session.pump()
    finally:
        if stop is not None:
            stop()
        connection.close()
    return _exec_code(client, exec_id)


def _exec_code(client: Client, exec_id: str) -> int:
    """Asks until there is a daemon: process and session may have outlived one that is just starting again."""
    deadline = time.monotonic() + _RESTART_SECONDS
    while True:
        try:
            return int(client.call("GET", f"/exec/{exec_id}/json")["ExitCode"] or 0)
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
