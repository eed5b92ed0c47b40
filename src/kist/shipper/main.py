"""The shipper: one process per engine, started by kistd when a container needs it, and gone when none does.

Nobody talks to it. It finds its work in `<data root>/shipping` (see `spool`) and hears of changes there by inotify(7).
It holds a lock on `<exec root>/shipper.lock`, where its pid is; the next kistd finds it by that.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import signal
import sys
import time

from kist.kernel import cgroup, process
from kist.kernel.inotify import IN_CLOSE_WRITE, IN_CREATE, IN_DELETE, IN_MODIFY, IN_MOVED_TO, Inotify
from kist.shipper.spool import Spool, spools
from kist.shipper.worker import Worker, lag

_IDLE_SECONDS = 1.0
_LOOK_SECONDS = 0.5
_IN_DIRECTORY = IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE


def main(root: str, lock: str, group: str) -> int:
    """Serves until there is nothing to send and nobody who may write more."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s shipper: %(message)s", level="INFO")
    logging.raiseExceptions = False  # the kistd that read this may be gone
    process.set_name("kist-shipper")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    layout = cgroup.detect()
    cgroup.make(layout, group)
    cgroup.join(layout, group)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # an earlier one may be just ending
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d" % os.getpid(), 0)
    Shipper(root).run()
    return 0


class Shipper:
    def __init__(self, root: str) -> None:
        self._root = root
        self._inotify = Inotify()
        self._watches: dict[int, Spool] = {}
        self._workers: dict[str, Worker] = {}
        self._idle_since = time.monotonic()

    def run(self) -> None:
        self._inotify.watch(self._root, IN_CREATE | IN_MOVED_TO | IN_DELETE)
        for spool in spools(self._root):
            self._found(spool)
        while not self._idle():
            ready, _, _ = select.select([self._inotify], [], [], _LOOK_SECONDS)
            for watch, mask, name in self._inotify.events() if ready else ():
                self._heard(watch, mask, name)
            self._reap()

    def _idle(self) -> bool:
        if self._workers:
            self._idle_since = time.monotonic()
        if time.monotonic() - self._idle_since < _IDLE_SECONDS:
            return False
        for spool in spools(self._root):  # what came since the last look
            self._look(spool)
        return not self._workers

    def _found(self, spool: Spool) -> None:
        try:
            self._watches[self._inotify.watch(spool.directory, _IN_DIRECTORY)] = spool
        except OSError:
            return  # it is gone already
        self._look(spool)

    def _heard(self, watch: int, mask: int, name: str) -> None:
        spool = self._watches.get(watch)
        if spool is None:
            if mask & IN_CREATE and name:
                self._found(Spool(f"{self._root}/{name}"))
            return
        if not name:
            self._watches.pop(watch, None)  # IN_IGNORED: the directory is gone
        elif name == "task.json":
            self._restart(spool)
        elif name == "removed" or name.startswith(spool.id):
            self._look(spool)

    def _restart(self, spool: Spool) -> None:
        """What is to be done may have changed; what the old worker does not get done is the new one's."""
        worker = self._workers.get(spool.id)
        if worker is not None:
            worker.stop()
        else:
            self._look(spool)

    def _look(self, spool: Spool) -> None:
        """Wakes the worker of a container, or makes one where there may be something to do."""
        worker = self._workers.get(spool.id)
        if worker is not None:
            worker.changed.set()
            return
        task = spool.task()
        if task is not None and (spool.removed or spool.wake() or lag(spool)):
            self._workers[spool.id] = Worker(spool, task)

    def _reap(self) -> None:
        for name, worker in list(self._workers.items()):
            if worker.over:
                del self._workers[name]
                if os.path.isdir(worker.spool.directory):
                    self._look(worker.spool)
