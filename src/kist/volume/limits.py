"""Volumes of a limited size: by the file system's project quota where it has one, or else in a file of that size.

The project's number is in the volume's record before any limit is set, and its limit is taken off with the volume.
"""

from __future__ import annotations

import os
import random

import msgspec

from kist.kernel import quota
from kist.model.errors import InvalidParameter, KistError
from kist.model.volume import Volume
from kist.volume import ext4
from kist.volume.local import IMAGE

_PROJECTS = range(1 << 30, (1 << 31) - 1)  # far from those that administrators count up from 1
_TRIES = 100


def planned(volume: Volume, size: int, taken: set[int]) -> Volume:
    """The volume with how its size will be limited; nothing is made. Raises InvalidParameter, KistError."""
    root = os.path.dirname(os.path.dirname(volume.mountpoint))
    directory = quota.open_directory(root)
    try:
        if quota.enforced(directory):
            return msgspec.structs.replace(volume, project=_free_project(directory, taken))
    except OSError as error:
        raise KistError(f"cannot read the quotas of {root}: {error.strerror}") from error
    finally:
        os.close(directory)
    if not ext4.SMALLEST <= size < ext4.LARGEST:
        raise InvalidParameter(f"invalid size: a volume can have {ext4.SMALLEST} to {ext4.LARGEST - 1} bytes here")
    return msgspec.structs.replace(volume, image=True)


def _free_project(directory: int, taken: set[int]) -> int:
    for _ in range(_TRIES):
        project = random.choice(_PROJECTS)
        if project not in taken and quota.is_free(directory, project):
            return project
    raise KistError("no project number is free for the quota")


def apply(volume: Volume, size: int) -> None:
    """Limits the new, empty volume. Raises OSError."""
    if volume.image:
        ext4.make(f"{os.path.dirname(volume.mountpoint)}/{IMAGE}", size)
        return
    directory = quota.open_directory(volume.mountpoint)
    try:
        quota.limit(directory, volume.project, size)
        quota.assign(directory, volume.project)
    finally:
        os.close(directory)


def forget(volume: Volume) -> None:
    """The volume goes: its project has no limit any more. What cannot be undone does not keep it."""
    if not volume.project:
        return
    try:
        directory = quota.open_directory(os.path.dirname(os.path.dirname(volume.mountpoint)))
    except OSError:
        return
    try:
        quota.limit(directory, volume.project, 0)
    except OSError:
        return
    finally:
        os.close(directory)
