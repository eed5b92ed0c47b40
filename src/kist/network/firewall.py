"""The instance's own nftables table: static rules, and sets of interfaces, subnets and ports that change.

A network, a container or a published port is so many elements, never a rule, and all elements of one change come in one
transaction. An `accept` here cannot save a packet that another table's chain drops: see `openings`.

What may pass (the chain `forward`), from the first to the last:

- answers, and what belongs to a connection that was let through;
- inside one bridge (seen here only where bridges call iptables): everything, or where containers are closed to each
  other (`icc` off) links, or where they are strict what is exposed;
- to a bridge from somewhere else: by the network's gateway mode. `nat`: what was translated by a published port;
  `routed`: what is published, untranslated; `nat-unprotected`: everything, but not from other networks;
- from a bridge: everything, from an internal one nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable

from kist.kernel import nftables as nft
from kist.model.network import Endpoint, Network, PublishedPort
from kist.network import options as driver_options

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_ICMP = {4: 1, 6: 58}
_RAW, _DSTNAT, _FILTER, _SRCNAT = -300, -100, 0, 100
_FIRST = nft.REG32_00
_NAME = (nft.TYPE_IFNAME, 16)
_PORT = ((nft.TYPE_PROTOCOL, 1), (nft.TYPE_SERVICE, 2))
_ADDRESS = {4: (nft.TYPE_IPADDR, 4), 6: (nft.TYPE_IP6ADDR, 16)}
_OFFSETS = {4: (12, 16, 4), 6: (8, 24, 16)}  # of source and destination in the network header, and their length

# Interfaces.
_BRIDGES = nft.SetType("bridges", 1, (_NAME,))
_INTERNAL = nft.SetType("internal", 2, (_NAME,))
_CLOSED, _STRICT, _OPEN = (
    nft.SetType(name, number, (_NAME, _NAME)) for name, number in (("closed", 3), ("strict", 4), ("open", 5))
)
_TRUSTED = nft.SetType("trusted", 6, (_NAME, _NAME))
_INTO = {version: nft.SetType(f"into{version}", 6 + version, (_NAME,), verdicts=True) for version in (4, 6)}


class _Sets:
    """Sets and maps of one family of addresses."""

    def __init__(self, version: int) -> None:
        address, base = _ADDRESS[version], version * 10
        target = (address, _PORT[1])
        self.published = nft.SetType(f"published{version}", base, _PORT, target)
        self.published_at = nft.SetType(f"published_at{version}", base + 1, (address, *_PORT), target)
        self.reachable = nft.SetType(f"reachable{version}", base + 2, (address, *_PORT))  # routed: published, as it is
        self.exposed = nft.SetType(f"exposed{version}", base + 3, (address, *_PORT))
        self.linked = nft.SetType(f"linked{version}", base + 4, (address, address, *_PORT))
        self.home = nft.SetType(f"home{version}", base + 5, (address, _NAME), ranges=True)
        self.masqueraded = nft.SetType(f"masqueraded{version}", base + 6, (address,), ranges=True)

    def all(self) -> list[nft.SetType]:
        return [self.published, self.published_at, self.reachable, self.exposed, self.linked, self.home,
                self.masqueraded]  # fmt: skip


SETS = {version: _Sets(version) for version in (4, 6)}
RANGES = frozenset(SETS[version].masqueraded.name for version in (4, 6))  # whose elements the kernel keeps as two ends
Elements = dict[str, list[nft.Element]]


def ruleset(table: str) -> list[nft.Request]:
    """The whole table, in place of an older one, without elements."""
    requests = [
        nft.new_table(table, nft.NFPROTO_INET),
        nft.delete_table(table, nft.NFPROTO_INET),
        nft.new_table(table, nft.NFPROTO_INET),
    ]
    sets = [_BRIDGES, _INTERNAL, _CLOSED, _STRICT, _OPEN, _TRUSTED, *_INTO.values()]
    requests += [nft.new_set(table, one) for one in (*sets, *SETS[4].all(), *SETS[6].all())]
    for name, kind, hook, priority in (
        ("martians", "filter", "prerouting", _RAW),
        ("prerouting", "nat", "prerouting", _DSTNAT),
        ("output", "nat", "output", _DSTNAT),
        ("postrouting", "nat", "postrouting", _SRCNAT),
        ("forward", "filter", "forward", _FILTER),
    ):
        requests.append(nft.new_base_chain(table, name, kind, hook, priority, nft.NFPROTO_INET))
    chains = {"martians": _martians(), "prerouting": _translations(arriving=True), "output": _translations(),
              "postrouting": _sources(), **_inner_chains()}  # fmt: skip
    for name in _inner_chains():
        requests.append(nft.new_chain(table, name, nft.NFPROTO_INET))
    for name, rules in {**chains, "forward": _forward()}.items():
        requests += [nft.new_rule(table, name, rule, family=nft.NFPROTO_INET) for rule in rules]
    return requests


def delete(table: str) -> list[nft.Request]:
    return [nft.new_table(table, nft.NFPROTO_INET), nft.delete_table(table, nft.NFPROTO_INET)]


# --- rules ---

_ACCEPT, _DROP = nft.verdict(nft.NF_ACCEPT), nft.verdict(nft.NF_DROP)
_FROM = nft.meta(nft.NFT_META_IIFNAME)
_TO = nft.meta(nft.NFT_META_OIFNAME)
_BOTH = [_FROM, nft.meta(nft.NFT_META_OIFNAME, _FIRST + 4)]  # the interfaces side by side, four registers each


def _status() -> list[bytes]:
    """Translated by a published port."""
    bits = struct.pack("=I", nft.IPS_DST_NAT)
    return [nft.connection(nft.NFT_CT_STATUS), nft.mask(bits), nft.compare(bits)]


def _known() -> list[bytes]:
    state = struct.pack("=I", nft.CT_ESTABLISHED | nft.CT_RELATED)
    return [nft.connection(nft.NFT_CT_STATE), nft.mask(state), nft.compare(bytes(4), nft.NFT_CMP_NEQ)]


def _source(version: int, register: int = _FIRST) -> bytes:
    offset, _, length = _OFFSETS[version]
    return nft.payload(nft.NFT_PAYLOAD_NETWORK_HEADER, offset, length, register)


def _destination(version: int, register: int = _FIRST) -> bytes:
    _, offset, length = _OFFSETS[version]
    return nft.payload(nft.NFT_PAYLOAD_NETWORK_HEADER, offset, length, register)


def _port(register: int) -> list[bytes]:
    return [nft.meta(nft.NFT_META_L4PROTO, register),
            nft.payload(nft.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, register + 1)]  # fmt: skip


def _registers(version: int) -> int:
    return 1 if version == 4 else 4


def _service(version: int, register: int = _FIRST) -> list[bytes]:
    """Destination address, protocol and port, side by side."""
    return [_destination(version, register), *_port(register + _registers(version))]


def _is_member(kind: nft.SetType, *, inverted: bool = False) -> bytes:
    return nft.member(kind.name, kind.number, inverted=inverted)


def _martians() -> list[list[bytes]]:
    """`route_localnet` of the bridges would let containers reach the host's own loopback."""
    local = [*nft.family(4), _destination(4), nft.mask(bytes([255, 0, 0, 0])), nft.compare(bytes([127, 0, 0, 0]))]
    return [[_FROM, _is_member(_BRIDGES), *local, _DROP]]


