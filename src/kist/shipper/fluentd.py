"""Driver `fluentd`: the forward protocol, one entry in msgpack per line, over TCP, TLS or a unix socket."""

from __future__ import annotations

import base64
import secrets
import socket
import struct
import time
from collections.abc import Sequence

import msgspec

from kist.shipper import dial, values
from kist.shipper.driver import Driver, Entry, Failed, Info

_OPTIONS = (
    *("fluentd-address", "fluentd-async", "fluentd-async-reconnect-interval", "fluentd-buffer-limit"),
    *("fluentd-max-retries", "fluentd-request-ack", "fluentd-retry-wait", "fluentd-sub-second-precision"),
    *("fluentd-write-timeout", "fluentd-read-timeout"),
)
_DEFAULT_HOST, _DEFAULT_PORT = "127.0.0.1", 24224
_EVENT_TIME = 0  # extension type: seconds and nanoseconds, big endian
_AT_ONCE = 64 * 1024  # bytes in one write


class Config(msgspec.Struct, frozen=True):
    """The options, read. Seconds and bytes; `None`: not given."""

    scheme: str
    host: str
    port: int
    path: str
    asynchronous: bool = False
    reconnect: float = 0.0
    buffer_limit: int | None = None
    max_retries: int | None = None
    retry_wait: float | None = None
    sub_second: bool = False
    acknowledge: bool = False
    write_timeout: float = 0.0
    read_timeout: float = 0.0


class Fluentd(Driver):
    def __init__(self, info: Info) -> None:
        super().__init__(info)
        self._config = config = parse(info.options)
        self.retry_wait, self.max_retries = config.retry_wait, config.max_retries
        self.buffer_limit = config.buffer_limit if config.asynchronous else None
        self._connection: socket.socket | None = None
        self._since = 0.0  # when it was made
        self._record = {"container_id": info.id, "container_name": f"/{info.name}", **info.extra}

    @classmethod
    def validate(cls, options: dict[str, str]) -> None:
        for key in options:
            if key not in _OPTIONS:
                raise ValueError(f"unknown log opt '{key}' for fluentd log driver")
        parse(options)

    @classmethod
    def is_asynchronous(cls, options: dict[str, str]) -> bool:
        return parse(options).asynchronous

    def connect(self) -> None:
        self.close()
        config = self._config
        if config.scheme == "unix":
            self._connection = dial.unix(config.path)
        elif config.scheme == "tls":
            self._connection = dial.tls((config.host, config.port), dial.client_context())
        else:
            self._connection = dial.tcp((config.host, config.port))
        self._since = time.monotonic()

    def send(self, entries: Sequence[Entry]) -> None:
        if self._config.reconnect and time.monotonic() - self._since > self._config.reconnect:
            self.close()
        if self._connection is None or (not self._config.acknowledge and dial.gone(self._connection)):
            self.connect()
        assert self._connection is not None
        sent = 0
        try:
            while sent < len(entries):
                sent += self._post(self._connection, entries[sent:])
        except (OSError, ValueError, msgspec.DecodeError) as error:
            self.close()
            raise Failed(f"fluent#write: {error}", sent) from error

    def _post(self, connection: socket.socket, entries: Sequence[Entry]) -> int:
        """Some of the entries, in one write; how many. The server says of each that it has it, where that is asked."""
        data, chunks = b"", []
        for entry in entries:
            chunk = _unique(entry.time) if self._config.acknowledge else ""
            data += self.message(entry, chunk)
            chunks.append(chunk)
            if len(data) > _AT_ONCE:
                break
        connection.settimeout(self._config.write_timeout or dial.SECONDS)
        connection.sendall(data)
        if self._config.acknowledge:
            self._await(connection, chunks)
        return len(chunks)

    def message(self, entry: Entry, chunk: str) -> bytes:
        """[tag, time, record, option]."""
        when: object = entry.time // 10**9
        if self._config.sub_second:
            when = msgspec.msgpack.Ext(_EVENT_TIME, struct.pack(">II", *divmod(entry.time, 10**9)))
        record = {**self._record, "source": entry.source, "log": entry.line.decode("utf-8", "replace")}
        if entry.partial is not None:
            record["partial_message"] = "true"
            record["partial_id"] = entry.partial.id
            record["partial_ordinal"] = str(entry.partial.ordinal)
            record["partial_last"] = str(entry.partial.last).lower()
        return msgspec.msgpack.encode([self.info.tag, when, record, {"chunk": chunk} if chunk else {}])

    def _await(self, connection: socket.socket, chunks: list[str]) -> None:
        """Acknowledgements come in the order of the messages, each a map with `ack`."""
        until = time.monotonic() + (self._config.read_timeout or dial.SECONDS)
        expected = [msgspec.msgpack.encode({"ack": chunk}) for chunk in chunks]
        wanted = b"".join(expected)
        while wanted:
            connection.settimeout(max(0.001, until - time.monotonic()))
            data = connection.recv(len(wanted))
            if not data:
                raise OSError("the connection was closed before the acknowledgement")
            if not wanted.startswith(data):
                raise ValueError("an acknowledgement is not the expected one")
            wanted = wanted[len(data) :]

    def close(self) -> None:
        if self._connection is not None:
            dial.finish(self._connection)
            self._connection = None


