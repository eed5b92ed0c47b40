"""The verbs by name or id, for whoever speaks to users: one call each, plain values in and out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from kist.container import checkpoints, clients, links, pausing, renaming
from kist.container import create as creating
from kist.container import top as processes
from kist.container import update as updating
from kist.container.attaching import attach_with_past
from kist.container.clients import detach_keys
from kist.container.create import Created, CreateRequest
from kist.container.engine import Engine
from kist.container.execs import Execs, write_failure
from kist.container.lifecycle import Lifecycle
from kist.container.logs import read_logs
from kist.container.machine import ExecState, Machine
from kist.container.stats import Sampling
from kist.logs.reader import LogOptions
from kist.model.config import ExecConfig, HostConfig
from kist.model.container import ContainerRecord
from kist.model.errors import Conflict, InvalidParameter, KistError
from kist.model.request import AttachRequest
from kist.model.usage import Usage
from kist.runtime.supervisor import AttachClient, WaitClient
from kist.snapshot.base import tree_usage


class ContainerService:
    def __init__(self, engine: Engine, lifecycle: Lifecycle, execs: Execs) -> None:
        self._engine, self._lifecycle, self._execs = engine, lifecycle, execs
        self._sampling = Sampling(engine)

    def _find(self, name: str) -> Machine:
        return self._engine.index.find(name)

    def get(self, name: str) -> ContainerRecord:
        return self._find(name).record

    def all(self) -> list[ContainerRecord]:
        return [machine.record for machine in self._engine.index.all()]

    def link_names(self) -> dict[str, list[str]]:
        """All names of containers that others are linked to, by id."""
        return self._engine.index.link_names()

    def links(self, name: str) -> list[str] | None:
        """HostConfig.Links as inspect shows them."""
        return links.shown(self._engine.index, self._find(name).record)

    def unlink(self, name: str) -> None:
        self._find(name)
        renaming.unlink(self._engine, name)

    def exec_ids(self, name: str) -> list[str]:
        """Of execs that have not ended; a container that has ended has none."""
        machine = self._find(name)
        return [one.id for one in machine.execs.values() if one.exit_code is None] if machine.state.running else []

    def log_path(self, name: str) -> str:
        return self._engine.log_path(self._find(name))

    def directory(self, name: str) -> str:
        return self._engine.directory(self._find(name).id)

    def snapshot_directory(self, name: str) -> str:
        record = self._find(name).record
        return self._engine.snapshotter.directory(record.snapshot)

    async def sizes(self, name: str) -> tuple[int, int]:
        """(bytes of its own files, bytes with the image's)."""
        record = self._find(name).record
        own = await asyncio.to_thread(tree_usage, self._engine.snapshotter.directory(record.snapshot))
        image = 0
        if record.image_id:
            image = self._engine.images.get(record.image_id).size
        return own.size, own.size + image

    async def create(self, request: CreateRequest) -> Created:
        return await creating.create(self._engine, request)

    async def start(self, name: str) -> None:
        await self._lifecycle.start(self._find(name))

    async def start_from(self, name: str, checkpoint: str, directory: str) -> None:
        """A start that goes on where a checkpoint was made; `directory` "" for the container's own."""
        machine = self._find(name)
        wanted = checkpoints.Wanted(f"/{machine.name}", checkpoint, directory)
        restore = None if machine.state.running else checkpoints.load(self._engine, machine, wanted)
        await self._lifecycle.start(machine, restore=restore)

    async def checkpoint(self, name: str, checkpoint: str, directory: str, *, leave_running: bool) -> None:
        wanted = checkpoints.Wanted(name, checkpoint, directory, leave_running)
        await checkpoints.create(self._engine, self._find(name), wanted)

    def checkpoints(self, name: str, directory: str) -> list[str]:
        return checkpoints.names(self._engine, self._find(name), checkpoints.Wanted(name, "", directory))

    async def remove_checkpoint(self, name: str, checkpoint: str, directory: str) -> None:
        await checkpoints.remove(self._engine, self._find(name), checkpoints.Wanted(name, checkpoint, directory))

    async def stop(self, name: str, seconds: int | None, signal: str) -> None:
        await self._lifecycle.ending.stop(self._find(name), seconds, signal)

    async def restart(self, name: str, seconds: int | None, signal: str) -> None:
        await self._lifecycle.restart(self._find(name), seconds, signal)

    async def kill(self, name: str, signal: str) -> None:
        """SIGKILL is waited for, as dockerd does: clients look at the exit code next."""
        await self._lifecycle.ending.kill(self._find(name), signal)

    async def pause(self, name: str) -> None:
        await pausing.pause(self._engine, self._find(name))

    async def unpause(self, name: str) -> None:
        await pausing.unpause(self._engine, self._find(name))

    def rename(self, name: str, new_name: str) -> None:
        renaming.rename(self._engine, self._find(name), new_name)

    async def remove(self, name: str, *, force: bool, volumes: bool) -> None:
        await self._lifecycle.removal.remove(self._find(name), name, force=force, volumes=volumes)

    async def update(self, name: str, asked: HostConfig) -> tuple[str, ...]:
        return await updating.update(self._engine, self._find(name), asked)

    async def prune(self, names: list[str]) -> tuple[list[str], int]:
        """Removes those that still do not run; their ids and the bytes they held."""
        removed, freed = [], 0
        for name in names:
            try:
                size, _ = await self.sizes(name)
                await self.remove(name, force=False, volumes=False)
            except KistError:  # started or removed meanwhile
                continue
            removed.append(name)
            freed += size
        return removed, freed

    def resize(self, name: str, height: int, width: int) -> None:
        clients.resize(self._engine, self._find(name), height, width)

    def top(self, name: str, arguments: str) -> tuple[list[str], list[list[str]]]:
        machine = self._find(name)
        found = processes.top(self._engine, machine, arguments)
        self._engine.emit(machine, "top")
        return list(found.titles), [list(row) for row in found.processes]

    async def usage(self, name: str) -> Usage | None:
        """What it uses now; None when it does not run."""
        return await self._sampling.now(self._find(name))

    def usages(self, name: str) -> AsyncIterator[Usage | None]:
        """The same again and again, at once and then every second, until it is removed."""
        return self._sampling.follow(self._find(name))

    def logs(self, name: str, options: LogOptions, follow: bool) -> AsyncIterator[bytes]:
        return read_logs(self._engine, self._find(name), options, follow)

    def wait_now(self, name: str, condition: str) -> tuple[int, str] | None:
        """Exit code, and why it could not be started, when there is nothing to wait for."""
        state = self._find(name).state
        if condition != "not-running" or state.running:
            return None
        return state.exit_code, state.error if state.status == "created" else ""

    def wait(self, name: str, descriptor: int, removed: bool) -> None:
        """Takes over a connection whose head was sent; it is answered at the end, or at the removal."""
        clients.add_waiter(self._find(name), WaitClient(descriptor, removed))

    @staticmethod
    def check_keys(keys: str) -> None:
        """Raises InvalidParameter with Docker's text when these cannot be the keys to detach with."""
        try:
            detach_keys(keys)
        except InvalidParameter as error:
            raise InvalidParameter(f"Invalid detach keys ({keys}) provided") from error

    def check_attachable(self, name: str) -> bool:
        """Whether it has a terminal. Raises Conflict with Docker's text."""
        machine = self._find(name)
        machine.check_controllable()
        if machine.state.paused:
            raise Conflict(f"container {machine.id} is paused, unpause the container before attach")
        if machine.state.restarting:
            raise Conflict(f"container {name} is restarting, wait until the container is running")
        return machine.record.config.tty

    async def attach(self, name: str, descriptor: int, request: AttachRequest) -> None:
        """Takes a connection over; with what is past, this returns when that is sent."""
        machine = self._find(name)
        config = machine.record.config
        client = AttachClient(
            descriptor=descriptor,
            multiplexed=request.multiplexed and not config.tty,
            stdin=request.stdin and config.open_stdin,
            stdout=request.stdout,
            stderr=request.stderr,
            detach_keys=detach_keys(request.keys),
            leftover=request.leftover,
        )
        if request.past:
            await attach_with_past(self._engine, machine, client)
        else:
            clients.attach(self._engine, machine, client)

    # --- execs ---

    def exec_create(self, name: str, config: ExecConfig) -> str:
        if config.detach_keys:
            detach_keys(config.detach_keys)
        return self._execs.create(self._find(name), name, config)

    def exec_get(self, exec_id: str) -> ExecState:
        return self._execs.find(exec_id)[1]

    def exec_detach_keys(self, exec_id: str) -> bytes:
        """What a client types to leave it; nothing when it asked for nothing of its own."""
        keys = self.exec_get(exec_id).config.detach_keys
        return detach_keys(keys) if keys else b""

    def exec_check(self, exec_id: str) -> ExecState:
        """Raises Conflict when it cannot be started."""
        machine, state = self._execs.find(exec_id)
        self._execs.check_startable(machine, state)
        return state

    async def exec_start_detached(self, exec_id: str, console: tuple[int, int] | None) -> None:
        machine, state = self._execs.find(exec_id)
        await self._execs.start(machine, state, None, console)

    async def exec_start(
        self, exec_id: str, descriptor: int, leftover: bytes, console: tuple[int, int] | None, *, multiplexed: bool
    ) -> None:
        """Runs it on a connection that has its head; what goes wrong is told there. Keeps no descriptor."""
        machine, state = self._execs.find(exec_id)
        config = state.config
        client = AttachClient(
            descriptor=descriptor,
            multiplexed=multiplexed,
            stdin=config.attach_stdin,
            stdout=config.attach_stdout,
            stderr=config.attach_stderr,
            detach_keys=detach_keys(config.detach_keys),
            leftover=leftover,
        )
        try:
            await self._execs.start(machine, state, client, console)
        except KistError as error:
            write_failure(descriptor, error.message, multiplexed)

    def exec_resize(self, exec_id: str, height: int, width: int) -> None:
        machine, state = self._execs.find(exec_id)
        self._execs.resize(machine, state, height, width)
