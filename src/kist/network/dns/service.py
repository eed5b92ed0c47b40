"""The name servers of all containers of this daemon. Nothing runs and nothing is held for a container without one."""

from __future__ import annotations

import socket

from kist.network.dns.names import View
from kist.network.dns.resolver import Resolver
from kist.network.dns.server import Pace, Server
from kist.network.dns.upstream import Forwarder
from kist.network.dns.upstream import Server as Upstream


class Nameservers:
    """On the event loop that serves."""

    def __init__(self) -> None:
        self._servers: dict[str, Server] = {}
        self._pace = Pace()

    def serve(
        self,
        container: str,
        descriptors: tuple[int, int],
        view: View,
        upstream: tuple[Upstream, ...],
        *,
        ndots_set: bool = False,
    ) -> None:
        """Answers from now on what comes by `descriptors`, the sockets for UDP and TCP that the container's monitor
        holds; these copies are owned here now. In place of an earlier server of that container.
        """
        udp, tcp = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        self.stop(container)
        forwarder = Forwarder(upstream, udp)
        self._servers[container] = Server(udp, tcp, Resolver(view, ndots_set), forwarder, self._pace)

    def stop(self, container: str) -> None:
        """When the container ends: what is held here would keep its network namespace. Without a server it is none."""
        server = self._servers.pop(container, None)
        if server is not None:
            server.close()

    def serves(self, container: str) -> bool:
        return container in self._servers

    def close(self) -> None:
        """The daemon goes; the sockets stay with the monitors."""
        for container in list(self._servers):
            self.stop(container)
