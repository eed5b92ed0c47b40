"""What a log driver is: the interface of those that are here and of those that come with other packages.

A package offers a driver by an entry point of the group `kist.log_drivers` whose name is what `--log-driver` says and
whose object is a subclass of Driver. kistd asks `validate` when a container is made and `connect` when it is started;
the shipper, a process of its own, makes an instance per container, and calls `connect`, `send` and `close` in a
thread of that container. Whatever blocks there blocks that container's log only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec


class Info(msgspec.Struct, frozen=True):
    """The container as drivers are told of it. `tag` and `extra` are made from the common options already."""

    id: str
    name: str
    image_id: str
    image: str
    command: str
    created: str  # RFC 3339
    tag: str
    options: dict[str, str]
    extra: dict[str, str]  # by `labels`, `env` and their regular expressions
    hostname: str = ""


class Partial(msgspec.Struct, frozen=True):
    """A piece of a line that was longer than 16 KiB: `ordinal` counts from 1, the last piece has the newline."""

    id: str
    ordinal: int
    last: bool


class Entry(msgspec.Struct, frozen=True):
    """One line without its newline; `time` in nanoseconds since the epoch."""

    line: bytes
    source: str  # stdout or stderr
    time: int
    partial: Partial | None = None


class Failed(Exception):
    """A send broke off behind the first `sent` entries; the others are sent again later."""

    def __init__(self, message: str, sent: int = 0) -> None:
        super().__init__(message)
        self.sent = sent


class Refused(Failed):
    """The server will never take the `count` entries behind the first `sent`: they are given up."""

    def __init__(self, message: str, sent: int, count: int) -> None:
        super().__init__(message, sent)
        self.count = count


class Driver:
    """One container's way to a server. Every failure of `connect` and `send` is an OSError, ValueError or Failed."""

    default_tag: ClassVar[str] = "{{.ID}}"

    def __init__(self, info: Info) -> None:
        self.info = info

    @classmethod
    def validate(cls, options: dict[str, str]) -> None:
        """Options without the ones that every driver has. Raises ValueError with the text for the user."""

    @classmethod
    def is_asynchronous(cls, options: dict[str, str]) -> bool:
        """Whether neither a start nor a container's output ever waits for the server."""
        return False

    def connect(self) -> None:
        """Reaches the server, and raises with the text for the user when it cannot be. Called again after failures."""

    def send(self, entries: Sequence[Entry]) -> None:
        """All of them, in their order; they count as sent when this returns."""
        raise NotImplementedError

    def close(self) -> None:
        """Lets go of the server. Called also when connect failed."""
