"""Blocking mode of logging: a container whose log is sent to a server may not be further ahead of it than a bound.

The shipper keeps how far it is in a file, and writes to a FIFO when that has changed; a monitor looks at the file only
when it has written as much as could be too much. While it waits the container's output stays in the pipe.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from kist.logs.writer import JsonFileWriter


class Pace:
    """`wake` is the FIFO, open for reading and writing so that it never ends."""

    def __init__(self, log: JsonFileWriter, shipped: str, bound: int, wake: int, hold: Callable[[], None]) -> None:
        self._log, self._shipped, self._bound = log, shipped, bound
        self.wake = wake
        self._hold = hold
        self._room = 0

    def write(self, stream: bytes, data: bytes) -> None:
        before = self._log.size
        self._log.write(stream, data)
        after = self._log.size
        self._room -= after - before if after > before else after
        if self._room < 0 and not self.has_room():
            self._hold()

    def has_room(self) -> bool:
        try:
            while os.read(self.wake, 4096):
                continue
        except BlockingIOError:
            pass
        self._room = self._bound - self._lag()
        return self._room > 0

    def _lag(self) -> int:
        """Bytes written and not sent. Compressed files are sent already."""
        inode = offset = 0
        try:
            with open(self._shipped, "rb") as file:
                inode, offset = map(int, file.read().split(b" ", 2)[:2])
        except (OSError, ValueError):
            pass
        total = number = 0
        while True:
            try:
                status = os.stat(f"{self._log.path}.{number}" if number else self._log.path)
            except FileNotFoundError:
                return total
            if status.st_ino == inode:
                return total + status.st_size - offset
            total, number = total + status.st_size, number + 1

    def unwritten(self) -> list[tuple[bytes, bytes]]:
        return self._log.unwritten()

    def flush(self) -> None:
        self._log.flush()

    def close(self) -> None:
        self._log.close()
