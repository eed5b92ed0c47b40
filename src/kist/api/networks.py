"""Routes of networks: what there is can be seen; making more comes with a later version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import UNSET

from kist.api import compat
from kist.api.app import json_response
from kist.api.filters import Filters, boolean, match_labels, parse_filters
from kist.api.times import parse_prune_limit
from kist.http.router import Router
from kist.http.server import Request, Response
from kist.model.container import ContainerRecord
from kist.model.errors import Forbidden, InvalidParameter, NotSupported
from kist.model.network import Network
from kist.wire import networks as wire

_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})


class Networks(Protocol):
    def all(self) -> list[Network]: ...
    def get(self, name: str) -> Network: ...


class NetworkRoutes:
    """`containers` lists all containers: who is attached is told in inspect. `pruned` is told of pruning."""

    def __init__(
        self,
        networks: Networks,
        containers: Callable[[], list[ContainerRecord]],
        pruned: Callable[[str, int], None],
    ) -> None:
        self._networks, self._containers, self._pruned = networks, containers, pruned

    def add_to(self, router: Router) -> None:
        router.add("GET", "/networks", self.all)
        router.add("GET", "/networks/{name}", self.inspect)
        router.add("DELETE", "/networks/{name}", self.remove)
        router.add("POST", "/networks/create", self.unsupported)
        router.add("POST", "/networks/prune", self.prune)
        router.add("POST", "/networks/{name}/connect", self.unsupported)
        router.add("POST", "/networks/{name}/disconnect", self.unsupported)

    async def all(self, request: Request) -> Response:
        filters = parse_filters(request, _FILTERS)
        attached = self._attached() if compat.lists_attached(request) else []
        dangling = _check(filters)
        found = []
        for network in self._networks.all():
            checks = (
                not filters.get("name") or any(one in network.name for one in filters["name"]),
                not filters.get("id") or any(network.id.startswith(one) for one in filters["id"]),
                not filters.get("driver") or network.driver in filters["driver"],
                not filters.get("scope") or "local" in filters["scope"],
                not filters.get("type") or "builtin" in filters["type"],
                dangling is not True,
                match_labels(filters, network.labels),
            )
            if all(checks):
                found.append(self._render(network, attached))
        return json_response(found)

    async def inspect(self, request: Request) -> Response:
        network = self._networks.get(request.parameters["name"])
        return json_response(self._render(network, self._attached()))

    def _attached(self) -> list[ContainerRecord]:
        return [record for record in self._containers() if record.state.alive]

    async def remove(self, request: Request) -> Response:
        network = self._networks.get(request.parameters["name"])
        raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")

    async def prune(self, request: Request) -> Response:
        filters = parse_filters(request, frozenset({"label", "label!", "until"}))
        parse_prune_limit(filters.get("until", []))
        self._pruned("network", 0)
        return json_response(wire.NetworksPruned(networks_deleted=None))

    async def unsupported(self, request: Request) -> Response:
        raise NotSupported("user-defined networks are not supported by this engine yet")

    @staticmethod
    def _render(network: Network, records: list[ContainerRecord]) -> wire.Network:
        pools = [wire.IPAMConfig(subnet=network.subnet, gateway=network.gateway or UNSET)] if network.subnet else []
        attached = {
            record.id: wire.NetworkContainer(
                name=record.name,
                endpoint_id=endpoint.id,
                mac_address=endpoint.mac,
                ipv4_address=f"{endpoint.address}/{endpoint.prefix}",
                ipv6_address="",
            )
            for record in records
            for endpoint in record.endpoints
            if endpoint.network == network.name
        }
        return wire.Network(
            name=network.name,
            id=network.id,
            created=network.created,
            scope="local",
            driver=network.driver,
            enable_ipv4=True,
            enable_ipv6=False,
            ipam=wire.IPAM(driver="default", options=None, config=pools),
            internal=network.internal,
            attachable=False,
            ingress=False,
            config_from=wire.ConfigReference(network=""),
            config_only=False,
            containers=attached,
            options=_options(network),
            labels=network.labels,
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


def _options(network: Network) -> dict[str, str]:
    if network.driver != "bridge":
        return {}
    return {
        "com.docker.network.bridge.default_bridge": "true",
        "com.docker.network.bridge.enable_icc": "true",
        "com.docker.network.bridge.enable_ip_masquerade": "true",
        "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
        "com.docker.network.bridge.name": network.bridge,
        "com.docker.network.driver.mtu": str(network.mtu),
    }
