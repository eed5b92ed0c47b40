"""What a client asks of a container where that takes more than a word."""

from __future__ import annotations

import msgspec

from kist.model.config import ContainerConfig
from kist.model.reference import Reference


class AttachRequest(msgspec.Struct, frozen=True):
    """`keys`: what detaches, in Docker's words. `past`: the log comes first. `leftover`: input read with the head."""

    stdin: bool
    stdout: bool
    stderr: bool
    keys: str = ""
    past: bool = False
    multiplexed: bool = True
    leftover: bytes = b""


class CommitRequest(msgspec.Struct, frozen=True):
    """`config` replaces the container's own; what it leaves open is filled from that."""

    config: ContainerConfig | None = None
    changes: tuple[str, ...] = ()
    name: Reference | None = None
    author: str = ""
    comment: str = ""
    pause: bool = True
