"""What every command works with: the client of the chosen daemon, and how failures are told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from kist.cli.choice import Choice
from kist.client.http import API_VERSION, ApiError, Client, Endpoint
from kist.model.errors import KistError


class Quiet(Exception):
    """Everything was said already: the name is not printed, and nothing failed."""


class RunFailed(KistError):
    """A `run` or `create` that failed, told with the command's name and its own exit status."""

    def __init__(self, message: str, status: int, command: str) -> None:
        super().__init__(message)
        self.status, self.command = status, command


class Context:
    """What a command works with. The daemon is found when it is first needed: some commands need none."""

    def __init__(self, choice: Choice, version: str = "") -> None:
        self.choice = choice
        self.version = version or API_VERSION
        self._fixed = bool(version)  # the user's choice, not to be stepped down from
        self._endpoint: Endpoint | None = None
        self._client: Client | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Raises KistError when the choice names no daemon."""
        if self._endpoint is None:
            self._endpoint = self.choice.endpoint()
        return self._endpoint

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = self.another()
        return self._client

    def another(self) -> Client:
        """A client with a connection of its own, for what goes on beside the first."""
        version = self._client.version if self._client is not None else self.version
        client = Client(self.endpoint, version, fixed=self._fixed)
        client.headers = self.choice.headers
        return client

    def proxies(self) -> dict[str, str]:
        """The proxy variables that config.json has for containers of this daemon."""
        return self.choice.proxies(self.endpoint.host)

    def detach_keys(self, given: str) -> str:
        """--detach-keys, or what config.json has."""
        return given or str(self.choice.setting("detachKeys") or "")

    def close(self) -> None:
        """Ends connections, and the processes behind them."""
        if self._client is not None:
            self._client.close()
        if self._endpoint is not None:
            self._endpoint.close()

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


def confirm(force: bool, text: str) -> bool:
    """Asks on the terminal unless forced."""
    if force:
        return True
    try:
        answer = input(f"WARNING! {text}\nAre you sure you want to continue? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")
