"""Driver `journald`: systemd's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) on its datagram socket."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import struct
from collections.abc import Sequence

from kist.model.timestamp import rfc3339
from kist.shipper.driver import Driver, Entry, Failed, Info

SOCKET = "/run/systemd/journal/socket"
_ERR, _INFO = "3", "6"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Journald(Driver):
    def __init__(self, info: Info) -> None:
        super().__init__(info)
        self._socket: socket.socket | None = None
        self._ordinal = 0
        self._fields = {
            "CONTAINER_ID": info.id[:12],
            "CONTAINER_ID_FULL": info.id,
            "CONTAINER_NAME": info.name,
            "CONTAINER_TAG": info.tag,
            "IMAGE_NAME": info.image,
            "SYSLOG_IDENTIFIER": info.tag,
            "CONTAINER_LOG_EPOCH": secrets.token_hex(32),
            **{field_name(key): value for key, value in info.extra.items()},
        }

    @classmethod
    def validate(cls, options: dict[str, str]) -> None:
        for key in options:
            raise ValueError(f"unknown log opt '{key}' for journald log driver")

    def connect(self) -> None:
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            connection.connect(SOCKET)
        except OSError as error:
            connection.close()
            raise OSError("journald is not enabled on this host") from error
        self._socket = connection

    def send(self, entries: Sequence[Entry]) -> None:
        if self._socket is None:
            self.connect()
        assert self._socket is not None
        for number, entry in enumerate(entries):
            try:
                send_fields(self._socket, self._of(entry))
            except OSError as error:
                self.close()
                raise Failed(f"journald: {error.strerror or error}", number) from error

    def _of(self, entry: Entry) -> list[tuple[str, bytes]]:
        self._ordinal += 1
        fields = {
            "PRIORITY": _ERR if entry.source == "stderr" else _INFO,
            **self._fields,
            "SYSLOG_TIMESTAMP": rfc3339(entry.time),
            "CONTAINER_LOG_ORDINAL": str(self._ordinal),
        }
        if entry.partial is not None:
            fields["CONTAINER_PARTIAL_ID"] = entry.partial.id
            fields["CONTAINER_PARTIAL_ORDINAL"] = str(entry.partial.ordinal)
            fields["CONTAINER_PARTIAL_LAST"] = str(entry.partial.last).lower()
            if not entry.partial.last:
                fields["CONTAINER_PARTIAL_MESSAGE"] = "true"
        return [("MESSAGE", entry.line), *((key, value.encode()) for key, value in fields.items() if key)]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def field_name(key: str) -> str:
    """A label's or variable's name as a field may be called: upper case, digits, inner underscores."""
    name = "".join(one.upper() if one.isascii() and one.isalnum() else "_" for one in key)
    return name.lstrip("_")


def encode_fields(fields: list[tuple[str, bytes]]) -> bytes:
    """One line a field, or name, length and bytes where there is a newline."""
    return b"".join(
        b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value)
        if b"\n" in value
        else b"%s=%s\n" % (name.encode(), value)
        for name, value in fields
    )


def send_fields(connection: socket.socket, fields: list[tuple[str, bytes]]) -> None:
    """As one datagram, or as a sealed file where that is too large. Raises OSError."""
    data = encode_fields(fields)
    try:
        connection.send(data)
        return
    except OSError as error:
        if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
            raise
    memory = os.memfd_create("kist-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(memory, data)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
        socket.send_fds(connection, [b""], [memory])
    finally:
        os.close(memory)
