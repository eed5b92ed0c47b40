"""What takes up disk space: the answer of /system/df, made from the same summaries as the lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from kist.api import render
from kist.model.container import ContainerRecord
from kist.model.errors import NotFound
from kist.model.image import Image
from kist.model.volume import Volume
from kist.wire import networks as wire


class Images(Protocol):
    def all(self) -> list[Image]: ...
    def resolve(self, name: str) -> str: ...


class Containers(Protocol):
    def all(self) -> list[ContainerRecord]: ...
    async def sizes(self, name: str) -> tuple[int, int]: ...


class Volumes(Protocol):
    def all(self) -> list[Volume]: ...
    def user_count(self, name: str) -> int: ...
    async def size(self, name: str) -> int: ...


_Chain = tuple[object, ...]


def _layers(
    images: list[Image], layer_sizes: Callable[[Image], list[int]]
) -> tuple[dict[_Chain, int], Counter[_Chain]]:
    """Bytes and images of every layer; a layer is itself only above the same layers."""
    sizes: dict[_Chain, int] = {}
    users: Counter[_Chain] = Counter()
    for image in images:
        for number, size in enumerate(layer_sizes(image)):
            chain = image.layers[: number + 1]
            sizes[chain] = size
            users[chain] += 1
    return sizes, users


def shared_sizes(images: list[Image], layer_sizes: Callable[[Image], list[int]]) -> dict[str, int]:
    """By image id, the bytes of those of its layers that another image has too."""
    sizes, users = _layers(images, layer_sizes)
    return {
        image.id: sum(
            sizes.get(chain, 0)
            for chain in (image.layers[: number + 1] for number in range(len(image.layers)))
            if users[chain] > 1
        )
        for image in images
    }


async def measured(
    containers: Containers, records: list[ContainerRecord]
) -> list[tuple[ContainerRecord, tuple[int, int]]]:
    """Containers with their sizes, without those that are removed meanwhile."""
    found = []
    for record in records:
        with suppress(NotFound):
            found.append((record, await containers.sizes(record.id)))
    return found


class DiskUsage:
    """`layer_sizes` gives the bytes of each of an image's layers, the lowest first."""

    def __init__(
        self,
        images: Images,
        containers: Containers,
        volumes: Volumes,
        layer_sizes: Callable[[Image], list[int]],
        count_users: Callable[[str], int],
    ) -> None:
        self._images, self._containers, self._volumes = images, containers, volumes
        self._layer_sizes, self._count_users = layer_sizes, count_users

    async def collect(self, wanted: frozenset[str]) -> dict[str, Any]:
        """`wanted` names kinds: container, image, volume, build-cache. What is not wanted is null."""
        found: dict[str, Any] = {"LayersSize": 0, "Images": None, "Containers": None, "Volumes": None}
        if "image" in wanted:
            found |= self._of_images()
        if "container" in wanted:
            sized = await measured(self._containers, self._containers.all())
            found["Containers"] = [render.summary(record, sizes, self._images.resolve) for record, sizes in sized]
        if "volume" in wanted:
            found["Volumes"] = await self._of_volumes()
        return {**found, "BuildCache": [] if "build-cache" in wanted else None}

    def _of_images(self) -> dict[str, Any]:
        images = self._images.all()
        layers, _ = _layers(images, self._layer_sizes)
        shared = shared_sizes(images, self._layer_sizes)
        summaries = [
            render.image_summary(image, list(image.tags), self._count_users(image.id), shared[image.id])
            for image in images
        ]
        return {"LayersSize": sum(layers.values()), "Images": summaries}

    async def _of_volumes(self) -> list[wire.Volume]:
        found = []
        for volume in self._volumes.all():
            if not volume.is_plain:  # what is mounted there may be anybody's
                continue
            with suppress(NotFound):  # removed meanwhile
                found.append(await self._of_volume(volume))
        return found

    async def _of_volume(self, volume: Volume) -> wire.Volume:
        usage = wire.VolumeUsage(
            ref_count=self._volumes.user_count(volume.name), size=await self._volumes.size(volume.name)
        )
        return msgspec.structs.replace(render.volume(volume), usage_data=usage)
