"""Volumes of plug-ins: what these tell of them, put together with what the engine has recorded."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import msgspec

from kist.model.errors import Conflict, KistError
from kist.model.timestamp import rfc3339
from kist.model.volume import ShownVolume, Volume
from kist.store.database import Records
from kist.volume.plugins import Plugin, Plugins, PluginVolume
from kist.volume.rpc import PATIENCE, Unreachable

log = logging.getLogger(__name__)


class Remote:
    def __init__(self, plugins: Plugins, records: Records[Volume]) -> None:
        self._plugins, self._records = plugins, records

    async def listed(self) -> tuple[list[ShownVolume], list[str]]:
        """What the plug-ins list; of those that fail, what is recorded of them, and a warning."""
        plugins = await self._plugins.all()
        answers = await asyncio.gather(*(self._list(plugin) for plugin in plugins))
        found: dict[str, ShownVolume] = {}
        warnings = []
        silent = {volume.driver for volume in self._records.values()} - {plugin.name for plugin in plugins}
        for plugin, (shown, failure) in zip(plugins, answers, strict=True):
            if failure:
                warnings.append(f"list {plugin.name}: {failure}")
                silent.add(plugin.name)
            for one in shown:
                known = self._records.get(one.volume.name)
                if known is not None and known.driver != plugin.name:
                    log.warning("volume %s of driver %s is not %s's", known.name, known.driver, plugin.name)
                else:
                    found.setdefault(one.volume.name, one)
        for volume in self._records.values():
            if not volume.is_local and volume.driver in silent:
                found.setdefault(volume.name, ShownVolume(volume))
        return list(found.values()), warnings

    async def _list(self, plugin: Plugin) -> tuple[list[ShownVolume], str]:
        try:
            volumes, scope = await plugin.list(), await plugin.scope()
        except KistError as error:
            return [], error.message
        return [ShownVolume(self._merged(plugin, one), scope) for one in volumes if one.name], ""

    async def find(self, name: str, driver: str) -> ShownVolume | None:
        """A volume at its driver, or at the first that has it. Raises Unreachable, KistError when the driver is known
        and cannot be asked.
        """
        if driver:
            try:
                return await self._ask(await self._plugins.get(driver), name)
            except KistError as error:
                text = f'error while checking if volume "{name}" exists in driver "{driver}": {error.message}'
                raise type(error)(text) from error
        for plugin in await self._plugins.all():
            with suppress(KistError):
                if found := await self._ask(plugin, name, patience=0.0):  # nobody asked for this one
                    return found
        return None

    async def _ask(self, plugin: Plugin, name: str, *, patience: float = PATIENCE) -> ShownVolume | None:
        """Raises Unreachable."""
        try:
            found = await plugin.get(name, patience=patience)
        except Unreachable:
            raise
        except KistError as error:  # "no such volume", in whatever words
            log.debug("driver %s about volume %s: %s", plugin.name, name, error.message)
            return None
        if found is None:
            return None
        merged = self._merged(plugin, msgspec.structs.replace(found, name=name))
        return ShownVolume(merged, await plugin.scope(), found.status)

    def _merged(self, plugin: Plugin, told: PluginVolume) -> Volume:
        known = self._records.get(told.name)
        created = told.created or (known.created if known is not None else "0001-01-01T00:00:00Z")
        base = known or Volume(told.name, plugin.name, "", created)
        return msgspec.structs.replace(base, mountpoint=told.mountpoint or "", created=created)

    async def exists(self, known: Volume, *, used: bool) -> bool:
        """Whether the driver still has a recorded volume. Raises Conflict with Docker's texts."""
        named = f"volume '{known.name}' in driver '{known.driver}'"
        unique = "volume name must be unique"
        try:
            found = await self.find(known.name, known.driver)
        except KistError as error:
            raise Conflict(
                f"found reference to {named}, but got an error while checking the driver: {error.message}: {unique}"
            ) from error
        if found is None and used:
            raise Conflict(
                f"found references to {named} but the volume was not found in the driver -- you may need to remove "
                f"containers referencing this volume or force remove the volume to re-create it: {unique}"
            )
        return found is not None

    async def create(self, volume: Volume, *, pending: bool) -> Volume:
        """At its driver, unless that has it; recorded first. Raises NotFound, KistError."""
        plugin = await self._plugins.get(volume.driver)
        found = await self._ask(plugin, volume.name)
        if found is not None:
            volume = msgspec.structs.replace(volume, mountpoint=found.volume.mountpoint, created=found.volume.created)
            self._records.put(volume.name, volume)
            return volume
        volume = msgspec.structs.replace(volume, created=rfc3339(), pending=pending)
        self._records.put(volume.name, volume)
        try:
            await plugin.create(volume.name, volume.options)
        except BaseException:
            self._records.delete(volume.name)
            raise
        return volume

    async def remove(self, volume: Volume, *, force: bool) -> None:
        """At its driver. `force`: the record goes also when that fails. Raises KistError."""
        try:
            plugin = await self._plugins.get(volume.driver)
        except KistError as error:
            if force:
                log.warning("volume %s is forgotten without its driver: %s", volume.name, error.message)
                return
            raise KistError(f"remove {volume.driver}: {error.message}") from error
        try:
            if await self._ask(plugin, volume.name) is not None:
                await plugin.remove(volume.name)
        except KistError as error:
            if force:
                self._records.delete(volume.name)
            raise KistError(f"remove {volume.name}: {error.message}") from error
