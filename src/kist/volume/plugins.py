"""Volume drivers outside of the engine, by Docker's volume plug-in protocol.

https://docs.docker.com/engine/extend/plugins_volume/. A plug-in is found by its name: NAME.sock (or NAME/NAME.sock) in
the directory of sockets, NAME.spec or NAME.json in those of specifications. It is asked what it is (Plugin.Activate)
when it is first used.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import msgspec

from kist.model.errors import KistError, NotFound
from kist.volume.rpc import PATIENCE, Address, Tls, call

log = logging.getLogger(__name__)
T = TypeVar("T")
LONG, SHORT = 120.0, 60.0  # seconds: what creates or mounts, and all else
_LOOKING = 10.0  # seconds for plug-ins that nobody named


class _Manifest(msgspec.Struct, frozen=True, rename={"implements": "Implements"}):
    implements: list[str] | None = None


class _Spec(msgspec.Struct, frozen=True, rename={"address": "Addr", "tls": "TLSConfig"}):
    address: str = ""
    tls: Tls | None = None


class PluginVolume(msgspec.Struct, frozen=True, rename={
    "name": "Name", "mountpoint": "Mountpoint", "created": "CreatedAt", "status": "Status",
}):  # fmt: skip
    """A volume as its plug-in tells of it."""

    name: str = ""
    mountpoint: str | None = ""
    created: str | None = ""
    status: dict[str, Any] | None = None


class _Capabilities(msgspec.Struct, frozen=True, rename={"scope": "Scope"}):
    scope: str | None = ""


class _Answer(msgspec.Struct, frozen=True, rename={
    "failure": "Err", "mountpoint": "Mountpoint", "volume": "Volume", "volumes": "Volumes",
    "capabilities": "Capabilities",
}):  # fmt: skip
    """Of every method; each has some of the fields."""

    failure: str | None = ""
    mountpoint: str | None = ""
    volume: PluginVolume | None = None
    volumes: list[PluginVolume] | None = None
    capabilities: _Capabilities | None = None


class Plugin:
    """One volume driver. Every method raises `rpc.Unreachable`, and KistError with the plug-in's own words."""

    def __init__(self, name: str, address: Address) -> None:
        self.name, self.address = name, address
        self._scope = ""

    async def activate(self, patience: float, seconds: float = SHORT) -> None:
        """Raises KistError also when it is no volume driver."""
        data = await call(self.address, "Plugin.Activate", None, seconds, patience=patience)
        if "VolumeDriver" not in (_decoded(data, _Manifest, "Plugin.Activate").implements or ()):
            raise KistError("Plugin does not implement the requested driver")

    async def create(self, name: str, options: dict[str, str] | None) -> None:
        await self._call("Create", LONG, Name=name, Opts=options)

    async def remove(self, name: str) -> None:
        await self._call("Remove", SHORT, Name=name)

    async def path(self, name: str) -> str:
        return (await self._call("Path", SHORT, Name=name)).mountpoint or ""

    async def mount(self, name: str, identity: str) -> str:
        """Where it is mounted. `identity` is of this use; `unmount` gets the same."""
        return (await self._call("Mount", LONG, Name=name, ID=identity)).mountpoint or ""

    async def unmount(self, name: str, identity: str) -> None:
        await self._call("Unmount", SHORT, Name=name, ID=identity)

    async def list(self) -> list[PluginVolume]:
        return (await self._call("List", SHORT, patience=0.0)).volumes or []

    async def get(self, name: str, *, patience: float = PATIENCE) -> PluginVolume | None:
        """None when it has no volume of that name and says so without an error."""
        return (await self._call("Get", SHORT, patience=patience, Name=name)).volume

    async def scope(self) -> str:
        """`local` or `global`. Not every plug-in knows the question."""
        if not self._scope:
            try:
                told = (await self._call("Capabilities", SHORT, patience=0.0)).capabilities
            except KistError as error:
                log.debug("plug-in %s does not tell its capabilities: %s", self.name, error.message)
                return "local"
            scope = (told.scope or "" if told is not None else "").lower()
            if scope not in ("", "local", "global"):
                log.warning("plug-in %s tells an unknown scope %r", self.name, scope)
            self._scope = "global" if scope == "global" else "local"
        return self._scope

    async def _call(self, method: str, seconds: float, *, patience: float = PATIENCE, **arguments: object) -> _Answer:
        method = f"VolumeDriver.{method}"
        answer = _decoded(await call(self.address, method, arguments, seconds, patience=patience), _Answer, method)
        if answer.failure:
            raise KistError(answer.failure)
        return answer


