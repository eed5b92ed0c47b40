"""Published ports of containers: reserved on the host, and led to the container."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from kist.model.errors import KistError
from kist.model.network import Endpoint, Network, PublishedPort
from kist.network import options as driver_options
from kist.network.filtering import Filtering
from kist.network.firewall import Elements, of_port
from kist.network.ports import Reservations, Wanted

log = logging.getLogger(__name__)


class Publishing:
    def __init__(self, filtering: Filtering) -> None:
        self._filtering = filtering
        self._reservations = Reservations()
        self._elements: dict[str, list[Elements]] = {}  # by container

    def publish(
        self, container_id: str, name: str, network: Network, endpoint: Endpoint, wanted: list[Wanted]
    ) -> tuple[PublishedPort, ...]:
        """All or none. Raises KistError with Docker's text when one is taken."""
        try:
            ports = self._reservations.reserve(container_id, wanted)
        except KistError as error:
            raise KistError(
                f"failed to set up container networking: driver failed programming external connectivity on endpoint "
                f"{name} ({endpoint.id}): {error.message}"
            ) from error
        elements = _led(network, endpoint, ports)
        try:
            self._filtering.add(elements)
        except OSError as error:
            self._reservations.release(container_id)
            raise KistError(f"cannot publish ports: {error}") from error
        self._elements[container_id] = elements
        return ports

    def unpublish(self, container_id: str) -> None:
        self._reservations.release(container_id)
        self._filtering.remove(self._elements.pop(container_id, ()))

    def restore(self, kept: Iterable[tuple[str, Network, Endpoint, tuple[PublishedPort, ...]]]) -> None:
        """Takes the ports of containers that run on: one transaction for all of them."""
        elements: list[Elements] = []
        for container_id, network, endpoint, ports in kept:
            self._reservations.restore(container_id, ports)
            self._elements[container_id] = _led(network, endpoint, ports)
            elements += self._elements[container_id]
        try:
            self._filtering.add(elements)
        except OSError as error:
            log.error("cannot publish the ports of running containers again: %s", error)

    def close(self) -> None:
        """Lets go of reserved ports; translation goes on."""
        self._reservations.close()


def _led(network: Network, endpoint: Endpoint, ports: tuple[PublishedPort, ...]) -> list[Elements]:
    options = driver_options.parse(network.options)
    routed4, routed6 = options.mode4 == "routed", options.mode6 == "routed"
    return [of_port(port, endpoint, routed4=routed4, routed6=routed6) for port in ports]
