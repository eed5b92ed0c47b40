"""The network that containers have who name none: its interface and subnet come from the daemon's options."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable

import msgspec

from kist.kernel.rtnetlink import RouteSocket
from kist.model.errors import KistError
from kist.model.network import Network, Pool
from kist.model.timestamp import rfc3339
from kist.network.ipam import free_subnet, overlaps

_PREFIX = "com.docker.network."


class BridgeSettings(msgspec.Struct, frozen=True):
    """The daemon's options for the default bridge."""

    bridge: str = ""  # an existing one to use; "none": no bridge network
    address: str = ""  # --bip, with prefix length
    fixed_cidr: str = ""
    gateway: str = ""
    mtu: int = 1500
    forward: bool = True
    firewall: bool = True  # --iptables
    masquerade: bool = True
    icc: bool = True
    publish_open: bool = False


def default_network(
    settings: BridgeSettings, old: Network | None, route: RouteSocket, instance: str, others: Iterable[Network]
) -> Network:
    """The record of the network `bridge` as it is to be now. Raises KistError, and LookupError without a free pool."""
    links = route.links()
    name = settings.bridge or _name(old, links, route.aliases(), instance)
    addresses = route.addresses()
    index = links.get(name, -1)
    present = [(one, prefix) for at, one, prefix in addresses if at == index and "." in one]
    taken = [(address, prefix) for at, address, prefix in addresses if at != index and "." in address]
    taken += route.routes() + [_split(pool.subnet) for network in others for pool in network.pools]
    subnet, gateway = _subnet(settings, old, present, taken)
    _check(settings, subnet)
    base = old or Network(secrets.token_hex(32), "bridge", "bridge", rfc3339())
    return msgspec.structs.replace(
        base, pools=(Pool(subnet, gateway),), bridge=name, mtu=settings.mtu, options=_options(settings, name)
    )


def _split(subnet: str) -> tuple[str, int]:
    address, _, prefix = subnet.partition("/")
    return address, int(prefix)


def _options(settings: BridgeSettings, name: str) -> dict[str, str]:
    """As Docker tells them."""
    return {
        f"{_PREFIX}bridge.default_bridge": "true",
        f"{_PREFIX}bridge.enable_icc": str(settings.icc).lower(),
        f"{_PREFIX}bridge.enable_ip_masquerade": str(settings.masquerade).lower(),
        f"{_PREFIX}bridge.host_binding_ipv4": "0.0.0.0",
        f"{_PREFIX}bridge.name": name,
        f"{_PREFIX}driver.mtu": str(settings.mtu),
    }


def _name(old: Network | None, links: dict[str, int], aliases: dict[str, str], instance: str) -> str:
    """kist0, or a name with the instance's id when another engine on this host has that."""
    if old is not None and old.bridge and aliases.get(old.bridge, "") in ("", f"kist {instance}"):
        return old.bridge
    return "kist0" if "kist0" not in links else f"kist-{instance}"


def _subnet(
    settings: BridgeSettings, old: Network | None, present: list[tuple[str, int]], taken: list[tuple[str, int]]
) -> tuple[str, str]:
    """(subnet, gateway): as told, as the bridge has it, as it was, or the first free pool."""
    if settings.address:
        interface = ipaddress.ip_interface(settings.address)
        return str(interface.network), str(interface.ip)
    if present:
        interface = ipaddress.ip_interface(f"{present[0][0]}/{present[0][1]}")
        return str(interface.network), str(interface.ip)
    used = [ipaddress.ip_network(f"{address}/{prefix}", strict=False) for address, prefix in taken if prefix]
    if settings.fixed_cidr:
        chosen = ipaddress.IPv4Network(settings.fixed_cidr, strict=False)
        return str(chosen), str(next(chosen.hosts()))
    if old is not None and old.pool4 is not None and not overlaps(old.pool4.subnet, used):
        return old.pool4.subnet, old.pool4.gateway
    subnet = free_subnet(used)
    return subnet, str(next(ipaddress.IPv4Network(subnet).hosts()))


def _check(settings: BridgeSettings, subnet: str) -> None:
    whole = ipaddress.IPv4Network(subnet)
    range_ = settings.fixed_cidr
    if range_ and not ipaddress.IPv4Network(range_, strict=False).subnet_of(whole):
        raise KistError(f"--fixed-cidr {range_} is not a part of {subnet}, the subnet of the default bridge")
    if settings.gateway and ipaddress.ip_address(settings.gateway) not in whole:
        raise KistError(f"--default-gateway {settings.gateway} is not in {subnet}, the subnet of the bridge")
