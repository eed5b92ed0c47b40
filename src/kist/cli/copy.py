"""`cp`: files between a container and here. The rules for names are Docker's: what a path says by a last `/` or `/.`,
and whether the target is there, decide what the copy is called.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kist.cli import tables
from kist.cli.context import Context
from kist.cli.parse import Parsed
from kist.client.http import ApiError
from kist.model.errors import KistError

_CHUNK = 1 << 16
_STAT = "x-docker-container-path-stat"
_DIRECTORY, _SYMLINK, _DEVICE, _IRREGULAR = 1 << 31, 1 << 27, 1 << 26, 1 << 19
_DEEPEST = 10  # links after each other, as in docker


class Place(NamedTuple):
    """One end of a copy. `rename`: what the last component is to be called instead."""

    path: str
    exists: bool = False
    is_directory: bool = False
    rename: str = ""


def copy(context: Context, options: Parsed) -> int:
    source, target = options.arguments
    if not source:
        raise KistError("source can not be empty")
    if not target:
        raise KistError("destination can not be empty")
    from_container, source_path = split(source)
    to_container, target_path = split(target)
    if from_container and to_container:
        raise KistError("copying between containers is not supported")
    quiet = options.quiet if "quiet" in options.given else not os.isatty(1)
    if from_container:
        return _out(context, from_container, source_path, target_path, follow=options.follow_link, quiet=quiet)
    if to_container:
        return _in(context, to_container, source_path, target_path, options, quiet=quiet)
    raise KistError("must specify at least one container source")


def split(argument: str) -> tuple[str, str]:
    """(container, path); a path with a colon of its own begins with `/` or `.`."""
    name, colon, path = argument.partition(":")
    if argument.startswith("/") or not colon or name.startswith("."):
        return "", argument
    return name, path


# --- out of a container ---


def _out(context: Context, name: str, source: str, target: str, *, follow: bool, quiet: bool) -> int:
    if target != "-":
        target = _keep_end(os.path.abspath(target), target)
        _check_output(target)
    rename = ""
    if follow:
        source, rename = _followed(context, name, source)
    answer = context.client.open("GET", f"/containers/{name}/archive", {"path": source})
    if target == "-":
        for chunk in answer.chunks():
            sys.stdout.buffer.write(chunk)
        sys.stdout.flush()
        return 0
    found = _decode(answer.headers[_STAT])
    place = Place(source, True, bool(found["mode"] & _DIRECTORY), rename)
    counter = _Counter("Copying from container - ", quiet=quiet)
    try:
        _unpack(counter.counted(answer.chunks()), place, target)
    finally:
        counter.restore()
        if not quiet:
            print("Successfully copied", tables.human_size(counter.total), "to", target, file=sys.stderr)
    return 0


def _followed(context: Context, name: str, source: str) -> tuple[str, str]:
    """Where a link leads, and the name that the copy keeps."""
    found = _stat(context, name, source)
    if found is None or not found["mode"] & _SYMLINK:
        return source, ""
    return rebased(source, found["linkTarget"])


def rebased(path: str, resolved: str) -> tuple[str, str]:
    """A resolved path with the end of the one that was given, and that one's name when they differ."""
    if _is_current(path) and not _is_current(resolved):
        resolved += "/."
    if path.endswith("/") and not resolved.endswith("/"):
        resolved += "/"
    same = _base(path) == _base(resolved)
    return resolved, "" if same else _base(path)


def _unpack(chunks: Iterator[bytes], source: Place, target: str) -> None:
    from kist.client.tree import Reader, unpack

    first = rename_of(source.rename, _split_entry(source.path)[1])
    place = _local_target(target)
    directory, second = plan(source, place)
    unpack(Reader(chunks), directory, lambda name: second(first(name)))


def rename_of(new: str, old: str) -> Callable[[str], str]:
    """A function that gives members of an archive another first component."""
    if not new:
        return lambda name: name
    old = "" if old == "/" else old
    return lambda name: name.replace(old, new, 1)


def plan(source: Place, target: Place) -> tuple[str, Callable[[str], str]]:
    """(directory to unpack into, new names of members). Raises KistError with Docker's texts."""
    directory, base = _split_entry(target.path)
    own = source.rename or _split_entry(source.path)[1]
    if target.exists and target.is_directory:
        return target.path, lambda name: name
    if target.exists and source.is_directory:
        raise KistError("cannot copy directory")
    if not target.exists and not source.is_directory and _means_directory(target.path):
        raise KistError("no such directory")
    return directory, rename_of(base, own)


def _local_target(path: str) -> Place:
    """Links are followed, as the copy goes where they lead. Raises KistError, OSError."""
    asked = path
    for _ in range(_DEEPEST + 1):
        if not os.path.islink(path):
            break
        path = os.path.join(os.path.dirname(path.rstrip("/")), os.readlink(path))
    else:
        raise KistError(f"too many symlinks in {asked}")
    if os.path.lexists(path):
        return Place(path, True, os.path.isdir(path))
    parent = _split_entry(path)[0]
    if not os.path.lexists(parent):
        raise KistError(f"stat {parent}: no such file or directory")
    if not os.path.isdir(parent):
        raise KistError("not a directory")
    return Place(path)


