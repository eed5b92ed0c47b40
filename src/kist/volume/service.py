"""Volumes by name: records, making, taking and removing them. What is mounted of them is `mounting`'s."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from weakref import WeakValueDictionary

import msgspec

from kist.model.container import MountPoint
from kist.model.errors import Conflict, KistError, NotFound
from kist.model.mount import Mount
from kist.model.timestamp import rfc3339
from kist.model.volume import ANONYMOUS_LABEL, LOCAL, ShownVolume, Volume
from kist.snapshot.base import tree_usage
from kist.store.database import Database, Records
from kist.volume import filling, limits
from kist.volume.directories import Directories
from kist.volume.local import IMAGE
from kist.volume.making import Maker
from kist.volume.mounting import Mounting
from kist.volume.plugins import Plugins
from kist.volume.remote import Remote

log = logging.getLogger(__name__)


class VolumeService:
    """`users(name)` answers the ids of the containers that hold a volume, `runs(id)` whether one of them runs.

    A container that is being created is a taker: what it takes (`create`, `fill`) nobody removes, until its container
    is recorded (`keep`) or has failed (`give_back`).
    """

    def __init__(
        self,
        database: Database,
        root: str,
        emit: Callable[[str, str, str], None],
        plugins: Plugins,
    ) -> None:
        self._records = Records(database, "volume", Volume)
        self._directories = Directories(root)
        self._emit = emit
        self.plugins = plugins
        self._mounting = Mounting(database, plugins)
        self._remote = Remote(plugins, self._records)
        self._maker = Maker(self._records, self._directories, plugins, self._remote, self._holders, emit)
        self.users: Callable[[str], list[str]] = lambda name: []
        self.runs: Callable[[str], bool] = lambda container: False
        self._taken: defaultdict[str, set[str]] = defaultdict(set)  # by taker, names
        self._filling: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._creating: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._telling: set[asyncio.Task[None]] = set()
        self._pruning = False
        for name, directory in self._directories.orphans(set(self._records)):
            image = os.path.exists(f"{self._directories.path(name)}/{IMAGE}")
            self._records.put(name, Volume(name, LOCAL, directory, rfc3339(), image=image))

    # --- looking ---

    def all(self) -> list[Volume]:
        """Those that the engine keeps a record of."""
        return sorted(self._records.values(), key=lambda volume: volume.name)

    def find(self, name: str) -> Volume | None:
        return self._records.get(name)

    def get(self, name: str) -> Volume:
        volume = self._records.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    async def listed(self) -> tuple[list[ShownVolume], list[str]]:
        """All there are, those of plug-ins as these tell; and warnings about plug-ins that do not."""
        remote, warnings = await self._remote.listed()
        own = [ShownVolume(volume) for volume in self._records.values() if volume.is_local]
        return sorted([*own, *remote], key=lambda shown: shown.volume.name), warnings

    async def inspect(self, name: str) -> ShownVolume:
        """Raises NotFound."""
        known = self._records.get(name)
        if known is not None and known.is_local:
            return ShownVolume(known)
        try:
            found = await self._remote.find(name, known.driver if known is not None else "")
        except KistError as error:
            raise type(error)(f"get {name}: {error.message}") from error
        if found is None:
            if known is not None and not self._holders(name):
                self._records.delete(name)  # the plug-in has lost it
            raise NotFound(f"get {name}: no such volume")
        if known is None:
            self._records.put(name, found.volume)
        return found

    def in_use(self, name: str) -> bool:
        return bool(self.users(name))

    def user_count(self, name: str) -> int:
        return len(self.users(name))

    async def size(self, name: str) -> int:
        """Bytes on disk."""
        return (await asyncio.to_thread(tree_usage, self.get(name).mountpoint)).size

    # --- making ---

    async def create(
        self,
        name: str = "",
        driver: str = "",
        driver_options: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        *,
        taker: str = "",
    ) -> Volume:
        """A new volume, or the one that has the name already. A taker's new one goes again unless a container holds it
        in the end; without a taker it stays. Raises InvalidParameter, NotFound (driver), Conflict.
        """
        anonymous = not name
        if anonymous:
            name, driver = secrets.token_hex(32), driver or LOCAL
            labels = {**(labels or {}), ANONYMOUS_LABEL: ""}
        async with self._creating.setdefault(name, asyncio.Lock()):
            try:
                volume = await self._maker.make(
                    name, driver, driver_options, labels, anonymous=anonymous, pending=bool(taker)
                )
            except KistError as error:
                raise type(error)(f"create {name}: {error.message}") from error
            if taker:
                self._taken[taker].add(name)
            else:
                self.settle([name])
            return volume

    # --- takers ---

    def keep(self, taker: str) -> None:
        """Its container is recorded."""
        self.settle(self._taken.pop(taker, ()))

    async def give_back(self, taker: str) -> None:
        """Its create has failed: what was made for it goes, unless somebody else has taken it meanwhile."""
        for name in self._taken.pop(taker, ()):
            if self._is_pending(name) and not self._holders(name):
                with suppress(KistError):  # the next start finds it by its mark
                    await self.remove(name, force=True)

    def _holders(self, name: str) -> list[str]:
        """Ids of the containers that hold a volume, and of those that are being created with it."""
        return [*self.users(name), *(taker for taker, names in self._taken.items() if name in names)]

    def _is_pending(self, name: str) -> bool:
        volume = self._records.get(name)
        if volume is not None and not volume.is_local:
            return volume.pending
        return self._directories.is_marked(name)

    def mark(self, name: str) -> None:
        """Says on the disk that this volume goes unless a container holds it. Raises OSError, KistError."""
        volume = self._records.get(name)
        if volume is not None and not volume.is_local:
            self._records.put(name, msgspec.structs.replace(volume, pending=True))
        elif volume is not None:
            self._directories.mark(name)

    def settle(self, names: Iterable[str]) -> None:
        """They stay."""
        for name in names:
            volume = self._records.get(name)
            if volume is not None and volume.is_local:
                self._directories.unmark(name)
            elif volume is not None and volume.pending:  # its name may be anything, and is no path
                self._records.put(name, msgspec.structs.replace(volume, pending=False))

    # --- mounted ---

    def needs_mount(self, name: str) -> bool:
        volume = self._records.get(name)
        return volume is not None and Mounting.needed(volume)

    async def mount(self, name: str, holder: str, place: str = "") -> str:
        """Where the volume's files are, for one who lets go of them by `unmount`. Raises KistError, NotFound."""
        volume = self.get(name)
        return await self._mounting.take(volume, holder, place) if Mounting.needed(volume) else volume.mountpoint

    def has_mounts(self, holder: str) -> bool:
        return self._mounting.holds_anything(holder)

    async def unmount(self, holder: str) -> None:
        """A holder lets go of all it has mounted."""
        await self._mounting.release(holder, self._records.get)

    @asynccontextmanager
    async def borrowed(self, name: str) -> AsyncIterator[str]:
        """Where the volume's files are; meanwhile nobody removes it. Raises NotFound, KistError."""
        await self.inspect(name)
        holder = f"files-{secrets.token_hex(16)}"
        self._taken[holder].add(name)
        try:
            yield await self.mount(name, holder)
        finally:
            self._taken.pop(holder, None)
            await self.unmount(holder)

    async def fill(self, taker: str, volume: Volume, layers: tuple[Mount, ...], point: MountPoint) -> None:
        """Fills an empty volume with what the image has where it is to be mounted. Without layers it only waits, as
        everybody does who takes the volume, until nobody else fills it. Raises KistError.
        """
        async with self._filling.setdefault(volume.name, asyncio.Lock()):
            if not layers:
                return
            if Mounting.needed(volume):
                if await asyncio.to_thread(filling.has, layers, point):
                    await self._fill_mounted(volume, layers, point)
                return
            alone = self._is_pending(volume.name) and self._holders(volume.name) == [taker]
            alone = alone and not volume.project  # another directory in its place would not count to its quota
            await asyncio.to_thread(filling.copy_up, volume.name, volume.mountpoint, layers, point, alone=alone)

    async def _fill_mounted(self, volume: Volume, layers: tuple[Mount, ...], point: MountPoint) -> None:
        holder = f"fill-{secrets.token_hex(16)}"
        try:
            try:
                directory = await self.mount(volume.name, holder)
            except KistError as error:
                shown = volume.mountpoint
                text = f"failed to populate volume: error while mounting volume '{shown}': {error.message}"
                raise type(error)(text) from error
            await asyncio.to_thread(filling.copy_up, volume.name, directory, layers, point, alone=False)
        finally:
            await self.unmount(holder)

    # --- removing ---

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Takes it out of sight; a local one's files go with the next `collect`. Raises NotFound, and Conflict while a
        container uses it.
        """
        if self._records.get(name) is None and not force:
            await self.inspect(name)  # a plug-in may know it
        async with self._creating.setdefault(name, asyncio.Lock()), self._mounting.lock(name):
            volume = self._records.get(name)
            if volume is None:
                if force:
                    return
                raise NotFound(f"get {name}: no such volume")
            holders = self._holders(name)
            if holders:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(holders)}]")
            if Mounting.needed(volume):
                await self._mounting.release_volume(volume)
            if volume.is_local:
                self._take_away(volume)
            else:
                await self._remote.remove(volume, force=force)
                self._records.delete(name)
        self._emit("destroy", name, volume.driver)

    def _take_away(self, volume: Volume) -> None:
        """Out of sight at once, then the record, then the files: what a crash leaves is known by its name."""
        hidden = self._directories.hide(volume.name)
        try:
            self._records.delete(volume.name)
        except KistError:
            self._directories.show(volume.name, hidden)
            raise
        limits.forget(volume)

    async def collect(self) -> None:
        """Takes the files of removed volumes off the disk."""
        await asyncio.to_thread(self._directories.collect)

    async def prune(self, names: list[str]) -> tuple[list[str], int]:
        """Removes these volumes; those that went, and how many bytes they held. Raises Conflict while another prune
        runs.
        """
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        try:
            return await self._prune(names)
        finally:
            self._pruning = False

    async def _prune(self, names: list[str]) -> tuple[list[str], int]:
        removed, freed = [], 0
        for name in names:
            try:
                size = await self.size(name)
                await self.remove(name)
            except (Conflict, NotFound):
                continue  # a container took it meanwhile, or somebody removed it
            removed.append(name)
            freed += size
        await self.collect()
        return removed, freed

    # --- after a crash ---

    async def settle_all(self) -> None:
        """At start: what is mounted for nobody goes, and what a create or a removal that was cut off left is decided by
        whether a container holds it.
        """
        for holder in set(await self._mounting.repair(self.all(), self.runs, self._records.get)):
            self._tell(holder)
        for name in self._directories.removed():
            volume = self._records.get(name)
            if volume is not None and not os.path.exists(self._directories.path(name)):
                self._records.delete(name)
                limits.forget(volume)
        for name in {*self._directories.names(), *(volume.name for volume in self.all() if volume.pending)}:
            volume = self._records.get(name)
            if volume is None or volume.is_local:
                filling.discard(f"{self._directories.path(name)}/{filling.FILLING}")
            if volume is None:  # made, and not even recorded yet
                self._directories.drop(name)
            elif not self._is_pending(name) or self.users(name):
                self.settle([name])
            elif volume.is_local:
                await self.remove(name)
            else:
                self._tell("", name)
        await self.collect()

    def _tell(self, holder: str, pending: str = "") -> None:
        """A plug-in hears what no kistd lived to tell it; one that does not answer holds nothing up."""

        async def tell() -> None:
            if holder:
                await self.unmount(holder)
            if pending:
                with suppress(KistError):
                    await self.remove(pending)

        task = asyncio.get_running_loop().create_task(tell())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def close(self) -> None:
        """What was not told is told by the next kistd."""
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)
