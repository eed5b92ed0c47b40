"""What every command works with: the client of the chosen daemon, and how failures are told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from kist.client.http import ApiError, Client
from kist.model.errors import KistError


class Quiet(Exception):
    """Everything was said already: the name is not printed, and nothing failed."""


class RunFailed(KistError):
    """A `run` or `create` that failed, told with the command's name and its own exit status."""

    def __init__(self, message: str, status: int, command: str) -> None:
        super().__init__(message)
        self.status, self.command = status, command


class Context:
    def __init__(self, host: str, version: str, tls: Any = None) -> None:
        self.host, self.version, self.tls = host, version, tls
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = Client(self.host, self.version, self.tls)
        return self._client

    def for_each(self, names: list[str], act: Callable[[str], Any], after: str = "") -> int:
        """Carries out for every name, prints those that worked, tells what failed; 1 when anything did."""
        status = 0
        failed = []
        for name in names:
            try:
                shown = act(name)
            except ApiError as error:
                print(f"Error response from daemon: {error.message}", file=sys.stderr)
                failed.append(name)
                status = 1
                continue
            except Quiet:
                continue
            print(name if shown is None else shown)
        if failed and after:
            print(f"Error: {after}{', '.join(failed)}", file=sys.stderr)
        return status
