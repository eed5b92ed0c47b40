"""Connections taken over: a terminal or three streams on this side, a container on the other."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import sys
import termios
import time
import tty
from collections.abc import Callable

from kist.client.http import Stream
from kist.model.errors import KistError

_CHUNK = 1 << 16
_CONTROLS = "abcdefghijklmnopqrstuvwxyz@[\\]^_"
ESCAPE = "read escape sequence"


class Detached(KistError):
    """The detach keys were typed."""


def parse_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` as bytes; "" is the default, and so are, with Docker's warning, keys that do not exist."""
    found = bytearray()
    for key in (text or "ctrl-p,ctrl-q").split(","):
        if key.startswith("ctrl-") and len(key) == 6 and key[5] in _CONTROLS:
            found.append(ord(key[5].upper()) & 0x1F)
        elif len(key) == 1 and key.isascii():
            found += key.encode()
        else:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            why = f"invalid detach escape keys, using default: Unknown character: '{key}'"
            print(f'time="{now}" level=warning msg="{why}"', file=sys.stderr)
            return parse_keys("")
    return bytes(found)


_FATAL = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


class RawTerminal:
    """The terminal of this process in raw mode while the block lasts; it is restored when a signal ends it, too."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted and os.isatty(0)
        self._handled: list[signal.Signals] = []

    def __enter__(self) -> None:
        if self._wanted:
            self._saved = termios.tcgetattr(0)
            for number in _FATAL:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    signal.signal(number, self._killed)
                    self._handled.append(number)
            tty.setraw(0, termios.TCSANOW)  # what was typed already is for the container

    def __exit__(self, *_: object) -> None:
        if self._wanted:
            termios.tcsetattr(0, termios.TCSANOW, self._saved)
            for number in self._handled:
                signal.signal(number, signal.SIG_DFL)

    def _killed(self, number: int, _: object) -> None:
        """Restores, and dies of it, as who waits for this process expects."""
        self.__exit__()
        os.kill(os.getpid(), number)


def terminal_size() -> tuple[int, int]:
    """(height, width) of the terminal on standard output, zeros when there is none."""
    try:
        height, width, _, _ = struct.unpack("HHHH", fcntl.ioctl(1, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return 0, 0
    return height, width


class Session:
    """Pumps until the container's side ends. `stdin` False: nothing is sent but the half-close."""

    def __init__(
        self, connection: Stream, early: bytes, *, stdin: bool, multiplexed: bool, keys: bytes, raw: bool
    ) -> None:
        self._connection, self._early = connection, early
        self._stdin, self._multiplexed = stdin, multiplexed
        self._keys, self._matched, self._raw = keys, 0, raw
        self._frame = b""
        self._left = 0
        self._target = 1

    def pump(self, wake: int = -1, on_wake: Callable[[], bool] = lambda: False) -> None:
        """Raises Detached. `wake` is a descriptor to watch besides; `on_wake` answers whether to stop."""
        if self._early:
            self._output(self._early)
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        if self._stdin:
            poll.register(0, select.POLLIN)
        if wake >= 0:
            poll.register(wake, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._connection.fileno():
                    data = self._receive()
                    if not data:
                        return
                    self._output(data)
                elif descriptor == wake:
                    if on_wake():
                        return
                elif not self._input():
                    poll.unregister(0)

    def _receive(self) -> bytes:
        try:
            return self._connection.recv(_CHUNK)
        except ConnectionResetError:
            return b""

    def _input(self) -> bool:
        try:
            data = os.read(0, _CHUNK)
        except OSError:
            data = b""
        if not data:
            self._half_close()
            return False
        data, detached = self._without_keys(data)
        if data:
            try:
                self._connection.sendall(data)
            except OSError:
                return False
        if detached:
            raise Detached(ESCAPE)
        return True

    def _half_close(self) -> None:
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def _without_keys(self, data: bytes) -> tuple[bytes, bool]:
        keys = self._keys
        if not self._raw or not keys:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == keys[self._matched]:
                self._matched += 1
                if self._matched == len(keys):
                    return bytes(out), True
                continue
            out += keys[: self._matched]
            out.append(byte)  # as docker has it, it does not begin the sequence anew
            self._matched = 0
        return bytes(out), False

    def _output(self, data: bytes) -> None:
        if not self._multiplexed:
            write_all(1, data)
            return
        data = self._frame + data
        position = 0
        pieces: list[bytes] = []
        target = self._target
        while position < len(data):
            if self._left == 0:
                if len(data) - position < 8:
                    break
                stream, self._left = struct.unpack_from(">BxxxI", data, position)
                position += 8
                if stream != target:
                    if pieces:
                        write_all(target, b"".join(pieces))
                        pieces = []
                    target = 2 if stream == 2 else 1
                continue
            piece = data[position : position + self._left]
            pieces.append(piece)
            position += len(piece)
            self._left -= len(piece)
        if pieces:
            write_all(target, b"".join(pieces))
        self._target = target
        self._frame = data[position:]


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def follow_size(resize: Callable[[int, int], None]) -> Callable[[], None]:
    """Tells the container the terminal's size, now and when it changes; call the answer to stop."""
    last = (0, 0)

    def tell(*_: object) -> None:
        nonlocal last
        size = terminal_size()
        if size != last and all(size):
            last = size
            try:
                resize(*size)
            except KistError:
                return

    tell()
    before = signal.signal(signal.SIGWINCH, tell)

    def stop() -> None:
        signal.signal(signal.SIGWINCH, before)

    return stop


def demultiplex(chunks: object) -> None:
    """The frames of `logs` to standard output and error."""
    session = Session(socket.socket(), b"", stdin=False, multiplexed=True, keys=b"", raw=False)
    assert hasattr(chunks, "__iter__")
    for chunk in chunks:
        session._output(chunk)
    session._connection.close()


def check_terminal(wants_tty: bool, wants_stdin: bool) -> None:
    """Raises KistError with Docker's text: -t and -i want a terminal on standard input."""
    if wants_tty and wants_stdin and not os.isatty(sys.stdin.fileno()):
        raise KistError("the input device is not a TTY")


def carry(connection: Stream) -> None:
    """Standard input to the connection and the connection to standard output, each direction ending by itself, until
    the daemon's side has ended or nobody is left to read it. Neither direction waits for the other."""
    inward = outward = b""  # what was read and not yet passed on
    reading = True
    descriptor = connection.fileno()
    while True:
        poll = select.poll()
        poll.register(1, select.POLLOUT if outward else 0)  # POLLERR and POLLHUP come unasked
        if reading and not inward:
            poll.register(0, select.POLLIN)
        if inward or not outward:
            poll.register(descriptor, (0 if outward else select.POLLIN) | (select.POLLOUT if inward else 0))
        ready = dict(poll.poll())
        if ready.get(1, 0) & ~select.POLLOUT:
            return
        if ready.get(1):
            outward = outward[os.write(1, outward[: select.PIPE_BUF]) :]
        if ready.get(0):
            inward = os.read(0, _CHUNK)
            if not inward:
                reading = False
                connection.shutdown(socket.SHUT_WR)
        if ready.get(descriptor, 0) & ~select.POLLIN and inward:
            inward = inward[_send_some(connection, inward) :]
        if ready.get(descriptor, 0) & ~select.POLLOUT and not outward:
            outward = connection.recv(_CHUNK)
            if not outward:
                return


def _send_some(connection: Stream, data: bytes) -> int:
    """How much was taken; all of it by a side that takes no more."""
    try:
        if isinstance(connection, socket.socket):
            return connection.send(data, socket.MSG_DONTWAIT)
        connection.sendall(data)
    except BlockingIOError:
        return 0
    except OSError:
        pass
    return len(data)
