"""Making volumes: the checks, in Docker's order and words, and what is made outside of the record."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable

import msgspec

from kist.model.errors import Conflict, InvalidParameter, KistError
from kist.model.timestamp import rfc3339
from kist.model.volume import LOCAL, Volume
from kist.store.database import Records
from kist.volume import filling, limits, options
from kist.volume.directories import Directories
from kist.volume.plugins import Plugins
from kist.volume.remote import Remote

_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$")


class Maker:
    """`holders(name)` are those who have a volume; `emit` tells of a new one."""

    def __init__(
        self,
        records: Records[Volume],
        directories: Directories,
        plugins: Plugins,
        remote: Remote,
        holders: Callable[[str], list[str]],
        emit: Callable[[str, str, str], None],
    ) -> None:
        self._records, self._directories = records, directories
        self._plugins, self._remote = plugins, remote
        self._holders, self._emit = holders, emit

    async def make(
        self,
        name: str,
        driver: str,
        driver_options: dict[str, str] | None,
        labels: dict[str, str] | None,
        *,
        anonymous: bool,
        pending: bool,
    ) -> Volume:
        """A new one, or the one with the name. `pending`: it goes unless somebody settles it. Raises InvalidParameter,
        NotFound, Conflict, KistError.
        """
        known = self._records.get(name)
        if known is not None:
            if await self._still_there(known, driver):
                return known
            self._records.delete(name)
        if not driver:
            found = await self._remote.find(name, "")
            if found is not None:
                self._records.put(name, found.volume)
                return found.volume
        volume = Volume(name, driver or LOCAL, "", rfc3339(), labels, driver_options, anonymous)
        if volume.is_local:
            volume = await self._create_local(volume, pending=pending)
        else:
            volume = await self._remote.create(volume, pending=pending)
        self._emit("create", name, volume.driver)
        return volume

    async def _still_there(self, known: Volume, driver: str) -> bool:
        """Whether a volume with the name is there, and may be had with this driver. Raises Conflict, NotFound."""
        if driver not in ("", LOCAL, known.driver):
            await self._plugins.get(driver)  # that there is none comes before any conflict
        exists = known.is_local or await self._remote.exists(known, used=bool(self._holders(known.name)))
        if exists and driver not in ("", known.driver):
            raise Conflict(f"driver '{known.driver}' already has volume '{known.name}': volume name must be unique")
        return exists

    async def _create_local(self, volume: Volume, *, pending: bool) -> Volume:
        name, wanted = volume.name, volume.options or {}
        if len(name) < 2:
            raise InvalidParameter("volume name is too short, names should be at least two alphanumeric characters")
        if not _NAME.match(name):
            raise InvalidParameter(
                f'"{name}" includes invalid characters for a local volume name, only '
                f'"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
            )
        options.check(wanted)
        volume = msgspec.structs.replace(volume, mountpoint=self._directories.data(name))
        size = options.size_of(wanted)
        if size:
            volume = limits.planned(volume, size, {one.project for one in self._records.values()})
        try:
            if pending or size:  # making its image takes a while
                self._directories.mark(name)
            self._records.put(name, volume)
            os.makedirs(volume.mountpoint, mode=0o755, exist_ok=True)
            if size:
                await asyncio.to_thread(limits.apply, volume, size)
        except (OSError, KistError) as error:
            limits.forget(volume)
            filling.discard(self._directories.path(name))
            if name in self._records:
                self._records.delete(name)
            if isinstance(error, KistError):
                raise
            raise KistError(error.strerror or str(error)) from error
        return volume
