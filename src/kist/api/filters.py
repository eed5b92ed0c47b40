"""The `filters` parameter: both forms (`{"label": ["a"]}` and `{"label": {"a": true}}`), checked and matched."""

from __future__ import annotations

from typing import Any

from kist.http.server import Request
from kist.model.errors import InvalidParameter
from kist.wire import decode

Filters = dict[str, list[str]]


def parse_filters(request: Request, accepted: frozenset[str] | None, prefix: str = "") -> Filters:
    """Raises InvalidParameter with Docker's texts; `prefix` stands before those about the form. None: all names."""
    text = request.query.get("filters", "")
    if not text:
        return {}
    try:
        data = decode.parse(text.encode())
    except InvalidParameter as error:
        raise InvalidParameter(f"{prefix}invalid filter") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InvalidParameter(f"{prefix}invalid filter")
    found = {key: _values(values, prefix) for key, values in data.items()}
    for key in found:
        if accepted is not None and key not in accepted:
            raise InvalidParameter(f"invalid filter '{key}'")
    return found


def _values(given: Any, prefix: str) -> list[str]:
    if given is None:
        return []
    if isinstance(given, dict) and all(isinstance(on, bool) for on in given.values()):
        return list(given)  # false or true, dockerd counts it as given
    if isinstance(given, list) and all(isinstance(value, str) for value in given):
        return given
    raise InvalidParameter(f"{prefix}invalid filter")


def match_labels(filters: Filters, labels: dict[str, str] | None, key: str = "label") -> bool:
    """Every `name` or `name=value` must hold."""
    have = labels or {}
    for wanted in filters.get(key, ()):
        name, equals, value = wanted.partition("=")
        if name not in have or (equals and have[name] != value):
            return False
    return True


def boolean(filters: Filters, key: str) -> bool | None:
    """The value of a filter that is true or false. Raises InvalidParameter."""
    if key not in filters:
        return None
    values = filters[key]
    true = not {"1", "true"}.isdisjoint(values)
    if true != {"0", "false"}.isdisjoint(values):
        raise InvalidParameter(f"invalid filter '{key}=[{' '.join(values)}]'" if values else f"invalid filter '{key}'")
    return true
