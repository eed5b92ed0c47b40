"""Runs health checks: a task for each container that has one, while it runs and is not paused.

A probe is an exec like any other, so its monitor runs it; what it prints comes to kistd over a socket pair.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable

import msgspec

from kist.container import health
from kist.container.engine import Engine
from kist.container.execs import Execs
from kist.container.machine import ExecState, Machine
from kist.model.config import ExecConfig, Health
from kist.model.container import HealthState, ProbeResult
from kist.model.errors import KistError
from kist.model.timestamp import nanoseconds, rfc3339
from kist.runtime.supervisor import AttachClient

log = logging.getLogger(__name__)
_START_SECONDS = 30.0  # for an exec to come up; what a probe takes is counted from there
_KILL_SECONDS = 10.0
_REST_SECONDS = 2.0  # for the last output of a probe that has ended
_CHUNK = 1 << 16


class Probing:
    """`on_unhealthy` hears of every container that becomes unhealthy."""

    def __init__(self, engine: Engine, execs: Execs, on_unhealthy: Callable[[Machine], None]) -> None:
        self._engine, self._execs, self._on_unhealthy = engine, execs, on_unhealthy
        self._watched: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # those of `_watched`, and cancelled ones that are not over

    def follow(self, machine: Machine) -> None:
        """Begins or ends with the probes of a container whose status has changed."""
        if machine.state.health is None:
            return
        wanted = machine.state.status == "running" and not machine.foreign_version
        watching = self._watched.get(machine.id)
        if wanted and watching is None:
            task = asyncio.get_running_loop().create_task(self._watch(machine))
            self._watched[machine.id] = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif watching is not None and not wanted:
            del self._watched[machine.id]
            watching.cancel()

    async def close(self) -> None:
        """Ends all of it; the next kistd goes on."""
        self._watched.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, machine: Machine) -> None:
        check = machine.record.config.healthcheck
        assert check is not None
        try:
            while True:
                await asyncio.sleep(_until_next(machine, check))
                begin = rfc3339()
                code, output = await self._result(machine, check)
                self._take(machine, check, ProbeResult(begin, rfc3339(), code, output))
        except Exception:
            log.exception("the health of container %s is not watched any more", machine.name)

    async def _result(self, machine: Machine, check: Health) -> tuple[int, str]:
        """(exit code, output) of one probe; -1 and the reason when it could not run or took too long."""
        try:
            return await self._probe(machine, check)
        except KistError as error:
            return -1, error.message
        except OSError as error:  # no descriptor left, say: the next probe may work
            return -1, f"cannot probe: {error.strerror or error}"

    def _take(self, machine: Machine, check: Health, result: ProbeResult) -> None:
        before = machine.state.health
        if before is None or machine.state.status != "running":
            return
        after = health.judged(check, before, result, machine.state.started_at)
        state = msgspec.structs.replace(machine.state, health=after)
        record = msgspec.structs.replace(machine.record, state=state)
        if after.status == before.status:
            machine.record = record  # saved with the next change: no write for each probe
            return
        self._engine.index.observe(machine, record)
        self._engine.emit(machine, f"health_status: {after.status}")
        if after.status == health.UNHEALTHY:
            self._on_unhealthy(machine)

    # --- one probe ---

    async def _probe(self, machine: Machine, check: Health) -> tuple[int, str]:
        words = health.command(machine.record.config)
        if not words:
            raise KistError(f"healthcheck for container {machine.id} has no command")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with ours:
            output = _Output(ours)
            try:
                with theirs:
                    one = await self._start(machine, words, theirs.fileno())
                return await self._end(machine, one, check, output)
            finally:
                output.close()

    async def _start(self, machine: Machine, words: list[str], descriptor: int) -> ExecState:
        config = machine.record.config
        asked = ExecConfig(
            attach_stdout=True, attach_stderr=True, cmd=words, user=config.user, working_dir=config.working_dir
        )
        self._execs.forget_probe(machine)
        one = self._execs.create_probe(machine, asked)
        client = AttachClient(descriptor, multiplexed=False, stdin=False, stdout=True, stderr=True)
        try:
            await asyncio.wait_for(self._execs.start(machine, one, client, None), _START_SECONDS)
        except TimeoutError as error:
            self._execs.kill(machine, one)
            raise KistError(f"timed out starting health check for container {machine.id}") from error
        except asyncio.CancelledError:
            self._execs.kill(machine, one)
            raise
        return one

    async def _end(self, machine: Machine, one: ExecState, check: Health, output: _Output) -> tuple[int, str]:
        assert one.ended is not None
        limit = health.timeout(check)
        try:
            code = await asyncio.wait_for(asyncio.shield(one.ended), limit / 1e9)
        except TimeoutError:
            self._execs.kill(machine, one)
            await asyncio.wait([one.ended], timeout=_KILL_SECONDS)  # dying probes must not pile up
            told = f"Health check exceeded timeout ({health.duration(limit)})"
            return -1, f"{told}: {output.text()}" if output.text() else told
        except asyncio.CancelledError:
            self._execs.kill(machine, one)
            raise
        await asyncio.wait([output.ended], timeout=_REST_SECONDS)
        return code, output.text()


def _until_next(machine: Machine, check: Health) -> float:
    """Seconds."""
    state = machine.state.health or HealthState()
    since_start = time.time_ns() - nanoseconds(machine.state.started_at)
    return health.interval(check, state.status, since_start) / 1e9


class _Output:
    """What a probe prints. The first bytes are kept, the rest is read and dropped, so that it never waits for us."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._data = bytearray()
        self._truncated = False
        self._loop = asyncio.get_running_loop()
        self.ended = self._loop.create_future()
        self._loop.add_reader(connection.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = self._connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        room = health.OUTPUT_BYTES - len(self._data)
        self._truncated |= len(data) > room
        self._data += data[:room]

    def text(self) -> str:
        return self._data.decode("utf-8", "replace") + ("..." if self._truncated else "")

    def close(self) -> None:
        self._loop.remove_reader(self._connection.fileno())
        if not self.ended.done():
            self.ended.set_result(None)
