"""Connections that the kernel follows (linux/netfilter/nfnetlink_conntrack.h), to have some of them forgotten."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable

from kist.kernel import netlink

_DELETE = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
CTA_TUPLE_ORIG, CTA_FILTER = 1, 25
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_DST = {4: 2, 6: 4}
CTA_PROTO_NUM, CTA_PROTO_DST_PORT = 1, 3
CTA_FILTER_ORIG_FLAGS = 1
# net/netfilter/nf_internals.h
_BY_DESTINATION, _BY_PROTOCOL, _BY_PORT = 1 << 1, 1 << 3, 1 << 5
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def forget_datagrams(targets: Iterable[tuple[str, int]]) -> None:
    """Forgets what is known of UDP to these (address, port); an unspecified address is every one of its family.

    Raises OSError: EINVAL from kernels before 5.8, which cannot choose.
    """
    requests = [(_DELETE, 0, _chosen(ipaddress.ip_address(address), port)) for address, port in targets]
    if not requests:
        return
    asking = netlink.NetlinkSocket(netlink.NETLINK_NETFILTER)
    try:
        asking.batch(requests)
    finally:
        asking.close()


def _chosen(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> bytes:
    flags = _BY_PROTOCOL | _BY_PORT
    protocol = netlink.attribute(CTA_PROTO_NUM, bytes([socket.IPPROTO_UDP]))
    protocol += netlink.attribute(CTA_PROTO_DST_PORT, struct.pack(">H", port))
    which = netlink.nested(CTA_TUPLE_PROTO, protocol)
    if not address.is_unspecified:
        flags |= _BY_DESTINATION
        which += netlink.nested(CTA_TUPLE_IP, netlink.attribute(CTA_IP_DST[address.version], address.packed))
    head = struct.pack("=BBH", _FAMILIES[address.version], 1, 0)  # struct nfgenmsg; version 1: of this family alone
    choice = netlink.nested(CTA_FILTER, netlink.attribute(CTA_FILTER_ORIG_FLAGS, struct.pack("=I", flags)))
    return head + netlink.nested(CTA_TUPLE_ORIG, which) + choice
