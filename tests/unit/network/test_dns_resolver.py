"""Who answers what: Docker's rules (libnetwork's resolver and sandbox), decided without a socket."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.network.dns import message
from kist.network.dns.names import Attachment, NetworkNames, endpoint_names
from kist.network.dns.resolver import Resolver, address_of, find


class Seen:
    """A container in these networks."""

    def __init__(self, *attachments: Attachment) -> None:
        self.given = attachments

    def attachments(self) -> Sequence[Attachment]:
        return self.given

    def has_external_access(self) -> bool:
        return True


@pytest.fixture
def network() -> NetworkNames:
    made = NetworkNames("MyNet")
    made.add("e1", ["Box", "web", "0123456789ab", "host1"], ["172.18.0.2", "fd00::2"])
    made.add("e2", ["other", "web", "cdef01234567"], ["172.18.0.3"])
    made.add("e3", ["six"], ["", "fd00::6"])
    return made


def ask(view: Seen, name: str, kind: str = "A", *, ndots: bool = False, limit: int = 512) -> list[str] | None:
    """The answer's records as text, sorted; None when others are to be asked."""
    asked = dns.message.make_query(name, kind)
    data = Resolver(view, ndots).answer(message.parse(asked.to_wire()), limit)
    if data is None:
        return None
    answer = dns.message.from_wire(data)
    assert asked.is_response(answer)
    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.flags & dns.flags.RA
    return sorted(record.to_text() for group in answer.answer for record in group)


@pytest.mark.parametrize(
    "name", ["Box", "box", "BOX", "host1", "0123456789ab", "box.mynet", "Box.MYNET.", "host1.mynet"]
)
def test_a_container_is_found_by_each_of_its_names(network: NetworkNames, name: str) -> None:
    view = Seen(Attachment(network))
    assert ask(view, name) == ["172.18.0.2"]
    assert ask(view, name, "AAAA") == ["fd00::2"]


def test_an_alias_of_several_has_all_their_addresses_in_changing_order(network: NetworkNames) -> None:
    view = Seen(Attachment(network))
    assert ask(view, "web") == ["172.18.0.2", "172.18.0.3"]
    query = message.parse(dns.message.make_query("web", "A").to_wire())
    assert len({Resolver(view).answer(query, 512) for _ in range(60)}) == 2


def test_a_name_without_an_address_of_the_family_is_known_all_the_same(network: NetworkNames) -> None:
    view = Seen(Attachment(network))
    assert ask(view, "other", "AAAA") == []
    assert ask(view, "six", "A") == []
    assert ask(view, "six.mynet", "AAAA") == ["fd00::6"]


@pytest.mark.parametrize("kind", ["MX", "TXT", "SRV", "HTTPS", "NS", "CNAME", "SOA"])
def test_other_types_of_known_names_are_asked_of_nobody(network: NetworkNames, kind: str) -> None:
    assert ask(Seen(Attachment(network)), "box", kind) == []
    assert ask(Seen(Attachment(network)), "nosuch", kind) is None


def test_any_is_every_address(network: NetworkNames) -> None:
    assert ask(Seen(Attachment(network)), "box", "ANY") == ["172.18.0.2", "fd00::2"]


def test_what_is_unknown_is_for_others(network: NetworkNames) -> None:
    view = Seen(Attachment(network))
    for name in ("nosuch", "example.com", "box.other", "mynet", "box.mynet.example.com", "."):
        assert ask(view, name) is None
    query = message.parse(dns.message.make_query("box", "A", rdclass="CH").to_wire())
    assert Resolver(view).answer(query, 512) is None


def test_with_ndots_a_single_unknown_label_is_asked_of_nobody(network: NetworkNames) -> None:
    view = Seen(Attachment(network))
    assert ask(view, "nosuch", ndots=True) == []
    assert ask(view, "nosuch", "AAAA", ndots=True) == []
    assert ask(view, "nosuch", "TXT", ndots=True) is None
    assert ask(view, "no.such", ndots=True) is None


def test_addresses_have_the_name_of_their_container(network: NetworkNames) -> None:
    view = Seen(Attachment(network))
    assert ask(view, "2.0.18.172.in-addr.arpa", "PTR") == ["Box.MyNet."]
    assert ask(view, ipaddress.ip_address("fd00::6").reverse_pointer.upper(), "PTR") == ["six.MyNet."]
    for name in (
        "9.0.18.172.in-addr.arpa",
        "1.172.in-addr.arpa",
        "box",
        "in-addr.arpa",
        "1.ip6.arpa",
        "x.0.0.1.in-addr.arpa",
    ):
        assert ask(view, name, "PTR") is None


