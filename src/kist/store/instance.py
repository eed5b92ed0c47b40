"""One engine per data root: the lock, and the identity from which every kernel name of this engine is made."""

from __future__ import annotations

import fcntl
import os
import secrets

from kist.model.errors import KistError


class Instance:
    """`id` is 8 hex digits, kept in the data root. Holds flock(2) on both roots until it is closed."""

    def __init__(self, data_root: str, exec_root: str) -> None:
        self._locks: list[int] = []
        for path, mode in ((data_root, 0o710), (exec_root, 0o711)):
            try:
                os.makedirs(path, mode=mode, exist_ok=True)
                self._locks.append(self._lock(path))
            except OSError as error:
                self.close()
                raise KistError(f"cannot use {path}: {error.strerror}") from error
        try:
            self.id = self._identity(data_root)
        except OSError as error:
            self.close()
            raise KistError(f"cannot use {data_root}: {error.strerror}") from error

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _lock(path: str) -> int:
        descriptor = os.open(f"{path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise KistError(
                f"{path} is in use by another kistd: give each its own --data-root and --exec-root"
            ) from error
        return descriptor

    @staticmethod
    def _identity(data_root: str) -> str:
        path = f"{data_root}/engine-id"
        try:
            with open(path, encoding="ascii") as file:
                found = file.read().strip()
            if len(found) == 8:
                return found
        except FileNotFoundError:
            pass
        identity = secrets.token_hex(4)
        with open(f"{path}.new", "w", encoding="ascii") as file:
            file.write(identity)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{path}.new", path)
        return identity

    def close(self) -> None:
        for descriptor in self._locks:
            os.close(descriptor)
        self._locks.clear()
