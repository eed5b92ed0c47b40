"""Networks, what attaches a container to one, and the ports it publishes."""

from __future__ import annotations

import msgspec


class Link(msgspec.Struct, frozen=True):
    """One veth pair to make: `host_name` outside, enslaved to the bridge with index `bridge_index`; `name` inside."""

    host_name: str
    bridge_index: int
    name: str
    mac: str  # of the inner end, aa:bb:…
    mtu: int
    addresses: tuple[str, ...]  # with prefix length: 172.17.0.2/16
    gateway4: str = ""
    gateway6: str = ""
    hairpin: bool = False


class Endpoint(msgspec.Struct, frozen=True):
    """A container's place in a network while it runs. Addresses are without prefix length, "" where there is none."""

    id: str  # 64 hex digits
    network: str  # name
    network_id: str
    host_name: str  # of the veth end in the host
    mac: str
    address: str
    prefix: int
    gateway: str
    address6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    name: str = "eth0"  # of the interface inside
    names: tuple[str, ...] = ()  # by which other containers of the network find it


class PublishedPort(msgspec.Struct, frozen=True):
    """A port of a container reached through the host; `host_ip` 0.0.0.0 or :: is every address."""

    protocol: str  # tcp, udp, sctp
    container_port: int
    host_ip: str
    host_port: int


class Pool(msgspec.Struct, frozen=True):
    """A subnet and what is known of it. `range`: addresses for containers are from there; `auxiliary` are taken."""

    subnet: str  # 172.18.0.0/16
    gateway: str = ""
    range: str = ""
    auxiliary: dict[str, str] = {}
    asked: bool = True  # it was named when the network was made, not chosen

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.subnet


class Network(msgspec.Struct, frozen=True):
    """A network as the store keeps it."""

    id: str
    name: str
    driver: str  # bridge, macvlan, ipvlan, host, null
    created: str
    pools: tuple[Pool, ...] = ()
    bridge: str = ""  # name of the host's interface
    mtu: int = 1500
    internal: bool = False
    attachable: bool = False
    ipv4: bool = True
    ipv6: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    ipam_driver: str = "default"
    ipam_options: dict[str, str] | None = None
    config_only: bool = False
    config_from: str = ""

    @property
    def pool4(self) -> Pool | None:
        return next((pool for pool in self.pools if not pool.is_ipv6), None)

    @property
    def pool6(self) -> Pool | None:
        return next((pool for pool in self.pools if pool.is_ipv6), None)

    @property
    def gateway(self) -> str:
        """The IPv4 one, "" without."""
        return self.pool4.gateway if self.pool4 is not None else ""
