"""The C library, loaded once. Every argtype is declared here and nowhere else: changing one later would race."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_ulong, c_void_p

libc = ctypes.CDLL(None, use_errno=True)

libc.mount.argtypes = [c_char_p, c_char_p, c_char_p, c_ulong, c_char_p]
libc.umount2.argtypes = [c_char_p, c_int]
libc.unshare.argtypes = [c_int]
libc.setns.argtypes = [c_int, c_int]
libc.prctl.argtypes = [c_int, c_ulong, c_ulong, c_ulong, c_ulong]
libc.sethostname.argtypes = [c_char_p, c_size_t]
libc.setdomainname.argtypes = [c_char_p, c_size_t]
libc.inotify_init1.argtypes = [c_int]
libc.inotify_add_watch.argtypes = [c_int, c_char_p, c_uint]
libc.inotify_rm_watch.argtypes = [c_int, c_int]
libc.syncfs.argtypes = [c_int]
libc.malloc_trim.argtypes = [c_size_t]
# syscall(2) is variadic: a prototype for each number of arguments, all as wide as a register, so that no upper half is
# garbage. Prototypes cost half of what objects made for each call do.
libc.syscall.restype = c_long
_SYSCALL = [
    ctypes.CFUNCTYPE(c_long, c_long, *[c_void_p] * count, use_errno=True)(("syscall", libc)) for count in range(7)
]


def check(result: int, call: str, path: object = "") -> int:
    """The result of a C call. Raises OSError(errno, text, "call path") when it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        if isinstance(path, bytes):
            path = path.decode("utf-8", "surrogateescape")
        raise OSError(number, os.strerror(number), f"{call} {path}".rstrip())
    return result


def syscall(number: int, *arguments: object, call: str, path: object = "") -> int:
    """syscall(2) with integers, bytes and pointers. Raises OSError."""
    result: int = _SYSCALL[len(arguments)](number, *arguments)
    return check(result, call, path) if result < 0 else result
