"""What a new kistd finds: monitors to adopt, exits it missed, and what a crash left behind."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time

from kist.container import joining
from kist.container.engine import Engine
from kist.container.execs import Execs
from kist.container.exitfile import read_exit
from kist.container.lifecycle import Lifecycle
from kist.container.machine import Machine
from kist.container.release import release_monitor
from kist.container.restarting import starts_at_boot
from kist.container.shipping import shipper_pid
from kist.kernel import cgroup
from kist.model.container import State
from kist.model.timestamp import rfc3339
from kist.runtime.supervisor import ADOPTABLE, Message, MonitorHandle

log = logging.getLogger(__name__)
_GREETING_SECONDS = 10.0
_EXIT_FILE_TRIES = 500
_CRASHED = 255  # Docker's exit code of a container that went down with its machine
_STARTING_SECONDS = 2.0


class Recovery:
    def __init__(self, engine: Engine, lifecycle: Lifecycle, execs: Execs) -> None:
        self._engine, self._lifecycle, self._execs = engine, lifecycle, execs
        self._strays: list[MonitorHandle] = []  # kept open until they close

    async def run(self) -> None:
        """Adopts, replays, cleans. One container's trouble does not keep the others from being found."""
        machines = self._engine.index.all()
        self._engine.networks.restore(joining.survivor(self._engine, machine.record) for machine in machines)
        for machine in machines:
            self._engine.naming.add(machine.record.endpoints)
        await asyncio.gather(*(self._recover(machine) for machine in machines))
        await self._release_strays({machine.id for machine in self._engine.index.all()})
        self._remove_strays({machine.id for machine in self._engine.index.all()})
        self._remove_snapshots({machine.record.snapshot for machine in self._engine.index.all()})
        self._engine.shipping.start()
        await self._lifecycle.packing.catch_up()
        await self._engine.volumes.settle_all()
        self._engine.snapshotter.cleanup()
        self._lifecycle.restarts.begin(one for one in self._engine.index.all() if starts_at_boot(one.record))

    async def _recover(self, machine: Machine) -> None:
        try:
            if not (await self._greet(machine) or await self._greet_starting(machine)):
                if machine.state.alive:
                    self._replay(machine)
                elif machine.record.endpoints or machine.record.ports:
                    self._lifecycle.forget_start(machine)
            self._go_on(machine)
        except Exception:
            log.exception("cannot recover container %s", machine.id)

    def _go_on(self, machine: Machine) -> None:
        """What was decided at an end, and a crash cut off before it was done."""
        state = machine.state
        if state.restarting and machine.restart is None:
            self._lifecycle.resume_restart(machine)
        elif machine.record.host_config.auto_remove and _has_ended(state) and machine.cleanup is None:
            self._lifecycle.removal.auto_remove(machine)

    async def _greet(self, machine: Machine) -> bool:
        """Whether there is a monitor, whose greeting tells how it is with the container."""
        machine.greeting = asyncio.get_running_loop().create_future()
        machine.handle = await self._engine.supervisor.adopt(
            self._engine.run_dir(machine),
            lambda event, descriptors: self._heard(machine, event, descriptors),
            lambda handle: self._lost(machine, handle),
        )
        if machine.handle is None:
            return False
        try:
            return await asyncio.wait_for(machine.greeting, _GREETING_SECONDS) is not None
        except TimeoutError:
            log.error("the monitor of %s does not answer: it is killed, and its container with it", machine.id)
            if machine.handle is not None:
                machine.handle.kill_monitor()
                machine.handle.close()
                machine.handle = None
            return False

    def _heard(self, machine: Machine, event: Message, descriptors: list[int]) -> None:
        """The greeting takes effect here and now: what the monitor says behind it is about what is known then."""
        if event["event"] != "hello":
            self._lifecycle.heard(machine, event, descriptors)
            return
        if descriptors:
            machine.set_pidfd(descriptors.pop(0))
        _discard(event, descriptors)
        if event.get("version") not in ADOPTABLE:
            self._leave_alone(machine, event)
        else:
            self._adopt(machine, event)
        if machine.greeting is not None and not machine.greeting.done():
            machine.greeting.set_result(event)

    def _lost(self, machine: Machine, handle: MonitorHandle) -> None:
        if machine.greeting is not None and not machine.greeting.done():  # it went before it greeted: see what it left
            machine.handle = None
            machine.greeting.set_result(None)
        else:
            self._lifecycle.lost(machine, handle)

    async def _greet_starting(self, machine: Machine) -> bool:
        """A start that kistd did not live to see may still be under way: its monitor listens in a moment."""
        run_dir = self._engine.run_dir(machine)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _STARTING_SECONDS
        while not machine.state.alive and os.path.isdir(run_dir) and loop.time() < deadline and self._others():
            await asyncio.sleep(0.02)
            if await self._greet(machine):
                return True
        if not machine.state.alive:
            shutil.rmtree(run_dir, ignore_errors=True)  # a monitor that comes later finds no place and ends
        return False

    def _others(self) -> bool:
        """Whether an earlier zygote, or a monitor that no container here knows, is about."""
        greetings = [machine.greeting for machine in self._engine.index.all()]
        heard = [one.result() for one in greetings if one is not None and one.done() and not one.cancelled()]
        known = {greeting.get("monitor") for greeting in heard if greeting is not None}
        known |= {self._engine.supervisor.zygote_pid, shipper_pid(self._engine.exec_root)}
        group = f"{self._engine.cgroup_root}/engine"
        return any(pid not in known for pid in cgroup.pids(self._engine.layout, group) if pid != os.getpid())

    def _adopt(self, machine: Machine, greeting: Message) -> None:
        status = greeting["status"]
        machine.monitor_version = greeting["version"]
        if isinstance(greeting.get("execs"), list):  # version 1 told no more than their pids
            self._execs.restore(machine, greeting["execs"])
        if status == "exited" and _is_recorded(machine, greeting):
            release_monitor(self._engine, machine, removed=False)  # an earlier kistd did not live to let it go
        elif status in ("running", "exited"):
            if status == "running" or machine.state.pid != greeting["pid"]:
                self._lifecycle.on_adopted(machine, greeting)
            if status == "exited":
                self._lifecycle.on_exited(machine, greeting)
        elif machine.handle is not None:  # it never came to run: a start that kistd did not live to see
            machine.handle.send({"command": "release", "removed": False, "code": 128})
            machine.handle = None
            if machine.state.alive:
                self._lifecycle.on_exited(machine, _lost_exit())
            else:
                self._lifecycle.forget_start(machine)

    def _leave_alone(self, machine: Machine, greeting: Message) -> None:
        """A monitor of a version that is not ours, as after a downgrade: its container runs on, its end is noticed."""
        version = str(greeting.get("version"))
        log.error(
            "the monitor of container %s speaks version %s of the protocol, this kistd %s: the container runs on, but "
            "cannot be attached to and runs no execs before a kistd is started that knows this version",
            machine.id,
            version,
            " and ".join(map(str, ADOPTABLE)),
        )
        assert machine.handle is not None
        machine.handle.close()
        machine.handle = None
        machine.foreign_version = version
        if not machine.state.alive:
            return
        if machine.pidfd < 0:
            self._replay(machine)
            return
        machine.ended.clear()
        asyncio.get_running_loop().add_reader(machine.pidfd, self._foreign_ended, machine)

    def _foreign_ended(self, machine: Machine) -> None:
        asyncio.get_running_loop().remove_reader(machine.pidfd)
        self._engine.spawn(self._await_exit_file(machine))

    async def _await_exit_file(self, machine: Machine) -> None:
        """The monitor writes it a moment after the process ended."""
        for _ in range(_EXIT_FILE_TRIES):
            if read_exit(self._engine, machine) is not None:
                break
            await asyncio.sleep(0.01)
        self._replay(machine)

    def _replay(self, machine: Machine) -> None:
        """No monitor answers: its exit file tells the end. Without one the monitor died, or the whole machine did."""
        event = read_exit(self._engine, machine)
        if event is not None:
            self._lifecycle.on_exited(machine, event)
        elif self._lifecycle.of_earlier_boot(machine):
            # what its policy says comes when all is found
            self._lifecycle.monitor_died(machine, _lost_exit(_CRASHED, time.time_ns()), for_good=True)
        else:
            self._lifecycle.monitor_died(machine)

    async def _release_strays(self, known: set[str]) -> None:
        """Monitors of containers that were removed while they were told: they may go."""
        for name in os.listdir(f"{self._engine.exec_root}/containers"):
            if name in known:
                continue
            cgroup.kill(self._engine.layout, f"{self._engine.cgroup_root}/{name}")
            handle = await self._engine.supervisor.adopt(
                f"{self._engine.exec_root}/containers/{name}",
                _discard,
                lambda handle: None,
            )
            if handle is not None:
                handle.send({"command": "release", "removed": True, "code": 137})
                self._strays.append(handle)

    def _remove_strays(self, known: set[str]) -> None:
        """Directories and cgroups of containers that no record names."""
        for parent in (f"{self._engine.exec_root}/containers", f"{self._engine.data_root}/containers"):
            for name in os.listdir(parent):
                if name not in known:
                    shutil.rmtree(f"{parent}/{name}", ignore_errors=True)
        layout = self._engine.layout
        for root in layout.directories(self._engine.cgroup_root):
            for name in _children(root):
                if len(name) == 64 and name not in known:
                    group = f"{self._engine.cgroup_root}/{name}"
                    cgroup.kill(layout, group)
                    cgroup.remove(layout, group)

    def _remove_snapshots(self, wanted: set[str]) -> None:
        """Writable snapshots of no container: a create, a removal or an unpacking that was cut off."""
        for record in self._engine.snapshotter.all():
            if not record.committed and record.key not in wanted:
                self._engine.snapshotter.remove(record.key)


def _children(directory: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(directory) if entry.is_dir()]
    except FileNotFoundError:
        return []


def _has_ended(state: State) -> bool:
    """It has run, or could not be started."""
    return state.status == "exited" or (bool(state.error) and not state.running)


def _is_recorded(machine: Machine, event: Message) -> bool:
    return not machine.state.alive and machine.state.finished_at == rfc3339(event["finished_at"])


def _discard(event: Message, descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _lost_exit(code: int = 128, finished_at: int = 0) -> Message:
    return {"code": code, "finished_at": finished_at, "oom": False}
