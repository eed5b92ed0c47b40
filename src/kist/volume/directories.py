"""The directories of local volumes: `<root>/NAME/_data`, with what is to be known of one after a crash in its name or
beside it.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Container, Iterator
from contextlib import suppress

from kist.kernel.placement import spread
from kist.model.errors import KistError
from kist.volume import local
from kist.volume.filling import discard

log = logging.getLogger(__name__)
_PENDING = "pending"
_REMOVED = ".removed-"  # no volume's name starts with a dot


def unmount_volumes(root: str) -> None:
    """Of an engine that is taken away. Raises KistError."""
    if os.path.isdir(root):
        for name in os.listdir(root):
            local.unmount_below(f"{root}/{name}/_data")


class Directories:
    def __init__(self, root: str) -> None:
        self._root = root
        os.makedirs(root, mode=0o701, exist_ok=True)
        spread(root)

    def path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def data(self, name: str) -> str:
        return f"{self._root}/{name}/_data"

    def names(self) -> list[str]:
        return [name for name in os.listdir(self._root) if not name.startswith(_REMOVED)]

    def orphans(self, known: Container[str]) -> Iterator[tuple[str, str]]:
        """Directories without a record hold somebody's data: they become volumes again, never rubbish."""
        for name in self.names():
            if name not in known and not self.is_marked(name) and os.path.isdir(self.data(name)):
                yield name, self.data(name)

    # --- marked: goes unless a container holds it ---

    def is_marked(self, name: str) -> bool:
        return os.path.exists(f"{self.path(name)}/{_PENDING}")

    def mark(self, name: str) -> None:
        """Raises OSError."""
        os.makedirs(self.path(name), mode=0o755, exist_ok=True)
        os.close(os.open(f"{self.path(name)}/{_PENDING}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def unmark(self, name: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(f"{self.path(name)}/{_PENDING}")

    # --- removed ---

    def hide(self, name: str) -> str:
        """Its new path, which nobody knows. Raises KistError."""
        hidden = f"{self._root}/{_REMOVED}{name}~{secrets.token_hex(4)}"  # a volume of that name may come, and go again
        try:
            os.rename(self.path(name), hidden)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise KistError(f"remove {name}: {error.strerror}") from error
        return hidden

    def show(self, name: str, hidden: str) -> None:
        """Undoes `hide`."""
        with suppress(FileNotFoundError):
            os.rename(hidden, self.path(name))

    def removed(self) -> list[str]:
        """Names of volumes whose files are still to be removed."""
        found = [name for name in os.listdir(self._root) if name.startswith(_REMOVED)]
        return [name.removeprefix(_REMOVED).partition("~")[0] for name in found]

    def collect(self) -> None:
        """The files of removed volumes; never what is mounted there, which is somebody else's."""
        for name in os.listdir(self._root):
            if not name.startswith(_REMOVED):
                continue
            try:
                local.unmount_below(self.path(name))
            except KistError as error:
                log.error("the files of a removed volume stay: %s", error.message)
                continue
            discard(self.path(name))

    def drop(self, name: str) -> None:
        """A directory that is no volume: one with a mark goes whole, any other if it is empty."""
        if self.is_marked(name):
            discard(self.path(name))
        else:
            with suppress(OSError):
                os.rmdir(self.path(name))
