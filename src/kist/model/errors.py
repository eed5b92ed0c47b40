"""The one tree of errors. A class is a kind of failure that a client can tell apart; `api/` maps kinds to HTTP status.

The message is what the user reads: it names the thing, the reason and, where there is one, what to do.
"""

from __future__ import annotations


class KistError(Exception):
    """Something failed inside the engine (HTTP 500)."""

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else self.__class__.__name__


class InvalidParameter(KistError):
    """The request itself is wrong (HTTP 400)."""


class Unauthorized(KistError):
    """Credentials are missing or wrong (HTTP 401)."""


class Forbidden(KistError):
    """The request is understood and refused (HTTP 403)."""


class NotFound(KistError):
    """The named thing does not exist (HTTP 404)."""


class Conflict(KistError):
    """The thing's present state or another thing forbids it (HTTP 409)."""


class NotModified(KistError):
    """It already is as asked (HTTP 304)."""


class NotSupported(KistError):
    """Known to Docker, not to this engine or this kernel (HTTP 501)."""


class Unavailable(KistError):
    """Not now: shutting down, or something needed is not there (HTTP 503)."""
