"""`exec`: processes beside a container's first one."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets

import msgspec

from kist.container import links
from kist.container.engine import Engine
from kist.container.errors import exec_error
from kist.container.launching import default_filter, shares_with_host
from kist.container.machine import ExecState, Machine
from kist.model.config import ExecConfig
from kist.model.errors import Conflict, InvalidParameter, NotFound
from kist.runtime import foreign, plan, seccomp
from kist.runtime.launch import ExecRequest
from kist.runtime.security import parse_security_options, tweak_capabilities
from kist.runtime.spec import capabilities_of, environment, rlimits
from kist.runtime.supervisor import AttachClient, LaunchFailed, Message, plan_file

log = logging.getLogger(__name__)


class Execs:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._by_id: dict[str, Machine] = {}

    def create(self, machine: Machine, asked: str, config: ExecConfig) -> str:
        """The id of an exec that is to be started. Raises Conflict with Docker's texts, InvalidParameter.

        `asked` is the name or id the user gave.
        """
        _check_usable(machine, asked)
        if not config.cmd:
            raise InvalidParameter("No exec command specified")
        return self._add(machine, config).id

    def _add(self, machine: Machine, config: ExecConfig) -> ExecState:
        one = ExecState(secrets.token_hex(32), machine.id, config)
        machine.execs[one.id] = one
        self._by_id[one.id] = machine
        self._forget_gone()
        self._engine.emit(machine, f"exec_create: {_told(config)}", execID=one.id)
        return one

    def create_probe(self, machine: Machine, config: ExecConfig) -> ExecState:
        """The same for a health check, which waits for `ended`."""
        _check_usable(machine, machine.id)
        one = self._add(machine, config)
        one.probe, one.ended = True, asyncio.get_running_loop().create_future()
        return one

    def forget_probe(self, machine: Machine) -> None:
        """The last probe of a health check can be inspected until the next."""
        for one in [one for one in machine.execs.values() if one.probe and one.exit_code is not None]:
            del machine.execs[one.id]
            self._by_id.pop(one.id, None)

    @staticmethod
    def kill(machine: Machine, one: ExecState) -> None:
        """SIGKILL to all processes of its session's first group; nothing when it has ended or its monitor is gone."""
        if one.exit_code is None and machine.handle is not None and not machine.handle.closed:
            machine.handle.send({"command": "exec_kill", "id": one.id})

    def _forget_gone(self) -> None:
        """Execs go with their container, and the oldest ended ones when there are very many."""
        if len(self._by_id) > 1024:
            for exec_id, machine in list(self._by_id.items()):
                state = machine.execs.get(exec_id)
                if machine.removed.is_set() or state is None or state.exit_code is not None:
                    machine.execs.pop(exec_id, None)
                    del self._by_id[exec_id]

    def find(self, exec_id: str) -> tuple[Machine, ExecState]:
        """Raises NotFound with Docker's text."""
        machine = self._by_id.get(exec_id)
        if machine is None or exec_id not in machine.execs or machine.removed.is_set():
            raise NotFound(f"No such exec instance: {exec_id}")
        return machine, machine.execs[exec_id]

    def check_startable(self, machine: Machine, state: ExecState) -> None:
        if state.exit_code is not None:
            raise Conflict(f"exec command {state.id} has already run")
        if state.started:
            raise Conflict(f"exec command {state.id} is already running")
        _check_usable(machine, machine.id)

    async def start(
        self, machine: Machine, state: ExecState, client: AttachClient | None, console: tuple[int, int] | None
    ) -> None:
        """Runs it, its streams on the client's connection. Raises InvalidParameter, KistError; the exit code is set."""
        self.check_startable(machine, state)
        assert machine.handle is not None
        state.started = True
        state.outcome = asyncio.get_running_loop().create_future()
        request = self._request(machine, state, client, console)
        if self._engine.is_foreign(machine):
            message, steps = foreign.exec_start(request)
        else:
            message, steps = plan.exec_start(request, shares_with_host(machine))
        message["kept"] = msgspec.json.encode(_Kept(state.config, state.probe)).decode()
        if client is not None:
            message["client"] = client.message()
        self._engine.emit(machine, f"exec_start: {_told(state.config)}", execID=state.id)
        with plan_file(steps) as unread:
            machine.handle.send(message, [unread, *([client.descriptor] if client is not None else [])])
        try:
            await state.outcome
        except LaunchFailed as failure:
            error, code = exec_error(failure)
            state.exit_code = code
            raise error from failure

    def restore(self, machine: Machine, told: list[Message]) -> None:
        """Execs of an earlier kistd as the monitor tells of them: their clients still resize and ask for exit codes."""
        for one in told:
            try:
                config, probe = _read_kept(one["kept"])
            except msgspec.MsgspecError as error:
                log.warning("exec %s of container %s cannot be read: %s", one["id"], machine.id, error)
                continue
            code, pid = one.get("code"), one.get("pid", 0)
            if probe:  # nobody waits for it any more; the health check goes on with a new one
                if code is None and machine.handle is not None:
                    machine.handle.send({"command": "exec_kill", "id": one["id"]})
                continue
            state = ExecState(one["id"], machine.id, config, True, code is None, pid, code)
            machine.execs[state.id] = state
            self._by_id[state.id] = machine

    def _request(
        self, machine: Machine, state: ExecState, client: AttachClient | None, console: tuple[int, int] | None
    ) -> ExecRequest:
        record, config = machine.record, state.config
        asked = record.host_config
        privileged = config.privileged
        capabilities = (
            tweak_capabilities((), (), True, self._engine.host.capabilities)
            if privileged
            else capabilities_of(asked, self._engine.host)
        )
        options = parse_security_options(asked.security_opt or ())
        program, flags = b"", 0
        if not privileged and not asked.privileged and options.seccomp != "unconfined":
            chosen = frozenset(capabilities)
            if options.seccomp:
                program, flags = seccomp.user_program(options.seccomp, chosen)
            else:
                program, flags = default_filter(self._engine.defaults.seccomp_profile, chosen)
        return ExecRequest(
            exec_id=state.id,
            args=tuple(config.cmd or ()),
            env=_environment(machine, config, links.present(self._engine.index, record)),
            cwd=config.working_dir or record.config.working_dir or "/",
            user=config.user or record.config.user,
            extra_groups=() if config.user else tuple(asked.group_add or ()),
            tty=config.tty,
            stdin=config.attach_stdin and client is not None,
            stdout=config.attach_stdout and client is not None,
            stderr=config.attach_stderr and client is not None,
            console_size=console or config.console_size or (0, 0),
            capabilities=capabilities,
            no_new_privileges=(
                self._engine.host.no_new_privileges if options.no_new_privileges is None else options.no_new_privileges
            ),
            rlimits=rlimits(asked.ulimits or (), self._engine.host),
            oom_score_adj=asked.oom_score_adj,
            seccomp_program=program,
            seccomp_flags=flags,
        )

    def resize(self, machine: Machine, state: ExecState, height: int, width: int) -> None:
        _check_running(machine)
        if state.exit_code is not None:
            raise NotFound("no such exec")
        if not state.running or machine.handle is None:
            raise InvalidParameter("exec process is not started")
        machine.handle.send({"command": "exec_resize", "id": state.id, "height": height, "width": width})


