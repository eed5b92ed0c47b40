"""Named volumes of the local driver: records, directories, copy-up."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from weakref import WeakValueDictionary

from kist.kernel.placement import spread
from kist.model.container import MountPoint
from kist.model.errors import Conflict, InvalidParameter, KistError, NotFound
from kist.model.mount import Mount
from kist.model.timestamp import rfc3339
from kist.model.volume import Volume
from kist.snapshot.base import tree_usage
from kist.store.database import Database, Records
from kist.volume import filling

_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$")

_PENDING = "pending"
_REMOVED = ".removed-"  # no volume's name starts with a dot


class VolumeService:
    """`users(name)` answers the ids of the containers that hold a volume.

    A container that is being created is a taker: what it takes (`create`, `fill`) nobody removes, until its container
    is recorded (`keep`) or has failed (`give_back`).
    """

    def __init__(self, database: Database, root: str, emit: Callable[[str, str, str], None]) -> None:
        self._records = Records(database, "volume", Volume)
        self._root = root
        self._emit = emit
        self.users: Callable[[str], list[str]] = lambda name: []
        self._taken: defaultdict[str, set[str]] = defaultdict(set)  # by taker, names
        self._filling: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        os.makedirs(root, mode=0o701, exist_ok=True)
        spread(root)
        self._adopt()

    def _adopt(self) -> None:
        """Directories without a record hold somebody's data: they become volumes again, never rubbish."""
        for name in os.listdir(self._root):
            if name.startswith(_REMOVED) or self._is_pending(name):
                continue  # `settle_all` decides
            if name not in self._records and os.path.isdir(f"{self._root}/{name}/_data"):
                self._records.put(name, Volume(name, "local", f"{self._root}/{name}/_data", rfc3339()))

    def all(self) -> list[Volume]:
        return sorted(self._records.values(), key=lambda volume: volume.name)

    def get(self, name: str) -> Volume:
        volume = self._records.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def create(
        self,
        name: str = "",
        driver: str = "",
        options: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        *,
        taker: str = "",
    ) -> Volume:
        """A new volume, or the one that has the name already. A taker's new one goes again unless a container holds it
        in the end; without a taker it stays. Raises InvalidParameter, NotFound (driver), Conflict.
        """
        anonymous = not name
        name = name or secrets.token_hex(32)
        if driver not in ("", "local"):
            raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
        if len(name) < 2:
            raise InvalidParameter(
                f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
            )
        if not _NAME.match(name):
            raise InvalidParameter(
                f'create {name}: "{name}" includes invalid characters for a local volume name, only '
                f'"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
            )
        if options:
            key = sorted(options)[0]
            if key not in ("type", "o", "device", "size"):
                raise InvalidParameter(f'create {name}: invalid option: "{key}"')
            raise InvalidParameter(f"create {name}: options of the local driver are not supported by this engine yet")
        existing = self._records.get(name)
        if existing is not None:
            if taker:
                self._taken[taker].add(name)
            else:
                self.settle([name])
            return existing
        directory = f"{self._root}/{name}/_data"
        volume = Volume(name, "local", directory, rfc3339(), labels, options, anonymous)
        try:
            if taker:
                self.mark(name)
            self._records.put(name, volume)
            os.makedirs(directory, mode=0o755, exist_ok=True)
        except (OSError, KistError) as error:
            filling.discard(f"{self._root}/{name}")
            if name in self._records:
                self._records.delete(name)
            if isinstance(error, KistError):
                raise
            raise KistError(f"create {name}: {error.strerror}") from error
        if taker:
            self._taken[taker].add(name)
        self._emit("create", name, "local")
        return volume

    def keep(self, taker: str) -> None:
        """Its container is recorded."""
        self.settle(self._taken.pop(taker, ()))

    def give_back(self, taker: str) -> None:
        """Its create has failed: what was made for it goes, unless somebody else has taken it meanwhile."""
        for name in self._taken.pop(taker, ()):
            if self._is_pending(name) and not self._holders(name):
                with suppress(KistError):  # the next start finds it by its mark
                    self.remove(name, force=True)

    def _holders(self, name: str) -> list[str]:
        """Ids of the containers that hold a volume, and of those that are being created with it."""
        return [*self.users(name), *(taker for taker, names in self._taken.items() if name in names)]

    def _is_pending(self, name: str) -> bool:
        return os.path.exists(f"{self._root}/{name}/{_PENDING}")

    def mark(self, name: str) -> None:
        """Says on the disk that this volume goes unless a container holds it. Raises OSError."""
        os.makedirs(f"{self._root}/{name}", mode=0o755, exist_ok=True)
        os.close(os.open(f"{self._root}/{name}/{_PENDING}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def settle(self, names: Iterable[str]) -> None:
        """They stay."""
        for name in names:
            if self._is_pending(name):
                os.unlink(f"{self._root}/{name}/{_PENDING}")

    def settle_all(self) -> None:
        """At start: what a create or a removal that was cut off left is decided by whether a container holds it."""
        for name in os.listdir(self._root):
            filling.discard(f"{self._root}/{name}/{filling.FILLING}")
            if name.startswith(_REMOVED):
                volume = name.removeprefix(_REMOVED).partition("~")[0]
                if volume in self._records and not os.path.exists(f"{self._root}/{volume}"):
                    self._records.delete(volume)
                filling.discard(f"{self._root}/{name}")
            elif self._is_pending(name):
                if name in self._records and not self.users(name):
                    self.remove(name)
                elif name not in self._records:
                    filling.discard(f"{self._root}/{name}")
                else:
                    self.settle([name])
            elif name not in self._records:  # made, and not even marked yet
                with suppress(OSError):
                    os.rmdir(f"{self._root}/{name}")
        self._collect()

    def remove(self, name: str, *, force: bool = False) -> None:
        """Takes it out of sight; its files go with the next `collect`. Raises NotFound, and Conflict while a container
        uses it.
        """
        volume = self._records.get(name)
        if volume is None:
            if force:
                return
            raise NotFound(f"get {name}: no such volume")
        holders = self._holders(name)
        if holders:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(holders)}]")
        self._take_away(name)
        self._emit("destroy", name, volume.driver)

    def _take_away(self, name: str) -> None:
        """Out of sight at once, then the record, then the files: what a crash leaves is known by its name."""
        hidden = f"{self._root}/{_REMOVED}{name}~{secrets.token_hex(4)}"  # a volume of that name may come, and go again
        try:
            os.rename(f"{self._root}/{name}", hidden)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise KistError(f"remove {name}: {error.strerror}") from error
        try:
            self._records.delete(name)
        except KistError:
            with suppress(FileNotFoundError):
                os.rename(hidden, f"{self._root}/{name}")
            raise

    async def collect(self) -> None:
        """Takes the files of removed volumes off the disk."""
        await asyncio.to_thread(self._collect)

    def _collect(self) -> None:
        for name in os.listdir(self._root):
            if name.startswith(_REMOVED):
                filling.discard(f"{self._root}/{name}")

    def in_use(self, name: str) -> bool:
        return bool(self.users(name))

    def user_count(self, name: str) -> int:
        return len(self.users(name))

    async def size(self, name: str) -> int:
        """Bytes on disk."""
        return (await asyncio.to_thread(tree_usage, self.get(name).mountpoint)).size

    async def prune(self, names: list[str]) -> tuple[list[str], int]:
        """Removes these volumes; those that went, and how many bytes they held."""
        removed, freed = [], 0
        for name in names:
            try:
                size = await self.size(name)
                self.remove(name)
            except (Conflict, NotFound):
                continue  # a container took it meanwhile, or somebody removed it
            removed.append(name)
            freed += size
        await self.collect()
        return removed, freed

    async def fill(self, taker: str, volume: Volume, layers: tuple[Mount, ...], point: MountPoint) -> None:
        """Fills an empty volume with what the image has where it is to be mounted. Without layers it only waits, as
        everybody does who takes the volume, until nobody else fills it. Raises KistError.
        """
        async with self._filling.setdefault(volume.name, asyncio.Lock()):
            if layers:
                alone = self._is_pending(volume.name) and self._holders(volume.name) == [taker]
                await asyncio.to_thread(filling.copy_up, volume.name, volume.mountpoint, layers, point, alone=alone)
