"""The networks of this engine, and what attaches containers to them."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from kist.kernel.rtnetlink import RouteSocket
from kist.model.config import EndpointIPAMConfig, EndpointSettings
from kist.model.errors import Forbidden, InvalidParameter, KistError, NotFound
from kist.model.network import Endpoint, Link, Network, Pool, PublishedPort
from kist.model.request import NetworkRequest
from kist.model.timestamp import rfc3339
from kist.network import bridges, planning
from kist.network import options as driver_options
from kist.network.default_bridge import BridgeSettings, default_network
from kist.network.filtering import Filtering
from kist.network.firewall import Elements, of_exposed, of_link
from kist.network.ipam import Allocator, Subnet, mac_of
from kist.network.ports import Wanted
from kist.network.publishing import Kept, Publishing, Way
from kist.network.repairing import Repairing
from kist.store.database import Database, Records

log = logging.getLogger(__name__)
Emit = Callable[[str, Network, dict[str, str]], None]


class Survivor(NamedTuple):
    """A container that runs on: what it has of its networks. `ways`: its endpoints for IPv4 and for IPv6."""

    id: str
    endpoints: tuple[Endpoint, ...]
    ways: Mapping[int, Endpoint]
    ports: tuple[PublishedPort, ...]
    others: dict[str, Elements]


class NetworkService:
    """`emit(action, network, attributes)` tells of what is made and removed."""

    def __init__(self, database: Database, instance: str, settings: BridgeSettings, emit: Emit) -> None:
        self._records = Records(database, "network", Network)
        self._instance, self._settings, self._emit = instance, settings, emit
        self._tag = f"kist {instance}"
        self._filtering = Filtering(instance, active=settings.firewall, publish_open=settings.publish_open)
        self._publishing = Publishing(self._filtering)
        self._allocators: dict[tuple[str, bool], Allocator] = {}  # by network id, and whether IPv6
        self._indexes: dict[str, int] = {}  # of the bridges, by network id
        self.users: Callable[[str], list[tuple[str, str]]] = lambda network_id: []  # (container name, endpoint id)
        self.forwarding = True

    def watch(self) -> Repairing:
        """From now on what others take out of the firewall is put back. On the event loop."""
        return Repairing(self._filtering)

    @property
    def openings(self) -> int:
        return self._filtering.openings

    # --- set-up ---

    def start(self) -> None:
        """Makes the built-in networks, and what the others had and a restart of the host took. Raises KistError when
        the default bridge cannot be; another network that cannot is told in the log.
        """
        for name, driver in (("host", "host"), ("none", "null")):
            if self._records.get(name) is None:
                self._records.put(name, Network(secrets.token_hex(32), name, driver, rfc3339()))
        if self._settings.bridge == "none":
            self._records.delete("bridge")
        try:
            with one_at_a_time(), RouteSocket() as route:
                bridges.remove_others(route, self._tag, {network.bridge for network in self._records.values()})
                if self._settings.bridge != "none":
                    self._make_default(route)
        except (OSError, LookupError) as error:
            raise KistError(f"cannot set the default bridge up: {explained(error)}") from error
        for network in self.all():
            if network.driver == "bridge" and network.name != "bridge":
                try:
                    with one_at_a_time(), RouteSocket() as route:
                        self._set_up(route, network)
                except (OSError, KistError) as error:
                    log.error("network %s cannot be used: %s", network.name, error)

    def _make_default(self, route: RouteSocket) -> None:
        """Raises OSError, LookupError, KistError; an interface that was made for nothing goes again."""
        network = default_network(self._settings, self._records.get("bridge"), route, self._instance, self._others())
        self._records.put("bridge", network)  # before the interface is made: a crash leaves a name to clean
        if self._settings.bridge and network.bridge not in route.links():
            raise KistError(f"bridge {network.bridge} does not exist: --bridge wants one that is there")
        there = network.bridge in route.links()
        try:
            self._set_up(route, network)
        except BaseException:
            if not there:
                self._unmake(network.bridge)
            raise

    def _others(self) -> list[Network]:
        return [network for network in self._records.values() if network.name != "bridge"]

    def _unmake(self, name: str) -> None:
        """Takes back the interface that a start made and could not use."""
        if name:
            with RouteSocket() as route:
                bridges.remove(route, name, self._tag)

    def _set_up(self, route: RouteSocket, network: Network) -> bool:
        """Interface, addresses and firewall of a network; whether the interface was made now. Raises OSError."""
        options = driver_options.parse(network.options)
        index, made = bridges.make(route, network, self._tag)
        self._indexes[network.id] = index
        for pool in network.pools:
            self._allocators[network.id, pool.is_ipv6] = Allocator(self._limited(network, pool))
        if self._settings.firewall:
            bridges.lead_loopback(network.bridge)
            if not options.icc or options.strict:
                bridges.filter_inside()
            self._filtering.add_network(network)
        if self._settings.forward and network.ipv6 and not network.internal:
            bridges.forward(6)
        if network.ipv4:
            self.forwarding = bridges.forward(4) if self._settings.forward else bridges.forwards(4)
        return made

    def _limited(self, network: Network, pool: Pool) -> Pool:
        """The default bridge takes addresses from --fixed-cidr, and knows the gateway of --default-gateway."""
        if network.name != "bridge" or pool.is_ipv6:
            return pool
        auxiliary = {"gateway": self._settings.gateway} if self._settings.gateway else {}
        return msgspec.structs.replace(pool, range=self._settings.fixed_cidr, auxiliary=auxiliary)

    @property
    def default_mode(self) -> str:
        """The network of containers that name none: with --bridge=none that is none, as with dockerd."""
        return "none" if self._settings.bridge == "none" else "bridge"

    # --- lookups ---

    def all(self) -> list[Network]:
        return sorted(self._records.values(), key=lambda network: network.name)

    def get(self, name: str) -> Network:
        """By id, name, or prefix of an id. Raises NotFound with Docker's text."""
        wanted = "bridge" if name == "default" else name
        found = next((one for one in self._records.values() if one.id == wanted), None) or self._records.get(wanted)
        if found is None and len(wanted) >= 3:
            begun = [one for one in self._records.values() if one.id.startswith(wanted)]
            if len(begun) > 1:
                raise InvalidParameter(f"network {wanted} is ambiguous ({len(begun)} matches found based on ID prefix)")
            found = begun[0] if begun else None
        if found is None:
            raise NotFound(f"network {name} not found")
        return found

    def identified(self, asked: dict[str, EndpointSettings], mode: str) -> dict[str, EndpointSettings]:
        """What was asked of networks, with their ids: a container is known by them from its first start on, also when
        it has ended. `mode`: the network it has when nothing was asked.
        """
        found = {}
        for name, settings in (asked or {mode: EndpointSettings()}).items():
            record = self._records.get("bridge" if name == "default" else name)
            if record is not None:
                found[name] = msgspec.structs.replace(settings, network_id=record.id)
            elif name in asked:
                found[name] = settings
        return found

    # --- making and removing ---

    def create(self, request: NetworkRequest) -> Network:
        """Raises KistError of the kind that Docker's status tells."""
        with one_at_a_time(), RouteSocket() as route:
            around = planning.Surroundings(
                networks=tuple(self._records.values()),
                routes=_direct(route),
                host_seed=_host_seed(),
                mtu=self._settings.mtu,
            )
            network = planning.plan(request, around, secrets.token_hex(32), rfc3339())
            self._records.put(network.name, network)
            if not network.config_only:
                self._make(route, network)
        self._emit("create", network, {})
        return network

    def _make(self, route: RouteSocket, network: Network) -> None:
        made = network.bridge not in route.links()
        try:
            self._set_up(route, network)
        except BaseException as error:
            self._forget(network)
            if made:
                self._unmake(network.bridge)
            self._records.delete(network.name)
            if isinstance(error, OSError):
                raise KistError(f"cannot make network {network.name}: {explained(error)}") from error
            raise

    def _forget(self, network: Network) -> None:
        self._filtering.remove_network(network)
        self._indexes.pop(network.id, None)
        for version in (False, True):
            self._allocators.pop((network.id, version), None)

    def remove(self, name: str) -> None:
        """Raises NotFound, and Forbidden while a container is attached."""
        network = self.get(name)
        if network.name in planning.PREDEFINED:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        if network.config_only and any(one.config_from == network.name for one in self._records.values()):
            raise Forbidden(f'error while removing network: configuration network "{network.name}" is in use')
        users = self.users(network.id)
        if users:
            told = ", ".join(f'name:"{container}" id:"{endpoint[:12]}"' for container, endpoint in users)
            raise Forbidden(f"error while removing network: network {network.name} has active endpoints ({told})")
        if not network.config_only:
            self._forget(network)
            with RouteSocket() as route:
                bridges.remove(route, network.bridge, self._tag)
        self._records.delete(network.name)
        self._emit("destroy", network, {})

    def prune(self, wanted: Callable[[Network], bool]) -> list[str]:
        """Removes the networks without containers that are wanted away; their names."""
        removed = []
        for network in self.all():
            if network.name in planning.PREDEFINED or not wanted(network) or self.users(network.id):
                continue
            self.remove(network.id)
            removed.append(network.name)
        return removed

    # --- endpoints ---

    def attach(
        self, network: Network, settings: EndpointSettings, name: str, names: tuple[str, ...], *,
        mac: str = "", preferred: str = "", hairpin: bool = False,
    ) -> tuple[Endpoint, Link]:  # fmt: skip
        """Addresses in a bridge network, and the veth pair that is to be made, `name` inside. What was asked for is
        given or refused; `preferred` is given when it is free. Raises KistError.
        """
        if network.id not in self._indexes:
            raise KistError(f"network {network.name} cannot be used: see the daemon's log")
        asked = settings.ipam_config or EndpointIPAMConfig()
        taken: dict[bool, str] = {}
        try:
            for is_ipv6, wanted in ((False, asked.ipv4_address), (True, asked.ipv6_address)):
                allocator = self._allocators.get((network.id, is_ipv6))
                if allocator is None:
                    continue
                if preferred and not is_ipv6 and not wanted and allocator.is_free(preferred):
                    wanted = preferred
                taken[is_ipv6] = allocator.take(wanted) if wanted else allocator.allocate()
        except BaseException:
            for is_ipv6, address in taken.items():
                self._allocators[network.id, is_ipv6].release(address)
            raise
        address, address6 = taken.get(False, ""), taken.get(True, "")
        mac = mac or settings.mac_address or (mac_of(address) if address else bridges.random_mac())
        gateway = {is_ipv6: self._gateway(network, pool) for is_ipv6, pool in
                   ((False, network.pool4), (True, network.pool6))}  # fmt: skip
        endpoint = Endpoint(
            id=secrets.token_hex(32),
            network=network.name,
            network_id=network.id,
            host_name=f"veth{secrets.token_hex(4)}",
            mac=mac,
            address=address,
            prefix=self._allocators[network.id, False].prefix if address else 0,
            gateway=gateway[False],
            address6=address6,
            prefix6=self._allocators[network.id, True].prefix if address6 else 0,
            gateway6=gateway[True],
            name=name,
            names=names,
        )
        link = self.link(network, endpoint, hairpin=hairpin)
        local = [f"{one}/{64 if ':' in one else 16}" for one in asked.link_local_ips or ()]
        return endpoint, msgspec.structs.replace(link, addresses=(*link.addresses, *local))

    def _gateway(self, network: Network, pool: Pool | None) -> str:
        """Where the containers of a network send what is for others: nowhere, from an internal one."""
        if pool is None or network.internal:
            return ""
        if network.name == "bridge" and not pool.is_ipv6:
            return self._settings.gateway or pool.gateway
        return pool.gateway

    def link(self, network: Network, endpoint: Endpoint, *, hairpin: bool = False) -> Link:
        """The veth pair of an endpoint, without routes."""
        addresses = [f"{endpoint.address}/{endpoint.prefix}"] if endpoint.address else []
        addresses += [f"{endpoint.address6}/{endpoint.prefix6}"] if endpoint.address6 else []
        return Link(
            host_name=endpoint.host_name,
            bridge_index=self._indexes[network.id],
            name=endpoint.name,
            mac=endpoint.mac,
            mtu=network.mtu,
            addresses=tuple(addresses),
            hairpin=hairpin,
        )

    def detach(self, endpoint: Endpoint) -> None:
        """The addresses are free again. The veth pair goes with the container's namespace."""
        self._publishing.withdraw(endpoint.id)
        for is_ipv6, address in ((False, endpoint.address), (True, endpoint.address6)):
            allocator = self._allocators.get((endpoint.network_id, is_ipv6))
            if allocator is not None and address:
                allocator.release(address)

    # --- published ports ---

    def publish(
        self,
        container_id: str,
        name: str,
        ways: Mapping[int, Endpoint],
        wanted: list[Wanted],
        others: Mapping[str, Elements] = {},
    ) -> tuple[PublishedPort, ...]:
        """Makes the ports of a container reachable through the host, by its endpoints for IPv4 and for IPv6, and lets
        `others` of the firewall in, each under a key for `withdraw`. Raises KistError when a port is taken.
        """
        if not wanted and not any(others.values()):
            return ()
        return self._publishing.publish(container_id, name, self._ways(ways), wanted, others)

    def exposed(self, endpoints: Iterable[Endpoint], ports: Iterable[tuple[str, int]]) -> dict[str, Elements]:
        """What lets containers of strict networks be reached on these ports (protocol, port), by endpoint."""
        listed = list(ports)
        return {
            endpoint.id: of_exposed(endpoint, listed)
            for endpoint in endpoints
            if listed and self._options(endpoint).strict
        }

    def linked(
        self, endpoints: Iterable[Endpoint], targets: Iterable[tuple[str, list[tuple[str, int]]]]
    ) -> dict[str, Elements]:
        """What lets a container of the default bridge, where that is closed, reach others: (address, ports)."""
        found: dict[str, Elements] = {}
        for endpoint in endpoints:
            if endpoint.network == "bridge" and endpoint.address and not self._options(endpoint).icc:
                parts = [of_link(endpoint.address, target, ports) for target, ports in targets]
                found[endpoint.id] = {name: [one for part in parts for one in part.get(name, ())]
                                      for name in {name for part in parts for name in part}}  # fmt: skip
        return found

    def _ways(self, endpoints: Mapping[int, Endpoint]) -> dict[int, Way]:
        return {version: Way(endpoint, self._is_routed(endpoint, version)) for version, endpoint in endpoints.items()}

    def _is_routed(self, endpoint: Endpoint, version: int) -> bool:
        options = self._options(endpoint)
        return (options.mode4 if version == 4 else options.mode6) == "routed"

    def _options(self, endpoint: Endpoint) -> driver_options.BridgeOptions:
        return driver_options.parse(self.get(endpoint.network_id).options)

    def withdraw(self, key: str) -> None:
        """Takes back what `publish` let in beside ports."""
        self._publishing.withdraw(key)

    def unpublish(self, container_id: str) -> None:
        """Takes the ports of a container back."""
        self._publishing.unpublish(container_id)

    def restore(self, containers: Iterable[Survivor]) -> None:
        """Takes the addresses and ports of containers that run on."""
        kept = []
        for one in containers:
            for endpoint in one.endpoints:
                for is_ipv6, address in ((False, endpoint.address), (True, endpoint.address6)):
                    allocator = self._allocators.get((endpoint.network_id, is_ipv6))
                    if allocator is not None and address:
                        allocator.reserve(address)
            kept.append(Kept(one.id, self._ways(one.ways), one.ports, one.others))
        self._publishing.restore(kept)

    def close_openings(self) -> None:
        """Takes our rules out of the chains of others, when nothing runs any more that needs them."""
        self._filtering.close()

    def close(self) -> None:
        """Lets go of reserved ports; translation goes on."""
        self._publishing.close()


