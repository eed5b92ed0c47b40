"""What containers are called: the contract between whoever knows the networks and the name server.

The network service keeps one NetworkNames per network that has a name server, and for each container in such
networks something that answers View. The server asks for every query and keeps nothing, so a change holds at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

_Key = TypeVar("_Key")


class Found(NamedTuple):
    """The addresses of a name, as the wire has them: 4 and 16 bytes. A known name may have none of one kind."""

    v4: list[bytes]
    v6: list[bytes]


def endpoint_names(container: str, aliases: Iterable[str], container_id: str, hostname: str) -> tuple[str, ...]:
    """What a container is called in a network (DNSNames of its endpoint), the first in answer to PTR: its name, its
    aliases there, its short id, its host name; each once, without what is empty.
    """
    return tuple(dict.fromkeys(one for one in (container, *aliases, container_id[:12], hostname) if one))


class NetworkNames:
    """One network: its endpoints' names and addresses. `name` is the network's own, under which they are known too."""

    def __init__(self, name: str) -> None:
        self.name = name.lower()
        self._shown = name
        self._endpoints: dict[str, tuple[tuple[str, ...], tuple[bytes, ...]]] = {}
        self._by_name: dict[str, dict[str, None]] = {}  # name -> ids of endpoints, in the order of their coming
        self._by_address: dict[bytes, dict[str, None]] = {}

    def add(self, endpoint: str, names: Sequence[str], addresses: Iterable[str]) -> None:
        """An endpoint that is there from now on, in place of what this one was before (a rename).

        `names` are those of `endpoint_names`. `addresses` are without prefix length, "" is none.
        """
        self.remove(endpoint)
        packed = tuple(ipaddress.ip_address(one).packed for one in addresses if one)
        self._endpoints[endpoint] = tuple(names), packed
        for name in names:
            self._by_name.setdefault(name.lower(), {})[endpoint] = None
        for address in packed:
            self._by_address.setdefault(address, {})[endpoint] = None

    def remove(self, endpoint: str) -> None:
        """One that is not known is no error."""
        names, addresses = self._endpoints.pop(endpoint, ((), ()))
        for name in names:
            _forget(self._by_name, name.lower(), endpoint)
        for address in addresses:
            _forget(self._by_address, address, endpoint)

    def find(self, name: str) -> Found | None:
        """The addresses of all endpoints of a name (lower case), each once; None when nothing is called so."""
        endpoints = self._by_name.get(name)
        if endpoints is None:
            return None
        addresses = dict.fromkeys(one for endpoint in endpoints for one in self._endpoints[endpoint][1])
        return Found([one for one in addresses if len(one) == 4], [one for one in addresses if len(one) == 16])

    def name_of(self, address: bytes) -> str:
        """`CONTAINER.NETWORK` for an address, "" for one that nobody here has."""
        for endpoint in self._by_address.get(address, ()):
            names = self._endpoints[endpoint][0]
            if names:
                return f"{names[0]}.{self._shown}"
        return ""


def _forget(table: dict[_Key, dict[str, None]], key: _Key, endpoint: str) -> None:
    held = table.get(key)
    if held is not None:
        held.pop(endpoint, None)
        if not held:
            del table[key]


class Attachment(NamedTuple):
    """A container in a network. `links` are the names that it alone has for others there: alias -> container name."""

    network: NetworkNames
    links: Mapping[str, str] = {}


class View(Protocol):
    """What one container sees. Asked for every query, on the event loop: it answers from memory and never raises."""

    def attachments(self) -> Sequence[Attachment]:
        """Its networks, the one that names are looked up in first at the head (in Docker: that of the gateway)."""
        ...

    def has_external_access(self) -> bool:
        """Whether one of its networks leads out. If none does (internal), nobody is asked from the host's namespace."""
        ...