def _translations(*, arriving: bool = False) -> list[list[bytes]]:
    """`arriving`: a neighbour can send a frame to the host's MAC that has its loopback for destination. Translated
    before it is routed, it would never be seen to be none that may come from outside. And ::1 is never translated, as
    the kernel leads no packet with it to another interface: who tries is refused at once, not left to wait.
    """
    outside = [_destination(4), nft.mask(bytes([255, 0, 0, 0])), nft.compare(bytes([127, 0, 0, 0]), nft.NFT_CMP_NEQ)]
    others = [_destination(6), nft.compare(ipaddress.IPv6Address("::1").packed, nft.NFT_CMP_NEQ)]
    found = []
    for version in (4, 6):
        sets, size = SETS[version], _registers(version)
        but = others if version == 6 else outside if arriving else []
        begin = [*nft.family(version), *but, *nft.local_destination()]
        found.append([
            *begin, *_service(version),
            nft.lookup(sets.published_at.name, sets.published_at.number, _FIRST, _FIRST),
            nft.destination_nat(_FIRST, _FIRST + size, version),
        ])  # fmt: skip
        found.append([
            *begin, *_port(_FIRST),
            nft.lookup(sets.published.name, sets.published.number, _FIRST, _FIRST),
            nft.destination_nat(_FIRST, _FIRST + size, version),
        ])  # fmt: skip
    return found


