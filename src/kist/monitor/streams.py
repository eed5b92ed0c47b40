"""The streams of a container or an exec: its pipes or terminal on one side, the log and attached clients on the other.

What is read from the process goes to the log first and then to every client. A client that does not read keeps its
bytes in memory up to a bound, then in an unlinked file: it stalls nobody but itself.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable
from typing import Protocol

from kist.monitor.loop import GONE, READ, WRITE, Loop

CHUNK = 64 * 1024  # larger reads are slower: they leave the cache
_IN_MEMORY = 4 << 20  # bytes a client may be behind before they go to a file
_HEADER = struct.Struct(">BxxxI")
STDIN, STDOUT, STDERR = 0, 1, 2


class Sink(Protocol):
    def write(self, stream: bytes, data: bytes) -> None: ...
    def flush(self) -> None: ...
    def unwritten(self) -> list[tuple[bytes, bytes]]: ...


class Client:
    """One attached connection. `multiplexed`: frames with a header of eight bytes, as for containers without tty."""

    def __init__(
        self,
        connection: socket.socket,
        *,
        multiplexed: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        detach_keys: bytes,
        leftover: bytes,
        held: str = "",
    ) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.multiplexed = multiplexed
        self.wants = {STDOUT: stdout, STDERR: stderr}
        self.stdin = stdin
        self.leftover = leftover
        self.detach = DetachKeys(detach_keys)
        self.closing = False  # no more will come: close when all is written
        self.held = held  # gets nothing before kistd, which sends past output first, lets go of this name
        self._pending: deque[bytes | memoryview] = deque()
        self._size = 0
        self._spill = -1
        self._spill_read = self._spill_end = 0

    @property
    def behind(self) -> bool:
        """There is something to write."""
        return bool(self._pending) or self._spill_read < self._spill_end

    def queue(self, stream: int, data: bytes) -> None:
        """Raises OSError when the disk has no room for what this client is behind."""
        if self.multiplexed:
            self._put(_HEADER.pack(stream, len(data)))
        self._put(data)

    def _put(self, data: bytes) -> None:
        if self._spill >= 0 or self._size + len(data) > _IN_MEMORY:
            self._to_file(data)
            return
        self._pending.append(data)
        self._size += len(data)

    def _to_file(self, data: bytes) -> None:
        if self._spill < 0:
            directory = "/var/tmp" if os.path.isdir("/var/tmp") else "/tmp"
            self._spill = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        while data:
            written = os.pwrite(self._spill, data, self._spill_end)
            self._spill_end += written
            data = data[written:]

    def flush(self) -> None:
        """Writes what the connection takes. Raises OSError when it is broken; BlockingIOError never leaves."""
        while not self.held:
            while self._pending:
                first = self._pending[0]
                try:
                    sent = self.connection.send(first, socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    return
                self._size -= sent
                if sent < len(first):
                    self._pending[0] = memoryview(first)[sent:]
                else:
                    self._pending.popleft()
            if self._spill_read >= self._spill_end:
                self._close_spill()
                return
            chunk = os.pread(self._spill, 1 << 20, self._spill_read)
            self._spill_read += len(chunk)
            self._pending.append(chunk)
            self._size += len(chunk)

    def _close_spill(self) -> None:
        if self._spill >= 0:
            os.close(self._spill)
            self._spill, self._spill_read, self._spill_end = -1, 0, 0

    def close(self) -> None:
        self._close_spill()
        self.connection.close()


class DetachKeys:
    """Finds the key sequence that detaches (`ctrl-p,ctrl-q`) in what a client types; a part of it is held back.

    The docker command looks for it too, and only its own finding makes it detach, so this must agree with it: a key
    that breaks the sequence off does not begin a new one.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What goes on to the container, and whether the sequence is complete."""
        keys = self._keys
        if not keys or (not self._matched and keys[0] not in data):
            return data, False
        out = bytearray()
        for byte in data:
            if byte == keys[self._matched]:
                self._matched += 1
                if self._matched == len(keys):
                    self._matched = 0
                    return bytes(out), True
                continue
            out += keys[: self._matched]
            out.append(byte)
            self._matched = 0
        return bytes(out), False


class Streams:
    """Moves bytes. `on_detached` hears of a client that typed its detach keys, `on_output_end` of the last output."""

    def __init__(
        self,
        loop: Loop,
        sink: Sink | None,
        on_output_end: Callable[[], None],
        on_idle: Callable[[], None],
        on_detached: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._sink = sink
        self._on_output_end, self._on_idle, self._on_detached = on_output_end, on_idle, on_detached
        self._outputs: dict[int, int] = {}  # descriptor -> STDOUT or STDERR
        self._input = -1
        self._tty = False
        self._stdin_once = False
        self._input_pending: deque[memoryview] = deque()
        self._input_ending = False
        self._started = False
        self._clients: dict[int, Client] = {}
        self._reading = READ  # 0 while output is held back
        self.log_error = ""

    def use_pipes(self, stdin: int, stdout: int, stderr: int, *, stdin_once: bool) -> None:
        """The monitor's ends; -1 for a stream that is not there."""
        self._started = True
        self._input, self._stdin_once = stdin, stdin_once
        if stdin >= 0:
            os.set_blocking(stdin, False)
        for descriptor, number in ((stdout, STDOUT), (stderr, STDERR)):
            if descriptor >= 0:
                self._watch_output(descriptor, number)

    def use_terminal(self, master: int, *, stdin: bool, stdin_once: bool) -> None:
        self._started = True
        self._tty, self._stdin_once = True, stdin_once
        self._input = master if stdin else -1
        self._watch_output(master, STDOUT)

    def _watch_output(self, descriptor: int, number: int) -> None:
        os.set_blocking(descriptor, False)
        self._outputs[descriptor] = number
        self._watch_reading(descriptor)

    def _watch_reading(self, descriptor: int) -> None:
        if self._reading:
            self._loop.watch(descriptor, READ, lambda events: self._read(descriptor))
        else:
            self._loop.forget(descriptor)  # or the end of the process would be told again and again

    def hold(self) -> None:
        """No output is read, until `resume`: the log may not grow any more."""
        self._reading = 0
        for descriptor in self._outputs:
            if descriptor != self._input or not self._input_pending:
                self._watch_reading(descriptor)
            else:
                self._loop.watch(descriptor, WRITE, self._terminal_ready)

    def resume(self) -> None:
        self._reading = READ
        for descriptor in self._outputs:
            if descriptor != self._input or not self._input_pending:
                self._watch_reading(descriptor)
            else:
                self._loop.watch(descriptor, READ | WRITE, self._terminal_ready)

    def resize(self, height: int, width: int) -> None:
        """Raises OSError when there is no terminal any more."""
        for descriptor in self._outputs:
            fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("=HHHH", height & 0xFFFF, width & 0xFFFF, 0, 0))

    @property
    def open(self) -> bool:
        return bool(self._outputs)

    @property
    def has_clients(self) -> bool:
        return bool(self._clients)

    def ends(self) -> list[tuple[str, int]]:
        """The pipes that are still open, by the name of the stream."""
        names = {STDOUT: "stdout", STDERR: "stderr"}
        found = [(names[number], descriptor) for descriptor, number in self._outputs.items()]
        return found if self._input < 0 else [("stdin", self._input), *found]

    # --- output ---

    def _read(self, descriptor: int) -> bool:
        """One chunk; False when nothing is there now."""
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the last user of the terminal is gone
            data = b""
        if not data:
            self._end_output(descriptor)
            return False
        self._distribute(self._outputs[descriptor], data)
        return True

    def _distribute(self, stream: int, data: bytes) -> None:
        if self._sink is not None:
            try:
                self._sink.write(b"stderr" if stream == STDERR else b"stdout", data)
            except OSError as error:  # a full disk must not stop the container
                self.log_error = str(error)
        for client in list(self._clients.values()):
            if client.wants[stream]:
                try:
                    client.queue(stream, data)
                except OSError:  # one that does not read costs its own connection, nothing else
                    self._drop(client)
                    continue
                self._flush(client)

    def _end_output(self, descriptor: int) -> None:
        self._loop.forget(descriptor)
        del self._outputs[descriptor]
        if self._input == descriptor:
            self._input = -1
        os.close(descriptor)
        if not self._outputs:
            self._on_output_end()

    def drain(self) -> None:
        """After the process is gone: takes what is left in the pipes, whoever else still holds them."""
        for descriptor in list(self._outputs):
            while descriptor in self._outputs and self._read(descriptor):
                continue
        for descriptor in list(self._outputs):
            self._end_output(descriptor)
        if self._sink is not None:
            try:
                self._sink.flush()
            except OSError as error:
                self.log_error = str(error)

    def finish(self) -> None:
        """No output will come any more: clients are closed once they have it all."""
        self._close_input()
        for client in list(self._clients.values()):
            client.closing = True
            self._flush(client)

    # --- clients ---

    def attach(self, client: Client) -> None:
        self._clients[client.connection.fileno()] = client
        if client.held and self._sink is not None:  # what is no whole line yet is not in the log
            for stream, rest in self._sink.unwritten():
                number = STDERR if stream == b"stderr" else STDOUT
                if rest and client.wants[number]:
                    client.queue(number, rest)
        if client.leftover:
            data, client.leftover = client.leftover, b""
            if not self._typed(client, data):
                return
        self._flush(client)

    def _update(self, client: Client) -> None:
        descriptor = client.connection.fileno()
        if descriptor not in self._clients:
            return
        events = WRITE if client.behind and not client.held else 0
        if client.stdin and not self._input_pending:
            events |= READ
        elif not client.stdin and not client.closing:
            events |= READ  # to notice when it goes
        self._loop.watch(descriptor, events, lambda ready: self._ready(client, ready))

    def _ready(self, client: Client, events: int) -> None:
        if events & WRITE:
            self._flush(client)
        if events & READ and client.connection.fileno() >= 0:
            self._receive(client)
        elif events & GONE and client.connection.fileno() >= 0:
            self._drop(client)

    def _receive(self, client: Client) -> None:
        try:
            data = client.connection.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        if data:
            if client.stdin and self._typed(client, data):
                self._update(client)
            return
        if not client.stdin:
            self._half_closed(client)
            return
        client.stdin = False
        if self._stdin_once:
            self._input_ending = True
            self._write_input()
        self._half_closed(client)

    def _half_closed(self, client: Client) -> None:
        """The client will send no more, and may still read: wait only for it to be gone altogether."""
        client.stdin = False
        descriptor = client.connection.fileno()
        if descriptor in self._clients:
            events = WRITE if client.behind and not client.held else 0
            self._loop.watch(descriptor, events, lambda ready: self._ready(client, ready))

    def _typed(self, client: Client, data: bytes) -> bool:
        """Input of a client on its way to the container. False when the client detached."""
        data, detached = client.detach.feed(data) if self._tty else (data, False)
        if data and (self._input >= 0 or not self._started):
            self._input_pending.append(memoryview(data))
            self._write_input()
        if detached:
            self._on_detached()
            client.closing = True
            self._flush(client)
        return not detached

    def _flush(self, client: Client) -> None:
        try:
            client.flush()
        except OSError:
            self._drop(client)
            return
        if client.closing and not client.behind and not client.held:
            self._drop(client)
        else:
            self._update(client)

    def _drop(self, client: Client) -> None:
        descriptor = client.connection.fileno()
        if self._clients.pop(descriptor, None) is None:
            return
        self._loop.forget(descriptor)
        try:
            client.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        client.close()
        if client.stdin and self._stdin_once and not client.closing:
            self._input_ending = True  # it vanished: the process reads an end, as from a closed pipe
            self._write_input()
        if not self._clients:
            self._on_idle()

    def let_go(self, held: str) -> None:
        """Past output is sent: what has come since follows."""
        for client in [one for one in self._clients.values() if one.held == held]:
            client.held = ""
            self._flush(client)

    def drop_held(self) -> None:
        """Who was to send them past output is gone."""
        for client in [one for one in self._clients.values() if one.held]:
            self._drop(client)

    def drop_all(self) -> None:
        for client in list(self._clients.values()):
            self._drop(client)

    def wake_input(self) -> None:
        """The process has its streams now: what clients sent before goes in."""
        self._write_input()

    # --- input ---

    def _write_input(self) -> None:
        while self._input_pending and self._input >= 0:
            first = self._input_pending[0]
            try:
                sent = os.write(self._input, first)
            except BlockingIOError:
                self._await_input()
                return
            except OSError:  # the process closed its end
                self._input_pending.clear()
                self._close_input()
                break
            if sent < len(first):
                self._input_pending[0] = first[sent:]
            else:
                self._input_pending.popleft()
        if self._input >= 0:
            self._stop_awaiting_input()
            if self._input_ending and not self._tty:
                self._close_input()
        if self._started and self._input < 0:
            self._input_pending.clear()
        for client in list(self._clients.values()):
            if client.stdin:
                self._update(client)

    def _await_input(self) -> None:
        if self._tty:
            self._loop.watch(self._input, self._reading | WRITE, self._terminal_ready)
        else:
            self._loop.watch(self._input, WRITE, lambda events: self._write_input())
        for client in list(self._clients.values()):
            if client.stdin:
                self._update(client)

    def _terminal_ready(self, events: int) -> None:
        if events & WRITE:
            self._write_input()
        if events & (READ | GONE) and self._input >= 0:
            self._read(self._input)

    def _stop_awaiting_input(self) -> None:
        descriptor = self._input
        if self._tty:
            self._watch_reading(descriptor)
        else:
            self._loop.forget(descriptor)

    def _close_input(self) -> None:
        if self._input >= 0 and not self._tty:
            self._loop.forget(self._input)
            os.close(self._input)
        self._input = -1
