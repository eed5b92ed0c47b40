"""Hears of changes to the firewall by others, and has what they took put back, without a restart of the daemon."""

from __future__ import annotations

import asyncio
import logging

from kist.kernel import nftables as nft
from kist.network.filtering import Filtering

log = logging.getLogger(__name__)
_SETTLING = 0.2  # seconds: a reload is many changes, and the last of them counts
_AGAIN = 2.0  # seconds until it is tried again


class Repairing:
    """On the running event loop, from when it is made until `close`."""

    def __init__(self, filtering: Filtering) -> None:
        self._filtering = filtering
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._listener = nft.listen() if filtering.active else None
        if self._listener is not None:
            self._loop.add_reader(self._listener.fileno(), self._hear)

    def _hear(self) -> None:
        assert self._listener is not None
        strangers = [port for port in self._listener.heard() if not self._filtering.is_own(port)]
        if strangers and self._timer is None:
            self._timer = self._loop.call_later(_SETTLING, self._repair)

    def _repair(self) -> None:
        self._timer = None
        try:
            self._filtering.repair()
        except OSError as error:
            log.error("cannot put the firewall's rules back: %s", error)
            self._timer = self._loop.call_later(_AGAIN, self._repair)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
