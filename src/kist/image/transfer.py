"""Images in and out of the engine: load, save, import, bootstrap, with the words Docker says on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from kist.image.archive import import_root, read_archive, write_archive
from kist.image.bootstrap import bootstrap
from kist.image.service import ImageService, chain_id, decode_config
from kist.model.config import ContainerConfig
from kist.model.digest import Digest
from kist.model.errors import KistError, NotFound
from kist.model.image import Image, ImageConfig
from kist.model.reference import Reference
from kist.snapshot.contract import Snapshotter

Say = Callable[[dict[str, Any]], None]


class Transfer:
    def __init__(self, images: ImageService, snapshotter: Snapshotter) -> None:
        self._images, self._snapshotter = images, snapshotter

    async def load(
        self, stream: BinaryIO, say: Say, wanted: Callable[[ImageConfig], bool] = lambda config: True
    ) -> None:
        """Every image of an archive that is wanted. Raises InvalidParameter; images before the bad one stay."""
        async with self._images.changing():
            await self._load(stream, say, wanted)

    async def _load(self, stream: BinaryIO, say: Say, wanted: Callable[[ImageConfig], bool]) -> None:
        loaded = await self._in_thread(read_archive, stream, self._images.content)
        names = [[Reference.parse(tag).tagged() for tag in one.tags] for one in loaded]
        for one, references in zip(loaded, names, strict=True):
            if not wanted(decode_config(one.config)):
                self._images.discard(Digest.of(one.config), one.manifest, *one.layers)
                continue
            image = await self._images.add(one.config, list(one.layers), one.manifest, say, references)
            for reference in references:
                say({"stream": f"Loaded image: {reference.familiar}\n"})
            if not one.tags:
                say({"stream": f"Loaded image ID: {image.id}\n"})
            self._images.announce("load", image.id)

    @staticmethod
    async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await asyncio.to_thread(function, *arguments)
        except OSError as error:
            raise KistError(f"cannot store the image: {error.strerror or error}") from error

    async def load_root(
        self, stream: BinaryIO, reference: Reference | None, config: ContainerConfig, message: str
    ) -> str:
        """The id of a new image of one layer."""
        async with self._images.changing():
            loaded = await self._in_thread(
                import_root, stream, self._images.content, config, message or "Imported from -"
            )
            names = [reference] if reference is not None else []
            image = await self._images.add(loaded.config, list(loaded.layers), names=names)
            if reference is not None:
                self._images.tag(image.id, reference)
            self._images.announce("import", image.id)
        return image.id

    def save(self, names: list[str]) -> Iterator[bytes]:
        """A tar of the named images. Raises NotFound before the first byte."""
        found: dict[str, tuple[Image, tuple[str, ...], list[str]]] = {}
        for name in names:
            image = self._find(name)
            entry = found.setdefault(image.id, (image, self._images.blobs(image), []))
            for tag in self._tags_of(image, name):
                if tag not in entry[2]:
                    entry[2].append(tag)
        return self._announced(write_archive(list(found.values()), self._images.content), list(found))

    def _announced(self, pieces: Iterator[bytes], ids: list[str]) -> Iterator[bytes]:
        """Who listens hears of it when all is written."""
        yield from pieces
        for image_id in ids:
            self._images.announce("save", image_id)

    def _find(self, name: str) -> Image:
        try:
            return self._images.get(name)
        except NotFound as error:
            raise NotFound(f"No such image: {name}") from error

    @staticmethod
    def _tags_of(image: Image, name: str) -> list[str]:
        """The tags a name stands for: itself, all tags of a repository, none for an id."""
        if name in image.tags:
            return [name]
        digits = name.removeprefix("sha256:")
        if image.id.removeprefix("sha256:").startswith(digits):
            return []
        reference = Reference.parse(name)
        if reference.tag:
            return [reference.familiar]
        return [tag for tag in image.tags if Reference.parse(tag).name == reference.name]

    def layer_sizes(self, image: Image) -> list[int]:
        """Bytes of each layer's files, lowest first."""
        return [self._snapshotter.stat(chain_id(image.layers[: n + 1])).size for n in range(len(image.layers))]

    async def bootstrap(self, distribution: str, say: Callable[[str], None]) -> str:
        """Makes a base image and names it; its id."""
        made = await bootstrap(distribution, say)
        with made.file:
            reference = Reference.parse(made.name)
            image_id = await self.load_root(made.file, reference, made.config, f"kist image bootstrap {distribution}")
        say(f"Made {reference.familiar}")
        return image_id
