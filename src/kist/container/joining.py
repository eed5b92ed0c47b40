"""The networks a container joins at its start: which, in what order, by what names, and where its packets leave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count

import msgspec

from kist.container.engine import Engine
from kist.container.links import Linked, present
from kist.container.machine import Machine
from kist.model.config import EndpointSettings
from kist.model.container import ContainerRecord
from kist.model.errors import InvalidParameter, KistError
from kist.model.network import Endpoint, Link, Network, PublishedPort
from kist.network import options as driver_options
from kist.network.dns.names import endpoint_names
from kist.network.firewall import Elements
from kist.network.ports import opened_ports, wanted_ports
from kist.network.service import Survivor

_PREDEFINED = ("bridge", "host", "none")
SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
ALONE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
Joined = tuple[tuple[Endpoint, ...], tuple[Link, ...]]


def join(engine: Engine, machine: Machine, preferred: str = "") -> Joined:
    """Addresses in every network of the container, and the links to make. What was taken is given back when one of them
    fails. `preferred`: its address in the first, when that is free. Raises KistError, NotFound.
    """
    record = machine.record
    hairpin = bool(record.host_config.port_bindings or record.host_config.publish_all_ports)
    endpoints: list[Endpoint] = []
    links: list[Link] = []
    try:
        for network, settings in _networks(engine, record):
            endpoint, link = engine.networks.attach(
                network,
                settings,
                interface_name(network, settings, len(endpoints)),
                names_of(record, network, settings),
                mac="" if endpoints else settings.mac_address or record.config.mac_address,
                preferred="" if endpoints else preferred,
                hairpin=hairpin,
            )
            endpoints.append(endpoint)
            links.append(link)
    except BaseException:
        for endpoint in endpoints:
            engine.networks.detach(endpoint)
        raise
    return tuple(endpoints), _with_gateways(record, endpoints, links)


def _networks(engine: Engine, record: ContainerRecord) -> list[tuple[Network, EndpointSettings]]:
    """The network of the mode first, then the others as they were asked for. It may have left that of its mode."""
    mode = record.host_config.network_mode
    if mode.startswith("container:") or record.config.network_disabled:
        return []
    if len(record.networks) > 1 and not {mode, *record.networks}.isdisjoint(("host", "none")):
        raise InvalidParameter(SHARED if "host" in (mode, *record.networks) else ALONE)
    if mode in ("host", "none"):
        return []
    asked = [(engine.networks.get(name), settings) for name, settings in record.networks.items()]
    if not asked:
        asked = [(engine.networks.get(mode), EndpointSettings())]
    asked.sort(key=lambda one: mode not in (one[0].name, one[0].id))
    found = {network.name: (network, settings) for network, settings in asked}
    return [(network, settings) for network, settings in found.values() if network.driver == "bridge"]


def interface_name(network: Network, settings: EndpointSettings, number: int) -> str:
    asked = (settings.driver_opts or {}).get("com.docker.network.endpoint.ifname", "")
    return asked or f"{driver_options.parse(network.options).interface_prefix}{number}"


def names_of(record: ContainerRecord, network: Network, settings: EndpointSettings) -> tuple[str, ...]:
    """By which the others of a user-defined network find it; the first is told for its address."""
    if network.name in _PREDEFINED:
        return ()
    return endpoint_names(record.name, settings.aliases or (), record.id, record.config.hostname)


def with_names(engine: Engine, record: ContainerRecord) -> ContainerRecord:
    """With the names of its endpoints as the container is called now."""
    endpoints = tuple(
        msgspec.structs.replace(
            endpoint,
            names=names_of(record, engine.networks.get(endpoint.network_id), _asked(record, endpoint.network)),
        )
        for endpoint in record.endpoints
    )
    return msgspec.structs.replace(record, endpoints=endpoints)


def _asked(record: ContainerRecord, network: str) -> EndpointSettings:
    return record.networks.get(network, EndpointSettings())


def priority(record: ContainerRecord, endpoint: Endpoint) -> tuple[int, str]:
    """Sorts networks by how much they want to be the way out: --gw-priority, then the name."""
    settings = record.networks.get(endpoint.network, EndpointSettings())
    return -settings.gw_priority, endpoint.network


def ways_out(record: ContainerRecord, endpoints: Iterable[Endpoint]) -> tuple[Endpoint | None, Endpoint | None]:
    """The endpoints with the default routes of IPv4 and of IPv6."""
    ordered = sorted(endpoints, key=lambda endpoint: priority(record, endpoint))
    return next((one for one in ordered if one.gateway), None), next((one for one in ordered if one.gateway6), None)


def gateways(record: ContainerRecord) -> list[str]:
    """The default routes of a container as it is connected now."""
    out4, out6 = ways_out(record, record.endpoints)
    return [*([out4.gateway] if out4 else []), *([out6.gateway6] if out6 else [])]


def ways(record: ContainerRecord, endpoints: Iterable[Endpoint]) -> dict[int, Endpoint]:
    """The same by 4 and 6: published ports of a family lead to the endpoint with its default route."""
    out = dict(zip((4, 6), ways_out(record, endpoints), strict=True))
    return {version: endpoint for version, endpoint in out.items() if endpoint is not None}


def publish(
    engine: Engine, record: ContainerRecord, endpoints: tuple[Endpoint, ...], others: Mapping[str, Elements] = {}
) -> tuple[PublishedPort, ...]:
    """Has the host lead the container's published ports to it, and lets `others` in. Raises KistError."""
    out = ways(record, endpoints)
    asked, wanted = record.host_config, []
    if out and (asked.port_bindings or asked.publish_all_ports):
        network = engine.networks.get(next(iter(out.values())).network_id)
        address = driver_options.parse(network.options).binding or engine.defaults.publish_address
        wanted = wanted_ports(record.config, asked, address, out)
    return engine.networks.publish(record.id, record.name, out, wanted, others)