class _Kept(msgspec.Struct, frozen=True):
    """What a monitor keeps of an exec for the next kistd."""

    config: ExecConfig
    probe: bool = False


def _read_kept(text: str) -> tuple[ExecConfig, bool]:
    """Raises MsgspecError. Earlier kistds had the configuration alone."""
    if not text.startswith('{"config"'):
        return msgspec.json.decode(text, type=ExecConfig), False
    kept = msgspec.json.decode(text, type=_Kept)
    return kept.config, kept.probe


def _told(config: ExecConfig) -> str:
    """The command as events have it, with Docker's blank behind a program without arguments."""
    program, *arguments = config.cmd or [""]
    return f"{program} {' '.join(arguments)}"


def _check_usable(machine: Machine, shown: str) -> None:
    machine.check_not_restarting()
    _check_running(machine)
    _check_not_paused(machine, shown)


def _check_running(machine: Machine) -> None:
    machine.check_controllable()
    if not machine.state.alive or machine.handle is None:
        raise Conflict(f"container {machine.id} is not running")


def _check_not_paused(machine: Machine, shown: str) -> None:
    if machine.state.paused:
        raise Conflict(f"Container {shown} is paused, unpause the container before exec")


def _environment(machine: Machine, config: ExecConfig, linked: list[links.Linked]) -> tuple[str, ...]:
    told = [variable for link in linked for variable in link.environment()]
    found = dict(one.split("=", 1) for one in environment(machine.record, told) if "=" in one)
    if config.tty:
        found.setdefault("TERM", "xterm")
    for variable in config.env or ():
        name, equals, value = variable.partition("=")
        if equals:
            found[name] = value
        else:
            found.pop(name, None)
    return tuple(f"{name}={value}" for name, value in found.items())


def write_failure(descriptor: int, text: str, multiplexed: bool) -> None:
    """Tells a client that is attached already why its exec failed, as a frame of its standard output."""
    data = f"{text}\r\n".encode()
    if multiplexed:
        data = b"\x01\0\0\0" + len(data).to_bytes(4, "big") + data
    try:
        os.write(descriptor, data)
    except OSError:
        return
