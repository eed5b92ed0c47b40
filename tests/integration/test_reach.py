"""Who reaches a container, by which address and port: real sockets on the host, on a neighbour, in other containers."""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.net_world import (
    HOME,
    HOME6,
    IMPATIENCE,
    OTHER,
    OTHER6,
    PATIENCE,
    Box,
    Space,
    World,
    address,
    assert_footprint,
    heard,
    inspect,
    make_world,
    meets,
)

from kist.kernel import netlink

BOTH = ("--ipv6", "--subnet", "172.30.0.0/24", "--subnet", "fd00:30::/64")
BOTH2 = ("--ipv6", "--subnet", "172.31.0.0/24", "--subnet", "fd00:31::/64")
KINDS = ("tcp", "udp")
_GETGEN = 10 << 8 | 16  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
_MODE4 = "com.docker.network.bridge.gateway_mode_ipv4"
_MODE6 = "com.docker.network.bridge.gateway_mode_ipv6"


@pytest.fixture(scope="module")
def shared_world(busybox_archive: Path) -> Iterator[World]:
    made = make_world(busybox_archive)
    yield made
    made.end()


@pytest.fixture
def spaces() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def world(shared_world: World, spaces: ExitStack) -> Iterator[World]:
    before = shared_world.footprint()
    yield shared_world
    spaces.close()
    shared_world.engine.remove_all()
    shared_world.remove_networks()
    assert_footprint(shared_world.footprint, before)


def routes_to(world: World, subnet: str, via: str) -> None:
    """The neighbour knows the way to the containers."""
    world.other.run("ip", "route", "replace", subnet, "via", via)


@pytest.mark.parametrize("kind", KINDS)
def test_one_network_is_open_inside_and_closed_to_all_others(world: World, spaces: ExitStack, kind: str) -> None:
    """Neither EXPOSE nor -p: any port inside, from the host, not from elsewhere. Sources are never changed."""
    world.engine.ok("network", "create", *BOTH, "one")
    world.engine.ok("network", "create", *BOTH2, "two")
    web = Box(world, spaces, "web", "one", "--expose", "90")
    near, far = Box(world, spaces, "near", "one"), Box(world, spaces, "far", "two")
    routes_to(world, "172.30.0.0/24", HOME)
    routes_to(world, "fd00:30::/64", HOME6)
    for port in (80, 90):
        assert meets(web.space, port, near.space, web.four, kind=kind) == near.four
        assert meets(web.space, port, near.space, web.six, kind=kind) == near.six
        assert meets(web.space, port, world.home, web.four, kind=kind) == "172.30.0.1"
        assert meets(web.space, port, world.home, web.six, kind=kind) == "fd00:30::1"
        for where in (web.four, web.six):
            assert heard(web.space, port, far.space, where, kind=kind) == ""
            assert heard(web.space, port, world.other, where, kind=kind) == ""
        assert heard(web.space, port, world.other, HOME, kind=kind) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_what_leaves_a_network_has_the_hosts_address_and_answers_come_back(
    world: World, spaces: ExitStack, kind: str
) -> None:
    world.engine.ok("network", "create", *BOTH, "one")
    world.engine.ok("network", "create", *BOTH2, "-o", "com.docker.network.bridge.enable_ip_masquerade=false", "two")
    one, two = Box(world, spaces, "box", "one"), Box(world, spaces, "plain", "two")
    assert meets(world.other, 7000, one.space, OTHER, kind=kind) == HOME
    assert meets(world.other, 7000, one.space, OTHER6, kind=kind) == HOME6
    routes_to(world, "172.31.0.0/24", HOME)
    routes_to(world, "fd00:31::/64", HOME6)
    assert meets(world.other, 7001, two.space, OTHER, kind=kind) == two.four
    assert meets(world.other, 7001, two.space, OTHER6, kind=kind) == two.six


