"""What a container changed in its root: two trees compared as Docker compares them (`docker diff`).

A file differs by mode, owner, device, size, time or capabilities; a directory by mode and owner alone, as its size and
time change with what is in it. A directory in which something changed counts as changed.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
from collections.abc import Callable, Iterator

import msgspec

from kist.kernel import path
from kist.snapshot.copy import held

_NAME = os.O_PATH | os.O_NOFOLLOW
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)


class Kind(enum.IntEnum):
    """As Docker numbers them."""

    MODIFIED = 0
    ADDED = 1
    DELETED = 2


class Change(msgspec.Struct, frozen=True):
    path: str  # absolute, in the container
    kind: Kind


class Entry(msgspec.Struct, frozen=True):
    """One file of a tree. `deleted`: a whiteout; `opaque`: a directory that hides what was there."""

    status: os.stat_result
    capability: bytes = b""
    deleted: bool = False
    opaque: bool = False

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


def entry(top: int, inside: str, *, upper: bool = False) -> Entry | None:
    """A file below a directory, links not followed; None when there is none. `upper`: of an overlay."""
    try:
        descriptor = path.open_beneath(top, inside, _NAME)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    with held(descriptor):
        status = os.fstat(descriptor)
        deleted = upper and stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
        opaque = upper and stat.S_ISDIR(status.st_mode) and _attribute(descriptor, "trusted.overlay.opaque") == b"y"
        capability = _attribute(descriptor, "security.capability") if stat.S_ISREG(status.st_mode) else b""
        return Entry(status, capability, deleted, opaque)


def names(top: int, inside: str) -> list[str]:
    """What is in a directory, in order; nothing when it is none."""
    try:
        descriptor = path.open_beneath(top, inside, _LIST)
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise
    with held(descriptor):
        return sorted(os.listdir(descriptor), key=os.fsencode)


def compare(old: int, new: int, *, upper: bool = False, ignore: Callable[[str], bool] = lambda inside: False) -> list[
    Change
]:  # fmt: skip
    """The changes from one tree to another, in the order of the paths. Raises OSError.

    `upper`: the new tree is an overlay's upper directory over the old one, so what is not there is not deleted.
    `ignore`: added paths that count for nothing.
    """
    found: dict[str, Kind] = {}
    pending = [(".", True)]
    while pending:
        inside, old_is_there = pending.pop()
        for name, before, now in _pairs(old, new, inside, old_is_there, upper):
            here = f"{inside}/{name}"
            if now is None or now.deleted:
                if before is not None:
                    found[here] = Kind.DELETED
                continue
            if before is None and not ignore(here[2:]):
                found[here] = Kind.ADDED
            elif before is not None and _differ(before, now):
                found[here] = Kind.MODIFIED
            if now.is_directory:
                pending.append((here, before is not None and before.is_directory))
    for here in list(found):
        parent = here.rpartition("/")[0]
        while parent != "." and parent not in found:
            found[parent] = Kind.MODIFIED
            parent = parent.rpartition("/")[0]
    return [Change(here[1:], found[here]) for here in sorted(found, key=lambda one: one.split("/"))]


def _pairs(
    old: int, new: int, inside: str, old_is_there: bool, upper: bool
) -> Iterator[tuple[str, Entry | None, Entry | None]]:
    """(name, before, now) of everything in a directory that may have changed."""
    now = names(new, inside)
    whole = not upper
    if upper and inside != "." and old_is_there:
        own = entry(new, inside, upper=True)
        whole = own is not None and own.opaque
    gone = set(names(old, inside)) - set(now) if old_is_there and whole else set()
    for name in sorted({*now, *gone}, key=os.fsencode):
        here = f"{inside}/{name}"
        before = entry(old, here) if old_is_there else None
        yield name, before, None if name in gone else entry(new, here, upper=upper)


def _differ(before: Entry, now: Entry) -> bool:
    old, new = before.status, now.status
    if (old.st_mode, old.st_uid, old.st_gid, old.st_rdev) != (new.st_mode, new.st_uid, new.st_gid, new.st_rdev):
        return True
    if now.is_directory:
        return False
    return not _same_time(old, new) or old.st_size != new.st_size or before.capability != now.capability


def _same_time(old: os.stat_result, new: os.stat_result) -> bool:
    """What went through a tar has whole seconds."""
    first, second = old.st_mtime_ns, new.st_mtime_ns
    return first == second or (0 in (first % 10**9, second % 10**9) and first // 10**9 == second // 10**9)


def _attribute(descriptor: int, name: str) -> bytes:
    try:
        return os.getxattr(f"/proc/self/fd/{descriptor}", name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM):
            return b""
        raise
