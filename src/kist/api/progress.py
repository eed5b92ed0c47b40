"""Chunked progress JSON, and request bodies given to threads as files."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO, cast

from kist.http.server import Request
from kist.model.errors import KistError
from kist.wire.encode import dumps


class ProgressStream:
    """A stream of JSON objects. What fails after the head went out is told in it: errorDetail and error."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._started = False

    async def start(self) -> None:
        """Sends the head, for what may have nothing to say."""
        if not self._started:
            self._started = True
            await self._request.start_stream(content_type="application/json")

    async def send(self, message: dict[str, Any]) -> None:
        await self.start()
        await self._request.write(dumps(message).rstrip(b"\n") + b"\r\n")

    async def fail(self, error: KistError) -> None:
        await self.send({"errorDetail": {"message": error.message}, "error": error.message})

    async def run(self, work: Callable[[Callable[[str], None]], Awaitable[str]]) -> str:
        """Carries out what says things on the way; "" when it failed and that was told."""
        queue: asyncio.Queue[str | None] = asyncio.Queue()

        async def carry_out() -> str:
            try:
                return await work(queue.put_nowait)
            finally:
                queue.put_nowait(None)

        task = asyncio.get_running_loop().create_task(carry_out())
        try:
            while (text := await queue.get()) is not None:
                await self.send({"status": text})
            return await task
        except KistError as error:
            if not self._started:
                raise
            await self.fail(error)
            return ""
        finally:
            if not task.done():
                task.cancel()


def _directory() -> str:
    """Where uploads wait: DOCKER_TMPDIR as with dockerd, /var/tmp, or what there is."""
    wanted = os.environ.get("DOCKER_TMPDIR", "")
    return wanted or ("/var/tmp" if os.path.isdir("/var/tmp") else tempfile.gettempdir())


class Spool:
    """A request's body in an unlinked temporary file, for code that reads it in a thread."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._file: BinaryIO | None = None

    async def __aenter__(self) -> BinaryIO:
        directory = _directory()
        try:
            file = tempfile.TemporaryFile(dir=directory, buffering=0)
        except OSError as error:
            raise KistError(f"cannot store the upload in {directory}: {error.strerror}") from error
        try:
            async for chunk in self._request.chunks():
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
            file.seek(0)
        except OSError as error:
            file.close()
            raise KistError(f"cannot store the upload in {directory}: {error.strerror}") from error
        except BaseException:
            file.close()
            raise
        self._file = cast(BinaryIO, file)
        return self._file

    async def __aexit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
