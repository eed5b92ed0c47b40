"""Routes of networks: what there is can be seen; making more comes with a later version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from kist.api.app import json_response
from kist.api.filters import Filters, boolean, match_labels, parse_filters
from kist.http.router import Router
from kist.http.server import Request, Response
from kist.model.container import ContainerRecord
from kist.model.errors import Forbidden, InvalidParameter, NotSupported
from kist.model.network import Network

_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})


class Networks(Protocol):
    def all(self) -> list[Network]: ...
    def get(self, name: str) -> Network: ...


class NetworkRoutes:
    """`containers` lists all containers: who is attached is told in inspect."""

    def __init__(self, networks: Networks, containers: Callable[[], list[ContainerRecord]]) -> None:
        self._networks, self._containers = networks, containers

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
                found.append(self._render(network, []))
        return json_response(found)

    async def inspect(self, request: Request) -> Response:
        network = self._networks.get(request.parameters["name"])
        attached = [record for record in self._containers() if record.state.alive]
        return json_response(self._render(network, attached))

    async def remove(self, request: Request) -> Response:
        network = self._networks.get(request.parameters["name"])
        raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")

    async def prune(self, request: Request) -> Response:
        parse_filters(request, frozenset({"label", "label!", "until"}))
        return json_response({"NetworksDeleted": None})

    async def unsupported(self, request: Request) -> Response:
        raise NotSupported("user-defined networks are not supported by this engine yet")

    @staticmethod
    def _render(network: Network, records: list[ContainerRecord]) -> dict[str, Any]:
        pools = [{"Subnet": network.subnet, "Gateway": network.gateway}] if network.subnet else []
        attached = {
            record.id: {
                "Name": record.name,
                "EndpointID": endpoint.id,
                "MacAddress": endpoint.mac,
                "IPv4Address": f"{endpoint.address}/{endpoint.prefix}",
                "IPv6Address": "",
            }
            for record in records
            for endpoint in record.endpoints
            if endpoint.network == network.name
        }
        return {
            "Name": network.name,
            "Id": network.id,
            "Created": network.created,
            "Scope": "local",
            "Driver": network.driver,
            "EnableIPv4": True,
            "EnableIPv6": False,
            "IPAM": {"Driver": "default", "Options": None, "Config": pools},
            "Internal": network.internal,
            "Attachable": False,
            "Ingress": False,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": False,
            "Containers": attached,
            "Options": _options(network),
            "Labels": network.labels,
        }


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
