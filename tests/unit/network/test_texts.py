"""Addresses, files and port forms: pure decisions."""

from __future__ import annotations

from kist.kernel.nftables import Element, value
from kist.model.network import Endpoint, PublishedPort
from kist.network.files import hosts, resolv_conf
from kist.network.firewall import of_port
from kist.network.ipam import mac_of


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
    text = hosts("box", "example", ["172.17.0.2"], ["db:10.1.1.1", "gw:host-gateway"], "172.17.0.1")
    assert text.splitlines()[-3:] == ["10.1.1.1\tdb", "172.17.0.1\tgw", "172.17.0.2\tbox.example box"]


def test_elements_of_ports() -> None:
    endpoint = Endpoint("e", "n", "id", "veth", "mac", "172.17.0.2", 16, "172.17.0.1", "fd00::2", 64, "fd00::1")
    found = of_port(PublishedPort("tcp", 80, "0.0.0.0", 8080), endpoint)
    assert found == {"published4": [Element(b"\x06\0\0\0\x1f\x90\0\0", value(b"\xac\x11\0\x02\0\x50\0\0"))]}
    (local,) = of_port(PublishedPort("udp", 53, "127.0.0.1", 53), endpoint)["published_at4"]
    assert local.key[:5] == bytes([127, 0, 0, 1, 17])
    (six,) = of_port(PublishedPort("sctp", 9, "::", 9), endpoint)["published6"]
    assert six.key[0] == 132 and len(six.data) == 4 + 16 + 4
    routed = of_port(PublishedPort("tcp", 80, "0.0.0.0", 8080), endpoint, routed4=True)
    assert routed == {"reachable4": [Element(b"\xac\x11\0\x02\x06\0\0\0\0\x50\0\0")]}
