"""Addresses: which subnet is free on this host, and which address in it. Pure.

Both are handed out as Docker does: the first default pool that overlaps nothing, the lowest free address.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator

from kist.model.errors import Forbidden, KistError
from kist.model.network import Pool

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Docker's default pools (base, prefix length of each): the first is for the default bridge.
DEFAULT_POOLS: tuple[tuple[str, int], ...] = (
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
)
OVERLAP = "invalid pool request: Pool overlaps with other one on this address space"
FULL = "all predefined address pools have been fully subnetted"


def local_pool(seed: str) -> tuple[str, int]:
    """A unique local IPv6 pool (RFC 4193) that stays the same for a host: its subnets are /64."""
    digest = hashlib.sha256(seed.encode()).digest()
    packed = b"\xfd" + digest[:5] + bytes(10)
    return f"{ipaddress.IPv6Address(packed)}/48", 64


def free_subnet(taken: Iterable[Subnet], pools: Iterable[tuple[str, int]] = DEFAULT_POOLS, version: int = 4) -> str:
    """The first subnet of the pools that overlaps nothing that is taken. Raises LookupError when there is none."""
    used = [one for one in taken if one.version == version and one.prefixlen]
    for candidate in _candidates(pools, version, used):
        return str(candidate)
    raise LookupError(FULL)


def _candidates(pools: Iterable[tuple[str, int]], version: int, used: list[Subnet]) -> Iterator[Subnet]:
    for base, size in pools:
        whole = ipaddress.ip_network(base)
        if whole.version != version:
            continue
        inside = [one for one in used if _overlap(one, whole)]
        step = 1 << (whole.max_prefixlen - size)
        first, last = int(whole.network_address), int(whole.broadcast_address)
        while first + step - 1 <= last:
            candidate = ipaddress.ip_network((first, size))
            blocking = [one for one in inside if _overlap(one, candidate)]
            if not blocking:
                yield candidate
            first = max([first + step, *(_after(one, step) for one in blocking)])


def _after(subnet: Subnet, step: int) -> int:
    """The first number behind a subnet that a candidate may begin with: pools may be too large to try each."""
    return (int(subnet.broadcast_address) // step + 1) * step


def _overlap(one: Subnet, other: Subnet) -> bool:
    return one.version == other.version and one.overlaps(other)


def overlaps(subnet: str, others: Iterable[Subnet]) -> bool:
    whole = ipaddress.ip_network(subnet)
    return any(_overlap(whole, other) for other in others)


class Allocator:
    """Addresses of one pool. The network's own address, the broadcast address and the gateway are never given."""

    def __init__(self, pool: Pool) -> None:
        self.subnet = ipaddress.ip_network(pool.subnet)
        limits = ipaddress.ip_network(pool.range) if pool.range else self.subnet
        self._first, self._last = int(limits.network_address), int(limits.broadcast_address)
        self._used = set[int]()
        spare = self.subnet.max_prefixlen - self.subnet.prefixlen
        if spare > 1 or self.subnet.version == 6:  # RFC 3021: both addresses of a /31 are hosts
            self._used.add(int(self.subnet.network_address))
        if spare > 1 and self.subnet.version == 4:
            self._used.add(int(self.subnet.broadcast_address))
        self._lowest = self._first  # nothing below it in the range is free
        for address in (pool.gateway, *pool.auxiliary.values()):
            if address:
                self.reserve(address)

    @property
    def prefix(self) -> int:
        return self.subnet.prefixlen

    def first_free(self) -> str:
        """The lowest free address, for a gateway. Raises LookupError."""
        return str(self._address(self._find()))

    def allocate(self) -> str:
        """The lowest free address of the range. Raises KistError with Docker's text when there is none."""
        try:
            number = self._find()
        except LookupError as error:
            raise KistError("no available addresses on this pool") from error
        self._used.add(number)
        self._lowest = number + 1
        return str(self._address(number))

    def _find(self) -> int:
        number = self._lowest
        while number in self._used:
            number += 1
        if number > self._last:
            self._lowest = number
            raise LookupError(self.subnet)
        return number

    def take(self, address: str) -> str:
        """An address that was asked for. Raises Forbidden with Docker's text when somebody has it, KistError when it is
        not one of these.
        """
        wanted = ipaddress.ip_address(address)
        if wanted not in self.subnet:
            raise KistError("requested address is out of range")
        if int(wanted) in self._used:
            raise Forbidden("Address already in use")
        self._used.add(int(wanted))
        return str(wanted)

    def is_free(self, address: str) -> bool:
        wanted = ipaddress.ip_address(address)
        return wanted in self.subnet and int(wanted) not in self._used

    def reserve(self, address: str) -> None:
        """Takes a given address, for example a running container's after a restart of the engine."""
        self._used.add(int(ipaddress.ip_address(address)))

    def release(self, address: str) -> None:
        number = int(ipaddress.ip_address(address))
        self._used.discard(number)
        if self._first <= number < self._lowest:
            self._lowest = number

    def _address(self, number: int) -> Address:
        return self.subnet.network_address + (number - int(self.subnet.network_address))


def mac_of(address: str) -> str:
    """A locally administered MAC from an IPv4 address, as Docker derives it: 02:42 and the four bytes."""
    return ":".join(["02", "42", *(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)])