@pytest.mark.parametrize("kind", KINDS)
def test_a_published_port_is_reached_from_everywhere(world: World, spaces: ExitStack, kind: str) -> None:
    """By every address of the host; who comes from outside or another network is seen by the own address."""
    world.engine.ok("network", "create", *BOTH, "one")
    world.engine.ok("network", "create", *BOTH2, "two")
    web = Box(world, spaces, "web", "one", "-p", f"8080:80/{kind}")
    near, far = Box(world, spaces, "near", "one"), Box(world, spaces, "far", "two")
    assert web.ports() == {
        f"80/{kind}": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]
    }
    assert meets(web.space, 80, world.other, HOME, 8080, kind) == OTHER
    assert meets(web.space, 80, world.other, HOME6, 8080, kind) == OTHER6
    assert meets(web.space, 80, far.space, HOME, 8080, kind) == far.four
    assert meets(web.space, 80, far.space, HOME6, 8080, kind) == far.six
    assert meets(web.space, 80, far.space, "172.31.0.1", 8080, kind) == far.four  # the host, as that network sees it
    assert meets(web.space, 80, world.home, HOME, 8080, kind) in (HOME, "172.30.0.1")
    assert meets(web.space, 80, world.home, HOME6, 8080, kind) in (HOME6, "fd00:30::1")
    assert meets(web.space, 80, world.home, "127.0.0.1", 8080, kind) == "172.30.0.1"
    if kind == "tcp":  # clients that try ::1 first go on to 127.0.0.1 at once
        with world.home.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
            client.settimeout(PATIENCE)
            assert client.connect_ex(("::1", 8080)) == errno.ECONNREFUSED
    # hairpin: out of the bridge and in again, with the bridge's address, or the answer would take another way
    assert meets(web.space, 80, near.space, HOME, 8080, kind) == "172.30.0.1"
    assert meets(web.space, 80, near.space, HOME6, 8080, kind) == "fd00:30::1"
    assert meets(web.space, 80, web.space, HOME, 8080, kind) == "172.30.0.1"
    assert meets(web.space, 80, web.space, HOME6, 8080, kind) == "fd00:30::1"
    # nothing else is open
    assert heard(web.space, 81, world.other, HOME, 8081, kind) == ""
    assert heard(web.space, 80, world.other, HOME, 80, kind) == ""
    assert heard(web.space, 80, far.space, web.four, 80, kind) == ""


def test_forms_of_publishing(world: World, spaces: ExitStack) -> None:
    engine = world.engine
    engine.ok("network", "create", *BOTH, "one")
    options = ["-p", "9000-9002:90-92", "-p", f"{HOME}:9100:100", "-p", f"[{HOME6}]:9200:110"]
    options += ["-p", "120", "-p", "9300:130/udp", "-p", "9400-9410:140", "-p", "0.0.0.0:9500:150"]
    web = Box(world, spaces, "web", "one", *options)
    ports = web.ports()
    for number in (0, 1, 2):
        assert meets(web.space, 90 + number, world.other, HOME, 9000 + number) == OTHER
        assert meets(web.space, 90 + number, world.other, HOME6, 9000 + number) == OTHER6
    assert ports["100/tcp"] == [{"HostIp": HOME, "HostPort": "9100"}]
    assert meets(web.space, 100, world.other, HOME, 9100) == OTHER
    assert heard(web.space, 100, world.home, "127.0.0.1", 9100) == ""
    assert heard(web.space, 100, world.other, HOME6, 9100) == ""
    assert ports["110/tcp"] == [{"HostIp": HOME6, "HostPort": "9200"}]
    assert meets(web.space, 110, world.other, HOME6, 9200) == OTHER6
    assert heard(web.space, 110, world.other, HOME, 9200) == ""
    chosen = {one["HostPort"] for one in ports["120/tcp"]}
    assert len(chosen) == 1, "one number for both families"
    assert meets(web.space, 120, world.other, HOME6, int(chosen.pop())) == OTHER6
    assert meets(web.space, 130, world.other, HOME, 9300, "udp") == OTHER
    assert heard(web.space, 130, world.other, HOME, 9300, "tcp") == ""
    assert {one["HostPort"] for one in ports["140/tcp"]} == {"9400"}
    assert [one["HostIp"] for one in ports["150/tcp"]] == ["0.0.0.0"]
    assert heard(web.space, 150, world.other, HOME6, 9500) == ""
    taken = engine.docker("run", "-d", "--name", "late", "--network", "one", "-p", "9000:80", "busybox", "true")
    assert taken.status == 125
    assert "Bind for 0.0.0.0:9000 failed: port is already allocated" in taken.errors
    engine.ok("run", "-d", "--name", "next", "--network", "one", "-p", "9400-9410:140", "busybox", "sleep", "1000")
    assert inspect(engine, "next")["NetworkSettings"]["Ports"]["140/tcp"][0]["HostPort"] == "9401"
    _, listed = engine.request("GET", "/containers/json")
    shown = {(one["IP"], one["PublicPort"]) for one in listed[-1]["Ports"] if one["PrivatePort"] == 90}
    assert shown == {("0.0.0.0", 9000), ("::", 9000)}


