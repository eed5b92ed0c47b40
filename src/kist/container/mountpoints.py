"""Where the mounts of a running container are, which may have moved them: every path in it is hostile."""

from __future__ import annotations

import os

from kist.kernel import path
from kist.model.errors import KistError
from kist.runtime import criu


def mount_points(pid: int, outside: list[criu.Outside]) -> dict[str, str]:
    """Where mounts from outside are in the container now, by criu's names. Raises KistError.

    The container may have renamed directories on the way to them, so each is checked to be what the engine mounted: one
    that took another's place would be given that one's rights by a restore.
    """
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        entries = criu.parse_mountinfo(file.read())
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = {one.name: _mount_point(root, one, entries) for one in outside}
    finally:
        os.close(root)
    if len(set(found.values())) < len(found):
        raise KistError("two of its mounts are at one place")
    return found


def _mount_point(root: int, one: criu.Outside, entries: dict[int, criu.MountEntry]) -> str:
    try:
        place = path.open_in_root(root, one.target, os.O_PATH)
        try:
            entry = entries.get(_mount_id(place))
            same = not one.source or _identity(place) == _source(one)
        finally:
            os.close(place)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise KistError(f"cannot find what is mounted at {one.target}: {reason}") from error
    if entry is None or not same or entry.read_only != one.read_only:
        raise KistError(f"what is mounted at {one.target} is not any more what was mounted there at the start")
    criu.check_name(entry.point)
    return entry.point


def _mount_id(descriptor: int) -> int:
    """The mount on which an open file is (proc_pid_fdinfo(5))."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _source(one: criu.Outside) -> tuple[int, int]:
    """What a bind shows. No link in the part below its source leads out of that."""
    source = os.open(one.source, os.O_PATH | os.O_CLOEXEC)
    try:
        if not one.inside:
            return _identity(source)
        part = path.open_in_root(source, one.inside, os.O_PATH)
        try:
            return _identity(part)
        finally:
            os.close(part)
    finally:
        os.close(source)
