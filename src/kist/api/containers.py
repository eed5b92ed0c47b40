"""Routes of containers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from kist.api import compat, render, selection
from kist.api.app import body, flag, integer, json_body, json_response, uint32
from kist.api.filters import match_labels, parse_filters
from kist.api.times import parse_prune_limit, parse_timestamp
from kist.api.usage import measured
from kist.http.delivery import head_read
from kist.http.router import Router
from kist.http.server import Hijacked, Request, Response
from kist.model.config import ContainerConfig, EndpointSettings, HostConfig, wire_name
from kist.model.container import ContainerRecord
from kist.model.errors import Forbidden, InvalidParameter, KistError
from kist.model.number import is_number
from kist.model.request import AttachRequest
from kist.model.timestamp import nanoseconds
from kist.wire import decode
from kist.wire.containers import (
    ContainerCreated,
    ContainersPruned,
    ContainerUpdated,
    ContainerWaited,
    ExitError,
    Processes,
)

_CONDITIONS = frozenset({"not-running", "next-exit", "removed"})


class _Networking(msgspec.Struct, frozen=True, rename=wire_name):
    endpoints_config: dict[str, EndpointSettings | None] | None = None


class _CreateBody(msgspec.Struct, frozen=True, rename=wire_name):
    """What stands beside ContainerConfig in the body of a create."""

    host_config: HostConfig | None = None
    networking_config: _Networking | None = None
    runtime: str = ""  # where docker-py puts it, heard when there is no HostConfig (dockerd before 25)


class Containers(Protocol):
    """What these routes need of the engine."""

    def get(self, name: str) -> ContainerRecord: ...
    def all(self) -> list[ContainerRecord]: ...
    def exec_ids(self, name: str) -> list[str]: ...
    def log_path(self, name: str) -> str: ...
    def directory(self, name: str) -> str: ...
    def snapshot_directory(self, name: str) -> str: ...
    def link_names(self) -> dict[str, list[str]]: ...
    def links(self, name: str) -> list[str] | None: ...
    def unlink(self, name: str) -> None: ...
    async def sizes(self, name: str) -> tuple[int, int]: ...
    async def start(self, name: str) -> None: ...
    async def start_from(self, name: str, checkpoint: str, directory: str) -> None: ...
    async def stop(self, name: str, seconds: int | None, signal: str) -> None: ...
    async def restart(self, name: str, seconds: int | None, signal: str) -> None: ...
    async def kill(self, name: str, signal: str) -> None: ...
    async def pause(self, name: str) -> None: ...
    async def unpause(self, name: str) -> None: ...
    def rename(self, name: str, new_name: str) -> None: ...
    async def remove(self, name: str, *, force: bool, volumes: bool) -> None: ...
    async def update(self, name: str, asked: HostConfig) -> tuple[str, ...]: ...
    async def prune(self, names: list[str]) -> tuple[list[str], int]: ...
    def resize(self, name: str, height: int, width: int) -> None: ...
    def top(self, name: str, arguments: str) -> tuple[list[str], list[list[str]]]: ...
    def wait_now(self, name: str, condition: str) -> tuple[int, str] | None: ...
    def wait(self, name: str, descriptor: int, removed: bool) -> None: ...
    def check_keys(self, keys: str) -> None: ...
    def check_attachable(self, name: str) -> bool: ...
    async def attach(self, name: str, descriptor: int, request: AttachRequest) -> None: ...


class Images(Protocol):
    """What is asked of images to list containers: an id for a name ("": none), and what was made from an image."""

    def resolve(self, name: str) -> str: ...
    def descendants(self, name: str) -> frozenset[str]: ...


Create = Callable[[ContainerConfig, HostConfig, dict[str, EndpointSettings] | None, str, str], Any]
Logs = Callable[[str, dict[str, Any], bool], AsyncIterator[bytes]]


class ContainerRoutes:
    """`create` and `logs` are given apart: they take values of the engine's own. `pruned` is told the kind of what was
    pruned and how many bytes that freed.
    """

    def __init__(
        self,
        containers: Containers,
        images: Images,
        create: Create,
        logs: Logs,
        pruned: Callable[[str, int], None],
        *,
        cgroup2: bool,
        default_network: str,
        experimental: bool = False,
    ) -> None:
        self._containers, self._images = containers, images
        self._create, self._logs, self._pruned = create, logs, pruned
        self._cgroup2, self._default_network, self._experimental = cgroup2, default_network, experimental

    def add_to(self, router: Router) -> None:
        for method, pattern, handler in (
            ("GET", "/containers/json", self.list),
            ("POST", "/containers/create", self.create),
            ("POST", "/containers/prune", self.prune),
            ("GET", "/containers/{name}/json", self.inspect),
            ("POST", "/containers/{name}/start", self.start),
            ("POST", "/containers/{name}/stop", self.stop),
            ("POST", "/containers/{name}/restart", self.restart),
            ("POST", "/containers/{name}/kill", self.kill),
            ("POST", "/containers/{name}/pause", self.pause),
            ("POST", "/containers/{name}/unpause", self.unpause),
            ("POST", "/containers/{name}/update", self.update),
            ("POST", "/containers/{name}/rename", self.rename),
            ("POST", "/containers/{name}/wait", self.wait),
            ("POST", "/containers/{name}/attach", self.attach),
            ("POST", "/containers/{name}/resize", self.resize),
            ("GET", "/containers/{name}/logs", self.logs),
            ("GET", "/containers/{name}/top", self.top),
            ("DELETE", "/containers/{name}", self.remove),
        ):
            router.add(method, pattern.replace("{name}", "{name:.*}"), handler)  # a link's name has a slash

    async def list(self, request: Request) -> Response:
        filters = parse_filters(request, selection.FILTERS)
        limit = integer(request, "limit") or 0
        everything = flag(request, "all") or limit > 0 or bool(filters.get("status"))
        wanted = selection.select(
            self._containers.all(),
            filters,
            everything=everything,
            find=self._containers.get,
            descendants=self._images.descendants,
        )
        records = wanted[:limit] if limit > 0 else wanted
        names, resolve = self._containers.link_names(), functools.cache(self._images.resolve)
        sized: list[tuple[ContainerRecord, tuple[int, int] | None]]
        if flag(request, "size"):
            sized = [*await measured(self._containers, records)]
        else:
            sized = [(record, None) for record in records]
        found = [render.summary(record, sizes, resolve, names.get(record.id)) for record, sizes in sized]
        return json_response([compat.container_summary(request, one) for one in found])

    async def create(self, request: Request) -> Response:
        name = request.query.get("name", "")
        value = decode.parse(await json_body(request) or b"")
        config = decode.convert(value, ContainerConfig, "container.CreateRequest")
        rest = decode.convert(value, _CreateBody, "container.CreateRequest")
        if not decode.names_any(value, ContainerConfig):
            raise InvalidParameter("config cannot be empty in order to create a container")
        networks = _endpoints(rest.networking_config)
        config, host, networks, warnings = compat.create(
            request,
            config,
            rest.host_config or HostConfig(runtime=rest.runtime),
            networks,
            cgroup2=self._cgroup2,
            default_network=self._default_network,
        )
        created = await self._create(config, host, networks, name, compat.platform(request))
        return json_response(ContainerCreated(id=created.id, warnings=[*created.warnings, *warnings]), 201)

    async def inspect(self, request: Request) -> Response:
        record = self._containers.get(request.parameters["name"])
        size = flag(request, "size")
        data = render.inspect(
            record,
            self._containers.directory(record.id),
            self._containers.log_path(record.id),
            self._containers.exec_ids(record.id),
            self._containers.snapshot_directory(record.id),
            await self._containers.sizes(record.id) if size else None,
            self._containers.links(record.id),
        )
        return json_response(compat.container_inspect(request, data))

    async def start(self, request: Request) -> Response:
        length = request.headers.get("content-length", "0")
        if "transfer-encoding" in request.headers or (is_number(length) and int(length) > 7):
            raise InvalidParameter("starting container with non-empty request body was deprecated since API v1.22 and "
                                   "removed in v1.24")  # fmt: skip
        name, query = request.parameters["name"], request.query
        checkpoint, directory = query.get("checkpoint", ""), query.get("checkpoint-dir", "")
        if checkpoint and not self._experimental:
            raise InvalidParameter("checkpoint is only supported in experimental mode")
        if checkpoint:
            await self._containers.start_from(name, checkpoint, directory)
        elif directory:
            raise Forbidden("custom checkpointdir is not supported")  # by no start without a checkpoint
        else:
            await self._containers.start(name)
        return Response(204)

    async def stop(self, request: Request) -> Response:
        await self._containers.stop(request.parameters["name"], integer(request, "t"), compat.stop_signal(request))
        return Response(204)

    async def restart(self, request: Request) -> Response:
        await self._containers.restart(request.parameters["name"], integer(request, "t"), compat.stop_signal(request))
        return Response(204)

    async def kill(self, request: Request) -> Response:
        name = request.parameters["name"]
        try:
            await self._containers.kill(name, request.query.get("signal", ""))
        except KistError as error:
            raise type(error)(f"cannot kill container: {name}: {error.message}") from error
        return Response(204)

    async def pause(self, request: Request) -> Response:
        await self._containers.pause(request.parameters["name"])
        return Response(204)

    async def unpause(self, request: Request) -> Response:
        await self._containers.unpause(request.parameters["name"])
        return Response(204)

    async def rename(self, request: Request) -> Response:
        name, wanted = request.parameters["name"], request.query.get("name", "")
        if not name or not wanted:
            raise InvalidParameter("Neither old nor new names may be empty")
        self._containers.rename(name, wanted)
        return Response(204)

    async def update(self, request: Request) -> Response:
        asked = compat.update(request, await body(request, HostConfig, "container.UpdateConfig"))
        warnings = await self._containers.update(request.parameters["name"], asked)
        return json_response(ContainerUpdated(warnings=list(warnings) or None))

    async def prune(self, request: Request) -> Response:
        filters = parse_filters(request, frozenset({"label", "label!", "until"}))
        limit = parse_prune_limit(filters.get("until", []))
        names = [
            one.id
            for one in self._containers.all()
            if not one.state.running
            and (limit is None or nanoseconds(one.created) <= limit)
            and match_labels(filters, one.config.labels)
            and not ("label!" in filters and match_labels(filters, one.config.labels, "label!"))
        ]
        removed, freed = await self._containers.prune(names)
        self._pruned("container", freed)
        return json_response(ContainersPruned(containers_deleted=removed or None, space_reclaimed=freed))

    async def remove(self, request: Request) -> Response:
        if flag(request, "link"):
            self._containers.unlink(request.parameters["name"])
            return Response(204)
        await self._containers.remove(
            request.parameters["name"], force=flag(request, "force"), volumes=flag(request, "v")
        )
        return Response(204)

    async def resize(self, request: Request) -> Response:
        height, width = window_size(request)
        self._containers.resize(request.parameters["name"], height, width)
        return Response(200)

    async def top(self, request: Request) -> Response:
        titles, processes = self._containers.top(request.parameters["name"], request.query.get("ps_args", ""))
        return json_response(Processes(titles=titles, processes=processes))

    async def wait(self, request: Request) -> Response | None:
        """The head goes out at once; the answer when it is over, by whoever is there then to give it."""
        condition = compat.wait_condition(request)
        if condition not in _CONDITIONS:
            raise InvalidParameter(f'invalid condition: "{condition}"')
        name = request.parameters["name"]
        over = self._containers.wait_now(name, condition)
        if over is not None:
            code, error = over
            return json_response(ContainerWaited(status_code=code, error=ExitError(message=error) if error else UNSET))
        record = self._containers.get(name)
        head = {"Content-Type": "application/json", "Transfer-Encoding": "chunked", "Connection": "close"}
        taken = await request.hijack(request.head(200, head))
        self._containers.wait(record.id, taken.descriptor, condition == "removed")
        return None

    async def attach(self, request: Request) -> Response | None:
        name = request.parameters["name"]
        if not flag(request, "stream"):
            await self._past_output(request)
            return None
        keys = request.query.get("detachKeys", "")
        self._containers.check_keys(keys)
        tty = self._containers.check_attachable(name)
        taken = await upgrade(request, tty=tty)
        stdin, stdout, stderr, past = (flag(request, one) for one in ("stdin", "stdout", "stderr", "logs"))
        wanted = AttachRequest(stdin, stdout, stderr, keys, past, leftover=taken.leftover)
        await self._containers.attach(name, taken.descriptor, wanted)
        return None

    async def _past_output(self, request: Request) -> None:
        """`attach` without `stream`: what the log holds when `logs` is set, and the end."""
        record = self._containers.get(request.parameters["name"])
        taken = await upgrade(request, tty=record.config.tty)
        with socket.socket(fileno=taken.descriptor) as client:
            client.setblocking(False)
            if not flag(request, "logs"):
                return
            stdout, stderr = flag(request, "stdout"), flag(request, "stderr")
            options = {"stdout": stdout, "stderr": stderr, "multiplexed": not record.config.tty}
            with contextlib.suppress(ConnectionError):
                async for piece in self._logs(record.id, options, False):
                    await asyncio.get_running_loop().sock_sendall(client, piece)

    async def logs(self, request: Request) -> Response | None:
        record = self._containers.get(request.parameters["name"])
        stdout, stderr = flag(request, "stdout"), flag(request, "stderr")
        if not (stdout or stderr):
            raise InvalidParameter("Bad parameters: you must choose at least one stream")
        tail = request.query.get("tail", "")
        options = {
            "stdout": stdout,
            "stderr": stderr,
            "since": parse_timestamp(request.query.get("since", "")),
            "until": parse_timestamp(request.query.get("until", "")),
            "tail": int(tail) if is_number(tail) else None,
            "timestamps": flag(request, "timestamps"),
            "details": flag(request, "details"),
            "multiplexed": not record.config.tty,
        }
        follow = flag(request, "follow")
        stream = self._logs(record.id, options, follow)
        content_type = compat.stream_type(request, tty=record.config.tty)
        await request.start_stream(content_type=content_type, endless=follow)
        async for piece in stream:
            await request.write(piece)
        return None


def _endpoints(asked: _Networking | None) -> dict[str, EndpointSettings] | None:
    if asked is None or asked.endpoints_config is None:
        return None
    found = {}
    for name, settings in asked.endpoints_config.items():
        if settings is None:
            raise InvalidParameter(f"invalid config for network {name}: EndpointsConfig is nil")
        found[name] = settings
    return found


def window_size(request: Request) -> tuple[int, int]:
    """(height, width) of a terminal. Raises InvalidParameter with Docker's texts."""
    height, width = uint32(request, "h", "resize height"), uint32(request, "w", "resize width")
    return height & 0xFFFF, width & 0xFFFF


async def upgrade(request: Request, *, tty: bool, headers: Mapping[str, str] | None = None) -> Hijacked:
    """Answers as dockerd does, byte for byte, and takes the connection. `headers` come last (exec has some)."""
    lines = [f"Content-Type: {compat.hijack_type(request, tty=tty)}"]
    if "upgrade" in request.headers:
        lines = ["HTTP/1.1 101 UPGRADED", *lines, "Connection: Upgrade", "Upgrade: tcp"]
    else:
        lines = ["HTTP/1.1 200 OK", *lines]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    taken = await request.hijack("\r\n".join([*lines, "", ""]).encode())
    await head_read(taken.descriptor)
    return taken
