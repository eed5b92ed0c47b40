"""The life of networks: made, joined, left, found by name, told in events, refused as by Docker, kept over crashes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.net_world import OTHER, Box, World, address, assert_footprint, endpoint, inspect, make_world, meets, resolve

from kist.kernel.nftables import Firewall, Request
from kist.network import firewall

ONE = ("--ipv6", "--subnet", "172.30.0.0/24", "--subnet", "fd00:30::/64")
TWO = ("--ipv6", "--subnet", "172.31.0.0/24", "--subnet", "fd00:31::/64")
SLEEP = ("busybox", "sleep", "10000")


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


@pytest.fixture
def own_world(busybox_archive: Path) -> Iterator[World]:
    """To be killed."""
    made = make_world(busybox_archive)
    before = made.footprint()
    yield made
    try:
        made.engine.remove_all()
        made.remove_networks()
        del before["descriptors"]
        assert_footprint(made.footprint, before)
    finally:
        made.end()


def network(world: World, name: str) -> Any:
    status, answer = world.engine.request("GET", f"/networks/{name}")
    assert status == 200, answer
    return answer


def interfaces(box: Box) -> dict[str, list[str]]:
    """Global addresses with prefix length, by the interface's name."""
    shown = json.loads(box.space.run("ip", "-j", "address", "show"))
    return {
        one["ifname"]: [f"{a['local']}/{a['prefixlen']}" for a in one["addr_info"] if a["scope"] == "global"]
        for one in shown
        if one["ifname"] != "lo"
    }


def ways(box: Box) -> list[tuple[str, str]]:
    """(gateway, interface) of the default routes, IPv4 first."""
    found = []
    for version in ("-4", "-6"):
        shown = json.loads(box.space.run("ip", version, "-j", "route", "show", "default"))
        found += [(one["gateway"], one["dev"]) for one in shown]
    return found


# --- networks themselves ---


def test_a_network_is_shown_as_it_was_asked_for(world: World) -> None:
    made = world.engine.ok(
        "network", "create", *ONE, "--gateway", "172.30.0.9", "--ip-range", "172.30.0.128/25", "--label", "a=b",
        "--aux-address", "router=172.30.0.129", "-o", "com.docker.network.driver.mtu=1400", "one",
    ).strip()  # fmt: skip
    shown = network(world, "one")
    assert shown["Id"] == made
    assert len(made) == 64
    assert (shown["Driver"], shown["Scope"], shown["EnableIPv4"], shown["EnableIPv6"]) == (
        "bridge",
        "local",
        True,
        True,
    )
    assert shown["IPAM"]["Config"] == [
        {
            "Subnet": "172.30.0.0/24",
            "IPRange": "172.30.0.128/25",
            "Gateway": "172.30.0.9",
            "AuxiliaryAddresses": {"router": "172.30.0.129"},
        },
        {"Subnet": "fd00:30::/64", "Gateway": "fd00:30::1"},
    ]
    assert shown["Labels"] == {"a": "b"}
    assert shown["Options"] == {"com.docker.network.driver.mtu": "1400"}
    assert shown["Containers"] == {}
    for name in (made[:12], made, "one"):
        assert network(world, name)["Id"] == made
    link = json.loads(world.home.run("ip", "-j", "address", "show", f"br-{made[:12]}"))[0]
    assert link["mtu"] == 1400
    assert {"172.30.0.9", "fd00:30::1"} <= {one["local"] for one in link["addr_info"]}
    listed = world.engine.ok("network", "ls", "--filter", "label=a", "--format", "{{.Name}} {{.Driver}}")
    assert listed == "one bridge\n"
    world.engine.ok("run", "-d", "--name", "web", "--network", "one", *SLEEP)
    web = inspect(world.engine, "web")
    assert address(world.engine, "web", "one") == "172.30.0.128"
    assert network(world, "one")["Containers"][web["Id"]] == {
        "Name": "web",
        "EndpointID": web["NetworkSettings"]["Networks"]["one"]["EndpointID"],
        "MacAddress": web["NetworkSettings"]["Networks"]["one"]["MacAddress"],
        "IPv4Address": "172.30.0.128/24",
        "IPv6Address": address(world.engine, "web", "one", 6) + "/64",
    }
    refused = world.engine.request("DELETE", "/networks/one")
    told = web["NetworkSettings"]["Networks"]["one"]["EndpointID"][:12]
    assert refused == (403, {"message": f"error while removing network: network one has active endpoints "
                                        f'(name:"web" id:"{told}")'})  # fmt: skip
    assert world.engine.ok("network", "prune", "-f") == ""
    world.engine.ok("rm", "-f", "web")
    assert world.engine.ok("network", "rm", "one") == "one\n"
    assert f"br-{made[:12]}" not in world.home.run("ip", "link")
    assert world.engine.request("DELETE", "/networks/one")[0] == 404


