"""Detached overlays for kistd, on every kernel."""

from __future__ import annotations

import threading

from kist.kernel import const, mount, ns, overlay


def detached_overlay(source: str, options: list[str]) -> int:
    """A new overlay that is nowhere in the host's mount table. Raises OSError.

    Where only mount(2) can make it, that is done in a mount namespace and with a working directory of a thread's own
    (unshare(2)), which end with the thread.
    """
    if overlay.takes_layers():
        return mount.detached_mount("overlay", source, options)
    made: list[int | OSError] = []

    def make() -> None:
        try:
            made.append(_cut_out(source, options))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make, name="overlay")
    thread.start()
    thread.join()
    (result,) = made
    if isinstance(result, OSError):
        raise result
    return result


def _cut_out(source: str, options: list[str]) -> int:
    ns.unshare(const.CLONE_NEWNS)
    mount.mount(None, "/", None, const.MS_PRIVATE | const.MS_REC)
    common, _ = overlay.relative(options)
    overlay.mount_at(common, source, options)
    return mount.open_tree(common, const.OPEN_TREE_CLONE)
