"""Addresses: which subnet is free on this host, and which address in it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

# Docker's default pools: the first for the default bridge, the next for others.
_POOLS = [ipaddress.ip_network(f"172.{second}.0.0/16") for second in range(17, 32)] + list(
    ipaddress.ip_network("192.168.0.0/16").subnets(new_prefix=20)
)


def free_subnet(taken: Iterable[tuple[str, int]]) -> str:
    """The first default pool that overlaps no (address, prefix length). Raises LookupError when all are taken."""
    used = [ipaddress.ip_network(f"{address}/{prefix}", strict=False) for address, prefix in taken if prefix]
    for pool in _POOLS:
        if not any(pool.version == other.version and pool.overlaps(other) for other in used):
            return str(pool)
    raise LookupError("every default address pool is taken by a route or an address of this host")


class Allocator:
    """Addresses of one subnet, handed out in turn, so that one just freed is not given again at once."""

    def __init__(self, subnet: str, gateway: str, range_: str = "") -> None:
        self.network = ipaddress.IPv4Network(subnet)
        limits = ipaddress.IPv4Network(range_) if range_ else self.network
        self._first, self._last = int(limits.network_address), int(limits.broadcast_address)
        outer = (int(self.network.network_address), int(self.network.broadcast_address))
        self._used = {*outer, int(ipaddress.IPv4Address(gateway))}
        self._next = self._first

    def allocate(self, preferred: str = "") -> str:
        """`preferred` when it is one of these and free. Raises LookupError when the subnet is full."""
        wanted = int(ipaddress.IPv4Address(preferred or "0.0.0.0"))
        if self._first <= wanted <= self._last and wanted not in self._used:
            self._used.add(wanted)
            return preferred
        span = self._last - self._first + 1
        for step in range(span):
            candidate = self._first + (self._next - self._first + step) % span
            if candidate not in self._used:
                self._used.add(candidate)
                self._next = candidate + 1
                return str(ipaddress.IPv4Address(candidate))
        raise LookupError("no available IPv4 addresses on this network's address pools")

    def reserve(self, address: str) -> None:
        """Takes a given address, for example a running container's after a restart of the engine."""
        self._used.add(int(ipaddress.IPv4Address(address)))

    def release(self, address: str) -> None:
        self._used.discard(int(ipaddress.IPv4Address(address)))


def mac_of(address: str) -> str:
    """A locally administered MAC from an IPv4 address, as Docker derives it: 02:42 and the four bytes."""
    return ":".join(["02", "42", *(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)])
