"""How containers are brought to an end: kill and stop, and what a restart policy must know of it."""

from __future__ import annotations

import asyncio

import msgspec

from kist.container import restarting
from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.container.pausing import continue_now
from kist.container.release import answer_pending
from kist.container.signals import parse_signal
from kist.kernel import pidfd
from kist.model.errors import Conflict, InvalidParameter, KistError, NotModified

DEFAULT_STOP_SECONDS = 10
KILL_SECONDS = 10.0
_ENDING = frozenset({2, 3, 9, 15})  # INT, QUIT, KILL, TERM: who sends one of them wants the container to end


class Ending:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

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
        if number == 9 and not await ended(machine, KILL_SECONDS):
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
            self.give_up(machine)
            return True

    def give_up(self, machine: Machine) -> None:
        machine.cancel_restart()
        state = msgspec.structs.replace(machine.state, status="exited")
        self._engine.index.observe(machine, msgspec.structs.replace(machine.record, state=state, manually_stopped=True))
        answer_pending(machine)

    def _send(self, machine: Machine, number: int) -> None:
        self.signal(machine, number)
        self._engine.emit(machine, "kill", signal=str(number))
        if number in (9, self._stop_signal(machine)) or not machine.record.config.stop_signal:
            continue_now(self._engine, machine)

    def signal(self, machine: Machine, number: int) -> None:
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
        try:
            return parse_signal(machine.record.config.stop_signal or "SIGTERM")
        except InvalidParameter:  # an image may say anything
            return parse_signal("SIGTERM")

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
        self.signal(machine, number)
        self._engine.emit(machine, "kill", signal=str(number))
        continue_now(self._engine, machine)
        if not await ended(machine, None if seconds < 0 else float(seconds)):
            self.signal(machine, 9)
            self._engine.emit(machine, "kill", signal="9")
            if not await ended(machine, KILL_SECONDS):
                raise KistError(f"container {machine.name} did not end within {KILL_SECONDS:.0f} s of SIGKILL")
        self._engine.emit(machine, "stop")


async def ended(machine: Machine, seconds: float | None) -> bool:
    try:
        await asyncio.wait_for(machine.ended.wait(), seconds)
    except TimeoutError:
        return False
    return True
