"""Sending one container's log, in a thread: read, send, remember how far, wait, try again."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from contextlib import suppress

from kist.logs.compress import compress_rotated
from kist.shipper.driver import Driver, Failed, Refused
from kist.shipper.drivers import driver_class
from kist.shipper.follow import Batch, Follower
from kist.shipper.spool import Spool, Task

log = logging.getLogger(__name__)
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0  # seconds between tries
_FIRST_LOOK, _LONGEST_LOOK = 0.05, 2.0  # seconds between looks whether the monitor still lives
_AFTER_REMOVAL = 10.0  # seconds for which the rest of a removed container's log is tried to be sent


class Worker:
    """`changed` wakes it. It ends when nothing is left and no monitor lives, or when it is told to stop."""

    def __init__(self, spool: Spool, task: Task) -> None:
        self.spool = spool
        self.changed = threading.Event()
        self.over = False
        self._task = task
        self._stop = False
        self._failures = 0
        self._refused = 0  # lines that the server did not want, since the last that it took
        self._removed_since = 0.0
        self._thread = threading.Thread(target=self._run, name=spool.id[:12], daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """It ends once the send at hand is over; another may then be made."""
        self._stop = True
        self.changed.set()

    def _run(self) -> None:
        try:
            self._follow()
        except Exception:
            log.exception("container %s: its log is not sent any more", self.spool.id)
        finally:
            if self.spool.removed and not self._stop:
                shutil.rmtree(self.spool.directory, ignore_errors=True)
            self.over = True

    def _follow(self) -> None:
        kind = driver_class(self._task.driver)
        if kind is None:
            log.error("container %s: there is no log driver %s", self.spool.id, self._task.driver)
            return
        driver, follower = kind(self._task.info), Follower(self.spool)
        if follower.lost:
            log.warning("container %s: lines were rotated away before they were sent", self.spool.id)
        try:
            while not self._stop and self._next(driver, follower):
                continue
        finally:
            follower.close()
            driver.close()

    def _next(self, driver: Driver, follower: Follower) -> bool:
        """Sends what is there, or waits for something; False when nothing will come."""
        inode = follower.inode
        batch = follower.next()
        if batch is not None:
            if self._task.compress and follower.inode != inode:
                self._compress(follower.inode)
            return self._ship(driver, batch)
        look = _FIRST_LOOK
        while not self._stop:
            living = self.spool.wake()
            if self.changed.wait(0 if not living else look):
                self.changed.clear()
                return True
            if not living:
                return self._more(driver, follower)
            look = min(2 * look, _LONGEST_LOOK)
        return False

    def _more(self, driver: Driver, follower: Follower) -> bool:
        """The monitor went: what it wrote at last, after the last look at the file."""
        batch = follower.next()
        return batch is not None and self._ship(driver, batch)

    def _compress(self, inode: int) -> None:
        """What is sent altogether: every file older than the one at hand."""
        with suppress(OSError):
            compress_rotated(self.spool.log, inode)

    def _ship(self, driver: Driver, batch: Batch) -> bool:
        """Until all of it is sent or given up. False when it is to be stopped first."""
        sent = 0
        while sent < len(batch.entries):
            if self._stop:
                return False
            try:
                driver.send(batch.entries[sent:])
                sent = len(batch.entries)
            except Refused as error:
                sent += error.sent + error.count
                self._give_up(error)
            except Failed as error:
                sent += error.sent
                self._failed(driver, error, batch, sent, went_on=error.sent > 0)
            except (OSError, ValueError) as error:
                self._failed(driver, error, batch, sent, went_on=False)
            else:
                self._failures = 0
                self._taken_again()
            if sent and not self._save(batch, sent):
                return False
            if self._failures and not self._wait(driver):
                return False
            if self._gives_up(driver, batch, sent):
                log.error("container %s: %d lines could not be sent", self.spool.id, len(batch.entries) - sent)
                return self._save(batch, len(batch.entries))
        return True

    def _save(self, batch: Batch, count: int) -> bool:
        """A full disk costs nothing but that more is sent twice after a crash. False: the directory is gone."""
        try:
            self.spool.save(batch.position(count))
        except FileNotFoundError:
            return False
        except OSError as error:
            log.warning("container %s: %s", self.spool.id, error)
        return True

    def _give_up(self, error: Refused) -> None:
        """Told once, and how many they were when something is taken again."""
        if not self._refused:
            log.warning("container %s: lines are given up that the server refuses: %s", self.spool.id, error)
        self._refused += error.count
        self._failures = 0

    def _taken_again(self) -> None:
        if self._refused:
            log.warning("container %s: %d lines were refused and given up", self.spool.id, self._refused)
            self._refused = 0

    def _failed(self, driver: Driver, error: Exception, batch: Batch, sent: int, *, went_on: bool) -> None:
        if self._failures == 0 or went_on:
            log.warning("container %s: %d lines wait: %s", self.spool.id, len(batch.entries) - sent, error)
        self._failures = 1 if went_on else self._failures + 1
        driver.close()

    def _wait(self, driver: Driver) -> bool:
        """Longer after each failure. False when the container was removed and has had its time."""
        first = getattr(driver, "retry_wait", None) or _FIRST_WAIT
        until = time.monotonic() + min(first * 1.5 ** (self._failures - 1), max(first, _LONGEST_WAIT))
        while not self._stop and time.monotonic() < until:
            if self.spool.removed:
                self._removed_since = self._removed_since or time.monotonic()
                if time.monotonic() - self._removed_since > _AFTER_REMOVAL:
                    log.error("container %s is removed, and the rest of its log could not be sent", self.spool.id)
                    return False
            elif not os.path.isdir(self.spool.directory):
                return False
            time.sleep(min(0.1, max(0.0, until - time.monotonic())))
        return not self._stop

    def _gives_up(self, driver: Driver, batch: Batch, sent: int) -> bool:
        """Whether these lines are dropped: too many tries (fluentd-max-retries), or more waits than may."""
        if sent == len(batch.entries) or not self._failures:
            return False
        retries = getattr(driver, "max_retries", None)
        if retries is not None and self._failures >= retries:
            return True
        limits = [one for one in (self._task.lag_limit, getattr(driver, "buffer_limit", None)) if one is not None]
        return bool(limits) and lag(self.spool) > min(limits)


def lag(spool: Spool) -> int:
    """Bytes of the log behind what was sent; compressed files are sent altogether."""
    position = spool.position()
    total = number = 0
    while True:
        try:
            status = os.stat(f"{spool.log}.{number}" if number else spool.log)
        except FileNotFoundError:
            return total
        if position is not None and status.st_ino == position.inode:
            return total + status.st_size - position.offset
        total, number = total + status.st_size, number + 1
