"""The child's half of a start: from clone(2) to execve(2), one operation after the other.

Nothing is imported here, nothing is printed, no traceback is made: from the pivot on, every file Python might open
belongs to the container. What fails leaves as JSON on the wire to the monitor: the operation, the errno, the words.
"""

from __future__ import annotations

import json
import os
import socket

from kist.kernel import process
from kist.monitor.operations import Context, Operation, decode


def run(plan: int | list[Operation], context: Context, stdio: tuple[int, int, int]) -> None:
    """Never returns: the process becomes the container's, or ends with status 1 after telling why.

    `plan` is a descriptor, for a process that comes of one which must not have it in memory.
    """
    current: Operation | None = None
    try:
        process.set_dumpable(False)  # or the container's own could read these descriptors in /proc (CVE-2016-9962)
        keep = {*stdio, *context.descriptors()}
        if isinstance(plan, int):
            keep.add(plan)
        process.close_all_but(keep)
        os.umask(0)  # what is made here has the mode that is asked for
        for target, descriptor in enumerate(stdio):
            if descriptor >= 0:
                os.dup2(descriptor, target)
        for operation in _read(plan) if isinstance(plan, int) else plan:
            current = operation
            operation.execute(context)
    except BaseException as error:
        tell(context.sync, current.describe() if current else "take over the streams", context.problem, error)
    os._exit(1)


def _read(plan: int) -> list[Operation]:
    return decode(json.loads(os.pread(plan, os.fstat(plan).st_size, 0)))


def tell(sync: socket.socket | None, operation: str, problem: str, error: BaseException) -> None:
    """Says to the monitor what failed."""
    number = error.errno if isinstance(error, OSError) and error.errno else 0
    if isinstance(error, OSError):
        words = error.strerror or os.strerror(number)
        words = words[:1].lower() + words[1:]  # as Go has them, and Docker's clients look for
        if error.filename:
            words = f"{error.filename}: {words}"
    else:
        words = f"{type(error).__name__}: {error}"
    message = {"operation": operation, "errno": number, "message": words, "problem": problem}
    if sync is not None:
        try:
            sync.send(b"failed" + json.dumps(message).encode())
        except OSError:
            pass
