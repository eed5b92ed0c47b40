"""What `delete` and a `create` that failed take away again."""

from __future__ import annotations

import os
import time

from kist.kernel import cgroup
from kist.lowlevel import hooks, state
from kist.lowlevel.errors import Log, RuntimeFailure

PARENT = "kist-runtime"  # of groups whose configuration names none, below each hierarchy's root
_REMOVE_ATTEMPTS = 100


def clear_group(container: state.Container) -> None:
    """Nothing of the container lives any more and its group is gone. Raises RuntimeFailure when that takes too long."""
    for _ in range(_REMOVE_ATTEMPTS):
        if cgroup.remove(container.layout, container.kept.cgroup):
            parent, _, _ = container.kept.cgroup.rpartition("/")
            if parent == PARENT:
                for directory in container.layout.directories(parent):
                    _remove_empty(directory)
            return
        cgroup.kill(container.layout, container.kept.cgroup)
        time.sleep(0.01)
    raise RuntimeFailure(f"unable to remove the container's cgroup {container.kept.cgroup}: something lives in it")


def _remove_empty(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError:
        pass  # another container's is below it


def remove(container: state.Container, log: Log) -> None:
    """All that is held by a stopped container; then its poststop hooks, whose failure is only logged (runtime.md)."""
    clear_group(container)
    container.remove()
    for call in hooks.calls("poststop", container.kept.hooks):
        try:
            hooks.run(call, container.hook_state("stopped", 0), container.kept.bundle)
        except hooks.HookFailed as error:
            log.write("warning", str(error))
