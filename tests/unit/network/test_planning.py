"""From what is asked of a network to its record: checks in Docker's words, subnets, gateways, options."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.model.errors import Conflict, Forbidden, InvalidParameter, KistError, NotFound
from kist.model.network import Network, Pool
from kist.model.request import NetworkRequest, PoolRequest
from kist.network.options import BridgeOptions, parse
from kist.network.planning import Surroundings, plan

BRIDGE = Network("b" * 64, "bridge", "bridge", "", (Pool("172.17.0.0/16", "172.17.0.1"),), "kist0")
SHARED = Network("c" * 64, "shared", "null", "", (Pool("10.5.0.0/24"),), config_only=True, options={"x": "y"})
_KEY = "com.docker.network."


def planned(name: str = "mine", networks: tuple[Network, ...] = (BRIDGE, SHARED), **asked: Any) -> Network:
    around = Surroundings(networks, (ipaddress.ip_network("172.18.0.0/24"),), host_seed="host", mtu=1400)
    return plan(NetworkRequest(name, **asked), around, "a" * 64, "now")


def pools(*subnets: str) -> tuple[PoolRequest, ...]:
    return tuple(PoolRequest(subnet) for subnet in subnets)


def test_a_network_of_which_nothing_is_said() -> None:
    made = planned()
    assert made.pools == (Pool("172.19.0.0/16", "172.19.0.1", asked=False),)
    assert (made.bridge, made.mtu, made.ipv4, made.ipv6) == (f"br-{'a' * 12}", 1400, True, False)


def test_what_is_said_is_kept() -> None:
    one = PoolRequest("10.1.0.0/16", "10.1.2.0/24", "10.1.9.9", {"printer": "10.1.2.7"})
    made = planned(pools=(one, PoolRequest("fd00:1::/64")), ipv6=True, labels={"a": "b"}, internal=True,
                   options={f"{_KEY}bridge.name": "br9", f"{_KEY}driver.mtu": "9000"})  # fmt: skip
    assert made.pools == (
        Pool("10.1.0.0/16", "10.1.9.9", "10.1.2.0/24", {"printer": "10.1.2.7"}), Pool("fd00:1::/64", "fd00:1::1"),
    )  # fmt: skip
    assert (made.bridge, made.mtu, made.internal, made.labels) == ("br9", 9000, True, {"a": "b"})
    assert planned(pools=(PoolRequest("10.1.0.0/16", "10.1.2.0/24"),)).gateway == "10.1.2.0"
    assert planned(pools=(PoolRequest("10.1.0.0/30", auxiliary={"x": "10.1.0.1"}),)).gateway == "10.1.0.2"


def test_a_subnet_of_a_family_that_is_off_is_left_out() -> None:
    assert planned(pools=pools("fd00::/64")).pools == (Pool("172.19.0.0/16", "172.19.0.1", asked=False),)
    made = planned(ipv4=False, options={f"{_KEY}enable_ipv6": "true"})
    assert [pool.is_ipv6 for pool in made.pools] == [True]


def test_an_isolated_network_has_no_gateway() -> None:
    made = planned(internal=True, options={f"{_KEY}bridge.gateway_mode_ipv4": "isolated"})
    assert made.gateway == ""


def test_the_configuration_of_another_network() -> None:
    made = planned(config_from="shared")
    assert (made.pools, made.options) == ((Pool("10.5.0.0/24", "10.5.0.1"),), {"x": "y"})
    kept = planned("conf", config_only=True, pools=pools("10.5.0.0/24"))
    assert (kept.driver, kept.pools, kept.bridge) == ("null", (Pool("10.5.0.0/24"),), "")


@pytest.mark.parametrize(
    ("asked", "kind", "text"),
    [
        ({"name": "host"}, Forbidden, "operation is not permitted on predefined host network "),
        ({"name": " "}, InvalidParameter, "invalid name: name is empty"),
        ({"name": "shared"}, Conflict, "network with name shared already exists"),
        ({"driver": "bogus"}, NotFound, 'plugin "bogus" not found'),
        ({"driver": "host"}, Forbidden, 'only one instance of "host" network is allowed'),
        ({"ipam_driver": "bogus"}, NotFound, 'plugin "bogus" not found'),
        ({"config_from": "nosuch"}, NotFound, 'configuration network "nosuch" does not exist'),
        ({"config_from": "shared", "labels": {"a": ""}}, Forbidden, "user specified configurations are not supported"),
        ({"config_from": "shared", "options": {"a": ""}}, Forbidden, "network driver options are not supported"),
        ({"config_from": "shared", "config_only": True}, Forbidden, "cannot depend on another configuration network"),
        ({"config_only": True, "internal": True}, Forbidden, "configuration network can only contain network specific"),
        ({"scope": "swarm"}, Forbidden, "cannot create a swarm scoped network when swarm is not active"),
        ({"ingress": True}, Forbidden, "Ingress network can only be global scope network"),
        ({"ipv4": False}, InvalidParameter, "IPv4 or IPv6 must be enabled"),
        ({"options": {f"{_KEY}enable_ipv6": "maybe"}}, InvalidParameter,
         f'driver-opt "{_KEY}enable_ipv6" is not a valid bool'),
        ({"options": {f"{_KEY}driver.mtu": "x"}}, InvalidParameter,
         f'failed to parse {_KEY}driver.mtu value: x (strconv.Atoi: parsing "x": invalid syntax)'),
        ({"options": {f"{_KEY}driver.mtu": "-5"}}, InvalidParameter, "invalid MTU number: -5"),
        ({"options": {f"{_KEY}bridge.enable_icc": "x"}}, InvalidParameter,
         f'failed to parse {_KEY}bridge.enable_icc value: x (strconv.ParseBool: parsing "x": invalid syntax)'),
        ({"options": {f"{_KEY}bridge.gateway_mode_ipv4": "x"}}, InvalidParameter, "(unknown gateway mode x)"),
        ({"options": {f"{_KEY}bridge.gateway_mode_ipv6": "isolated"}}, KistError,
         "gateway mode 'isolated' can only be used for an internal network"),
        ({"options": {f"{_KEY}bridge.host_binding_ipv4": "x"}}, InvalidParameter, "(nil ip)"),
        ({"options": {f"{_KEY}bridge.name": "kist0"}}, Forbidden,
         f"cannot create network {'a' * 64} (kist0): conflicts with network {'b' * 64} (kist0): networks have same "
         "bridge name"),
        ({"options": {f"{_KEY}bridge.name": "a/b"}}, InvalidParameter, "invalid bridge name a/b"),
        ({"options": {f"{_KEY}bridge.name": "x" * 16}}, InvalidParameter, "invalid bridge name xxx"),
        ({"options": {"kist.expose": "x"}}, InvalidParameter, "invalid value for kist.expose: x: use open or strict"),
        ({"pools": pools("10.1.0.0/16", "10.2.0.0/16")}, Forbidden, "bridge driver doesn't support multiple subnets"),
        ({"pools": pools("172.17.9.0/24")}, Forbidden,
         "invalid pool request: Pool overlaps with other one on this address space"),
        ({"pools": pools("0.0.0.0/0")}, InvalidParameter, "ipv4 pool is empty"),
        ({"pools": pools("ff00::/64"), "ipv6": True}, InvalidParameter, "multicast subnet 'ff00::/64' is not allowed"),
        ({"pools": pools("fe80::/80"), "ipv6": True}, InvalidParameter, "clashes with the Link-Local prefix"),
        ({"pools": pools("10.1.0.0")}, InvalidParameter,
         "invalid network config:\ninvalid subnet 10.1.0.0: invalid CIDR block notation"),
        ({"pools": pools("10.1.0.5/16")}, InvalidParameter, "invalid subnet 10.1.0.5/16: it should be 10.1.0.0/16"),
        ({"pools": (PoolRequest("10.1.0.0/16", "10.2.0.0/24", "10.2.0.1", {"x": "fd00::1"}),)}, InvalidParameter,
         "invalid network config:\n"
         "* invalid ip-range 10.2.0.0/24: parent subnet 10.1.0.0/16 doesn't contain ip-range\n"
         "* invalid gateway 10.2.0.1: parent subnet 10.1.0.0/16 doesn't contain this address\n"
         "* invalid auxiliary address x: parent subnet is an IPv4 block"),
        ({"pools": (PoolRequest("10.1.0.0/24", "10.0.0.0/8"),)}, InvalidParameter,
         "invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/24"),
        ({"pools": (PoolRequest("10.1.0.0/24", "fd00::/64"),)}, InvalidParameter,
         "invalid ip-range fd00::/64: parent subnet is an IPv4 block"),
        ({"pools": (PoolRequest("10.1.0.0/24", gateway="10.1.0.0"),)}, KistError,
         "failed to allocate gateway (10.1.0.0): Address already in use"),
        ({"pools": (PoolRequest("10.1.0.0/24", gateway="x"),)}, InvalidParameter, "invalid gateway x: invalid address"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_as_docker_tells_it(asked: dict[str, Any], kind: type[KistError], text: str) -> None:
    with pytest.raises(kind) as raised:
        planned(**asked)
    assert text in raised.value.message
    assert type(raised.value) is kind


@given(st.dictionaries(st.sampled_from([
    f"{_KEY}bridge.name", f"{_KEY}driver.mtu", f"{_KEY}bridge.enable_icc", f"{_KEY}bridge.host_binding_ipv4",
    f"{_KEY}bridge.gateway_mode_ipv4", "kist.expose", "other"]), st.text(max_size=20)))  # fmt: skip
def test_options_are_read_or_refused(options: dict[str, str]) -> None:
    with suppress(InvalidParameter):
        assert isinstance(parse(options), BridgeOptions)


@given(st.text("0123456789./abcdef:%", max_size=24), st.text(max_size=24), st.text(max_size=24))
def test_subnets_are_read_or_refused(subnet: str, part: str, gateway: str) -> None:
    with suppress(KistError):
        assert planned(pools=(PoolRequest(subnet, part, gateway),)).pools
