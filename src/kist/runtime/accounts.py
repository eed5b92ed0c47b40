"""Who a container's user is, by the container's own files, for kistd: it looks at them and loads nothing."""

from __future__ import annotations

from kist.kernel import path
from kist.model.errors import InvalidParameter
from kist.monitor.users import UnknownUser, resolve

_LIMIT = 16 << 20  # bytes of a passwd or group file


def owner(root: int, user: str) -> tuple[int, int]:
    """(uid, gid) of `user[:group]` below a descriptor of the root. Raises InvalidParameter, OSError."""
    try:
        identity = resolve(user, [], _read(root, "/etc/passwd"), _read(root, "/etc/group"))
    except UnknownUser as error:
        raise InvalidParameter(str(error)) from error
    return identity.uid, identity.gid


def _read(root: int, file: str) -> bytes:
    try:
        return path.read_file_in_root(root, file, _LIMIT)
    except FileNotFoundError:
        return b""