def _sources() -> list[list[bytes]]:
    """What was translated and goes back where it came from (hairpin), or comes from the host's loopback, must return
    this way; what leaves for the world has an address that the world knows.
    """
    loopback = [*nft.family(4), _source(4), nft.mask(bytes([255, 0, 0, 0])), nft.compare(bytes([127, 0, 0, 0]))]
    found = [[*loopback, _TO, _is_member(_BRIDGES), nft.masquerade()]]
    for version in (4, 6):
        sets = SETS[version]
        to = nft.meta(nft.NFT_META_OIFNAME, _FIRST + _registers(version))
        found.append([*nft.family(version), _source(version), to, _is_member(sets.home), *_status(), nft.masquerade()])
        found.append([*nft.family(version), _source(version), _is_member(sets.masqueraded), _TO,
                      _is_member(_BRIDGES, inverted=True), nft.masquerade()])  # fmt: skip
    return found


def _forward() -> list[list[bytes]]:
    return [
        [*_known(), _ACCEPT],
        [*_BOTH, _is_member(_CLOSED), nft.verdict(nft.NFT_GOTO, "closed")],
        [*_BOTH, _is_member(_STRICT), nft.verdict(nft.NFT_GOTO, "strict")],
        [*_BOTH, _is_member(_OPEN), _ACCEPT],
        [*_BOTH, _is_member(_TRUSTED), _ACCEPT],
        *(
            [*nft.family(version), _TO, nft.verdict_of(_INTO[version].name, _INTO[version].number)]
            for version in (4, 6)
        ),
        [_FROM, _is_member(_INTERNAL), _DROP],
    ]


def _inner_chains() -> dict[str, list[list[bytes]]]:
    closed: list[list[bytes]] = [[*_status(), _ACCEPT]]
    strict: list[list[bytes]] = [[*_status(), _ACCEPT]]
    chains: dict[str, list[list[bytes]]] = {"closed": closed, "strict": strict}
    for version in (4, 6):
        sets, size = SETS[version], _registers(version)
        linked = [_source(version), *_service(version, _FIRST + size)]
        closed.append([*nft.family(version), *linked, _is_member(sets.linked), _ACCEPT])
        strict.append([*nft.family(version), *_service(version), _is_member(sets.exposed), _ACCEPT])
        neighbours = [nft.meta(nft.NFT_META_L4PROTO), nft.compare(bytes([_ICMP[6]])), _ACCEPT]
        if version == 6:  # neighbour discovery; nothing of a bridge works without it
            closed.append(neighbours)
            strict.append(neighbours)
        ping = [nft.meta(nft.NFT_META_L4PROTO), nft.compare(bytes([_ICMP[version]])), _ACCEPT]
        chains[f"nat{version}"] = [[*_status(), _ACCEPT], [_DROP]]
        chains[f"routed{version}"] = [
            [*_status(), _ACCEPT], [*nft.family(version), *_service(version), _is_member(sets.reachable), _ACCEPT],
            ping, [_DROP],
        ]  # fmt: skip
        chains[f"unprotected{version}"] = [
            [*_status(), _ACCEPT], [_FROM, _is_member(_BRIDGES), _DROP], [_ACCEPT],
        ]  # fmt: skip
    closed.append([_DROP])
    strict.append([_DROP])
    return chains


# --- elements ---


def _merge(into: Elements, name: str, *elements: nft.Element) -> None:
    into.setdefault(name, []).extend(elements)


def of_network(network: Network) -> Elements:
    """What a network is in the table. Ranges of one part are given as (first, behind) in key and end."""
    options = driver_options.parse(network.options)
    found: Elements = {}
    name = nft.interface_name(network.bridge)
    _merge(found, _BRIDGES.name, nft.Element(name))
    if network.internal:
        _merge(found, _INTERNAL.name, nft.Element(name))
    inside = _STRICT if options.strict else _OPEN if options.icc else _CLOSED
    _merge(found, inside.name, nft.Element(name + name))
    for trusted in options.trusted:
        _merge(found, _TRUSTED.name, nft.Element(nft.interface_name(trusted) + name))
    for version, mode in ((4, options.mode4), (6, options.mode6)):
        chain = {"nat-unprotected": "unprotected", "routed": "routed"}.get(mode, "nat")
        verdict = nft.verdict_data(nft.NFT_GOTO, f"{chain}{version}")
        if network.internal:
            verdict = nft.verdict_data(nft.NF_DROP)
        _merge(found, _INTO[version].name, nft.Element(name, verdict))
        pool = network.pool4 if version == 4 else network.pool6
        if pool is None:
            continue
        subnet = ipaddress.ip_network(pool.subnet)
        first, last = subnet.network_address.packed, subnet.broadcast_address.packed
        _merge(found, SETS[version].home.name, nft.Element(first + name, end=last + name))
        if options.masquerade and mode.startswith("nat") and not network.internal:
            behind = (int(subnet.broadcast_address) + 1).to_bytes(len(first) + 1, "big")[-len(first) :]
            _merge(found, SETS[version].masqueraded.name, nft.Element(first, end=behind))
    return found


