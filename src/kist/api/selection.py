"""The filters of `ps`: which containers a list shows. dockerd's meaning of each, its oddities included."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from kist.api import render
from kist.api.app import atoi
from kist.api.filters import Filters, boolean, match_labels
from kist.model.container import NEVER, ContainerRecord
from kist.model.errors import InvalidParameter
from kist.model.pattern import Pattern

FILTERS = frozenset({
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network",
    "publish", "since", "status", "volume",
})  # fmt: skip
_STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_HEALTH = ("none", "starting", "healthy", "unhealthy")
_Check = Callable[[ContainerRecord], bool]


def select(
    records: list[ContainerRecord],
    filters: Filters,
    *,
    everything: bool,
    find: Callable[[str], ContainerRecord],
    descendants: Callable[[str], frozenset[str]],
) -> list[ContainerRecord]:
    """The containers that every filter lets through; without `everything` only those that run.

    `find` is asked for the containers that `before` and `since` name, `descendants` for the ids of an image and of all
    that were made from it. Raises InvalidParameter, NotFound.
    """
    checks = _checks(records, filters, find, descendants)
    return [one for one in records if (everything or one.state.running) and all(check(one) for check in checks)]


def _checks(
    records: list[ContainerRecord],
    filters: Filters,
    find: Callable[[str], ContainerRecord],
    descendants: Callable[[str], frozenset[str]],
) -> list[_Check]:
    """One for each filter given. A filter without values lets all through, but for three that ask differently."""
    given = {key: values for key, values in filters.items() if values}
    checks: list[_Check] = [lambda record: match_labels(filters, record.config.labels)]
    for key, allowed, what in (("status", _STATES, "state"), ("health", _HEALTH, "health")):
        for value in given.get(key, ()):
            if value not in allowed:
                reason = f"invalid value for {what} ({value}): must be one of {', '.join(allowed)}"
                raise InvalidParameter(f"invalid filter '{key}={value}': {reason}")
    if "status" in given:
        checks.append(lambda record: record.state.status in given["status"])
    if "health" in given:
        checks.append(lambda record: (record.state.health.status if record.state.health else "none") in given["health"])
    if "exited" in given:
        codes = _exit_codes(given["exited"])
        checks.append(lambda record: _has_exited(record) and record.state.exit_code in codes)
    if boolean(filters, "is-task"):  # a service's; there are none
        checks.append(lambda record: False)
    for name in given.get("before", ()):
        checks.append(_older(find(name)))
    for name in given.get("since", ()):
        checks.append(_newer(find(name)))
    if "id" in given:
        ids = _by_prefix(records, given["id"])
        checks.append(lambda record: record.id in ids)
    if "name" in given:
        checks.append(lambda record: any(_name_matches(value, record.name) for value in given["name"]))
    ports = _port_set("publish", given.get("publish", [])), _port_set("expose", given.get("expose", []))
    if ports != (set(), set()):
        checks.append(lambda record: _has_port(record, *ports))
    if "ancestor" in filters:
        images = frozenset[str]().union(*(descendants(name) for name in filters["ancestor"]))
        checks.append(lambda record: record.image_id in images)
    if "volume" in filters:
        checks.append(lambda record: not _places(record).isdisjoint(filters["volume"]))
    if "network" in filters:
        checks.append(lambda record: any(_in_network(record, value) for value in filters["network"]))
    return checks


def _exit_codes(values: list[str]) -> set[int]:
    found = set()
    for value in values:
        try:
            found.add(atoi(value))
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid filter 'exited={value}': {error.message}") from error
    return found


def _has_exited(record: ContainerRecord) -> bool:
    return not record.state.running and record.state.started_at != NEVER


def _older(than: ContainerRecord) -> _Check:
    return lambda record: record.created < than.created


def _newer(than: ContainerRecord) -> _Check:
    return lambda record: record.created > than.created


def _by_prefix(records: list[ContainerRecord], prefixes: list[str]) -> set[str]:
    """The ids that prefixes stand for; one that could be several stands for none."""
    found = set()
    for prefix in prefixes:
        matches = [record.id for record in records if record.id.startswith(prefix)] if prefix else []
        if len(matches) == 1:
            found.add(matches[0])
    return found


def _name_matches(pattern: str, name: str) -> bool:
    """A regular expression against the name with and without its slash; what is none matches as it is, as in Docker."""
    names, expression = (name, f"/{name}"), _expression(pattern)
    return pattern in names if expression is None else any(map(expression.search, names))


@lru_cache(maxsize=16)
def _expression(text: str) -> Pattern | None:
    try:
        return Pattern(text)
    except ValueError:
        return None


def _places(record: ContainerRecord) -> set[str]:
    """What a container's mounts are known by: the volume's name, or else the path on the host, and the path inside."""
    return {place for point in record.mounts for place in (point.name or point.source, point.destination) if place}


def _in_network(record: ContainerRecord, value: str) -> bool:
    networks = render.networks(record)
    return value in networks or any(one["NetworkID"].startswith(value) for one in networks.values())


def _has_port(record: ContainerRecord, published: set[tuple[int, str]], exposed: set[tuple[int, str]]) -> bool:
    """Asked for both, either is enough. A port that is exposed only is published as 0."""
    return any(
        (one.get("PublicPort", 0), one["Type"]) in published or (one["PrivatePort"], one["Type"]) in exposed
        for one in render.ports_summary(record)
    )


def _port_set(key: str, values: list[str]) -> set[tuple[int, str]]:
    """The (port, protocol) that values of `publish` or `expose` name: `80`, `80/udp`, `80-90/tcp`."""
    found: set[tuple[int, str]] = set()
    for value in values:
        if ":" in value:
            raise InvalidParameter(f"filter for '{key}' should not contain ':': {value}")
        port, _, protocol = value.partition("/")
        try:
            first, last = _port_range(port)
        except InvalidParameter as error:
            raise InvalidParameter(f"error while looking up for {key} {value}: {error.message}") from error
        found |= {(number, protocol.partition("/")[0] or "tcp") for number in range(first, last + 1)}
    return found


def _port_range(text: str) -> tuple[int, int]:
    """`80` or `80-90`. Raises InvalidParameter with Go's texts."""
    if not text:
        raise InvalidParameter("empty string specified for ports")
    numbers = []
    for part in text.split("-")[:2]:
        if not (part.isascii() and part.isdecimal()):
            raise InvalidParameter(f'strconv.ParseUint: parsing "{part}": invalid syntax')
        if len(part) > 9 or int(part) > 0xFFFF:
            raise InvalidParameter(f'strconv.ParseUint: parsing "{part}": value out of range')
        numbers.append(int(part))
    if numbers[-1] < numbers[0]:
        raise InvalidParameter(f"invalid range specified for port: {text}")
    return numbers[0], numbers[-1]
