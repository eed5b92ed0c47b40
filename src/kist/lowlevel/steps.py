"""Stations of a runtime command in the engine's plan: where init stops for hooks and for `start`, and what only
configurations of others ask for.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from typing import NamedTuple

from kist.kernel import path
from kist.lowlevel import hooks
from kist.lowlevel.state import GO
from kist.monitor import operations as do
from kist.monitor import users
from kist.monitor.operations import Context, Operation

HOOKS, READY = b"hooks", b"ready"  # what init says at its stations; it hears GO


class _Refuses:
    """A finder of modules that finds none."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ImportError(f"{name}: nothing is imported any more in this process")


class SealImports(NamedTuple):
    """From the pivot on every file that Python might open belongs to the container."""

    def describe(self) -> str:
        return "import nothing any more"

    def execute(self, context: Context) -> None:
        sys.path.clear()
        sys.meta_path[:] = [_Refuses]


class AskForHooks(NamedTuple):
    """The runtime's own namespaces are not init's: it runs createRuntime and prestart, then init goes on."""

    def describe(self) -> str:
        return "wait for the hooks of the runtime"

    def execute(self, context: Context) -> None:
        assert context.sync is not None
        context.sync.send(HOOKS)
        if context.sync.recv(16) != GO:
            raise OSError(errno.EPIPE, "the runtime is gone")


class RunHooks(NamedTuple):
    """Hooks in the container's namespaces. `state` is the container's but for the pid."""

    calls: list[hooks.Call]
    state: bytes
    bundle: str

    def describe(self) -> str:
        return f"run {self.calls[0].kind} hooks"

    def execute(self, context: Context) -> None:
        state = self.state.replace(b'"pid":0', b'"pid":%d' % os.getpid(), 1)
        for call in self.calls:
            try:
                hooks.run(call, state, self.bundle)
            except hooks.HookFailed as error:
                context.problem = str(error)
                raise OSError(errno.ECANCELED, str(error)) from error


class AwaitStart(NamedTuple):
    """All is prepared: tells the creating command so, and waits until `start` connects and says go.

    From then on what fails is told to `start`, and execve(2) closes the connection.
    """

    def describe(self) -> str:
        return "wait for start"

    def execute(self, context: Context) -> None:
        assert context.sync is not None
        context.sync.send(READY)
        context.sync.close()
        context.sync = None
        with socket.socket(fileno=os.dup(context.listener)) as listener:
            while True:
                connection, _ = listener.accept()
                if connection.recv(16) == GO:
                    break
                connection.close()
        context.sync = connection


class UseIds(NamedTuple):
    """The user as numbers; only the home directory, where the environment has none, is looked up."""

    uid: int
    gid: int
    groups: list[int]

    def describe(self) -> str:
        return f"use user {self.uid}:{self.gid}"

    def execute(self, context: Context) -> None:
        home = "/"
        try:
            passwd = path.read_file_in_root(context.root, "etc/passwd", 16 << 20)
            home = users.resolve(str(self.uid), [], passwd, b"").home
        except (OSError, users.UnknownUser):
            pass
        context.identity = users.Identity(self.uid, self.gid, list(self.groups), home)


class OwnPipes(NamedTuple):
    """Pipes belong to the user, so that /dev/stdout can be opened again; where they may not be given away it is so."""

    def describe(self) -> str:
        return "give the pipes to the user"

    def execute(self, context: Context) -> None:
        for descriptor in (0, 1, 2):
            try:
                if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                    os.fchown(descriptor, context.identity.uid, -1)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EPERM, errno.EROFS, errno.EBADF):
                    raise


class CoverWithCopy(NamedTuple):
    """A tmpfs that begins with what it covers (the mount option tmpcopyup)."""

    mount: do.MountInside

    def describe(self) -> str:
        return f"{self.mount.describe()} with a copy of what is there"

    def execute(self, context: Context) -> None:
        try:
            covered = path.open_in_root(context.root, self.mount.target, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            covered = -1
        self.mount.execute(context)
        if covered < 0:
            return
        fresh = path.open_in_root(context.root, self.mount.target, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _copy_tree(covered, fresh)
        finally:
            os.close(covered)
            os.close(fresh)


def _copy_tree(source: int, target: int) -> None:
    """Files, directories and links with owners and modes, by descriptors alone: no link in it is followed."""
    for name in os.listdir(source):
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            pair = [os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=one)
                    for one in (source, target)]  # fmt: skip
            try:
                _copy_tree(*pair)
            finally:
                for one in pair:
                    os.close(one)
        elif stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        elif stat.S_ISREG(found.st_mode):
            _copy_file(source, target, name)
        else:
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=target)


def _copy_file(source: int, target: int, name: str) -> None:
    read = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        write = os.open(name, flags, 0o600, dir_fd=target)
        try:
            while os.sendfile(write, read, None, 1 << 20):
                pass
        finally:
            os.close(write)
    finally:
        os.close(read)


class Stations(NamedTuple):
    """What is put into a plan."""

    user: UseIds
    asks_for_hooks: bool
    in_container: list[hooks.Call]  # createContainer
    before_program: list[hooks.Call]  # startContainer
    state: bytes
    bundle: str
    copied: frozenset[str]  # targets of tmpfs mounts with tmpcopyup


def arrange(plan: list[Operation], stations: Stations) -> list[Operation]:
    """The engine's plan of a container as a runtime command carries it out."""
    found: list[Operation] = [SealImports()]
    for operation in plan:
        if isinstance(operation, do.PivotRoot):
            if stations.asks_for_hooks:
                found.append(AskForHooks())
            if stations.in_container:
                found.append(RunHooks(stations.in_container, stations.state, stations.bundle))
        elif isinstance(operation, do.Execute):
            found.append(AwaitStart())
            if stations.before_program:
                created = stations.state.replace(b'"status":"creating"', b'"status":"created"', 1)
                found.append(RunHooks(stations.before_program, created, ""))
        found += _own(operation, stations.user, stations.copied)
    return found


def _own(operation: Operation, user: UseIds, copied: frozenset[str]) -> list[Operation]:
    if isinstance(operation, do.ParentDeathSignal):
        return []  # whoever creates a container does not stay
    if isinstance(operation, do.ResolveUser):
        return [user]
    if isinstance(operation, do.OwnStreams):
        return [OwnPipes()]
    if isinstance(operation, do.MountInside) and operation.target in copied:
        return [CoverWithCopy(operation)]
    return [operation]


def of_process(plan: list[Operation], user: UseIds) -> list[Operation]:
    """The same for another process beside it."""
    return [SealImports(), *(one for operation in plan for one in _own(operation, user, frozenset()))]
