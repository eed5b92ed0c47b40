"""kistd, with every JSON answer written down beside its socket, whoever asked: one line of JSON for each.

    python tests/recorded_kistd.py FILE OPTIONS-OF-KISTD…

What a monitor answers (`wait`) and what follows an upgrade does not pass through kistd and is not seen here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import BinaryIO

from kist.api.app import App
from kist.daemon.main import main
from kist.http.server import Request, Response

Handle = Callable[[App, Request], Awaitable[Response | None]]


class Recorder:
    """Wraps `App.handle`: whole answers as they leave it, streams chunk by chunk."""

    def __init__(self, file: BinaryIO, handle: Handle) -> None:
        self._file, self._handle = file, handle

    async def handle(self, app: App, request: Request) -> Response | None:
        self._watch(request)
        response = await self._handle(app, request)
        if response is not None:
            self._write(request, response.status, response.content_type, response.body)
        return response

    def _watch(self, request: Request) -> None:
        start_stream, write = request.start_stream, request.write
        status_sent, type_sent = 200, ""

        async def started(status: int = 200, content_type: str = "application/json", *, endless: bool = False) -> None:
            nonlocal status_sent, type_sent
            status_sent, type_sent = status, content_type
            await start_stream(status, content_type, endless=endless)

        async def written(data: bytes) -> None:
            if type_sent == "application/json":
                self._write(request, status_sent, type_sent, data)
            await write(data)

        request.start_stream = started  # type: ignore[method-assign]
        request.write = written  # type: ignore[method-assign]

    def _write(self, request: Request, status: int, content_type: str, body: bytes) -> None:
        if not content_type.startswith("application/json") and status < 400:
            return
        line = {"method": request.method, "target": request.path, "status": status, "type": content_type,
                "body": body.decode("utf-8", "surrogateescape")}  # fmt: skip
        self._file.write(json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    handle = Recorder(open(sys.argv.pop(1), "ab", buffering=0), App.handle).handle
    App.handle = lambda app, request: handle(app, request)  # type: ignore[method-assign, assignment]  # noqa: PLW0108
    main()
