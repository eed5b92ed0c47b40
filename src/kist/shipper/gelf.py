"""Driver `gelf`: Graylog's JSON over UDP, compressed and in chunks, or over TCP, each message ended by a zero byte."""

from __future__ import annotations

import gzip
import json
import os
import secrets
import socket
import zlib
from collections.abc import Sequence

from kist.shipper import dial, values
from kist.shipper.driver import Driver, Entry, Failed, Info

_CHUNK, _HEADER, _MOST_CHUNKS = 1420, 12, 128  # bytes; Graylog takes no more chunks
_MAGIC = b"\x1e\x0f"
_ERR, _INFO = 3, 6
_UDP_ONLY = ("gelf-compression-level", "gelf-compression-type")
_TCP_ONLY = ("gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay")


class Gelf(Driver):
    def __init__(self, info: Info) -> None:
        super().__init__(info)
        self._scheme, self._target = _address(info.options.get("gelf-address", ""))
        self._compression = info.options.get("gelf-compression-type", "gzip")
        self._level = int(info.options.get("gelf-compression-level", "1"))
        self._connection: socket.socket | None = None
        self._extra = {
            "_container_id": info.id,
            "_container_name": info.name,
            "_image_id": info.image_id,
            "_image_name": info.image,
            "_command": info.command,
            "_tag": info.tag,
            "_created": info.created,
            **{key if key.startswith("_") else f"_{key}": value for key, value in info.extra.items()},
        }

    @classmethod
    def validate(cls, options: dict[str, str]) -> None:
        scheme, _ = _address(options.get("gelf-address", ""))
        for key, value in options.items():
            if key in _UDP_ONLY:
                if scheme != "udp":
                    raise ValueError("compression is only supported on UDP")
                if not (value in _LEVELS if key.endswith("level") else value in ("gzip", "zlib", "none")):
                    raise ValueError(f'unknown value "{value}" for log opt "{key}" for gelf log driver')
            elif key in _TCP_ONLY:
                if scheme != "tcp":
                    raise ValueError(f'"{key}" is only valid for TCP')
                if not value.isdecimal():
                    raise ValueError(f'"{key}" must be a positive integer')
            elif key != "gelf-address":
                raise ValueError(f'unknown log opt "{key}" for gelf log driver')

    def connect(self) -> None:
        self.close()
        try:
            self._connection = dial.udp(self._target) if self._scheme == "udp" else dial.tcp(self._target)
        except OSError as error:
            address = dial.shown(*self._target)
            raise OSError(f"gelf: cannot connect to GELF endpoint: {address} {error}") from error

    def send(self, entries: Sequence[Entry]) -> None:
        if self._connection is None or (self._scheme == "tcp" and dial.gone(self._connection)):
            self.connect()
        assert self._connection is not None
        for number, entry in enumerate(entries):
            if not entry.line:
                continue
            try:
                self._post(self._connection, self.message(entry))
            except OSError as error:
                self.close()
                raise Failed(f"gelf: cannot send GELF message: {error.strerror or error}", number) from error

    def message(self, entry: Entry) -> bytes:
        body = {
            "version": "1.1",
            "host": self.info.hostname or os.uname().nodename,
            "short_message": entry.line.decode("utf-8", "replace"),
            "timestamp": entry.time // 10**6 / 1000,
            "level": _ERR if entry.source == "stderr" else _INFO,
            **self._extra,
        }
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()

    def _post(self, connection: socket.socket, message: bytes) -> None:
        if self._scheme == "tcp":
            connection.sendall(message + b"\x00")
            return
        for datagram in chunks(self._compress(message)):
            connection.send(datagram)

    def _compress(self, message: bytes) -> bytes:
        if self._compression == "gzip":
            level = self._level if self._level >= 0 else 6
            return gzip.compress(message, level, mtime=0)
        return zlib.compress(message, self._level) if self._compression == "zlib" else message

    def close(self) -> None:
        if self._connection is not None:
            dial.finish(self._connection)
            self._connection = None


_LEVELS = tuple(str(level) for level in range(-1, 10))


def chunks(message: bytes) -> list[bytes]:
    """A message as datagrams: itself, or pieces with magic, id, number and count. None where that takes too many."""
    if len(message) <= _CHUNK:
        return [message]
    room = _CHUNK - _HEADER
    count = -(-len(message) // room)
    if count > _MOST_CHUNKS:
        return []  # one that could never be sent holds up all behind it; docker logs has it
    head = _MAGIC + secrets.token_bytes(8)
    return [head + bytes((number, count)) + message[number * room : (number + 1) * room] for number in range(count)]


def _address(text: str) -> tuple[str, dial.Address]:
    if not text:
        raise ValueError("gelf-address is a required parameter")
    found = values.url(text)
    if found.scheme not in ("udp", "tcp"):
        raise ValueError("gelf: endpoint needs to be TCP or UDP")
    if found.port is None:
        raise ValueError("gelf: please provide gelf-address as proto://host:port")
    return found.scheme, (found.hostname or "", found.port)
