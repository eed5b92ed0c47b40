"""Local volumes that are more than a directory: mounted by their options, and taken away again.

All of it is seen in the host's mount namespace, where monitors find it. What is mounted is asked of the kernel each
time, never remembered: an earlier kistd, or an administrator, may have been there.
"""

from __future__ import annotations

import os
from contextlib import suppress

from kist.kernel import const, loop, mount, mountinfo
from kist.model.errors import KistError
from kist.model.volume import Volume
from kist.volume import options
from kist.volume.options import MountCall

_PROPAGATION = const.MS_SHARED | const.MS_PRIVATE | const.MS_SLAVE | const.MS_UNBINDABLE
_READ_ONLY_BIND = const.MS_BIND | const.MS_RDONLY
IMAGE = "image"


def needs_mount(volume: Volume) -> bool:
    return volume.is_local and (volume.image or options.needs_mount(volume.options))


def mount_volume(volume: Volume) -> None:
    """Unless it is mounted. Blocks. Raises KistError with Docker's texts; nothing is mounted then."""
    if mountinfo.count(volume.mountpoint):
        return
    if volume.image:
        _mount_image(volume)
        return
    call = options.mount_call(volume.options or {})
    try:
        _mount(call, volume.mountpoint)
    except KistError as error:
        raise KistError(f"failed to mount local volume: {error.message}") from error


def unmount_below(path: str) -> None:
    """Whatever is mounted at a path of the engine's own and below it goes. Raises KistError when it does not.

    It is made private first: a recursive bind shares its mounts with their source, which would lose them, too.
    """
    while points := mountinfo.below(path):
        top = min(points, key=len)
        try:
            mount.mount("", top, "", const.MS_PRIVATE | const.MS_REC)
            mount.umount2(top, const.MNT_DETACH | const.UMOUNT_NOFOLLOW)
        except OSError as error:
            if top in mountinfo.below(path):
                raise KistError(f"cannot unmount {top}: {_reason(error)}") from error


def _mount(call: MountCall, target: str) -> None:
    """The mount; then its propagation, and read-only for a bind, which mount(2) does not take together with it."""
    flags = call.flags & ~_PROPAGATION
    try:
        mount.mount(call.device, target, call.type, flags, call.data)
    except OSError as error:
        shown = f", flags: 0x{flags:x}" if flags else ""
        shown += f", data: {call.told}" if call.told else ""
        raise KistError(f"mount {call.device}:{target}{shown}: {_reason(error)}") from error
    try:
        if call.flags & _PROPAGATION:
            _remount("remount", target, call.flags & (_PROPAGATION | const.MS_REC))
        if flags & _READ_ONLY_BIND == _READ_ONLY_BIND:
            _remount("remount-ro", target, flags | const.MS_REMOUNT)
    except KistError:
        with suppress(KistError):
            unmount_below(target)
        raise


def _remount(what: str, target: str, flags: int) -> None:
    try:
        mount.mount("", target, "", flags)
    except OSError as error:
        raise KistError(f"{what} {target}, flags: 0x{flags:x}: {_reason(error)}") from error


def _mount_image(volume: Volume) -> None:
    """The loop device goes by itself when nothing has it mounted or open any more: no crash leaves one."""
    image = f"{os.path.dirname(volume.mountpoint)}/{IMAGE}"
    try:
        device, path = loop.attach(image)
        try:
            mount.mount(path, volume.mountpoint, "ext4", const.MS_NOATIME, "discard")  # the file gets holes again
        finally:
            os.close(device)
    except OSError as error:
        raise KistError(f"failed to mount local volume: mount {image}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
