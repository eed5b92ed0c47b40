"""nf_tables by netlink (nfnetlink, linux/netfilter/nf_tables.h): tables, chains, rules, maps and their elements.

Messages are built by functions and sent as one transaction: all of it holds afterwards, or nothing. Expressions are
the kernel's small machine: load something into a register, compare, look up, act.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from kist.kernel import netlink
from kist.kernel.netlink import attribute, attribute_list, attributes, nested

# linux/netfilter/nfnetlink.h
_SUBSYS = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
# linux/netfilter/nf_tables.h
NFNLGRP_NFTABLES = 7  # the group of those who hear of changes
NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE = 0, 2
NFT_MSG_NEWCHAIN, NFT_MSG_GETCHAIN = 3, 4
NFT_MSG_NEWRULE, NFT_MSG_GETRULE, NFT_MSG_DELRULE = 6, 7, 8
NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM, NFT_MSG_GETSETELEM, NFT_MSG_DELSETELEM = 9, 12, 13, 14
NFT_SET_INTERVAL, NFT_SET_MAP, NFT_SET_CONCAT = 0x4, 0x8, 0x80
NFT_SET_ELEM_INTERVAL_END = 0x1
NFT_META_IIFNAME, NFT_META_OIFNAME, NFT_META_NFPROTO, NFT_META_L4PROTO = 6, 7, 15, 16
NFT_CT_STATE, NFT_CT_STATUS = 0, 2
NFT_CMP_EQ, NFT_CMP_NEQ = 0, 1
NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER = 1, 2
NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR = 3, 2
NFT_NAT_SNAT, NFT_NAT_DNAT = 0, 1
RTN_LOCAL = 2
REG32_00 = 8  # the first of sixteen registers of four bytes
VERDICT_REGISTER = 0
NF_DROP, NF_ACCEPT, NFT_JUMP, NFT_GOTO = 0, 1, -3, -4
NFPROTO_INET = 1  # a table of IPv4 and IPv6
IPS_DST_NAT = 0x20
CT_ESTABLISHED, CT_RELATED = 0x2, 0x4
HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
# Types of nft(8), so that `nft list` shows elements readably; concatenations shift by six bits.
TYPE_IPADDR, TYPE_IP6ADDR, TYPE_PROTOCOL, TYPE_SERVICE, TYPE_IFNAME = 7, 8, 12, 13, 41
_VERDICT_TYPE = 0xFFFFFF00  # NFT_DATA_VERDICT

Request = tuple[int, int, bytes]


def _be32(value: int) -> bytes:
    return struct.pack(">I", value & 0xFFFFFFFF)


def _name(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _message(kind: int, flags: int, family: int, body: bytes) -> Request:
    """struct nfgenmsg before the attributes."""
    return (_SUBSYS << 8 | kind, flags, struct.pack(">BBH", family, 0, 0) + body)


def new_table(name: str, family: int = socket.AF_INET) -> Request:
    return _message(NFT_MSG_NEWTABLE, netlink.NLM_F_CREATE, family, _name(1, name))


def delete_table(name: str, family: int = socket.AF_INET) -> Request:
    return _message(NFT_MSG_DELTABLE, 0, family, _name(1, name))


def new_base_chain(table: str, name: str, kind: str, hook: str, priority: int, family: int = socket.AF_INET) -> Request:
    """A chain that the kernel calls; policy accept."""
    where = attribute(1, _be32(HOOKS[hook])) + attribute(2, struct.pack(">i", priority))
    body = _name(1, table) + _name(3, name) + nested(4, where) + attribute(5, _be32(NF_ACCEPT)) + _name(7, kind)
    return _message(NFT_MSG_NEWCHAIN, netlink.NLM_F_CREATE, family, body)


def new_chain(table: str, name: str, family: int = socket.AF_INET) -> Request:
    """A chain that is only jumped to."""
    return _message(NFT_MSG_NEWCHAIN, netlink.NLM_F_CREATE, family, _name(1, table) + _name(3, name))


class SetType(NamedTuple):
    """A set or map of a table of both families. `key` are (type, bytes) of its parts, `data` of a map's values;
    `verdicts`: the values are verdicts. `ranges`: an element is everything from its key to another one.
    """

    name: str
    number: int
    key: tuple[tuple[int, int], ...]
    data: tuple[tuple[int, int], ...] = ()
    verdicts: bool = False
    ranges: bool = False


class Element(NamedTuple):
    """`end`: the last key of a range; `data`: a map's value, made by `value` or `verdict_data`."""

    key: bytes
    data: bytes = b""
    end: bytes = b""


