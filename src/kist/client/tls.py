"""TLS for tcp:// hosts: Docker's three files in one directory."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from kist.model.errors import KistError


def wrapper(directory: str) -> Callable[[socket.socket, str], socket.socket]:
    """Wraps a connection; the server must be signed by ca.pem. Raises KistError that names the directory."""
    try:
        context = ssl.create_default_context(cafile=f"{directory}/ca.pem")
        context.load_cert_chain(f"{directory}/cert.pem", f"{directory}/key.pem")
    except (OSError, ssl.SSLError) as error:
        raise KistError(
            f"unable to resolve docker endpoint: could not load TLS files from {directory}: {error}"
        ) from error
    return lambda connection, name: context.wrap_socket(connection, server_hostname=name.strip("[]"))
