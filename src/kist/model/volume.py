"""Volumes: directories with a name, that outlive containers."""

from __future__ import annotations

import msgspec


class Volume(msgspec.Struct, frozen=True):
    """A volume as the store keeps it. `created` is RFC 3339; `anonymous` ones were named by the engine."""

    name: str
    driver: str
    mountpoint: str
    created: str
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None
    anonymous: bool = False
