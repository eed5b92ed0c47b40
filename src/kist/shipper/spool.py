"""One container's directory of the shipper: the log that its monitor writes, what is to be done with it, how far it is.

<data root>/shipping/<container>/
    <container>-json.log …  written and rotated by the monitor; `docker logs` reads it
    task.json               driver, options, container: written by kistd at each start
    shipped                 file and offset up to which all is sent: replaced by the shipper after each batch
    wake                    a FIFO that a living monitor holds open; written to when `shipped` has changed
    removed                 the container is gone: the directory goes when the rest is sent
"""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from kist.shipper.driver import Info


class Task(msgspec.Struct, frozen=True):
    driver: str
    info: Info
    compress: bool = False
    lag_limit: int | None = None  # bytes that may be unsent while the server is away; what is older is given up


class Position(msgspec.Struct, frozen=True):
    """`offset` in the file of that inode; `head` checks that it is that file still."""

    inode: int
    offset: int
    head: int  # CRC-32 of the file's first bytes, at most 256 and at most `offset`
    partials: dict[str, tuple[str, int]] = {}  # by stream: id and ordinal of the piece sent last


class Spool:
    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.id = os.path.basename(directory)
        self.log = f"{directory}/{self.id}-json.log"
        self.shipped, self.wake_path = f"{directory}/shipped", f"{directory}/wake"
        self._removed = f"{directory}/removed"

    def prepare(self, task: Task) -> None:
        """Before each start. Raises OSError."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        if not os.path.exists(self.wake_path):
            os.mkfifo(self.wake_path, 0o600)
        self._replace("task.json", msgspec.json.encode(task))

    def task(self) -> Task | None:
        """None when there is none, or none that can be read."""
        try:
            with open(f"{self.directory}/task.json", "rb") as file:
                return msgspec.json.decode(file.read(), type=Task)
        except (OSError, msgspec.DecodeError, msgspec.ValidationError):
            return None

    def position(self) -> Position | None:
        try:
            with open(self.shipped, "rb") as file:
                inode, offset, rest = file.read().split(b" ", 2)
            head, partials = msgspec.json.decode(rest, type=tuple[int, dict[str, tuple[str, int]]])
            return Position(int(inode), int(offset), head, partials)
        except (OSError, ValueError, msgspec.DecodeError):
            return None

    def save(self, position: Position) -> None:
        """Raises OSError. Inode and offset come first, in plain digits: monitors read them."""
        rest = msgspec.json.encode((position.head, position.partials))
        self._replace("shipped", b"%d %d %s" % (position.inode, position.offset, rest))
        self.wake()

    def _replace(self, name: str, data: bytes) -> None:
        path = f"{self.directory}/{name}"
        with open(f"{path}.new", "wb") as file:
            file.write(data)
        os.replace(f"{path}.new", path)

    def wake(self) -> bool:
        """Tells a monitor that something was sent; whether there is one that may write more."""
        try:
            descriptor = os.open(self.wake_path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # ENXIO: nobody has it open, fifo(7)
            return False
        with suppress(BlockingIOError):
            os.write(descriptor, b"\x00")
        os.close(descriptor)
        return True

    def mark_removed(self) -> None:
        """Raises OSError."""
        os.close(os.open(self._removed, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    @property
    def removed(self) -> bool:
        return os.path.exists(self._removed)


def spools(root: str) -> list[Spool]:
    try:
        return [Spool(entry.path) for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
