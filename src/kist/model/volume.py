"""Volumes: directories with a name, that outlive containers."""

from __future__ import annotations

from typing import Any

import msgspec

LOCAL = "local"
ANONYMOUS_LABEL = "com.docker.volume.anonymous"  # of volumes that the engine named


class Volume(msgspec.Struct, frozen=True):
    """A volume as the store keeps it. `created` is RFC 3339; `anonymous` ones were named by the engine.

    A limited one (option size) has either a `project` of the file system's quotas or an `image` with a file system of
    its own. `pending`: of a plug-in, and made for a container that is not recorded yet.
    """

    name: str
    driver: str
    mountpoint: str
    created: str
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None
    anonymous: bool = False
    project: int = 0
    image: bool = False
    pending: bool = False

    @property
    def is_local(self) -> bool:
        return self.driver == LOCAL

    @property
    def is_plain(self) -> bool:
        """Nothing but a directory, of which only the engine decides: what `df` measures and `prune` takes."""
        return self.is_local and not self.options


class ShownVolume(msgspec.Struct, frozen=True):
    """A volume as clients see it: `status` is what a plug-in tells of it, None for local ones."""

    volume: Volume
    scope: str = LOCAL
    status: dict[str, Any] | None = None
