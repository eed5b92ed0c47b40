"""The name server on real sockets in real network namespaces: what clients see, what is asked upstream, what fails."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest
from tests import dns_world as world
from tests.dns_world import Namespace, Seen, Upstream, addresses, ask, framed, mynet, tells, udp

from kist.monitor import nameserver
from kist.network import resolvconf
from kist.network.dns import server, upstream
from kist.network.dns.service import Nameservers
from kist.network.dns.upstream import Server

SILENT = Server("127.0.0.1", True, 9)  # discard: nobody listens


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Namespace]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    before = world.descriptors()
    made = Namespace()
    made.resolv_conf = str(tmp_path / "resolv.conf")
    Path(made.resolv_conf).write_text("nameserver 127.0.0.11\noptions ndots:0\n")
    yield made
    made.close()
    assert world.descriptors() == before


def serve(space: Namespace, view: Seen, work: Callable[[], Awaitable[Any]], *servers: Server, **options: Any) -> Any:
    """Runs `work` while the name server serves; afterwards nothing of it is left."""

    async def go() -> Any:
        before = world.descriptors()
        nameservers = Nameservers()
        space.serve(nameservers, view, *servers, **options)
        try:
            return await work()
        finally:
            nameservers.close()
            await asyncio.sleep(0.05)
            assert world.descriptors() == before
            assert len(asyncio.all_tasks()) == 1

    return asyncio.run(go())


def both(space: Namespace, view: Seen, work: Callable[[Upstream], Awaitable[Any]], behaviour: world.Behaviour) -> Any:
    """The same with a server upstream, in the host's namespace."""

    async def go() -> Any:
        async with Upstream(behaviour) as up:
            nameservers = Nameservers()
            space.serve(nameservers, view, up.server)
            try:
                return await work(up)
            finally:
                nameservers.close()

    return asyncio.run(go())


def test_the_address_is_the_same_for_those_who_listen_and_those_who_write_it_down() -> None:
    assert resolvconf.ADDRESS == nameserver.ADDRESS


def test_programs_find_names_and_addresses(space: Namespace) -> None:
    async def work() -> list[str]:
        queries = ["box", "box.mynet", "WEB", "172.18.0.3", "nosuch.example"]
        return [await asyncio.to_thread(space.run, "busybox", "nslookup", name) for name in queries]

    box, full, web, pointer, unknown = serve(space, Seen(mynet()), work, SILENT)
    assert "Address: 172.18.0.2" in box
    assert "Address: fd00::2" in box
    assert "Server:\t\t127.0.0.11\n" in box
    assert "Address: 172.18.0.2" in full
    assert "Address: 172.18.0.2" in web
    assert "Address: 172.18.0.3" in web
    assert "name = other.mynet" in pointer
    assert "SERVFAIL" in unknown


def test_the_c_library_finds_them_too(space: Namespace) -> None:
    async def work() -> str:
        return await asyncio.to_thread(space.run, "getent", "ahosts", "web")

    found = serve(space, Seen(mynet()), work)
    assert {line.split()[0] for line in found.splitlines()} == {"172.18.0.2", "172.18.0.3", "fd00::2"}


def test_port_53_is_the_containers_own(space: Namespace) -> None:
    """A server of its own on every address gets what is for other addresses, and ours goes on."""

    async def work() -> tuple[list[str], bytes]:
        loop = asyncio.get_running_loop()
        with space.socket() as own, space.socket(socket.SOCK_STREAM) as listener, space.socket() as client:
            own.bind(("0.0.0.0", 53))
            listener.bind(("0.0.0.0", 53))
            listener.listen()
            await loop.sock_sendto(client, b"to me", ("127.0.0.1", 53))
            return addresses(await ask(space, "other", tcp=True)), own.recv(100)

    assert serve(space, Seen(mynet()), work) == (["172.18.0.3"], b"to me")