def value(raw: bytes) -> bytes:
    """A map's value that is no verdict."""
    return attribute(1, raw)


def new_set(table: str, kind: SetType) -> Request:
    flags = NFT_SET_MAP if kind.data or kind.verdicts else 0
    flags |= NFT_SET_INTERVAL if kind.ranges else 0
    several = kind.ranges and len(kind.key) > 1
    flags |= NFT_SET_CONCAT if several else 0
    body = _name(1, table) + _name(2, kind.name) + attribute(3, _be32(flags))
    body += attribute(4, _be32(_joined(kind.key))) + attribute(5, _be32(_length(kind.key)))
    if kind.verdicts:
        body += attribute(6, _be32(_VERDICT_TYPE))
    elif kind.data:
        body += attribute(6, _be32(_joined(kind.data))) + attribute(7, _be32(_length(kind.data)))
    if several:
        fields = b"".join(nested(1, attribute(1, _be32(_padded(size)))) for _, size in kind.key)
        body += nested(9, nested(2, fields))
    body += attribute(10, _be32(kind.number))
    if len(kind.key) == 1 and kind.key[0][0] == TYPE_IFNAME:  # NFTNL_UDATA_SET_KEYBYTEORDER: how nft(8) is to read it
        body += attribute(13, struct.pack("=BBI", 0, 4, 1))
    return _message(NFT_MSG_NEWSET, netlink.NLM_F_CREATE, NFPROTO_INET, body)


def _joined(parts: Sequence[tuple[int, int]]) -> int:
    """The type of a concatenation: six bits for each part."""
    found = 0
    for kind, _ in parts:
        found = found << 6 | kind
    return found


def _padded(size: int) -> int:
    """A part fills whole registers of four bytes."""
    return size + 3 & ~3


def _length(parts: Sequence[tuple[int, int]]) -> int:
    return parts[0][1] if len(parts) == 1 else sum(_padded(size) for _, size in parts)


def change(table: str, name: str, elements: Sequence[Element], *, add: bool) -> Request:
    """Adds elements of a table of both families, or takes them out: all of them are there, or none is."""
    listed = b""
    for one in elements:
        body = nested(1, attribute(1, one.key))
        if one.data and add:
            body += nested(2, one.data)
        if one.end:
            body += nested(10, attribute(1, one.end))
        listed += nested(1, body)
    kind = NFT_MSG_NEWSETELEM if add else NFT_MSG_DELSETELEM
    flags = netlink.NLM_F_CREATE if add else 0
    return _message(kind, flags, NFPROTO_INET, _name(1, table) + _name(2, name) + nested(3, listed))


def change_ranges(table: str, name: str, ranges: Sequence[tuple[bytes, bytes]], *, add: bool) -> Request:
    """The same for ranges of one part, which the kernel keeps as two ends each: (first, one behind the last)."""
    listed = b""
    for first, behind in ranges:
        listed += nested(1, nested(1, attribute(1, first)))
        listed += nested(1, attribute(3, _be32(NFT_SET_ELEM_INTERVAL_END)) + nested(1, attribute(1, behind)))
    kind = NFT_MSG_NEWSETELEM if add else NFT_MSG_DELSETELEM
    flags = netlink.NLM_F_CREATE if add else 0
    return _message(kind, flags, NFPROTO_INET, _name(1, table) + _name(2, name) + nested(3, listed))


