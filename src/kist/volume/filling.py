"""Copy-up: an empty volume gets what the image has where it is to be mounted.

The image is mounted nowhere and every path in it is hostile: links and `..` stay in its root.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from kist.kernel import aside, path
from kist.kernel.tree import remove_path
from kist.model.container import MountPoint
from kist.model.errors import KistError
from kist.model.mount import Mount
from kist.snapshot.copy import copy_tree, held

FILLING = "_filling"
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def has(layers: tuple[Mount, ...], point: MountPoint) -> bool:
    """Whether the image has a directory there. Raises KistError as `copy_up`."""
    with held(open_root(layers)) as root:
        source = _source(root, point)
    if source < 0:
        return False
    os.close(source)
    return True


def copy_up(name: str, directory: str, layers: tuple[Mount, ...], point: MountPoint, *, alone: bool) -> None:
    """Fills the volume `name`, whose files are in `directory`. `alone`: nobody can have it mounted, so that happens out
    of sight: it is filled whole, or not at all.

    Raises KistError with dockerd's texts where the image has no directory.
    """
    with held(open_root(layers)) as root:
        source = _source(root, point)
        if source < 0:
            return
        with held(source):
            if point.subpath:
                _fill_part(source, name, directory, point.subpath)
            elif not os.listdir(directory):
                _fill(source, name, directory, alone=alone)


def _source(root: int, point: MountPoint) -> int:
    """O_PATH descriptor of the image's directory, -1 when it has nothing there."""
    place = point.destination
    try:
        found = path.open_in_root(root, place, os.O_PATH)
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise KistError(f"stat {place}: {(error.strerror or str(error)).lower()}") from error
    if stat.S_ISDIR(os.fstat(found).st_mode):
        return found
    os.close(found)
    if point.anonymous:
        raise KistError(f"cannot mount volume over existing file, file exists {place}")
    raise KistError(f"source {place} is not directory")


def _fill(source: int, name: str, directory: str, *, alone: bool) -> None:
    try:
        if alone:
            _replace(source, directory)
        else:
            copy_tree(_path(source), directory, drop_attributes=True)
    except OSError as error:
        raise _cannot_fill(name, error) from error


def _fill_part(source: int, name: str, directory: str, inside: str) -> None:
    """A directory of the volume that is there and empty; nothing is made for it."""
    with held(os.open(directory, _ROOT)) as root:
        try:
            target = path.open_beneath(root, inside, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return  # the start tells what is wrong with it
        with held(target):
            try:
                if not os.listdir(target):
                    copy_tree(_path(source), _path(target), drop_attributes=True)
            except OSError as error:
                raise _cannot_fill(name, error) from error


def _cannot_fill(name: str, error: OSError) -> KistError:
    return KistError(f"cannot fill volume {name}: {error}")


def _replace(source: int, target: str) -> None:
    """Puts a copy in the place of an empty directory."""
    hidden = f"{os.path.dirname(target)}/{FILLING}"
    os.mkdir(hidden, 0o700)
    try:
        copy_tree(_path(source), hidden, drop_attributes=True)
        os.rename(hidden, target)
    except BaseException:
        discard(hidden)
        raise


def discard(directory: str) -> None:
    with suppress(OSError):
        remove_path(directory)


def _path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def open_root(layers: tuple[Mount, ...]) -> int:
    """A descriptor of a root file system that is mounted nowhere: only its holder looks inside. Raises KistError."""
    first = layers[0]
    try:
        if first.type == "bind":
            return os.open(first.source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        options = [word for word in first.options if word not in ("ro", "rw")]
        return aside.detached_overlay(first.source, options)
    except OSError as error:
        raise KistError(f"cannot open a root file system: {error}") from error
