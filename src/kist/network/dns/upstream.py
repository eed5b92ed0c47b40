"""Asking other servers: in order, each for four seconds, 1024 questions of a container at a time, as Docker does.

Servers from the host's resolv.conf are asked from the host's network namespace, those the user named (--dns) from the
container's. Questions by UDP share a socket for each server, which is replaced after 256 of them or ten seconds and is
closed when nothing is waited for: of port and id a forger has to guess both, and no container has a socket for every
question. An answer that was truncated goes on as it is: the client asks again by TCP, and so does this. It would not
help to do that first: the client could not take the whole answer either.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import socket
from typing import NamedTuple

from kist.kernel import netns
from kist.network.dns import message
from kist.network.dns.message import Query

log = logging.getLogger(__name__)
TIMEOUT = 4.0  # seconds for one server, and for a place among the questions under way
CONCURRENT = 1024
_WAITING = 1024  # more wait for a place at most; those beyond are refused at once
_SERVERS = 3  # that are asked, of more
_QUESTIONS, _AGE = 256, 10.0  # of a socket
_LOG_INTERVAL = 2.0
_BATCH = 32  # answers


class Server(NamedTuple):
    """`from_host`: asked from the host's network namespace. `port` differs in tests only."""

    address: str
    from_host: bool
    port: int = 53

    def __str__(self) -> str:
        return f"host({self.address})" if self.from_host else self.address

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    @property
    def where(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """As connect(2) takes it. Raises OSError for a zone without an interface of that name."""
        if self.family == socket.AF_INET:
            return self.address, self.port
        address = ipaddress.IPv6Address(self.address)
        zone = address.scope_id
        index = 0 if zone is None else int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
        return str(address).partition("%")[0], self.port, 0, index


class Forwarder:
    """Of one container. `beside` is a socket of the container's network namespace."""

    def __init__(self, servers: tuple[Server, ...], beside: socket.socket) -> None:
        self._servers = servers[:_SERVERS]
        self._beside = beside
        self._loop = asyncio.get_running_loop()
        self._places = asyncio.Semaphore(CONCURRENT)
        self._under_way = 0
        self._channels: dict[Server, _Channel] = {}
        self._told = 0.0

    @property
    def is_full(self) -> bool:
        """Whether one more question is to be refused at once."""
        return self._under_way >= CONCURRENT + _WAITING

    def refused(self) -> None:
        """Says so in the log, not for every question."""
        if self._loop.time() >= self._told:
            self._told = self._loop.time() + _LOG_INTERVAL
            log.warning("a container has more than %d questions to name servers under way", CONCURRENT)

    async def ask(self, query: Query, data: bytes, *, tcp: bool, external: bool) -> bytes:
        """The answer of the first server that has one, or SERVFAIL, or REFUSED when there is no place for four seconds.

        Without `external` no server is asked from the host's namespace; the container's own way leads where it leads.
        """
        self._under_way += 1
        try:
            for server in self._servers:
                if server.from_host and not external:
                    continue
                if not await self._place():
                    self.refused()
                    return message.failure(query, message.REFUSED)
                try:
                    answer = await self._exchange(server, query, data, tcp)
                finally:
                    self._places.release()
                if answer and message.code_of(answer) not in (message.SERVFAIL, message.REFUSED):
                    return message.with_id(answer, query.id)
        finally:
            self._under_way -= 1
        return message.failure(query, message.SERVFAIL)

    async def _place(self) -> bool:
        try:
            if self._places.locked():
                await asyncio.wait_for(self._places.acquire(), TIMEOUT)
            else:
                await self._places.acquire()  # at once
        except TimeoutError:
            return False
        return True

    async def _exchange(self, server: Server, query: Query, data: bytes, tcp: bool) -> bytes:
        """b"" where nothing that answers the question came in time."""
        try:
            async with asyncio.timeout(TIMEOUT):
                if tcp:
                    return await self._by_tcp(server, query, data)
                return await self._channel(server).ask(query, data)
        except (OSError, TimeoutError, ValueError) as error:
            log.debug("name server %s: %s", server, error or "no answer in time")
            return b""

    def _channel(self, server: Server) -> _Channel:
        """Raises OSError."""
        if server not in self._channels:
            self._channels[server] = _Channel(self._open(server, socket.SOCK_DGRAM), server, self._channels)
        return self._channels[server]

    def _open(self, server: Server, kind: int) -> socket.socket:
        if server.from_host:
            return socket.socket(server.family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        return netns.socket_beside(self._beside, server.family, kind)

    async def _by_tcp(self, server: Server, query: Query, data: bytes) -> bytes:
        number = secrets.randbelow(1 << 16)
        with self._open(server, socket.SOCK_STREAM) as connection:
            await self._loop.sock_connect(connection, server.where)
            await self._loop.sock_sendall(connection, len(data).to_bytes(2, "big") + message.with_id(data, number))
            length = int.from_bytes(await self._read(connection, 2), "big")
            answer = await self._read(connection, length)
        return answer if message.is_answer(answer, number, query) else b""

    async def _read(self, connection: socket.socket, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = await self._loop.sock_recv(connection, length - len(data))
            if not more:
                raise OSError("the connection ended")
            data += more
        return data

    def close(self) -> None:
        """What is asked is not answered any more; whoever waits is to be cancelled."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()


class _Channel:
    """A socket to one server and what was asked on it; in `channels` as long as it takes questions."""

    def __init__(self, sock: socket.socket, server: Server, channels: dict[Server, _Channel]) -> None:
        self._socket, self._server, self._channels = sock, server, channels
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, tuple[Query, asyncio.Future[bytes]]] = {}
        self._left = _QUESTIONS
        try:
            sock.connect(server.where)  # so that the kernel drops what comes from elsewhere (udp(7))
        except OSError:
            sock.close()
            raise
        self._timer = self._loop.call_later(_AGE, self._retire)
        self._loop.add_reader(sock.fileno(), self._readable)

    async def ask(self, query: Query, data: bytes) -> bytes:
        """b"" when the server cannot be reached. It is the caller who does not wait for ever."""
        number = secrets.randbelow(1 << 16)
        while number in self._waiting:
            number = secrets.randbelow(1 << 16)
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[number] = query, answer
        self._left -= 1
        if not self._left:
            self._retire()
        try:
            self._socket.send(message.with_id(data, number))
            return await answer
        finally:
            self._waiting.pop(number, None)
            if self._channels.get(self._server) is not self and not self._waiting:
                self.close()

    def _readable(self) -> None:
        for _ in range(_BATCH):  # then it is somebody else's turn
            try:
                data = self._socket.recv(message.MAXIMUM)
            except BlockingIOError:
                return
            except OSError:  # nobody listens there, says ICMP
                self._fail()
                return
            number = message.id_of(data)
            query, answer = self._waiting.get(number, (None, None))
            if (
                query is not None
                and answer is not None
                and not answer.done()
                and message.is_answer(data, number, query)
            ):
                answer.set_result(data)

    def _fail(self) -> None:
        for _, answer in self._waiting.values():
            if not answer.done():
                answer.set_result(b"")

    def _retire(self) -> None:
        """It takes no more questions, and goes with the last answer."""
        self._channels.pop(self._server, None)
        if not self._waiting:
            self.close()

    def close(self) -> None:
        self._timer.cancel()
        self._fail()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
