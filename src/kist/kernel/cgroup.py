"""Control groups of this machine: which hierarchies there are, and what is done to one group in all of them.

A host is v2 (one tree), v1 (a tree a controller) or hybrid (v1 with a v2 tree beside it that has no controllers but
`cgroup.kill` and `cgroup.freeze`). One name, like `kist/3f2a…`, is used in every tree. See cgroups(7).
"""

from __future__ import annotations

import errno
import os
import time
from typing import NamedTuple

_FREEZE_SECONDS = 2.0
_MAKE_TRIES = 5
_CHUNK = 4096  # what a control file gives at once


class Layout(NamedTuple):
    """`v1` maps a controller (or `name=systemd`) to its mount point; `unified` is the v2 tree's, or ""."""

    v1: dict[str, str]
    unified: str

    @property
    def is_v2(self) -> bool:
        return bool(self.unified) and not self.v1

    @property
    def roots(self) -> list[str]:
        """Every tree's mount point, each once."""
        found = list(dict.fromkeys(self.v1.values()))
        return [*found, self.unified] if self.unified else found

    def directories(self, name: str) -> list[str]:
        return [f"{root}/{name}" for root in self.roots]

    def path(self, controller: str, name: str) -> str:
        """The directory of a group for a controller; "" where this host does not have it."""
        root = self.unified if self.is_v2 else self.v1.get(controller, "")
        return f"{root}/{name}" if root else ""


def detect(mountinfo: str | None = None) -> Layout:
    """The layout of this host, from /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    if mountinfo is None:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mountinfo = file.read()
    v1: dict[str, str] = {}
    unified = ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, (fstype, _, options) = before.split(" "), after.split(" ", 2)
        if fields[3] != "/" and not fields[3].startswith("/.."):
            continue  # a bind mount of a part
        if fstype == "cgroup2":
            unified = unified or fields[4]
        elif fstype == "cgroup":
            for word in options.split(","):
                if (
                    word not in ("rw", "ro", "xattr", "none", "seclabel", "clone_children")
                    and "release_agent" not in word
                ):
                    v1.setdefault(word, fields[4])
    return Layout(v1, unified)


def read(path: str) -> str:
    """A control file without its last newline; "" when it is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    found = b""
    try:
        while chunk := os.read(descriptor, _CHUNK):
            found += chunk
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return found.decode("ascii", "replace").strip()


def write(path: str, value: str) -> None:
    """Writes a control file in one write(2). Raises OSError that names file and value."""
    write_lines(path, [value])


