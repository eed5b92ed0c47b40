"""Sockets of other network namespaces (network_namespaces(7)), where they stay, whoever has them."""

from __future__ import annotations

import fcntl
import os
import socket
import threading

from kist.kernel import const, ns

_SIOCGSKNS = 0x894C  # linux/sockios.h


def namespace_of(sock: socket.socket) -> int:
    """A descriptor of the network namespace of a socket, to be closed by the caller. Raises OSError."""
    descriptor = fcntl.ioctl(sock.fileno(), _SIOCGSKNS)
    os.set_inheritable(descriptor, False)
    return descriptor


def socket_beside(sock: socket.socket, family: int, kind: int) -> socket.socket:
    """A new socket in the network namespace of another, not blocking. Raises OSError.

    A thread goes there and ends, so that nobody ever runs on in the wrong namespace. 0.15 ms; it blocks so long.
    """
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            namespace = namespace_of(sock)
            try:
                ns.setns(namespace, const.CLONE_NEWNET)
            finally:
                os.close(namespace)
            made.append(socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make, name="netns")
    thread.start()
    thread.join()
    (result,) = made
    if isinstance(result, OSError):
        raise result
    return result
