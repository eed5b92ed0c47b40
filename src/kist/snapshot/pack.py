"""Packing files into a tar, the counterpart of `unpack`, for copies, exports and layers (OCI image spec, layer.md).

By descriptors, as what is packed may change meanwhile: what goes is left out, what shrinks is filled up with zeros. The
same files give the same bytes: names in order, whole seconds, no names of users.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable

from kist.kernel import path
from kist.model.errors import KistError
from kist.snapshot.copy import held
from kist.snapshot.unpack import OPAQUE, WHITEOUT, XATTR

_NAME = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)
_BUFFER = 1 << 17
_UNSIZED = 1 << 24  # bytes, of a file that may have no end
_CAPABILITY = "security.capability"
_REVISION_3 = 3  # of capabilities that hold for one user namespace (linux/capability.h)
_UNPACKABLE = ("trusted.overlay.redirect", "trusted.overlay.metacopy")
_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE, stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE, stat.S_IFIFO: tarfile.FIFOTYPE,
}  # fmt: skip


class Packer:
    """Members of one tar. `write` takes its bytes; `layer`: the files are an overlay's upper directory, whose devices
    0:0 and opaque directories become whiteouts.
    """

    def __init__(self, write: Callable[[bytes], object], *, layer: bool = False) -> None:
        self._write, self._layer = write, layer
        self._waiting: list[bytes] = []
        self._size = 0
        self._links: dict[tuple[int, int], str] = {}

    def finish(self) -> None:
        """The end of the archive."""
        self._put(bytes(2 * tarfile.BLOCKSIZE))
        self._flush()

    def tree(self, top: int, prefix: str, closed: frozenset[str] = frozenset()) -> None:
        """Everything below a directory, each under `prefix` and its path from there, but what is in those `closed`.

        Raises OSError, KistError.
        """
        pending = _listed(top, "")
        holder, descriptor = "", os.dup(top)
        try:
            while pending:
                inside = pending.pop()
                parent, _, name = inside.rpartition("/")
                if parent != holder:
                    if descriptor >= 0:  # that one went while it was read
                        os.close(descriptor)
                    descriptor = -1
                    descriptor, holder = _open(top, parent), parent
                if descriptor >= 0 and self.member(descriptor, name, prefix + inside) and inside not in closed:
                    pending += _listed(top, inside)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def top(self, file: int, shown: str) -> None:
        """The file of an O_PATH descriptor; of a directory only itself, without what is in it."""
        self._add(file, shown, _unsized(file))

    def member(self, directory: int, name: str, shown: str) -> bool:
        """One file of a directory as `shown`; whether it is a directory itself. What is gone is left out."""
        try:
            descriptor = os.open(name, _NAME, dir_fd=directory)
        except FileNotFoundError:
            return False
        with held(descriptor):
            try:
                return self._add(descriptor, shown)
            except (FileNotFoundError, ProcessLookupError):  # of a process that ended (proc(5))
                return False

    def one(self, top: int, inside: str) -> None:
        """A single file below a directory, under its path from there."""
        parent, _, name = inside.rpartition("/")
        descriptor = _open(top, parent)
        if descriptor >= 0:
            with held(descriptor):
                self.member(descriptor, name, inside)

    def whiteout(self, shown: str) -> None:
        """Says that a file of a lower layer is gone."""
        parent, slash, name = shown.rpartition("/")
        self._put(tarfile.TarInfo(f"{parent}{slash}{WHITEOUT}{name}").tobuf(tarfile.PAX_FORMAT))

    def _add(self, descriptor: int, shown: str, content: bytes = b"") -> bool:
        """`content` of a file that does not say how long it is."""
        status = os.fstat(descriptor)
        kind = stat.S_IFMT(status.st_mode)
        if self._layer and kind == stat.S_IFCHR and status.st_rdev == 0:
            self.whiteout(shown)
            return False
        if kind not in _TYPES:  # a socket means nothing without its process
            return False
        attributes = _attributes(descriptor)
        if self._layer and any(name in attributes for name in _UNPACKABLE):
            raise KistError(
                f"cannot pack {shown}: this overlay keeps renamed directories apart (redirect_dir, metacopy)"
            )
        info = _header(status, _TYPES[kind], f"{shown}/" if kind == stat.S_IFDIR else shown)
        info.pax_headers = {f"{XATTR}{name}": _text(name, value) for name, value in attributes.items() if _kept(name)}
        if kind == stat.S_IFLNK:
            info.linkname = os.readlink("", dir_fd=descriptor)
        elif kind != stat.S_IFDIR and status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), shown)
            if first != shown:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, first, 0
        if info.type == tarfile.REGTYPE and info.size:
            self._file(descriptor, info)
            return False
        info.size = len(content)
        self._put(_encoded(info))
        self._put(content + bytes(-len(content) % tarfile.BLOCKSIZE))
        if self._layer and attributes.get("trusted.overlay.opaque") == b"y":
            self._put(tarfile.TarInfo(f"{shown}/{OPAQUE}").tobuf(tarfile.PAX_FORMAT))
        return kind == stat.S_IFDIR

    def _file(self, descriptor: int, info: tarfile.TarInfo) -> None:
        with held(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)) as file:
            self._put(_encoded(info))
            left = info.size
            while left and (chunk := os.read(file, min(left, _BUFFER))):
                self._put(chunk)
                left -= len(chunk)
        while left:
            count = min(left, _BUFFER)
            self._put(bytes(count))
            left -= count
        self._put(bytes(-info.size % tarfile.BLOCKSIZE))

    def _put(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._write(data)


def _unsized(descriptor: int) -> bytes:
    """What is in a file that says it has nothing in it, as those of proc(5) do."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        return b""
    found = b""
    try:
        with held(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)) as file:
            while len(found) < _UNSIZED and (data := os.read(file, _BUFFER)):
                found += data
    except OSError:  # one that waits for something to be said, or is not to be read
        return b""
    return found


def _listed(top: int, inside: str) -> list[str]:
    """Paths from `top` of what is in a directory, the last first."""
    descriptor = _open(top, inside)
    if descriptor < 0:
        return []
    with held(descriptor):
        names = sorted(os.listdir(descriptor), key=os.fsencode, reverse=True)
    return [f"{inside}/{name}" for name in names] if inside else names


def _open(top: int, inside: str) -> int:
    """A directory below another; -1 when it is gone."""
    try:
        return path.open_beneath(top, inside or ".", _DIRECTORY)
    except OSError as error:
        if error.errno in _GONE:
            return -1
        raise


def _header(status: os.stat_result, kind: bytes, name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, stat.S_IMODE(status.st_mode)
    info.uid, info.gid, info.mtime = status.st_uid, status.st_gid, int(status.st_mtime)
    info.size = status.st_size if kind == tarfile.REGTYPE else 0
    if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return info


def _encoded(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _attributes(descriptor: int) -> dict[str, bytes]:
    """Extended attributes through /proc, where the descriptor of a link is the link itself; none without support."""
    here = f"/proc/self/fd/{descriptor}"
    found = {}
    try:
        for name in os.listxattr(here):
            found[name] = os.getxattr(here, name)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENODATA, errno.EPERM, errno.EACCES):
            raise
    return found


def _kept(name: str) -> bool:
    """What belongs to the file, not to the file system or the host."""
    return name == _CAPABILITY or name.startswith("user.")


def _text(name: str, value: bytes) -> str:
    if name == _CAPABILITY and len(value) == 24 and value[3] == _REVISION_3:  # the user namespace is not packed
        value = value[:3] + b"\x02" + value[4:20]
    return value.decode("utf-8", "surrogateescape")
