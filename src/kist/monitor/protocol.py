"""Messages between kistd and a monitor: a length, a count of descriptors, JSON; descriptors by SCM_RIGHTS.

A frame is `>IB` (bytes of JSON, number of descriptors), then the JSON. Descriptors travel with the frame's first byte,
so their order is the order of the frames.

VERSION is in the monitor's greeting: the next kistd may be newer. 1: the greeting lists running execs as `{id: pid}`.
2: the greeting brings `kept`, what kistd gave the monitor to keep with the container, and a list of execs, running ones
and the latest that ended, each with what was kept for it. kistd adopts monitors of every version in ADOPTABLE.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections import deque
from typing import Any

VERSION = 2
ADOPTABLE = (1, 2)
_HEAD = struct.Struct(">IB")
_LIMIT = 64 << 20
_MAX_FDS = 16

Message = dict[str, Any]


class Closed(Exception):
    """The other side is gone."""


def pack(message: Message, descriptors: int) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode()
    return _HEAD.pack(len(body), descriptors) + body


def rights(descriptors: list[int]) -> list[tuple[int, int, bytes]]:
    """Ancillary data that passes descriptors (unix(7))."""
    if not descriptors:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes())]


def send(connection: socket.socket, message: Message, descriptors: list[int] | None = None) -> None:
    """Sends a whole message on a blocking socket. Raises OSError."""
    fds = descriptors or []
    data = pack(message, len(fds))
    sent = connection.sendmsg([data], rights(fds), socket.MSG_NOSIGNAL)
    if sent < len(data):
        connection.sendall(data[sent:], socket.MSG_NOSIGNAL)


class Receiver:
    """Puts a stream of frames together again. Descriptors it holds and nobody took are closed with it."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._descriptors: deque[int] = deque()

    def read(self, connection: socket.socket) -> list[tuple[Message, list[int]]]:
        """One recvmsg(2) and the messages it completed. Raises Closed at the end."""
        data, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(4 * _MAX_FDS), socket.MSG_CMSG_CLOEXEC)
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                self._descriptors.extend(numbers)
        if not data:
            raise Closed
        self._data += data
        return self._complete()

    def _complete(self) -> list[tuple[Message, list[int]]]:
        found = []
        while len(self._data) >= _HEAD.size:
            length, count = _HEAD.unpack_from(self._data)
            if length > _LIMIT:
                raise Closed
            end = _HEAD.size + length
            if len(self._data) < end:
                break
            message = json.loads(bytes(self._data[_HEAD.size : end]))
            del self._data[:end]
            found.append((message, [self._descriptors.popleft() for _ in range(count)]))
        return found

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popleft())
