"""Connections to log servers, with Go's words for what goes wrong: clients and their users know those."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SECONDS = 10.0  # for a server to answer, and to take what is sent
_LINGER_SECONDS = 0.5  # for one to take note of an end

Address = tuple[str, int]


def tcp(address: Address) -> socket.socket:
    """Raises OSError with the text of net.Dial."""
    return _dial("tcp", socket.SOCK_STREAM, address)


def udp(address: Address) -> socket.socket:
    """A datagram socket that knows its server; an ICMP refusal is told by a later send."""
    return _dial("udp", socket.SOCK_DGRAM, address)


def _dial(network: str, kind: int, address: Address) -> socket.socket:
    host, port = address
    try:
        found = socket.getaddrinfo(host or "localhost", port, type=kind)
    except OSError as error:
        raise OSError(f"dial {network}: lookup {host}: no such host") from error
    failure: OSError | None = None
    for family, _, _, _, target in found:
        connection = socket.socket(family, kind)
        connection.settimeout(SECONDS)
        try:
            connection.connect(target)
            return connection
        except OSError as error:
            connection.close()
            failure = failure or OSError(f"dial {network} {shown(str(target[0]), port)}: {_reason(error, 'connect')}")
    raise failure or OSError(f"dial {network}: lookup {host}: no such host")


@contextmanager
def within(connection: socket.socket, seconds: float) -> Iterator[None]:
    """Ends the connection when that is not over by then: a timeout holds for each byte, and a server may send one at a
    time for ever.
    """

    def end() -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def unix(path: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Raises OSError with the text of net.Dial."""
    connection = socket.socket(socket.AF_UNIX, kind)
    connection.settimeout(SECONDS)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        network = "unix" if kind == socket.SOCK_STREAM else "unixgram"
        raise OSError(f"dial {network} {path}: {_reason(error, 'connect')}") from error
    return connection


def tls(address: Address, context: ssl.SSLContext, server_name: str = "") -> ssl.SSLSocket:
    """Raises OSError."""
    connection = tcp(address)
    try:
        return context.wrap_socket(connection, server_hostname=server_name or address[0])
    except ssl.SSLCertVerificationError as error:
        connection.close()
        raise OSError(f"tls: failed to verify certificate: x509: {error.verify_message}") from error
    except OSError as error:
        connection.close()
        raise OSError(f"tls: {error.strerror or error}") from error


def client_context(ca: str = "", certificate: str = "", key: str = "", *, verify: bool = True) -> ssl.SSLContext:
    """For a client that trusts `ca` alone (the system's authorities where that is empty). Raises OSError."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if ca and verify:
            context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise OSError(f"could not read CA certificate {quoted(ca)}: {_file_reason(ca, error)}") from error
    if certificate or key:
        try:
            context.load_cert_chain(certificate, key)
        except OSError as error:
            name = certificate if not os.path.exists(certificate) else key
            raise OSError(
                f"Could not load X509 key pair: {_file_reason(name, error)}. Make sure the key is not encrypted"
            ) from error
    return context


def gone(connection: socket.socket) -> bool:
    """Whether the server has closed its end: what were written now would be lost without an error."""
    connection.setblocking(False)
    try:
        return connection.recv(1, 0 if isinstance(connection, ssl.SSLSocket) else socket.MSG_PEEK) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        with suppress(OSError):
            connection.settimeout(SECONDS)


def finish(connection: socket.socket) -> None:
    """Closes a stream so that the server gets all that was written: with unread bytes here (TLS 1.3 leaves tickets)
    the kernel would break the connection off.
    """
    with connection, suppress(OSError, ValueError):
        connection.settimeout(_LINGER_SECONDS)
        plain = connection.unwrap() if isinstance(connection, ssl.SSLSocket) else connection
        plain.shutdown(socket.SHUT_WR)
        while plain.recv(4096):
            continue


def shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def quoted(text: str) -> str:
    return f'"{text}"'


def _reason(error: OSError, call: str) -> str:
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    return f"{call}: {(error.strerror or str(error)).lower()}"


def _file_reason(path: str, error: OSError) -> str:
    return f"open {path}: {(error.strerror or str(error)).lower()}"
