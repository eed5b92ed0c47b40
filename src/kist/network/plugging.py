"""Links of containers that run already: put in, given addresses and routes, and pulled out again.

A socket belongs to the network namespace in which it was opened, so a thread that joins the container's namespace for
that moment is all it takes. For use in a thread of its own: one that has joined another namespace does nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from kist.kernel import const, ns
from kist.kernel.rtnetlink import IFLA_NET_NS_PID, RouteSocket
from kist.model.network import Link


def plug(pid: int, link: Link, gateways: list[str], sysctls: Mapping[str, str]) -> None:
    """Makes the link between the host and the namespace of a process, and configures its inner end, with `sysctls` of
    it. Default routes are by `gateways` then. Raises OSError.
    """
    with RouteSocket() as route:
        route.create_veth(
            link.host_name, link.bridge_index, link.name, link.mac, link.mtu, (IFLA_NET_NS_PID, pid), link.hairpin
        )
    try:
        _enter(pid)
        if not any(":" in address for address in link.addresses):
            _set(f"net/ipv6/conf/{link.name}/disable_ipv6", "1", needed=False)
        with RouteSocket() as route:
            route.configure(link.name, list(link.addresses), [])
            route.replace_gateways(gateways)
        for key, value in sysctls.items():
            _set(key, value)
    except OSError:
        unplug_here(link)
        raise


def lead_out(pid: int, gateways: list[str]) -> None:
    """Has packets for elsewhere leave by these addresses, and by no other of their families. Raises OSError."""
    _enter(pid)
    with RouteSocket() as route:
        route.replace_gateways(gateways)


def unplug_here(link: Link) -> None:
    """From inside: the outer end goes with the inner one."""
    with RouteSocket() as route:
        index = route.links().get(link.name)
        if index is not None:
            route.delete_link(index)


def unplug(host_name: str) -> None:
    """From the host: the inner end goes with the outer one."""
    with RouteSocket() as route:
        index = route.links().get(host_name)
        if index is not None:
            route.delete_link(index)


def _enter(pid: int) -> None:
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        ns.setns(descriptor, const.CLONE_NEWNET)
    finally:
        os.close(descriptor)


def _set(key: str, value: str, *, needed: bool = True) -> None:
    """/proc/sys shows the namespace of the thread that opens a file there, if by the thread's own name."""
    name = key if "/" in key else key.replace(".", "/")
    try:
        with open(f"/proc/thread-self/root/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)
    except FileNotFoundError:  # a kernel without IPv6
        if needed:
            raise