def new_rule(
    table: str,
    chain: str,
    expressions: Sequence[bytes],
    *,
    family: int = socket.AF_INET,
    tag: str = "",
    first: bool = False,
) -> Request:
    """A rule at the end of a chain, or at its head. `tag` shows as its comment and finds it again."""
    body = _name(1, table) + _name(2, chain) + nested(4, b"".join(nested(1, one) for one in expressions))
    if tag:
        text = tag.encode() + b"\0"
        body += attribute(7, struct.pack("BB", 0, len(text)) + text)
    flags = netlink.NLM_F_CREATE | (0 if first else netlink.NLM_F_APPEND)
    return _message(NFT_MSG_NEWRULE, flags, family, body)


def delete_rule(table: str, chain: str, handle: int, family: int = socket.AF_INET) -> Request:
    body = _name(1, table) + _name(2, chain) + attribute(3, struct.pack(">Q", handle))
    return _message(NFT_MSG_DELRULE, 0, family, body)


# --- expressions ---


def _expression(name: str, data: bytes) -> bytes:
    return _name(1, name) + nested(2, data)


def meta(key: int, register: int = REG32_00) -> bytes:
    return _expression("meta", attribute(2, _be32(key)) + attribute(1, _be32(register)))


def compare(data: bytes, operator: int = NFT_CMP_EQ, register: int = REG32_00) -> bytes:
    body = attribute(1, _be32(register)) + attribute(2, _be32(operator)) + nested(3, attribute(1, data))
    return _expression("cmp", body)


def payload(base: int, offset: int, length: int, register: int = REG32_00) -> bytes:
    body = attribute(1, _be32(register)) + attribute(2, _be32(base))
    body += attribute(3, _be32(offset)) + attribute(4, _be32(length))
    return _expression("payload", body)


def mask(value: bytes, register: int = REG32_00) -> bytes:
    """Keeps the bits of `value`."""
    body = attribute(1, _be32(register)) + attribute(2, _be32(register)) + attribute(3, _be32(len(value)))
    body += nested(4, attribute(1, value)) + nested(5, attribute(1, bytes(len(value))))
    return _expression("bitwise", body)


def connection(key: int, register: int = REG32_00) -> bytes:
    return _expression("ct", attribute(2, _be32(key)) + attribute(1, _be32(register)))


def local_destination() -> list[bytes]:
    """`fib daddr type local`."""
    body = attribute(1, _be32(REG32_00)) + attribute(2, _be32(NFT_FIB_RESULT_ADDRTYPE))
    body += attribute(3, _be32(NFTA_FIB_F_DADDR))
    return [_expression("fib", body), compare(struct.pack("=I", RTN_LOCAL))]


def lookup(name: str, number: int, source: int, target: int) -> bytes:
    body = _name(1, name) + attribute(2, _be32(source)) + attribute(3, _be32(target)) + attribute(4, _be32(number))
    return _expression("lookup", body)


def member(name: str, number: int, source: int = REG32_00, *, inverted: bool = False) -> bytes:
    """Goes on when the register is an element of the set, or when it is not."""
    body = _name(1, name) + attribute(2, _be32(source)) + attribute(4, _be32(number))
    if inverted:
        body += attribute(5, _be32(1))
    return _expression("lookup", body)


def verdict_of(name: str, number: int, source: int = REG32_00) -> bytes:
    """What the map says of the register is done."""
    return lookup(name, number, source, VERDICT_REGISTER)


def family(version: int) -> list[bytes]:
    """Packets of IPv4 or IPv6 only, in a table of both."""
    wanted = socket.AF_INET6 if version == 6 else socket.AF_INET
    return [meta(NFT_META_NFPROTO), compare(bytes([wanted]))]


def load(data: bytes, register: int = REG32_00) -> bytes:
    return _expression("immediate", attribute(1, _be32(register)) + nested(2, attribute(1, data)))


def destination_nat(address: int, port: int, version: int = 4) -> bytes:
    """To the address and port in these registers."""
    wanted = socket.AF_INET6 if version == 6 else socket.AF_INET
    body = attribute(1, _be32(NFT_NAT_DNAT)) + attribute(2, _be32(wanted))
    body += attribute(3, _be32(address)) + attribute(5, _be32(port))
    return _expression("nat", body)


