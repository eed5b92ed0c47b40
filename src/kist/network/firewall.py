"""The instance's own nftables table, and the one opening in somebody else's that it may need.

The table is static: publishing a port adds an element to a map, never a rule. An `accept` here cannot save a packet
that another table's chain drops, so where the host's forward chain drops (dockerd, ufw) tagged rules for this bridge's
outgoing and established traffic go into that chain, and out of it again.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import struct
from collections.abc import Iterable

from kist.kernel import nftables as nft
from kist.model.network import PublishedPort

log = logging.getLogger(__name__)
_PROTOCOLS = {"tcp": 6, "udp": 17}
_ANY, _GIVEN = "published", "published_at"  # maps: ports on every address, ports on one address
_RAW, _DSTNAT, _OUTPUT_NAT, _FILTER, _SRCNAT = -300, -100, -100, 0, 100
_FIRST = nft.REG32_00


def ruleset(table: str, bridge: str, subnet: str, *, masquerade: bool, icc: bool) -> list[nft.Request]:
    """The whole table, in place of an older one."""
    network = ipaddress.IPv4Network(subnet)
    where = (network.network_address.packed, network.netmask.packed)
    pair = nft.TYPE_IPADDR << 6 | nft.TYPE_SERVICE
    key = nft.TYPE_PROTOCOL << 6 | nft.TYPE_SERVICE
    requests = [
        nft.new_table(table),
        nft.delete_table(table),
        nft.new_table(table),
        nft.new_map(table, _ANY, 1, (key, 8), (pair, 8)),
        nft.new_map(table, _GIVEN, 2, (nft.TYPE_IPADDR << 12 | key, 12), (pair, 8)),
        nft.new_base_chain(table, "martians", "filter", "prerouting", _RAW),
        nft.new_base_chain(table, "prerouting", "nat", "prerouting", _DSTNAT),
        nft.new_base_chain(table, "output", "nat", "output", _OUTPUT_NAT),
        nft.new_base_chain(table, "postrouting", "nat", "postrouting", _SRCNAT),
        nft.new_base_chain(table, "forward", "filter", "forward", _FILTER),
    ]
    requests.append(nft.new_rule(table, "martians", [*_from(bridge), *_to_loopback(), nft.verdict(nft.NF_DROP)]))
    for chain in ("prerouting", "output"):
        requests.append(nft.new_rule(table, chain, [*nft.local_destination(), *_translate(_GIVEN, 2, True)]))
        requests.append(nft.new_rule(table, chain, [*nft.local_destination(), *_translate(_ANY, 1, False)]))
    if masquerade:
        outward = [*_source(*where), *_not_to(bridge), nft.masquerade()]
        requests.append(nft.new_rule(table, "postrouting", outward))
    # What was translated and stays on the bridge (hairpin) or comes from the host's loopback must come back this way.
    inward = [*_source(*where), *_to(bridge), *_translated(), nft.masquerade()]
    requests.append(nft.new_rule(table, "postrouting", inward))
    loopback = [*_source(bytes([127, 0, 0, 0]), bytes([255, 0, 0, 0])), *_to(bridge), nft.masquerade()]
    requests.append(nft.new_rule(table, "postrouting", loopback))
    if not icc:
        inside = [*_from(bridge), *_to(bridge), nft.connection(nft.NFT_CT_STATUS), nft.mask(_status()),
                  nft.compare(_status(0)), nft.verdict(nft.NF_DROP)]  # fmt: skip
        requests.append(nft.new_rule(table, "forward", inside))
    return requests


def _status(bits: int = nft.IPS_DST_NAT) -> bytes:
    return struct.pack("=I", bits)


def _from(bridge: str) -> list[bytes]:
    return [nft.meta(nft.NFT_META_IIFNAME), nft.compare(nft.interface_name(bridge))]


def _to(bridge: str) -> list[bytes]:
    return [nft.meta(nft.NFT_META_OIFNAME), nft.compare(nft.interface_name(bridge))]


def _not_to(bridge: str) -> list[bytes]:
    return [nft.meta(nft.NFT_META_OIFNAME), nft.compare(nft.interface_name(bridge), nft.NFT_CMP_NEQ)]


def _source(address: bytes, netmask: bytes) -> list[bytes]:
    return [nft.payload(nft.NFT_PAYLOAD_NETWORK_HEADER, 12, 4), nft.mask(netmask), nft.compare(address)]


def _to_loopback() -> list[bytes]:
    return [
        nft.payload(nft.NFT_PAYLOAD_NETWORK_HEADER, 16, 4),
        nft.mask(bytes([255, 0, 0, 0])),
        nft.compare(bytes([127, 0, 0, 0])),
    ]


def _translated() -> list[bytes]:
    return [nft.connection(nft.NFT_CT_STATUS), nft.mask(_status()), nft.compare(_status())]


def _translate(name: str, number: int, with_address: bool) -> list[bytes]:
    """Looks [address,] protocol and port up; what is found is where the packet goes."""
    register = _FIRST
    found = []
    if with_address:
        found.append(nft.payload(nft.NFT_PAYLOAD_NETWORK_HEADER, 16, 4, register))
        register += 1
    found.append(nft.meta(nft.NFT_META_L4PROTO, register))
    found.append(nft.payload(nft.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, register + 1))
    found.append(nft.lookup(name, number, _FIRST, _FIRST))
    found.append(nft.destination_nat(_FIRST, _FIRST + 1))
    return found


def element(port: PublishedPort, address: str) -> tuple[str, bytes, bytes]:
    """(map, key, data) of a published port of the container at `address`."""
    key = struct.pack("=Bxxx", _PROTOCOLS[port.protocol]) + struct.pack(">Hxx", port.host_port)
    data = ipaddress.IPv4Address(address).packed + struct.pack(">Hxx", port.container_port)
    if port.host_ip in ("", "0.0.0.0"):
        return _ANY, key, data
    return _GIVEN, ipaddress.IPv4Address(port.host_ip).packed + key, data


def elements(table: str, ports: Iterable[PublishedPort], address: str, *, add: bool) -> list[nft.Request]:
    """One request a map."""
    sorted_out: dict[str, list[tuple[bytes, bytes]]] = {}
    for port in ports:
        name, key, data = element(port, address)
        sorted_out.setdefault(name, []).append((key, data))
    make = nft.add_elements if add else nft.delete_elements
    return [make(table, name, pairs) for name, pairs in sorted_out.items()]


# --- other tables ---


def openings(
    chains: list[nft.Chain], rules: list[nft.Rule], own: str, tag: str, bridge: str, everything: bool
) -> list[nft.Request]:
    """Requests for the tagged rules in chains of others that drop forwarded traffic; none where they stand already."""
    tagged = {(rule.family, rule.table, rule.chain) for rule in rules if rule.tag == tag}
    requests: list[nft.Request] = []
    for chain in chains:
        drops = chain.hook == nft.HOOKS["forward"] and chain.policy == nft.NF_DROP and chain.table != own
        if not drops or chain.family not in (socket.AF_INET, 1):
            continue
        name = chain.name
        if any(one.table == chain.table and one.name == "DOCKER-USER" and one.family == chain.family for one in chains):
            name = "DOCKER-USER"
        if (chain.family, chain.table, name) in tagged:
            continue
        for expressions in _accepted(bridge, everything):
            requests.append(nft.new_rule(chain.table, name, expressions, family=chain.family, tag=tag, first=True))
    return requests


def _accepted(bridge: str, everything: bool) -> list[list[bytes]]:
    accept = nft.verdict(nft.NF_ACCEPT)
    state = struct.pack("=I", nft.CT_ESTABLISHED | nft.CT_RELATED)
    known = [nft.connection(nft.NFT_CT_STATE), nft.mask(state), nft.compare(bytes(4), nft.NFT_CMP_NEQ)]
    found = [[*_from(bridge), accept], [*_to(bridge), *known, accept]]
    if everything:
        found.append([*_to(bridge), *_translated(), accept])
    return found


def closings(rules: list[nft.Rule], tag: str) -> list[nft.Request]:
    """Takes the tagged rules out again."""
    return [nft.delete_rule(rule.table, rule.chain, rule.handle, rule.family) for rule in rules if rule.tag == tag]