def test_networks_are_asked_in_order_and_by_name(network: NetworkNames) -> None:
    second = NetworkNames("b.net")
    second.add("e9", ["box"], ["10.0.0.9"])
    second.add("e8", ["a.box"], ["10.0.0.8"])
    both = Seen(Attachment(second), Attachment(network))
    assert ask(both, "box") == ["10.0.0.9"]
    assert ask(Seen(Attachment(network), Attachment(second)), "box") == ["172.18.0.2"]
    assert ask(both, "box.mynet") == ["172.18.0.2"]
    assert ask(both, "box.b.net") == ["10.0.0.9"]
    assert ask(both, "a.box.b.net") == ["10.0.0.8"]
    assert ask(both, "a.box") == ["10.0.0.8"]
    assert ask(both, "web.b.net") is None


def test_a_shorter_network_name_comes_first(network: NetworkNames) -> None:
    short, long = NetworkNames("net"), NetworkNames("b.net")
    short.add("e1", ["a.b"], ["10.0.0.1"])
    long.add("e2", ["a"], ["10.0.0.2"])
    assert ask(Seen(Attachment(long), Attachment(short)), "a.b.net") == ["10.0.0.1"]


def test_links_are_one_containers_own(network: NetworkNames) -> None:
    linked = Seen(Attachment(network, {"DB": "Box", "other": "box", "six": "gone"}))
    assert ask(linked, "db") == ["172.18.0.2"]
    assert ask(linked, "db.mynet") == ["172.18.0.2"]
    assert ask(linked, "other") == ["172.18.0.2"]
    assert ask(linked, "six", "AAAA") is None  # what the link means is gone, and nobody else is meant
    assert ask(Seen(Attachment(network)), "db") is None


def test_who_goes_is_forgotten_and_who_is_renamed_has_the_new_name_only(network: NetworkNames) -> None:
    view = Seen(Attachment(network))
    network.add("e1", ["new", "web"], ["172.18.0.2"])
    assert (ask(view, "box"), ask(view, "new"), ask(view, "new", "AAAA")) == (None, ["172.18.0.2"], [])
    assert ask(view, ipaddress.ip_address("fd00::2").reverse_pointer, "PTR") is None
    network.remove("e1")
    network.remove("e1")
    assert (ask(view, "new"), ask(view, "web")) == (None, ["172.18.0.3"])
    assert ask(view, "2.0.18.172.in-addr.arpa", "PTR") is None
    network.remove("e2")
    network.remove("e3")
    assert (network._endpoints, network._by_name, network._by_address) == ({}, {}, {})


def test_a_container_has_the_names_that_docker_gives_it() -> None:
    long = "0123456789abcdef" * 4
    assert endpoint_names("box", ["web", "box"], long, "0123456789ab") == ("box", "web", "0123456789ab")
    assert endpoint_names("box", [], long, "host") == ("box", "0123456789ab", "host")
    assert endpoint_names("", ["web"], long, "") == ("web", "0123456789ab")


def test_one_address_of_two_endpoints_is_told_once(network: NetworkNames) -> None:
    network.add("e4", ["web"], ["172.18.0.2"])
    assert ask(Seen(Attachment(network)), "web") == ["172.18.0.2", "172.18.0.3"]


def test_a_name_too_long_for_dns_has_no_pointer(network: NetworkNames) -> None:
    network.add("e5", ["a" * 64], ["172.18.0.5"])
    assert ask(Seen(Attachment(network)), "5.0.18.172.in-addr.arpa", "PTR") == []


def test_what_does_not_fit_is_for_tcp(network: NetworkNames) -> None:
    for number in range(100):
        network.add(f"many{number}", ["many"], [f"172.18.1.{number}"])
    view = Seen(Attachment(network))
    query = message.parse(dns.message.make_query("many", "A").to_wire())
    data = Resolver(view).answer(query, 512)
    assert data is not None
    assert len(data) <= 512
    assert dns.message.from_wire(data).flags & dns.flags.TC
    assert len(ask(view, "many", limit=message.MAXIMUM) or ()) == 100


@given(st.ip_addresses())
def test_every_address_is_read_back_from_its_name(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert address_of(address.reverse_pointer) == address.packed


@given(st.text(max_size=300))
def test_no_name_raises(name: str) -> None:
    made = NetworkNames("net")
    made.add("e", ["box"], ["10.0.0.1"])
    view = Seen(Attachment(made, {"alias": "box"}))
    find(name.lower(), view)
    address_of(name.lower())
