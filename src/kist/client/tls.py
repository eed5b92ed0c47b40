"""TLS to tcp:// hosts. A half-closed stream keeps its other direction, which ssl.SSLSocket cannot do."""

from __future__ import annotations

import socket
import ssl

from kist.client.hosts import TlsFiles, check_files
from kist.client.http import Endpoint, Stream, Unreachable
from kist.model.errors import KistError

_CHUNK = 1 << 16


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Raises KistError with Docker's texts."""
    check_files(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # as Go: only the names of subjectAltName count
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if files.authority:
            context.load_verify_locations(files.authority)
        elif files.verify:
            context.load_default_certs()
    except ssl.SSLError as error:
        raise KistError("failed to retrieve context tls info: ca.pem seems invalid") from error
    try:
        if files.certificate and files.key:
            context.load_cert_chain(files.certificate, files.key, _no_password)
    except (ssl.SSLError, ValueError) as error:
        raise KistError(f"failed to retrieve context tls info: {error}") from error
    return context


def _no_password() -> str:
    """Without this OpenSSL would ask on the terminal."""
    raise ValueError("private key is encrypted - support for encrypted private keys has been removed")


class TlsEndpoint(Endpoint):
    """A daemon behind TLS."""

    def __init__(self, host: str, files: TlsFiles) -> None:
        super().__init__(host)
        self._context = client_context(files)

    def connect(self) -> Stream:
        plain = self._plain()
        name = self.host.partition("://")[2].partition("/")[0].rpartition(":")[0].strip("[]")
        try:
            return TlsStream(plain, self._context, name or "localhost")
        except OSError as error:
            plain.close()
            raise Unreachable(told(error, self.host)) from error


def told(error: OSError, host: str) -> str:
    """A failure of TLS in one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"tls: failed to verify certificate: x509: {error.verify_message}"
    elif isinstance(error, ssl.SSLError):
        reason = f"tls: {(error.reason or str(error)).lower().replace('_', ' ')}"
    else:
        reason = error.strerror or str(error)
    return f"error during connect: {host.replace('tcp://', 'https://', 1)}: {reason}"


class TlsStream:
    """An encrypted connection. `recv` gives all that is decrypted, so that poll(2) on the socket misses nothing."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, name: str) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._shake_hands()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
                continue
            finally:
                self._flush()  # an alert must leave too
            return

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._plain.sendall(self._outgoing.read())

    def _receive(self) -> None:
        data = self._plain.recv(_CHUNK)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def fileno(self) -> int:
        return self._plain.fileno()

    def recv(self, size: int, /) -> bytes:
        """Waits for some bytes, b"" at the end. Raises Unreachable when the daemon ends it with an alert."""
        found = b""
        while True:
            try:
                data = self._object.read(_CHUNK)
            except ssl.SSLWantReadError:
                self._flush()
                if found:
                    return found
                self._receive()
                continue
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):  # no close_notify: the end all the same
                return found
            except ssl.SSLError as error:
                raise Unreachable(f"error during connect: remote error: tls: {_alert(error)}") from error
            if not data:
                return found
            found += data

    def sendall(self, data: bytes, /) -> None:
        view = memoryview(data)
        while view:
            view = view[self._object.write(view) :]
            self._flush()

    def shutdown(self, how: int, /) -> None:
        """SHUT_WR sends close_notify (RFC 8446, 6.1); the other side may go on sending."""
        if how != socket.SHUT_WR:
            self._plain.shutdown(how)
            return
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # it wants the other side's close_notify too, which recv waits for
        self._flush()

    def close(self) -> None:
        self._plain.close()


def _alert(error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).lower()
    return reason.partition("alert_")[2].replace("_", " ") or reason.replace("_", " ")
