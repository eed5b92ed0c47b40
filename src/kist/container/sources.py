"""What a start checks of the sources of mounts, in dockerd's words, and makes of those of binds.

A part of a volume or an image is looked for here only to say what is wrong with it; what is mounted is found again
below its root by the process that mounts it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from kist.kernel import path
from kist.model.container import MountPoint
from kist.model.errors import InvalidParameter, KistError, NotFound
from kist.runtime.criu import unescape

_NEEDS = {
    "shared": (("shared:",), "a shared mount"),
    "slave": (("shared:", "master:"), "a shared or slave mount"),
}


def settle(points: Sequence[MountPoint]) -> None:
    """Makes what is missing and may be made. Raises KistError, NotFound, InvalidParameter."""
    for point in points:
        if point.type == "bind" and point.makes_source:
            _make(point.source)
    for point in points:
        check_propagation(point)


def _make(source: str) -> None:
    """A directory, unless there is something: what leads nowhere is in the way."""
    if os.path.exists(source):
        return
    try:
        os.makedirs(source)
    except NotADirectoryError:
        return  # below a file: the mount itself says so
    except OSError as error:
        raise KistError(
            f"error while creating mount source path '{source}': mkdir {source}: {(error.strerror or '').lower()}"
        ) from error


# --- parts of volumes and images ---


def open_base(base: str) -> int:
    """O_PATH descriptor of a volume's directory. Raises NotFound."""
    try:
        return os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NotFound(f"cannot access path {base}: lstat {base}: {reason}") from error


def open_part(root: int, base: str, inside: str) -> int:
    """O_PATH descriptor of what is below a directory, which no link leads out of; `base` is what errors call it.

    Raises NotFound, InvalidParameter, KistError.
    """
    try:
        return path.open_beneath(root, inside, os.O_PATH)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.ELOOP):
            raise InvalidParameter(
                f"path concatenation escapes the base directory, base: {base}, subpath: {inside}"
            ) from error
        place = os.path.normpath(f"{base}/{inside}")
        reason = (error.strerror or str(error)).lower()
        if error.errno == errno.ENOENT:
            raise NotFound(f"cannot access path {place}: lstat {place}: {reason}") from error
        raise KistError(f'error while resolving symlinks in combined path "{place}": {reason}') from error


# --- propagation ---


def _own_mountinfo() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def check_propagation(point: MountPoint, mountinfo: Callable[[], str] = _own_mountinfo) -> None:
    """Mounts can travel only where the source is on a mount that they reach. Raises KistError."""
    needs = _NEEDS.get(point.propagation.removeprefix("r"))
    if needs is None or point.type != "bind" or point.follows_if_possible:
        return
    place, tags = mount_of(os.path.realpath(point.source), mountinfo())
    words, kind = needs
    if not any(tag.startswith(words) for tag in tags):
        raise KistError(f"path {point.source} is mounted on {place} but it is not {kind}")


def mount_of(source: str, mountinfo: str) -> tuple[str, list[str]]:
    """Where the mount is that a path without links lies on, and its optional fields (proc_pid_mountinfo(5)).

    Of several at one place the last is the one that is seen.
    """
    best, tags = "", list[str]()
    for line in mountinfo.rstrip("\n").split("\n"):
        words = line.split(" ")
        place = unescape(words[4])
        if len(place) >= len(best) and f"{source}/".startswith(f"{place.rstrip('/')}/"):
            best, tags = place, words[6 : words.index("-")]
    return best, tags