def test_a_port_is_free_again_and_foreign_sockets_keep_theirs(world: World, spaces: ExitStack) -> None:
    engine = world.engine
    engine.ok("network", "create", *BOTH, "one")
    with world.home.socket(socket.AF_INET6, socket.SOCK_STREAM) as foreign:
        foreign.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        foreign.bind(("::", 9600))
        failed = engine.docker(
            "run", "-d", "--name", "web", "--network", "one", "-p", "9600:80", "busybox", "sleep", "99"
        )
        assert failed.status == 125
        assert "failed to bind host port [::]:9600/tcp: address already in use" in failed.errors
        engine.ok("rm", "web")
    web = Box(world, spaces, "web", "one", "-p", "9600:80")
    assert meets(web.space, 80, world.other, HOME6, 9600) == OTHER6
    engine.ok("rm", "-f", "web")
    for family, where in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with world.home.socket(family, socket.SOCK_STREAM) as again:
            again.bind((where, 9600))


def test_who_goes_on_sending_datagrams_is_led_to_who_is_there_now(world: World) -> None:
    """The kernel remembers where a sender was led; it must not be to nobody, or to who had the port before."""
    engine = world.engine
    engine.ok("network", "create", *BOTH, "one")
    for where in (HOME, HOME6):
        family = socket.AF_INET6 if ":" in where else socket.AF_INET
        with world.other.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"nobody", (where, 9650))
            for name in ("first", "second"):
                with ExitStack() as spaces:  # a namespace that is held keeps its end of the bridge, with the address
                    box = Box(world, spaces, name, "one", "-p", "9650:80/udp")
                    with box.space.socket(family, socket.SOCK_DGRAM) as listening:
                        listening.bind(("", 80))
                        listening.settimeout(PATIENCE)
                        sender.sendto(name.encode(), (where, 9650))
                        assert listening.recv(10) == name.encode()
                engine.ok("rm", "-f", name)
                time.sleep(0.3)  # the kernel takes namespaces away in its own time


def test_a_network_says_where_its_ports_are_published_and_whom_it_trusts(world: World, spaces: ExitStack) -> None:
    bridge = "com.docker.network.bridge"
    world.engine.ok("network", "create", *BOTH, "-o", f"{bridge}.host_binding_ipv4=127.0.0.1", "one")
    world.engine.ok("network", "create", *BOTH2, "-o", f"{bridge}.trusted_host_interfaces=wire", "two")
    web, trusting = Box(world, spaces, "web", "one", "-p", "9670:80"), Box(world, spaces, "trusting", "two")
    assert web.ports() == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "9670"}]}
    assert heard(web.space, 80, world.other, HOME, 9670) == ""
    assert meets(web.space, 80, world.home, "127.0.0.1", 9670) == "172.30.0.1"
    routes_to(world, "172.31.0.0/24", HOME)
    assert meets(trusting.space, 80, world.other, trusting.four) == OTHER
    assert heard(trusting.space, 80, web.space, trusting.four) == ""


def test_publish_all(world: World, spaces: ExitStack) -> None:
    world.engine.ok("network", "create", *BOTH, "one")
    web = Box(
        world, spaces, "web", "one", "-P", "--expose", "80", "--expose", "53/udp", "-p", "9700:81", "--expose", "81"
    )
    ports = web.ports()
    assert set(ports) == {"80/tcp", "53/udp", "81/tcp"}
    assert ports["81/tcp"][0]["HostPort"] == "9700"
    assert meets(web.space, 80, world.other, HOME, int(ports["80/tcp"][0]["HostPort"])) == OTHER
    assert meets(web.space, 53, world.other, HOME6, int(ports["53/udp"][1]["HostPort"]), "udp") == OTHER6


