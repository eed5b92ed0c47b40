"""What the command keeps of a container between its calls: a directory below `--root`, named by the container's id.

`state.json` is what is known of it, `start.sock` is there while init waits to be let go. The directory itself is the
lock (flock(2)): commands about one container come one after the other.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from kist.kernel import cgroup, pidfd
from kist.lowlevel.errors import RuntimeFailure

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-")
START_SOCKET = "start.sock"
GO = b"go"  # what `start` says there


class Kept(NamedTuple):
    """`pid` 0: nothing was started. `pid_start` in clock ticks since boot; `cgroup` below each hierarchy's root.

    `hooks` as in config.json. Plain values and json: most commands read this and nothing else, and start fast.
    """

    id: str
    bundle: str
    rootfs: str
    created: str
    oci_version: str
    cgroup: str
    annotations: dict[str, str]
    user_namespace: bool
    hooks: dict[str, list[dict[str, Any]]]
    pid: int = 0
    pid_start: int = 0


class Container:
    """One container of a root. What changes is read anew at every question: others change it too."""

    def __init__(self, directory: str, kept: Kept) -> None:
        self.directory, self.kept = directory, kept
        self.layout = cgroup.detect()

    @property
    def waiting(self) -> bool:
        """Whether init has not been let go."""
        return os.path.exists(f"{self.directory}/{START_SOCKET}")

    def status(self) -> str:
        """creating, created, running, paused or stopped (runtime.md, and what runc calls a frozen one)."""
        if not self.kept.pid:
            return "creating" if _is_locked(self.directory) else "stopped"
        if not alive(self.kept.pid, self.kept.pid_start):
            return "stopped"
        if cgroup.frozen(self.layout, self.kept.cgroup):
            return "paused"
        return "created" if self.waiting else "running"

    def hook_state(self, status: str, pid: int | None = None) -> bytes:
        """The state as hooks get it (runtime.md, State)."""
        state = {
            "ociVersion": self.kept.oci_version,
            "id": self.kept.id,
            "status": status,
            "pid": self.kept.pid if pid is None else pid,
            "bundle": self.kept.bundle,
            "annotations": self.kept.annotations,
        }
        return json.dumps(state, separators=(",", ":")).encode()

    def open_init(self) -> int:
        """A pidfd of init. Raises RuntimeFailure when it does not run."""
        try:
            descriptor = os.pidfd_open(self.kept.pid)
        except (OSError, OverflowError, ValueError) as error:
            raise RuntimeFailure("container not running") from error
        if not alive(self.kept.pid, self.kept.pid_start):  # asked after it was opened: it cannot become another's now
            os.close(descriptor)
            raise RuntimeFailure("container not running")
        return descriptor

    def save(self, kept: Kept) -> None:
        """Whole or not at all."""
        path = f"{self.directory}/state.json"
        descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(json.dumps(kept._asdict()).encode())
        os.rename(f"{path}.new", path)
        self.kept = kept

    def remove(self) -> None:
        for name in os.listdir(self.directory):
            os.unlink(f"{self.directory}/{name}")
        os.rmdir(self.directory)


def alive(pid: int, start: int) -> bool:
    """Whether that very process runs; one that waits to be reaped does not (proc_pid_stat(5))."""
    try:
        if pid <= 0 or pidfd.start_time(pid) != start:
            return False
        text = cgroup.read(f"/proc/{pid}/stat")
    except OSError:
        return False
    return bool(text) and text[text.rindex(")") + 2] not in "ZX"


def check_id(name: str) -> None:
    """Raises RuntimeFailure: the id becomes a file's name."""
    if not name:
        raise RuntimeFailure("container id cannot be empty")
    if not set(name) <= _LETTERS or name in (".", ".."):
        raise RuntimeFailure("invalid id format")


def make(root: str, kept: Kept) -> Container:
    """A new container's directory. Raises RuntimeFailure when there is one of that id."""
    check_id(kept.id)
    os.makedirs(root, mode=0o711, exist_ok=True)
    directory = f"{root}/{kept.id}"
    try:
        os.mkdir(directory, 0o711)
    except FileExistsError as error:
        raise RuntimeFailure("container with given ID already exists") from error
    container = Container(directory, kept)
    container.save(kept)
    return container


def load(root: str, name: str) -> Container:
    """Raises RuntimeFailure when there is none."""
    check_id(name)
    try:
        with open(f"{root}/{name}/state.json", "rb") as file:
            kept = Kept(**json.load(file))
    except FileNotFoundError as error:
        raise RuntimeFailure("container does not exist") from error
    except (ValueError, TypeError) as error:
        raise RuntimeFailure(f"the state of container {name} cannot be read: {error}") from error
    return Container(f"{root}/{name}", kept)


@contextmanager
def locked(root: str, name: str) -> Iterator[None]:
    """One command at a time. Raises RuntimeFailure when there is no such container."""
    check_id(name)
    try:
        descriptor = os.open(f"{root}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RuntimeFailure("container does not exist") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_locked(directory: str) -> bool:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def all_of(root: str) -> list[Container]:
    """Every container below a root; what is no container's is passed over."""
    found = []
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return []
    for name in names:
        try:
            found.append(load(root, name))
        except (RuntimeFailure, OSError):
            continue
    return found
