"""Checkpoints: a container's processes in files, from which a start makes them anew.

A directory for each, below the container's own or where the client wants it, holds criu's images and kist.json. The
container's monitor makes it (`monitor/dump.py`), and the monitor of the next start has it restored
(`monitor/restore.py`); kistd looks whether that can work, says which mounts come from outside, lists and removes.
"""

from __future__ import annotations

import asyncio
import os
import shutil

import msgspec

from kist.container.engine import Engine
from kist.container.launching import mounted
from kist.container.machine import Machine
from kist.container.mountpoints import mount_points
from kist.container.names import check_name
from kist.model.errors import Conflict, InvalidParameter, KistError
from kist.runtime import criu

_PROGRAMS = "/usr/local/sbin:/usr/sbin:/sbin"  # where criu is, beside what PATH says
_END_SECONDS = 10.0


class Wanted(msgspec.Struct, frozen=True):
    """`container` as the client called it; `directory` of its own, or "" for the container's."""

    container: str
    name: str
    directory: str = ""
    leave_running: bool = False


def _place(engine: Engine, machine: Machine, wanted: Wanted) -> str:
    """The directory with all checkpoints. Raises InvalidParameter."""
    if not wanted.directory:
        return f"{engine.directory(machine.id)}/checkpoints"
    if not wanted.directory.startswith("/"):
        raise InvalidParameter(f"the checkpoint directory {wanted.directory} must be an absolute path")
    return os.path.normpath(wanted.directory)


def _find(engine: Engine, machine: Machine, wanted: Wanted) -> str:
    """A checkpoint's directory. Raises KistError with Docker's texts."""
    found = f"{_place(engine, machine, wanted)}/{wanted.name}"
    if not _is_name(wanted.name) or not os.path.exists(found):
        raise KistError(f"checkpoint {wanted.name} does not exist for container {wanted.container}")
    if not os.path.isdir(found):
        raise KistError(f"{found} exists and is not a directory")
    return found


def _is_name(name: str) -> bool:
    try:
        return check_name(name) == name
    except InvalidParameter:
        return False


def names(engine: Engine, machine: Machine, wanted: Wanted) -> list[str]:
    """Raises KistError with Docker's text when there is no such directory."""
    place = _place(engine, machine, wanted)
    try:
        with os.scandir(place) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and _is_name(entry.name))
    except FileNotFoundError:
        if not wanted.directory:
            return []
        raise KistError(f"checkpoint  does not exist for container {wanted.container}") from None


async def remove(engine: Engine, machine: Machine, wanted: Wanted) -> None:
    async with machine.lock:  # not while a start reads it
        await asyncio.to_thread(shutil.rmtree, _find(engine, machine, wanted))


# --- what criu cannot do ---


def _program() -> str:
    """Raises KistError that says what to do."""
    found = shutil.which("criu", path=f"{os.environ.get('PATH', os.defpath)}:{_PROGRAMS}")
    if found is None:
        raise KistError(
            "criu is not installed on this machine: install it (the package criu, version 3.17 or newer; "
            "https://criu.org)"
        )
    return os.path.realpath(found)


