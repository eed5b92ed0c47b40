"""What --subnet, --ip-range, --gateway and --aux-address say, put together: one pool for every subnet."""

from __future__ import annotations

import ipaddress
from typing import Any

from kist.model.errors import KistError

Pools = dict[str, dict[str, Any]]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


def pools(
    subnets: list[str], ranges: list[str], gateways: list[str], auxiliary: dict[str, str]
) -> list[dict[str, Any]]:
    """IPAM.Config of a create request. Raises KistError with the texts of Docker's command.

    A single subnet that nothing else belongs to is not looked at: the daemon says what is wrong with it.
    """
    if len(subnets) < max(len(ranges), len(gateways)):
        raise KistError("every ip-range or gateway must have a corresponding subnet")
    found = _apart(subnets)
    for one in ranges:
        for pool in _owners(found, one, f"no matching subnet for range {one}", is_range=True):
            if "IPRange" in pool:
                pair = f"({one}, {pool['IPRange']})"
                raise KistError(f"cannot configure multiple ranges {pair} on the same subnet ({pool['Subnet']})")
            pool["IPRange"] = one
    for one in gateways:
        for pool in _owners(found, one, f"no matching subnet for gateway {one}"):
            if "Gateway" in pool:
                pair = f"({one}, {pool['Gateway']})"
                raise KistError(f"cannot configure multiple gateways {pair} for the same subnet ({pool['Subnet']})")
            pool["Gateway"] = one
    for name, one in auxiliary.items():
        for pool in _owners(found, one, f"no matching subnet for aux-address {one}"):
            pool["AuxiliaryAddresses"][name] = one
    return list(found.values())


def _apart(subnets: list[str]) -> Pools:
    found: Pools = {}
    for subnet in subnets:
        for other in found:
            if _holds(subnet, other) or _holds(other, subnet):
                raise KistError("multiple overlapping subnet configuration is not supported")
        found[subnet] = {"Subnet": subnet, "AuxiliaryAddresses": {}}
    return found


def _owners(found: Pools, text: str, none: str, *, is_range: bool = False) -> list[dict[str, Any]]:
    """The pools that hold an address. Raises KistError with `none` when there are none."""
    owners = []
    for subnet, pool in found.items():
        if is_range:
            _cidr(text)
        if _holds(subnet, text):
            owners.append(pool)
    if not owners:
        raise KistError(none)
    return owners


def _holds(subnet: str, text: str) -> bool:
    """Whether an address, or the first part of `address/bits`, is in a subnet. What is no address is in none."""
    try:
        _, network = _cidr(subnet)
    except KistError as error:
        raise KistError(f"invalid subnet: {error.message}") from error
    address = _cidr(text)[0] if "/" in text else _address(text)
    return address is not None and address in network


def _address(text: str) -> _Address | None:
    """An address as Go reads it: a mapped one is IPv4."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _cidr(text: str) -> tuple[_Address, _Subnet]:
    """`10.0.0.1/8` as its address and its network. Raises KistError with Go's text."""
    whole, _, bits = text.partition("/")
    address = _address(whole) if "%" not in whole else None
    if address is None or not (bits.isascii() and bits.isdigit()) or int(bits) > address.max_prefixlen:
        raise KistError(f"invalid CIDR address: {text}")
    return address, ipaddress.ip_network((address, int(bits)), strict=False)
