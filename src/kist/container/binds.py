"""What `-v`, `--mount` and `--tmpfs` ask for, as mount points: parsing and checking, with Docker's texts.

Nothing here touches a file but `bind_source_exists`, which callers may replace.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable

from kist.model import idmap
from kist.model.config import BindOptions, MountRequest, TmpfsOptions
from kist.model.container import MountPoint
from kist.model.errors import InvalidParameter

PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_READ_WRITE = frozenset({"rw", "ro"})
_LABELS = frozenset({"z", "Z"})
_COPY = frozenset({"copy", "nocopy"})
_CONSISTENCY = frozenset({"consistent", "cached", "delegated"})
_MODE_CLASSES = (_READ_WRITE, _LABELS, PROPAGATIONS, _COPY, _CONSISTENCY)


def clean(path: str) -> str:
    """An absolute path without `.`, `..` and doubled slashes (Go's path.Clean)."""
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("//") else cleaned


def valid_mode(mode: str) -> bool:
    """Whether every word of `ro,z,rslave` is known and no class of words is named twice."""
    if not mode:
        return True
    words = mode.split(",")
    found = [sum(word in words_of_class for word in words) for words_of_class in _MODE_CLASSES]
    return sum(found) == len(words) and max(found) <= 1


def propagation_of(mode: str) -> str:
    """The word of a mode that says how mounts travel, "" without one."""
    return next((word for word in mode.split(",") if word in PROPAGATIONS), "")


def parse_bind(raw: str, volume_driver: str = "") -> MountPoint:
    """One entry of HostConfig.Binds: `[source:]target[:mode]`. A source without a leading slash names a volume."""
    parts = raw.split(":", 3)
    if not parts[0] or len(parts) > 3 or (len(parts) == 2 and valid_mode(parts[1])):
        raise InvalidParameter(f"invalid volume specification: '{raw}'")
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    mode = parts[2] if len(parts) == 3 else ""
    if not valid_mode(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    kind = "bind" if source.startswith("/") else "volume"
    try:
        _check_target(kind, target)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid volume specification: '{raw}': {error.message}") from error
    words = mode.split(",") if mode else []
    propagation = propagation_of(mode)
    if kind == "bind" and _COPY & set(words):
        raise InvalidParameter(
            f"invalid volume specification: '{raw}': "
            f'invalid mount config for type "bind": field VolumeOptions must not be specified'
        )
    if kind == "bind":
        return MountPoint(
            type="bind",
            source=clean(source),
            destination=clean(target),
            mode=mode,
            rw="ro" not in words,
            propagation=propagation or "rprivate",
            makes_source=True,
        )
    if propagation:
        raise InvalidParameter(
            f"invalid volume specification: '{raw}': "
            f'invalid mount config for type "volume": field BindOptions must not be specified'
        )
    return MountPoint(
        type="volume",
        name=source,
        destination=clean(target),
        mode=mode or ("z" if source else ""),
        rw="ro" not in words,
        driver=volume_driver,
        copy_up="nocopy" not in words,
        anonymous=not source,
    )


def bind_source_exists(path: str) -> bool:
    """Raises InvalidParameter for a path that cannot be looked at, as one below a file."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _mount_error("bind", f"stat {path}: {(error.strerror or str(error)).lower()}") from error
    return True


def validate_mount(request: MountRequest, exists: Callable[[str], bool] = bind_source_exists) -> None:
    """Raises InvalidParameter with Docker's text when a `--mount` is not to be had."""
    _check_target(request.type, request.target)
    checks = {"bind": _check_bind, "volume": _check_volume, "tmpfs": _check_tmpfs, "image": _check_image}
    check = checks.get(request.type)
    if check is None:
        raise _mount_error(request.type, "mount type unknown")
    check(request)
    creates = request.bind_options is not None and request.bind_options.create_mountpoint
    if request.type == "bind" and not creates and not exists(request.source):
        raise _mount_error("bind", f"bind source path does not exist: {request.source}")


def parse_mount(request: MountRequest) -> MountPoint:
    """A validated `--mount` as a mount point."""
    target = clean(request.target)
    if request.type == "bind":
        options = request.bind_options
        return MountPoint(
            type="bind",
            source=clean(request.source),
            destination=target,
            rw=not request.read_only,
            propagation=(options.propagation if options else "") or "rprivate",
            recursive=not (options and options.non_recursive),
            read_only_recursive=not (options and options.read_only_non_recursive),
            makes_source=bool(options and options.create_mountpoint),
            id_map=idmap.parse(options.kist.id_map) if options and options.kist and options.kist.id_map else None,
        )
    if request.type == "tmpfs":
        return MountPoint(
            type="tmpfs",
            destination=target,
            rw=not request.read_only,
            options=tmpfs_options(request.tmpfs_options, request.read_only),
        )
    if request.type == "image":
        return MountPoint(
            type="image",
            name=request.source,
            destination=target,
            rw=False,  # whatever was asked for: nothing keeps what would be written
            subpath=request.image_options.subpath if request.image_options else "",
        )
    options_of_volume = request.volume_options
    driver = options_of_volume.driver_config if options_of_volume else None
    return MountPoint(
        type="volume",
        name=request.source,
        destination=target,
        rw=not request.read_only,
        driver=driver.name if driver else "",
        mode="z",  # what dockerd records for local volumes of --mount
        subpath=options_of_volume.subpath if options_of_volume else "",
        copy_up=not (options_of_volume and options_of_volume.no_copy),
        anonymous=not request.source,
        driver_options=driver.options if driver else None,
        labels=options_of_volume.labels if options_of_volume else None,
    )


def tmpfs_options(options: TmpfsOptions | None, read_only: bool) -> tuple[str, ...]:
    """Mount options of a `--mount type=tmpfs`: `ro`, `mode=` in octal, `size=` with the largest even suffix."""
    words = ["ro"] if read_only else []
    if options is None:
        return tuple(words)
    if options.mode:
        words.append(f"mode={options.mode:o}")
    if options.size_bytes:
        size, suffix = options.size_bytes, ""
        for letter, unit in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
            if size % unit == 0:
                size, suffix = size // unit, letter
                break
        words.append(f"size={size}{suffix}")
    for option in options.options or ():
        if not 1 <= len(option) <= 2:
            raise InvalidParameter("invalid option array length")
        if option[0] not in ("exec", "noexec"):
            raise InvalidParameter(f"invalid option: {option[0]}")
        words.append("=".join(option))
    return tuple(words)


def check_tmpfs_destination(path: str) -> None:
    """The keys of HostConfig.Tmpfs."""
    _check_not_root(path)
    _check_absolute(path)


def _mount_error(kind: str, reason: str) -> InvalidParameter:
    return InvalidParameter(f'invalid mount config for type "{kind}": {reason}')


def _check_not_root(path: str) -> None:
    if clean(path) == "/":
        raise InvalidParameter("invalid specification: destination can't be '/'")


def _check_absolute(path: str) -> None:
    if not path.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{path}' mount path must be absolute")


def _check_target(kind: str, target: str) -> None:
    if not target:
        raise _mount_error(kind, "field Target must not be empty")
    for check in (_check_not_root, _check_absolute):
        try:
            check(target)
        except InvalidParameter as error:
            raise _mount_error(kind, error.message) from error


def _refuse_fields(request: MountRequest, *names: str) -> None:
    for name, value in (
        ("BindOptions", request.bind_options),
        ("VolumeOptions", request.volume_options),
        ("ImageOptions", request.image_options),
    ):
        if name in names and value is not None:
            raise _mount_error(request.type, f"field {name} must not be specified")


def _check_bind(request: MountRequest) -> None:
    if not request.source:
        raise _mount_error("bind", "field Source must not be empty")
    propagation = request.bind_options.propagation if request.bind_options else ""
    if propagation and propagation not in PROPAGATIONS:
        raise _mount_error("bind", f"invalid propagation mode: {propagation}")
    _refuse_fields(request, "VolumeOptions", "ImageOptions")
    if not request.source.startswith("/"):
        raise _mount_error("bind", f"invalid mount path: '{request.source}' mount path must be absolute")
    if request.bind_options is not None:
        _check_read_only(request.read_only, request.bind_options)
        if request.bind_options.kist and request.bind_options.kist.id_map:
            try:
                idmap.parse(request.bind_options.kist.id_map)
            except InvalidParameter as error:
                raise _mount_error("bind", error.message) from error


def _check_read_only(read_only: bool, options: BindOptions) -> None:
    """What dockerd finds out when the container is started."""
    for asked, name in (
        (options.read_only_non_recursive, "ReadOnlyNonRecursive"),
        (options.read_only_force_recursive, "ReadOnlyForceRecursive"),
    ):
        if asked and not read_only:
            raise InvalidParameter(f"mount options conflict: !ReadOnly && BindOptions.{name}")
    if options.read_only_non_recursive and options.read_only_force_recursive:
        raise InvalidParameter("mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive")


def _check_volume(request: MountRequest) -> None:
    _refuse_fields(request, "BindOptions", "ImageOptions")
    subpath = request.volume_options.subpath if request.volume_options else ""
    if subpath and not request.source:
        raise _mount_error("volume", "must not set Subpath when using anonymous volumes")
    if subpath and not _is_local(subpath):
        raise _mount_error("volume", "subpath must be a relative path within the volume")
    if request.read_only and not request.source:
        raise _mount_error("volume", "must not set ReadOnly mode when using anonymous volumes")


def _check_tmpfs(request: MountRequest) -> None:
    _refuse_fields(request, "BindOptions", "ImageOptions")
    if request.source:
        raise _mount_error("tmpfs", "field Source must not be specified")
    try:
        tmpfs_options(request.tmpfs_options, request.read_only)
    except InvalidParameter as error:
        raise _mount_error("tmpfs", error.message) from error


def _check_image(request: MountRequest) -> None:
    _refuse_fields(request, "BindOptions", "VolumeOptions")
    if not request.source:
        raise _mount_error("image", "field Source must not be empty")
    subpath = request.image_options.subpath if request.image_options else ""
    if subpath and not _is_local(subpath):
        raise _mount_error("image", "subpath must be a relative path within the volume")


def _is_local(path: str) -> bool:
    """Go's filepath.IsLocal: relative, and never above where it starts."""
    if not path or path.startswith("/"):
        return False
    normal = posixpath.normpath(path)
    return normal != ".." and not normal.startswith("../")
