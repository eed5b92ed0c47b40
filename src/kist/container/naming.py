"""By what names containers of user-defined networks find each other: kept by network, answered to each container.

A container's monitor holds the sockets of its name server, and hands copies to whoever is kistd: at its start, and when
a kistd finds it again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from kist.container.links import parse_link
from kist.container.machine import Machine
from kist.model.config import EndpointSettings
from kist.model.container import ContainerRecord
from kist.model.errors import KistError
from kist.model.network import Endpoint
from kist.network import resolvconf
from kist.network.dns.names import Attachment, NetworkNames
from kist.network.dns.service import Nameservers
from kist.runtime.supervisor import NAMESERVERS

log = logging.getLogger(__name__)


class Defaults(Protocol):
    """The daemon's options for what a container does not ask for itself."""

    @property
    def dns(self) -> tuple[str, ...]: ...
    @property
    def dns_search(self) -> tuple[str, ...]: ...
    @property
    def dns_options(self) -> tuple[str, ...]: ...


def has_names(endpoints: Iterable[Endpoint]) -> bool:
    """Whether a container with these is in a network with names, and so has a name server of its own."""
    return any(endpoint.names for endpoint in endpoints)


def own_file(record: ContainerRecord, defaults: Defaults) -> resolvconf.Internal:
    """resolv.conf of a container with a name server, and whom that asks. Raises InvalidParameter, KistError."""
    asked = record.host_config
    source = resolvconf.host_file(host_file(resolvconf.HOST_FILE))
    return resolvconf.internal(
        host_file(source),
        asked.dns or defaults.dns,
        asked.dns_search or defaults.dns_search,
        asked.dns_options or defaults.dns_options,
        source,
    )


def host_file(path: str) -> str:
    """A file of the host as it is; "" where the host has none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


class Naming:
    def __init__(self, defaults: Defaults) -> None:
        self._defaults = defaults
        self._networks: dict[str, NetworkNames] = {}  # by id
        self._servers = Nameservers()

    def network(self, endpoint: Endpoint) -> NetworkNames:
        return self._networks.setdefault(endpoint.network_id, NetworkNames(endpoint.network))

    def add(self, endpoints: Iterable[Endpoint]) -> None:
        """They are found from now on; by other names where they were found before."""
        for endpoint in endpoints:
            if endpoint.names:
                self.network(endpoint).add(endpoint.id, endpoint.names, [endpoint.address, endpoint.address6])

    def remove(self, endpoints: Iterable[Endpoint]) -> None:
        for endpoint in endpoints:
            if endpoint.network_id in self._networks:
                self._networks[endpoint.network_id].remove(endpoint.id)

    def ask(self, machine: Machine, *, fresh: bool = False) -> None:
        """For the sockets of its name server. `fresh`: it runs without one, which its monitor is to open."""
        if not has_names(machine.record.endpoints) or machine.handle is None or machine.handle.closed:
            return
        if machine.monitor_version < NAMESERVERS:
            log.warning("container %s finds no names: its monitor is of an earlier version", machine.id)
            return
        try:
            machine.handle.send({"command": "nameserver", **({"open": True} if fresh else {})})
        except KistError as error:
            log.warning("container %s finds no names: %s", machine.id, error.message)

    def heard(self, machine: Machine, event: Mapping[str, Any], descriptors: list[int]) -> None:
        """What its monitor answers to `ask`; the descriptors are taken over."""
        if event.get("failure"):
            log.error("container %s finds no names: %s", machine.id, event["failure"])
        if len(descriptors) != 2:
            return
        sockets = (descriptors.pop(0), descriptors.pop(0))
        try:
            own = own_file(machine.record, self._defaults)
        except KistError as error:  # --dns was checked at the start
            log.error("container %s finds no names: %s", machine.id, error.message)
            for descriptor in sockets:
                os.close(descriptor)
            return
        self._servers.serve(machine.id, sockets, _View(self, machine), own.servers, ndots_set=own.ndots_set)

    def stop(self, machine: Machine) -> None:
        """It has ended: what is held here would keep its network namespace."""
        self._servers.stop(machine.id)

    def serves(self, machine: Machine) -> bool:
        return self._servers.serves(machine.id)

    def close(self) -> None:
        self._servers.close()


class _View:
    """What one container sees: its networks as they are when it asks."""

    def __init__(self, naming: Naming, machine: Machine) -> None:
        self._naming, self._machine = naming, machine

    def attachments(self) -> list[Attachment]:
        record = self._machine.record
        ordered = sorted(record.endpoints, key=lambda one: _order(record, one))
        return [Attachment(self._naming.network(one), _links(record, one)) for one in ordered if one.names]

    def has_external_access(self) -> bool:
        return any(one.gateway or one.gateway6 for one in self._machine.record.endpoints)


def _order(record: ContainerRecord, endpoint: Endpoint) -> tuple[bool, int, str]:
    """The way out first."""
    settings = record.networks.get(endpoint.network, EndpointSettings())
    return not (endpoint.gateway or endpoint.gateway6), -settings.gw_priority, endpoint.network


def _links(record: ContainerRecord, endpoint: Endpoint) -> dict[str, str]:
    """`NAME:ALIAS` of --link, in a network with names."""
    found = {}
    for text in record.networks.get(endpoint.network, EndpointSettings()).links or ():
        name, alias = parse_link(text)
        found[alias] = name
    return found
