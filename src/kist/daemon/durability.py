"""When commits reach the disk: a moment after they were made, many of them at once, and never while somebody waits."""

from __future__ import annotations

import asyncio
import logging

from kist.store.database import Database

log = logging.getLogger(__name__)
DELAY = 0.1  # seconds: what a machine that dies may lose


class LateSync:
    """Syncs a database `DELAY` after the first commit that is not synced."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._task: asyncio.Task[None] | None = None
        self._again = False
        database.changed = self._changed

    def _changed(self) -> None:
        self._again = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._sync())

    async def _sync(self) -> None:
        while self._again:
            await asyncio.sleep(DELAY)
            self._again = False
            try:
                await asyncio.to_thread(self._database.sync)
            except OSError as error:
                log.error("the database is not on the disk yet: %s", error)
        self._task = None

    async def close(self) -> None:
        """The close of the database that follows syncs what is left."""
        self._database.changed = lambda: None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
