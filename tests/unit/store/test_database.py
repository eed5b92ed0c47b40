"""Records in memory are those in the database, also when a transaction is refused."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from kist.image.service import ImageRecord, ImageService, Tag
from kist.model.errors import KistError
from kist.model.reference import Reference
from kist.store.database import Database, Records

IMAGE = "sha256:" + "a" * 64


class Thing(msgspec.Struct, frozen=True):
    size: int
    text: str = ""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "db")


@pytest.fixture
def database(path: str) -> Iterator[Database]:
    with contextlib.closing(Database(path)) as database:
        yield database


@pytest.fixture
def things(database: Database) -> Records[Thing]:
    things = Records(database, "thing", Thing)
    things.put("kept", Thing(1))
    things.put("gone", Thing(2))
    return things


def stored(path: str) -> dict[str, Thing]:
    """What the next start reads."""
    with contextlib.closing(Database(path)) as again:
        return contents(Records(again, "thing", Thing))


def contents(things: Records[Thing]) -> dict[str, Thing]:
    return dict(zip(things.keys(), things.values(), strict=True))


@contextlib.contextmanager
def full_disk(path: str) -> Iterator[None]:
    """No file grows (SIGXFSZ is ignored)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def change(things: Records[Thing]) -> None:
    things.put("new", Thing(1))
    things.put("kept", Thing(2))
    things.put("kept", Thing(3, "x" * 100_000))
    things.delete("gone")
    things.delete("new")
    things.put("newer", Thing(4))


def change_and_fail(things: Records[Thing]) -> None:
    change(things)
    raise RuntimeError


def test_what_is_committed_is_in_memory_and_stays(database: Database, things: Records[Thing], path: str) -> None:
    with database.transaction():
        change(things)
    wanted = {"kept": Thing(3, "x" * 100_000), "newer": Thing(4)}
    assert contents(things) == wanted
    with pytest.raises(ZeroDivisionError), database.transaction():
        _ = 1 / 0
    assert contents(things) == stored(path) == wanted


def test_a_transaction_that_breaks_off_leaves_nothing_in_memory(
    database: Database, things: Records[Thing], path: str
) -> None:
    with pytest.raises(RuntimeError), database.transaction(), database.transaction():
        change_and_fail(things)
    assert contents(things) == stored(path) == {"kept": Thing(1), "gone": Thing(2)}


def test_a_commit_that_the_disk_refuses_leaves_nothing_in_memory(
    database: Database, things: Records[Thing], path: str
) -> None:
    with full_disk(path), pytest.raises(KistError, match="cannot write the database"), database.transaction():
        change(things)
    assert contents(things) == stored(path) == {"kept": Thing(1), "gone": Thing(2)}


def test_a_tag_that_is_refused_is_not_there(database: Database, path: str) -> None:
    Records(database, "image", ImageRecord).put(IMAGE, ImageRecord(IMAGE, "", 0, "", (), ()))
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON records WHEN NEW.kind = 'image' "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    images = ImageService(database, cast(Any, None), cast(Any, None))
    with pytest.raises(KistError, match="disk is full"):
        images.tag(IMAGE, Reference.parse("phantom:1"))
    assert len(images._tags) == len(Records(database, "tag", Tag)) == 0
