"""What of a container may be reached: its published ports, reserved on the host and led to it, and in strict networks
and by links what it exposes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kist.model.errors import KistError
from kist.model.network import Endpoint, PublishedPort
from kist.network.filtering import Filtering
from kist.network.firewall import Elements, of_port
from kist.network.ports import Reservations, Wanted

log = logging.getLogger(__name__)


class Way(NamedTuple):
    """The endpoint that published ports of one family of addresses lead to. `routed`: without translation."""

    endpoint: Endpoint
    routed: bool


Ways = Mapping[int, Way]  # by 4 and 6


class Kept(NamedTuple):
    """A container that runs on."""

    id: str
    ways: Ways
    ports: tuple[PublishedPort, ...]
    others: dict[str, Elements]


class Publishing:
    """`others`, here and below, are elements beside those of ports, each under a key that takes it back."""

    def __init__(self, filtering: Filtering) -> None:
        self._filtering = filtering
        self._reservations = Reservations()
        self._elements: dict[str, list[Elements]] = {}  # of ports, by container
        self._others: dict[str, Elements] = {}

    def publish(
        self, container_id: str, name: str, ways: Ways, wanted: list[Wanted], others: Mapping[str, Elements]
    ) -> tuple[PublishedPort, ...]:
        """All or none, in one transaction. Raises KistError with Docker's text when a port is taken."""
        ports: tuple[PublishedPort, ...] = ()
        if wanted:
            try:
                ports = self._reservations.reserve(container_id, wanted, [one for one in ways if ways[one].routed])
            except KistError as error:
                endpoint = next(iter(ways.values())).endpoint
                raise KistError(
                    f"failed to set up container networking: driver failed programming external connectivity on "
                    f"endpoint {name} ({endpoint.id}): {error.message}"
                ) from error
        elements = _led(ways, ports)
        added = {key: one for key, one in others.items() if one}
        try:
            self._filtering.add([*elements, *added.values()])
        except OSError as error:
            if ports:
                self._reservations.release(container_id)
            raise KistError(f"cannot publish ports: {error}") from error
        if elements:
            self._elements[container_id] = elements
            self._filtering.forget_datagrams(_datagrams(ports))
        self._others.update(added)
        return ports

    def unpublish(self, container_id: str) -> None:
        ports = self._reservations.release(container_id)
        self._filtering.remove(self._elements.pop(container_id, ()))
        self._filtering.forget_datagrams(_datagrams(ports))

    def withdraw(self, key: str) -> None:
        """Takes back what is not of a port."""
        elements = self._others.pop(key, None)
        if elements is not None:
            self._filtering.remove([elements])

    def restore(self, kept: Iterable[Kept]) -> None:
        """Takes the ports of containers that run on: one transaction for all of them."""
        elements: list[Elements] = []
        for one in kept:
            if one.ports:
                self._reservations.restore(one.id, one.ports)
                self._elements[one.id] = _led(one.ways, one.ports)
                elements += self._elements[one.id]
            added = {key: other for key, other in one.others.items() if other}
            self._others.update(added)
            elements += added.values()
        try:
            self._filtering.add(elements)
        except OSError as error:
            log.error("cannot publish the ports of running containers again: %s", error)

    def close(self) -> None:
        """Lets go of reserved ports; translation goes on."""
        self._reservations.close()


def _led(ways: Ways, ports: tuple[PublishedPort, ...]) -> list[Elements]:
    found: list[Elements] = []
    for port in dict.fromkeys(ports):  # in a routed network ports of the host that lead to one port are one
        way = ways.get(6 if ":" in port.host_ip else 4)
        if way is not None:
            found.append(of_port(port, way.endpoint, routed4=way.routed, routed6=way.routed))
    return found


def _datagrams(ports: Iterable[PublishedPort]) -> list[tuple[str, int]]:
    return [(port.host_ip, port.host_port) for port in ports if port.protocol == "udp" and port.host_port]
