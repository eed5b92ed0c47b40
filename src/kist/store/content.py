"""Blobs by digest (OCI image layout): hashed while they are written, synced, renamed. A blob that is there is right."""

from __future__ import annotations

import hashlib
import os
import tempfile
from types import TracebackType

from kist.model.digest import Digest
from kist.model.errors import InvalidParameter, NotFound


class Ingest:
    """A blob on its way in. Leaving the block without `commit` removes what was written."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._descriptor, self._path = tempfile.mkstemp(dir=f"{root}/ingest")
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Ingest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            os.unlink(self._path)

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def commit(self, expected: str = "") -> Digest:
        """The digest of what was written; it is on the disk now. Raises InvalidParameter unless it is `expected`."""
        digest = Digest.from_hex(self._hash.hexdigest())
        if expected and digest != expected:
            raise InvalidParameter(f"unexpected content: digest is {digest}, expected {expected}")
        os.fchmod(self._descriptor, 0o600)
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        os.rename(self._path, f"{self._root}/blobs/sha256/{digest.hex}")
        return digest


class ContentStore:
    """All blobs of one data root. Methods may be called from any thread."""

    def __init__(self, root: str) -> None:
        self._root = root
        os.makedirs(f"{root}/blobs/sha256", mode=0o700, exist_ok=True)
        os.makedirs(f"{root}/ingest", mode=0o700, exist_ok=True)
        for name in os.listdir(f"{root}/ingest"):  # what a crash left half-written
            os.unlink(f"{root}/ingest/{name}")

    def ingest(self) -> Ingest:
        return Ingest(self._root)

    def put(self, data: bytes) -> Digest:
        with self.ingest() as ingest:
            ingest.write(data)
            return ingest.commit()

    def path(self, digest: str) -> str:
        """Raises NotFound when there is no such blob."""
        path = f"{self._root}/blobs/sha256/{Digest.parse(digest).hex}"
        if not os.path.exists(path):
            raise NotFound(f"content {digest}: not found")
        return path

    def has(self, digest: str) -> bool:
        return os.path.exists(f"{self._root}/blobs/sha256/{Digest.parse(digest).hex}")

    def size(self, digest: str) -> int:
        return os.stat(self.path(digest)).st_size

    def read(self, digest: str) -> bytes:
        with open(self.path(digest), "rb") as file:
            return file.read()

    def remove(self, digest: str) -> None:
        try:
            os.unlink(f"{self._root}/blobs/sha256/{Digest.parse(digest).hex}")
        except FileNotFoundError:
            pass

    def digests(self) -> list[Digest]:
        return [Digest.from_hex(name) for name in os.listdir(f"{self._root}/blobs/sha256")]