def write_lines(path: str, lines: list[str]) -> None:
    """Writes line by line, each in one write(2). Raises OSError that names file and line."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for line in lines:
            try:
                os.write(descriptor, line.encode())
            except OSError as error:
                raise OSError(error.errno, error.strerror, f"write {line!r} to {path}") from error
    finally:
        os.close(descriptor)


SHARED = "kist"  # what stands between a group of somebody else's and containers in it


def below(layout: Layout, parent: str, name: str, *, systemd: bool) -> str:
    """The group `name` in a group of somebody else's (--cgroup-parent).

    On v2 systemd takes controllers from its slices when none of its units needs them, and with them the limits of what
    it does not know; it cannot where a child hands them down, which the group between does. `systemd`: `a-b.slice` is
    `a.slice/a-b.slice` (systemd.slice(5)).
    """
    path = os.path.normpath(f"/{parent}").strip("/")  # no `..` leads out of the hierarchy
    if systemd and path.endswith(".slice") and "/" not in path:
        words = path.removesuffix(".slice").split("-")
        path = "/".join("-".join(words[: count + 1]) + ".slice" for count in range(len(words)))
    return (f"{path}/{SHARED}/{name}" if layout.is_v2 else f"{path}/{name}").lstrip("/")


def make_with_controllers(layout: Layout, name: str) -> None:
    """Makes a group in every tree, on v2 with every controller that there is for it. Raises OSError."""
    for _ in range(_MAKE_TRIES):  # the end of another container may take away the group above just then
        enable_controllers(layout, name)
        make(layout, name)
        if not layout.is_v2 or hands_down(layout, name.rpartition("/")[0]):
            return


def write_first(choices: list[list[str]]) -> None:
    """Writes the first control file of [path, value] that this kernel has. Raises OSError."""
    for path, value in choices:
        if os.path.exists(path):
            write(path, value)
            return
    raise FileNotFoundError(errno.ENOENT, "this kernel has none of them", choices[0][0])


def make(layout: Layout, name: str) -> None:
    """Makes a group, and its parents, in every tree. Raises OSError."""
    for directory in layout.directories(name):
        _make_directory(directory)
    for root in {layout.v1[key] for key in ("cpuset",) if key in layout.v1}:
        inherit_cpuset(root, name)


def make_unified(layout: Layout, name: str) -> None:
    """Makes a group in the v2 tree alone, where clone3(2) is to put a process. Raises OSError."""
    if layout.is_v2:
        make_with_controllers(layout, name)
    elif layout.unified:
        _make_directory(f"{layout.unified}/{name}")


def _make_directory(directory: str) -> None:
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make_directory(directory.rpartition("/")[0])  # os.makedirs gives parents what the umask leaves of 0777
        _make_directory(directory)


def inherit_cpuset(root: str, name: str) -> None:
    """A v1 cpuset takes no task before it has processors and memory nodes: copies the parent's, level by level.

    Below a group of `hand_down_cpuset` the kernel has done it.
    """
    if read(f"{root}/{name}/cpuset.mems"):
        return
    path = root
    for part in name.split("/"):
        parent, path = path, f"{path}/{part}"
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not read(f"{path}/{file}"):
                write(f"{path}/{file}", read(f"{parent}/{file}"))


def hand_down_cpuset(layout: Layout, name: str) -> None:
    """Groups made below this one begin with its processors and memory nodes (cgroup.clone_children, cgroups(7))."""
    if "cpuset" in layout.v1:
        write(f"{layout.v1['cpuset']}/{name}/cgroup.clone_children", "1")


def enable_controllers(layout: Layout, name: str) -> None:
    """On v2: makes each group above `name`, and hands every controller down to its children. Raises OSError."""
    if not layout.is_v2:
        return
    path = layout.unified
    for part in ("", *name.split("/")[:-1]):
        path = f"{path}/{part}" if part else path
        _make_directory(path)
        wanted = set(read(f"{path}/cgroup.controllers").split()) - set(read(f"{path}/cgroup.subtree_control").split())
        for controller in sorted(wanted):
            try:
                write(f"{path}/cgroup.subtree_control", f"+{controller}")
            except OSError:
                continue  # threaded or real-time constraints: that controller stays with the parent


def join_v1(layout: Layout, name: str) -> None:
    """Moves the calling thread into a group of every v1 tree.

    By `0` into `tasks`: a pid into `cgroup.procs` takes a global lock and, after a quiet moment, an RCU period (15 ms).
    """
    for directory in dict.fromkeys(layout.v1.values()):
        write(f"{directory}/{name}/tasks", "0")


def join(layout: Layout, name: str) -> None:
    """Moves the calling process into a group of every tree. Raises OSError."""
    join_v1(layout, name)
    if layout.unified:
        write(f"{layout.unified}/{name}/cgroup.procs", "0")


def hands_down(layout: Layout, name: str) -> bool:
    """Whether a v2 group has controllers for those below it and so takes no process itself (cgroups(7))."""
    return layout.is_v2 and bool(read(f"{layout.unified}/{name}/cgroup.subtree_control"))


def unified_of(pid: int) -> str:
    """The name of the group that a process is in, in the v2 tree; "" where there is none (proc_pid_cgroup(5))."""
    found = [line for line in read(f"/proc/{pid}/cgroup").splitlines() if line.startswith("0::")]
    return found[0].removeprefix("0::").strip("/") if found else ""


def pids(layout: Layout, name: str) -> list[int]:
    """Every process in a group and below it, without doubles."""
    tree = layout.unified or layout.v1.get("freezer") or layout.v1.get("pids") or next(iter(layout.v1.values()), "")
    found: set[int] = set()
    for directory, _, _ in os.walk(f"{tree}/{name}"):
        found.update(int(word) for word in read(f"{directory}/cgroup.procs").split())
    return sorted(found)


def kill(layout: Layout, name: str) -> None:
    """SIGKILL to all in a group, at once where the kernel can (cgroup.kill, Linux 5.14)."""
    try:
        if layout.unified:
            try:
                write(f"{layout.unified}/{name}/cgroup.kill", "1")
                return
            except OSError:
                pass
        _kill_each(layout, name)
    finally:
        if "freezer" in layout.v1:  # what it has stopped does not die before it goes on
            try:
                thaw(layout, name)
            except OSError:
                pass


def _kill_each(layout: Layout, name: str) -> None:
    for _ in range(8):  # a fork may race with the list; one that goes on for ever has pids.max against it
        members = pids(layout, name)
        for pid in members:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        if not members:
            return


def freeze(layout: Layout, name: str) -> None:
    """Stops all in a group (freezer of v1, cgroup.freeze of v2), and waits until it is so, bounded. Raises OSError."""
    deadline = time.monotonic() + _FREEZE_SECONDS
    _freezer(layout, name, True)
    while not frozen(layout, name):
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "its processes did not stop in time")
        time.sleep(0.001)


def thaw(layout: Layout, name: str) -> None:
    """Lets all in a group go on, which is so at once. Raises OSError."""
    _freezer(layout, name, False)


def _freezer(layout: Layout, name: str, stop: bool) -> None:
    if "freezer" in layout.v1:
        write(f"{layout.v1['freezer']}/{name}/freezer.state", "FROZEN" if stop else "THAWED")
    else:
        write(f"{layout.unified}/{name}/cgroup.freeze", "1" if stop else "0")


def frozen(layout: Layout, name: str) -> bool:
    """Whether everything in a group is stopped; False when there is no such group."""
    if "freezer" in layout.v1:
        return read(f"{layout.v1['freezer']}/{name}/freezer.state") == "FROZEN"
    return "frozen 1" in read(f"{layout.unified}/{name}/cgroup.events").splitlines()


def exists(layout: Layout, name: str) -> bool:
    """Whether the group is still there in any tree."""
    return any(os.path.isdir(directory) for directory in layout.directories(name))


def remove(layout: Layout, name: str) -> bool:
    """Removes a group and those below it from every tree; False while something still lives in it."""
    gone = True
    for directory in layout.directories(name):
        gone = _remove_tree(directory) and gone
    above = name.rpartition("/")[0]
    if gone and layout.is_v2 and above.endswith(f"/{SHARED}"):
        try:
            os.rmdir(f"{layout.unified}/{above}")
        except OSError:
            pass  # others are in it still
    return gone


def _remove_tree(directory: str) -> bool:
    try:
        os.rmdir(directory)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
    for parent, children, _ in os.walk(directory, topdown=False):
        for child in children:
            try:
                os.rmdir(f"{parent}/{child}")
            except OSError:
                continue
    try:
        os.rmdir(directory)
        return True
    except OSError:
        return False


def watch_oom(layout: Layout, name: str) -> int:
    """A descriptor that tells when a group runs out of memory; readable on v1 (an eventfd, cgroup-v1/memory.rst
    section 10), with an exception (EPOLLPRI) on v2, where memory.events has changed. Raises OSError.
    """
    if layout.is_v2:
        return os.open(f"{layout.unified}/{name}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
    directory = layout.path("memory", name)
    told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            write(f"{directory}/cgroup.event_control", f"{told} {control}")
        finally:
            os.close(control)
    except BaseException:
        os.close(told)
        raise
    return told


def oom_kills(layout: Layout, name: str) -> int:
    """How many processes of a group the kernel killed for memory."""
    if layout.is_v2:
        text, key = read(f"{layout.unified}/{name}/memory.events"), "oom_kill"
    else:
        text, key = read(f"{layout.path('memory', name)}/memory.oom_control"), "oom_kill"
    for line in text.splitlines():
        word, _, number = line.partition(" ")
        if word == key:
            return int(number)
    return 0
