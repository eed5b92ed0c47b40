"""Records in SQLite (WAL): one table, a row a record, JSON by msgspec. Small, synchronous, and safe against kill -9.

A ballast file beside the database is given up when the disk is full, so that what frees space (removals) and what has
happened already (exits) can still be written.

A commit costs about 0.1 ms here, less than a hop to a thread, so it is made where it is needed. `synchronous=NORMAL`
may lose the last commits when the machine dies, never the database; how many is up to who calls `sync`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from kist.model.digest import plain
from kist.model.errors import KistError

T = TypeVar("T", bound=msgspec.Struct)
SCHEMA_VERSION = 1
_BALLAST = 1 << 20  # bytes: enough for the pages of a few hundred changes


class Database:
    """One connection, used from one thread. Raises KistError when the file cannot be opened.

    `changed` is called after every commit.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.changed: Callable[[], None] = lambda: None
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise KistError(f"{path} was written by a newer version of kist (schema {version})")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS records (kind TEXT, key TEXT, value BLOB, PRIMARY KEY (kind, key)) "
                "WITHOUT ROWID"
            )
            self._connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except sqlite3.Error as error:
            raise KistError(f"cannot open the database {path}: {error}") from error
        self._depth = 0
        self._undo: list[Callable[[], None]] = []
        self._ballast = f"{path}-ballast"
        self._has_ballast = False
        self._take_ballast()

    def close(self) -> None:
        """Raises nothing: what is committed is in the log even when the disk takes no checkpoint."""
        try:
            self._connection.close()
        except sqlite3.Error:
            return

    def _take_ballast(self) -> None:
        if self._has_ballast:
            return
        try:
            descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, _BALLAST)
            finally:
                os.close(descriptor)
            self._has_ballast = True
        except OSError:
            self._drop_ballast()

    def _drop_ballast(self) -> bool:
        """Whether space was freed by it."""
        had, self._has_ballast = self._has_ballast, False
        try:
            os.unlink(self._ballast)
        except OSError:
            return False
        return had

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes within, or none. Nests; the outermost commits. Raises KistError when the disk refuses."""
        self._depth += 1
        try:
            if self._depth == 1:
                self._connection.execute("BEGIN IMMEDIATE")
            yield
            if self._depth == 1:
                self._connection.execute("COMMIT")
                self._undo.clear()
                self.changed()
        except sqlite3.Error as error:
            self._rollback()
            raise KistError(f"cannot write the database: {error}") from error
        except BaseException:
            self._rollback()
            raise
        finally:
            self._depth -= 1

    def _rollback(self) -> None:
        if self._depth > 1:
            return
        while self._undo:
            self._undo.pop()()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """For what follows a change in memory: called when the transaction at hand, if any, is not committed."""
        if self._depth:
            self._undo.append(undo)

    def put(self, kind: str, key: str, value: bytes, *, happened: bool = False) -> None:
        """`happened`: it cannot be refused, so the ballast is given up for it when the disk is full."""
        self._change("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (kind, key, value), happened)

    def delete(self, kind: str, key: str) -> None:
        """Works on a full disk."""
        self._change("DELETE FROM records WHERE kind=? AND key=?", (kind, key), True)

    def _change(self, statement: str, values: tuple[object, ...], must: bool) -> None:
        try:
            self._execute(statement, values)
        except KistError:
            if not must or self._depth or not self._drop_ballast():
                raise
            self._execute(statement, values)
            return
        if not self._depth:
            self._take_ballast()

    def _execute(self, statement: str, values: tuple[object, ...]) -> None:
        """Within a transaction part of it; alone it commits itself, which saves two statements."""
        try:
            self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise KistError(f"cannot write the database: {error}") from error
        if not self._depth:
            self.changed()

    def sync(self) -> None:
        """What is committed is on the disk when this returns. For any thread. Raises OSError."""
        try:
            log = os.open(f"{self._path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # closed: the last checkpoint has synced it
            return
        try:
            os.fdatasync(log)
        finally:
            os.close(log)

    def get(self, kind: str, key: str) -> bytes | None:
        found = self._rows("SELECT value FROM records WHERE kind=? AND key=?", (kind, key))
        return found[0][0] if found else None

    def items(self, kind: str) -> list[tuple[str, bytes]]:
        return self._rows("SELECT key, value FROM records WHERE kind=? ORDER BY key", (kind,))

    def _rows(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise KistError(f"cannot read the database: {error}") from error


class Records(Generic[T]):
    """The records of one kind, typed, all of them in memory: reads cost nothing, writes go through."""

    def __init__(self, database: Database, kind: str, type_: type[T]) -> None:
        self._database, self._kind = database, kind
        self._encode = msgspec.json.Encoder(enc_hook=plain).encode
        decode = msgspec.json.Decoder(type_).decode
        try:
            self._values: dict[str, T] = {key: decode(value) for key, value in database.items(kind)}
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise KistError(f"the database holds a {kind} that cannot be read: {error}") from error

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> T | None:
        return self._values.get(key)

    def put(self, key: str, value: T, *, happened: bool = False) -> None:
        """Durable when it returns. Raises KistError, and then the old value stays. `happened`: see Database.put."""
        self._database.put(self._kind, key, self._encode(value), happened=happened)
        self._set(key, value)

    def delete(self, key: str) -> None:
        self._database.delete(self._kind, key)
        self._set(key, None)

    def _set(self, key: str, value: T | None) -> None:
        self._database.on_rollback(partial(self._assign, key, self._values.get(key)))
        self._assign(key, value)

    def _assign(self, key: str, value: T | None) -> None:
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value

    def values(self) -> list[T]:
        return list(self._values.values())

    def __iter__(self) -> Iterator[str]:
        """The keys, as they are now."""
        return iter(list(self._values))

    def keys(self) -> list[str]:
        return list(self._values)
