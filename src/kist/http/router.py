"""From method and path to a handler. Patterns are `/containers/{id}/start`; `{name:.*}` takes slashes too."""

from __future__ import annotations

import re

from kist.http.server import Handler

_PLACE = re.compile(r"\{(\w+)(:\.\*)?\}")


class Router:
    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], list[tuple[re.Pattern[str], Handler]]] = {}

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        expression = _PLACE.sub(lambda place: f"(?P<{place[1]}>{'.+?' if place[2] else '[^/]+'})", pattern)
        first = pattern.split("/")[1]
        self._routes.setdefault((method, first), []).append((re.compile(f"^{expression}$"), handler))

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]] | None:
        """The handler and the values of the places, or None when nothing matches."""
        parts = path.split("/", 2)
        for pattern, handler in self._routes.get((method, parts[1] if len(parts) > 1 else ""), ()):
            match = pattern.match(path)
            if match is not None:
                return handler, match.groupdict()
        return None