def _unique(nanoseconds: int) -> str:
    return base64.b64encode(struct.pack("<q", nanoseconds // 10**9) + secrets.token_bytes(8)).decode()


def parse(options: dict[str, str]) -> Config:
    """Raises ValueError with Docker's texts."""
    given = {key: value for key, value in options.items() if value}
    text = given.get("fluentd-address", "")
    try:
        scheme, host, port, path = _address(text)
    except ValueError as error:
        raise ValueError(f"invalid fluentd-address ({text}): {error}") from error
    limit = given.get("fluentd-buffer-limit")
    wait = given.get("fluentd-retry-wait")
    return Config(
        scheme,
        host,
        port,
        path,
        asynchronous=values.boolean(given.get("fluentd-async", "false")),
        reconnect=_reconnect(given.get("fluentd-async-reconnect-interval", "0")),
        buffer_limit=values.size(limit, 1024) if limit else None,
        max_retries=_retries(given.get("fluentd-max-retries", "")),
        retry_wait=values.duration(wait) if wait else None,
        sub_second=values.boolean(given.get("fluentd-sub-second-precision", "false")),
        acknowledge=values.boolean(given.get("fluentd-request-ack", "false")),
        write_timeout=_timeout("fluentd-write-timeout", given),
        read_timeout=_timeout("fluentd-read-timeout", given),
    )


def _retries(text: str) -> int | None:
    if not text:
        return None
    number = values.integer(text, "ParseUint") if text[0] not in "+-" else -1
    if number < 0:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if number > 2**32 - 1:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    if number > 2**31 - 1:
        raise ValueError("invalid fluentd-max-retries: value out of range")
    return number or None


def _reconnect(text: str) -> float:
    key = "fluentd-async-reconnect-interval"
    try:
        seconds = values.duration(text)
    except ValueError as error:
        raise ValueError(f"invalid value for {key}: {error}") from error
    if seconds and not 0.1 <= seconds <= 10:
        raise ValueError(f'invalid value for {key}: value ("{text}") must be between 100ms and 10s')
    return seconds


def _timeout(key: str, given: dict[str, str]) -> float:
    try:
        seconds = values.duration(given.get(key, "0"))
    except ValueError as error:
        raise ValueError(f"invalid value for {key}: value must be a duration: {error}") from error
    if seconds < 0:
        raise ValueError(f"invalid value for {key}: value must be a duration that is non-negative")
    return seconds


def _address(text: str) -> tuple[str, str, int, str]:
    """(scheme, host, port, path)."""
    if not text:
        return "tcp", _DEFAULT_HOST, _DEFAULT_PORT, ""
    found = values.url(text if "://" in text else f"tcp://{text}")
    if found.scheme == "unix":
        if not found.path.lstrip("/"):
            raise ValueError("path is empty")
        return "unix", "", 0, found.path
    if found.scheme not in ("tcp", "tls"):
        raise ValueError(f"unsupported scheme: '{found.scheme}'")
    if found.path:
        raise ValueError("should not contain a path element")
    return found.scheme, found.hostname or _DEFAULT_HOST, found.port or _DEFAULT_PORT, ""