def test_tcp_brings_what_was_too_large(space: Namespace) -> None:
    network = mynet()
    for number in range(200):
        network.add(f"many{number}", ["many"], [f"172.18.1.{number}"])

    async def work() -> tuple[dns.message.Message, dns.message.Message, bytes]:
        large = dns.message.make_query("many", "A", use_edns=0, payload=65535).to_wire()
        return await ask(space, "many"), await ask(space, "many", tcp=True), await udp(space, large)

    short, whole, by_size = serve(space, Seen(network), work)
    assert short.flags & dns.flags.TC
    assert 0 < len(addresses(short)) < 200
    assert (len(addresses(whole)), whole.flags & dns.flags.TC) == (200, 0)
    assert len(addresses(dns.message.from_wire(by_size))) == 200


def test_questions_upstream_have_ids_and_ports_of_their_own(space: Namespace) -> None:
    async def work(up: Upstream) -> tuple[list[str], list[str], Upstream]:
        first = await ask(space, "www.example.com")
        for _ in range(600):
            await ask(space, "www.example.com")
        return addresses(first), addresses(await ask(space, "www.example.com", tcp=True)), up

    by_udp, by_tcp, up = both(space, Seen(mynet()), work, tells("9.9.9.9"))
    assert (by_udp, by_tcp) == (["9.9.9.9"], ["9.9.9.9"])
    assert len({data[:2] for data, _ in up.asked}) > 590
    assert len({client for _, client in up.asked}) == 3
    assert len(up.by_tcp) == 1


def test_servers_have_ipv6_addresses_too(space: Namespace) -> None:
    async def go() -> list[list[str]]:
        async with Upstream(tells("9.9.9.9"), address="::1") as up:
            nameservers = Nameservers()
            space.serve(nameservers, Seen(), Server("fe80::1%nosuch", True), up.server)
            try:
                return [addresses(await ask(space, "example.com", tcp=tcp)) for tcp in (False, True)]
            finally:
                nameservers.close()

    assert Server("fe80::1%lo", True).where == ("fe80::1", 53, 0, socket.if_nametoindex("lo"))
    assert asyncio.run(go()) == [["9.9.9.9"]] * 2


def test_what_is_known_is_not_told_upstream(space: Namespace) -> None:
    async def work(up: Upstream) -> int:
        for name, kind in (("box", "A"), ("other", "AAAA"), ("box", "TXT"), ("web.mynet", "HTTPS"), ("box", "MX")):
            assert (await ask(space, name, kind)).rcode() == dns.rcode.NOERROR
        assert addresses(await ask(space, "2.0.18.172.in-addr.arpa", "PTR")) == ["box.mynet."]
        return len(up.asked)

    assert both(space, Seen(mynet()), work, tells("9.9.9.9")) == 0


def test_what_does_not_exist_upstream_does_not_exist(space: Namespace) -> None:
    async def work(up: Upstream) -> dns.message.Message:
        return await ask(space, "nosuch")

    assert both(space, Seen(mynet()), work, tells("", dns.rcode.NXDOMAIN)).rcode() == dns.rcode.NXDOMAIN


def test_servers_are_asked_in_turn(space: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "TIMEOUT", 0.4)

    async def go() -> tuple[list[str], list[str], float]:
        dead = Server("127.0.0.1", True, 9)
        async with Upstream(lambda data: None) as mute, Upstream(tells("9.9.9.9")) as good:
            nameservers = Nameservers()
            space.serve(nameservers, Seen(), dead, mute.server, good.server)
            begun = time.monotonic()
            found = addresses(await ask(space, "example.com"))
            took = time.monotonic() - begun
            by_tcp = addresses(await ask(space, "example.com", tcp=True))
            nameservers.close()
            return found, by_tcp, took

    found, by_tcp, took = asyncio.run(go())
    assert (found, by_tcp) == (["9.9.9.9"], ["9.9.9.9"])
    assert 0.4 <= took < 3


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
def test_a_server_that_fails_is_passed_over(space: Namespace, code: int) -> None:
    async def go() -> list[str]:
        async with Upstream(tells("", code)) as bad, Upstream(tells("9.9.9.9")) as good:
            nameservers = Nameservers()
            space.serve(nameservers, Seen(), bad.server, good.server)
            try:
                return addresses(await ask(space, "example.com"))
            finally:
                nameservers.close()

    assert asyncio.run(go()) == ["9.9.9.9"]


