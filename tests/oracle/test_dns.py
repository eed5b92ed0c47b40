"""The name server against dockerd's: the same names, the same questions as bytes, the same server upstream."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import dns.flags
import dns.message
import dns.rcode
import pytest
from tests.conftest import Kistd
from tests.dns_world import WHERE, Namespace, Upstream, framed, tells

from kist.kernel import const, ns
from kist.network.dns.names import Attachment, NetworkNames, endpoint_names
from kist.network.dns.service import Nameservers
from kist.network.dns.upstream import Server

QUESTIONS = [
    *(("box", "A"), ("BOX", "A"), ("box.MyNet", "A"), ("web", "A"), ("db", "A"), ("db.MyNet", "A"), ("web.MyNet", "A")),
    *(("box", "AAAA"), ("web", "AAAA"), ("box", "MX"), ("nosuch", "A"), ("nosuch", "AAAA"), ("nosuch", "MX")),
    *(("www.example.com", "A"), ("www.example.com", "TXT"), (".", "NS"), ("box.example.com", "A"), ("MyNet", "A")),
    *(("pointer:box", "PTR"), ("9.9.9.9.in-addr.arpa", "PTR"), ("_http._tcp.nosuch", "SRV"), ("other.nosuch", "A")),
    *(("host-of-box", "A"), ("box.second", "A"), ("far", "A"), ("far.second", "A")),
]
UNLIKE = [
    ("box.mynet", "A"),  # here the names of networks are without case too
    ("box", "PTR"), ("in-addr.arpa", "PTR"),  # 20.10 says nothing; 28 asks upstream, as is done here
    ("box", "TXT"), ("web", "HTTPS"),  # here a name that is known is told to nobody
]  # fmt: skip


class Place(NamedTuple):
    """A container of dockerd's: where questions are asked, and what the others there are called."""

    pid: int
    addresses: dict[str, dict[str, str]]  # container -> network -> address
    ids: dict[str, str]


@pytest.fixture(scope="module")
def place(dockerd: Kistd) -> Iterator[Place]:
    for name in ("MyNet", "second"):
        assert dockerd.request("POST", "/v1.41/networks/create", {"Name": name})[0] == 201
    made: dict[str, Any] = {}
    for name, network, more in (
        ("box", "MyNet", {"Aliases": ["web"]}),
        ("other", "MyNet", {"Aliases": ["web"]}),
        ("far", "second", {}),
        ("asker", "MyNet", {"Links": ["box:db"]}),
    ):
        body = {
            "Image": "busybox", "Cmd": ["sleep", "1000"], "Hostname": f"host-of-{name}",
            "HostConfig": {"NetworkMode": network, "Dns": ["127.0.0.1"] if name == "asker" else []},
            "NetworkingConfig": {"EndpointsConfig": {network: more}},
        }  # fmt: skip
        status, answer = dockerd.request("POST", f"/v1.41/containers/create?name={name}", body)
        assert status == 201, answer
        status, answer = dockerd.request("POST", f"/v1.41/containers/{name}/start")
        assert status == 204, answer
        made[name] = dockerd.request("GET", f"/v1.41/containers/{name}/json")[1]
    yield Place(
        made["asker"]["State"]["Pid"],
        {
            name: {network: one["IPAddress"] for network, one in found["NetworkSettings"]["Networks"].items()}
            for name, found in made.items()
        },
        {name: found["Id"] for name, found in made.items()},
    )
    for name in made:
        dockerd.request("DELETE", f"/v1.41/containers/{name}?force=1")
    for name in ("MyNet", "second"):
        dockerd.request("DELETE", f"/v1.41/networks/{name}")


