"""Holds every JSON answer that a test sees against the typed models, and against the contract file where it is.

Whose answers: `Kistd.request` gives its own here; what docker, docker-py, kist and others get is written down by
tests/recorded_kistd.py and held against the models when the test is over. An endpoint that has no model fails the test.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from tests import contract

from kist.wire import answer, containers, images, networks, stats, system

_VERSION = re.compile(r"^/v([0-9.]+)(/.*)$")
OLDEST, NEWEST = (1, 24), (1, 51)


@dataclass(frozen=True)
class Endpoint:
    """`path` is as the contract has it; `model` is of one answer, or of one message of a stream."""

    method: str
    path: str
    model: Any
    stream: bool = False

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        def place(found: re.Match[str]) -> str:  # as in the name of a linked container
            return ".+" if found[1] == "name" or self.path.startswith(("/containers/", "/networks/")) else "[^/]+"

        return re.compile("^" + re.sub(r"\{(\w+)\}", place, self.path) + "$")


ENDPOINTS = (
    Endpoint("GET", "/containers/json", list[containers.ContainerSummary]),
    Endpoint("POST", "/containers/create", containers.ContainerCreated),
    Endpoint("POST", "/containers/prune", containers.ContainersPruned),
    Endpoint("GET", "/containers/{id}/json", containers.ContainerInspect),
    Endpoint("GET", "/containers/{id}/top", containers.Processes),
    Endpoint("GET", "/containers/{id}/changes", list[containers.Change] | None),
    Endpoint("GET", "/containers/{id}/checkpoints", list[containers.Checkpoint]),
    Endpoint("GET", "/containers/{id}/stats", stats.Stats, stream=True),
    Endpoint("POST", "/containers/{id}/update", containers.ContainerUpdated),
    Endpoint("POST", "/containers/{id}/wait", containers.ContainerWaited),
    Endpoint("POST", "/containers/{id}/exec", answer.Created),
    Endpoint("GET", "/exec/{id}/json", containers.ExecInspect),
    Endpoint("GET", "/images/json", list[images.ImageSummary]),
    Endpoint("GET", "/images/search", list[images.SearchResult]),
    Endpoint("POST", "/images/create", answer.Progress, stream=True),
    Endpoint("POST", "/images/load", answer.Progress, stream=True),
    Endpoint("POST", "/images/prune", images.ImagesPruned),
    Endpoint("POST", "/images/{name}/push", answer.Progress, stream=True),
    Endpoint("GET", "/images/{name}/json", images.ImageInspect),
    Endpoint("GET", "/images/{name}/history", list[images.HistoryEntry]),
    Endpoint("DELETE", "/images/{name}", list[images.ImageDeleted]),
    Endpoint("POST", "/commit", answer.Created),
    Endpoint("POST", "/build", answer.Progress, stream=True),
    Endpoint("POST", "/build/prune", images.BuildsPruned),
    Endpoint("GET", "/distribution/{name}/json", images.Distribution),
    Endpoint("POST", "/auth", answer.Authenticated),
    Endpoint("GET", "/networks", list[networks.Network]),
    Endpoint("POST", "/networks/create", networks.NetworkCreated),
    Endpoint("POST", "/networks/prune", networks.NetworksPruned),
    Endpoint("GET", "/networks/{id}", networks.Network),
    Endpoint("GET", "/volumes", networks.Volumes),
    Endpoint("POST", "/volumes/create", networks.Volume),
    Endpoint("POST", "/volumes/prune", networks.VolumesPruned),
    Endpoint("GET", "/volumes/{name}", networks.Volume),
    Endpoint("POST", "/kist/volumes/{name}/import", networks.Volume),
    Endpoint("POST", "/kist/volumes/{name}/clone", networks.Volume),
    Endpoint("GET", "/version", system.Version),
    Endpoint("GET", "/info", system.Info),
    Endpoint("GET", "/system/df", system.DiskUsage),
    Endpoint("GET", "/events", system.Event, stream=True),
    Endpoint("POST", "/kist/images/bootstrap", answer.Progress, stream=True),
)


class WrongAnswer(AssertionError):
    """An answer that its model or the contract does not allow."""


def find(method: str, path: str) -> Endpoint | None:
    return next((one for one in ENDPOINTS if one.method == method and one.pattern.match(path)), None)


def check(method: str, target: str, status: int, content_type: str, body: bytes) -> None:
    """Raises WrongAnswer. `target` is what the request line had, with or without version and query."""
    path, version = _split(target)
    if status >= 400:
        if method == "HEAD" or (version < OLDEST and content_type.startswith("text/plain")):
            return  # no body, and errors in plain text for clients that are too old to be served
        _convert(f"{method} {path}: {status}", content_type, body, answer.Error)
        return
    if not content_type.startswith("application/json") or not body:
        return
    endpoint = find(method, path)
    if endpoint is None:
        raise WrongAnswer(f"{method} {path}: {status}: no model for this answer: {body[:200]!r}")
    for one in _messages(body) if endpoint.stream else [body]:
        if not _seen(endpoint, version, status, one):
            _check_one(endpoint, version, status, one)


def check_file(path: Path, offset: int = 0) -> int:
    """What recorded_kistd.py has written since `offset`; the offset to go on from. Raises WrongAnswer."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            one = json.loads(line)
            check(
                one["method"], one["target"], one["status"], one["type"], one["body"].encode("utf-8", "surrogateescape")
            )
        return file.tell()


