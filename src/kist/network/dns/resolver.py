"""What is answered here and what is asked elsewhere. Pure: a query and a view go in, an answer comes out, or None.

As in Docker (libnetwork/resolver.go, sandbox.go of 28): an address of the other family alone is an answer without
addresses, and so is an MX. Docker asks upstream for other types (TXT, SRV, HTTPS) of names it knows; here they have
none: a name of a network's own is told to nobody outside, and nobody outside says where it is (HTTPS hints).
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Sequence

from kist.network.dns import message
from kist.network.dns.message import Query
from kist.network.dns.names import Attachment, Found, View

_V4, _V6 = ".in-addr.arpa", ".ip6.arpa"


class Resolver:
    """Of one container. `ndots_set`: its own resolv.conf has the option ndots from the user or the host."""

    def __init__(self, view: View, ndots_set: bool = False) -> None:
        self.view = view
        self._ndots_set = ndots_set

    def answer(self, query: Query, limit: int) -> bytes | None:
        """None: a matter of the servers upstream."""
        if query.family != message.IN:
            return None
        if query.kind == message.PTR:
            return self._pointer(query, limit)
        found = find(query.name, self.view)
        if found is not None:
            return message.answer(query, _records(query.kind, found), limit)
        if query.kind in (message.A, message.AAAA) and self._ndots_set and "." not in query.name:
            return message.answer(query, (), limit)  # the client tries the search domains next
        return None

    def _pointer(self, query: Query, limit: int) -> bytes | None:
        address = address_of(query.name)
        for attachment in self.view.attachments() if address else ():
            name = attachment.network.name_of(address)
            if name:
                return message.answer(query, _pointer_records(name), limit)
        return None


def _records(kind: int, found: Found) -> list[bytes]:
    if kind == message.A:
        addresses = found.v4
    elif kind == message.AAAA:
        addresses = found.v6
    elif kind == message.ANY:
        addresses = [*found.v4, *found.v6]
    else:
        return []
    if len(addresses) > 1:
        random.shuffle(addresses)
    return [message.address_record(address) for address in addresses]


def _pointer_records(name: str) -> list[bytes]:
    """Without one for a name that DNS has no place for."""
    try:
        return [message.pointer_record(name)]
    except ValueError:
        return []


def find(name: str, view: View) -> Found | None:
    """The addresses behind a name (lower case): an alias of the container's own, a name in one of its networks, or
    either followed by a dot and the network's name. Names and networks may have dots themselves.
    """
    attachments = view.attachments()
    found = _look_up(name, attachments)
    if found is not None or "." not in name:
        return found
    # a.b.c is a.b in network c before it is a in network b.c.
    for network in sorted({one.network.name for one in attachments if name.endswith(f".{one.network.name}")}, key=len):
        inside = [one for one in attachments if one.network.name == network]
        found = _look_up(name[: -len(network) - 1], inside)
        if found is not None:
            return found
    return None


def _look_up(wanted: str, attachments: Sequence[Attachment]) -> Found | None:
    return _through_links(wanted, attachments) or _by_name(wanted, attachments)


def _through_links(wanted: str, attachments: Sequence[Attachment]) -> Found | None:
    for attachment in attachments:
        target = _link(wanted, attachment)
        found = attachment.network.find(target.lower()) if target else None
        if found is not None:
            return found
    return None


def _by_name(wanted: str, attachments: Sequence[Attachment]) -> Found | None:
    """Where a link of this name leads nowhere, nobody else there is meant by it."""
    for attachment in attachments:
        found = None if _link(wanted, attachment) else attachment.network.find(wanted)
        if found is not None:
            return found
    return None


def _link(wanted: str, attachment: Attachment) -> str:
    return next((target for alias, target in attachment.links.items() if alias.lower() == wanted), "")


def address_of(name: str) -> bytes:
    """What is asked for by a name in in-addr.arpa or ip6.arpa, 4 or 16 bytes; b"" for any other."""
    try:
        if name.endswith(_V4):
            return ipaddress.IPv4Address(".".join(reversed(name[: -len(_V4)].split(".")))).packed
        if name.endswith(_V6):
            digits = name[: -len(_V6)].split(".")
            if len(digits) == 32 and all(len(one) == 1 for one in digits):
                return bytes.fromhex("".join(reversed(digits)))
    except ValueError:
        pass
    return b""