def _direct(route: RouteSocket) -> tuple[Subnet, ...]:
    """Subnets that the host reaches: those of its addresses, its routes and its name servers."""
    found = [(address, prefix) for _, address, prefix in route.addresses()] + route.routes()
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            words = [line.split() for line in file]
    except OSError:
        words = []
    for key, *rest in filter(None, words):
        if key == "nameserver" and rest:
            found.append((rest[0].partition("%")[0], 128 if ":" in rest[0] else 32))
    subnets = []
    for address, prefix in found:
        try:
            subnets.append(ipaddress.ip_network(f"{address}/{prefix}", strict=False))
        except ValueError:
            continue  # of a name server that is no address
    return tuple(subnets)


def _host_seed() -> str:
    """machine-id(5), or the host's name."""
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return os.uname().nodename


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Engines of one network namespace choose names and subnets one after the other, or two would choose the same."""
    descriptor = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def explained(error: Exception) -> str:
    """What the kernel said, and where that alone does not help, what to do."""
    text = str(error)
    if isinstance(error, OSError) and "nftables" in text:
        if error.errno in (errno.EPERM, errno.EACCES):
            return f"{text}: this network namespace is not kistd's to filter, use --iptables=false or --bridge=none"
        if error.errno in (errno.ENOSYS, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL):
            return f"{text}: this kernel lacks nf_tables (try: modprobe nf_tables), or use --iptables=false"
    if isinstance(error, OSError) and error.errno in (errno.EPERM, errno.EROFS, errno.EACCES):
        return f"{text}: the network is not kistd's to change here, use --bridge=none"
    return text