def test_ipv6_addresses_of_the_host_are_refused_to_containers_without(world: World) -> None:
    world.engine.ok("network", "create", "four")
    done = world.engine.docker("run", "-d", "--network", "four", "-p", "[::1]:9800:80", "busybox", "true")
    assert done.status == 125
    assert (
        "publishing on the IPv6 address ::1 is supported only for containers that have an IPv6 address" in done.errors
    )


@pytest.mark.parametrize("kind", KINDS)
def test_loopback_is_the_hosts_own(world: World, spaces: ExitStack, kind: str) -> None:
    """A port published on 127.0.0.1 is reached from the host alone: also frames made for it do not get there."""
    world.engine.ok("network", "create", *BOTH, "one")
    world.engine.ok("network", "create", *BOTH2, "two")
    web = Box(world, spaces, "web", "one", "-p", f"127.0.0.1:8088:80/{kind}", "-p", f"8089:82/{kind}")
    far = Box(world, spaces, "far", "two")
    routes_to(world, "172.30.0.0/24", HOME)
    assert meets(web.space, 80, world.home, "127.0.0.1", 8088, kind) == "172.30.0.1"
    for client in (world.other, far.space):
        for where, port in ((HOME, 8088), (web.four, 80), (web.four, 8088)):
            assert heard(web.space, 80, client, where, port, kind) == ""
    assert heard(web.space, 80, world.home, HOME, 8088, kind) == ""
    arrives = frame_arrives(world.other, world.home, web.space, HOME, 8089, 82)
    assert arrives == (kind == "udp"), "frames are well made"
    for where, port, inside in (
        ("127.0.0.1", 8088, 80),
        ("127.0.0.1", 8089, 82),
        (web.four, 80, 80),
        (web.four, 82, 82),
    ):
        assert not frame_arrives(world.other, world.home, web.space, where, port, inside), (where, port)


def frame_arrives(sender: Space, host: Space, server: Space, where: str, port: int, inside: int) -> bool:
    """Whether a datagram for `where` that is sent to the host's MAC gets to the server's port `inside`."""
    body = struct.pack(">HHHH", 40000, port, 8 + 4, 0) + b"evil"
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0,
                       socket.inet_aton(OTHER), socket.inet_aton(where))  # fmt: skip
    head = head[:10] + struct.pack(">H", _checksum(head)) + head[12:]
    with (
        server.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening,
        sender.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire,
    ):
        listening.bind(("0.0.0.0", inside))
        listening.settimeout(IMPATIENCE)
        wire.bind(("wire", 0x0800))
        wire.send(_mac(host) + _mac(sender) + b"\x08\x00" + head + body)
        try:
            return listening.recv(10) == b"evil"
        except TimeoutError:
            return False


def _mac(space: Space) -> bytes:
    shown = space.run("ip", "-o", "link", "show", "wire").split()
    return bytes.fromhex(shown[shown.index("link/ether") + 1].replace(":", ""))


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@pytest.mark.parametrize("kind", KINDS)
def test_containers_of_a_closed_network_do_not_reach_each_other(world: World, spaces: ExitStack, kind: str) -> None:
    world.engine.ok("network", "create", *BOTH, "-o", "com.docker.network.bridge.enable_icc=false", "one")
    web = Box(world, spaces, "web", "one", "--expose", "80", "-p", f"8080:80/{kind}")
    near = Box(world, spaces, "near", "one")
    assert heard(web.space, 80, near.space, web.four, kind=kind) == ""
    assert heard(web.space, 80, near.space, web.six, kind=kind) == ""
    assert meets(web.space, 80, world.other, HOME, 8080, kind) == OTHER
    assert meets(web.space, 80, world.other, HOME6, 8080, kind) == OTHER6
    assert meets(web.space, 80, near.space, HOME, 8080, kind) == "172.30.0.1"
    assert meets(web.space, 80, web.space, HOME, 8080, kind) == "172.30.0.1"
    assert meets(world.other, 7100, near.space, OTHER, kind=kind) == HOME


