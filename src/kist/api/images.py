"""Routes of images."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase as fnmatch
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from kist.api import compat
from kist.api.app import flag, json_response
from kist.api.filters import boolean, match_labels, parse_filters
from kist.api.platforms import check_platform, matches, one_platform, parse_platform
from kist.api.progress import ProgressStream, Spool
from kist.api.render import created_at, image_summary
from kist.api.times import parse_limit, parse_prune_limit
from kist.api.usage import shared_sizes
from kist.http.router import Router
from kist.http.server import Request, Response
from kist.model import instructions
from kist.model.config import ContainerConfig
from kist.model.errors import InvalidParameter, KistError, NotFound, NotSupported
from kist.model.image import Image, ImageConfig
from kist.model.reference import Reference
from kist.model.timestamp import nanoseconds
from kist.wire import images as wire
from kist.wire.encode import container_config

_FILTERS = frozenset({"dangling", "label", "label!", "before", "since", "reference", "until"})


class Images(Protocol):
    def get(self, name: str) -> Image: ...
    def all(self) -> list[Image]: ...
    def tag(self, image_id: str, reference: Reference) -> None: ...
    async def remove(self, name: str, *, force: bool, prune: bool) -> list[Any]: ...
    async def prune(self, *, dangling: bool, keep: Callable[[Image], bool]) -> tuple[list[Any], int]: ...


class Archives(Protocol):
    """Images in and out of files."""

    async def load(
        self, stream: Any, say: Callable[[dict[str, Any]], None], wanted: Callable[[ImageConfig], bool]
    ) -> None: ...
    async def load_root(
        self, stream: Any, reference: Reference | None, config: ContainerConfig, message: str
    ) -> str: ...
    def save(self, names: list[str]) -> Any: ...
    def layer_sizes(self, image: Image) -> list[int]: ...
    async def bootstrap(self, distribution: str, say: Callable[[str], None]) -> str: ...


class ImageRoutes:
    """`pruned` is told the kind of what was pruned and how many bytes that freed."""

    def __init__(
        self,
        images: Images,
        archives: Archives,
        count_users: Callable[[str], int],
        driver: str,
        pruned: Callable[[str, int], None],
    ) -> None:
        self._images, self._archives, self._count_users, self._driver = images, archives, count_users, driver
        self._pruned = pruned

    def add_to(self, router: Router) -> None:
        for method, pattern, handler in (
            ("GET", "/images/json", self.all),
            ("POST", "/images/create", self.create),
            ("POST", "/images/load", self.load),
            ("POST", "/images/prune", self.prune),
            ("GET", "/images/get", self.save),
            ("GET", "/images/{name:.*}/get", self.save),
            ("GET", "/images/{name:.*}/json", self.inspect),
            ("GET", "/images/{name:.*}/history", self.history),
            ("POST", "/images/{name:.*}/tag", self.tag),
            ("DELETE", "/images/{name:.*}", self.remove),
            ("POST", "/kist/images/bootstrap", self.bootstrap),
        ):
            router.add(method, pattern, handler)

    async def all(self, request: Request) -> Response:
        filters = parse_filters(request, _FILTERS)
        if patterns := compat.image_references(request):
            filters = {**filters, "reference": [*filters.get("reference", ()), *patterns]}
        for pattern in filters.get("reference", ()):
            _check_pattern(pattern)
        images = self._images.all()
        dangling = boolean(filters, "dangling")
        before = [self._created(name) for name in filters.get("before", ())]
        since = [self._created(name) for name in filters.get("since", ())]
        until = [parse_limit(value) for value in filters.get("until", ())]
        shared: dict[str, int] = {}
        if compat.takes_shared_size(request) and flag(request, "shared-size"):
            shared = shared_sizes(images, self._archives.layer_sizes)
        found = []
        for image in images:
            created = created_at(image)
            if not match_labels(filters, image.container_config.labels):
                continue
            if "label!" in filters and match_labels(filters, image.container_config.labels, "label!"):
                continue
            if dangling is not None and dangling == bool(image.tags):
                continue
            if any(created >= limit for limit in before) or any(created <= limit for limit in since):
                continue
            if any(created > limit for limit in until):
                continue
            tags = [tag for tag in image.tags if _matches_reference(tag, filters.get("reference", []))]
            if "reference" in filters and not tags:
                continue
            shown = tags if "reference" in filters else list(image.tags)
            summary = image_summary(image, shown, self._count_users(image.id), shared.get(image.id, -1))
            found.append(compat.image_summary(request, summary))
        return json_response(found)

    def _created(self, name: str) -> int:
        return created_at(self._images.get(name))

    def _get(self, request: Request, platforms: list[str]) -> Image:
        """The image of the path, when it is one for the platform asked for. Raises NotFound, InvalidParameter."""
        platform = parse_platform(platforms[0]) if platforms else None
        name = request.parameters["name"]
        image = self._images.get(name)
        check_platform(image, name, platform)
        return image

    async def inspect(self, request: Request) -> Response:
        platforms = compat.image_platforms(request, "platform", "1.49")
        if platforms and compat.takes_manifests(request) and flag(request, "manifests"):
            parse_platform(platforms[0])
            raise InvalidParameter("conflicting options: manifests and platform options cannot both be set")
        image = self._get(request, platforms)
        config, settings = image.config, image.container_config
        data: dict[str, Any] = {
            "Id": image.id,
            "RepoTags": list(image.tags),
            "RepoDigests": list(image.repo_digests),
            "Parent": config.parent,
            "Comment": config.comment,
            "Created": config.created or "",
            "DockerVersion": config.docker_version,
            "Author": config.author,
            "Config": {**container_config(settings), "Labels": settings.labels},
            "Architecture": config.architecture,
        }
        if config.variant:
            data["Variant"] = config.variant
        data |= {
            "Os": config.os,
            "Size": image.size,
            "GraphDriver": {"Data": None, "Name": self._driver},
            "RootFS": {"Type": "layers", "Layers": list(image.layers)},
            "Metadata": {"LastTagTime": image.tagged_at or "0001-01-01T00:00:00Z"},
            "VirtualSize": image.size,
            "Container": "",
            "ContainerConfig": {**container_config(ContainerConfig()), "Labels": None},
        }
        return json_response(compat.image_inspect(request, data))

    async def history(self, request: Request) -> Response:
        image = self._get(request, compat.image_platforms(request, "platform", "1.48"))
        sizes = iter(self._archives.layer_sizes(image))
        entries = []
        for entry in image.config.history or []:
            created = entry.created or image.config.created
            entries.append(
                wire.HistoryEntry(
                    id="<missing>",
                    created=nanoseconds(created) // 1_000_000_000 if created else 0,
                    created_by=entry.created_by,
                    tags=None,
                    size=0 if entry.empty_layer else next(sizes, 0),
                    comment=entry.comment,
                )
            )
        if entries:
            entries[-1] = msgspec.structs.replace(entries[-1], id=str(image.id), tags=list(image.tags) or None)
        return json_response(entries[::-1])

    async def tag(self, request: Request) -> Response:
        repository, tag = request.query.get("repo", ""), request.query.get("tag", "")
        reference = Reference.parse(repository)
        if reference.digest is not None:
            raise InvalidParameter("cannot import digest reference")
        if reference.familiar_name == "sha256":
            raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
        image = self._images.get(request.parameters["name"])
        self._images.tag(image.id, reference.with_tag(tag) if tag else reference)
        return Response(201)

    async def remove(self, request: Request) -> Response:
        platforms = compat.image_platforms(request, "platforms", "1.50")
        if len([parse_platform(one) for one in platforms]) > 1:
            raise InvalidParameter("multiple platforms are not supported")
        self._get(request, platforms)
        deleted = await self._images.remove(
            request.parameters["name"], force=flag(request, "force"), prune=not flag(request, "noprune")
        )
        return json_response([_deleted(one) for one in deleted])

    async def prune(self, request: Request) -> Response:
        filters = parse_filters(request, frozenset({"dangling", "label", "label!", "until"}))
        dangling = boolean(filters, "dangling")
        limit = parse_prune_limit(filters.get("until", []))

        def keep(image: Image) -> bool:
            labels = image.container_config.labels
            return (
                (limit is not None and created_at(image) > limit)
                or not match_labels(filters, labels)
                or ("label!" in filters and match_labels(filters, labels, "label!"))
            )

        deleted, freed = await self._images.prune(dangling=dangling is not False, keep=keep)
        self._pruned("image", freed)
        told = [_deleted(one) for one in deleted] or None
        return json_response(wire.ImagesPruned(images_deleted=told, space_reclaimed=freed))

    async def create(self, request: Request) -> Response | None:
        """Pull (fromImage) comes with registries; import (fromSrc) works."""
        name, source = request.query.get("fromImage", ""), request.query.get("fromSrc", "")
        if name:
            reference = name if not request.query.get("tag") else f"{name}:{request.query['tag']}"
            name = Reference.parse(reference).familiar_name
            raise NotFound(
                f"pull access denied for {name}, repository does not exist or may require 'docker login': this engine "
                f"does not pull from registries yet; use load, import or bootstrap"
            )
        if source != "-":
            raise NotSupported("import from a URL is not supported by this engine yet: send the archive as the body")
        repository, tag = request.query.get("repo", ""), request.query.get("tag", "")
        reference_given = Reference.parse(f"{repository}:{tag}" if tag else repository) if repository else None
        config = instructions.apply(ContainerConfig(), request.query_lists.get("changes", []))
        message = request.query.get("message", "")
        async with Spool(request) as stream:
            image_id = await self._archives.load_root(stream, reference_given, config, message)
        progress = ProgressStream(request)
        await progress.send({"status": image_id})
        return None

    async def load(self, request: Request) -> Response | None:
        platform = one_platform(compat.image_platforms(request, "platform", "1.48"))
        progress = ProgressStream(request)
        async with Spool(request) as stream:
            said: list[dict[str, Any]] = []
            try:
                await self._archives.load(
                    stream, said.append, lambda config: platform is None or matches(config, platform)
                )
            except KistError as error:  # clients look for it in the stream, whatever the status
                await progress.fail(error)
                return None
        await progress.start()
        for one in said:
            if "stream" in one or not flag(request, "quiet"):
                await progress.send(one)
        return None

    async def save(self, request: Request) -> Response | None:
        platform = one_platform(compat.image_platforms(request, "platform", "1.48"))
        names = request.query_lists.get("names") or [request.parameters.get("name", "")]
        names = [name for name in names if name]
        pieces = self._archives.save(names)
        for name in names if platform is not None else ():
            if platform is not None and not matches(self._images.get(name).config, platform):
                raise KistError(f"no suitable export target found for platform {platform}")
        await request.start_stream(content_type="application/x-tar")
        for piece in pieces:
            await request.write(piece)
        return None

    async def bootstrap(self, request: Request) -> Response | None:
        """Beyond Docker: a base image from the distribution's own packages."""
        distribution = request.query.get("distribution", "")
        progress = ProgressStream(request)
        image_id = await progress.run(lambda say: self._archives.bootstrap(distribution, say))
        if image_id:
            await progress.send({"status": image_id})
        return None


def _deleted(one: Any) -> wire.ImageDeleted:
    return wire.ImageDeleted(untagged=one.untagged or UNSET, deleted=one.deleted or UNSET)


def _matches_reference(tag: str, patterns: list[str]) -> bool:
    """Shell patterns against `name`, `name:tag`, and the same with the domain."""
    if not patterns:
        return True
    reference = Reference.parse(tag)
    names = {tag, reference.familiar_name, f"{reference.name}:{reference.tag}", reference.name}
    return any(_glob(name, pattern) for name in names for pattern in patterns)


def _check_pattern(pattern: str) -> None:
    """Raises InvalidParameter with Go's text for a bracket that is not closed."""
    if any("]" not in rest[1:] for rest in pattern.split("[")[1:]):
        raise InvalidParameter("syntax error in pattern")


def _glob(name: str, pattern: str) -> bool:
    """`*` does not cross a slash, as in Go's path.Match."""
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(fnmatch(one, two) for one, two in zip(parts, wanted, strict=True))
