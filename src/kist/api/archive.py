"""Routes of a container's files: archive, changes, export, commit."""

from __future__ import annotations

import base64
import stat
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from kist.api.app import flag, json_body, json_response
from kist.http.router import Router
from kist.http.server import Request, Response
from kist.model.config import ContainerConfig
from kist.model.errors import InvalidParameter
from kist.model.reference import Reference
from kist.model.request import CommitRequest
from kist.model.timestamp import rfc3339
from kist.wire import decode
from kist.wire.answer import Created
from kist.wire.containers import Change
from kist.wire.encode import dumps

_LATEST = 253402300799 * 10**9  # the end of the year 9999, the last that RFC 3339 can write
_STAT = "X-Docker-Container-Path-Stat"
# Go's os.FileMode, which is what clients read: the type in high bits of its own.
_TYPES = {
    stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFBLK: 1 << 26, stat.S_IFIFO: 1 << 25, stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
}  # fmt: skip
_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


class PathStat(Protocol):
    """A file: `mode` is stat(2)'s, `mtime` in nanoseconds."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def mode(self) -> int: ...
    @property
    def mtime(self) -> int: ...
    @property
    def target(self) -> str: ...


class Files(Protocol):
    """What these routes need of the engine."""

    async def stat_path(self, name: str, path: str) -> PathStat: ...
    def archive(self, name: str, path: str) -> AbstractAsyncContextManager[tuple[PathStat, AsyncIterator[bytes]]]: ...
    async def extract(
        self, name: str, path: str, chunks: AsyncIterator[bytes], *, keep_kinds: bool, to_user: bool
    ) -> None: ...
    async def changes(self, name: str) -> list[tuple[str, int]]: ...
    def export(self, name: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...
    async def commit(self, name: str, request: CommitRequest) -> str: ...


class FileRoutes:
    def __init__(self, files: Files) -> None:
        self._files = files

    def add_to(self, router: Router) -> None:
        for method, pattern, handler in (
            ("HEAD", "/containers/{name}/archive", self.stat),
            ("GET", "/containers/{name}/archive", self.archive),
            ("PUT", "/containers/{name}/archive", self.extract),
            ("GET", "/containers/{name}/changes", self.changes),
            ("GET", "/containers/{name}/export", self.export),
            ("POST", "/commit", self.commit),
        ):
            router.add(method, pattern, handler)

    async def stat(self, request: Request) -> Response:
        found = await self._files.stat_path(request.parameters["name"], _path(request))
        return Response(headers={_STAT: encode_stat(found)})

    async def archive(self, request: Request) -> None:
        async with self._files.archive(request.parameters["name"], _path(request)) as (found, chunks):
            request.extra_headers[_STAT] = encode_stat(found)
            await request.start_stream(content_type="application/x-tar")
            async for chunk in chunks:
                await request.write(chunk)

    async def extract(self, request: Request) -> Response:
        await self._files.extract(
            request.parameters["name"],
            _path(request),
            request.chunks(),
            keep_kinds=flag(request, "noOverwriteDirNonDir"),
            to_user=flag(request, "copyUIDGID"),
        )
        return Response()

    async def changes(self, request: Request) -> Response:
        found = await self._files.changes(request.parameters["name"])
        return json_response([Change(path=path, kind=_kind(kind)) for path, kind in found] or None)

    async def export(self, request: Request) -> None:
        async with self._files.export(request.parameters["name"]) as chunks:
            await request.start_stream(content_type="application/octet-stream")
            async for chunk in chunks:
                await request.write(chunk)

    async def commit(self, request: Request) -> Response:
        query = request.query
        if not query.get("container"):
            raise InvalidParameter('invalid name or ID supplied: ""')
        data = await json_body(request) or b"null"
        config = None if data.strip() == b"null" else decode.decode(data, ContainerConfig, "container.Config")
        wanted = CommitRequest(
            config,
            tuple(request.query_lists.get("changes", ())),
            _reference(query.get("repo", ""), query.get("tag", "")),
            query.get("author", ""),
            query.get("comment", ""),
            flag(request, "pause", default=True),
        )
        made = await self._files.commit(query["container"], wanted)
        return json_response(Created(id=made), 201)


def _path(request: Request) -> str:
    path = request.query.get("path", "")
    if not path:
        raise InvalidParameter("bad parameter: pathcannot be empty")
    if "\0" in path:
        raise InvalidParameter("bad parameter: path has a NUL character")
    return path


def _kind(number: int) -> Any:
    return int(number)


def _reference(repository: str, tag: str) -> Reference | None:
    """Raises InvalidParameter."""
    if not repository:
        return None
    reference = Reference.parse(repository)
    if reference.digest is not None:
        raise InvalidParameter("cannot import digest reference")
    return reference.with_tag(tag) if tag else reference


def encode_stat(found: PathStat) -> str:
    """The value of the header: JSON in base64."""
    mode = stat.S_IMODE(found.mode) & 0o777 | _TYPES.get(stat.S_IFMT(found.mode), 0)
    mode |= sum(go for bit, go in _BITS if found.mode & bit)
    told = {
        "name": found.name,
        "size": found.size,
        "mode": mode,
        "mtime": rfc3339(min(max(found.mtime, 0), _LATEST)),
        "linkTarget": found.target,
    }
    return base64.b64encode(dumps(told).rstrip()).decode()