def test_an_internal_network_has_no_way_out_and_none_in(world: World, spaces: ExitStack) -> None:
    world.engine.ok("network", "create", *BOTH, "--internal", "one")
    world.engine.ok("network", "create", *BOTH2, "two")
    web = Box(world, spaces, "web", "one", "-p", "8080:80")
    near, far = Box(world, spaces, "near", "one"), Box(world, spaces, "far", "two")
    routes_to(world, "172.30.0.0/24", HOME)
    assert meets(web.space, 80, near.space, web.four) == near.four
    assert meets(web.space, 80, near.space, web.six, kind="udp") == near.six
    assert meets(web.space, 80, world.home, web.four) == "172.30.0.1"  # Docker lets the host in as well
    assert web.ports() in ({}, {"80/tcp": None})
    for client, where, port in ((world.other, HOME, 8080), (world.other, web.four, 80), (far.space, web.four, 80),
                                (far.space, web.six, 80)):  # fmt: skip
        assert heard(web.space, 80, client, where, port) == ""
    assert web.space.run("ip", "route", "show", "default") == ""
    web.space.run("ip", "route", "add", "default", "via", "172.30.0.1")  # by a container that helps itself
    assert heard(world.other, 7200, web.space, OTHER) == ""
    assert heard(far.space, 7200, web.space, far.four) == ""


def test_a_network_with_isolated_gateway_is_not_even_the_hosts(world: World, spaces: ExitStack) -> None:
    options = ("-o", f"{_MODE4}=isolated", "-o", f"{_MODE6}=isolated")
    world.engine.ok("network", "create", *BOTH, "--internal", *options, "one")
    web, near = Box(world, spaces, "web", "one"), Box(world, spaces, "near", "one")
    assert meets(web.space, 80, near.space, web.four) == near.four
    assert meets(web.space, 80, near.space, web.six) == near.six
    assert heard(web.space, 80, world.home, web.four) == ""
    assert "172.30.0" not in world.home.run("ip", "address", "show")


@pytest.mark.parametrize("kind", KINDS)
def test_a_routed_network_is_reached_by_its_own_addresses(world: World, spaces: ExitStack, kind: str) -> None:
    options = ("-o", f"{_MODE4}=routed", "-o", f"{_MODE6}=routed")
    world.engine.ok("network", "create", *BOTH, *options, "one")
    world.engine.ok("network", "create", *BOTH2, "two")
    web = Box(world, spaces, "web", "one", "-p", f"8080:80/{kind}", "--expose", "81", "-p", "8085:85", "-p", "8086:85")
    far = Box(world, spaces, "far", "two")
    routes_to(world, "172.30.0.0/24", HOME)
    routes_to(world, "fd00:30::/64", HOME6)
    assert web.ports()[f"80/{kind}"] == [{"HostIp": "0.0.0.0", "HostPort": ""}, {"HostIp": "::", "HostPort": ""}]
    assert meets(web.space, 80, world.other, web.four, kind=kind) == OTHER
    assert meets(web.space, 80, world.other, web.six, kind=kind) == OTHER6
    assert heard(web.space, 81, world.other, web.four, kind=kind) == ""
    assert heard(web.space, 81, world.other, web.six, kind=kind) == ""
    assert heard(web.space, 80, world.other, HOME, 8080, kind) == ""
    assert meets(world.other, 7300, web.space, OTHER, kind=kind) == web.four
    assert meets(world.other, 7300, web.space, OTHER6, kind=kind) == web.six
    assert meets(web.space, 80, far.space, web.four, kind=kind) == far.four
    world.other.run("busybox", "ping", "-c1", "-W2", web.four)
    with world.home.socket(socket.AF_INET, socket.SOCK_STREAM) as free:
        free.bind(("0.0.0.0", 8080))  # no port of the host is taken


