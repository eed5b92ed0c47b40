"""Endpoints of the contract that this engine does not have yet: refused by name, never by `page not found`."""

from __future__ import annotations

from kist.http.router import Router
from kist.http.server import Handler, Request, Response
from kist.model.errors import NotSupported, Unavailable

_NOT_YET = {
    "building images": ("POST /build", "POST /session", "POST /grpc"),
    "pushing to registries": ("POST /images/{name:.*}/push",),
    "searching registries": ("GET /images/search",),
    "logging in to registries": ("POST /auth",),
    "asking registries": ("GET /distribution/{name:.*}/json",),
    "plugins": (
        "GET /plugins",
        "GET /plugins/privileges",
        "GET /plugins/{name:.*}/json",
        "POST /plugins/{name:.*}",
        "DELETE /plugins/{name:.*}",
    ),
    "swarm mode": ("POST /swarm/init", "POST /swarm/join"),
    "cluster volumes": ("PUT /volumes/{name}",),
}
# What Docker itself says to these without a swarm.
_NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
_SWARM = ("nodes", "services", "tasks", "secrets", "configs")


def add_absent(router: Router) -> None:
    """To be added last: routes are tried in order."""
    for what, routes in _NOT_YET.items():
        for route in routes:
            method, _, pattern = route.partition(" ")
            router.add(method, pattern, _refuse(NotSupported(f"{what} is not supported by this engine yet")))
    without_swarm = _refuse(Unavailable(_NO_MANAGER))
    for kind in _SWARM:
        router.add("GET", f"/{kind}", without_swarm)
        for method in ("GET", "POST", "DELETE"):
            router.add(method, f"/{kind}/{{rest:.*}}", without_swarm)
    router.add("POST", "/swarm/leave", _refuse(Unavailable("This node is not part of a swarm")))
    router.add("GET", "/swarm", without_swarm)
    for method in ("GET", "POST"):
        router.add(method, "/swarm/{rest:.*}", without_swarm)


def _refuse(error: NotSupported | Unavailable) -> Handler:
    async def handler(request: Request) -> Response:
        raise error

    return handler
