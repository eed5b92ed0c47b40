"""Hearing of changes to files (inotify(7))."""

from __future__ import annotations

import os
import struct

from kist.kernel.libc import check, libc

IN_MODIFY, IN_MOVE_SELF, IN_DELETE_SELF, IN_MOVED_TO, IN_CREATE = 0x2, 0x800, 0x400, 0x80, 0x100
IN_CLOSE_WRITE, IN_DELETE = 0x8, 0x200
_NONBLOCK, _CLOEXEC = 0o4000, 0o2000000
_EVENT = struct.Struct("=iIII")


class Inotify:
    """A descriptor that becomes readable when something watched changes."""

    def __init__(self) -> None:
        self._descriptor = check(libc.inotify_init1(_NONBLOCK | _CLOEXEC), "inotify_init1")

    def fileno(self) -> int:
        return self._descriptor

    def watch(self, path: str, mask: int) -> int:
        return check(libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask), "inotify_add_watch", path)

    def forget(self, watch: int) -> None:
        """Ends a watch, if it has not ended with what it watched."""
        libc.inotify_rm_watch(self._descriptor, watch)

    def events(self) -> list[tuple[int, int, str]]:
        """What is there: (number of the watch, mask, name in the watched directory or "")."""
        found = []
        try:
            while data := os.read(self._descriptor, 1 << 16):
                offset = 0
                while offset < len(data):
                    watch, mask, _, length = _EVENT.unpack_from(data, offset)
                    offset += _EVENT.size
                    found.append((watch, mask, os.fsdecode(data[offset : offset + length].rstrip(b"\0"))))
                    offset += length
        except BlockingIOError:
            pass
        return found

    def close(self) -> None:
        os.close(self._descriptor)