def test_one_family_routed_the_other_translated(world: World, spaces: ExitStack) -> None:
    world.engine.ok("network", "create", *BOTH, "-o", f"{_MODE6}=routed", "one")
    web = Box(world, spaces, "web", "one", "-p", "8080:80")
    routes_to(world, "fd00:30::/64", HOME6)
    assert web.ports()["80/tcp"] == [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": ""}]
    assert meets(web.space, 80, world.other, HOME, 8080) == OTHER
    assert meets(web.space, 80, world.other, web.six) == OTHER6


def test_an_unprotected_network_is_reached_at_every_port_but_not_from_other_networks(
    world: World, spaces: ExitStack
) -> None:
    options = ("-o", f"{_MODE4}=nat-unprotected", "-o", f"{_MODE6}=nat-unprotected")
    world.engine.ok("network", "create", *BOTH, *options, "one")
    world.engine.ok("network", "create", *BOTH2, "two")
    web = Box(world, spaces, "web", "one", "-p", "8080:80")
    far = Box(world, spaces, "far", "two")
    routes_to(world, "172.30.0.0/24", HOME)
    assert meets(web.space, 81, world.other, web.four) == OTHER
    assert meets(web.space, 80, world.other, HOME, 8080) == OTHER
    assert heard(web.space, 81, far.space, web.four) == ""
    assert meets(web.space, 80, far.space, HOME, 8080) == far.four
    assert meets(world.other, 7400, web.space, OTHER) == HOME


@pytest.mark.parametrize("kind", KINDS)
def test_containers_of_a_strict_network_reach_each_other_on_exposed_ports_only(
    world: World, spaces: ExitStack, kind: str
) -> None:
    engine = world.engine
    engine.ok("network", "create", *BOTH, "-o", "kist.expose=strict", "one")
    web = Box(world, spaces, "web", "one", "--expose", f"80/{kind}", "-p", f"8082:82/{kind}")
    near = Box(world, spaces, "near", "one")
    engine.ok("run", "-d", "--name", "late", "--expose", f"80/{kind}", "busybox", "sleep", "1000")
    assert meets(web.space, 80, near.space, web.four, kind=kind) == near.four
    assert meets(web.space, 80, near.space, web.six, kind=kind) == near.six
    assert meets(web.space, 82, near.space, web.four, kind=kind) == near.four
    assert meets(web.space, 82, world.other, HOME, 8082, kind=kind) == OTHER
    other = "udp" if kind == "tcp" else "tcp"
    for where in (web.four, web.six):
        assert heard(web.space, 81, near.space, where, kind=kind) == ""
        assert heard(web.space, 80, near.space, where, kind=other) == ""
    engine.ok("network", "connect", "one", "late")
    late = world.container("late")
    spaces.callback(late.close)
    where = address(engine, "late", "one")
    assert meets(late, 80, near.space, where, kind=kind) == near.four
    assert heard(late, 81, near.space, where, kind=kind) == ""
    engine.ok("network", "disconnect", "one", "late")
    engine.ok("rm", "-f", "web")
    fresh = Box(world, spaces, "fresh", "one", "--ip", where)
    assert heard(fresh.space, 80, near.space, fresh.four, kind=kind) == "", (
        "what was exposed at this address is not now"
    )


def test_ports_follow_the_way_out(world: World, spaces: ExitStack) -> None:
    """Published ports lead to the network with the default route, of each family."""
    engine = world.engine
    engine.ok("network", "create", "--subnet", "172.31.0.0/24", "two")
    engine.ok("network", "create", *BOTH, "one")
    web = Box(world, spaces, "web", "two", "-p", "8080:80")
    assert [one["HostIp"] for one in web.ports()["80/tcp"]] == ["0.0.0.0"]
    engine.ok("network", "connect", "one", "web")
    assert [one["HostIp"] for one in web.ports()["80/tcp"]] == ["0.0.0.0", "::"]
    assert meets(web.space, 80, world.other, HOME, 8080) == OTHER
    assert meets(web.space, 80, world.other, HOME6, 8080) == OTHER6
    engine.ok("network", "disconnect", "one", "web")
    assert [one["HostIp"] for one in web.ports()["80/tcp"]] == ["0.0.0.0"]
    assert meets(web.space, 80, world.other, HOME, 8080) == OTHER
    engine.ok("network", "disconnect", "two", "web")
    assert heard(web.space, 80, world.other, HOME, 8080) == ""


def test_all_stands_again_after_a_crash(busybox_archive: Path, spaces: ExitStack) -> None:
    """kill -9 of kistd: all goes on, and the next one takes over what there is, to take it back in the end."""
    world = make_world(busybox_archive)
    try:
        engine = world.engine
        before = world.footprint()
        engine.ok("network", "create", *BOTH, "-o", "kist.expose=strict", "one")
        web = Box(world, spaces, "web", "one", "--expose", "81", "-p", "8080:80")
        near = Box(world, spaces, "near", "one")
        for step in (engine.kill, world.start):
            step()
            assert meets(web.space, 80, world.other, HOME, 8080) == OTHER
            assert meets(web.space, 80, world.other, HOME6, 8080) == OTHER6
            assert heard(web.space, 82, near.space, "172.30.0.2") == ""
            assert meets(web.space, 81, near.space, "172.30.0.2")
        taken = engine.docker("run", "-d", "--network", "one", "-p", "8080:80", "busybox", "true")
        assert "port is already allocated" in taken.errors
        spaces.close()
        engine.remove_all()
        world.remove_networks()
        del before["descriptors"]
        assert_footprint(world.footprint, before)
    finally:
        world.end()


def test_links_open_a_closed_default_bridge(busybox_archive: Path, spaces: ExitStack) -> None:
    world = make_world(busybox_archive, "--icc=false")
    try:
        web = Box(world, spaces, "web", "bridge", "--expose", "80")
        linked = Box(world, spaces, "linked", "bridge", "--link", "web")
        other = Box(world, spaces, "other", "bridge")
        for again in (False, True):
            if again:
                world.engine.kill()
                world.start()
            assert meets(web.space, 80, linked.space, web.four) == linked.four
            assert heard(web.space, 81, linked.space, web.four) == ""
            assert heard(web.space, 80, other.space, web.four) == ""
        spaces.close()
        world.engine.ok("stop", "-t", "0", "web")
        taker = Box(world, spaces, "taker", "bridge")
        world.engine.ok("start", "web")
        web, linked = Box.of(world, spaces, "web", "bridge"), Box.of(world, spaces, "linked", "bridge")
        assert web.four != taker.four
        assert meets(web.space, 80, linked.space, web.four) == linked.four
        assert heard(taker.space, 80, linked.space, taker.four) == "", "it has the address that the link led to"
        world.engine.ok("rm", "-f", "linked")
        world.engine.request("POST", "/kist/quiesce")
        stranger = Box(world, spaces, "stranger", "bridge")
        assert heard(web.space, 80, stranger.space, web.four) == ""
    finally:
        world.end()


def test_sctp_is_published_where_the_kernel_has_it(world: World, spaces: ExitStack) -> None:
    world.engine.ok("network", "create", *BOTH, "one")
    try:
        world.home.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
    except OSError:
        done = world.engine.docker("run", "-d", "--network", "one", "-p", "9900:80/sctp", "busybox", "true")
        assert done.status == 125
        assert "failed to bind host port 0.0.0.0:9900/sctp: protocol not supported" in done.errors
        return
    web = Box(world, spaces, "web", "one", "-p", "9900:80/sctp")
    with web.space.socket(socket.AF_INET, socket.SOCK_STREAM, 132) as listening:
        listening.bind(("0.0.0.0", 80))
        listening.listen()
        with world.other.socket(socket.AF_INET, socket.SOCK_STREAM, 132) as client:
            client.settimeout(5)
            client.connect((HOME, 9900))
            assert listening.accept()[1][0] == OTHER


def test_a_start_is_one_transaction(world: World) -> None:
    """However many ports are published: starts do not become slower by what they open one after the other."""
    world.engine.ok("network", "create", *BOTH, "-o", "kist.expose=strict", "one")
    before = _generation(world)
    world.engine.ok(
        "run", "-d", "--name", "web", "--network", "one", "-p", "9000-9019:9000-9019", "busybox", "sleep", "99"
    )
    assert _generation(world) == before + 1


def _generation(world: World) -> int:
    """How often the rules of the namespace have changed: nf_tables counts its transactions."""
    with world.home.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.NETLINK_NETFILTER) as asking:
        asking.send(netlink.message(_GETGEN, netlink.NLM_F_REQUEST, 1, bytes(4)))
        answer = asking.recv(4096)
    return int(struct.unpack_from(">I", answer, 24)[0])  # behind nlmsghdr, nfgenmsg, nlattr