def test_prune_takes_networks_without_containers(world: World) -> None:
    engine = world.engine
    for name in ("used", "empty", "kept"):
        engine.ok("network", "create", *(("--label", "keep") if name == "kept" else ()), name)
    engine.ok("run", "-d", "--name", "web", "--network", "used", *SLEEP)
    status, answer = engine.request("POST", '/networks/prune?filters={"label!":{"keep":true}}')
    assert (status, answer) == (200, {"NetworksDeleted": ["empty"]})
    assert engine.ok("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}").split() == ["kept", "used"]


REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/networks/create", {"Name": "bridge"}, 403,
     "operation is not permitted on predefined bridge network "),
    ("POST", "/networks/create", {"Name": "there"}, 409, "network with name there already exists"),
    ("POST", "/networks/create", {"Name": " "}, 400, "invalid name: name is empty"),
    ("POST", "/networks/create", {"Name": "x", "Driver": "nosuch"}, 404,
     'could not find plugin nosuch in v1 plugin registry: plugin "nosuch" not found'),
    ("POST", "/networks/create", {"Name": "x", "IPAM": {"Config": [{"Subnet": "172.30.0.1/24"}]}}, 400,
     "invalid network config:\ninvalid subnet 172.30.0.1/24: it should be 172.30.0.0/24"),
    ("POST", "/networks/create", {"Name": "x", "IPAM": {"Config": [{"Subnet": "172.29.5.0/25"}]}}, 403,
     "invalid pool request: Pool overlaps with other one on this address space"),
    ("DELETE", "/networks/bridge", None, 403, "bridge is a pre-defined network and cannot be removed"),
    ("DELETE", "/networks/nosuch", None, 404, "network nosuch not found"),
    ("GET", "/networks/nosuch", None, 404, "network nosuch not found"),
    ("POST", "/networks/nosuch/connect", {"Container": "runs"}, 404, "network nosuch not found"),
    ("POST", "/networks/there/connect", {"Container": "nosuch"}, 404, "No such container: nosuch"),
    ("POST", "/networks/there/connect", {"Container": "runs"}, 403,
     "endpoint with name runs already exists in network there"),
    ("POST", "/networks/host/connect", {"Container": "runs"}, 400,
     "cannot connect container to host network - container must be created in host network mode"),
    ("POST", "/networks/bridge/disconnect", {"Container": "runs"}, 500, "is not connected to network bridge"),
    ("POST", "/networks/other/connect",
     {"Container": "runs", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "172.28.0.9"}}}, 400,
     "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 172.28.0.9"),
    ("POST", "/networks/other/connect",
     {"Container": "runs", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "172.31.0.1"}}}, 403,
     "Address already in use"),
    ("POST", "/networks/other/connect",
     {"Container": "runs", "EndpointConfig": {"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.a=1"}}},
     400, "unrecognised network interface sysctl 'net.a=1'"),
    ("POST", "/networks/other/connect",
     {"Container": "runs", "EndpointConfig": {"MacAddress": "nonsense"}}, 400, "invalid MAC address"),
]  # fmt: skip


def test_bad_input_is_refused_as_docker_does(world: World) -> None:
    engine = world.engine
    engine.ok("network", "create", "--subnet", "172.29.0.0/16", "there")
    engine.ok("network", "create", "--subnet", "172.31.0.0/24", "other")
    engine.ok("run", "-d", "--name", "runs", "--network", "there", *SLEEP)
    before = inspect(engine, "runs")["NetworkSettings"]
    for method, path, body, status, text in REFUSED:
        got, answer = engine.request(method, path, body)
        assert (got, text in answer["message"]) == (status, True), (path, body, answer)
        assert inspect(engine, "runs")["NetworkSettings"] == before


# --- endpoints ---


