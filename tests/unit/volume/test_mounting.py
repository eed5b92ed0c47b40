"""Holds of volumes whose plug-in does not keep its word."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.volume_plugin import VolumePlugin

from kist.model.errors import KistError
from kist.model.volume import Volume
from kist.store.database import Database
from kist.volume import plugins, rpc
from kist.volume.mounting import Mounting
from kist.volume.plugins import Plugins

VOLUME = Volume("vol", "slow", "", "")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Nobody is waited for longer than a moment."""

    async def impatient(address: rpc.Address, method: str, arguments: Any, seconds: float, *, patience: float) -> bytes:
        return await rpc.call(address, method, arguments, 0.2, patience=0.0)

    monkeypatch.setattr(plugins, "call", impatient)
    found = VolumePlugin(str(tmp_path / "volumes"), str(tmp_path / "slow.sock"))
    found.start()
    yield found
    found.stop()


def find(name: str) -> Volume | None:
    return VOLUME if name == "vol" else None


def test_a_mount_that_came_too_late_is_undone(tmp_path: Path, plugin: VolumePlugin) -> None:
    database = Database(str(tmp_path / "db"))

    async def work() -> None:
        mounting = Mounting(database, Plugins(str(tmp_path), ()))
        assert await mounting.take(VOLUME, "first", "/x") == f"{plugin.root}/vol"
        plugin.delay = 0.5
        with pytest.raises(rpc.TimedOut, match="context deadline exceeded"):
            await mounting.take(VOLUME, "second", "/x")
        await asyncio.sleep(0.6)
        plugin.delay = 0.0
        assert len(plugin.mounted["vol"]) == 2
        assert mounting.holds_anything("second")
        await mounting.release("second", find)
        assert len(plugin.mounted["vol"]) == 1
        await mounting.release("first", find)
        assert plugin.mounted["vol"] == set()
        assert not mounting.holds_anything("first")

    asyncio.run(work())
    database.close()


def test_a_mount_that_is_refused_is_not_held(tmp_path: Path, plugin: VolumePlugin) -> None:
    database = Database(str(tmp_path / "db"))
    plugin.replies["VolumeDriver.Mount"] = {"Err": "no"}

    async def work() -> None:
        mounting = Mounting(database, Plugins(str(tmp_path), ()))
        with pytest.raises(KistError, match="no"):
            await mounting.take(VOLUME, "first", "/x")
        assert not mounting.holds_anything("first")

    asyncio.run(work())
    assert database.items("volume-hold") == []
    database.close()


def test_holds_outlive_the_engine_that_took_them(tmp_path: Path, plugin: VolumePlugin) -> None:
    database = Database(str(tmp_path / "db"))

    async def work() -> None:
        before = Mounting(database, Plugins(str(tmp_path), ()))
        for holder in ("runs", "ended"):
            await before.take(VOLUME, holder, "/x")
        after = Mounting(database, Plugins(str(tmp_path), ()))
        later = await after.repair([VOLUME], lambda holder: holder == "runs", find)
        assert later == ["ended"]
        await after.release("ended", find)
        assert (after.holds_anything("runs"), len(plugin.mounted["vol"])) == (True, 1)

    asyncio.run(work())
    database.close()
