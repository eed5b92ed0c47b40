"""Which ids of a file system are shown as which in an id-mapped mount (mount_setattr(2), MOUNT_ATTR_IDMAP).

The words are podman's: `uids=1000-0-1#1001-1-9;gids=1000-0-1`, each range `id on the file system - id it is shown as -
how many`, as the lines of a user namespace's maps are. `keep=UID:GID` is this engine's own: whoever the container runs
as makes files that belong to UID and GID outside, and sees theirs as its own.
"""

from __future__ import annotations

import itertools

import msgspec

from kist.model.errors import InvalidParameter
from kist.model.number import is_number

Range = tuple[int, int, int]
_LAST_ID = (1 << 32) - 2  # -1 is no id (user_namespaces(7))
_MOST_RANGES = 340  # UID_GID_MAP_MAX_EXTENTS, include/linux/user_namespace.h


class IDMap(msgspec.Struct, frozen=True):
    """Either ranges of both kinds, or the (uid, gid) that is kept."""

    uids: tuple[Range, ...] = ()
    gids: tuple[Range, ...] = ()
    keep: tuple[int, int] | None = None


def parse(text: str) -> IDMap:
    """Raises InvalidParameter."""
    if text.partition("=")[0] == "keep":
        return IDMap(keep=_kept(text))
    found: dict[str, tuple[Range, ...]] = {}
    for part in text.split(";"):
        kind, equals, ranges = part.partition("=")
        if kind not in ("uids", "gids") or not equals:
            raise _wrong(text, f"'{part}' is neither uids=... nor gids=...")
        if kind in found:
            raise _wrong(text, f"{kind} are given twice")
        found[kind] = _ranges(text, ranges)
    for kind in ("uids", "gids"):
        if kind not in found:
            raise _wrong(text, f"{kind} are missing")
    return IDMap(found["uids"], found["gids"])


def _wrong(text: str, reason: str) -> InvalidParameter:
    return InvalidParameter(f"invalid idmap '{text}': {reason}")


def _kept(text: str) -> tuple[int, int]:
    uid, colon, gid = text.partition("=")[2].partition(":")
    if not colon or not (is_number(uid) and is_number(gid)) or max(int(uid), int(gid)) > _LAST_ID:
        raise _wrong(text, "keep needs a user and a group, as keep=1000:1000")
    return int(uid), int(gid)


def _ranges(text: str, words: str) -> tuple[Range, ...]:
    found = tuple(_range(text, word) for word in words.split("#"))
    if len(found) > _MOST_RANGES:
        raise _wrong(text, f"more than {_MOST_RANGES} ranges")
    for side in (0, 1):
        ordered = sorted(found, key=lambda one: one[side])
        for one, after in itertools.pairwise(ordered):
            if one[side] + one[2] > after[side]:
                raise _wrong(text, f"id {after[side]} is in two ranges")
    return found


def _range(text: str, word: str) -> Range:
    if word.startswith("@"):
        raise _wrong(text, f"'{word}' is relative to a user namespace, and the container has none of its own")
    numbers = word.split("-")
    if len(numbers) != 3 or not all(is_number(number) for number in numbers):
        raise _wrong(text, f"'{word}' is not of the form 1000-0-1")
    first, shown, count = (int(number) for number in numbers)
    if count < 1 or max(first, shown) + count - 1 > _LAST_ID:
        raise _wrong(text, f"'{word}' goes beyond the last id, or has none")
    return first, shown, count
