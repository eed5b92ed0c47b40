"""From a request to a route: the version in the path, the headers of every answer, errors as Docker answers them."""

from __future__ import annotations

import logging
import re
from typing import Any, TypeVar

from kist.api.compat import API_VERSION, check_version, is_plain_error
from kist.http.router import Router
from kist.http.server import ClientGone, Handler, Request, Response
from kist.model import errors
from kist.wire.answer import Error
from kist.wire.decode import decode
from kist.wire.encode import dumps

log = logging.getLogger(__name__)
T = TypeVar("T")

_VERSION = re.compile(r"^/v([0-9.]+)(/.*)$")
_INTEGER = re.compile(r"^[+-]?[0-9]+$")
_BODY_LIMIT = 16 << 20
_STATUS: tuple[tuple[type[errors.KistError], int], ...] = (
    (errors.InvalidParameter, 400),
    (errors.Unauthorized, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.NotModified, 304),
    (errors.NotSupported, 501),
    (errors.Unavailable, 503),
)


def status_of(error: errors.KistError) -> int:
    """The HTTP status of a kind of error: 500 when no other fits."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def json_response(value: Any, status: int = 200) -> Response:
    return Response(status, dumps(value), "application/json")


def error_response(status: int, message: str) -> Response:
    if status == 304:
        return Response(304)
    return json_response(Error(message=message), status)


class App:
    """`handle` is what the HTTP server calls."""

    def __init__(self, router: Router, server: str, *, experimental: bool = False) -> None:
        self._router = router
        self._headers = {
            "Api-Version": API_VERSION,
            "Docker-Experimental": str(experimental).lower(),
            "Ostype": "linux",
            "Server": server,
        }

    async def handle(self, request: Request) -> Response | None:
        request.extra_headers = dict(self._headers)
        if request.method == "OPTIONS":
            return Response(200)
        try:
            handler = self._route(request)
            if handler is None:
                return error_response(404, "page not found")
            return await handler(request)
        except errors.KistError as error:
            return self._failed(request, status_of(error), error.message)
        except (ClientGone, ConnectionError):
            raise
        except OSError as error:
            log.warning("%s %s failed: %s", request.method, request.path, error)
            where = f"{error.filename}: " if error.filename else ""
            return self._failed(request, 500, f"{where}{(error.strerror or str(error)).lower()}")
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path)
            return self._failed(request, 500, f"internal error: {type(error).__name__}")

    @staticmethod
    def _failed(request: Request, status: int, message: str) -> Response | None:
        if request.answered:
            log.debug("after the head of %s: %s", request.path, message)
            raise ClientGone  # the answer cannot be taken back: the connection breaks off, so that it is not believed
        if is_plain_error(request.version):
            plain = {"X-Content-Type-Options": "nosniff"}
            return Response(status, f"{message}\n".encode("utf-8", "replace"), "text/plain; charset=utf-8", plain)
        return error_response(status, message)

    def _route(self, request: Request) -> Handler | None:
        """Raises InvalidParameter for a version outside of what is served."""
        match = _VERSION.match(request.path)
        path = request.path if match is None else match[2]
        found = self._router.find(request.method, path)
        if found is None:
            return None
        request.version = API_VERSION if match is None else match[1]
        check_version(request.version)
        handler, request.parameters = found
        return handler


async def body(request: Request, type_: type[T], name: str) -> T:
    """The JSON body as a typed value, `name` in Go; no body is as good as `{}`. Raises InvalidParameter."""
    data = await json_body(request)
    return decode(b"{}" if data is None else data, type_, name)


async def json_body(request: Request) -> bytes | None:
    """The body of a request that says it has JSON; None when it has no body. Raises InvalidParameter."""
    content_type = request.headers.get("content-type", "")
    empty = "transfer-encoding" not in request.headers and request.headers.get("content-length", "0") == "0"
    if content_type or not empty:
        _check_json(content_type)
    return None if empty else await raw_body(request)


def _check_json(content_type: str) -> None:
    kind = content_type.partition(";")[0].strip().lower()
    if not kind:
        raise errors.InvalidParameter(f"malformed Content-Type header ({content_type}): mime: no media type")
    if kind != "application/json":
        raise errors.InvalidParameter(f"unsupported Content-Type header ({content_type}): must be 'application/json'")


async def raw_body(request: Request, limit: int = _BODY_LIMIT) -> bytes:
    try:
        return await request.read(limit)
    except ValueError as error:
        raise errors.InvalidParameter(f"the request body is too large: at most {limit} bytes are taken") from error


def flag(request: Request, name: str, default: bool = False) -> bool:
    """A boolean of the query as Docker reads it: empty, 0, no, false and none are false, anything else is true."""
    value = request.query.get(name)
    if value is None:
        return default
    return value.strip().lower() not in ("", "0", "no", "false", "none")


def uint32(request: Request, name: str, what: str) -> int:
    """A number that must be there; `what` names it. Raises InvalidParameter with Docker's texts."""
    text = request.query.get(name, "")
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()):
        raise errors.InvalidParameter(f'invalid {what} "{text}": invalid syntax')
    if digits != text or len(digits.lstrip("0")) > 10 or int(digits) > 0xFFFFFFFF:
        raise errors.InvalidParameter(f'invalid {what} "{text}": value out of range')
    return int(digits)


def integer(request: Request, name: str) -> int | None:
    """Raises InvalidParameter with Go's text."""
    value = request.query.get(name, "")
    return atoi(value) if value else None


def atoi(value: str) -> int:
    """Raises InvalidParameter with Go's text."""
    if not _INTEGER.match(value):
        raise errors.InvalidParameter(f'strconv.Atoi: parsing "{value}": invalid syntax')
    if len(value) > 20 or not -(1 << 63) <= int(value) < 1 << 63:
        raise errors.InvalidParameter(f'strconv.Atoi: parsing "{value}": value out of range')
    return int(value)
