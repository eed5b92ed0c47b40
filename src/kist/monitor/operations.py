"""The operations a plan is made of: small values that describe and execute themselves.

Init carries them out between clone(2) and execve(2); those outside of a remapped container (cgroups, id maps, links)
its monitor. A plan travels as JSON lists `[name, field, …]`. What init does to paths inside goes through openat2 below
the new root: until the pivot every one of them is hostile.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import os
import socket
import stat
import struct
import termios
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

from kist.kernel import caps, cgroup, const, devices, mount, ns, overlay, path, process, rtnetlink, seccomp
from kist.monitor import users

_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441  # asm-generic/ioctls.h


class Context:
    """What operations share: the new root, the wire to the monitor, what is known about the process."""

    def __init__(self, layout: cgroup.Layout, cgroup_name: str) -> None:
        self.layout = layout
        self.cgroup = cgroup_name
        self.pid = 0  # of init, for the monitor's operations
        self.route: rtnetlink.RouteSocket | None = None  # of the host's network namespace
        self.sync: socket.socket | None = None  # init's end of the wire to the monitor
        self.root = -1  # O_PATH descriptor of the new root
        self.at = ""  # where that is mounted until the pivot
        self.executable = ""
        self.identity = users.Identity(0, 0, [], "/")
        self.problem = ""  # what an operation has to say about its failure beyond the errno
        self._directory: tuple[str, int] = ("", -1)
        self.mask = -1  # the empty file system over a masked directory, to be shown over the next
        self.shared: dict[str, int] = {}  # by target, copies of the host's mounts that are to stay its peers
        self.preserved = 0  # descriptors from 3 on that are the program's
        self.nameserver = (-1, -1)  # UDP and TCP, of a process without a wire
        self.listener = -1  # of a runtime command, where init waits to be let go

    def descriptors(self) -> list[int]:
        """What this process still needs, of all that it inherited."""
        found = [one for one in (self.root, self.listener) if one >= 0]
        found += range(3, 3 + self.preserved)
        if self.sync is not None:
            found.append(self.sync.fileno())
        if self.route is not None:
            found.append(self.route.fileno())
        return found

    def directory(self, name: str) -> int:
        """O_PATH descriptor of a directory of the container, made when missing; valid until the next call."""
        if self._directory[0] != name or self._directory[1] < 0:
            self.forget_directory()
            self._directory = (name, path.make_directories(self.root, name))
        return self._directory[1]

    def forget_directory(self) -> None:
        if self._directory[1] >= 0:
            os.close(self._directory[1])
        self._directory = ("", -1)

    def console(self, descriptor: int) -> None:
        """Hands the master of the container's terminal to the monitor."""
        assert self.sync is not None
        socket.send_fds(self.sync, [b"console"], [descriptor])


class Operation(Protocol):
    def describe(self) -> str: ...
    def execute(self, context: Context) -> None: ...


# --- outside the container ---


class MakeCgroup(NamedTuple):
    name: str

    def describe(self) -> str:
        return f"make cgroup {self.name}"

    def execute(self, context: Context) -> None:
        cgroup.make_with_controllers(context.layout, self.name)


class WriteControl(NamedTuple):
    """A control file of a cgroup. `optional`: a kernel without it may refuse, the value asks for what holds anyway."""

    path: str
    value: str
    optional: bool = False

    def describe(self) -> str:
        return f"write {self.value} to {self.path}"

    def execute(self, context: Context) -> None:
        try:
            cgroup.write(self.path, self.value)
        except OSError:
            if not self.optional:
                raise


class WriteFirst(NamedTuple):
    """The same setting under one name or another: [path, value], the first that this kernel has."""

    choices: list[list[str]]

    def describe(self) -> str:
        return f"write {' or '.join(f'{value} to {path}' for path, value in self.choices)}"

    def execute(self, context: Context) -> None:
        cgroup.write_first(self.choices)


class WriteControls(NamedTuple):
    """A control file of a cgroup that takes one line after the other."""

    path: str
    lines: list[str]

    def describe(self) -> str:
        return f"write {', '.join(self.lines)} to {self.path}"

    def execute(self, context: Context) -> None:
        cgroup.write_lines(self.path, self.lines)


class AllowDevices(NamedTuple):
    """The device rules of a group in the v2 tree: [allow, kind, major, minor, access]."""

    path: str
    rules: list[list[Any]]

    def describe(self) -> str:
        return f"set {len(self.rules)} device rules of {self.path}"

    def execute(self, context: Context) -> None:
        devices.attach(self.path, [devices.DeviceRule(*rule) for rule in self.rules])


