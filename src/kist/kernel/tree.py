"""Removing trees that a container has made: as deep as it liked, and it may go on changing them meanwhile.

shutil.rmtree recurses and holds a descriptor per level: a few thousand directories in each other end it. Here two
descriptors are open at any depth. The way up is `..`, checked to be the directory that the way down came from.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class _Level(NamedTuple):
    name: str
    identity: tuple[int, int]  # device and inode
    pending: list[str]  # its directories


def remove_tree(directory: int, name: str) -> None:
    """Removes what is called so in a directory, with all that is in it, links not followed. What is not there is fine.

    What cannot be removed stays, the rest goes. Raises OSError, the first there was.
    """
    failures: list[OSError] = []
    try:
        here = os.open(name, _FLAGS, dir_fd=directory)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        _remove(os.unlink, name, directory, failures)
    else:
        _remove_below(directory, name, here, failures)
    if failures:
        raise failures[0]


def remove_path(path: str) -> None:
    """The same of a path of the engine's own. Raises OSError."""
    parent, _, name = path.rpartition("/")
    try:
        directory = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_tree(directory, name)
    finally:
        os.close(directory)


def _remove_below(directory: int, name: str, here: int, failures: list[OSError]) -> None:
    """Takes `here` over, the descriptor of what is to be removed."""
    levels = [_entered(name, here, failures)]
    try:
        while True:
            if levels[-1].pending:
                child = levels[-1].pending.pop()
                try:
                    lower = os.open(child, _FLAGS, dir_fd=here)
                except OSError as error:
                    _note(error, failures)
                    continue
                os.close(here)
                here = lower
                levels.append(_entered(child, here, failures))
                continue
            done = levels.pop()
            if not levels:
                break
            upper = os.open("..", _FLAGS, dir_fd=here)
            os.close(here)
            here = upper
            if _identity(here) != levels[-1].identity:
                raise OSError(errno.EBUSY, "moved while it was removed", done.name)
            _remove(os.rmdir, done.name, here, failures)
    finally:
        os.close(here)
    _remove(os.rmdir, name, directory, failures)


def _entered(name: str, directory: int, failures: list[OSError]) -> _Level:
    """Removes what is no directory at once."""
    pending = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.name)
            else:
                _remove(os.unlink, entry.name, directory, failures)
    return _Level(name, _identity(directory), pending)


def _identity(directory: int) -> tuple[int, int]:
    status = os.fstat(directory)
    return status.st_dev, status.st_ino


def _remove(call: Callable[..., None], name: str, directory: int, failures: list[OSError]) -> None:
    try:
        call(name, dir_fd=directory)
    except OSError as error:
        _note(error, failures)


def _note(error: OSError, failures: list[OSError]) -> None:
    """What somebody else took away is gone, too."""
    if error.errno not in _NOT_THERE:
        failures.append(error)