def _check_output(path: str) -> None:
    parent = os.path.dirname(os.path.normpath(path))
    if not os.path.exists(parent):
        raise KistError(f'invalid output path: directory "{parent}" does not exist')
    if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
        import stat

        if stat.S_ISCHR(os.stat(path).st_mode) or stat.S_ISBLK(os.stat(path).st_mode):
            raise KistError(f'invalid output path: "{path}" must be a directory or a regular file: got a device')


# --- into a container ---


def _in(context: Context, name: str, source: str, target: str, options: Parsed, *, quiet: bool) -> int:
    place = _container_target(context, name, target)
    query: dict[str, Any] = {"noOverwriteDirNonDir": "true"}
    if options.archive:
        query["copyUIDGID"] = "true"
    counter = _Counter("Copying to container - ", quiet=quiet or source == "-")
    if source == "-":
        if not place.is_directory:
            raise KistError(f'destination "{name}:{target}" must be a directory')
        directory, stream = place.path, _standard_input()
    else:
        path = _keep_end(os.path.abspath(source), source)
        directory, stream = _local_source(path, place, follow=options.follow_link)
    try:
        answer = context.client.open(
            "PUT",
            f"/containers/{name}/archive",
            {"path": directory, **query},
            headers={"Content-Type": "application/x-tar"},
            stream=counter.counted(stream),
        )
        answer.read()
        answer.close()
    finally:
        counter.restore()
        if not quiet:
            size = tables.human_size(counter.total)
            print("Successfully copied", size, "to", f"{name}:{place.path}", file=sys.stderr)
    return 0


def _container_target(context: Context, name: str, target: str) -> Place:
    found = _stat(context, name, target)
    path = target
    if found is not None and found["mode"] & _SYMLINK:
        path = found["linkTarget"]
        if not path.startswith("/"):
            path = os.path.join(_split_entry(target)[0], path)
        found = _stat(context, name, path)
    if found is None:
        return Place(path)
    for bit, what in ((_DEVICE, "a device"), (_IRREGULAR, "an irregular file")):
        if found["mode"] & bit:
            raise KistError(f'destination "{name}:{target}" must be a directory or a regular file: got {what}')
    return Place(path, True, bool(found["mode"] & _DIRECTORY))


def _local_source(path: str, target: Place, *, follow: bool) -> tuple[str, Iterator[bytes]]:
    """(directory to unpack into, the tar). Raises KistError, with the texts that docker has."""
    from kist.client.tree import pack

    if follow:
        if not os.path.exists(path):
            raise KistError(f"lstat {path}: no such file or directory")
        path, rename = rebased(path, os.path.realpath(path))
    else:
        head, base = os.path.split(path)
        path, rename = f"{os.path.realpath(head)}/{base}", ""
    try:
        os.lstat(path)
    except OSError as error:
        raise KistError(f"lstat {path}: {(error.strerror or '').lower()}") from error
    source = Place(path, True, os.path.isdir(path) and not os.path.islink(path), rename)
    directory, again = plan(source, target)
    own = _split_entry(path)[1]
    first = rename_of(rename, own)(own)
    shown = again(first)
    return directory, pack(path, "" if shown == "/" else shown)


def _standard_input() -> Iterator[bytes]:
    while chunk := os.read(0, _CHUNK):
        yield chunk


# --- both ways ---


def _stat(context: Context, name: str, path: str) -> dict[str, Any] | None:
    """What the daemon says of a path; None when it cannot say anything."""
    try:
        answer = context.client.open("HEAD", f"/containers/{name}/archive", {"path": path})
    except ApiError:
        return None
    answer.close()
    return _decode(answer.headers[_STAT])


def _decode(header: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(header))
    return found


def _keep_end(clean: str, given: str) -> str:
    """A cleaned path with the last `/` or `/.` that the given one had."""
    if _is_current(given) and not _is_current(clean):
        return f"{clean.rstrip('/')}/."
    return f"{clean}/" if given.endswith("/") and not clean.endswith("/") else clean


def _split_entry(path: str) -> tuple[str, str]:
    clean = os.path.normpath(path)
    if _is_current(path):
        return clean, "."
    return os.path.dirname(clean) or ".", os.path.basename(clean) or "/"


def _base(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or ("/" if path else ".")


def _is_current(path: str) -> bool:
    return _base(path) == "."


def _means_directory(path: str) -> bool:
    return path.endswith("/") or _is_current(path)


class _Counter:
    """Counts what passes, and shows it on a terminal meanwhile."""

    def __init__(self, header: str, *, quiet: bool) -> None:
        self.total = 0
        self._header = header
        self._shows = not quiet and os.isatty(2)
        self._shown = 0
        if self._shows:
            sys.stderr.write(f"\x1b[s\x1b[?25l{header}0B")
            sys.stderr.flush()

    def counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.total += len(chunk)
            if self._shows and self.total - self._shown > 1 << 20:
                self._shown = self.total
                column = len(self._header) + 1
                sys.stderr.write(f"\x1b[{column}G\x1b[0K{tables.human_size(self.total)}")
                sys.stderr.flush()
            yield chunk

    def restore(self) -> None:
        if self._shows:
            sys.stderr.write("\x1b[u\x1b[2K\x1b[?25h")
            sys.stderr.flush()
            self._shows = False
