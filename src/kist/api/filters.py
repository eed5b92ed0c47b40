"""The `filters` parameter: both forms (`{"label": ["a"]}` and `{"label": {"a": true}}`), checked and matched."""

from __future__ import annotations

import json

from kist.http.server import Request
from kist.model.errors import InvalidParameter

Filters = dict[str, list[str]]


def parse_filters(request: Request, accepted: frozenset[str] | None, prefix: str = "") -> Filters:
    """Raises InvalidParameter with Docker's texts; `prefix` stands before those about the form. None: all names."""
    text = request.query.get("filters", "")
    if not text:
        return {}
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"{prefix}invalid filter") from error
    if not isinstance(data, dict):
        raise InvalidParameter(f"{prefix}invalid filter")
    found: Filters = {}
    for key, values in data.items():
        if isinstance(values, dict):
            found[key] = [value for value, on in values.items() if on]
        elif isinstance(values, list) and all(isinstance(value, str) for value in values):
            found[key] = values
        else:
            raise InvalidParameter(f"{prefix}invalid filter")
    for key in found:
        if accepted is not None and key not in accepted:
            raise InvalidParameter(f"invalid filter '{key}'")
    return found


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
    values = filters.get(key)
    if not values:
        return None
    if len(values) > 1 or values[0].lower() not in ("1", "true", "0", "false"):
        raise InvalidParameter(f"invalid filter '{key}=[{' '.join(values)}]'")
    return values[0].lower() in ("1", "true")
