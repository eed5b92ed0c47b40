"""Messages between kistd and a monitor: a length, a count of descriptors, JSON; descriptors by SCM_RIGHTS.

A frame is `>IB` (bytes of JSON, number of descriptors), then the JSON. Descriptors travel with the frame's first byte,
so their order is the order of the frames.

VERSION is in the monitor's greeting: the next kistd may be newer. 1: the greeting lists running execs as `{id: pid}`.
2: the greeting brings a list of execs, running ones and the latest that ended, each with what kistd gave the monitor
to keep for it; plans come as descriptors. 3: `attach` may hold a client's output back until `let_go`. 4: `nameserver`
asks for the sockets of the container's name server, UDP and TCP, which come with the event of that name, none where
there is none; with `open` they are made for a container that runs without, and `failure` is why they could not.
kistd adopts monitors of every version in ADOPTABLE.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections import deque
from typing import Any

VERSION = 4
ADOPTABLE = (1, 2, 3, 4)
HOLDS = 3  # the first version whose monitors hold output back
NAMESERVERS = 4  # the first version whose monitors hold the sockets of a name server
_HEAD = struct.Struct(">IB")
_LIMIT = 64 << 20
# As plain numbers: arithmetic with the socket module's flags is slow Python (enum.IntFlag).
_NO_SIGNAL, _CLOSE_ON_EXEC = int(socket.MSG_NOSIGNAL), int(socket.MSG_CMSG_CLOEXEC)
_SOL_SOCKET, _RIGHTS = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS)
STREAM = int(socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
SEQPACKET = int(socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
_RIGHTS_SPACE = socket.CMSG_SPACE(4 * 253)  # SCM_MAX_FD (net/scm.h)

Message = dict[str, Any]
LOST = "descriptors_lost"  # in a message whose descriptors did not arrive


class Closed(Exception):
    """The other side is gone."""


def pack(message: Message, descriptors: int) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode()
    return _HEAD.pack(len(body), descriptors) + body


def rights(descriptors: list[int]) -> list[tuple[int, int, bytes]]:
    """Ancillary data that passes descriptors (unix(7))."""
    if not descriptors:
        return []
    return [(_SOL_SOCKET, _RIGHTS, array.array("i", descriptors).tobytes())]


def send(connection: socket.socket, message: Message, descriptors: list[int] | None = None) -> None:
    """Sends a whole message on a blocking socket. Raises OSError."""
    send_frame(connection, json.dumps(message, separators=(",", ":")).encode(), descriptors or [])


def send_frame(connection: socket.socket, body: bytes, descriptors: list[int]) -> None:
    """The same of bytes."""
    data = _HEAD.pack(len(body), len(descriptors)) + body
    sent = connection.sendmsg([data], rights(descriptors), _NO_SIGNAL)
    if sent < len(data):
        connection.sendall(data[sent:], _NO_SIGNAL)


def receive(connection: socket.socket) -> tuple[Message, list[int]]:
    """Exactly one message from a blocking socket; what follows stays there. Raises Closed, OSError."""
    body, descriptors = receive_frame(connection)
    return json.loads(body), descriptors


def receive_frame(connection: socket.socket) -> tuple[bytearray, list[int]]:
    """The same before it is decoded."""
    head, descriptors = b"", []
    while len(head) < _HEAD.size:
        data, ancillary, _, _ = connection.recvmsg(_HEAD.size - len(head), _RIGHTS_SPACE, _CLOSE_ON_EXEC)
        descriptors += _passed(ancillary)
        if not data:
            raise Closed
        head += data
    length, _ = _HEAD.unpack(head)
    if length > _LIMIT:
        raise Closed
    body = bytearray(length)
    view = memoryview(body)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise Closed
        view = view[count:]
    return body, descriptors


def _passed(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came along."""
    found: list[int] = []
    for level, kind, payload in ancillary:
        if level == _SOL_SOCKET and kind == _RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
            found += numbers
    return found


class Receiver:
    """Puts a stream of frames together again. Descriptors it holds and nobody took are closed with it."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._descriptors: deque[int] = deque()

    def read(self, connection: socket.socket) -> list[tuple[Message, list[int]]]:
        """One recvmsg(2) and the messages it completed. Raises Closed at the end."""
        data, ancillary, _, _ = connection.recvmsg(1 << 16, _RIGHTS_SPACE, _CLOSE_ON_EXEC)
        self._descriptors.extend(_passed(ancillary))
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
            if len(self._descriptors) < count:  # this process may have no more: the kernel closed the rest (unix(7))
                self._close_descriptors()
                message[LOST], count = True, 0
            found.append((message, [self._descriptors.popleft() for _ in range(count)]))
        return found

    def close(self) -> None:
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popleft())