def test_without_an_answer_it_is_servfail(space: Namespace) -> None:
    async def work() -> list[dns.message.Message]:
        return [await ask(space, "example.com"), await ask(space, "example.com", tcp=True)]

    for servers in ((), (SILENT,)):
        assert [one.rcode() for one in serve(space, Seen(), work, *servers)] == [dns.rcode.SERVFAIL] * 2


def test_an_internal_network_asks_nobody_from_the_host(space: Namespace) -> None:
    async def work(up: Upstream) -> tuple[int, int]:
        return int((await ask(space, "example.com")).rcode()), len(up.asked)

    assert both(space, Seen(external=False), work, tells("9.9.9.9")) == (dns.rcode.SERVFAIL, 0)


@pytest.mark.parametrize("external", [True, False])
def test_servers_of_the_users_are_asked_from_the_container(space: Namespace, external: bool) -> None:
    here = os.stat("/proc/self/ns/net").st_ino

    async def go() -> list[list[str]]:
        async with Upstream(tells("9.9.9.9"), beside=space.udp) as up:
            nameservers = Nameservers()
            space.serve(nameservers, Seen(external=external), up.server)
            try:
                return [addresses(await ask(space, "example.com", tcp=tcp)) for tcp in (False, True)]
            finally:
                nameservers.close()

    assert asyncio.run(go()) == [["9.9.9.9"]] * 2
    assert os.stat("/proc/self/ns/net").st_ino == here


def test_forged_answers_are_not_taken(space: Namespace) -> None:
    async def work(up: Upstream) -> list[str]:
        loop = asyncio.get_running_loop()

        def behave(data: bytes) -> None:
            good, client = tells("9.9.9.9")(data), up.asked[-1][1]
            other = dns.message.make_query("example.org", "A").to_wire()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(tells("6.6.6.6")(data), client)  # from another port
            forged = tells("6.6.6.6")(data)
            for bad in (
                bytes([data[0] ^ 1]) + forged[1:],
                data[:2] + tells("6.6.6.6")(other)[2:],
                data,
                b"",
                b"\0" * 40,
            ):
                up.send(bad, client)
            loop.call_later(0.1, up.send, good, client)

        up.behaviour = behave
        return addresses(await ask(space, "example.com"))

    assert both(space, Seen(), work, tells("")) == ["9.9.9.9"]


def test_an_answer_that_comes_late_still_comes_from_port_53(space: Namespace) -> None:
    """The kernel has forgotten the question by then, and the rule for answers does what is needed."""
    space.write("net/netfilter/nf_conntrack_udp_timeout", "1")

    async def go() -> list[str]:
        loop = asyncio.get_running_loop()
        async with Upstream(lambda data: None) as up:

            def behave(data: bytes) -> None:
                loop.call_later(3, up.send, tells("9.9.9.9")(data), up.asked[-1][1])

            up.behaviour = behave
            nameservers = Nameservers()
            space.serve(nameservers, Seen(), up.server)
            try:
                return addresses(await ask(space, "example.com"))
            finally:
                nameservers.close()

    assert asyncio.run(go()) == ["9.9.9.9"]


def test_with_ndots_a_single_label_waits_for_its_search_domain(space: Namespace) -> None:
    async def work() -> dns.message.Message:
        return await ask(space, "nosuch")

    answer = serve(space, Seen(), work, SILENT, ndots_set=True)
    assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])


def test_of_too_many_questions_some_are_refused_and_names_here_go_on(
    space: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "CONCURRENT", 20)
    monkeypatch.setattr(upstream, "_WAITING", 10)
    monkeypatch.setattr(upstream, "TIMEOUT", 1.0)
    query = dns.message.make_query("example.com", "A").to_wire()

    async def work(up: Upstream) -> tuple[list[int], list[str], int]:
        many = [asyncio.ensure_future(udp(space, query)) for _ in range(60)]
        await asyncio.sleep(0.3)
        box = addresses(await ask(space, "box"))
        asked = len(up.asked)
        return [dns.message.from_wire(one).rcode() for one in await asyncio.gather(*many)], box, asked

    codes, box, asked = both(space, Seen(mynet()), work, lambda data: None)
    assert box == ["172.18.0.2"]
    assert asked == 20
    assert codes.count(dns.rcode.REFUSED) >= 30  # at once, those beyond 30, and some that waited
    assert codes.count(dns.rcode.SERVFAIL) >= 20