class WriteIdMaps(NamedTuple):
    uids: list[list[int]]
    gids: list[list[int]]

    def describe(self) -> str:
        return f"map users {self.uids} and groups {self.gids}"

    def execute(self, context: Context) -> None:
        triples = [[(one[0], one[1], one[2]) for one in ids] for ids in (self.uids, self.gids)]
        ns.write_id_maps(context.pid, triples[0], triples[1])


class MakeVeth(NamedTuple):
    host_name: str
    bridge_index: int
    name: str
    mac: str
    mtu: int
    hairpin: bool

    def describe(self) -> str:
        return f"make veth {self.host_name} on bridge {self.bridge_index}, {self.name} inside"

    def execute(self, context: Context) -> None:
        assert context.route is not None
        if context.pid:
            context.route.create_veth(*self[:5], (rtnetlink.IFLA_NET_NS_PID, context.pid), self.hairpin)
            return
        own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            context.route.create_veth(*self[:5], (rtnetlink.IFLA_NET_NS_FD, own), self.hairpin)
        finally:
            os.close(own)


# --- init: identity and namespaces ---


class JoinCgroup(NamedTuple):
    """Into the v1 trees; on v2 clone3 already put the process there."""

    name: str

    def describe(self) -> str:
        return f"join cgroup {self.name}"

    def execute(self, context: Context) -> None:
        cgroup.join_v1(context.layout, self.name)


class Unshare(NamedTuple):
    flags: int

    def describe(self) -> str:
        return f"unshare {self.flags:#x}"

    def execute(self, context: Context) -> None:
        ns.unshare(self.flags)


class JoinNamespace(NamedTuple):
    path: str
    flag: int

    def describe(self) -> str:
        return f"join {self.path}"

    def execute(self, context: Context) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            ns.setns(descriptor, self.flag)
        finally:
            os.close(descriptor)


class AwaitMonitor(NamedTuple):
    """Until the monitor has written the id maps and made the links."""

    def describe(self) -> str:
        return "wait for the monitor"

    def execute(self, context: Context) -> None:
        assert context.sync is not None
        if context.sync.recv(16) != b"go":
            raise OSError(errno.EPIPE, "the monitor is gone")


class BecomeRoot(NamedTuple):
    """Root of the new user namespace."""

    def describe(self) -> str:
        return "become root of the user namespace"

    def execute(self, context: Context) -> None:
        os.setresgid(0, 0, 0)
        os.setgroups([])
        os.setresuid(0, 0, 0)


class SetHostname(NamedTuple):
    name: str

    def describe(self) -> str:
        return f"set hostname {self.name}"

    def execute(self, context: Context) -> None:
        socket.sethostname(self.name)


class SetDomainname(NamedTuple):
    name: str

    def describe(self) -> str:
        return f"set domainname {self.name}"

    def execute(self, context: Context) -> None:
        with open("/proc/sys/kernel/domainname", "w", encoding="utf-8") as file:
            file.write(self.name)


class ConfigureLink(NamedTuple):
    name: str
    addresses: list[str]
    gateways: list[str]

    def describe(self) -> str:
        return f"configure {self.name}: {self.addresses} via {self.gateways}"

    def execute(self, context: Context) -> None:
        with rtnetlink.RouteSocket() as route:
            route.configure(self.name, self.addresses, self.gateways)


