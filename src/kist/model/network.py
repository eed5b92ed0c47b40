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
    """A container's place in a network while it runs."""

    id: str  # 64 hex digits
    network: str  # name
    network_id: str
    host_name: str  # of the veth end in the host
    mac: str
    address: str  # without prefix
    prefix: int
    gateway: str


class PublishedPort(msgspec.Struct, frozen=True):
    """A port of a container reached through the host; `host_ip` 0.0.0.0 is every address."""

    protocol: str  # tcp, udp
    container_port: int
    host_ip: str
    host_port: int


class Network(msgspec.Struct, frozen=True):
    """A network as the store keeps it."""

    id: str
    name: str
    driver: str  # bridge, host, null
    created: str
    subnet: str = ""  # 172.17.0.0/16
    gateway: str = ""
    bridge: str = ""  # name of the host's interface
    mtu: int = 1500
    internal: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
