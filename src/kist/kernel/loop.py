"""Loop devices (loop(4)): a file as a block device."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

LOOP_CTL_GET_FREE, LOOP_CONFIGURE = 0x4C82, 0x4C0A
LO_FLAGS_AUTOCLEAR = 4
_TRIES = 64


class loop_info64(ctypes.Structure):
    """struct loop_info64 (linux/loop.h)."""

    _fields_ = (
        ("lo_device", ctypes.c_uint64),
        ("lo_inode", ctypes.c_uint64),
        ("lo_rdevice", ctypes.c_uint64),
        ("lo_offset", ctypes.c_uint64),
        ("lo_sizelimit", ctypes.c_uint64),
        ("lo_number", ctypes.c_uint32),
        ("lo_encrypt_type", ctypes.c_uint32),
        ("lo_encrypt_key_size", ctypes.c_uint32),
        ("lo_flags", ctypes.c_uint32),
        ("lo_file_name", ctypes.c_char * 64),
        ("lo_crypt_name", ctypes.c_char * 64),
        ("lo_encrypt_key", ctypes.c_char * 32),
        ("lo_init", ctypes.c_uint64 * 2),
    )


class loop_config(ctypes.Structure):
    """struct loop_config (linux/loop.h)."""

    _fields_ = (
        ("fd", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("info", loop_info64),
        ("reserved", ctypes.c_uint64 * 8),
    )


def attach(image: str) -> tuple[int, str]:
    """A descriptor and the path of a device that shows a file. The device is free again when its last user has closed
    or unmounted it. Raises OSError.
    """
    file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            return _attach_to_free(control, file, image)
        finally:
            os.close(control)
    finally:
        os.close(file)


def _attach_to_free(control: int, file: int, image: str) -> tuple[int, str]:
    config = loop_config(fd=file)
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR
    config.info.lo_file_name = os.fsencode(image)[-63:]
    for _ in range(_TRIES):
        path = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
        device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, LOOP_CONFIGURE, config)
            return device, path
        except OSError as error:
            os.close(device)
            if error.errno != errno.EBUSY:  # somebody else took it meanwhile
                raise
        except BaseException:
            os.close(device)
            raise
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), "/dev/loop-control")
