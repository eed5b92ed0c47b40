"""The C library, loaded once. Every argtype is declared here and nowhere else: changing one later would race."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_ulong

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
# syscall(2) is variadic; every argument is passed as a long or a pointer.
libc.syscall.restype = c_long


def check(result: int, call: str, path: object = "") -> int:
    """The result of a C call. Raises OSError(errno, text, "call path") when it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        if isinstance(path, bytes):
            path = path.decode("utf-8", "surrogateescape")
        raise OSError(number, os.strerror(number), f"{call} {path}".rstrip())
    return result


def syscall(number: int, *arguments: object, call: str, path: object = "") -> int:
    """syscall(2) with integers widened to long, so that no upper half is garbage. Raises OSError."""
    widened = [c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result: int = libc.syscall(c_long(number), *widened)
    return check(result, call, path)
