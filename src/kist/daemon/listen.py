"""The daemon's sockets: unix, TCP with and without TLS, and those systemd passes (sd_listen_fds(3), sd_notify(3))."""

from __future__ import annotations

import asyncio
import grp
import os
import socket
import ssl
from collections.abc import Callable

import msgspec

from kist.http.tls import TlsProtocol
from kist.model.errors import InvalidParameter, KistError

DEFAULT_HOST = "unix:///run/kist.sock"
_FIRST_PASSED = 3
_BACKLOG = 512


class TlsFiles(msgspec.Struct, frozen=True):
    certificate: str
    key: str
    authority: str = ""
    verify: bool = False


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """Raises KistError that names the file that is missing or wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key)
        if files.verify:
            context.load_verify_locations(files.authority)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise KistError(
            f"cannot load TLS files {files.certificate}, {files.key}, {files.authority}: {error}"
        ) from error
    return context


def unix_socket(path: str, group: str) -> socket.socket:
    """A listening socket with mode 0660, owned by root and the group if there is such a group. Raises KistError."""
    if _answers(path):
        raise KistError(f"{path} is served by another process")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    old_mask = os.umask(0o117)
    try:
        if os.path.lexists(path):
            os.unlink(path)
        os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise KistError(f"cannot listen on unix://{path}: {error.strerror or error}") from error
    finally:
        os.umask(old_mask)
    os.chown(path, 0, _group_id(group))
    os.chmod(path, 0o660)
    listener.listen(_BACKLOG)
    return listener


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _group_id(group: str) -> int:
    """The group's number; root's when there is none of that name, as dockerd does it for its default."""
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group != "docker":
            raise KistError(f"group {group} not found") from None
        return 0


def tcp_sockets(address: str) -> list[socket.socket]:
    """Raises InvalidParameter, KistError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise InvalidParameter(f"invalid bind address (tcp://{address}): a port is missing")
    found = []
    try:
        for family, kind, protocol, _, where in socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            listener = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
            found.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(where)
            listener.listen(_BACKLOG)
    except OSError as error:
        for listener in found:
            listener.close()
        raise KistError(f"cannot listen on tcp://{address}: {error.strerror or error}") from error
    return found


def passed_sockets() -> list[socket.socket]:
    """Those of socket activation. Raises KistError when there are none."""
    count = int(os.environ.get("LISTEN_FDS", "0"))
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or count == 0:
        raise KistError("no sockets found via socket activation: make sure the service was started by systemd")
    found = []
    for number in range(_FIRST_PASSED, _FIRST_PASSED + count):
        os.set_inheritable(number, False)
        found.append(socket.socket(fileno=number))
    return found


async def serve(
    hosts: tuple[str, ...], group: str, tls: TlsFiles | None, factory: Callable[[], asyncio.Protocol]
) -> list[asyncio.Server]:
    """Opens every socket, or none. Raises KistError, InvalidParameter for an address of another kind."""
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []
    try:
        for host in hosts or (DEFAULT_HOST,):
            for listener, encrypted in _open(host, group, tls is not None):
                context = tls_context(tls) if encrypted and tls is not None else None
                server = await loop.create_server(_encrypting(context, factory), sock=listener) if (
                    listener.family != socket.AF_UNIX
                ) else await loop.create_unix_server(factory, sock=listener)  # fmt: skip
                servers.append(server)
    except BaseException:
        for server in servers:
            server.close()
        raise
    return servers


def _encrypting(
    context: ssl.SSLContext | None, factory: Callable[[], asyncio.Protocol]
) -> Callable[[], asyncio.Protocol]:
    return factory if context is None else lambda: TlsProtocol(context, factory)


def _open(host: str, group: str, tls: bool) -> list[tuple[socket.socket, bool]]:
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "tcp", host
    if scheme == "unix":
        return [(unix_socket(rest or "/run/kist.sock", group), False)]
    if scheme == "tcp":
        default = 2376 if tls else 2375
        address = rest if rest.rpartition(":")[2].isdigit() and ":" in rest else f"{rest or '127.0.0.1'}:{default}"
        return [(listener, tls) for listener in tcp_sockets(address)]
    if scheme == "fd":
        return [(listener, tls and listener.family != socket.AF_UNIX) for listener in passed_sockets()]
    raise InvalidParameter(f"invalid bind address ({host}): use unix://, tcp:// or fd://")


def notify(message: str) -> None:
    """sd_notify(3); nothing when systemd did not ask for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return