def _split(target: str) -> tuple[str, tuple[int, int]]:
    path = target.partition("?")[0]
    match = _VERSION.match(path)
    return (match[2], _number(match[1])) if match else (path, NEWEST)


def _messages(body: bytes) -> list[bytes]:
    return [line for line in body.splitlines() if line.strip()]


_known: set[tuple[str, str, tuple[int, int], int, bytes]] = set()


def _seen(endpoint: Endpoint, version: tuple[int, int], status: int, body: bytes) -> bool:
    """Whether this very answer was found right before."""
    key = (endpoint.method, endpoint.path, version, status, body)
    if key in _known:
        return True
    _known.add(key)
    return False


def _check_one(endpoint: Endpoint, version: tuple[int, int], status: int, body: bytes) -> None:
    where = f"{endpoint.method} {endpoint.path} (v{version[0]}.{version[1]}): {status}"
    try:
        value = _convert(where, "application/json", body, endpoint.model)
        for fault in _out_of_version(value, version, "$"):
            if endpoint.path == "/system/df" and "annotations" in fault:
                continue  # dockerd takes them out of the list of containers only
            raise WrongAnswer(f"{where}: {fault}: {body[:2000]!r}")
        if version == NEWEST:
            contract.check_answer(where, endpoint.method, endpoint.path, status, json.loads(body))
    except AssertionError:
        _known.discard((endpoint.method, endpoint.path, version, status, body))
        raise


def _convert(where: str, content_type: str, body: bytes, model: Any) -> Any:
    if not content_type.startswith("application/json"):
        raise WrongAnswer(f"{where}: {content_type!r} instead of JSON: {body[:200]!r}")
    try:
        return msgspec.json.decode(body, type=model)
    except msgspec.DecodeError as error:
        raise WrongAnswer(f"{where}: {error}: {body[:4000]!r}") from error


# --- fields of some versions only ---


@functools.cache
def marks(model: type[msgspec.Struct]) -> dict[str, dict[str, str]]:
    """Field -> {"before" or "since": version}, from the model's annotations."""
    hints = get_type_hints(model, include_extras=True)
    return {
        name: meta.extra
        for name, hint in hints.items()
        if get_origin(hint) is Annotated
        for meta in get_args(hint)[1:]
        if isinstance(meta, msgspec.Meta) and meta.extra is not None
    }


def _out_of_version(value: Any, version: tuple[int, int], where: str) -> Iterator[str]:
    if isinstance(value, msgspec.Struct):
        marked = marks(type(value))
        for name in value.__struct_fields__:
            inner = getattr(value, name)
            if inner is msgspec.UNSET:
                continue
            mark = marked.get(name, {})
            if "before" in mark and version >= _number(mark["before"]):
                yield f"{where}.{name} is a field of versions before {mark['before']}"
            if "since" in mark and version < _number(mark["since"]):
                yield f"{where}.{name} is a field of versions since {mark['since']}"
            yield from _out_of_version(inner, version, f"{where}.{name}")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _out_of_version(inner, version, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _out_of_version(inner, version, f"{where}[{number}]")


def _number(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major or 0), int(minor.partition(".")[0] or 0)