class DisableIPv6(NamedTuple):
    """On a link without an IPv6 address, before it is up: a link-local address would reach past the IPv4 network.

    `default` is what a link that comes into the namespace begins with. The kernel sets that without its lock for
    links, which a write for a single link retries in a busy loop as long as any other process holds it
    (addrconf_sysctl_disable, net/ipv6/addrconf.c): of many starts at once that was a tenth of the work.
    """

    name: str
    value: str = "1"

    def describe(self) -> str:
        return f"set disable_ipv6 of {self.name} to {self.value}"

    def execute(self, context: Context) -> None:
        try:
            descriptor = os.open(f"/proc/sys/net/ipv6/conf/{self.name}/disable_ipv6", os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # a kernel without IPv6
            return
        try:
            if not path.is_proc(descriptor):
                raise OSError(errno.EINVAL, "not on procfs", self.describe())
            os.write(descriptor, self.value.encode())
        finally:
            os.close(descriptor)


class RaiseLoopback(NamedTuple):
    def describe(self) -> str:
        return "raise lo"

    def execute(self, context: Context) -> None:
        with rtnetlink.RouteSocket() as route:
            route.raise_loopback()


# --- init: the file system ---


class IsolateMounts(NamedTuple):
    """Nothing mounted here shows outside; `flags` MS_PRIVATE or MS_SLAVE, with MS_REC."""

    flags: int

    def describe(self) -> str:
        return f"make mounts {'private' if self.flags & const.MS_PRIVATE else 'slaves'}"

    def execute(self, context: Context) -> None:
        mount.mount(None, "/", None, self.flags)


class MountRoot(NamedTuple):
    """The root file system: a detached mount put over the directory `at`, in this namespace only."""

    fstype: str
    source: str
    options: list[str]
    attributes: int
    at: str

    def describe(self) -> str:
        return f"mount {self.fstype} root at {self.at}"

    def execute(self, context: Context) -> None:
        if self.fstype == "overlay" and not overlay.takes_layers():
            overlay.mount_at(self.at, self.source, self.options, self.attributes)  # MOUNT_ATTR_* here are MS_*
        else:
            self._move_detached()
        os.chdir(self.at)
        context.at = self.at
        context.root = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _move_detached(self) -> None:
        if self.fstype == "bind":
            tree = mount.open_tree(self.source, const.OPEN_TREE_CLONE | const.AT_RECURSIVE)
        else:
            tree = mount.detached_mount(self.fstype, self.source, self.options, self.attributes)
        try:
            mount.move_mount(tree, self.at)
        finally:
            os.close(tree)


class MountInside(NamedTuple):
    """A new file system at a path of the container. A tmpfs without a mode takes that of the directory it covers.

    `plain`: only where no part of the path is a symbolic link.
    """

    fstype: str
    source: str
    options: list[str]
    attributes: int
    target: str
    plain: bool = False

    def describe(self) -> str:
        return f"mount {self.fstype} at {self.target} ({','.join(self.options)})"

    def execute(self, context: Context) -> None:
        options = self.options
        if self.fstype == "tmpfs" and not any(word.startswith("mode=") for word in options):
            options = [*options, *self._mode_there(context)]
        tree = mount.detached_mount(self.fstype, self.source, options, self.attributes)
        try:
            if self.plain:
                place = path.make_plain_mountpoint(context.root, self.target)
            else:
                place = path.make_mountpoint(context.root, self.target, directory=True)
            try:
                mount.move_mount(tree, place)
            finally:
                os.close(place)
        finally:
            os.close(tree)

    def _mode_there(self, context: Context) -> list[str]:
        try:
            place = path.open_in_root(context.root, self.target, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return [f"mode={os.fstat(place).st_mode & 0o7777:04o}"]
        finally:
            os.close(place)


class MountOverlay(NamedTuple):
    """An image at a path of the container, or what is at `inside` in it, behind no link that leads out of it."""

    source: str
    options: list[str]
    attributes: int
    target: str
    inside: str

    def describe(self) -> str:
        return f"mount overlay at {self.target}"

    def execute(self, context: Context) -> None:
        tree = self._tree(context)
        try:
            directory = stat.S_ISDIR(os.fstat(tree).st_mode)
            place = path.make_mountpoint(context.root, self.target, directory)
            try:
                check_kinds(tree, place, self.target)
                mount.move_mount(tree, place)
            except OSError as error:
                context.problem = mount_problem(f"image/{self.inside}", self.target, f"mount dst={self.target}", error)
                raise
            finally:
                os.close(place)
        finally:
            os.close(tree)

    def _tree(self, context: Context) -> int:
        if overlay.takes_layers() and not self.inside:
            return mount.detached_mount("overlay", self.source, self.options, self.attributes)
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._mount_aside(context.at)
            try:
                return self._part(context)
            finally:
                mount.umount2(context.at, const.MNT_DETACH)
                os.fchdir(here)
        finally:
            os.close(here)

    def _mount_aside(self, at: str) -> None:
        """Over the new root, for a moment: a part is cut out of what is mounted somewhere only (before Linux 6.15)."""
        if not overlay.takes_layers():
            overlay.mount_at(at, self.source, self.options, self.attributes)  # MOUNT_ATTR_* here are MS_*
            return
        tree = mount.detached_mount("overlay", self.source, self.options, self.attributes)
        try:
            mount.move_mount(tree, at)
        finally:
            os.close(tree)

    def _part(self, context: Context) -> int:
        whole = os.open(context.at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            part = path.open_beneath(whole, self.inside or ".", os.O_PATH)
        except OSError as error:
            context.problem = f"cannot access path {self.inside} of the image: {(error.strerror or '').lower()}"
            raise
        finally:
            os.close(whole)
        try:
            return mount.open_tree("", const.OPEN_TREE_CLONE | const.AT_EMPTY_PATH, part)
        finally:
            os.close(part)


class MountCgroups(NamedTuple):
    """A tmpfs with the container's own group of each v1 hierarchy: `groups` are (directory on the host, name there).

    A bind of the group's directory shows the same as a new mount of the hierarchy in the cgroup namespace, and costs
    half. `links` are (target, name).
    """

    target: str
    groups: list[list[str]]
    links: list[list[str]]
    attributes: int

    def describe(self) -> str:
        return f"mount {len(self.groups)} cgroup hierarchies at {self.target}"

    def execute(self, context: Context) -> None:
        tmpfs = mount.detached_mount("tmpfs", "tmpfs", ["mode=755"], self.attributes & ~const.MOUNT_ATTR_RDONLY)
        try:
            place = path.make_plain_mountpoint(context.root, self.target)
            try:
                mount.move_mount(tmpfs, place)
            finally:
                os.close(place)
            for source, name in self.groups:
                os.mkdir(name, 0o755, dir_fd=tmpfs)
                tree = mount.open_tree(source, const.OPEN_TREE_CLONE)
                try:
                    mount.move_mount_at(tree, tmpfs, name)
                finally:
                    os.close(tree)
            for target, name in self.links:
                os.symlink(target, name, dir_fd=tmpfs)
            mount.mount_setattr(tmpfs, "", const.AT_EMPTY_PATH | const.AT_RECURSIVE, attr_set=self.attributes)
        finally:
            os.close(tmpfs)


class BindInside(NamedTuple):
    """A part of the host's tree at a path of the container. `attributes` MOUNT_ATTR_*, `propagation` MS_*.

    `inside` is a path below the source, which others may write to: no link in it leads out of the source. With
    `namespace`, a mount namespace's file, the source is a path of that namespace. `ids` are ranges of users and of
    groups, [id of the file system, id shown, how many]; or [[[uid], [gid]]]: those are shown as the container's user.
    """

    source: str
    target: str
    recursive: bool
    attributes: int
    attributes_recursive: bool
    propagation: int
    inside: str = ""
    namespace: str = ""
    ids: Sequence[list[list[int]]] = ()

    def describe(self) -> str:
        where = f" of {self.namespace}" if self.namespace else ""
        return f"bind {self.source}{where} at {self.target}"

    def execute(self, context: Context) -> None:
        try:
            tree = context.shared.pop(self.target, -1)
            if tree < 0:
                tree = self._clone(const.OPEN_TREE_CLONE | (const.AT_RECURSIVE if self.recursive else 0))
        except OSError as error:
            self._tell(context, f"stat {self.source}", error)
            raise
        try:
            whole = const.AT_RECURSIVE if self.recursive else 0
            if self.ids:
                self._map_ids(context, tree, whole)
            if self.propagation:
                kind = self.propagation & ~const.MS_REC  # mount_setattr(2) takes AT_RECURSIVE for MS_REC
                mount.mount_setattr(tree, "", const.AT_EMPTY_PATH | whole, propagation=kind)
            if self.attributes:
                deep = whole if self.attributes_recursive else 0
                mount.mount_setattr(tree, "", const.AT_EMPTY_PATH | deep, attr_set=self.attributes)
            self._attach(context, tree)
        finally:
            os.close(tree)

    def _map_ids(self, context: Context, tree: int, whole: int) -> None:
        if len(self.ids) == 1:
            (uid,), (gid,) = self.ids[0]
            ranges = [[(uid, context.identity.uid, 1)], [(gid, context.identity.gid, 1)]]
        else:
            ranges = [[(one[0], one[1], one[2]) for one in kind] for kind in self.ids]
        try:
            namespace = ns.user_namespace(ranges[0], ranges[1])
            try:
                flags = const.AT_EMPTY_PATH | whole
                mount.mount_setattr(tree, "", flags, attr_set=const.MOUNT_ATTR_IDMAP, userns_fd=namespace)
            finally:
                os.close(namespace)
        except OSError as error:
            reason = (error.strerror or "").lower()
            context.problem = f'error mounting "{self.source}" to rootfs at "{self.target}" with mapped ids: {reason}'
            if error.errno == errno.EINVAL:
                context.problem += ": this kernel, or the file system of the source or of a mount below it, cannot"
            elif error.errno in (errno.ENOSPC, errno.EUSERS, errno.EPERM):
                context.problem += ": it takes a user namespace, see /proc/sys/user/max_user_namespaces"
            raise

    def _attach(self, context: Context, tree: int) -> None:
        directory = stat.S_ISDIR(os.fstat(tree).st_mode)
        try:
            place = path.make_mountpoint(context.root, self.target, directory)
            try:
                check_kinds(tree, place, self.target)
                mount.move_mount(tree, place)
            finally:
                os.close(place)
        except OSError as error:
            self._tell(context, f"mount src={self.source}, dst={self.target}", error)
            raise

    def _tell(self, context: Context, call: str, error: OSError) -> None:
        if error.errno == errno.EXDEV and self.inside:
            context.problem = (
                f"path concatenation escapes the base directory, base: {self.source}, subpath: {self.inside}"
            )
        else:
            context.problem = mount_problem(self.source, self.target, call, error)

    def _clone(self, flags: int) -> int:
        if self.namespace:
            return _clone_elsewhere(self.namespace, self.source, flags)
        if not self.inside:
            return mount.open_tree(self.source, flags)
        whole = os.open(self.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            part = path.open_beneath(whole, self.inside, os.O_PATH)
        finally:
            os.close(whole)
        try:
            return mount.open_tree("", flags | const.AT_EMPTY_PATH, part)
        finally:
            os.close(part)


class KeepShared(NamedTuple):
    """A copy of a part of the host's tree, made while the host's mounts are still shared with it: what is mounted in
    the copy shows in the host. The bind at `target` takes it.
    """

    source: str
    target: str
    recursive: bool

    def describe(self) -> str:
        return f"take {self.source} as it is shared for {self.target}"

    def execute(self, context: Context) -> None:
        try:
            flags = const.OPEN_TREE_CLONE | (const.AT_RECURSIVE if self.recursive else 0)
            context.shared[self.target] = mount.open_tree(self.source, flags)
        except OSError as error:
            context.problem = mount_problem(self.source, self.target, f"stat {self.source}", error)
            raise


def mount_problem(source: str, target: str, call: str, error: OSError) -> str:
    """In the words of runc and dockerd."""
    reason = (error.strerror or os.strerror(error.errno or 0)).lower()
    told = f'error mounting "{source}" to rootfs at "{target}": {call}: {reason}'
    if error.errno != errno.ENOTDIR:
        return told
    return (
        f"{told}: Are you trying to mount a directory onto a file (or vice-versa)? "
        f"Check if the specified host path exists and is the expected type"
    )


def check_kinds(tree: int, place: int, target: str) -> None:
    """A directory covers directories only. Raises ENOTDIR, for which move_mount(2) says EINVAL."""
    if stat.S_ISDIR(os.fstat(tree).st_mode) != stat.S_ISDIR(os.fstat(place).st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), target)


def _clone_elsewhere(namespace: str, source: str, flags: int) -> int:
    """A copy of a mount of another mount namespace: the kernel makes it only there. setns(2) changes root and place."""
    paths = ("/", ".", "/proc/self/ns/mnt", namespace)
    root, here, own, other = (os.open(one, os.O_RDONLY | os.O_CLOEXEC) for one in paths)
    try:
        ns.setns(other, const.CLONE_NEWNS)
        try:
            return mount.open_tree(source, flags | const.AT_SYMLINK_NOFOLLOW)
        finally:
            ns.setns(own, const.CLONE_NEWNS)
            os.fchdir(root)
            os.chroot(".")
            os.fchdir(here)
    finally:
        for descriptor in (root, here, own, other):
            os.close(descriptor)


class MakeDevice(NamedTuple):
    """`kind` is the S_IF* part of the mode."""

    path: str
    kind: int
    major: int
    minor: int
    mode: int
    uid: int
    gid: int

    def describe(self) -> str:
        return f"make device {self.path} {self.major}:{self.minor}"

    def execute(self, context: Context) -> None:
        parent, _, name = self.path.rpartition("/")
        directory = context.directory(parent)
        try:
            os.mknod(name, self.kind | self.mode, os.makedev(self.major, self.minor), dir_fd=directory)
            if self.uid or self.gid:
                os.chown(name, self.uid, self.gid, dir_fd=directory, follow_symlinks=False)
        except FileExistsError:
            pass


class MakeLink(NamedTuple):
    """`optional`: only where the host has the target."""

    target: str
    path: str
    optional: bool = False

    def describe(self) -> str:
        return f"link {self.path} to {self.target}"

    def execute(self, context: Context) -> None:
        if self.optional and not os.path.exists(self.target):
            return
        parent, _, name = self.path.rpartition("/")
        try:
            os.symlink(self.target, name, dir_fd=context.directory(parent))
        except FileExistsError:
            pass


class MakeWorkingDirectory(NamedTuple):
    path: str

    def describe(self) -> str:
        return f"make working directory {self.path}"

    def execute(self, context: Context) -> None:
        try:
            os.close(path.make_directories(context.root, self.path))
        except NotADirectoryError:
            context.problem = f"Cannot mkdir: {self.path} is not a directory"
            raise


class PivotRoot(NamedTuple):
    """The working directory becomes the root; the old one is detached (pivot_root(2), "." over ".")."""

    def describe(self) -> str:
        return "pivot root"

    def execute(self, context: Context) -> None:
        context.forget_directory()
        old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mount.pivot_root(".", ".")
            os.fchdir(old)  # to mount(2) "." is still the new root, whose shared mounts are to stay so
        finally:
            os.close(old)
        mount.mount(None, ".", None, const.MS_SLAVE | const.MS_REC)  # the umount must not travel to the host
        mount.umount2(".", const.MNT_DETACH)
        os.chdir("/")
        os.close(context.root)
        context.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


class RootPropagation(NamedTuple):
    flags: int

    def describe(self) -> str:
        return f"set propagation of / to {self.flags:#x}"

    def execute(self, context: Context) -> None:
        mount.mount(None, "/", None, self.flags)


class ReadonlyRoot(NamedTuple):
    def describe(self) -> str:
        return "make / read-only"

    def execute(self, context: Context) -> None:
        mount.mount_setattr(const.AT_FDCWD, "/", 0, attr_set=const.MOUNT_ATTR_RDONLY)


class MaskPath(NamedTuple):
    """Covers a file with the container's /dev/null, a directory with an empty read-only tmpfs.

    What is not there needs no mask. The node is the container's, for what its root does to it is not to be done to the
    host's; that it is the null device is seen through its descriptor, as a volume may lie at /dev (CVE-2025-31133).
    """

    path: str

    def describe(self) -> str:
        return f"mask {self.path}"

    def execute(self, context: Context) -> None:
        try:
            place = path.open_in_root(context.root, self.path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if not stat.S_ISDIR(os.fstat(place).st_mode):
                tree = self._null(context)
            elif context.mask >= 0:
                tree = mount.open_tree("", const.OPEN_TREE_CLONE | const.AT_EMPTY_PATH, context.mask)
            else:
                tree = mount.detached_mount("tmpfs", "tmpfs", ["ro"], const.MOUNT_ATTR_RDONLY)
                context.mask = os.dup(tree)
            try:
                mount.move_mount(tree, place)
            finally:
                os.close(tree)
        finally:
            os.close(place)

    @staticmethod
    def _null(context: Context) -> int:
        node = path.open_plainly(context.root, "dev/null", os.O_PATH)
        try:
            found = os.fstat(node)
            if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
                raise OSError(errno.ENODEV, "is not the null device", "/dev/null")
            return mount.open_tree("", const.OPEN_TREE_CLONE | const.AT_EMPTY_PATH, node)
        finally:
            os.close(node)


class ReadonlyPath(NamedTuple):
    path: str

    def describe(self) -> str:
        return f"make {self.path} read-only"

    def execute(self, context: Context) -> None:
        try:
            place = path.open_in_root(context.root, self.path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            tree = mount.open_tree("", const.OPEN_TREE_CLONE | const.AT_EMPTY_PATH | const.AT_RECURSIVE, place)
            try:
                everything = const.AT_EMPTY_PATH | const.AT_RECURSIVE
                mount.mount_setattr(tree, "", everything, attr_set=const.MOUNT_ATTR_RDONLY)
                mount.move_mount(tree, place)
            finally:
                os.close(tree)
        finally:
            os.close(place)


class SetSysctl(NamedTuple):
    key: str
    value: str

    def describe(self) -> str:
        return f"set sysctl {self.key}={self.value}"

    def execute(self, context: Context) -> None:
        name = self.key.replace(".", "/") if "/" not in self.key else self.key
        try:
            parameters = os.open("/proc/sys", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                descriptor = path.open_beneath(parameters, name, os.O_WRONLY | os.O_NOFOLLOW)
            finally:
                os.close(parameters)
        except OSError as error:
            context.problem = f"open /proc/sys/{name}: {(error.strerror or '').lower()}"
            raise
        try:
            if not path.is_proc(descriptor):
                raise OSError(errno.EINVAL, "not on procfs", f"/proc/sys/{name}")
            os.write(descriptor, self.value.encode())
        finally:
            os.close(descriptor)


# --- init: the process ---


class OpenConsole(NamedTuple):
    """A terminal from the container's own devpts: its master goes to the monitor, its slave becomes 0, 1 and 2.

    The slave comes from the master, never from a name that a volume at /dev could have turned (CVE-2025-52565).
    """

    height: int
    width: int
    bind: bool  # over /dev/console, as Docker's containers have it

    def describe(self) -> str:
        return f"open a terminal of {self.height}x{self.width}"

    def execute(self, context: Context) -> None:
        master = path.open_plainly(context.root, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        if not path.is_devpts(master):
            raise OSError(errno.EINVAL, "not on devpts", "/dev/pts/ptmx")
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("=i", 0))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if self.height and self.width:
            fcntl.ioctl(
                master, termios.TIOCSWINSZ, struct.pack("=HHHH", self.height & 0xFFFF, self.width & 0xFFFF, 0, 0)
            )
        context.console(master)
        os.close(master)
        if self.bind:
            place = path.make_mountpoint(context.root, "dev/console", directory=False)
            tree = mount.open_tree("", const.OPEN_TREE_CLONE | const.AT_EMPTY_PATH, slave)
            mount.move_mount(tree, place)
            os.close(tree)
            os.close(place)
        for descriptor in (0, 1, 2):
            os.dup2(slave, descriptor)
        os.close(slave)


class NewSession(NamedTuple):
    tty: bool

    def describe(self) -> str:
        return "start a session" + (" with a controlling terminal" if self.tty else "")

    def execute(self, context: Context) -> None:
        os.setsid()
        if self.tty:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class OwnStreams(NamedTuple):
    """Pipes belong to the user, so that /dev/stdout can be opened again."""

    def describe(self) -> str:
        return "give the streams to the user"

    def execute(self, context: Context) -> None:
        for descriptor in (0, 1, 2):
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode) or os.isatty(descriptor):
                os.fchown(descriptor, context.identity.uid, -1)


class SetRlimit(NamedTuple):
    name: str
    soft: int
    hard: int

    def describe(self) -> str:
        return f"set {self.name} to {self.soft}:{self.hard}"

    def execute(self, context: Context) -> None:
        process.set_rlimit(self.name, self.soft, self.hard)


class SetOomScore(NamedTuple):
    value: int

    def describe(self) -> str:
        return f"set oom_score_adj to {self.value}"

    def execute(self, context: Context) -> None:
        try:
            descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(descriptor, str(self.value).encode())
            finally:
                os.close(descriptor)
        except PermissionError:
            if self.value:  # 0 is what nobody asked for: an engine without CAP_SYS_RESOURCE may not go below its own
                raise


class JoinKeyring(NamedTuple):
    name: str

    def describe(self) -> str:
        return f"join session keyring {self.name}"

    def execute(self, context: Context) -> None:
        try:
            process.join_session_keyring(self.name)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EDQUOT):
                raise


class ChangeDirectory(NamedTuple):
    path: str

    def describe(self) -> str:
        return f"change directory to {self.path}"

    def execute(self, context: Context) -> None:
        try:
            os.chdir(self.path)
        except OSError as error:
            reason = (error.strerror or "").lower()
            context.problem = f'chdir to cwd ("{self.path}") set in config.json failed: {reason}'
            raise
        if not os.getcwd().startswith("/"):  # a descriptor of the host had been leaked into the path (CVE-2024-21626)
            raise OSError(errno.EPERM, "the working directory is outside of the container")


class FindExecutable(NamedTuple):
    """Which file will be executed, looked up in the container's PATH as execvp(3) does it."""

    name: str
    search: str

    def describe(self) -> str:
        return f"find {self.name}"

    def execute(self, context: Context) -> None:
        if "/" in self.name:
            self._check(context, self.name)
            return
        failure = "executable file not found in $PATH"
        for directory in self.search.split(":"):
            candidate = f"{directory or '.'}/{self.name}"
            try:
                found = os.stat(candidate)
            except OSError as error:
                if error.errno == errno.EACCES:
                    failure = "permission denied"
                continue
            if stat.S_ISREG(found.st_mode) and found.st_mode & 0o111:
                context.executable = candidate
                return
            if stat.S_ISREG(found.st_mode):
                failure = "permission denied"
        context.problem = f'exec: "{self.name}": {failure}'
        raise OSError(errno.ENOENT if "not found" in failure else errno.EACCES, failure, self.name)

    def _check(self, context: Context, name: str) -> None:
        try:
            found = os.stat(name)
        except OSError as error:
            reason = (error.strerror or "").lower()
            context.problem = f'exec: "{name}": stat {name}: {reason}'
            raise
        if stat.S_ISDIR(found.st_mode):
            context.problem = f'exec: "{name}": is a directory'
            raise OSError(errno.EACCES, "is a directory", name)
        if not found.st_mode & 0o111:
            context.problem = f'exec: "{name}": permission denied'
            raise OSError(errno.EACCES, "permission denied", name)
        context.executable = name


class ResolveUser(NamedTuple):
    """Looks the user up in the container's own files; OwnStreams and BecomeUser use what it found."""

    user: str
    extra_groups: list[str]

    def describe(self) -> str:
        return f"look up user {self.user or 'root'}"

    def execute(self, context: Context) -> None:
        try:
            context.identity = users.resolve(
                self.user, self.extra_groups, self._read(context, "etc/passwd"), self._read(context, "etc/group")
            )
        except users.UnknownUser as error:
            context.problem = str(error)
            raise OSError(errno.EINVAL, str(error)) from error

    @staticmethod
    def _read(context: Context, name: str) -> bytes:
        try:
            return path.read_file_in_root(context.root, name, 16 << 20)
        except OSError:
            return b""


class BecomeUser(NamedTuple):
    """Groups first, then the user, capabilities kept for the last steps."""

    umask: int

    def describe(self) -> str:
        return "become the user"

    def execute(self, context: Context) -> None:
        identity = context.identity
        process.set_keep_caps(True)
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
        process.set_keep_caps(False)
        process.set_dumpable(False)  # another user makes it what suid_dumpable says
        os.umask(self.umask)


class DropBounding(NamedTuple):
    keep: int

    def describe(self) -> str:
        return f"limit the bounding set to {self.keep:#x}"

    def execute(self, context: Context) -> None:
        caps.drop_bounding(self.keep, caps.last_cap())


class SetCapabilities(NamedTuple):
    """CAP_SYS_ADMIN is held on to for the seccomp filter; execve(2) computes the sets anew from the bounding set,
    so that it is gone afterwards.
    """

    effective: int
    permitted: int
    inheritable: int
    ambient: int
    hold: int

    def describe(self) -> str:
        return f"set capabilities {self.permitted:#x}"

    def execute(self, context: Context) -> None:
        caps.clear_ambient()
        caps.set_caps(self.effective | self.hold, self.permitted | self.hold, self.inheritable)
        caps.raise_ambient(self.ambient)
        process.set_dumpable(False)


class NoNewPrivileges(NamedTuple):
    def describe(self) -> str:
        return "set no_new_privs"

    def execute(self, context: Context) -> None:
        process.set_no_new_privs()


class ParentDeathSignal(NamedTuple):
    """A help, not a guarantee: the container can clear it. Set after the user has changed, which clears it too."""

    def describe(self) -> str:
        return "die with the monitor"

    def execute(self, context: Context) -> None:
        process.set_parent_death_signal(9)


class Execute(NamedTuple):
    """The end of init: signals as a fresh process has them, the filter (base64, "": none), the program."""

    arguments: list[str]
    environment: list[str]
    program: str
    flags: int

    def describe(self) -> str:
        return f"execute {self.arguments[0]}"

    def execute(self, context: Context) -> None:
        arguments = [os.fsencode(word) for word in self.arguments]
        pairs = (variable.partition("=") for variable in self.environment)
        environment = {os.fsencode(name): os.fsencode(value) for name, _, value in pairs}
        environment.setdefault(b"HOME", os.fsencode(context.identity.home or "/"))
        executable = os.fsencode(context.executable)
        program = base64.b64decode(self.program)
        process.reset_inherited_state()
        process.close_on_exec_from(3 + context.preserved)
        if program:
            seccomp.load(program, self.flags)
        try:
            os.execve(executable, arguments, environment)
        except OSError as error:
            reason = (error.strerror or "").lower()
            context.problem = f"exec {self.arguments[0]}: {reason}"
            raise


OPERATIONS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        MakeCgroup, WriteControl, WriteControls, WriteFirst, AllowDevices, WriteIdMaps, MakeVeth, JoinCgroup, Unshare,
        JoinNamespace, AwaitMonitor, BecomeRoot, SetHostname, SetDomainname, DisableIPv6, ConfigureLink, RaiseLoopback,
        IsolateMounts, MountRoot, MountInside, MountOverlay, MountCgroups, BindInside, KeepShared, MakeDevice, MakeLink,
        MakeWorkingDirectory, PivotRoot, RootPropagation, ReadonlyRoot,
        MaskPath, ReadonlyPath, SetSysctl, OpenConsole, NewSession, OwnStreams, SetRlimit, SetOomScore, JoinKeyring,
        ChangeDirectory, FindExecutable, ResolveUser, BecomeUser, DropBounding, SetCapabilities, NoNewPrivileges,
        ParentDeathSignal, Execute,
    )
}  # fmt: skip


def encode(operations: list[Any]) -> list[list[Any]]:
    """A plan as JSON-ready lists."""
    return [[type(operation).__name__, *operation] for operation in operations]


def decode(plan: list[list[Any]]) -> list[Operation]:
    return [cast(Operation, OPERATIONS[name](*fields)) for name, *fields in plan]