def _decoded(data: bytes, type_: type[T], method: str) -> T:
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise KistError(f"{method}: error reading plugin response: {error}") from error


class Plugins:
    """The plug-ins of this machine; those that were used once are known from then on."""

    def __init__(self, sockets: str, specifications: tuple[str, ...]) -> None:
        self._sockets, self._specifications = sockets, specifications
        self._known: dict[str, Plugin] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def names(self) -> list[str]:
        """Of those in use."""
        return sorted(self._known)

    async def get(self, name: str) -> Plugin:
        """Raises NotFound and KistError with Docker's texts."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            if name not in self._known:
                self._known[name] = await self._activated(name, PATIENCE)
            return self._known[name]

    async def all(self) -> list[Plugin]:
        """Every one there is; those that do not answer are left out."""
        names = self._found()
        self._known = {name: plugin for name, plugin in self._known.items() if name in names}  # the others were removed
        found = await asyncio.gather(*(self._quietly(name) for name in sorted(names)))
        return [plugin for plugin in found if plugin is not None]

    async def _quietly(self, name: str) -> Plugin | None:
        async with self._locks.setdefault(name, asyncio.Lock()):
            try:
                if name not in self._known:
                    self._known[name] = await self._activated(name, 0.0, _LOOKING)
            except KistError as error:
                log.info("no volume driver: %s", error.message)
                return None
            return self._known[name]

    async def _activated(self, name: str, patience: float, seconds: float = SHORT) -> Plugin:
        what = f"error looking up volume plugin {name}"
        try:
            plugin = Plugin(name, self._address(name))
        except NotFound as error:
            raise NotFound(f"{what}: {error.message}") from error
        except KistError as error:
            raise KistError(f"{what}: legacy plugin: {error.message}") from error
        try:
            await plugin.activate(patience, seconds)
        except KistError as error:
            raise KistError(f"{what}: legacy plugin: {error.message}") from error
        return plugin

    def _found(self) -> set[str]:
        """Names of sockets and specifications, in their directories and one level below."""
        sockets = {_stem(path) for path in _files(self._sockets) if _is_socket(path)}
        return sockets | {
            _stem(path)
            for directory in self._specifications
            for path in _files(directory)
            if path.endswith((".spec", ".json"))
        }

    def _address(self, name: str) -> Address:
        """Raises NotFound, KistError."""
        if not name or "/" in name or "\0" in name:
            raise NotFound(f'plugin "{name}" not found')
        for path in _places(self._sockets, name, ".sock"):
            if _is_socket(path):
                return Address(f"unix://{path}")
        for directory in self._specifications:
            for path in (*_places(directory, name, ".spec"), *_places(directory, name, ".json")):
                if os.path.isfile(path):
                    return _read(path)
        raise NotFound(f'plugin "{name}" not found')


def _read(path: str) -> Address:
    """What a specification says. Raises KistError."""
    try:
        with open(path, "rb") as file:
            data = file.read(1 << 20)
    except OSError as error:
        raise KistError(f"open {path}: {(error.strerror or '').lower()}") from error
    if path.endswith(".json"):
        try:
            spec = msgspec.json.decode(data, type=_Spec)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise KistError(f"{path}: {error}") from error
        return Address(_checked(spec.address), spec.tls)
    return Address(_checked(data.decode("utf-8", "replace").strip()))


def _checked(address: str) -> str:
    if "://" not in address:
        raise KistError("Unknown protocol")
    return address


def _places(directory: str, name: str, ending: str) -> tuple[str, str]:
    return f"{directory}/{name}{ending}", f"{directory}/{name}/{name}{ending}"


def _files(directory: str) -> list[str]:
    found = []
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return []
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            found.append(entry.path)
            continue
        try:
            found += [f"{entry.path}/{name}" for name in os.listdir(entry.path)]
        except OSError:
            continue
    return found


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
