"""Driver `syslog`: RFC 3164 and RFC 5424 messages over UDP, TCP, TLS (RFC 5425) and unix sockets."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from urllib.parse import SplitResult

from kist.shipper import dial, values
from kist.shipper.driver import Driver, Entry, Failed, Info

_OPTIONS = frozenset(
    {"syslog-address", "syslog-facility", "syslog-format"}
    | {"syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify"}
)
_FACILITIES = ("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp")
_NUMBERS = {name: number for number, name in enumerate(_FACILITIES)} | {f"local{n}": 16 + n for n in range(8)}
_DAEMON, _ERR, _INFO, _DEFAULT_PORT = 3, 3, 6, 514
_LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")


class Syslog(Driver):
    def __init__(self, info: Info) -> None:
        super().__init__(info)
        options = info.options
        self._scheme, self._target = _address(options.get("syslog-address", ""))
        self._facility = _facility(options.get("syslog-facility", ""))
        self._format = options.get("syslog-format", "")
        self._connection: socket.socket | None = None
        self._hostname = ""

    @classmethod
    def validate(cls, options: dict[str, str]) -> None:
        for key in options:
            if key not in _OPTIONS:
                raise ValueError(f"unknown log opt '{key}' for syslog log driver")
        _address(options.get("syslog-address", ""))
        _facility(options.get("syslog-facility", ""))
        if options.get("syslog-format", "") not in _FORMATS:
            raise ValueError("Invalid syslog format")

    def connect(self) -> None:
        self.close()
        self._connection = self._dial()
        self._hostname = socket.gethostname()

    def _dial(self) -> socket.socket:
        options = self.info.options
        if not self._scheme:
            return _local()
        if self._scheme in ("unix", "unixgram"):
            return dial.unix(self._target[0], socket.SOCK_STREAM if self._scheme == "unix" else socket.SOCK_DGRAM)
        if self._scheme == "udp":
            return dial.udp(self._target)
        if self._scheme == "tcp":
            return dial.tcp(self._target)
        names = ("syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key")
        context = dial.client_context(
            *(options.get(name, "") for name in names), verify="syslog-tls-skip-verify" not in options
        )
        return dial.tls(self._target, context)

    def send(self, entries: Sequence[Entry]) -> None:
        connection = self._connection
        if connection is None or (connection.type == socket.SOCK_STREAM and dial.gone(connection)):
            self.connect()
            connection = self._connection
        assert connection is not None
        for number, entry in enumerate(entries):
            if not entry.line:
                continue
            try:
                connection.sendall(self._message(entry))
            except OSError as error:
                self.close()
                raise Failed(f"syslog: {error.strerror or error}", number) from error

    def _message(self, entry: Entry) -> bytes:
        priority = self._facility << 3 | (_ERR if entry.source == "stderr" else _INFO)
        tag, pid = self.info.tag, os.getpid()
        if self._format.startswith("rfc5424"):
            stamp = _rfc3339(entry.time, micro=self._format.endswith("micro"))
            text = f"<{priority}>1 {stamp} {self._hostname} {tag} {pid} {tag} - "
        else:
            host = f"{self._hostname} " if self._format else ""
            text = f"<{priority}>{_stamp(entry.time)} {host}{tag}[{pid}]: "
        message = text.encode() + entry.line + b"\n"
        if self._scheme == "tcp+tls" and self._format.startswith("rfc5424"):
            return b"%d %s" % (len(message), message)
        return message

    def close(self) -> None:
        if self._connection is not None:
            dial.finish(self._connection)
            self._connection = None


def _stamp(nanoseconds: int) -> str:
    """Go's time.Stamp, local time."""
    now = time.localtime(nanoseconds // 10**9)
    return f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"


def _rfc3339(nanoseconds: int, *, micro: bool) -> str:
    """With six digits of a second or none, local time."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    now = time.localtime(seconds)
    head = time.strftime("%Y-%m-%dT%H:%M:%S", now) + (f".{fraction // 1000:06}" if micro else "")
    if not now.tm_gmtoff:
        return f"{head}Z"
    sign, minutes = "-" if now.tm_gmtoff < 0 else "+", abs(now.tm_gmtoff) // 60
    return f"{head}{sign}{minutes // 60:02}:{minutes % 60:02}"


def _local() -> socket.socket:
    """The daemon of this machine, wherever its socket is."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        for path in _LOCAL:
            try:
                return dial.unix(path, kind)
            except OSError:
                continue
    raise OSError("Unix syslog delivery error")


def _address(text: str) -> tuple[str, dial.Address]:
    """(scheme, host and port, or a path in the host's place); an empty scheme is the local daemon."""
    if not text:
        return "", ("", 0)
    found: SplitResult = values.url(text)
    if found.scheme in ("unix", "unixgram"):
        if not os.path.exists(found.path):
            raise ValueError(f"stat {found.path}: no such file or directory")
        return found.scheme, (found.path, 0)
    if found.scheme not in ("udp", "tcp", "tcp+tls"):
        raise ValueError(f"unsupported scheme: '{found.scheme}'")
    return found.scheme, (found.hostname or "", found.port or _DEFAULT_PORT)


def _facility(text: str) -> int:
    if not text:
        return _DAEMON
    if text in _NUMBERS:
        return _NUMBERS[text]
    try:
        number = values.integer(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 23:
        raise ValueError("invalid syslog facility")
    return number