def test_several_networks_have_stable_names_and_one_way_out(world: World, spaces: ExitStack) -> None:
    """The network of the mode is eth0, the others follow as in the request, which docker sorts by name. The
    way out is by priority, else by name; and after a restart all is the same.
    """
    engine = world.engine
    engine.ok("network", "create", *TWO, "alpha")
    engine.ok("network", "create", *ONE, "beta")
    engine.ok("network", "create", "--subnet", "172.29.0.0/24", "gamma")
    engine.ok("create", "--name", "web", "--network", "gamma", "--network", "name=beta,gw-priority=1",
              "--network", "alpha", *SLEEP)  # fmt: skip
    for _ in range(2):
        engine.ok("restart", "-t", "0", "web")
        box = Box.of(world, spaces, "web", "beta")
        assert interfaces(box) == {
            "eth0": ["172.29.0.2/24"],
            "eth1": ["172.31.0.2/24", "fd00:31::2/64"],
            "eth2": ["172.30.0.2/24", "fd00:30::2/64"],
        }
        assert ways(box) == [("172.30.0.1", "eth2"), ("fd00:30::1", "eth2")]
        spaces.close()
    box = Box.of(world, spaces, "web", "beta")
    engine.ok("network", "disconnect", "beta", "web")
    assert ways(box) == [("172.31.0.1", "eth1"), ("fd00:31::1", "eth1")]
    engine.ok("network", "disconnect", "alpha", "web")
    assert ways(box) == [("172.29.0.1", "eth0")]
    engine.ok("network", "connect", "alpha", "web")
    assert list(interfaces(box)) == ["eth0", "eth1"]
    assert ways(box) == [("172.31.0.1", "eth1"), ("fd00:31::1", "eth1")]
    engine.ok("network", "connect", "--gw-priority", "5", "beta", "web")
    assert ways(box) == [("172.30.0.1", "eth2"), ("fd00:30::1", "eth2")]
    assert meets(world.other, 7500, box.space, OTHER)
    for name in ("alpha", "beta", "gamma"):
        engine.ok("network", "disconnect", name, "web")
    assert interfaces(box) == {}
    assert ways(box) == []
    assert inspect(engine, "web")["NetworkSettings"]["Networks"] == {}
    engine.ok("network", "connect", "alpha", "web")
    assert list(interfaces(box)) == ["eth0"]


def test_the_network_of_the_mode_may_be_left(world: World, spaces: ExitStack) -> None:
    """Also before the first start; the mode is told as it was asked for."""
    engine = world.engine
    engine.ok("network", "create", *ONE, "one")
    engine.ok("create", "--name", "web", *SLEEP)
    engine.ok("network", "disconnect", "bridge", "web")
    engine.ok("network", "connect", "one", "web")
    for _ in range(2):
        engine.ok("restart", "-t", "0", "web")
        assert list(inspect(engine, "web")["NetworkSettings"]["Networks"]) == ["one"]
        assert interfaces(Box.of(world, spaces, "web", "one")) == {"eth0": ["172.30.0.2/24", "fd00:30::2/64"]}
        spaces.close()
    assert inspect(engine, "web")["HostConfig"]["NetworkMode"] == "bridge"


def test_created_and_stopped_containers_are_connected_at_their_next_start(world: World, spaces: ExitStack) -> None:
    engine = world.engine
    engine.ok("network", "create", *ONE, "one")
    engine.ok("network", "create", *TWO, "two")
    engine.ok("create", "--name", "web", *SLEEP)
    engine.ok("network", "connect", "--ip", "172.30.0.77", "--ip6", "fd00:30::77", "--alias", "shop", "one", "web")
    engine.ok("network", "connect", "two", "web")
    engine.ok("network", "disconnect", "two", "web")
    engine.ok("start", "web")
    box = Box.of(world, spaces, "web", "one")
    assert interfaces(box)["eth1"] == ["172.30.0.77/24", "fd00:30::77/64"]
    assert set(interfaces(box)) == {"eth0", "eth1"}
    assert resolve(box.space, "shop") == ["172.30.0.77"]
    spaces.close()
    engine.ok("stop", "-t", "0", "web")
    engine.ok("network", "disconnect", "bridge", "web")
    engine.ok("start", "web")
    assert interfaces(Box.of(world, spaces, "web", "one")) == {"eth0": ["172.30.0.77/24", "fd00:30::77/64"]}


