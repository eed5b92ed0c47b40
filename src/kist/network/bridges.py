"""Bridges of the host: made, given their addresses, and taken away again."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable

from kist.kernel.rtnetlink import RouteSocket
from kist.model.errors import KistError
from kist.model.network import Network
from kist.network import options as driver_options


def make(route: RouteSocket, network: Network, tag: str) -> tuple[int, bool]:
    """(index of the interface, whether it was made now). One that is there is used as it is; `tag` says whose ours are.

    Raises OSError, KistError.
    """
    links = route.links()
    made = network.bridge not in links
    if made:
        route.create_bridge(network.bridge, random_mac(), network.mtu, tag)
        links = route.links()
    index = links[network.bridge]
    present = {(address, prefix) for at, address, prefix in route.addresses() if at == index}
    for address, prefix in gateways(network):
        if (address, prefix) not in present:
            route.add_address(index, f"{address}/{prefix}")
    if network.ipv6:
        _set(f"/proc/sys/net/ipv6/conf/{network.bridge}/disable_ipv6", "0")
    route.set_up(index)
    return index, made


def gateways(network: Network) -> list[tuple[str, int]]:
    """(address, prefix length) that the bridge has: where containers send what leaves their network."""
    options = driver_options.parse(network.options)
    found = []
    for pool in network.pools:
        isolated = (options.mode6 if pool.is_ipv6 else options.mode4) == "isolated"
        if pool.gateway and not isolated and not (options.inhibit_ipv4 and not pool.is_ipv6):
            found.append((pool.gateway, ipaddress.ip_network(pool.subnet).prefixlen))
    return found


def remove(route: RouteSocket, name: str, tag: str) -> None:
    """Takes a bridge of ours away; nothing happens to somebody else's, or where there is none."""
    index = route.links().get(name)
    if index is not None and route.aliases().get(name) == tag:
        route.delete_link(index)


def remove_others(route: RouteSocket, tag: str, kept: Iterable[str]) -> None:
    """Takes away what a crash left: bridges of ours that no network has."""
    names = set(kept)
    for name, alias in route.aliases().items():
        if alias == tag and name not in names:
            remove(route, name, tag)


def lead_loopback(name: str) -> None:
    """127.0.0.1:port of the host may be led to a container of this bridge."""
    _set(f"/proc/sys/net/ipv4/conf/{name}/route_localnet", "1")


def filter_inside() -> None:
    """What stays on a bridge passes the firewall too: for networks whose containers are closed to each other. Raises
    KistError where the kernel cannot.
    """
    try:
        for family in ("ip", "ip6"):
            _set(f"/proc/sys/net/bridge/bridge-nf-call-{family}tables", "1")
    except OSError as error:
        raise KistError(
            f"containers of a network cannot be kept from each other: {error.strerror} (try: modprobe br_netfilter)"
        ) from error


def forward(version: int) -> bool:
    """Has the host pass packets on, where it does not; whether it does now."""
    path = "/proc/sys/net/ipv4/ip_forward" if version == 4 else "/proc/sys/net/ipv6/conf/all/forwarding"
    try:
        _set(path, "1")
    except FileNotFoundError:
        return False
    return forwards(version)


def forwards(version: int) -> bool:
    path = "/proc/sys/net/ipv4/ip_forward" if version == 4 else "/proc/sys/net/ipv6/conf/all/forwarding"
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip() == "1"
    except FileNotFoundError:
        return False


def _set(path: str, value: str) -> None:
    with open(path, "r+", encoding="ascii") as file:
        if file.read().strip() != value:
            file.seek(0)
            file.write(value)


def random_mac() -> str:
    """Locally administered, unicast."""
    raw = bytearray(os.urandom(6))
    raw[0] = raw[0] & 0xFE | 0x02
    return ":".join(f"{byte:02x}" for byte in raw)