def of_port(port: PublishedPort, endpoint: Endpoint, *, routed4: bool = False, routed6: bool = False) -> Elements:
    """A published port of the container at `endpoint`: translated, or let through as it is in a routed network."""
    found: Elements = {}
    for version, address, routed in ((4, endpoint.address, routed4), (6, endpoint.address6, routed6)):
        host = ipaddress.ip_address(port.host_ip or "0.0.0.0")
        if not address or host.version != version:
            continue
        packed = ipaddress.ip_address(address).packed
        if routed:
            _merge(found, SETS[version].reachable.name, nft.Element(packed + _key(port.protocol, port.container_port)))
            continue
        key, target = _key(port.protocol, port.host_port), nft.value(packed + struct.pack(">Hxx", port.container_port))
        if host.is_unspecified:
            _merge(found, SETS[version].published.name, nft.Element(key, target))
        else:
            _merge(found, SETS[version].published_at.name, nft.Element(host.packed + key, target))
    return found


def of_exposed(endpoint: Endpoint, ports: Iterable[tuple[str, int]]) -> Elements:
    """What a container of a strict network may be reached on: (protocol, port)."""
    found: Elements = {}
    for version, address in ((4, endpoint.address), (6, endpoint.address6)):
        if address:
            packed = ipaddress.ip_address(address).packed
            _merge(found, SETS[version].exposed.name,
                   *(nft.Element(packed + _key(protocol, port)) for protocol, port in ports))  # fmt: skip
    return {name: elements for name, elements in found.items() if elements}


def of_link(source: str, target: str, ports: Iterable[tuple[str, int]]) -> Elements:
    """What a container may reach of one that it is linked to, where containers are closed to each other."""
    pair = ipaddress.ip_address(source).packed + ipaddress.ip_address(target).packed
    elements = [nft.Element(pair + _key(protocol, port)) for protocol, port in ports]
    return {SETS[4].linked.name: elements} if elements else {}


def _key(protocol: str, port: int) -> bytes:
    return struct.pack("=Bxxx", PROTOCOLS[protocol]) + struct.pack(">Hxx", port)


def changes(table: str, elements: Elements, *, add: bool) -> list[nft.Request]:
    """Requests that add elements, or take them out: one a set."""
    found = []
    for name, listed in elements.items():
        if name in RANGES:
            found.append(nft.change_ranges(table, name, [(one.key, one.end) for one in listed], add=add))
        else:
            found.append(nft.change(table, name, listed, add=add))
    return found


# --- other tables ---


def openings(
    chains: list[nft.Chain], rules: list[nft.Rule], own: str, tag: str, bridges: Iterable[str], everything: bool
) -> list[nft.Request]:
    """Requests for the tagged rules in chains of others that drop forwarded traffic; none where they stand already.

    `tag` names the instance; a rule's comment is that and the bridge.
    """
    tagged = {(rule.family, rule.table, rule.chain, rule.tag) for rule in rules if rule.tag.startswith(tag)}
    requests: list[nft.Request] = []
    for chain in chains:
        drops = chain.hook == nft.HOOKS["forward"] and chain.policy == nft.NF_DROP and chain.table != own
        if not drops or chain.family not in (socket.AF_INET, nft.NFPROTO_INET):
            continue
        name = chain.name
        if any(one.table == chain.table and one.name == "DOCKER-USER" and one.family == chain.family for one in chains):
            name = "DOCKER-USER"
        for bridge in bridges:
            comment = f"{tag} {bridge}"
            if (chain.family, chain.table, name, comment) in tagged:
                continue
            for expressions in _accepted(bridge, everything):
                requests.append(
                    nft.new_rule(chain.table, name, expressions, family=chain.family, tag=comment, first=True)
                )
    return requests


def _accepted(bridge: str, everything: bool) -> list[list[bytes]]:
    into = [_TO, nft.compare(nft.interface_name(bridge))]
    found = [[_FROM, nft.compare(nft.interface_name(bridge)), _ACCEPT], [*into, *_known(), _ACCEPT]]
    if everything:
        found.append([*into, *_status(), _ACCEPT])
    return found


def closings(rules: list[nft.Rule], tag: str, bridge: str = "") -> list[nft.Request]:
    """Takes the tagged rules out again: those of one bridge, or all."""
    wanted = [rule for rule in rules if rule.tag == f"{tag} {bridge}" or (not bridge and rule.tag.startswith(tag))]
    return [nft.delete_rule(rule.table, rule.chain, rule.handle, rule.family) for rule in wanted]