def test_what_an_endpoint_was_asked_to_be(world: World, spaces: ExitStack) -> None:
    """MAC, interface name, link-local addresses, settings of the interface: at the start and when connected later."""
    engine = world.engine
    engine.ok("network", "create", *ONE, "one")
    engine.ok("network", "create", *TWO, "two")
    option = "driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1"
    name = "driver-opt=com.docker.network.endpoint.ifname=lan.0"
    engine.ok("run", "-d", "--name", "web", "--network", "one", "--network",
              f"name=two,mac-address=02:11:22:33:44:55,link-local-ip=169.254.7.7,{name},{option}", *SLEEP)  # fmt: skip
    box = Box.of(world, spaces, "web", "two")

    def check(interface: str) -> None:
        (link,) = json.loads(box.space.run("ip", "-j", "address", "show", interface))
        assert link["address"] == endpoint(engine, "web", "two")["MacAddress"] == "02:11:22:33:44:55"
        assert "169.254.7.7" in {one["local"] for one in link["addr_info"]}
        assert setting(engine, f"/proc/sys/net/ipv4/conf/{interface}/log_martians") == "1"

    check("lan.0")
    assert setting(engine, "/proc/sys/net/ipv4/conf/eth0/log_martians") == "0"
    engine.ok("network", "disconnect", "two", "web")
    status, answer = engine.request("POST", "/networks/two/connect", {
        "Container": "web",
        "EndpointConfig": {
            "MacAddress": "02:11:22:33:44:55",
            "IPAMConfig": {"LinkLocalIPs": ["169.254.7.7"]},
            "DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"},
        },
    })  # fmt: skip
    assert status == 200, answer
    check("eth1")
    engine.ok("network", "disconnect", "two", "web")
    status, answer = engine.request("POST", "/networks/two/connect", {
        "Container": "web",
        "EndpointConfig": {"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.nosuch=1"}},
    })  # fmt: skip
    assert status == 500, answer
    assert list(interfaces(box)) == ["eth0"], "nothing half made"
    assert "two" not in inspect(engine, "web")["NetworkSettings"]["Networks"]
    engine.ok("network", "connect", "--ip", "172.31.0.2", "two", "web")  # its address was given back


def setting(engine: Any, path: str) -> str:
    return str(engine.ok("exec", "web", "cat", path).strip())


def test_addresses_are_refused_twice_and_free_again(world: World) -> None:
    engine = world.engine
    engine.ok("network", "create", *ONE, "one")
    engine.ok("run", "-d", "--name", "web", "--network", "one", "--ip", "172.30.0.5", *SLEEP)
    done = engine.docker("run", "-d", "--name", "late", "--network", "one", "--ip", "172.30.0.5", *SLEEP)
    assert done.status == 125
    assert "Address already in use" in done.errors
    engine.ok("rm", "-f", "web")
    engine.ok("start", "late")
    assert address(engine, "late", "one") == "172.30.0.5"


# --- names ---


def test_names_follow_every_change(world: World, spaces: ExitStack) -> None:
    engine = world.engine
    engine.ok("network", "create", *ONE, "one")
    engine.ok("network", "create", *TWO, "two")
    near = Box(world, spaces, "near", "one")
    far = Box(world, spaces, "far", "two")
    engine.ok("run", "-d", "--name", "web", "--network", "one", "--network-alias", "shop", "--hostname", "host", *SLEEP)
    where, six = address(engine, "web", "one"), address(engine, "web", "one", 6)
    short = inspect(engine, "web")["Id"][:12]
    for name in ("web", "shop", "host", short, "web.one"):
        assert resolve(near.space, name) == [where], name
        assert resolve(near.space, name, "AAAA") == [six], name
    assert resolve(far.space, "web.one") == []
    assert resolve(far.space, "far") == [far.four]
    engine.ok("network", "connect", "--alias", "inner", "two", "web")
    assert resolve(far.space, "inner") == resolve(far.space, "web") == [address(engine, "web", "two")]
    assert resolve(near.space, "inner") == []
    engine.ok("rename", "web", "site")
    assert resolve(far.space, "site") == [address(engine, "site", "two")]
    assert resolve(near.space, "site") == [where]
    assert resolve(near.space, "shop") == [where]
    assert resolve(near.space, "web") == []
    engine.ok("network", "disconnect", "one", "site")
    assert resolve(near.space, "site") == resolve(near.space, "shop") == []
    engine.ok("restart", "-t", "0", "site")
    assert resolve(far.space, "inner") == [address(engine, "site", "two")]
    engine.ok("rm", "-f", "site")
    assert resolve(far.space, "site") == []


