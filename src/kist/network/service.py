"""The networks of this engine: bridge, host and none, and what attaches containers to the bridge."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import logging
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec

from kist.kernel import nftables
from kist.kernel.rtnetlink import RouteSocket
from kist.model.config import ContainerConfig, EndpointSettings, HostConfig
from kist.model.errors import InvalidParameter, KistError, NotFound
from kist.model.network import Endpoint, Link, Network, PublishedPort
from kist.model.timestamp import rfc3339
from kist.network import firewall as rules
from kist.network.ipam import Allocator, free_subnet, mac_of
from kist.network.ports import Reservations, wanted_ports
from kist.store.database import Database, Records

log = logging.getLogger(__name__)
_FORWARD = "/proc/sys/net/ipv4/ip_forward"


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


class NetworkService:
    def __init__(self, database: Database, instance: str, settings: BridgeSettings) -> None:
        self._records = Records(database, "network", Network)
        self._instance = instance
        self._settings = settings
        self._allocator: Allocator | None = None
        self._bridge_index = 0
        self._reservations = Reservations()
        self._addresses: dict[str, str] = {}  # of containers with published ports
        self._table, self._tag = f"kist_{instance}", f"kist {instance}"
        self.openings = 0  # rules in chains of others that were needed
        self.forwarding = True

    # --- set-up ---

    def start(self) -> None:
        """Makes the built-in networks and the bridge. Raises KistError when the kernel refuses."""
        for name, driver in (("host", "host"), ("none", "null")):
            if self._records.get(name) is None:
                self._records.put(name, Network(secrets.token_hex(32), name, driver, rfc3339()))
        if self._settings.bridge == "none":
            self._records.delete("bridge")
            return
        made = ""
        try:
            with _one_at_a_time():
                made = self._make_bridge()
            self._configure(self.get("bridge"))
        except (OSError, LookupError) as error:
            self._unmake_bridge(made)
            raise KistError(f"cannot set the default bridge up: {_explained(error)}") from error
        except KistError:
            self._unmake_bridge(made)
            raise

    def _unmake_bridge(self, name: str) -> None:
        """Takes back the interface that a start made and could not use."""
        if not name:
            return
        with RouteSocket() as route:
            index = route.links().get(name)
            if index is not None:
                route.delete_link(index)

    def _make_bridge(self) -> str:
        """The record, and the interface with its address; the name of the interface when it was made now."""
        with RouteSocket() as route:
            links = route.links()
            old = self._records.get("bridge")
            name = self._settings.bridge or self._bridge_name(old, links, route.aliases())
            addresses = route.addresses()
            exists = name in links
            present = [
                (one, prefix) for index, one, prefix in addresses if exists and index == links[name] and "." in one
            ]
            subnet, gateway = self._subnet(route, old, present, addresses, links.get(name, -1))
            base = old or Network(secrets.token_hex(32), "bridge", "bridge", rfc3339())
            record = msgspec.structs.replace(base, subnet=subnet, gateway=gateway, bridge=name, mtu=self._settings.mtu)
            self._records.put("bridge", record)  # before the interface is made: a crash leaves a name to clean
            if not exists:
                if self._settings.bridge:
                    raise KistError(f"bridge {name} does not exist: --bridge wants one that is there")
                route.create_bridge(name, _random_mac(), self._settings.mtu, self._tag)
            self._bridge_index = route.links()[name]
            prefix = ipaddress.ip_network(subnet).prefixlen
            if (gateway, prefix) not in present and not self._settings.bridge:
                route.add_address(self._bridge_index, f"{gateway}/{prefix}")
            route.set_up(self._bridge_index)
        return "" if exists else name

    def _configure(self, network: Network) -> None:
        """Addresses, firewall and forwarding for a bridge that is there. Raises OSError, KistError."""
        name, subnet, gateway = network.bridge, network.subnet, network.gateway
        whole = ipaddress.IPv4Network(subnet)
        range_ = self._settings.fixed_cidr
        if range_ and not ipaddress.IPv4Network(range_, strict=False).subnet_of(whole):
            raise KistError(f"--fixed-cidr {range_} is not a part of {subnet}, the subnet of the default bridge")
        if self._settings.gateway and ipaddress.ip_address(self._settings.gateway) not in whole:
            raise KistError(f"--default-gateway {self._settings.gateway} is not in {subnet}, the subnet of the bridge")
        self._allocator = Allocator(subnet, self._settings.gateway or gateway, range_)
        self._allocator.reserve(gateway)
        if self._settings.firewall:
            try:
                self._install(name, subnet)
            except OSError as error:
                raise OSError(error.errno, f"nftables: {error.strerror}", error.filename) from error
        if self._settings.forward:
            with open(_FORWARD, "w", encoding="ascii") as file:
                file.write("1")
        with open(_FORWARD, encoding="ascii") as file:
            self.forwarding = file.read().strip() == "1"

    def _bridge_name(self, old: Network | None, links: dict[str, int], aliases: dict[str, str]) -> str:
        """kist0, or a name with the instance's id when another engine on this host has that."""
        if old is not None and old.bridge and aliases.get(old.bridge, "") in ("", self._tag):
            return old.bridge
        return "kist0" if "kist0" not in links else f"kist-{self._instance}"

    def _subnet(
        self,
        route: RouteSocket,
        old: Network | None,
        present: list[tuple[str, int]],
        addresses: list[tuple[int, str, int]],
        index: int,
    ) -> tuple[str, str]:
        """(subnet, gateway): as told, as the bridge has it, as it was, or the first free pool."""
        if self._settings.address:
            interface = ipaddress.ip_interface(self._settings.address)
            return str(interface.network), str(interface.ip)
        if present:
            interface = ipaddress.ip_interface(f"{present[0][0]}/{present[0][1]}")
            return str(interface.network), str(interface.ip)
        taken = [(address, prefix) for at, address, prefix in addresses if at != index and "." in address]
        taken += route.routes()
        if self._settings.fixed_cidr:
            chosen = ipaddress.IPv4Network(self._settings.fixed_cidr, strict=False)
            return str(chosen), str(next(chosen.hosts()))
        if old is not None and old.subnet:
            network = ipaddress.ip_network(old.subnet)
            if not any(network.overlaps(ipaddress.ip_network(f"{a}/{p}", strict=False)) for a, p in taken if p):
                return old.subnet, old.gateway
        subnet = free_subnet(taken)
        return subnet, str(next(ipaddress.ip_network(subnet).hosts()))

    @property
    def default_mode(self) -> str:
        """The network of containers that name none: with --bridge=none that is none, as with dockerd."""
        return "none" if self._settings.bridge == "none" else "bridge"

    # --- lookups ---

    def all(self) -> list[Network]:
        return sorted(self._records.values(), key=lambda network: network.name)

    def get(self, name: str) -> Network:
        """By name, id or prefix of an id. Raises NotFound with Docker's text."""
        wanted = "bridge" if name == "default" else name
        found = self._records.get(wanted) or next(
            (one for one in self._records.values() if len(wanted) >= 3 and one.id.startswith(wanted)), None
        )
        if found is None:
            raise NotFound(f"network {name} not found")
        return found

    def identified(self, asked: dict[str, EndpointSettings], mode: str) -> dict[str, EndpointSettings]:
        """What was asked of networks, with the id of the one of this mode: a container is known by it from its first
        start on, also when it has ended.
        """
        found = self._records.get(mode)
        key = "default" if mode == "bridge" and "default" in asked and "bridge" not in asked else mode
        known = asked.get(key, EndpointSettings())
        if found is None or known.network_id == found.id:
            return asked
        return {**asked, key: msgspec.structs.replace(known, network_id=found.id)}

    # --- endpoints ---

    def attach(
        self, container_id: str, wanted_mac: str = "", preferred: str = "", *, hairpin: bool = False
    ) -> tuple[Endpoint, Link]:
        """An address on the bridge, `preferred` when it is free, and the veth pair that is to be made. Raises KistError
        when none is left.
        """
        network = self.get("bridge")
        if self._allocator is None:
            raise InvalidParameter("the bridge network is switched off (--bridge=none)")
        try:
            address = self._allocator.allocate(preferred)
        except LookupError as error:
            raise KistError(str(error)) from error
        mac = wanted_mac or mac_of(address)
        prefix = self._allocator.network.prefixlen
        gateway = self._settings.gateway or network.gateway
        host_name = f"veth{secrets.token_hex(4)}"
        endpoint = Endpoint(
            id=secrets.token_hex(32),
            network=network.name,
            network_id=network.id,
            host_name=host_name,
            mac=mac,
            address=address,
            prefix=prefix,
            gateway=gateway,
        )
        link = Link(
            host_name=host_name,
            bridge_index=self._bridge_index,
            name="eth0",
            mac=mac,
            mtu=network.mtu,
            addresses=(f"{address}/{prefix}",),
            gateway4=gateway,
            hairpin=hairpin,
        )
        return endpoint, link

    def detach(self, endpoint: Endpoint) -> None:
        """The address is free again. The veth pair goes with the container's namespace."""
        if self._allocator is not None and endpoint.network == "bridge":
            self._allocator.release(endpoint.address)

    def publish(
        self,
        container_id: str,
        name: str,
        endpoint: Endpoint,
        config: ContainerConfig,
        host: HostConfig,
        address: str,
    ) -> tuple[PublishedPort, ...]:
        """Makes the ports of a container reachable through the host. Raises KistError when one is taken."""
        wanted = wanted_ports(config, host, address)
        if not wanted:
            return ()
        try:
            ports = self._reservations.reserve(container_id, wanted)
        except KistError as error:
            raise KistError(
                f"failed to set up container networking: driver failed programming external connectivity on endpoint "
                f"{name} ({endpoint.id}): {error.message}"
            ) from error
        self._addresses[container_id] = endpoint.address
        try:
            with nftables.Firewall() as firewall:
                firewall.commit(rules.elements(self._table, ports, endpoint.address, add=True))
        except OSError as error:
            self._reservations.release(container_id)
            raise KistError(f"cannot publish ports: {error}") from error
        return ports

    def unpublish(self, container_id: str) -> None:
        """Takes the ports of a container back."""
        ports = self._reservations.release(container_id)
        address = self._addresses.pop(container_id, "")
        if not ports or not address:
            return
        try:
            with nftables.Firewall() as firewall:
                firewall.commit(rules.elements(self._table, ports, address, add=False))
        except OSError as error:
            log.warning("cannot take published ports back: %s", error)

    # --- the firewall ---

    def _install(self, bridge: str, subnet: str) -> None:
        """The table, empty of elements; `restore` adds those of containers that run on."""
        settings = self._settings
        for name in ("route_localnet",):  # so that 127.0.0.1:port can be led to a container
            with open(f"/proc/sys/net/ipv4/conf/{bridge}/{name}", "w", encoding="ascii") as file:
                file.write("1")
        with nftables.Firewall() as firewall:
            firewall.commit(
                rules.ruleset(self._table, bridge, subnet, masquerade=settings.masquerade, icc=settings.icc)
            )
            opened = rules.openings(
                firewall.chains(), firewall.rules(), self._table, self._tag, bridge, settings.publish_open
            )
            if opened:
                firewall.commit(opened)
                self.openings = len(opened)

    def close_openings(self) -> None:
        """Takes our rules out of the chains of others, when nothing runs any more that needs them."""
        if not self._settings.firewall:
            return
        try:
            with nftables.Firewall() as firewall:
                requests = rules.closings(firewall.rules(), self._tag)
                if requests:
                    firewall.commit(requests)
        except OSError as error:
            log.warning("cannot take the openings for the bridge back: %s", error)

    def restore(self, containers: Iterable[tuple[str, tuple[Endpoint, ...], tuple[PublishedPort, ...]]]) -> None:
        """Takes the addresses and ports of containers (id, endpoints, ports) that run on."""
        requests = []
        for container_id, endpoints, ports in containers:
            for endpoint in endpoints:
                if self._allocator is None or endpoint.network != "bridge":
                    continue
                self._allocator.reserve(endpoint.address)
                if ports:
                    self._reservations.restore(container_id, ports)
                    self._addresses[container_id] = endpoint.address
                    requests += rules.elements(self._table, ports, endpoint.address, add=True)
        if requests:
            try:
                with nftables.Firewall() as firewall:
                    firewall.commit(requests)
            except OSError as error:
                log.error("cannot publish the ports of running containers again: %s", error)

    def close(self) -> None:
        """Lets go of reserved ports; translation goes on."""
        self._reservations.close()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Engines of one network namespace choose names and subnets one after the other, or two would choose the same."""
    descriptor = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _explained(error: Exception) -> str:
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


def _random_mac() -> str:
    """Locally administered, unicast."""
    raw = bytearray(os.urandom(6))
    raw[0] = raw[0] & 0xFE | 0x02
    return ":".join(f"{byte:02x}" for byte in raw)
