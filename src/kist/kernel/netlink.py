"""The netlink protocol (netlink(7)): messages, attributes, acknowledgements, dumps. One codec for every family."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
# linux/netlink.h
NLMSG_ERROR, NLMSG_DONE = 2, 3
_RAW = int(socket.SOCK_RAW | socket.SOCK_CLOEXEC)
_ANSWER = 1 << 16  # the kernel fills at most half of it
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x01, 0x04, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF
NLMSGERR_ATTR_MSG = 1
SOL_NETLINK, NETLINK_EXT_ACK = 270, 11
_HEADER = struct.Struct("=IHHII")


def attribute(kind: int, payload: bytes) -> bytes:
    """struct nlattr with its payload, padded to four bytes."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) & 3)


def nested(kind: int, payload: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, payload)


def attributes(data: bytes) -> dict[int, bytes]:
    """Attribute type -> payload; of a repeated type the last."""
    return dict(attribute_list(data))


def attribute_list(data: bytes) -> list[tuple[int, bytes]]:
    found, offset = [], 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found.append((kind & NLA_TYPE_MASK, data[offset + 4 : offset + length]))
        offset += length + 3 & ~3
    return found


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """struct nlmsghdr with its body."""
    return _HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body


class NetlinkSocket:
    """A socket that asks and waits for the answer. Not for use by two threads. `port`: who asked, in the kernel's
    messages to listeners.
    """

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, _RAW, protocol)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.bind((0, 0))
        self.port = int(self._socket.getsockname()[0])
        self._sequence = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes) -> None:
        """One request, acknowledged. Raises OSError with the kernel's own explanation."""
        self.batch([(kind, flags, body)])

    def batch(self, requests: Sequence[tuple[int, int, bytes]]) -> None:
        """Requests (type, flags, body) in one datagram, each acknowledged. Raises OSError of the first that failed."""
        first = self._sequence + 1
        data = b"".join(
            message(kind, flags | NLM_F_REQUEST | NLM_F_ACK, first + number, body)
            for number, (kind, flags, body) in enumerate(requests)
        )
        self._sequence += len(requests)
        self._socket.send(data)
        self._acknowledged(set(range(first, first + len(requests))))

    def transaction(self, begin: bytes, requests: Sequence[tuple[int, int, bytes]], end: bytes) -> None:
        """Requests between two messages that are not acknowledged (nfnetlink's batches): all or nothing."""
        first = self._sequence + 1
        self._sequence += len(requests) + 1
        middle = b"".join(
            message(kind, flags | NLM_F_REQUEST | NLM_F_ACK, first + number, body)
            for number, (kind, flags, body) in enumerate(requests)
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(1 << 20, 2 * len(middle)))
        self._socket.send(begin + middle + end)
        self._acknowledged(set(range(first, first + len(requests))))

    def _acknowledged(self, waiting: set[int]) -> None:
        failure: OSError | None = None
        while waiting:
            data = self._socket.recv(_ANSWER)
            for kind, flags, sequence, body in _messages(data):
                if kind != NLMSG_ERROR or sequence not in waiting:
                    continue
                waiting.discard(sequence)
                error = _error(body, flags)
                if error is not None:
                    failure = failure or error
                    if sequence == 0 or not waiting:
                        break
            if failure is not None:
                self._drain()
                raise failure

    def _drain(self) -> None:
        self._socket.setblocking(False)
        try:
            while self._socket.recv(_ANSWER):
                continue
        except BlockingIOError:
            pass
        finally:
            self._socket.setblocking(True)

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all messages that answer a dump request. Raises OSError."""
        self._sequence += 1
        self._socket.send(message(kind, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, body))
        found: list[bytes] = []
        while True:
            for answer, flags, sequence, payload in _messages(self._socket.recv(_ANSWER)):
                if sequence != self._sequence:
                    continue
                if answer == NLMSG_DONE:
                    return found
                if answer == NLMSG_ERROR:
                    error = _error(payload, flags)
                    if error is not None:
                        raise error
                    return found
                found.append(payload)


class Listener:
    """Hears of changes that anybody makes. Does not block."""

    def __init__(self, protocol: int, group: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, _RAW | int(socket.SOCK_NONBLOCK), protocol)
        self._socket.bind((0, 1 << (group - 1)))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def heard(self) -> set[int]:
        """The ports of those who made the changes told since; 0 for changes that nobody tells of, as too many came."""
        ports: set[int] = set()
        while True:
            try:
                data = self._socket.recv(_ANSWER)
            except BlockingIOError:
                return ports
            except OSError:  # ENOBUFS: some are lost
                ports.add(0)
                continue
            offset = 0
            while offset + 16 <= len(data):
                length, _, _, _, port = _HEADER.unpack_from(data, offset)
                ports.add(port)
                offset += max(16, length + 3 & ~3)


def _messages(data: bytes) -> list[tuple[int, int, int, bytes]]:
    found, offset = [], 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        found.append((kind, flags, sequence, data[offset + 16 : offset + length]))
        offset += length + 3 & ~3
    return found


def _error(body: bytes, flags: int) -> OSError | None:
    number = -struct.unpack_from("=i", body)[0]
    if number == 0:
        return None
    told = ""
    if flags & NLM_F_ACK_TLVS:
        echoed = 16 if flags & NLM_F_CAPPED else struct.unpack_from("=I", body, 4)[0]
        text = attributes(body[4 + (echoed + 3 & ~3) :]).get(NLMSGERR_ATTR_MSG, b"")
        told = text.rstrip(b"\0").decode("utf-8", "replace")
    return OSError(number, f"{os.strerror(number)}{f' ({told})' if told else ''}", "netlink")