def test_nothing_that_comes_stops_it(space: Namespace) -> None:
    seed = random.Random(4)
    good = dns.message.make_query("box", "A", use_edns=0).to_wire()

    async def work() -> list[str]:
        loop = asyncio.get_running_loop()
        for _ in range(300):
            data = bytearray(good if seed.random() < 0.7 else seed.randbytes(seed.randrange(200)))
            for _ in range(seed.randrange(4)):
                if data:
                    data[seed.randrange(len(data))] = seed.randrange(256)
            with space.socket() as client:
                await loop.sock_sendto(client, bytes(data), world.WHERE)
            async with world.connected(space) as (_, writer):
                writer.write(framed(bytes(data)) if seed.random() < 0.5 else bytes(data))
        return addresses(await ask(space, "box")) + addresses(await ask(space, "other", tcp=True))

    assert serve(space, Seen(mynet()), work) == ["172.18.0.2", "172.18.0.3"]


# --- connections ---


def test_questions_of_one_connection_do_not_wait_for_each_other(
    space: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "TIMEOUT", 0.5)
    slow, quick = (dns.message.make_query(name, "A").to_wire() for name in ("slow.example", "box"))

    async def work(up: Upstream) -> tuple[list[str], list[str]]:
        async with world.connected(space) as (reader, writer):
            for byte in framed(slow) + framed(quick):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            first = dns.message.from_wire(await world.frame(reader))
            assert up.by_tcp[0][2:] == slow[2:]
            writer.write_eof()  # no more questions: the answer still comes
            second = dns.message.from_wire(await world.frame(reader))
            assert await reader.read() == b""
        return addresses(first), [dns.rcode.to_text(second.rcode())]

    assert both(space, Seen(mynet()), work, lambda data: None) == (["172.18.0.2"], ["SERVFAIL"])


def test_a_thousand_questions_at_once_by_tcp_are_all_answered(space: Namespace) -> None:
    async def work() -> set[int]:
        async with world.connected(space) as (reader, writer):
            for number in range(1000):
                writer.write(framed(dns.message.make_query("box", "A", id=number).to_wire()))
            return {int.from_bytes((await world.frame(reader))[:2], "big") for _ in range(1000)}

    assert serve(space, Seen(mynet()), work) == set(range(1000))


