"""Which subnet and which address: pure decisions."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.model.errors import Forbidden, KistError
from kist.model.network import Pool
from kist.network.ipam import DEFAULT_POOLS, Allocator, free_subnet, local_pool, overlaps


def nets(*texts: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(text) for text in texts]


def test_the_first_free_pool_is_taken() -> None:
    assert free_subnet([]) == "172.17.0.0/16"
    assert free_subnet(nets("172.17.0.1/32")) == "172.18.0.0/16"
    assert free_subnet(nets("172.16.0.0/12")) == "192.168.0.0/20"
    assert free_subnet(nets("172.16.0.0/12", "192.168.0.0/18")) == "192.168.64.0/20"
    assert free_subnet(nets("0.0.0.0/0", "fd00::/8")) == "172.17.0.0/16"  # a default route says nothing
    with pytest.raises(LookupError, match="all predefined address pools have been fully subnetted"):
        free_subnet(nets("172.16.0.0/12", "192.168.0.0/16"))


def test_pools_of_ones_own_are_split() -> None:
    assert free_subnet(nets("10.1.0.0/24"), [("10.1.0.0/22", 24)]) == "10.1.1.0/24"
    assert free_subnet(nets("10.1.1.0/24"), [("10.1.0.0/22", 24)]) == "10.1.0.0/24"
    assert free_subnet(nets("10.1.0.128/25", "10.1.1.0/25"), [("10.1.0.0/22", 24)]) == "10.1.2.0/24"
    assert free_subnet([], [("10.1.0.0/16", 24), ("fd01::/48", 64)], 6) == "fd01::/64"
    assert free_subnet(nets("fd01::/64"), [("fd01::/48", 64)], 6) == "fd01:0:0:1::/64"


def test_a_large_pool_that_is_taken_is_not_tried_subnet_by_subnet() -> None:
    assert free_subnet(nets("fd01::/32"), [("fd01::/16", 64)], 6) == "fd01:1::/64"


def test_the_ipv6_pool_is_the_hosts_own_and_local() -> None:
    base, size = local_pool("host")
    assert local_pool("host") == (base, size) != local_pool("other")
    assert ipaddress.ip_address(base.partition("/")[0]) in ipaddress.ip_network("fd00::/8") and size == 64


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(8, 32)), max_size=12))
def test_what_is_chosen_overlaps_nothing(taken: list[tuple[int, int]]) -> None:
    used = [ipaddress.ip_network((address, size), strict=False) for address, size in taken]
    try:
        found = free_subnet(used)
    except LookupError:
        for base, size in DEFAULT_POOLS:
            for subnet in ipaddress.ip_network(base).subnets(new_prefix=size):
                assert overlaps(str(subnet), used)
    else:
        assert not overlaps(found, used)


def test_the_lowest_free_address_is_given() -> None:
    allocator = Allocator(Pool("10.0.0.0/29", "10.0.0.1"))
    assert [allocator.allocate() for _ in range(5)] == [f"10.0.0.{number}" for number in range(2, 7)]
    with pytest.raises(KistError, match="no available addresses on this pool"):
        allocator.allocate()
    allocator.release("10.0.0.4")
    assert allocator.allocate() == "10.0.0.4"


def test_ranges_auxiliary_addresses_and_what_is_asked_for() -> None:
    allocator = Allocator(Pool("10.0.0.0/24", "10.0.0.1", "10.0.0.128/30", {"router": "10.0.0.128"}))
    assert allocator.allocate() == "10.0.0.129"
    assert allocator.take("10.0.0.7") == "10.0.0.7"  # in the subnet is enough
    for address in ("10.0.0.7", "10.0.0.1", "10.0.0.128", "10.0.0.0", "10.0.0.255"):
        with pytest.raises(Forbidden, match="Address already in use"):
            allocator.take(address)
    with pytest.raises(KistError, match="requested address is out of range"):
        allocator.take("10.0.1.1")
    assert [allocator.allocate(), allocator.allocate()] == ["10.0.0.130", "10.0.0.131"]
    with pytest.raises(KistError):
        allocator.allocate()


def test_small_and_large_subnets() -> None:
    assert [Allocator(Pool("10.0.0.0/31")).allocate(), Allocator(Pool("10.0.0.8/32")).allocate()] == [
        "10.0.0.0", "10.0.0.8"]  # fmt: skip
    allocator = Allocator(Pool("fd00::/64", "fd00::1"))
    assert [allocator.allocate(), allocator.take("fd00:0:0:0::FF"), allocator.prefix] == ["fd00::2", "fd00::ff", 64]


@given(st.lists(st.one_of(st.just("take"), st.integers(0, 40)), max_size=60))
def test_no_address_is_given_twice_and_the_lowest_comes_first(steps: list[str | int]) -> None:
    allocator = Allocator(Pool("10.0.0.0/27", "10.0.0.1"))
    free = {f"10.0.0.{number}" for number in range(2, 31)}
    for step in steps:
        if step == "take" and free:
            lowest = min(free, key=lambda address: int(ipaddress.ip_address(address)))
            assert allocator.allocate() == lowest
            free.discard(lowest)
        elif isinstance(step, int) and 2 <= step < 31:
            allocator.release(f"10.0.0.{step}")
            free.add(f"10.0.0.{step}")
