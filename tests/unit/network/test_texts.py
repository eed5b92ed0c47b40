"""Addresses, files and port forms: pure decisions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.model.network import PublishedPort
from kist.network.files import hosts, resolv_conf
from kist.network.firewall import element
from kist.network.ipam import Allocator, free_subnet, mac_of


def test_the_first_free_pool_is_taken() -> None:
    assert free_subnet([]) == "172.17.0.0/16"
    assert free_subnet([("172.17.0.1", 16)]) == "172.18.0.0/16"
    assert free_subnet([("172.16.0.0", 12)]) == "192.168.0.0/20"
    with pytest.raises(LookupError):
        free_subnet([("172.16.0.0", 12), ("192.168.0.0", 16)])


def test_addresses_are_handed_out_in_turn_and_not_twice() -> None:
    allocator = Allocator("10.0.0.0/29", "10.0.0.1")
    first = [allocator.allocate() for _ in range(5)]
    assert first == ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    with pytest.raises(LookupError):
        allocator.allocate()
    allocator.release("10.0.0.4")
    assert allocator.allocate() == "10.0.0.4"


@given(st.lists(st.booleans(), max_size=60))
def test_no_address_is_given_twice(steps: list[bool]) -> None:
    allocator = Allocator("10.0.0.0/27", "10.0.0.1")
    held: list[str] = []
    for take in steps:
        if take and len(held) < 29:
            address = allocator.allocate()
            assert address not in held
            assert address not in ("10.0.0.0", "10.0.0.1", "10.0.0.31")
            held.append(address)
        elif held:
            allocator.release(held.pop(0))


def test_mac_addresses_are_dockers() -> None:
    assert mac_of("172.17.0.2") == "02:42:ac:11:00:02"


def test_loopback_name_servers_are_left_out_unless_the_network_is_shared() -> None:
    host = "nameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a.test b.test\noptions edns0\n"
    assert (
        resolv_conf(host, (), (), (), keep_local=False) == "nameserver 10.0.0.1\nsearch a.test b.test\noptions edns0\n"
    )
    assert "127.0.0.53" in resolv_conf(host, (), (), (), keep_local=True)
    assert resolv_conf(host, ("1.1.1.1",), ("c",), (), keep_local=False).startswith("nameserver 1.1.1.1\nsearch c\n")


def test_hosts_names_the_container_and_extra_hosts() -> None:
    text = hosts("box", "example", "172.17.0.2", ["db:10.1.1.1", "gw:host-gateway"], "172.17.0.1")
    assert text.splitlines()[-3:] == ["10.1.1.1\tdb", "172.17.0.1\tgw", "172.17.0.2\tbox.example box"]


def test_elements_of_ports() -> None:
    name, key, data = element(PublishedPort("tcp", 80, "0.0.0.0", 8080), "172.17.0.2")
    assert (name, key, data) == ("published", b"\x06\0\0\0\x1f\x90\0\0", b"\xac\x11\0\x02\0\x50\0\0")
    assert element(PublishedPort("udp", 53, "127.0.0.1", 53), "172.17.0.2")[1][:4] == bytes([127, 0, 0, 1])