class Asker:
    """In the namespace of a process."""

    def __init__(self, pid: int) -> None:
        self._path = f"/proc/{pid}/ns/net"

    def socket(self, kind: socket.SocketKind) -> socket.socket:
        made: list[socket.socket] = []

        def make() -> None:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            ns.setns(descriptor, const.CLONE_NEWNET)
            os.close(descriptor)
            made.append(socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    async def ask(self, data: bytes, tcp: bool) -> bytes:
        """b"" when there is no answer."""
        loop = asyncio.get_running_loop()
        with self.socket(socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as client:
            await loop.sock_connect(client, WHERE)
            await loop.sock_sendall(client, framed(data) if tcp else data)
            try:
                answer = await asyncio.wait_for(loop.sock_recv(client, 65535), 2)
            except TimeoutError:
                return b""
            return answer[2:] if tcp else answer


class Seen:
    def __init__(self, place: Place) -> None:
        networks = {name: NetworkNames(name) for name in ("MyNet", "second")}
        aliases = {"box": ["web"], "other": ["web"]}
        for name, found in place.addresses.items():
            for network, address in found.items():
                names = endpoint_names(name, aliases.get(name, ()), place.ids[name], f"host-of-{name}")
                networks[network].add(place.ids[name], names, [address])
        self._attachments = [Attachment(networks["MyNet"], {"db": "box"})]

    def attachments(self) -> list[Attachment]:
        return self._attachments

    def has_external_access(self) -> bool:
        return True


def shown(data: bytes) -> Any:
    """An answer without what is by chance."""
    if not data:
        return "no answer"
    answer = dns.message.from_wire(data)
    records = sorted(f"{group.name} {group.ttl} {one.to_text()}" for group in answer.answer for one in group)
    return (
        dns.rcode.to_text(answer.rcode()),
        dns.flags.to_text(answer.flags),
        [str(one) for one in answer.question],
        records,
    )


async def heard(asker: Asker, questions: list[bytes], tcp: bool) -> list[tuple[Any, list[bytes]]]:
    """What each question is answered, and what the server upstream was asked for it."""
    beside = asker.socket(socket.SOCK_DGRAM)
    found = []
    with beside:
        async with Upstream(tells("9.9.9.9"), beside=beside, port=53) as up:
            for question in questions:
                up.asked.clear()
                up.by_tcp.clear()
                answer = shown(await asker.ask(question, tcp))
                found.append((answer, [data[2:] for data in [*(one for one, _ in up.asked), *up.by_tcp]]))
    return found


def compare(place: Place, questions: list[bytes], tcp: bool) -> tuple[list[Any], list[Any]]:
    space = Namespace()

    async def go() -> tuple[list[Any], list[Any]]:
        theirs = await heard(Asker(place.pid), questions, tcp)
        nameservers = Nameservers()
        space.serve(nameservers, Seen(place), Server("127.0.0.1", False))
        try:
            return theirs, await heard(Asker(space.holder.pid), questions, tcp)
        finally:
            nameservers.close()

    try:
        return asyncio.run(go())
    finally:
        space.close()


def wire(place: Place, name: str, kind: str) -> bytes:
    if name.startswith("pointer:"):
        (address,) = place.addresses[name.partition(":")[2]].values()
        name = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
    return dns.message.make_query(name, kind, id=7).to_wire()


@pytest.mark.parametrize("tcp", [False, True])
def test_the_same_answers(place: Place, tcp: bool) -> None:
    theirs, ours = compare(place, [wire(place, *question) for question in QUESTIONS], tcp)
    different = [found for found in zip(QUESTIONS, theirs, ours, strict=True) if found[1] != found[2]]
    assert not different, "\n".join(f"{question}\n   {one}\n   {other}" for question, one, other in different)


def test_what_is_answered_in_another_way_on_purpose(place: Place) -> None:
    theirs, ours = compare(place, [wire(place, *question) for question in UNLIKE], False)
    assert [question for question, one, other in zip(UNLIKE, theirs, ours, strict=True) if one == other] == []
    asked_upstream = [bool(asked) for _, asked in ours]
    assert asked_upstream == [False, True, True, False, False]


def test_the_same_to_what_is_no_question(place: Place) -> None:
    good = dns.message.make_query("box", "A", id=7).to_wire()
    cases = [
        good[:11], good[:14], good[:2] + b"\x81\x00" + good[4:], good[:2] + b"\x28\x00" + good[4:],
        good[:4] + b"\0\2" + good[6:], good[:4] + b"\0\0" + good[6:12], good[:12] + b"\xc0\x0c\0\1\0\1", good + b"more",
        good[:2] + b"\x2b\xf0" + good[4:], good[:2] + b"\x07\xff\0\2" + good[6:],
        good[:6] + b"\0\2" + good[8:], good[:12] + b"\x3fbox\0\0\1\0\1",
    ]  # fmt: skip
    theirs, ours = compare(place, cases, False)
    different = [found for found in zip(cases, theirs, ours, strict=True) if found[1] != found[2]]
    assert not different, "\n".join(f"{case!r}\n   {one}\n   {other}" for case, one, other in different)