def test_idle_connections_end_and_make_room(space: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_IDLE", 0.5)
    monkeypatch.setattr(server, "_CONNECTIONS", 3)

    async def work() -> tuple[list[bytes], list[str]]:
        async with AsyncExitStack() as stack:
            idle = [await stack.enter_async_context(world.connected(space)) for _ in range(3)]
            idle[1][1].write(b"\0\x20half")
            late = asyncio.ensure_future(ask(space, "box", tcp=True))
            await asyncio.sleep(0.2)
            assert not late.done()
            return [await asyncio.wait_for(_end(reader), 5) for reader, _ in idle], addresses(await late)

    assert serve(space, Seen(mynet()), work) == ([b""] * 3, ["172.18.0.2"])


async def _end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def _send_for_ever(client: socket.socket, data: bytes) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(client, data)


def test_a_client_that_does_not_read_is_not_read_either(space: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_IDLE", 1.0)
    network = mynet()
    for number in range(200):
        network.add(f"many{number}", ["many"], [f"172.18.1.{number}"])
    query = framed(dns.message.make_query("many", "A").to_wire())

    async def work() -> list[str]:
        with space.socket(socket.SOCK_STREAM) as client:
            await asyncio.get_running_loop().sock_connect(client, world.WHERE)
            with pytest.raises((TimeoutError, ConnectionError)):
                await asyncio.wait_for(_send_for_ever(client, query * 100), 8)
        return addresses(await ask(space, "box"))

    assert serve(space, Seen(network), work) == ["172.18.0.2"]


# --- load ---


@pytest.mark.parametrize("tcp", [False, True])
def test_after_a_batch_it_is_everybody_elses_turn(space: Namespace, monkeypatch: pytest.MonkeyPatch, tcp: bool) -> None:
    monkeypatch.setattr(server.Pace, "pause", lambda pace, spent: 0.4)
    query = dns.message.make_query("box", "A").to_wire()

    async def by_udp() -> tuple[int, int]:
        with space.socket() as client:
            client.connect(world.WHERE)
            for _ in range(100):
                client.send(query)
            await asyncio.sleep(0.2)
            first = _waiting(client)
            await asyncio.sleep(1.6)
            return first, _waiting(client)

    async def by_tcp() -> tuple[int, int]:
        async with world.connected(space) as (reader, writer):
            writer.write(framed(query) * 100)
            await asyncio.sleep(0.2)
            size = len(framed(query)) + 16
            first = len(await reader.read(65536)) // size
            return first, len(await asyncio.wait_for(reader.readexactly((100 - first) * size), 5)) // size

    assert serve(space, Seen(mynet()), by_tcp if tcp else by_udp) == (32, 68)


def _waiting(client: socket.socket) -> int:
    found = 0
    while True:
        try:
            client.recv(512)
        except BlockingIOError:
            return found
        found += 1


def test_who_has_more_to_do_than_fits_gets_half_of_the_time_with_all_others_like_it() -> None:
    pace = server.Pace()
    assert pace.pause(0.5) == pytest.approx(0.5, abs=0.05)
    assert pace.pause(0.25) == pytest.approx(0.75, abs=0.05)
    time.sleep(0.1)
    assert pace.pause(0.1) == pytest.approx(0.75, abs=0.05)


def flood(space: Namespace) -> threading.Thread:
    """Asks as fast as it can for two seconds, in a process of its own; nobody reads the answers."""
    script = (
        "import socket, sys, time\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "q = bytes.fromhex('123401000001000000000000') + b'\\3box\\0\\0\\1\\0\\1'\n"
        "e = time.monotonic() + 2\n"
        "while time.monotonic() < e:\n"
        "    s.sendto(q, ('127.0.0.11', 53))\n"
    )
    words = ["nsenter", f"--net=/proc/{space.holder.pid}/ns/net", "python3", "-c", script]
    thread = threading.Thread(target=lambda: subprocess.run(words, check=True))
    thread.start()
    return thread


def test_a_flood_leaves_the_loop_to_others(space: Namespace) -> None:
    async def work() -> tuple[list[float], list[str]]:
        thread = flood(space)
        gaps, last = [], time.monotonic()
        while thread.is_alive():
            await asyncio.sleep(0.001)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()
        thread.join()
        return sorted(gaps), addresses(await ask(space, "box"))

    gaps, box = serve(space, Seen(mynet()), work)
    assert box == ["172.18.0.2"]
    assert gaps[len(gaps) // 2] < 0.02, f"the loop's turn takes {gaps[len(gaps) // 2]}"


def test_a_thousand_questions_a_second_are_all_answered(space: Namespace) -> None:
    query = dns.message.make_query("web", "A").to_wire()

    async def work() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        answered = 0
        with space.socket() as client:
            client.connect(world.WHERE)

            def read() -> None:
                nonlocal answered
                while True:
                    try:
                        client.recv(512)
                    except BlockingIOError:
                        return
                    answered += 1

            loop.add_reader(client.fileno(), read)
            begun, busy = time.monotonic(), time.process_time()
            for number in range(200):
                for _ in range(10):
                    client.send(query)
                await asyncio.sleep(max(0, begun + (number + 1) * 0.01 - time.monotonic()))
            await asyncio.sleep(0.2)
            loop.remove_reader(client.fileno())
            return answered, time.process_time() - busy

    answered, busy = serve(space, Seen(mynet()), work)
    assert answered == 2000
    assert busy < 1.0, "more than half of a core, client included"
