"""Mounts that are nowhere in the host's mount table, for kistd.

What cannot be made detached (an overlay by mount(2); mounts on top of a detached one, before Linux 6.15) is put
together in a mount namespace of a thread's own and cut out as a whole with open_tree(2).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from kist.kernel import const, mount, ns, overlay


def detached_overlay(source: str, options: list[str]) -> int:
    """A new overlay. Raises OSError."""
    if overlay.takes_layers():
        return mount.detached_mount("overlay", source, options)

    def assemble() -> str:
        common, _ = overlay.relative(options)
        overlay.mount_at(common, source, options)
        return common

    return detached_tree(assemble)


def detached_tree(assemble: Callable[[], str]) -> int:
    """What `assemble` mounts at the path it answers, with everything below. Raises OSError, and what it raises.

    It has a mount namespace and a working directory of its own; nothing it mounts is seen elsewhere.
    """
    made: list[int | BaseException] = []

    def make() -> None:
        try:
            made.append(_cut_out(assemble))
        except BaseException as error:
            made.append(error)

    thread = threading.Thread(target=make, name="mounts")
    thread.start()
    thread.join()
    (result,) = made
    if isinstance(result, BaseException):
        raise result
    return result


def _cut_out(assemble: Callable[[], str]) -> int:
    home = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        ns.unshare(const.CLONE_NEWNS)
    except OSError:
        os.close(home)
        raise
    try:
        mount.mount(None, "/", None, const.MS_PRIVATE | const.MS_REC)
        return mount.open_tree(assemble(), const.OPEN_TREE_CLONE | const.AT_RECURSIVE)
    finally:
        ns.setns(home, const.CLONE_NEWNS)  # so that the namespace is gone now, not some time after the thread
        os.close(home)
