"""For the tests of the name server: network namespaces, clients in them, servers upstream."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import dns.message
import dns.rrset

from kist.kernel import const, netns, ns
from kist.kernel.rtnetlink import RouteSocket
from kist.monitor import nameserver
from kist.network.dns.names import Attachment, NetworkNames, View
from kist.network.dns.service import Nameservers
from kist.network.dns.upstream import Server

WHERE = ("127.0.0.11", 53)


class Seen:
    """A container in these networks."""

    def __init__(self, *networks: NetworkNames, external: bool = True) -> None:
        self.networks, self.external = networks, external

    def attachments(self) -> Sequence[Attachment]:
        return [Attachment(one) for one in self.networks]

    def has_external_access(self) -> bool:
        return self.external


def mynet() -> NetworkNames:
    made = NetworkNames("mynet")
    made.add("e1", ["box", "web"], ["172.18.0.2", "fd00::2"])
    made.add("e2", ["other", "web"], ["172.18.0.3"])
    return made


class Namespace:
    """A network namespace with the sockets and rules of a name server, and nothing else in it."""

    def __init__(self) -> None:
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
        own = os.stat("/proc/self/ns/net").st_ino
        path = f"/proc/{self.holder.pid}/ns/net"
        while os.stat(path).st_ino == own:
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        made: list[tuple[socket.socket, socket.socket]] = []

        def make() -> None:
            ns.setns(descriptor, const.CLONE_NEWNET)
            with RouteSocket() as route:
                route.raise_loopback()
            made.append(nameserver.open_here())

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        os.close(descriptor)
        self.udp, self.tcp = made[0]

    def serve(self, servers: Nameservers, view: View, *upstream: Server, ndots_set: bool = False) -> None:
        """As kistd does with the copies that a monitor has sent."""
        copies = os.dup(self.udp.fileno()), os.dup(self.tcp.fileno())
        servers.serve("box", copies, view, upstream, ndots_set=ndots_set)

    def socket(self, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
        """A client's, not blocking."""
        return netns.socket_beside(self.udp, socket.AF_INET, kind)

    def run(self, *command: str) -> str:
        """A program in the namespace, with a name server in resolv.conf(5) of its own; what it prints."""
        script = 'mount --bind $0 /etc/resolv.conf && exec "$@"'
        words = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "unshare", "--mount", "sh", "-c", script]
        words += [self.resolv_conf, *command]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=30)
        return done.stdout + done.stderr

    resolv_conf = ""

    def write(self, name: str, value: str) -> None:
        """A sysctl of the namespace."""
        words = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "sh", "-c", f"echo {value} > /proc/sys/{name}"]
        subprocess.run(words, check=True)

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()
        self.holder.kill()
        self.holder.wait()


async def udp(space: Namespace, data: bytes, seconds: float = 10) -> bytes:
    """One question to port 53 and its answer, which must come from there."""
    loop = asyncio.get_running_loop()
    with space.socket() as client:
        await loop.sock_sendto(client, data, WHERE)
        answer, sender = await asyncio.wait_for(loop.sock_recvfrom(client, 65535), seconds)
    assert sender == WHERE
    return answer


@asynccontextmanager
async def connected(space: Namespace) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    client = space.socket(socket.SOCK_STREAM)
    await asyncio.get_running_loop().sock_connect(client, WHERE)
    reader, writer = await asyncio.open_connection(sock=client)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


async def frame(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")), 10)


async def ask(space: Namespace, name: str, kind: str = "A", *, tcp: bool = False) -> dns.message.Message:
    asked = dns.message.make_query(name, kind)
    if tcp:
        async with connected(space) as (reader, writer):
            writer.write(framed(asked.to_wire()))
            data = await frame(reader)
    else:
        data = await udp(space, asked.to_wire())
    answer = dns.message.from_wire(data)
    assert asked.is_response(answer)
    return answer


def addresses(answer: dns.message.Message) -> list[str]:
    return sorted(record.to_text() for group in answer.answer for record in group)


Behaviour = Callable[[bytes], bytes | None]


def tells(text: str, code: int = 0) -> Callable[[bytes], bytes]:
    """A server that knows one address for everything."""

    def answer(data: bytes) -> bytes:
        made = dns.message.make_response(dns.message.from_wire(data))
        made.set_rcode(code)  # type: ignore[arg-type]
        if not code:
            made.answer.append(dns.rrset.from_text(made.question[0].name, 60, "IN", "A", text))
        return made.to_wire()

    return answer


class Upstream:
    """A name server on the loop of the test; it keeps what it was asked, and by whom."""

    def __init__(
        self, behaviour: Behaviour, beside: socket.socket | None = None, port: int = 0, address: str = "127.0.0.1"
    ) -> None:
        self.behaviour = behaviour
        self.asked: list[tuple[bytes, tuple[str, int]]] = []
        self.by_tcp: list[bytes] = []
        self._beside, self._where = beside, (address, port)
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.server: Server

    async def __aenter__(self) -> Upstream:
        self._udp, tcp = (self._socket(kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM))
        self._udp.bind(self._where)
        where = self._udp.getsockname()
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind(where)
        self.server = Server(where[0], self._beside is None, where[1])
        asyncio.get_running_loop().add_reader(self._udp.fileno(), self._read)
        self._tcp = await asyncio.start_server(self._connected, sock=tcp)
        return self

    def _socket(self, kind: socket.SocketKind) -> socket.socket:
        if self._beside is not None:
            return netns.socket_beside(self._beside, self._family, kind)
        made = socket.socket(self._family, kind)
        made.setblocking(False)
        return made

    def send(self, data: bytes, client: tuple[str, int]) -> None:
        self._udp.sendto(data, client)

    def _read(self) -> None:
        data, client = self._udp.recvfrom(65535)
        self.asked.append((data, client))
        answer = self.behaviour(data)
        if answer is not None:
            self._udp.sendto(answer, client)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await frame(reader)
        self.by_tcp.append(data)
        answer = self.behaviour(data)
        if answer is not None:
            writer.write(framed(answer))
            await writer.drain()
        else:
            await reader.read()  # until who asked has given up
        writer.close()

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._udp.fileno())
        self._udp.close()
        self._tcp.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
