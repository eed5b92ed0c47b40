"""`--link` on the default bridge: what one container is told of another, in /etc/hosts and in its environment.

A link is kept by the id of who is linked to (`ContainerRecord.links`); the names that it makes, `PARENT/ALIAS`, are
the index's.
"""

from __future__ import annotations

from collections.abc import Iterable

from kist.container.index import Index
from kist.container.machine import Machine
from kist.model.config import ContainerConfig
from kist.model.container import ContainerRecord, LinkedContainer
from kist.model.errors import InvalidParameter, KistError, NotFound
from kist.model.number import is_number

_NOT_TOLD = frozenset({"HOME", "PATH"})  # of the linked container's own environment


def parse_link(text: str) -> tuple[str, str]:
    """`NAME[:ALIAS]`, or `/NAME:/PARENT/ALIAS` as inspect shows it. Raises InvalidParameter with Docker's texts."""
    if not text:
        raise InvalidParameter("empty string specified for links")
    name, colon, alias = text.partition(":")
    if ":" in alias:
        raise InvalidParameter(f"bad format for links: {text}")
    if not colon:
        return name, name
    return (name[1:], alias.rpartition("/")[2]) if name.startswith("/") else (name, alias)


def resolve(index: Index, asked: Iterable[str], network_mode: str) -> tuple[LinkedContainer, ...]:
    """The containers that are linked to, each alias once. Raises InvalidParameter with Docker's texts."""
    if network_mode not in ("bridge", "none"):
        return ()
    found: dict[str, LinkedContainer] = {}
    for text in asked:
        name, alias = parse_link(text)
        child = _find(index, name)
        if child.record.host_config.network_mode == "host":
            raise InvalidParameter(
                "conflicting options: host type networking can't be used with links. "
                "This would result in undefined behavior"
            )
        if alias:
            found.setdefault(alias, LinkedContainer(child.id, child.name, alias))
    return tuple(found.values())


def bare(alias: str) -> str:
    """What stands in /etc/hosts for an alias, which may have slashes."""
    return alias.rpartition("/")[2]


def _find(index: Index, name: str) -> Machine:
    """Who has the network: the container itself, or the one whose network it shares."""
    try:
        child = index.find(name)
        while child.record.host_config.network_mode.startswith("container:"):
            child = index.find(child.record.host_config.network_mode.partition(":")[2])
    except (NotFound, InvalidParameter) as error:
        reason = error.message if name else 'invalid name or ID supplied: ""'
        raise InvalidParameter(f"could not get container for {name}: {reason}") from error
    return child


class Linked:
    """One link of a container that starts: who is at the other end, at which address."""

    def __init__(self, parent: ContainerRecord, alias: str, child: ContainerRecord) -> None:
        self.alias, self.child = alias, child
        self.name = f"/{parent.name}/{alias}"
        self.address = address_of(child)

    @property
    def hosts_names(self) -> str:
        """The names in /etc/hosts: alias, host name, and the container's own where that is another."""
        alias, name = bare(self.alias), self.child.name
        return " ".join([alias, self.child.config.hostname, *([name] if name != alias else [])])

    def environment(self) -> list[str]:
        return environment(self.name, self.address, self.child.config)


def address_of(record: ContainerRecord) -> str:
    """On the default bridge, where links lead; "" when it is not there."""
    return next((endpoint.address for endpoint in record.endpoints if endpoint.network == "bridge"), "")


def linked(index: Index, record: ContainerRecord) -> list[Linked]:
    """Raises KistError with Docker's texts where one does not run, or has no address on the default bridge."""
    found = []
    for link in record.links if record.host_config.network_mode == "bridge" else ():
        child = _running(index, record, link)
        if not address_of(child):
            raise KistError(f"Cannot link to /{child.name}, as it does not belong to the default network")
        found.append(Linked(record, link.alias, child))
    return found


def _running(index: Index, record: ContainerRecord, link: LinkedContainer) -> ContainerRecord:
    try:
        child = index.find(link.id).record
    except NotFound:
        child = None
    if child is None or not child.state.alive:
        name = child.name if child is not None else link.name
        raise KistError(f"Cannot link to a non running container: /{name} AS /{record.name}/{link.alias}")
    return child


def present(index: Index, record: ContainerRecord) -> list[Linked]:
    """The links whose other end runs now: for an exec, which runs without it too."""
    found = []
    for link in record.links if record.host_config.network_mode == "bridge" else ():
        try:
            child = _running(index, record, link)
        except KistError:
            continue
        if address_of(child):
            found.append(Linked(record, link.alias, child))
    return found


def environment(name: str, address: str, child: ContainerConfig) -> list[str]:
    """The variables `ALIAS_PORT_…`, `ALIAS_NAME`, `ALIAS_ENV_…`. `name` is `/PARENT/ALIAS`."""
    alias = name.rpartition("/")[2].upper().replace("-", "_")
    found: list[str] = []
    ports = _ports(child)
    if ports:
        found.append(f"{alias}_PORT={_url(address, ports[0])}")
    for first, last in _ranges(ports):
        if first != last:
            prefix = f"{alias}_PORT_{first[1]}_{first[0].upper()}"
            found += [f"{prefix}_START={_url(address, first)}", f"{prefix}_PORT_START={first[1]}"]
            found += [f"{prefix}_END={_url(address, last)}", f"{prefix}_PORT_END={last[1]}"]
    for protocol, number in ports:
        prefix = f"{alias}_PORT_{number}_{protocol.upper()}"
        found += [f"{prefix}={_url(address, (protocol, number))}", f"{prefix}_ADDR={address}"]
        found += [f"{prefix}_PORT={number}", f"{prefix}_PROTO={protocol}"]
    found.append(f"{alias}_NAME={name}")
    for variable in child.env or ():
        key, equals, value = variable.partition("=")
        if equals and key not in _NOT_TOLD:
            found.append(f"{alias}_ENV_{key}={value}")
    return found


def _ports(config: ContainerConfig) -> list[tuple[str, int]]:
    """(protocol, number) of what is exposed: TCP first, then the protocols by name, by number."""
    ports = []
    for key in config.exposed_ports or ():
        number, _, protocol = key.partition("/")
        if is_number(number):
            ports.append((protocol or "tcp", int(number)))
    return sorted(ports, key=lambda port: (port[0] != "tcp", *port))


def _ranges(ports: list[tuple[str, int]]) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """First and last of each run of neighbouring numbers of one protocol."""
    found: list[tuple[tuple[str, int], tuple[str, int]]] = []
    for port in ports:
        if found and found[-1][1] == (port[0], port[1] - 1):
            found[-1] = (found[-1][0], port)
        else:
            found.append((port, port))
    return found


def _url(address: str, port: tuple[str, int]) -> str:
    return f"{port[0]}://{address}:{port[1]}"


def shown(index: Index, record: ContainerRecord) -> list[str] | None:
    """HostConfig.Links of inspect: `/CHILD:/PARENT/ALIAS`; None without links."""
    found = []
    for link in record.links:
        try:
            name = index.find(link.id).name
        except NotFound:
            name = link.name
        found.append(f"/{name}:/{record.name}/{link.alias}")
    return found or None
