"""From created to running to exited, and again: start, restart, and what monitors report."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress

import msgspec

from kist.container import health, restarting
from kist.container.ending import Ending
from kist.container.engine import Engine
from kist.container.errors import UNKNOWN, start_error
from kist.container.exitfile import read_exit
from kist.container.launching import prepare, tell_parents
from kist.container.machine import ExecState, Machine
from kist.container.packing import Packing
from kist.container.pausing import resume
from kist.container.release import answer_pending, answer_waiter, release_monitor, release_surroundings
from kist.container.removal import Removal
from kist.container.restarting import Restarts
from kist.container.volume_mounts import mount_volumes
from kist.kernel import cgroup
from kist.model.container import NEVER, ContainerRecord, State
from kist.model.errors import Conflict, KistError, NotModified
from kist.model.timestamp import nanoseconds, rfc3339
from kist.runtime import foreign, plan
from kist.runtime.criu import Restore
from kist.runtime.supervisor import VERSION, LaunchFailed, Message, MonitorHandle, WaitClient

log = logging.getLogger(__name__)
_GROUP_TRIES = 2000  # a millisecond each


class Lifecycle:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.packing = Packing(engine)
        self.ending = Ending(engine)
        self.removal = Removal(engine, self.ending, self.packing)
        self.restarts = Restarts(engine, self.start, self.start_again)
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            self._boot_id = file.read().strip()

    # --- start ---

    async def start(self, machine: Machine, restart_count: int = 0, restore: Restore | None = None) -> None:
        """Raises NotModified when it runs, Conflict, and InvalidParameter with exit code 126 or 127 in the record.
        `restore`: not its program, but processes as a checkpoint has them.
        """
        async with machine.lock:
            if machine.state.paused:
                raise Conflict("cannot start a paused container, try unpause instead")
            if machine.state.running:
                raise NotModified("container is already running")
            if machine.record.removing:
                raise Conflict("container is marked for removal and cannot be started")
            machine.delay = 0.0
            await self._start_new(
                machine, msgspec.structs.replace(machine.record, restart_count=restart_count), restore
            )

    async def start_again(self, machine: Machine) -> None:
        """After the pause that its restart policy demands. Raises KistError; then it is over."""
        async with machine.lock:
            if not machine.state.restarting:  # stopped, started or removed meanwhile
                return
            code = machine.state.exit_code
            try:
                await self._start_new(machine, machine.record)
            except KistError:
                state = msgspec.structs.replace(machine.state, exit_code=code)
                self._engine.index.observe(machine, msgspec.structs.replace(machine.record, state=state))
                raise

    async def _start_new(self, machine: Machine, record: ContainerRecord, restore: Restore | None = None) -> None:
        """Starts it with `record`, when all of its last life is gone."""
        for task in (machine.cleanup, machine.unmounting):
            if task is not None:
                await asyncio.wait([task])
        if machine.writers:  # two overlays may not write to one directory
            await asyncio.wait(machine.writers)
        if machine.record.has_been_started:
            await self._group_gone(machine)
        machine.record = record
        await self._start(machine, restore)

    async def _group_gone(self, machine: Machine) -> None:
        """Until whoever clears up behind the container's last life has done so: it removes the group by its name, and
        kills what is in the way.
        """
        name = self._engine.cgroup(machine)
        for _ in range(_GROUP_TRIES):
            if not cgroup.exists(self._engine.layout, name):
                return
            await asyncio.sleep(0.001)

    async def _start(self, machine: Machine, restore: Restore | None) -> None:
        engine = self._engine
        clients, waiters = machine.take_pending()
        try:
            try:
                await engine.shipping.prepare(machine)
                await mount_volumes(engine, machine)
                launch, endpoints, ports = prepare(engine, machine, restore.facts.address if restore else "")
            except OSError as error:
                raise KistError(f"cannot prepare the container: {error}") from error
            machine.started = asyncio.get_running_loop().create_future()
            # In memory first: a disk that refuses makes a failed start, which gives back what the record names.
            networks = engine.networks.identified(machine.record.networks, machine.record.host_config.network_mode)
            machine.record = msgspec.structs.replace(
                machine.record, endpoints=endpoints, ports=ports, networks=networks, left_all=False
            )
            engine.index.save(machine, machine.record)
            engine.naming.add(endpoints)
            if launch.foreign is not None:
                start = foreign.launch(launch, engine.layout)
            elif restore is not None:
                start = restore.plan(launch, engine.layout)
            else:
                start = plan.launch(launch, engine.layout)
            machine.handle = await engine.supervisor.launch(
                start,
                clients,
                waiters,
                lambda event, descriptors: self.heard(machine, event, descriptors),
                lambda handle: self.lost(machine, handle),
            )
        except BaseException as error:
            self._answer_failed(machine, waiters, UNKNOWN)
            for client in clients:
                os.close(client.descriptor)
            self._failed(machine, error.message if isinstance(error, KistError) else str(error), UNKNOWN)
            raise
        for client in clients:
            os.close(client.descriptor)
        machine.handed_over += waiters
        try:
            await machine.started
        except LaunchFailed as failure:
            told, code = start_error(failure)
            self._failed(machine, told.message, code)
            raise told from failure
        tell_parents(engine, machine)
        engine.naming.ask(machine)
        engine.emit_surroundings(machine, endpoints, begin=True)
        engine.emit(machine, "start")

    @staticmethod
    def _answer_failed(machine: Machine, waiters: list[WaitClient], code: int) -> None:
        """Who waits for the end is told that there is none; who waits for the removal waits on."""
        for waiter in waiters:
            if waiter.removed:
                machine.pending_waiters.append(waiter)
            else:
                answer_waiter(waiter, code)

    def _failed(self, machine: Machine, message: str, code: int) -> None:
        """Nothing runs: everything is as before the start, but what went wrong is recorded."""
        status = "created" if machine.state.started_at == NEVER else "exited"
        machine.close_handed_over()
        state = msgspec.structs.replace(machine.state, status=status, exit_code=code, error=message)
        release_surroundings(self._engine, machine)
        self._engine.emit(machine, "start_failed", exitCode=str(code))  # told to clients of old versions only
        self._engine.index.observe(machine, msgspec.structs.replace(machine.record, state=state))
        machine.ended.set()
        if machine.record.host_config.auto_remove:
            self.removal.auto_remove(machine)
        else:
            release_monitor(self._engine, machine, removed=False)

    async def restart(
        self, machine: Machine, seconds: int | None = None, signal_text: str = "", *, counted: bool = False
    ) -> None:
        """Stops and starts it. `counted`: RestartCount tells of it, as of restarts by a policy."""
        count = machine.record.restart_count + 1 if counted else 0
        if machine.state.running:
            machine.manual_restarts += 1
            try:
                await self.ending.stop(machine, seconds, signal_text)
            finally:
                machine.manual_restarts -= 1
        with suppress(NotModified):  # another restart at the same time has started it
            await self.start(machine, count)
        self._engine.emit(machine, "restart")

    # --- what monitors report ---

    def heard(self, machine: Machine, event: Message, descriptors: list[int]) -> None:
        """One message of the machine's monitor; descriptors that are not kept are closed."""
        kind = event["event"]
        if kind == "started":
            self._on_started(machine, event, descriptors)
        elif kind == "failed":
            if machine.started is not None and not machine.started.done():
                machine.started.set_exception(LaunchFailed(event))
        elif kind == "exited":
            self.on_exited(machine, event)
        elif kind == "rotated":
            self.packing.rotated(machine)
        elif kind == "oom":
            self._on_oom(machine)
        elif kind == "warning":
            log.warning("the monitor of container %s: %s", machine.id, event["message"])
        elif kind == "detached":
            self._engine.emit(machine, "detach")
        elif kind == "held":
            if (hold := machine.holds.get(event["id"])) is not None and not hold.done():
                hold.set_result(event["time"])
        elif kind == "waiters":
            self._take_waiters(machine, [WaitClient(descriptor, True) for descriptor in descriptors])
            descriptors = []
        elif kind == "nameserver":
            self._engine.naming.heard(machine, event, descriptors)
        elif kind == "dumped":
            machine.settle_dump(event["failure"])
        elif kind == "unknown_command" and event["command"] == "checkpoint":
            machine.settle_dump("its monitor is of an older version of kist, start the container anew")
        elif kind.startswith("exec_"):
            self._on_exec(machine, event)
        for descriptor in descriptors:
            os.close(descriptor)

    @staticmethod
    def _take_waiters(machine: Machine, waiters: list[WaitClient]) -> None:
        """Those who wait for the removal come back from a monitor that goes; it may have been made meanwhile."""
        if not machine.removed.is_set():
            machine.pending_waiters += waiters
            return
        for waiter in waiters:
            answer_waiter(waiter, machine.state.exit_code)

    def _on_started(self, machine: Machine, event: Message, descriptors: list[int]) -> None:
        machine.set_pidfd(descriptors.pop(0))
        self.record_started(machine, event)
        if machine.started is not None and not machine.started.done():
            machine.started.set_result(None)

    def record_started(self, machine: Machine, event: Message) -> None:
        """It runs, as its monitor tells: at the start, or to a kistd that came later."""
        state = msgspec.structs.replace(
            machine.state,
            status="running",
            pid=event["pid"],
            pid_start=event["pid_start"],
            monitor_pid=event.get("monitor", 0),
            exit_code=0,
            error="",
            oom_killed=False,
            started_at=rfc3339(event["started_at"]),
            boot_id=self._boot_id,
            health=health.begun(machine.record.config, machine.state.health),
        )
        record = msgspec.structs.replace(machine.record, state=state, has_been_started=True, manually_stopped=False)
        machine.ended.clear()
        self._engine.index.observe(machine, record)
        self._engine.changed(machine)

    def _on_oom(self, machine: Machine) -> None:
        """The container ran out of memory; it may live on, without a process or two."""
        state = msgspec.structs.replace(machine.state, oom_killed=True)
        self._engine.index.observe(machine, msgspec.structs.replace(machine.record, state=state))
        self._engine.emit(machine, "oom")

    def on_adopted(self, machine: Machine, greeting: Message) -> None:
        """A container of an earlier kistd runs on; that one may not have lived to hear that it started."""
        if machine.state.paused_briefly:
            resume(self._engine, machine)
        state = msgspec.structs.replace(
            machine.state,
            status="paused" if cgroup.frozen(self._engine.layout, self._engine.cgroup(machine)) else "running",
            pid=greeting["pid"],
            pid_start=greeting["pid_start"],
            monitor_pid=greeting["monitor"],
            boot_id=self._boot_id,
        )
        if not machine.state.alive:
            state = msgspec.structs.replace(
                state,
                exit_code=0,
                error="",
                oom_killed=False,
                started_at=rfc3339(greeting["started_at"]),
                health=health.begun(machine.record.config, machine.state.health),
            )
        machine.ended.clear()
        self._engine.index.observe(machine, msgspec.structs.replace(machine.record, state=state, has_been_started=True))
        self._engine.naming.ask(machine)
        if greeting.get("oom") and not state.oom_killed:
            self._on_oom(machine)
        self._engine.changed(machine)

    def resume_restart(self, machine: Machine) -> None:
        """A pause before a restart that an earlier kistd did not live to end. After a reboot all begins anew."""
        if machine.state.boot_id == self._boot_id:
            self.restarts.schedule(machine, 0)
            return
        state = msgspec.structs.replace(machine.state, status="exited")
        self._engine.index.observe(machine, msgspec.structs.replace(machine.record, state=state, restart_count=0))

    def forget_start(self, machine: Machine) -> None:
        """A start that was cut off before anything ran: what it took is free again."""
        release_surroundings(self._engine, machine)
        self._engine.index.observe(machine, machine.record)
        release_monitor(self._engine, machine, removed=False)

    def on_exited(self, machine: Machine, event: Message, *, for_good: bool = False) -> None:
        """Records the end at once; what is left to tear down follows in a task. `for_good`: its policy is not asked."""
        if machine.started is not None and not machine.started.done():  # it ended before `started` was read
            machine.started.set_result(None)
        told = machine.state.alive and machine.state.oom_killed
        again = not for_good and not machine.record.removing and restarting.starts_again(machine.record, event["code"])
        state = msgspec.structs.replace(
            machine.state,
            status="restarting" if again else "exited",
            pid=0,
            exit_code=event["code"],
            started_at=rfc3339(event["started_at"]) if event.get("started_at") else machine.state.started_at,
            finished_at=rfc3339(event["finished_at"]),
            oom_killed=bool(event.get("oom")) or told,
            error=event.get("log_error", ""),
            health=health.ended(machine.state.health),
        )
        machine.close_pidfd()
        endpoints = machine.record.endpoints
        release_surroundings(self._engine, machine)
        record = msgspec.structs.replace(
            machine.record, state=state, has_been_started=True, restart_count=machine.record.restart_count + again
        )
        self._engine.index.observe(machine, record)
        self._engine.changed(machine)
        for one in machine.execs.values():
            if one.running:
                self._exec_ended(one, 137)
        machine.foreign_version, machine.monitor_version = "", VERSION
        machine.close_handed_over()
        machine.ended.set()
        answer_pending(machine)
        if event.get("oom") and not told:
            self._engine.emit(machine, "oom")
        self._engine.emit_surroundings(machine, endpoints, begin=False)
        self._engine.emit(machine, "die", exitCode=str(state.exit_code), execDuration=str(_duration(state)))
        if again:
            self.restarts.schedule(machine, _duration(state))
        if machine.record.host_config.auto_remove and not machine.record.removing and not machine.manual_restarts:
            self.removal.auto_remove(machine)
        else:
            release_monitor(self._engine, machine, removed=False)

    def lost(self, machine: Machine, handle: MonitorHandle) -> None:
        """The connection ended. Without an exit before, the monitor died, and its container must not go on alone.

        It may have died between writing the exit down and telling it.
        """
        if machine.handle is not handle:
            return
        machine.handle = None
        machine.settle_dump("its monitor died")
        if machine.started is not None and not machine.started.done():
            self._kill_rest(machine)
            machine.started.set_exception(
                LaunchFailed({"operation": "start", "errno": 0, "message": "the monitor died", "problem": ""})
            )
            return
        if machine.state.alive:
            self.monitor_died(machine, read_exit(self._engine, machine))

    def of_earlier_boot(self, machine: Machine) -> bool:
        """Whether the machine went down since the start; the exec root, on a tmpfs, tells it too."""
        return machine.state.boot_id != self._boot_id or not os.path.isdir(self._engine.run_dir(machine))

    def monitor_died(self, machine: Machine, exited: Message | None = None, *, for_good: bool = False) -> None:
        """Kills what is left of the container and records its end: `exited`, or else that of being killed now."""
        self._kill_rest(machine)
        machine.pending_waiters += machine.handed_over  # it cannot answer them any more
        machine.handed_over = []
        killed = {"code": 137, "finished_at": time.time_ns(), "oom": False}
        self.on_exited(machine, exited or killed, for_good=for_good)

    def _kill_rest(self, machine: Machine) -> None:
        name = self._engine.cgroup(machine)
        cgroup.kill(self._engine.layout, name)
        self._engine.spawn(self._remove_cgroup(name))

    async def _remove_cgroup(self, name: str) -> None:
        for _ in range(100):
            if cgroup.remove(self._engine.layout, name):
                return
            await asyncio.sleep(0.01)

    def _on_exec(self, machine: Machine, event: Message) -> None:
        one = machine.execs.get(event["id"])
        if one is None:
            return
        kind = event["event"]
        if kind == "exec_started":
            one.running, one.pid = True, event["pid"]
            if one.outcome is not None and not one.outcome.done():
                one.outcome.set_result(None)
        elif kind == "exec_failed":
            if one.outcome is not None and not one.outcome.done():
                one.outcome.set_exception(LaunchFailed(event))
        elif kind == "exec_detached":
            self._engine.emit(machine, "exec_detach", execID=one.id)
        elif kind == "exec_exited":
            self._exec_ended(one, event["code"])
            self._engine.emit(machine, "exec_die", execID=one.id, exitCode=str(one.exit_code))

    @staticmethod
    def _exec_ended(one: ExecState, code: int) -> None:
        one.running, one.exit_code = False, code  # the pid stays to be seen, as dockerd leaves it
        if one.ended is not None and not one.ended.done():
            one.ended.set_result(code)


def _duration(state: State) -> int:
    """Seconds between start and end, as the `die` event tells."""
    return max(0, (nanoseconds(state.finished_at) - nanoseconds(state.started_at)) // 1_000_000_000)