def let_in(
    engine: Engine, record: ContainerRecord, endpoints: Iterable[Endpoint], linked: Iterable[Linked] = ()
) -> dict[str, Elements]:
    """What the firewall lets through beside published ports, by endpoint: to what a container of a strict network
    exposes, and from one whose network is closed to what it is linked to.
    """
    found: dict[str, Elements] = {}
    if record.config.exposed_ports or record.host_config.port_bindings:
        found = engine.networks.exposed(endpoints, opened_ports(record.config, record.host_config))
    targets = [(link.address, opened_ports(link.child.config, link.child.host_config)) for link in linked]
    return found | (engine.networks.linked(endpoints, targets) if targets else {})


def let_in_anew(engine: Engine, machine: Machine) -> None:
    """After a change of what a running container is linked to. Raises KistError."""
    record = machine.record
    others = let_in(engine, record, record.endpoints, present(engine.index, record))
    for key in others:
        engine.networks.withdraw(key)
    engine.networks.publish(record.id, record.name, {}, [], others)


def survivor(engine: Engine, record: ContainerRecord) -> Survivor:
    """What a container that ran when a kistd ended has of its networks."""
    return Survivor(
        record.id,
        record.endpoints,
        ways(record, record.endpoints),
        record.ports,
        let_in(engine, record, record.endpoints, present(engine.index, record)),
    )


def free_name(network: Network, settings: EndpointSettings, endpoints: Iterable[Endpoint]) -> str:
    """The name of the next interface of a container."""
    taken = {endpoint.name for endpoint in endpoints}
    number = next(
        number for number in count() if interface_name(network, settings, number) not in taken or number > 999
    )
    return interface_name(network, settings, number)


def _with_gateways(record: ContainerRecord, endpoints: list[Endpoint], links: list[Link]) -> tuple[Link, ...]:
    out4, out6 = ways_out(record, endpoints)
    return tuple(
        msgspec.structs.replace(
            link,
            gateway4=endpoint.gateway if endpoint is out4 else "",
            gateway6=endpoint.gateway6 if endpoint is out6 else "",
        )
        for endpoint, link in zip(endpoints, links, strict=True)
    )


def check_exists(engine: Engine, record: ContainerRecord) -> None:
    """Raises NotFound for a network that was removed since the container was made."""
    mode = record.host_config.network_mode
    if record.networks:
        return  # `join` looks for each
    if mode not in _PREDEFINED and not mode.startswith("container:"):
        network = engine.networks.get(mode)
        if network.config_only:
            raise KistError(f"network {network.name} is a configuration network: containers cannot join it")
