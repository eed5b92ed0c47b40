"""The one library that walks paths inside a container or an image: every one of them is hostile.

Directory descriptors and openat2(2) with RESOLVE_IN_ROOT: links and `..` resolve as if the directory were the root,
and magic links of /proc are refused. Nothing else may open a path below a container's root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from kist.kernel.const import (
    DEVPTS_SUPER_MAGIC,
    PROC_SUPER_MAGIC,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    SYS_OPENAT2,
)
from kist.kernel.libc import libc, syscall

_MAX_LINKS = 40  # as many as the kernel follows (MAXSYMLINKS, linux/namei.h)
_ATTEMPTS = 128  # openat2 answers EAGAIN on `..` while anybody mounts or renames


class open_how(ctypes.Structure):
    """struct open_how (linux/openat2.h)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(directory: int, path: str | bytes, flags: int, mode: int, resolve: int) -> int:
    """openat2(2) with O_CLOEXEC, tried again a bounded number of times on EAGAIN. Raises OSError."""
    how = open_how(flags | os.O_CLOEXEC, mode, resolve)
    name = os.fsencode(path)
    for attempt in range(_ATTEMPTS):
        try:
            return syscall(
                SYS_OPENAT2, directory, name, ctypes.byref(how), ctypes.sizeof(how), call="openat2", path=path
            )
        except OSError as error:
            if error.errno != errno.EAGAIN or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def open_in_root(root: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Opens a path as a process chrooted to the directory would. Raises OSError."""
    return openat2(root, os.fsencode(path) or b".", flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_plainly(root: int, path: str | bytes, flags: int) -> int:
    """The same where no part of the path may be a symbolic link. Raises OSError, ELOOP when one is."""
    return openat2(root, os.fsencode(path), flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)


def open_beneath(root: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Opens a path and fails with EXDEV where it would leave the directory. Raises OSError."""
    return openat2(root, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)


def split(path: str) -> list[str]:
    """The components of a path without empty ones and `.`; `..` is kept, openat2 resolves it in the root."""
    return [part for part in path.split("/") if part not in ("", ".")]


def make_directories(root: int, path: str, mode: int = 0o755, uid: int = -1, gid: int = -1) -> int:
    """Makes the directories of a path that are missing; an O_PATH descriptor of the last. Raises OSError.

    A parent is opened in the root before anything is made in it, so a link leads nowhere outside.
    """
    try:
        return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return _make_last(root, path, mode, uid, gid)


def _make_last(root: int, path: str, mode: int = 0o755, uid: int = -1, gid: int = -1) -> int:
    """The same for a path that is missing."""
    parts = split(path)
    if not parts:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    parent = make_directories(root, "/".join(parts[:-1]), mode, uid, gid)
    try:
        os.mkdir(parts[-1], mode, dir_fd=parent)
        if uid >= 0 or gid >= 0:
            os.chown(parts[-1], uid, gid, dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        pass  # `..`, made by somebody else, or a link that leads nowhere: not ours to follow or replace, ENOENT follows
    finally:
        os.close(parent)
    return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)


def make_plain_mountpoint(root: int, path: str) -> int:
    """The same of a directory where no part of the path may be a symbolic link. Raises OSError."""
    try:
        return open_plainly(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        os.close(_make_last(root, path))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, f"{path} must be an ordinary directory, not a symbolic link", path) from error
        raise
    return open_plainly(root, path, os.O_PATH | os.O_DIRECTORY)


def make_mountpoint(root: int, path: str, directory: bool) -> int:
    """O_PATH descriptor of what a mount is to cover, made empty when missing, also behind links that lead nowhere.

    Raises OSError.
    """
    try:
        return open_in_root(root, path, os.O_PATH)
    except FileNotFoundError:
        path = _behind_links(root, path)
    if directory:
        return _make_last(root, path)
    parent, _, name = path.rstrip("/").rpartition("/")
    holder = make_directories(root, parent)
    try:
        made = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o755, dir_fd=holder)
        os.close(made)
    finally:
        os.close(holder)
    return open_in_root(root, path, os.O_PATH)


def _behind_links(root: int, path: str) -> str:
    """A path for what is missing at `path`, in which the links that lead nowhere are replaced by where they lead.

    It is to be resolved in the root as any other: nothing here is believed. Raises OSError, ELOOP after 40 links.
    """
    done, left, links = "", split(path), 0
    while left:
        name = left.pop(0)
        target = _link(root, done or "/", name)
        if target is None:
            done = f"{done}/{name}"
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        left = split(target) + left
        done = "" if target.startswith("/") else done
    return done


def _link(root: int, directory: str, name: str) -> str | None:
    """What a link says; None for anything else, and for what is not there."""
    try:
        holder = open_in_root(root, directory, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        return os.readlink(name, dir_fd=holder)
    except OSError:
        return None
    finally:
        os.close(holder)


def read_file_in_root(root: int, path: str, limit: int) -> bytes:
    """The content of a regular file, at most `limit` bytes (OSError EFBIG beyond). Never blocks on a FIFO."""
    descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        chunks, left, size = [], limit + 1, min(found.st_size + 1, 1 << 20)
        while left > 0 and (chunk := os.read(descriptor, min(left, size))):
            chunks.append(chunk)
            left -= len(chunk)
        if left <= 0:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes", path)
        return b"".join(chunks)
    finally:
        os.close(descriptor)


def is_proc(descriptor: int) -> bool:
    """Whether a descriptor lies on a real procfs (statfs(2)); a fake one must not swallow writes (CVE-2019-19921)."""
    return _magic(descriptor) == PROC_SUPER_MAGIC


def is_devpts(descriptor: int) -> bool:
    return _magic(descriptor) == DEVPTS_SUPER_MAGIC


def _magic(descriptor: int) -> int:
    """The kind of file system (statfs(2)), 0 when there is no answer."""
    buffer = ctypes.create_string_buffer(256)
    if libc.fstatfs(descriptor, buffer) != 0:
        return 0
    return ctypes.c_long.from_buffer(buffer).value
