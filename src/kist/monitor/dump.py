"""A checkpoint: criu writes a running container's processes into files (criu(8), dump).

The monitor forks a *dumper*, which asks criu whether it works on this machine, has it dump, puts the finished directory
under its name and says how it went. All of it outlives kistd. criu itself ends the container unless it is left running.
"""

from __future__ import annotations

import json
import os
import socket

from kist.kernel import process
from kist.monitor import protocol
from kist.monitor.protocol import Message

FACTS = "kist.json"  # in a checkpoint, beside criu's images: what a restore has to know
_PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": _PROGRAMS, "LC_ALL": "C.UTF-8"}  # criu calls tar
_LOG_READ = 1 << 20


class Failed(Exception):
    """What criu could not do, in words for a user."""


def start(request: Message, pipes: list[tuple[str, int]], null_stdin: bool) -> tuple[int, socket.socket]:
    """Forks the dumper: its pid, to be reaped, and the wire on which one message comes, `{"failure": text or ""}`.

    `pipes` are the monitor's ends of the container's streams by name. `null_stdin`: standard input was /dev/null.
    Raises OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, protocol.SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    failure = "the dumper ended"
    try:
        process.set_name("kist-dumper")
        process.reset_inherited_state()
        streams = {name: _pipe(descriptor) for name, descriptor in pipes}
        process.close_all_but({theirs.fileno()})
        _dump(request, streams, null_stdin)
        failure = ""
    except Failed as error:
        failure = str(error)
    except BaseException as error:
        failure = f"{type(error).__name__}: {error}"
    finally:
        theirs.send(json.dumps({"failure": failure}).encode())
        os._exit(0)


def _pipe(descriptor: int) -> list[object]:
    """How criu calls a pipe, and who owns it in the host."""
    found = os.fstat(descriptor)
    return [f"pipe:[{found.st_ino}]", found.st_uid]


def _null() -> str:
    """How criu calls the host's /dev/null in the container's hands, which no mount of the container has."""
    descriptor = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="utf-8") as file:
            mount = next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))
        return f"file[{mount:x}:{os.fstat(descriptor).st_ino:x}]"
    finally:
        os.close(descriptor)


def _dump(request: Message, streams: dict[str, list[object]], null_stdin: bool) -> None:
    """Raises Failed, OSError; nothing is left then but the log."""
    directory, log = request["directory"], request["log"]
    check(request["criu"], log)
    partial = partial_of(directory)
    _remove(partial)
    os.mkdir(partial, 0o700)
    try:
        words = [request["criu"], "dump", *request["arguments"], "--images-dir", partial, "--log-file", log]
        if null_stdin:
            streams["stdin"] = [_null(), -1]
            words += ["--external", str(streams["stdin"][0])]
        with open(f"{partial}/{FACTS}", "w", encoding="utf-8") as file:
            json.dump({**request["facts"], "streams": streams}, file)
        if run(words):
            raise Failed(f"criu dump: {reason(log)} (all that it says: {log})")
        _sync(partial)
        os.rename(partial, directory)
    except BaseException:
        _remove(partial)
        raise
    _sync_directory(os.path.dirname(directory))


def partial_of(directory: str) -> str:
    """Where a checkpoint is while it is being made: a name that no checkpoint can have."""
    parent, _, name = directory.rpartition("/")
    return f"{parent}/.{name}.partial"


def check(program: str, log: str) -> None:
    """Raises Failed when criu does not work on this machine."""
    if run([program, "check", "--log-file", log]):
        version = os.uname().release
        raise Failed(
            f"criu does not work on this machine (Linux {version}): criu check: {reason(log)}; install a version of "
            f"criu that knows this kernel"
        )


def run(words: list[str]) -> int:
    """Runs a program with nothing but its arguments and waits for it; its exit status. Raises OSError."""
    streams = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in (0, 1, 2)]
    pid = os.posix_spawn(words[0], [*words, "--no-default-config"], ENVIRONMENT, file_actions=streams)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def reason(log: str) -> str:
    """The first error in a log of criu's, without its time and its place in the source."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            text = file.read(_LOG_READ)
    except OSError as error:
        return f"no log was written ({error.strerror})"
    for line in text.splitlines():
        _, found, words = line.partition("Error (")
        if found:
            return words.partition("): ")[2] or words
    return "it ended without an error in its log"


def _remove(directory: str) -> None:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        os.unlink(f"{directory}/{name}")
    os.rmdir(directory)


def _sync(directory: str) -> None:
    """To the disk, before anybody is told that it is there."""
    for name in os.listdir(directory):
        descriptor = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    _sync_directory(directory)


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
