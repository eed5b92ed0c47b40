"""Routes of networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import UNSET

from kist.api import compat
from kist.api.app import body, json_response
from kist.api.filters import Filters, boolean, match_labels, parse_filters
from kist.api.times import parse_prune_limit
from kist.http.router import Router
from kist.http.server import Request, Response
from kist.model.config import EndpointSettings, wire_name
from kist.model.container import ContainerRecord
from kist.model.errors import InvalidParameter
from kist.model.network import Network, Pool
from kist.model.request import NetworkRequest, PoolRequest
from kist.model.timestamp import nanoseconds
from kist.wire import networks as wire

_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_PREDEFINED = frozenset({"bridge", "host", "none"})


class _PoolBody(msgspec.Struct, frozen=True, rename=wire_name):
    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary_addresses: dict[str, str] | None = None


class _IpamBody(msgspec.Struct, frozen=True, rename=wire_name):
    driver: str = ""
    options: dict[str, str] | None = None
    config: list[_PoolBody] | None = None


class _ReferenceBody(msgspec.Struct, frozen=True, rename=wire_name):
    network: str = ""


class _CreateBody(msgspec.Struct, frozen=True, rename=wire_name):
    name: str = ""
    driver: str = ""
    scope: str = ""
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    ipam: _IpamBody | None = None
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: _ReferenceBody | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class _ConnectBody(msgspec.Struct, frozen=True, rename=wire_name):
    container: str = ""
    endpoint_config: EndpointSettings | None = None


class _DisconnectBody(msgspec.Struct, frozen=True, rename=wire_name):
    container: str = ""
    force: bool = False


class Networks(Protocol):
    def all(self) -> list[Network]: ...
    def get(self, name: str) -> Network: ...
    def create(self, request: NetworkRequest) -> Network: ...
    def remove(self, name: str) -> None: ...
    def prune(self, wanted: Callable[[Network], bool]) -> list[str]: ...


class Connections(Protocol):
    async def connect(self, container: str, network: str, settings: EndpointSettings) -> None: ...
    async def disconnect(self, container: str, network: str, *, force: bool) -> None: ...


class NetworkRoutes:
    """`containers` lists all containers: who is attached is told in inspect. `pruned` is told of pruning."""

    def __init__(
        self,
        networks: Networks,
        connections: Connections,
        containers: Callable[[], list[ContainerRecord]],
        pruned: Callable[[str, int], None],
    ) -> None:
        self._networks, self._connections = networks, connections
        self._containers, self._pruned = containers, pruned

    def add_to(self, router: Router) -> None:
        router.add("GET", "/networks", self.all)
        router.add("GET", "/networks/{name:.*}", self.inspect)
        router.add("DELETE", "/networks/{name:.*}", self.remove)
        router.add("POST", "/networks/create", self.create)
        router.add("POST", "/networks/prune", self.prune)
        router.add("POST", "/networks/{name:.*}/connect", self.connect)
        router.add("POST", "/networks/{name:.*}/disconnect", self.disconnect)

    async def all(self, request: Request) -> Response:
        filters = parse_filters(request, _FILTERS)
        attached = self._attached() if compat.lists_attached(request) else []
        dangling = _check(filters)
        used = {endpoint.network_id for record in self._attached() for endpoint in record.endpoints}
        found = []
        for network in self._networks.all():
            builtin = network.name in _PREDEFINED
            checks = (
                not filters.get("name") or any(one in network.name for one in filters["name"]),
                not filters.get("id") or any(network.id.startswith(one) for one in filters["id"]),
                not filters.get("driver") or network.driver in filters["driver"],
                not filters.get("scope") or "local" in filters["scope"],
                not filters.get("type") or ("builtin" if builtin else "custom") in filters["type"],
                dangling is None or dangling == (not builtin and network.id not in used),
                match_labels(filters, network.labels),
            )
            if all(checks):
                found.append(self._render(network, attached))
        return json_response(found)

    async def create(self, request: Request) -> Response:
        asked = await body(request, _CreateBody, "network.CreateRequest")
        ipam = asked.ipam or _IpamBody()
        made = self._networks.create(
            NetworkRequest(
                name=asked.name,
                driver=asked.driver or "bridge",
                scope=asked.scope,
                ipv4=asked.enable_ipv4 if compat.at_least(request, "1.48") else None,
                ipv6=asked.enable_ipv6,
                pools=tuple(
                    PoolRequest(one.subnet, one.ip_range, one.gateway, one.auxiliary_addresses)
                    for one in ipam.config or ()
                ),
                ipam_driver=ipam.driver or "default",
                ipam_options=ipam.options,
                internal=asked.internal,
                attachable=asked.attachable,
                ingress=asked.ingress,
                config_only=asked.config_only,
                config_from=asked.config_from.network if asked.config_from else "",
                options=asked.options or {},
                labels=asked.labels or {},
            )
        )
        return json_response(wire.NetworkCreated(id=made.id, warning=""), 201)

    async def inspect(self, request: Request) -> Response:
        network = self._networks.get(request.parameters["name"])
        return json_response(self._render(network, self._attached()))

    def _attached(self) -> list[ContainerRecord]:
        return [record for record in self._containers() if record.state.alive]

    async def remove(self, request: Request) -> Response:
        self._networks.remove(request.parameters["name"])
        return Response(204)

    async def prune(self, request: Request) -> Response:
        filters = parse_filters(request, frozenset({"label", "label!", "until"}))
        until = parse_prune_limit(filters.get("until", []))

        def wanted(network: Network) -> bool:
            return (
                match_labels(filters, network.labels)
                and not ("label!" in filters and match_labels(filters, network.labels, "label!"))
                and (until is None or nanoseconds(network.created) < until)
            )

        removed = self._networks.prune(wanted)
        self._pruned("network", 0)
        return json_response(wire.NetworksPruned(networks_deleted=removed or None))

    async def connect(self, request: Request) -> Response:
        asked = await body(request, _ConnectBody, "network.ConnectOptions")
        settings = asked.endpoint_config or EndpointSettings()
        await self._connections.connect(asked.container, request.parameters["name"], settings)
        return Response(200)

    async def disconnect(self, request: Request) -> Response:
        asked = await body(request, _DisconnectBody, "network.DisconnectOptions")
        await self._connections.disconnect(asked.container, request.parameters["name"], force=asked.force)
        return Response(200)

    @staticmethod
    def _render(network: Network, records: list[ContainerRecord]) -> wire.Network:
        attached = {
            record.id: wire.NetworkContainer(
                name=record.name,
                endpoint_id=endpoint.id,
                mac_address=endpoint.mac,
                ipv4_address=f"{endpoint.address}/{endpoint.prefix}" if endpoint.address else "",
                ipv6_address=f"{endpoint.address6}/{endpoint.prefix6}" if endpoint.address6 else "",
            )
            for record in records
            for endpoint in record.endpoints
            if endpoint.network_id == network.id
        }
        return wire.Network(
            name=network.name,
            id=network.id,
            created=network.created,
            scope="local",
            driver=network.driver,
            enable_ipv4=network.ipv4,
            enable_ipv6=network.ipv6,
            ipam=wire.IPAM(
                driver=network.ipam_driver,
                options=network.ipam_options,
                config=[_pool(pool) for pool in network.pools],
            ),
            internal=network.internal,
            attachable=network.attachable,
            ingress=False,
            config_from=wire.ConfigReference(network=network.config_from),
            config_only=network.config_only,
            containers=attached,
            options=network.options,
            labels=network.labels,
        )


def _pool(pool: Pool) -> wire.IPAMConfig:
    return wire.IPAMConfig(
        subnet=pool.subnet,
        ip_range=pool.range or UNSET,
        gateway=pool.gateway or UNSET,
        auxiliary_addresses=pool.auxiliary or UNSET,
    )


def _check(filters: Filters) -> bool | None:
    """The value of `dangling`. Raises InvalidParameter with Docker's texts for values no network can have."""
    for kind in filters.get("type", ()):
        if kind not in ("builtin", "custom"):
            raise InvalidParameter(f"invalid filter: 'type'='{kind}'")
    try:
        return boolean(filters, "dangling")
    except InvalidParameter as error:
        text = 'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'
        raise InvalidParameter(text) from error
