"""What is done with containers' files, by name or id, for whoever speaks to users."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from kist.container import archive
from kist.container.archive import Chunks, PathStat
from kist.container.commit import commit
from kist.container.engine import Engine
from kist.container.threads import in_thread
from kist.model.errors import KistError
from kist.model.request import CommitRequest


class ContainerFiles:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def stat_path(self, name: str, path: str) -> PathStat:
        return await archive.stat(self._engine, self._engine.index.find(name), name, path)

    def archive(self, name: str, path: str) -> AbstractAsyncContextManager[tuple[PathStat, Chunks]]:
        return archive.archive(self._engine, self._engine.index.find(name), name, path)

    async def extract(
        self, name: str, path: str, chunks: AsyncIterator[bytes], *, keep_kinds: bool, to_user: bool
    ) -> None:
        machine = self._engine.index.find(name)
        await archive.put(self._engine, machine, name, path, chunks, keep_kinds=keep_kinds, to_user=to_user)

    async def changes(self, name: str) -> list[tuple[str, int]]:
        """Paths with 0 (changed), 1 (added) or 2 (deleted), in order."""
        machine = self._engine.index.find(name)
        compare = self._engine.snapshotter.changes(machine.record.snapshot)
        try:
            return [(change.path, int(change.kind)) for change in await in_thread(compare)]
        except OSError as error:
            raise KistError(f"cannot compare the container with its image: {error}") from error

    def export(self, name: str) -> AbstractAsyncContextManager[Chunks]:
        return archive.export(self._engine, self._engine.index.find(name))

    async def commit(self, name: str, request: CommitRequest) -> str:
        return await commit(self._engine, self._engine.index.find(name), request)
