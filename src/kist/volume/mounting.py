"""Who has which volume mounted, so that the first use mounts and the last one unmounts, whatever becomes of kistd.

A hold is recorded before anything is mounted, and goes when all is undone: a kistd that begins takes away the holds of
those that do not run, and with them what is mounted for nobody. Volumes that are plain directories have none.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from functools import partial
from weakref import WeakValueDictionary

import msgspec

from kist.kernel import mountinfo
from kist.kernel.thread import started
from kist.model.errors import KistError
from kist.model.volume import Volume
from kist.store.database import Database, Records
from kist.volume import local
from kist.volume.plugins import Plugins
from kist.volume.rpc import TimedOut

log = logging.getLogger(__name__)


class Hold(msgspec.Struct, frozen=True):
    """`holder` is a container's id, or what was made up for one use by the engine itself."""

    volume: str
    driver: str
    holder: str


class Mounting:
    def __init__(self, database: Database, plugins: Plugins) -> None:
        self._holds = Records(database, "volume-hold", Hold)
        self._plugins = plugins
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, name: str) -> asyncio.Lock:
        """One change at a time to what is mounted of a volume."""
        return self._locks.setdefault(name, asyncio.Lock())

    @staticmethod
    def needed(volume: Volume) -> bool:
        """Whether it has to be mounted before it can be used."""
        return not volume.is_local or local.needs_mount(volume)

    def holds_anything(self, holder: str) -> bool:
        return any(hold.holder == holder for hold in self._holds.values())

    async def take(self, volume: Volume, holder: str, place: str) -> str:
        """Where the volume is, mounted. `place` tells several uses by one holder apart. Raises KistError."""
        key = hashlib.sha256(f"{volume.name}\0{holder}\0{place}".encode()).hexdigest()
        async with self.lock(volume.name):
            self._holds.put(key, Hold(volume.name, volume.driver, holder))
            try:
                return await self._mount(volume, key)
            except TimedOut:  # it may be mounted in a while: whoever wanted it lets go of it
                raise
            except BaseException:
                self._holds.delete(key)
                raise

    async def _mount(self, volume: Volume, key: str) -> str:
        if not volume.is_local:
            plugin = await self._plugins.get(volume.driver)
            path = await plugin.mount(volume.name, key)
            if not path.startswith("/"):
                await self._unmount_plugin(Hold(volume.name, volume.driver, ""), key)
                raise KistError(f"VolumeDriver.Mount: plugin {volume.driver} gave no absolute path: {path!r}")
            return path
        await asyncio.shield(started(lambda: local.mount_volume(volume), "volume"))
        return volume.mountpoint

    async def release(self, holder: str, find: Callable[[str], Volume | None]) -> None:
        """All that a holder has. Trouble is logged: nobody could do anything about it."""
        for key in self._keys(lambda hold: hold.holder == holder):
            await self._release(key, find)

    async def release_volume(self, volume: Volume) -> None:
        """Of a volume that is to go and that nobody has: whatever is held is a remnant. The lock is the caller's."""
        for key in self._keys(lambda hold: hold.volume == volume.name):
            await self._let_go(key, volume)
        if volume.is_local:
            await asyncio.shield(started(lambda: local.unmount_below(volume.mountpoint), "volume"))

    async def _release(self, key: str, find: Callable[[str], Volume | None]) -> None:
        hold = self._holds.get(key)
        if hold is None:
            return
        async with self.lock(hold.volume):
            await self._let_go(key, find(hold.volume))

    async def _let_go(self, key: str, volume: Volume | None) -> None:
        hold = self._holds.get(key)
        if hold is None:  # by somebody else meanwhile
            return
        if volume is not None and volume.is_local:
            if len(self._keys(lambda one: one.volume == hold.volume)) == 1:
                try:
                    await asyncio.shield(started(lambda: local.unmount_below(volume.mountpoint), "volume"))
                except KistError as error:
                    log.error("volume %s stays mounted: %s", volume.name, error.message)
        elif hold.driver != "local":
            await self._unmount_plugin(hold, key)
        self._holds.delete(key)

    async def _unmount_plugin(self, hold: Hold, key: str) -> None:
        try:
            await (await self._plugins.get(hold.driver)).unmount(hold.volume, key)
        except KistError as error:
            log.error("volume %s: driver %s does not unmount it: %s", hold.volume, hold.driver, error.message)

    def _keys(self, wanted: Callable[[Hold], bool]) -> list[str]:
        return [key for key in self._holds if (hold := self._holds.get(key)) is not None and wanted(hold)]

    # --- after a crash ---

    def stale(self, runs: Callable[[str], bool]) -> list[tuple[str, Hold]]:
        """The holds of those that do not run any more."""
        found = [(key, self._holds.get(key)) for key in self._holds]
        return [(key, hold) for key, hold in found if hold is not None and not runs(hold.holder)]

    async def repair(
        self, volumes: list[Volume], runs: Callable[[str], bool], find: Callable[[str], Volume | None]
    ) -> list[str]:
        """Takes away what local volumes have mounted for nobody. The holders whose plug-ins are still to be told."""
        later = []
        for key, hold in self.stale(runs):
            if hold.driver == "local":
                await self._release(key, find)
            else:
                later.append(hold.holder)
        held = {hold.volume for hold in self._holds.values()}
        mounted = set(mountinfo.points())
        for volume in volumes:
            if local.needs_mount(volume) and volume.mountpoint in mounted and volume.name not in held:
                await asyncio.shield(started(partial(local.unmount_below, volume.mountpoint), "volume"))
        return later
