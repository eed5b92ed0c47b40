"""Driver `splunk`: the HTTP Event Collector, events in batches, plain or by gzip."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from kist.shipper import dial, values
from kist.shipper.driver import Driver, Entry, Failed, Info, Refused

_OPTIONS = (
    *("url", "token", "source", "sourcetype", "index", "capath", "caname", "insecureskipverify", "format"),
    *("verify-connection", "gzip", "gzip-level", "index-acknowledgment"),
)
_PATH = "/services/collector/event/1.0"
_BATCH = 1000  # events in a request, as Docker has it
_ANSWER_SECONDS = 3 * dial.SECONDS  # for a request and all of its answer
_MOST_READ = 64 * 1024  # bytes of an answer
_MOST_TOLD = 1024  # bytes of an answer in an error
_LATER = (http.client.REQUEST_TIMEOUT, http.client.TOO_MANY_REQUESTS)
_Connection = http.client.HTTPConnection


class _NeverError(OSError):
    """The server has understood, and does not want this."""


class Splunk(Driver):
    def __init__(self, info: Info) -> None:
        super().__init__(info)
        options = info.options
        self.check(options)
        self._url = urlsplit(options["splunk-url"])
        self._format = options.get("splunk-format", "inline")
        self._zipped = values.boolean(options.get("splunk-gzip", "false"))
        self._level = int(options.get("splunk-gzip-level", "-1"))
        self._tag = info.tag if options.get("tag", "x") else ""  # an empty tag is none here
        self._envelope = {
            "host": info.hostname or os.uname().nodename,
            **{key: options[f"splunk-{key}"] for key in ("source", "sourcetype", "index")
               if options.get(f"splunk-{key}")},
        }  # fmt: skip
        self._connection: _Connection | None = None

    @classmethod
    def validate(cls, options: dict[str, str]) -> None:
        for key in options:
            if key.removeprefix("splunk-") not in _OPTIONS or not key.startswith("splunk-"):
                raise ValueError(f"unknown log opt '{key}' for splunk log driver")
        cls.check(options)

    @staticmethod
    def check(options: dict[str, str]) -> None:
        """The values. Raises ValueError with Docker's texts."""
        _check_url(options)
        if "splunk-token" not in options:
            raise ValueError("splunk: splunk-token is expected")
        for key in ("insecureskipverify", "gzip", "index-acknowledgment", "verify-connection"):
            if f"splunk-{key}" in options:
                values.boolean(options[f"splunk-{key}"])
        text = options.get("splunk-gzip-level", "-1")
        if not -1 <= values.integer(text, "ParseInt") <= 9:
            raise ValueError(f"not supported level '{text}' for splunk-gzip-level (supported values between -1 and 9)")
        name = options.get("splunk-format", "inline")
        if name not in ("inline", "json", "raw"):
            raise ValueError(f"unknown format specified {name}, supported formats are inline, json and raw")

    def connect(self) -> None:
        self.close()
        options = self.info.options
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            context = dial.client_context(
                options.get("splunk-capath", ""),
                verify=not values.boolean(options.get("splunk-insecureskipverify", "false")),
            )
            self._connection = _Named(
                host, port or 443, context=context, timeout=dial.SECONDS, name=options.get("splunk-caname", "")
            )
        else:
            self._connection = _Connection(host, port or 80, timeout=dial.SECONDS)
        if values.boolean(options.get("splunk-verify-connection", "true")):
            self._ask("OPTIONS", b"", {}, "failed to verify connection")

    def send(self, entries: Sequence[Entry]) -> None:
        if self._connection is None:
            self.connect()
        for start in range(0, len(entries), _BATCH):
            batch = entries[start : start + _BATCH]
            body = b"".join(map(self.event, batch))
            headers = {"Authorization": f"Splunk {self.info.options['splunk-token']}"}
            if self._zipped:
                body = gzip.compress(body, self._level if self._level >= 0 else 6)
                headers["Content-Encoding"] = "gzip"
            if values.boolean(self.info.options.get("splunk-index-acknowledgment", "false")):
                headers["X-Splunk-Request-Channel"] = str(uuid.uuid4())
            try:
                if body:
                    self._ask("POST", body, headers, "failed to send event")
            except _NeverError as error:
                raise Refused(str(error), start, len(batch)) from error
            except OSError as error:
                raise Failed(str(error), start) from error

    def _ask(self, method: str, body: bytes, headers: dict[str, str], problem: str) -> None:
        """Raises OSError unless the answer is 200; _NeverError when it would be no other another time."""
        connection = self._connection
        assert connection is not None
        try:
            if connection.sock is None:
                connection.connect()
            with dial.within(connection.sock, _ANSWER_SECONDS):
                connection.request(method, _PATH, body, headers)
                answer = connection.getresponse()
                told = answer.read(_MOST_READ)
            if not answer.isclosed():
                self.close()  # there is more of it than anybody wants
        except (OSError, http.client.HTTPException) as error:
            self.close()
            address = f"{self._url.scheme}://{self._url.netloc}{_PATH}"
            target = dial.shown(self._url.hostname or "", connection.port)
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise OSError(f'{method.title()} "{address}": dial tcp {target}: connect: {reason}') from error
        if answer.status != http.client.OK:
            self.close()
            text = told[:_MOST_TOLD].decode("utf-8", "replace")
            kind = _NeverError if answer.status // 100 == 4 and answer.status not in _LATER else OSError
            raise kind(f"splunk: {problem} - {answer.status} {answer.reason} - {text}")

    def event(self, entry: Entry) -> bytes:
        """One line as the collector takes it; raw text of nothing but white space it does not take."""
        line = entry.line.decode("utf-8", "replace")
        event: Any = {"line": line, "source": entry.source}
        if self._format == "raw":
            if not line.strip():
                return b""
            words = [self._tag] if self._tag else []
            event = " ".join([*words, *(f"{key}={value}" for key, value in self.info.extra.items()), line])
        else:
            if self._format == "json":
                event["line"] = _json(line)
            event |= {"tag": self._tag} if self._tag else {}
            event |= {"attrs": self.info.extra} if self.info.extra else {}
        message = {"event": event, "time": f"{entry.time / 1e9:.6f}", **self._envelope}
        return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Named(http.client.HTTPSConnection):
    """A server whose certificate is for another name than its address (splunk-caname)."""

    def __init__(self, host: str, port: int, *, context: Any, timeout: float, name: str) -> None:
        super().__init__(host, port, context=context, timeout=timeout)
        self._name, self._tls = name, context

    def connect(self) -> None:
        self.sock = dial.tls((self.host, self.port), self._tls, self._name)


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line


def _check_url(options: dict[str, str]) -> None:
    if "splunk-url" not in options:
        raise ValueError("splunk: splunk-url is expected")
    text = options["splunk-url"]
    try:
        found = urlsplit(text)
        found.port  # noqa: B018  read for what it raises
    except ValueError as error:
        raise ValueError(f"splunk: failed to parse {text} as url value in splunk-url") from error
    wrong = found.scheme not in ("http", "https") or found.path not in ("", "/") or found.query or found.fragment
    if wrong or not found.netloc:
        raise ValueError("splunk: expected format scheme://dns_name_or_ip:port for splunk-url")
