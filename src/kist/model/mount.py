"""A mount as a value: the common currency between snapshot drivers, volumes and what starts a container."""

from __future__ import annotations

import msgspec


class Mount(msgspec.Struct, frozen=True):
    """What one mount needs, in the terms of the OCI runtime spec. Drivers return mounts; they never perform them.

    `options` are fstab-style words (`ro`, `lowerdir=/a:/b`); `target` is relative to the root being assembled
    ("" is the root itself).
    """

    type: str
    source: str
    options: tuple[str, ...] = ()
    target: str = ""
