"""From created to running to exited to gone: start, stop, kill, restart, rename, remove, and what monitors report."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from contextlib import suppress

import msgspec

from kist.container import health, restarting
from kist.container.engine import Engine
from kist.container.errors import UNKNOWN, start_error
from kist.container.exitfile import read_exit
from kist.container.launching import forget_link, prepare, tell_parents
from kist.container.machine import ExecState, Machine
from kist.container.names import check_name
from kist.container.packing import Packing
from kist.container.pausing import continue_now
from kist.container.restarting import Restarts
from kist.container.signals import parse_signal
from kist.kernel import cgroup, pidfd
from kist.model.container import NEVER, ContainerRecord, State
from kist.model.errors import Conflict, InvalidParameter, KistError, NotFound, NotModified
from kist.model.timestamp import nanoseconds, rfc3339
from kist.runtime import foreign, plan
from kist.runtime.supervisor import VERSION, AttachClient, LaunchFailed, Message, MonitorHandle, WaitClient

log = logging.getLogger(__name__)
DEFAULT_STOP_SECONDS = 10
_KILL_SECONDS = 10.0
_GROUP_TRIES = 2000  # a millisecond each
_ENDING = frozenset({2, 3, 9, 15})  # INT, QUIT, KILL, TERM: who sends one of them wants the container to end


class Lifecycle:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.packing = Packing(engine)
        self.restarts = Restarts(engine, self.start, self.start_again)
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            self._boot_id = file.read().strip()

    # --- start ---

    async def start(self, machine: Machine, restart_count: int = 0) -> None:
        """Raises NotModified when it runs, Conflict, and InvalidParameter with exit code 126 or 127 in the record."""
        async with machine.lock:
            if machine.state.paused:
                raise Conflict("cannot start a paused container, try unpause instead")
            if machine.state.running:
                raise NotModified("container is already running")
            if machine.record.removing:
                raise Conflict("container is marked for removal and cannot be started")
            machine.delay = 0.0
            await self._start_new(machine, msgspec.structs.replace(machine.record, restart_count=restart_count))

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

    async def _start_new(self, machine: Machine, record: ContainerRecord) -> None:
        """Starts it with `record`, when all of its last life is gone."""
        if machine.cleanup is not None:
            await asyncio.wait([machine.cleanup])
        if machine.writers:  # two overlays may not write to one directory
            await asyncio.wait(machine.writers)
        if machine.record.has_been_started:
            await self._group_gone(machine)
        machine.record = record
        await self._start(machine)

    async def _group_gone(self, machine: Machine) -> None:
        """Until whoever clears up behind the container's last life has done so: it removes the group by its name, and
        kills what is in the way.
        """
        name = self._engine.cgroup(machine)
        for _ in range(_GROUP_TRIES):
            if not cgroup.exists(self._engine.layout, name):
                return
            await asyncio.sleep(0.001)

    async def _start(self, machine: Machine) -> None:
        engine = self._engine
        clients, waiters = machine.take_pending()
        try:
            try:
                await engine.shipping.prepare(machine)
                launch, endpoints, ports = prepare(engine, machine)
            except OSError as error:
                raise KistError(f"cannot prepare the container: {error}") from error
            machine.started = asyncio.get_running_loop().create_future()
            # In memory first: a disk that refuses makes a failed start, which gives back what the record names.
            networks = engine.networks.identified(machine.record.networks, machine.record.host_config.network_mode)
            machine.record = msgspec.structs.replace(
                machine.record, endpoints=endpoints, ports=ports, networks=networks
            )
            engine.index.save(machine, machine.record)
            begin = foreign.launch if launch.foreign is not None else plan.launch
            start = begin(launch, engine.layout)
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
        engine.emit_surroundings(machine, begin=True)
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
        self._release_network(machine)
        self._engine.emit(machine, "start_failed", exitCode=str(code))  # told to clients of old versions only
        self._engine.index.observe(machine, msgspec.structs.replace(machine.record, state=state))
        machine.ended.set()
        if machine.record.host_config.auto_remove:
            self.auto_remove(machine)
        else:
            self.release(machine, removed=False)

    def _release_network(self, machine: Machine) -> None:
        for endpoint in machine.record.endpoints:
            self._engine.networks.detach(endpoint)
        if machine.record.ports:
            self._engine.networks.unpublish(machine.id)
        if machine.record.endpoints or machine.record.ports:
            machine.record = msgspec.structs.replace(machine.record, endpoints=(), ports=())

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
        self._release_network(machine)
        self._engine.index.observe(machine, machine.record)
        self.release(machine, removed=False)

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
        self._release_network(machine)
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
        self._answer_pending(machine)
        if event.get("oom") and not told:
            self._engine.emit(machine, "oom")
        self._engine.emit_surroundings(machine, begin=False)
        self._engine.emit(machine, "die", exitCode=str(state.exit_code), execDuration=str(_duration(state)))
        if again:
            self.restarts.schedule(machine, _duration(state))
        if machine.record.host_config.auto_remove and not machine.record.removing and not machine.manual_restart:
            self.auto_remove(machine)
        else:
            self.release(machine, removed=False)

    @staticmethod
    def _answer_pending(machine: Machine) -> None:
        """It does not run: those who wait for that and found no monitor to wait at are told."""
        for waiter in [one for one in machine.pending_waiters if not one.removed]:
            machine.pending_waiters.remove(waiter)
            answer_waiter(waiter, machine.state.exit_code)

    def release(self, machine: Machine, *, removed: bool) -> None:
        """Lets the monitor go; its directory is not needed any more."""
        handle = machine.handle
        if handle is not None and not handle.closed:
            try:
                handle.send({"command": "release", "removed": removed, "code": machine.state.exit_code})
            except KistError:
                pass
        if removed or self._engine.index.is_saved(machine):  # or else the next kistd learns the end from its exit file
            shutil.rmtree(self._engine.run_dir(machine), ignore_errors=True)

    def lost(self, machine: Machine, handle: MonitorHandle) -> None:
        """The connection ended. Without an exit before, the monitor died, and its container must not go on alone.

        It may have died between writing the exit down and telling it.
        """
        if machine.handle is not handle:
            return
        machine.handle = None
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

    # --- stop, kill, restart ---

    async def kill(self, machine: Machine, signal_text: str) -> None:
        """SIGKILL is over when the container is. Raises Conflict with Docker's text when it does not run,
        InvalidParameter for an unknown signal.
        """
        number = parse_signal(signal_text) if signal_text else 9
        ending = number in _ENDING or number == self._stop_signal(machine)
        if machine.state.restarting and (not ending or await self._gave_up(machine)):
            return
        if not machine.state.alive:
            raise Conflict(f"container {machine.id} is not running")
        if ending:
            self._mark_stopped(machine)
        self._send(machine, number)
        if number == 9 and not await self._ended(machine, _KILL_SECONDS):
            raise KistError("tried to kill container, but did not receive an exit event")

    def put_down(self, machine: Machine) -> None:
        """SIGKILL by the engine itself: to a restart policy it is a crash."""
        if machine.state.alive:
            self._send(machine, 9)

    def _mark_stopped(self, machine: Machine) -> None:
        """Somebody wants it to end. A restart policy must know, after a crash of kistd as well."""
        machine.record = msgspec.structs.replace(machine.record, manually_stopped=True)
        if restarting.has_policy(machine.record):
            self._engine.index.observe(machine, machine.record)

    async def _gave_up(self, machine: Machine) -> bool:
        """Between two lives: it does not start again, at once. False when a start that was under way came first."""
        async with machine.lock:
            if not machine.state.restarting:
                return False
            self._give_up(machine)
            return True

    def _give_up(self, machine: Machine) -> None:
        machine.cancel_restart()
        state = msgspec.structs.replace(machine.state, status="exited")
        self._engine.index.observe(machine, msgspec.structs.replace(machine.record, state=state, manually_stopped=True))
        self._answer_pending(machine)

    def _send(self, machine: Machine, number: int) -> None:
        self._signal(machine, number)
        self._engine.emit(machine, "kill", signal=str(number))
        if number in (9, self._stop_signal(machine)) or not machine.record.config.stop_signal:
            continue_now(self._engine, machine)

    def _signal(self, machine: Machine, number: int) -> None:
        if machine.pidfd < 0:
            return
        if number != 9 and self._engine.is_foreign(machine) and machine.handle is not None:
            machine.handle.send({"command": "signal", "signal": number})
            return
        try:
            pidfd.pidfd_send_signal(machine.pidfd, number)
        except ProcessLookupError:
            return  # it has just ended
        except OSError as error:
            raise KistError(f"cannot signal container {machine.name}: {error.strerror}") from error

    @staticmethod
    def _stop_signal(machine: Machine) -> int:
        return parse_signal(machine.record.config.stop_signal or "SIGTERM")

    async def stop(self, machine: Machine, seconds: int | None = None, signal_text: str = "") -> None:
        """The stop signal, then SIGKILL after `seconds` (negative: never). Raises NotModified when it does not run."""
        if not machine.state.running:
            raise NotModified("container is already stopped")
        number = parse_signal(signal_text) if signal_text else self._stop_signal(machine)
        if seconds is None:
            given = machine.record.config.stop_timeout
            seconds = DEFAULT_STOP_SECONDS if given is None else given
        if machine.state.restarting:
            if await self._gave_up(machine):
                self._engine.emit(machine, "stop")
            if not machine.state.alive:
                return
        self._mark_stopped(machine)
        self._signal(machine, number)
        self._engine.emit(machine, "kill", signal=str(number))
        continue_now(self._engine, machine)
        if not await self._ended(machine, None if seconds < 0 else float(seconds)):
            self._signal(machine, 9)
            self._engine.emit(machine, "kill", signal="9")
            if not await self._ended(machine, _KILL_SECONDS):
                raise KistError(f"container {machine.name} did not end within {_KILL_SECONDS:.0f} s of SIGKILL")
        self._engine.emit(machine, "stop")

    @staticmethod
    async def _ended(machine: Machine, seconds: float | None) -> bool:
        try:
            await asyncio.wait_for(machine.ended.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def restart(
        self, machine: Machine, seconds: int | None = None, signal_text: str = "", *, counted: bool = False
    ) -> None:
        """Stops and starts it. `counted`: RestartCount tells of it, as of restarts by a policy."""
        count = machine.record.restart_count + 1 if counted else 0
        if machine.state.running:
            machine.manual_restart = True
            try:
                await self.stop(machine, seconds, signal_text)
            finally:
                machine.manual_restart = False
        await self.start(machine, count)
        self._engine.emit(machine, "restart")

    # --- wait, attach ---

    def add_waiter(self, machine: Machine, waiter: WaitClient) -> None:
        """Takes a client that has its head; the descriptor is ours from here on."""
        machine.forget_gone_clients()
        if machine.handle is not None and not machine.handle.closed and machine.state.alive:
            machine.handle.send({"command": "wait", **waiter.message()}, [waiter.descriptor])
            machine.handed_over.append(waiter)
        else:
            machine.pending_waiters.append(waiter)

    def attach(self, machine: Machine, client: AttachClient) -> None:
        """Hands a client to the monitor, or keeps it for the start."""
        machine.forget_gone_clients()
        if machine.handle is not None and not machine.handle.closed and machine.state.alive:
            machine.handle.send({"command": "attach", **client.message()}, [client.descriptor])
            os.close(client.descriptor)
        else:
            machine.pending_clients.append(client)
        self._engine.emit(machine, "attach")

    def resize(self, machine: Machine, height: int, width: int) -> None:
        machine.check_controllable()
        if not machine.state.alive or machine.handle is None:
            raise Conflict(f"container {machine.id} is not running")
        machine.handle.send({"command": "resize", "height": height, "width": width})
        self._engine.emit(machine, "resize", height=str(height), width=str(width))

    # --- rename, remove ---

    def rename(self, machine: Machine, name: str) -> None:
        bare, old = name.removeprefix("/"), machine.name
        if bare == old:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        try:
            check_name(f"/{bare}")
            self._engine.index.rename(machine, msgspec.structs.replace(machine.record, name=bare))
        except (InvalidParameter, Conflict) as error:
            raise type(error)(f"Error when allocating new name: {error.message}") from error
        self._engine.emit(machine, "rename", oldName=f"/{old}")

    def unlink(self, machine: Machine, name: str) -> None:
        """Removes the link `PARENT/ALIAS` to a container. Raises KistError, Conflict with Docker's texts."""
        parent, slash, alias = name.removeprefix("/").partition("/")
        if not slash:
            raise KistError("Conflict, cannot remove the default link name of the container")
        try:
            holder = self._engine.index.find(parent)
        except NotFound as error:
            raise KistError(f"Cannot get parent /{parent} for link name /{parent}/{alias}") from error
        self._engine.index.unlink(holder, alias)
        forget_link(self._engine, holder, alias)

    async def remove(self, machine: Machine, asked: str, *, force: bool = False, volumes: bool = False) -> None:
        """Name, record, addresses and ports are free when this returns; the files go in the background.

        `asked` is the name or id the user gave. A start that is under way comes first.
        """
        if machine.record.removing:
            raise Conflict(f"removal of container {asked} is already in progress")
        async with machine.lock:
            await self._remove_locked(machine, asked, force=force, volumes=volumes)

    async def _remove_locked(self, machine: Machine, asked: str, *, force: bool, volumes: bool) -> None:
        if machine.record.removing:  # another one, or --rm of the start that was waited for
            raise Conflict(f"removal of container {asked} is already in progress")
        if machine.state.running and not force:
            why = f"{machine.state.status}: stop the container before removing or force remove"
            if machine.state.paused:
                why = "paused and must be unpaused first"
            raise Conflict(f'cannot remove container "{asked}": container is {why}')
        machine.record = msgspec.structs.replace(machine.record, removing=True)
        try:
            if machine.state.restarting:
                self._give_up(machine)
            if machine.state.alive:
                self._signal(machine, 9)
                self._engine.emit(machine, "kill", signal="9")
                continue_now(self._engine, machine)
                if not await self._ended(machine, _KILL_SECONDS):
                    raise KistError(f"container {machine.name} did not end within {_KILL_SECONDS:.0f} s of SIGKILL")
            self._remove(machine, volumes)
        except BaseException:
            machine.record = msgspec.structs.replace(machine.record, removing=False)
            raise

    def auto_remove(self, machine: Machine) -> None:
        """--rm: it has ended."""
        machine.cleanup = self._engine.spawn(self._auto_remove(machine))

    async def _auto_remove(self, machine: Machine) -> None:
        if not machine.record.removing:
            machine.record = msgspec.structs.replace(machine.record, removing=True)
            self._remove(machine, volumes=True)

    def _remove(self, machine: Machine, volumes: bool) -> None:
        """The record goes first: what cannot be removed behind it is found by the next kistd. Raises KistError."""
        engine = self._engine
        self._release_network(machine)
        going = [
            mount.name for mount in machine.record.mounts if volumes and mount.type == "volume" and mount.anonymous
        ]
        for name in going:
            with suppress(OSError):  # a full disk: then a crash right now would leave it to a prune
                engine.volumes.mark(name)
        engine.index.forget(machine)
        try:
            if engine.snapshotter.exists(machine.record.snapshot):
                engine.snapshotter.remove(machine.record.snapshot)
        except KistError as error:
            log.error("the files of container %s stay until the next start: %s", machine.id, error.message)
        for name in going:
            try:
                if engine.volumes.users(name):
                    engine.volumes.settle([name])
                else:
                    engine.volumes.remove(name, force=True)
            except (KistError, OSError) as error:
                log.error("volume %s of container %s stays: %s", name, machine.id, error)
        engine.emit(machine, "destroy")
        self.release(machine, removed=True)
        with suppress(OSError):  # a full disk: the next kistd finds that it is nobody's
            engine.shipping.give_up(machine)
        for waiter in machine.pending_waiters:
            answer_waiter(waiter, machine.state.exit_code)
        machine.pending_waiters = []
        for client in machine.pending_clients:
            os.close(client.descriptor)
        machine.pending_clients = []
        machine.removed.set()
        engine.spawn(self._remove_files(machine))

    async def _remove_files(self, machine: Machine) -> None:
        await self.packing.settled(machine)
        await asyncio.to_thread(shutil.rmtree, self._engine.directory(machine.id), ignore_errors=True)
        await asyncio.to_thread(self._engine.snapshotter.collect)


def answer_waiter(waiter: WaitClient, code: int) -> None:
    """The body of a `/wait` whose head was sent; closes the connection."""
    text = b'{"StatusCode":%d}\n' % code
    try:
        os.write(waiter.descriptor, b"%x\r\n%s\r\n0\r\n\r\n" % (len(text), text))
    except OSError:
        pass
    os.close(waiter.descriptor)


def _duration(state: State) -> int:
    """Seconds between start and end, as the `die` event tells."""
    return max(0, (nanoseconds(state.finished_at) - nanoseconds(state.started_at)) // 1_000_000_000)


def detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` as the bytes a terminal sends. Raises InvalidParameter with Docker's text."""
    found = bytearray()
    for key in (text or "ctrl-p,ctrl-q").split(","):
        if len(key) == 1 and key.isascii():
            found += key.encode()
        elif key.startswith("ctrl-") and len(key) == 6 and (key[5].isalpha() or key[5] in "@[\\]^_"):
            found.append(ord(key[5].upper()) & 0x1F)
        else:
            raise InvalidParameter(f"Invalid escape keys ({text}) provided")
    return bytes(found)