# --- events ---


def test_events_come_in_dockers_order(world: World) -> None:
    engine = world.engine
    since = time.time()
    engine.ok("network", "create", "one")
    engine.ok("create", "--name", "web", "--network", "one", *SLEEP)
    engine.ok("start", "web")
    engine.ok("network", "create", "two")
    engine.ok("network", "connect", "two", "web")
    engine.ok("network", "disconnect", "two", "web")
    engine.ok("rm", "-f", "web")
    engine.ok("network", "rm", "one", "two")
    _, raw = engine.request("GET", f"/events?since={since:.9f}&until={time.time():.9f}")
    lines = [raw] if isinstance(raw, dict) else [json.loads(line) for line in raw.splitlines()]
    told = [(one["Type"], one["Action"], one["Actor"]["Attributes"].get("name")) for one in lines]
    assert told == [
        ("network", "create", "one"),
        ("container", "create", "web"),
        ("network", "connect", "one"),
        ("container", "start", "web"),
        ("network", "create", "two"),
        ("network", "connect", "two"),
        ("network", "disconnect", "two"),
        ("container", "kill", "web"),
        ("network", "disconnect", "one"),
        ("container", "die", "web"),
        ("container", "destroy", "web"),
        ("network", "destroy", "one"),
        ("network", "destroy", "two"),
    ]
    (connected,) = [one for one in lines if one["Action"] == "connect" and one["Actor"]["Attributes"]["name"] == "two"]
    assert set(connected["Actor"]["Attributes"]) == {"container", "name", "type"}


# --- crashes ---


def test_kistd_may_die_at_any_time(own_world: World, spaces: ExitStack) -> None:
    world, engine = own_world, own_world.engine
    engine.ok("network", "create", *ONE, "one")
    engine.ok("network", "create", *TWO, "two")
    web, near = Box(world, spaces, "web", "one"), Box(world, spaces, "near", "one")
    engine.ok("network", "connect", "--alias", "inner", "two", "web")
    before = inspect(engine, "web")["NetworkSettings"]
    engine.kill()
    assert meets(web.space, 80, near.space, "172.30.0.2")
    world.start()
    assert inspect(engine, "web")["NetworkSettings"] == before
    assert resolve(near.space, "web") == ["172.30.0.2"]
    assert resolve(web.space, "inner") == ["172.31.0.2"]
    engine.ok("run", "-d", "--name", "next", "--network", "one", *SLEEP)
    assert address(engine, "next", "one") == "172.30.0.4"
    engine.ok("network", "disconnect", "one", "web")
    assert resolve(near.space, "web") == []
    engine.ok("run", "-d", "--name", "last", "--network", "one", *SLEEP)
    assert address(engine, "last", "one") == "172.30.0.2"
    assert ways(web) == [("172.31.0.1", "eth1"), ("fd00:31::1", "eth1")]
    spaces.close()


def test_a_restart_of_the_host_takes_bridges_and_kistd_makes_them_again(own_world: World, spaces: ExitStack) -> None:
    world, engine = own_world, own_world.engine
    engine.ok("network", "create", *ONE, "one")
    engine.ok("run", "-d", "--name", "web", "--network", "one", "-p", "8080:80", *SLEEP)
    identity = network(world, "one")["Id"]
    engine.ok("stop", "-t", "0", "web")
    assert engine.stop() == 0
    for line in world.home.run("ip", "-o", "link", "show", "type", "bridge").splitlines():
        world.home.run("ip", "link", "delete", line.split(": ")[1])
    table = f"kist_{engine.id}"
    world.home.call(lambda: commit(firewall.delete(table)))
    world.start()
    assert network(world, "one")["Id"] == identity
    engine.ok("start", "web")
    web = Box.of(world, spaces, "web", "one")
    assert meets(web.space, 80, world.other, "198.51.100.1", 8080) == OTHER
    assert meets(world.other, 7600, web.space, OTHER)
    spaces.close()


def commit(requests: list[Request]) -> None:
    with Firewall() as asking:
        asking.commit(requests)
