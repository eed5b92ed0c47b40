"""What a failed start or exec is called, and which exit code it has: Docker's words and numbers."""

from __future__ import annotations

from kist.model.errors import InvalidParameter, KistError
from kist.runtime.supervisor import LaunchFailed

NOT_FOUND, NOT_EXECUTABLE, UNKNOWN = 127, 126, 128
_NOT_FOUND_WORDS = ("executable file not found", "no such file or directory", "system cannot find the file specified")
# What dockerd itself finds out, before any runtime: said without the runtime's words in front.
_DAEMONS_OWN = ("unable to find ", "uids and gids must be", "Cannot mkdir: ")
_NOT_EXECUTABLE_WORDS = ("permission denied", "is a directory", "exec format error", "not a directory")


def _classify(text: str) -> int:
    lowered = text.lower()
    if any(word in lowered for word in _NOT_FOUND_WORDS):
        return NOT_FOUND
    if any(word in lowered for word in _NOT_EXECUTABLE_WORDS):
        return NOT_EXECUTABLE
    return UNKNOWN


def _reason(failure: LaunchFailed) -> str:
    """The program's own problem as it is, anything else with the operation that failed."""
    if failure.problem:
        return failure.problem
    return f"{failure.operation}: {failure.message}"


def start_error(failure: LaunchFailed) -> tuple[KistError, int]:
    """The error of `start` and the container's exit code."""
    reason = _reason(failure)
    if failure.operation == "restore":
        return KistError(f"failed to create task for container: OCI runtime restore failed: {reason}"), UNKNOWN
    if reason.startswith(_DAEMONS_OWN):
        return KistError(reason), NOT_EXECUTABLE
    where = "" if failure.foreign else "unable to start container process: error during container init: "
    text = (
        f"failed to create task for container: failed to create shim task: OCI runtime create failed: {where}{reason}"
    )
    code = _classify(reason)
    return (KistError(text) if code == UNKNOWN else InvalidParameter(text)), code


def exec_error(failure: LaunchFailed) -> tuple[KistError, int]:
    """The error of an exec and its exit code."""
    reason = _reason(failure)
    code = _classify(reason)
    if reason.startswith(_DAEMONS_OWN):
        return KistError(reason), NOT_EXECUTABLE
    where = "" if failure.foreign else "exec failed: unable to start container process: "
    text = f"OCI runtime exec failed: {where}{reason}"
    return (KistError(text) if code == UNKNOWN else InvalidParameter(text)), code
