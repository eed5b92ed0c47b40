"""Staying with a process in the foreground: signals go on to it, and its terminal is shown on the caller's."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import termios
import tty
from typing import Any

from kist.kernel import pidfd

_NOT_PASSED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGWINCH, signal.SIGURG}
_PASSED = {number for number in signal.valid_signals() - _NOT_PASSED if number < signal.SIGRTMIN}


def hold_signals() -> None:
    """Before a start whose end is waited for: signals wait until there is a process to pass them to."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED)


def attend(process: int, master: int) -> int:
    """Until the process, a child given by its pidfd, has ended: its exit status, or 128 and the signal.

    `master` is that of its terminal, -1 when it has the caller's own streams. Both are closed.
    """
    old = _pass_signals(process, master)
    try:
        if master >= 0:
            _relay(process, master)
        result = os.waitid(os.P_PIDFD, process, os.WEXITED)
        assert result is not None
        return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        os.close(process)
        if master >= 0:
            os.close(master)


def _pass_signals(process: int, master: int) -> dict[int, Any]:
    def passed(number: int, frame: object) -> None:
        try:
            pidfd.pidfd_send_signal(process, number)
        except ProcessLookupError:
            return

    old: dict[int, Any] = {}
    for number in _PASSED:
        old[number] = signal.signal(number, passed)
    if master >= 0:
        old[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, lambda number, frame: _take_size(master))
        _take_size(master)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED)
    return old


def _take_size(master: int) -> None:
    try:
        fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return  # standard input is no terminal


def _relay(process: int, master: int) -> None:
    """Bytes both ways, until the terminal's other side is closed."""
    before = None
    if os.isatty(0):
        before = termios.tcgetattr(0)
        tty.setraw(0)
    reading, ended = [0, master, process], False
    try:
        while True:
            ready, _, _ = select.select(reading, [], [], 0 if ended else None)
            if master in ready:
                if not _copy(master, 1):
                    return
            elif ended:
                return
            if process in ready:
                ended = True
                reading.remove(process)
            if 0 in ready and not _copy(0, master):
                reading.remove(0)
    finally:
        if before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def _copy(source: int, target: int) -> bool:
    """False at the end of the source; a terminal tells that by EIO."""
    try:
        data = os.read(source, 1 << 16)
        while data:
            written = os.write(target, data)
            if written == len(data):
                return True
            data = data[written:]
    except OSError:
        pass
    return False
