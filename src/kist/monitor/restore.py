"""A start from a checkpoint: criu makes the container's processes anew (criu(8), restore).

Instead of init the starter clones a process that carries out what criu leaves to the engine: cgroup, network, and, in a
mount namespace that ends with it, the root and everything that is mounted from outside, each at a place of its own. It
becomes criu, which makes the first process as its sibling: a child of the monitor like any other init.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
from typing import Any, NamedTuple

from kist.kernel import mount, pidfd, process
from kist.monitor import dump, launch
from kist.monitor.operations import OPERATIONS, Context

ROOT = "root"  # below the stage
NETWORK = "kistNetwork"  # what the images call the container's network namespace
_FREE = 10  # descriptors from here on are nobody's


class MountStage(NamedTuple):
    """A file system for this namespace alone, with places for what criu is to find."""

    at: str

    def describe(self) -> str:
        return f"mount a stage at {self.at}"

    def execute(self, context: Context) -> None:
        tree = mount.detached_mount("tmpfs", "kist-stage", ["mode=700"], 0)
        try:
            mount.move_mount(tree, self.at)
        finally:
            os.close(tree)
        context.root = os.open(self.at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.mkdir(ROOT, 0o755, dir_fd=context.root)


class BecomeCriu(NamedTuple):
    """`streams` are the names that the images have for 0, 1 and 2, each with its owner, "" where there is none."""

    program: str
    arguments: list[str]
    streams: list[list[Any]]
    network: bool  # of the container's own: this process is in it

    def describe(self) -> str:
        return f"execute {self.program}"

    def execute(self, context: Context) -> None:
        process.reset_inherited_state()
        process.close_on_exec_from(3)
        words = [self.program, *self.arguments]
        for number, (name, owner) in enumerate(self.streams):
            if name:
                words += ["--inherit-fd", f"fd[{_keep(number, owner)}]:{name}"]
        if self.network:
            namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
            os.set_inheritable(namespace, True)
            words += ["--inherit-fd", f"fd[{namespace}]:{NETWORK}"]
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for number in (0, 1, 2):  # what criu itself says is not the container's
            os.dup2(null, number)
        os.chdir("/")
        os.execve(self.program, words, dump.ENVIRONMENT)


def _keep(number: int, owner: int) -> int:
    """A stream under another number, which is handed to criu; a pipe belongs to whom it belonged."""
    copy = fcntl.fcntl(number, fcntl.F_DUPFD, _FREE)
    if owner > 0 and stat.S_ISFIFO(os.fstat(copy).st_mode):
        os.fchown(copy, owner, -1)
    return copy


OPERATIONS.update({kind.__name__: kind for kind in (MountStage, BecomeCriu)})


def start(
    config: dict[str, Any], before: list[Any], plan: int, context: Context, ends: launch.Ends
) -> tuple[launch.Started, int]:
    """As launch.start: the container's first process, and a pidfd of criu, which has ended and is to be reaped.

    Raises launch.Failed.
    """
    asked = config["restore"]
    try:
        dump.check(asked["criu"], asked["log"])
    except (dump.Failed, OSError) as error:
        raise _failed(str(error)) from error
    criu = launch.start(config, before, plan, context, ends)
    try:
        status = _await_end(criu)
        if status:
            problem = f"criu restore: {dump.reason(asked['log'])} (all that it says: {asked['log']})"
            raise _failed(problem, criu.pidfd)
        with open(asked["pid_file"], encoding="utf-8") as file:
            pid = int(file.read())
        os.unlink(asked["pid_file"])
        # It may have ended already; nobody but the monitor reaps it, so the pid is still its own.
        started = launch.Started(pid, os.pidfd_open(pid), pidfd.start_time(pid), -1, criu.nameserver)
        return started, criu.pidfd
    except (OSError, ValueError) as error:
        raise _failed(str(error), criu.pidfd) from error


def _failed(problem: str, criu: int = -1) -> launch.Failed:
    """`criu` is its pidfd, for who has to reap it."""
    failed = launch.Failed({"operation": "restore", "errno": 0, "message": problem, "problem": problem})
    failed.init = criu
    return failed


def _await_end(one: launch.Started) -> int:
    """Until a sibling has ended; its wait status, which stays readable until its parent reaps it (proc_pid_stat(5))."""
    poll = select.poll()
    poll.register(one.pidfd, select.POLLIN)
    while not poll.poll():
        continue
    with open(f"/proc/{one.pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[49])  # field 52, exit_code