def source_nat_port(port: int) -> bytes:
    """The port in this register; the address stays."""
    body = attribute(1, _be32(NFT_NAT_SNAT)) + attribute(2, _be32(socket.AF_INET)) + attribute(5, _be32(port))
    return _expression("nat", body)


def masquerade() -> bytes:
    return _expression("masq", b"")


def verdict(code: int, chain: str = "") -> bytes:
    data = nested(2, verdict_data(code, chain))
    return _expression("immediate", attribute(1, _be32(VERDICT_REGISTER)) + data)


def verdict_data(code: int, chain: str = "") -> bytes:
    """A verdict as a value; `chain` is where NFT_JUMP and NFT_GOTO lead."""
    return nested(2, attribute(1, _be32(code)) + (_name(2, chain) if chain else b""))


def interface_name(name: str) -> bytes:
    """An interface name as the kernel compares it: sixteen bytes."""
    return name.encode().ljust(16, b"\0")


# --- conversations ---


class Chain(NamedTuple):
    """A chain as the kernel lists it. `hook` and `policy` are -1 for a chain that is only jumped to."""

    family: int
    table: str
    name: str
    hook: int
    policy: int


class Rule(NamedTuple):
    family: int
    table: str
    chain: str
    handle: int
    tag: str


class Firewall:
    """A connection to nf_tables of the current network namespace."""

    def __init__(self) -> None:
        self._socket = netlink.NetlinkSocket(netlink.NETLINK_NETFILTER)
        self.port = self._socket.port

    def __enter__(self) -> Firewall:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def commit(self, requests: Sequence[Request]) -> None:
        """All of it or nothing. Raises OSError."""
        head = struct.pack(">BBH", 0, 0, _SUBSYS)
        begin = netlink.message(_BATCH_BEGIN, netlink.NLM_F_REQUEST, 0, head)
        end = netlink.message(_BATCH_END, netlink.NLM_F_REQUEST, 0, head)
        self._socket.transaction(begin, requests, end)

    def chains(self) -> list[Chain]:
        found = []
        for body in self._socket.dump(_SUBSYS << 8 | NFT_MSG_GETCHAIN, struct.pack(">BBH", 0, 0, 0)):
            values = attributes(body[4:])
            hook = attributes(values[4]) if 4 in values else {}
            number = struct.unpack(">I", hook[1])[0] if 1 in hook else -1
            policy = struct.unpack(">I", values[5])[0] if 5 in values else -1
            found.append(Chain(body[0], _text(values[1]), _text(values[3]), number, policy))
        return found

    def rules(self) -> list[Rule]:
        """Every rule, with its comment."""
        found = []
        for body in self._socket.dump(_SUBSYS << 8 | NFT_MSG_GETRULE, struct.pack(">BBH", 0, 0, 0)):
            values = attributes(body[4:])
            found.append(
                Rule(
                    body[0],
                    _text(values[1]),
                    _text(values[2]),
                    struct.unpack(">Q", values[3])[0],
                    _comment(values.get(7, b"")),
                )
            )
        return found

    def elements(self, table: str, name: str, family: int = NFPROTO_INET) -> list[bytes]:
        """The keys of a set or map. Raises OSError ENOENT when there is none of that name."""
        body = struct.pack(">BBH", family, 0, 0) + _name(1, table) + _name(2, name)
        found = []
        for answer in self._socket.dump(_SUBSYS << 8 | NFT_MSG_GETSETELEM, body):
            listed = attributes(answer[4:]).get(3, b"")
            for _, one in attribute_list(listed):
                found.append(attributes(attributes(one)[1])[1])
        return found


def listen() -> netlink.Listener:
    """To changes of tables, by anybody."""
    return netlink.Listener(netlink.NETLINK_NETFILTER, NFNLGRP_NFTABLES)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")


def _comment(userdata: bytes) -> str:
    """The first type-length-value of type 0 (NFTNL_UDATA_RULE_COMMENT)."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, length = userdata[offset], userdata[offset + 1]
        if kind == 0:
            return _text(userdata[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return ""
