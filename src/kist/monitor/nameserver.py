"""The sockets of a container's name server at 127.0.0.11, made in its network namespace.

They listen on ports of their own, and rules of that namespace lead port 53 there and back: port 53 itself stays free
for a server of the container's, on every address. The sockets outlive init, which makes them, with the monitor; what
is asked while no kistd answers waits in the kernel. The rules go with the namespace.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

from kist.kernel import const, ns
from kist.kernel import nftables as nft
from kist.monitor import protocol
from kist.monitor.operations import OPERATIONS, Context

ADDRESS = "127.0.0.11"
EVENT = b"nameserver"  # from init, with the two sockets
TABLE = "kist_dns"
_PORT = struct.pack(">H", 53)
_UDP, _TCP = 17, 6
_MARKS = {_UDP: b"\xf5\x0a", _TCP: b"\xf6\x0a"}  # where the ports go: above those that bind(2) gives
_BACKLOG = 64
# As plain numbers, once: arithmetic with the socket module's flags is slow Python.
_DATAGRAM = int(socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
_STREAM = int(socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
_FIRST, _SECOND = nft.REG32_00, nft.REG32_00 + 1


def _ruleset() -> list[nft.Request]:
    """With marks for ports. Where the answer comes after the kernel has forgotten the question (30 seconds by UDP) the
    second chain makes it come from port 53 all the same.
    """
    address = socket.inet_aton(ADDRESS)
    requests = [
        nft.new_table(TABLE),
        nft.new_base_chain(TABLE, "output", "nat", "output", -100),
        nft.new_base_chain(TABLE, "postrouting", "nat", "postrouting", 100),
    ]
    for transport, port in _MARKS.items():
        inward = [*_packet(16, address, transport, 2, _PORT), nft.load(address, _FIRST), nft.load(port, _SECOND),
                  nft.destination_nat(_FIRST, _SECOND)]  # fmt: skip
        outward = [*_packet(12, address, transport, 0, port), nft.load(_PORT, _FIRST), nft.source_nat_port(_FIRST)]
        requests += [nft.new_rule(TABLE, "output", inward), nft.new_rule(TABLE, "postrouting", outward)]
    return requests


def _packet(where: int, address: bytes, transport: int, offset: int, port: bytes) -> list[bytes]:
    """Address at this offset of the IPv4 header, protocol, port at that of the next."""
    return [
        nft.payload(nft.NFT_PAYLOAD_NETWORK_HEADER, where, 4),
        nft.compare(address),
        nft.meta(nft.NFT_META_L4PROTO),
        nft.compare(bytes([transport])),
        nft.payload(nft.NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2),
        nft.compare(port),
    ]


_RULES = _ruleset()  # once, in the zygote: to make them takes longer than to install them


def rules(udp: int, tcp: int) -> list[nft.Request]:
    """For sockets at these ports."""
    ports = [(_MARKS[_UDP], struct.pack(">H", udp)), (_MARKS[_TCP], struct.pack(">H", tcp))]
    found = []
    for kind, flags, body in _RULES:
        for mark, port in ports:
            body = body.replace(mark, port)
        found.append((kind, flags, body))
    return found


def open_here() -> tuple[socket.socket, socket.socket]:
    """(UDP, TCP) in the network namespace of this process, which has a loopback device that is up and no such server;
    CAP_NET_ADMIN is needed. Raises OSError.
    """
    udp = socket.socket(socket.AF_INET, _DATAGRAM)
    try:
        udp.bind((ADDRESS, 0))
        tcp = socket.socket(socket.AF_INET, _STREAM)
        try:
            tcp.bind((ADDRESS, 0))
            tcp.listen(_BACKLOG)
            with nft.Firewall() as firewall:
                firewall.commit(rules(udp.getsockname()[1], tcp.getsockname()[1]))
        except OSError:
            tcp.close()
            raise
    except OSError:
        udp.close()
        raise
    return udp, tcp


def open_in(init: int) -> list[int]:
    """The same where a process is, by its pidfd: for a container that runs without. Raises OSError.

    A fork does it, so that the monitor neither leaves its namespace nor has in memory what it takes.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, protocol.SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            ns.setns(init, const.CLONE_NEWNET)
            udp, tcp = open_here()
            socket.send_fds(theirs, [EVENT], [udp.fileno(), tcp.fileno()])
        except OSError as error:
            theirs.send(f"{error.errno or 0} {error}".encode())
        finally:
            os._exit(0)
    theirs.close()
    try:
        data, descriptors, _, _ = socket.recv_fds(ours, 1 << 12, 2)
    finally:
        ours.close()
        os.waitpid(pid, 0)
    if not descriptors:
        number, _, words = data.decode().partition(" ")
        raise OSError(int(number or 0), words or "the helper was killed")
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return descriptors


class OpenNameserver(NamedTuple):
    """Leaves the sockets to the monitor: sends them, or where there is no wire keeps them in the context."""

    def describe(self) -> str:
        return f"open the name server at {ADDRESS}"

    def execute(self, context: Context) -> None:
        udp, tcp = open_here()
        if context.sync is None:
            context.nameserver = udp.detach(), tcp.detach()
            return
        with udp, tcp:
            socket.send_fds(context.sync, [EVENT], [udp.fileno(), tcp.fileno()])


OPERATIONS[OpenNameserver.__name__] = OpenNameserver
