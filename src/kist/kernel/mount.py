"""Mounts: mount(2) and the mount API by descriptor (fsopen(2), fsmount(2), move_mount(2), open_tree(2))."""

from __future__ import annotations

import ctypes
import os

from kist.kernel.const import (
    AT_FDCWD,
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_FLAG,
    FSCONFIG_SET_STRING,
    FSMOUNT_CLOEXEC,
    FSOPEN_CLOEXEC,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    OPEN_TREE_CLOEXEC,
    SYS_FSCONFIG,
    SYS_FSMOUNT,
    SYS_FSOPEN,
    SYS_MOUNT_SETATTR,
    SYS_MOVE_MOUNT,
    SYS_OPEN_TREE,
    SYS_PIVOT_ROOT,
)
from kist.kernel.libc import check, libc, syscall


def _bytes(path: str | bytes | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def mount(
    source: str | bytes | None,
    target: str | bytes,
    fstype: str | None,
    flags: int = 0,
    data: str | None = None,
) -> None:
    """mount(2). Raises OSError."""
    result = libc.mount(_bytes(source), _bytes(target), _bytes(fstype), flags, _bytes(data))
    check(result, f"mount {fstype or 'bind'}", target)


def umount2(target: str | bytes, flags: int = 0) -> None:
    """umount2(2). Raises OSError."""
    check(libc.umount2(_bytes(target), flags), "umount2", target)


def pivot_root(new_root: str | bytes, put_old: str | bytes) -> None:
    """pivot_root(2). Raises OSError."""
    syscall(SYS_PIVOT_ROOT, _bytes(new_root), _bytes(put_old), call="pivot_root", path=new_root)


def fsopen(fstype: str) -> int:
    """fsopen(2): a file system context. Raises OSError."""
    return syscall(SYS_FSOPEN, fstype.encode(), FSOPEN_CLOEXEC, call="fsopen", path=fstype)


def fsconfig_set_string(context: int, key: str, value: str) -> None:
    syscall(SYS_FSCONFIG, context, FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0, call="fsconfig", path=key)


def fsconfig_set_flag(context: int, key: str) -> None:
    syscall(SYS_FSCONFIG, context, FSCONFIG_SET_FLAG, key.encode(), None, 0, call="fsconfig", path=key)


def fsconfig_create(context: int) -> None:
    syscall(SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0, call="fsconfig create")


def fsmount(context: int, attributes: int = 0) -> int:
    """fsmount(2): a detached mount, MOUNT_ATTR_* attributes. Raises OSError."""
    return syscall(SYS_FSMOUNT, context, FSMOUNT_CLOEXEC, attributes, call="fsmount")


def move_mount(mount_fd: int, target: int | str | bytes) -> None:
    """Attaches a detached mount to a path or to an O_PATH descriptor of one (move_mount(2)). Raises OSError."""
    if isinstance(target, int):
        directory, path, flags = target, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    else:
        directory, path, flags = AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH
    syscall(SYS_MOVE_MOUNT, mount_fd, b"", directory, path, flags, call="move_mount", path=target)


def move_mount_at(mount_fd: int, directory: int, name: str) -> None:
    """Attaches a detached mount to an entry of a directory that nobody else can change. Raises OSError."""
    syscall(
        *(SYS_MOVE_MOUNT, mount_fd, b"", directory, os.fsencode(name), MOVE_MOUNT_F_EMPTY_PATH),
        call="move_mount",
        path=name,
    )


def open_tree(path: str | bytes, flags: int, directory: int = AT_FDCWD) -> int:
    """open_tree(2) with O_CLOEXEC; OPEN_TREE_CLONE makes a detached copy. Raises OSError."""
    return syscall(SYS_OPEN_TREE, directory, _bytes(path), flags | OPEN_TREE_CLOEXEC, call="open_tree", path=path)


class mount_attr(ctypes.Structure):
    """struct mount_attr (linux/mount.h)."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_setattr(
    directory: int,
    path: str | bytes,
    flags: int,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """mount_setattr(2). Raises OSError."""
    attributes = mount_attr(attr_set, attr_clr, propagation, userns_fd)
    syscall(
        SYS_MOUNT_SETATTR,
        directory,
        _bytes(path),
        flags,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
        call="mount_setattr",
        path=path,
    )


def context_log(context: int) -> str:
    """What the kernel wrote about a failure into a file system context (fsopen(2)): "" when nothing."""
    lines = []
    for _ in range(16):
        try:
            lines.append(os.read(context, 1024).decode("utf-8", "replace").strip())
        except OSError:
            break
    return "; ".join(lines)


def detached_mount(fstype: str, source: str, options: list[str], attributes: int = 0) -> int:
    """A new mount that is nowhere yet: fsopen, fsconfig for each `key=value` or flag, fsmount. Raises OSError.

    `lowerdir=a:b` of overlay is given layer by layer, as one string may not be longer than 255 bytes there (fsconfig
    refuses longer values); the kernel takes 500 layers.
    """
    context = fsopen(fstype)
    try:
        if source:
            fsconfig_set_string(context, "source", source)
        for option in options:
            _configure(context, fstype, option)
        fsconfig_create(context)
        return fsmount(context, attributes)
    except OSError as error:
        told = context_log(context)
        raise OSError(error.errno, f"{error.strerror}{f' ({told})' if told else ''}", f"mount {fstype}") from error
    finally:
        os.close(context)


def _configure(context: int, fstype: str, option: str) -> None:
    key, equals, value = option.partition("=")
    if not equals:
        fsconfig_set_flag(context, key)
    elif fstype == "overlay" and key == "lowerdir":
        for layer in value.split(":"):
            fsconfig_set_string(context, "lowerdir+", layer)
    else:
        fsconfig_set_string(context, key, value)
