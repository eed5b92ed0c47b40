"""Published ports: what is asked for, which host port each gets, and the sockets that keep others off it."""

from __future__ import annotations

import ipaddress
import socket

from kist.model.config import ContainerConfig, HostConfig
from kist.model.errors import InvalidParameter, KistError, NotSupported
from kist.model.network import PublishedPort
from kist.model.number import is_number

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class Wanted:
    """One port to publish. `first` to `last` may serve on the host; 0: any that is free."""

    def __init__(self, protocol: str, port: int, host_ip: str, first: int, last: int) -> None:
        self.protocol, self.port, self.host_ip, self.first, self.last = protocol, port, host_ip, first, last


def wanted_ports(config: ContainerConfig, host: HostConfig, default_address: str) -> list[Wanted]:
    """From PortBindings, and with -P every exposed port. Raises InvalidParameter, NotSupported (sctp, IPv6)."""
    found = []
    for key, bindings in (host.port_bindings or {}).items():
        number, protocol = _parse(key)
        for binding in bindings or ():
            address = binding.host_ip or default_address
            if ":" in address:
                raise NotSupported(f"publishing on the IPv6 address {address} is not supported by this engine yet")
            first, _, last = binding.host_port.partition("-")
            low = int(first or 0)
            found.append(Wanted(protocol, number, str(ipaddress.IPv4Address(address)), low, int(last or low)))
    if host.publish_all_ports:
        bound = {(one.protocol, one.port) for one in found}
        for key in config.exposed_ports or ():
            number, protocol = _parse(key)
            if (protocol, number) not in bound:
                found.append(Wanted(protocol, number, default_address, 0, 0))
    return found


def _parse(key: str) -> tuple[int, str]:
    number, _, protocol = key.partition("/")
    protocol = (protocol or "tcp").lower()
    if not is_number(number):
        raise InvalidParameter(f"invalid port specification: {key!r}")
    if protocol not in _KINDS:
        raise NotSupported(f"publishing {protocol} ports is not supported by this engine yet")
    return int(number), protocol


class Reservations:
    """Sockets bound, not listening: the kernel tells of conflicts, and nobody else gets the port."""

    def __init__(self) -> None:
        self._held: dict[str, list[socket.socket]] = {}
        self._taken: set[tuple[str, str, int]] = set()
        self._ports: dict[str, list[PublishedPort]] = {}

    def reserve(self, container: str, wanted: list[Wanted]) -> tuple[PublishedPort, ...]:
        """All or none. Raises KistError with Docker's text."""
        held: list[socket.socket] = []
        ports: list[PublishedPort] = []
        try:
            for one in wanted:
                bound, number = self._bind(one, ports)
                held.append(bound)
                ports.append(PublishedPort(one.protocol, one.port, one.host_ip, number))
        except BaseException:
            for bound in held:
                bound.close()
            raise
        self._held[container], self._ports[container] = held, ports
        self._taken.update((port.protocol, port.host_ip, port.host_port) for port in ports)
        return tuple(ports)

    def _bind(self, one: Wanted, ports: list[PublishedPort]) -> tuple[socket.socket, int]:
        failure: Exception | None = None
        for number in range(one.first, one.last + 1):
            if number and self._collides(one, number, ports):
                failure = KistError(f"Bind for {one.host_ip}:{number} failed: port is already allocated")
                continue
            bound = socket.socket(socket.AF_INET, _KINDS[one.protocol] | socket.SOCK_CLOEXEC)
            try:
                bound.bind((one.host_ip, number))
                return bound, bound.getsockname()[1]
            except OSError as error:
                bound.close()
                reason = (error.strerror or "").lower()
                failure = KistError(f"failed to bind host port {one.host_ip}:{number}/{one.protocol}: {reason}")
        assert failure is not None
        raise failure

    def _collides(self, one: Wanted, number: int, ports: list[PublishedPort]) -> bool:
        taken = self._taken | {(port.protocol, port.host_ip, port.host_port) for port in ports}
        addresses = {one.host_ip, "0.0.0.0"}
        if one.host_ip == "0.0.0.0":
            return any(protocol == one.protocol and port == number for protocol, _, port in taken)
        return any((one.protocol, address, number) in taken for address in addresses)

    def restore(self, container: str, ports: tuple[PublishedPort, ...]) -> None:
        """Takes the ports of a container that runs on; one that somebody took meanwhile stays translated."""
        held = []
        for port in ports:
            bound = socket.socket(socket.AF_INET, _KINDS[port.protocol] | socket.SOCK_CLOEXEC)
            try:
                bound.bind((port.host_ip, port.host_port))
                held.append(bound)
            except OSError:
                bound.close()
        self._held[container], self._ports[container] = held, list(ports)
        self._taken.update((port.protocol, port.host_ip, port.host_port) for port in ports)

    def release(self, container: str) -> list[PublishedPort]:
        for bound in self._held.pop(container, ()):
            bound.close()
        ports = self._ports.pop(container, [])
        for port in ports:
            self._taken.discard((port.protocol, port.host_ip, port.host_port))
        return ports

    def close(self) -> None:
        for container in list(self._held):
            for bound in self._held.pop(container):
                bound.close()
