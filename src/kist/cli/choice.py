"""Which daemon a command line means: -H, the environment, a context, or the default socket.

The order is Docker's, with kist's own variables before Docker's: --context, --host, KIST_HOST, KIST_CONTEXT,
DOCKER_HOST, DOCKER_CONTEXT, currentContext of config.json. This module stands on the path of every command: what only
some ways need is imported where it is needed.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from kist.cli.parse import Parsed
from kist.client.http import Endpoint
from kist.model.errors import KistError

DEFAULT_SOCKET = "/run/kist.sock"
DEFAULT = "default"  # the name of the context that stands for everything but stored contexts


class Choice:
    """The global options and the environment."""

    def __init__(self, options: Parsed) -> None:
        self._options = options
        self.directory = options.config or os.environ.get("DOCKER_CONFIG", "") or os.path.expanduser("~/.docker")
        self._config: Any = None
        self._name = ""

    def check(self) -> None:
        """Raises KistError for options that contradict each other."""
        if self._options.host and self._options.context:
            raise KistError("conflicting options: cannot specify both --host and --context")

    @property
    def host_variable(self) -> str:
        """The variable that names a host: KIST_HOST, DOCKER_HOST, or "" when there is none."""
        return next((name for name in ("KIST_HOST", "DOCKER_HOST") if os.environ.get(name)), "")

    @property
    def config(self) -> Any:
        """The ConfigFile of the command."""
        if self._config is None:
            from kist.client.configfile import ConfigFile

            self._config = ConfigFile(self.directory)
        return self._config

    def format(self, key: str) -> str:
        """The template that config.json has for a listing: `psFormat`, `imagesFormat`, …, or ""."""
        return str(self.setting(key) or "")

    def setting(self, key: str) -> Any:
        """A value of config.json, None without one."""
        return self.config.get(key) if os.path.exists(f"{self.directory}/config.json") else None

    @property
    def headers(self) -> dict[str, str]:
        """HttpHeaders of config.json, for every request. User-Agent is the command's own."""
        found = self.setting("HttpHeaders") or {}
        return {str(name): str(value) for name, value in found.items() if name.lower() != "user-agent"}

    def proxies(self, host: str) -> dict[str, str]:
        """The variables for containers that `proxies` of config.json has for a daemon's host, or for every one.

        Both spellings of each, as Docker's command sets them; values are the user's own.
        """
        known = self.setting("proxies") or {}
        found = known.get(host) or known.get("default") or {}
        names = {"httpProxy": "HTTP_PROXY", "httpsProxy": "HTTPS_PROXY", "ftpProxy": "FTP_PROXY", "noProxy": "NO_PROXY",
                 "allProxy": "ALL_PROXY"}  # fmt: skip
        given = {name: str(found[key]) for key, name in names.items() if found.get(key)}
        return {spelling: value for name, value in given.items() for spelling in (name, name.lower())}

    @property
    def store(self) -> Any:
        """The ContextStore of the command."""
        from kist.client.contexts import ContextStore

        return ContextStore(self.directory)

    @property
    def context(self) -> str:
        """The name of the current context."""
        if not self._name:
            self._name = self._find_name()
        return self._name

    def _find_name(self) -> str:
        if self._options.context:
            return str(self._options.context)
        if self._options.host:
            return DEFAULT
        for host, context in (("KIST_HOST", "KIST_CONTEXT"), ("DOCKER_HOST", "DOCKER_CONTEXT")):
            if os.environ.get(host):
                return DEFAULT
            if name := os.environ.get(context):
                return name
        if not os.path.exists(f"{self.directory}/config.json"):
            return DEFAULT
        return self.config.current_context or DEFAULT

    @property
    def is_default(self) -> bool:
        """Nobody named a daemon: it is the one of this machine, which may be started."""
        named = self._options.context or self._options.host or self.host_variable or self._tls_wanted()
        return not (named or os.environ.get("KIST_CONTEXT") or os.environ.get("DOCKER_CONTEXT")) and (
            self.context == DEFAULT
        )

    def endpoint(self) -> Endpoint:
        """Raises KistError with Docker's texts."""
        if self.is_default:
            return Endpoint(f"unix://{DEFAULT_SOCKET}")
        try:
            host, files = self.default_endpoint() if self.context == DEFAULT else self.store.endpoint(self.context)
            if files is not None and host.startswith("tcp://"):
                from kist.client.tls import TlsEndpoint

                return TlsEndpoint(host, files)
        except KistError as error:
            raise KistError(f"Failed to initialize: unable to resolve docker endpoint: {error.message}") from error
        return _without_tls(host)

    def default_endpoint(self) -> tuple[str, Any]:
        """(host, TlsFiles or None) of the context `default`. Raises KistError."""
        files = None
        if self._tls_wanted():
            from kist.client.hosts import check_files

            files = self._tls_files()
            check_files(files)
        hosts = self._options.host
        if len(hosts) > 1:
            raise KistError("Specify only one -H")
        host = hosts[0] if hosts else os.environ.get(self.host_variable, "") if self.host_variable else ""
        from kist.client.hosts import parse_host

        return parse_host(host, tls=files is not None), files

    def _tls_wanted(self) -> bool:
        given = self._options.given
        if "tlsverify" in given or os.environ.get("DOCKER_TLS_VERIFY"):  # --tlsverify=false wants TLS, unverified
            return True
        return bool(self._options.tls if "tls" in given else os.environ.get("DOCKER_TLS"))

    def _tls_files(self) -> Any:
        from kist.client.hosts import TlsFiles

        home = os.environ.get("DOCKER_CERT_PATH", "") or self.directory
        verify = self._options.tlsverify if "tlsverify" in self._options.given else (
            bool(os.environ.get("DOCKER_TLS_VERIFY")))  # fmt: skip
        found = []
        for option, name in (("tlscacert", "ca.pem"), ("tlscert", "cert.pem"), ("tlskey", "key.pem")):
            path = getattr(self._options, option) or f"{home}/{name}"
            # Only the authority has to be there when nobody named it.
            missing = option not in self._options.given and name != "ca.pem" and not os.path.exists(path)
            found.append("" if missing else path)
        authority, certificate, key = found
        return TlsFiles(authority, certificate, key, verify)


def _without_tls(host: str) -> Endpoint:
    scheme, _, rest = host.partition("://")
    if scheme == "ssh":
        import signal

        from kist.client.ssh import SshEndpoint

        try:
            endpoint = SshEndpoint(host)
        except KistError as error:
            raise KistError(f"Failed to initialize: {error.message}") from error
        for number in (signal.SIGTERM, signal.SIGHUP):  # so that no ssh is left behind
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, _leave)
        return endpoint
    if not host:  # a context may leave it out
        return Endpoint(f"unix://{DEFAULT_SOCKET}")
    if scheme not in ("unix", "tcp") or not rest:
        raise KistError(f"Failed to initialize: unable to parse docker host `{host}`")
    return Endpoint(host)


def _leave(number: int, _: object) -> None:
    sys.exit(128 + number)
