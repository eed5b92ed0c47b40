"""Checkpoints of containers: where they lie, and why none can be made here."""

from __future__ import annotations

import os
import shutil

from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.container.names import ALLOWED
from kist.model.errors import InvalidParameter, KistError, NotModified, NotSupported


def _directory(engine: Engine, machine: Machine, directory: str) -> str:
    return directory or f"{engine.directory(machine.id)}/checkpoints"


def names(engine: Engine, machine: Machine, directory: str) -> list[str]:
    """`directory` "": the container's own."""
    try:
        with os.scandir(_directory(engine, machine, directory)) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def create(engine: Engine, machine: Machine, asked: str, checkpoint: str, directory: str) -> None:
    """Raises, with dockerd's texts, what is wrong with the request, or that criu is not to be had."""
    if not machine.state.alive:
        raise KistError(f"Container {asked} not running")
    if not checkpoint or not set(checkpoint) <= ALLOWED or not checkpoint[0].isalnum():
        raise InvalidParameter(f"Invalid checkpoint ID ({checkpoint}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    if checkpoint in names(engine, machine, directory):
        raise KistError(f"checkpoint with the name {checkpoint} already exists for container {asked}")
    if shutil.which("criu") is None:
        raise KistError(
            f'Cannot checkpoint container {asked}: CRIU version check failed: exec: "criu": executable file not found '
            "in $PATH"
        )
    raise NotSupported(f"Cannot checkpoint container {asked}: checkpoints by criu are not supported by this engine yet")


def remove(engine: Engine, machine: Machine, asked: str, checkpoint: str, directory: str) -> None:
    _find(engine, machine, asked, checkpoint, directory)
    raise NotSupported(f"checkpoint {checkpoint} of container {asked} was not made by this engine: it is not removed")


def check_start(engine: Engine, machine: Machine, checkpoint: str) -> None:
    """Raises NotModified when it runs, KistError when there is no such checkpoint."""
    if machine.state.running:
        raise NotModified("container is already running")
    _find(engine, machine, f"/{machine.name}", checkpoint, "")
    raise NotSupported(f"container {machine.name} cannot be started from a checkpoint by this engine yet")


def _find(engine: Engine, machine: Machine, asked: str, checkpoint: str, directory: str) -> None:
    if checkpoint not in names(engine, machine, directory):
        raise KistError(f"checkpoint {checkpoint} does not exist for container {asked}")
