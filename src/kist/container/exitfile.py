"""What a monitor wrote down of its container's end, for who comes when it is gone (`monitor.starter.write_file`)."""

from __future__ import annotations

import contextlib
import json

from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.model.timestamp import nanoseconds
from kist.runtime.supervisor import Message


def read_exit(engine: Engine, machine: Machine) -> Message | None:
    """The end of the life that the record tells of, not of one before it; None when nothing was written of it."""
    state = machine.state
    with contextlib.suppress(OSError, ValueError), open(f"{engine.run_dir(machine)}/exit", "rb") as file:
        event: Message = json.load(file)
        if event.get("pid") == state.pid or event.get("finished_at", 0) >= nanoseconds(state.started_at):
            return event
    return None