def _check_possible(engine: Engine, machine: Machine) -> None:
    """Raises KistError for containers whose processes could not be restored."""
    asked = machine.record.host_config
    if machine.record.config.tty:
        raise KistError("checkpoint not support on containers with tty")
    images = [point.destination for point in machine.record.mounts if point.image]
    mapped = [point.destination for point in machine.record.mounts if point.id_map is not None]
    shared = [point.destination for point in machine.record.mounts if point.propagation in ("shared", "rshared")]
    reasons = {
        f"what is mounted at {', '.join(shared)} shows in the host": bool(shared),
        f"ids are mapped at {', '.join(mapped)}": bool(mapped),
        f"an image is mounted at {', '.join(images)}": bool(images),
        f"the runtime {asked.runtime} is not this engine's own": engine.is_foreign(machine),
        "this host has cgroup v1 hierarchies, and only the v2 tree alone is supported": not engine.layout.is_v2,
        f"its PID namespace is not its own (--pid {asked.pid_mode})": bool(asked.pid_mode),
        f"its IPC namespace is another container's (--ipc {asked.ipc_mode})": asked.ipc_mode.startswith("container:"),
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise KistError(f"checkpoints of it are not supported: {reason}")


# --- create ---


async def create(engine: Engine, machine: Machine, wanted: Wanted) -> None:
    """Returns when the files are on the disk, and, unless it is left running, the container has ended.

    Raises Conflict when it does not run, KistError; nothing is left then.
    """
    async with machine.lock:
        if not machine.state.alive:
            raise Conflict(f"container {machine.id} is not running")
        machine.check_controllable()
        if machine.state.paused:
            raise Conflict(f"container {machine.id} is paused, unpause the container before a checkpoint")
        if not _is_name(wanted.name):
            allowed = "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            raise InvalidParameter(f"Invalid checkpoint ID ({wanted.name}), {allowed}")
        directory = _free_place(engine, machine, wanted)
        try:
            await _create(engine, machine, wanted, directory)
        except KistError as error:
            raise type(error)(f"Cannot checkpoint container {wanted.container}: {error.message}") from error
    engine.emit(machine, "checkpoint")


def _free_place(engine: Engine, machine: Machine, wanted: Wanted) -> str:
    """Where the checkpoint is to be. Raises KistError with Docker's texts."""
    directory = f"{_place(engine, machine, wanted)}/{wanted.name}"
    problem = ""
    if os.path.isdir(directory):
        problem = f"checkpoint with name {wanted.name} already exists for container {wanted.container}"
    elif os.path.lexists(directory):
        problem = f"{directory} exists and is not a directory"
    if problem:
        raise KistError(f"cannot checkpoint container {wanted.container}: {problem}")
    return directory


async def _create(engine: Engine, machine: Machine, wanted: Wanted, directory: str) -> None:
    program, pid = _program(), machine.state.pid
    _check_possible(engine, machine)
    if machine.record.host_config.auto_remove and not wanted.leave_running:
        raise KistError("it is removed when it ends, and its checkpoint with it (--rm): use --leave-running")
    outside = criu.mounts_from_outside(mounted(engine, machine), engine.layout)
    places = await asyncio.to_thread(mount_points, pid, outside)
    os.makedirs(os.path.dirname(directory), 0o700, exist_ok=True)
    endpoints = machine.record.endpoints
    mounts = {one.name: one.target for one in outside}
    facts = criu.Facts(criu.VERSION, machine.id, endpoints[0].address if endpoints else "", mounts)
    message = {
        "command": "checkpoint",
        "criu": program,
        "arguments": criu.dump_arguments(pid, _network(pid), places, leave_running=wanted.leave_running),
        "directory": directory,
        "log": _log(engine, machine, "dump"),
        "facts": msgspec.to_builtins(facts),
    }
    await _dump(engine, machine, message, wanted)


def _log(engine: Engine, machine: Machine, kind: str) -> str:
    """Of the last one: what criu says is long, and interesting when it fails."""
    return f"{engine.directory(machine.id)}/criu-{kind}.log"


def _network(pid: int) -> int:
    """The inode of a process's network namespace; 0 when that is the host's."""
    found, own = os.stat(f"/proc/{pid}/ns/net"), os.stat("/proc/self/ns/net")
    return 0 if found.st_ino == own.st_ino else found.st_ino


async def _dump(engine: Engine, machine: Machine, message: dict[str, object], wanted: Wanted) -> None:
    """Its end by criu is wanted, like a stop: a restart policy must not answer it."""
    if machine.handle is None:
        raise KistError("its monitor is gone")
    stopped = machine.record.manually_stopped
    if not wanted.leave_running:
        engine.index.observe(machine, msgspec.structs.replace(machine.record, manually_stopped=True))
    machine.dumped = asyncio.get_running_loop().create_future()
    try:
        machine.handle.send(message)
        if failure := await machine.dumped:
            raise KistError(failure)
    except KistError:
        if machine.state.alive:
            engine.index.observe(machine, msgspec.structs.replace(machine.record, manually_stopped=stopped))
        raise
    finally:
        machine.dumped = None
    if not wanted.leave_running:
        try:
            await asyncio.wait_for(machine.ended.wait(), _END_SECONDS)
        except TimeoutError:
            raise KistError(f"the container did not end within {_END_SECONDS:.0f} s of its checkpoint") from None


# --- start ---


def load(engine: Engine, machine: Machine, wanted: Wanted) -> criu.Restore:
    """What a start from a checkpoint takes. Raises KistError."""
    directory = _find(engine, machine, wanted)
    program = _program()
    _check_possible(engine, machine)
    try:
        with open(f"{directory}/{criu.FACTS}", "rb") as file:
            facts = msgspec.json.decode(file.read(), type=criu.Facts)
    except (OSError, msgspec.DecodeError) as error:
        raise KistError(f"{directory} is not a checkpoint of this engine: {error}") from error
    if facts.version != criu.VERSION:
        raise KistError(f"checkpoint {wanted.name} is of another version of kist: make it again")
    if facts.container != machine.id:
        raise KistError(f"checkpoint {wanted.name} is one of container {facts.container}")
    mounts = {one.name: one.target for one in criu.mounts_from_outside(mounted(engine, machine), engine.layout)}
    if facts.mounts != mounts:
        raise KistError(f"checkpoint {wanted.name} has other mounts than container {wanted.container}")
    return criu.Restore(program, directory, _log(engine, machine, "restore"), facts)
