"""Published ports: what is asked for, which host port each gets, and the sockets that keep others off it."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Collection, Iterable

from kist.model.config import ContainerConfig, HostConfig
from kist.model.errors import InvalidParameter, KistError, NotSupported
from kist.model.network import PublishedPort
from kist.model.number import is_number

_SCTP = 132  # IPPROTO_SCTP of linux/in.h
_KINDS = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "sctp": (socket.SOCK_STREAM, _SCTP)}
_EPHEMERAL_TRIES = 64
_EVERY = ("0.0.0.0", "::")


class Wanted:
    """One port to publish, by the same number at every one of `addresses`. `first` to `last` may serve on the host; 0:
    any that is free.
    """

    def __init__(self, protocol: str, port: int, addresses: tuple[str, ...], first: int, last: int) -> None:
        self.protocol, self.port, self.addresses, self.first, self.last = protocol, port, addresses, first, last


def wanted_ports(
    config: ContainerConfig, host: HostConfig, default_address: str, versions: Collection[int] = (4,)
) -> list[Wanted]:
    """From PortBindings, and with -P every exposed port. `versions`: 4 and 6 as the container has such an address.

    Raises InvalidParameter, and NotSupported for an IPv6 address of the host before a container without one.
    """
    found = []
    for key, bindings in (host.port_bindings or {}).items():
        number, protocol = _parse(key)
        for binding in bindings or ():
            addresses = _addresses(binding.host_ip, default_address, versions)
            first, _, last = binding.host_port.partition("-")
            low = int(first or 0)
            if addresses:
                found.append(Wanted(protocol, number, addresses, low, int(last or low)))
    if host.publish_all_ports:
        bound = {_parse(key) for key, bindings in (host.port_bindings or {}).items() if bindings}
        for key in config.exposed_ports or ():
            number, protocol = _parse(key)
            addresses = _addresses("", default_address, versions)
            if (number, protocol) not in bound and addresses:
                found.append(Wanted(protocol, number, addresses, 0, 0))
    return found


def opened_ports(config: ContainerConfig, host: HostConfig) -> list[tuple[str, int]]:
    """(protocol, port) of what a container offers: what is exposed, and what is published."""
    found = {}
    for key in (*(config.exposed_ports or ()), *(host.port_bindings or ())):
        number, _, protocol = key.partition("/")
        if is_number(number):
            found[(protocol or "tcp").lower(), int(number)] = True
    return [one for one in found if one[0] in _KINDS]


def _addresses(asked: str, default: str, versions: Collection[int]) -> tuple[str, ...]:
    """Of the host, for one port. Where none is asked for, every IPv6 address goes with every IPv4 address."""
    if asked:
        address = ipaddress.ip_address(asked)
        if address.version == 6 and 6 not in versions:
            raise NotSupported(
                f"publishing on the IPv6 address {asked} is supported only for containers that have an IPv6 address "
                f"and a way out by it: this engine has no proxy that leads it to an IPv4 address"
            )
        return (str(address),) if address.version in versions else ()
    if not default:
        return ()
    own = ipaddress.ip_address(default)
    found = (str(own),) if own.version in versions else ()
    return (*found, "::") if default == "0.0.0.0" and 6 in versions else found


def _parse(key: str) -> tuple[int, str]:
    number, _, protocol = key.partition("/")
    protocol = (protocol or "tcp").lower()
    if not is_number(number):
        raise InvalidParameter(f"invalid port specification: {key!r}")
    if protocol not in _KINDS:
        raise NotSupported(f"publishing {protocol} ports is not supported by this engine yet")
    return int(number), protocol


def bound_socket(protocol: str, address: str, port: int) -> socket.socket:
    """Not listening: the kernel answers as if nobody were there, and gives the port to nobody else. Raises OSError."""
    kind, number = _KINDS[protocol]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, kind | socket.SOCK_CLOEXEC, number)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound


class Reservations:
    """Sockets bound: the kernel tells of conflicts, and nobody else gets the port."""

    def __init__(self) -> None:
        self._held: dict[str, list[socket.socket]] = {}
        self._taken: set[tuple[str, str, int]] = set()
        self._ports: dict[str, list[PublishedPort]] = {}

    def reserve(self, container: str, wanted: list[Wanted], routed: Collection[int] = ()) -> tuple[PublishedPort, ...]:
        """All or none. Families in `routed` have no ports of the host: theirs is 0. Raises KistError with Docker's
        text.
        """
        held: list[socket.socket] = []
        ports: list[PublishedPort] = []
        try:
            for one in wanted:
                bound, number = self._bind(one, ports, routed)
                held += bound
                for address in one.addresses:
                    free = _version(address) in routed
                    every = _EVERY[":" in address]
                    ports.append(
                        PublishedPort(one.protocol, one.port, every if free else address, 0 if free else number)
                    )
        except BaseException:
            for one_held in held:
                one_held.close()
            raise
        self._held[container], self._ports[container] = held, ports
        self._taken.update(_keys(ports))
        return tuple(ports)

    def _bind(
        self, one: Wanted, ports: list[PublishedPort], routed: Collection[int]
    ) -> tuple[list[socket.socket], int]:
        addresses = [address for address in one.addresses if _version(address) not in routed]
        if not addresses:
            return [], 0
        failure: Exception | None = None
        numbers: Iterable[int] = range(one.first, one.last + 1) if one.first else [0] * _EPHEMERAL_TRIES
        for number in numbers:
            address = next(
                (one_of for one_of in addresses if number and self._collides(one, one_of, number, ports)), ""
            )
            if address:
                failure = KistError(f"Bind for {address}:{number} failed: port is already allocated")
                continue
            held: list[socket.socket] = []
            try:
                for address in addresses:
                    held.append(bound_socket(one.protocol, address, number))
                    number = held[-1].getsockname()[1]
                return held, number
            except OSError as error:
                for bound in held:
                    bound.close()
                shown = f"[{address}]" if ":" in address else address
                failure = KistError(
                    f"failed to bind host port {shown}:{number}/{one.protocol}: {(error.strerror or '').lower()}"
                )
                if error.errno != errno.EADDRINUSE:
                    break
        assert failure is not None
        raise failure

    def _collides(self, one: Wanted, address: str, number: int, ports: list[PublishedPort]) -> bool:
        taken = self._taken | set(_keys(ports))
        every = _EVERY[":" in address]
        if address == every:
            return any(
                protocol == one.protocol and port == number and (":" in other) == (":" in address)
                for protocol, other, port in taken
            )
        return any((one.protocol, other, number) in taken for other in (address, every))

    def restore(self, container: str, ports: tuple[PublishedPort, ...]) -> None:
        """Takes the ports of a container that runs on; one that somebody took meanwhile stays translated."""
        held = []
        for port in ports:
            if not port.host_port:
                continue
            try:
                held.append(bound_socket(port.protocol, port.host_ip, port.host_port))
            except OSError:
                continue
        self._held[container], self._ports[container] = held, list(ports)
        self._taken.update(_keys(ports))

    def release(self, container: str) -> list[PublishedPort]:
        for bound in self._held.pop(container, ()):
            bound.close()
        ports = self._ports.pop(container, [])
        self._taken.difference_update(_keys(ports))
        return ports

    def close(self) -> None:
        for container in list(self._held):
            for bound in self._held.pop(container):
                bound.close()


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _keys(ports: Iterable[PublishedPort]) -> list[tuple[str, str, int]]:
    return [(port.protocol, port.host_ip, port.host_port) for port in ports if port.host_port]
