"""The images of this engine: records, names, and the chain of snapshots each stands on."""

from __future__ import annotations

import asyncio
import hashlib
import platform
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, BinaryIO, cast

import msgspec

from kist.image.compression import Hashed, decompressed
from kist.model.digest import Digest, plain
from kist.model.errors import Conflict, InvalidParameter, KistError, NotFound
from kist.model.image import Descriptor, Image, ImageConfig, Manifest
from kist.model.reference import Reference
from kist.model.timestamp import rfc3339
from kist.snapshot.contract import Snapshotter
from kist.store.content import ContentStore
from kist.store.database import Database, Records

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
Progress = Callable[[dict[str, Any]], None]
_HEX = frozenset("0123456789abcdef")


class ImageRecord(msgspec.Struct, frozen=True):
    """What is kept of an image. `blobs` are the layers' as they came, `layers` their diff ids, lowest first."""

    id: str
    manifest: str
    size: int
    snapshot: str
    layers: tuple[str, ...]
    blobs: tuple[str, ...]
    tagged_at: str = ""


class Tag(msgspec.Struct, frozen=True):
    name: str  # docker.io/library/busybox:latest
    image: str


class Deleted(msgspec.Struct, frozen=True):
    """One line of what `rmi` did: `untagged` or `deleted` is set."""

    untagged: str = ""
    deleted: str = ""


def host_architecture() -> str:
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def chain_id(diff_ids: Iterable[str]) -> str:
    """The name of the snapshot of a stack of layers (OCI image spec, config.md#layer-chainid)."""
    chain = ""
    for diff_id in diff_ids:
        chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}" if chain else diff_id
    return chain


class ImageService:
    """Lookups are quick and synchronous; what unpacks or removes layers is awaited and works in a thread."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        snapshotter: Snapshotter,
        emit: Callable[[str, str, dict[str, str]], None] = lambda action, image_id, attributes: None,
    ) -> None:
        self._database = database
        self.content = content
        self._snapshotter = snapshotter
        self._emit = emit
        self._records = Records(database, "image", ImageRecord)
        self._tags = Records(database, "tag", Tag)
        self._configs: dict[str, ImageConfig] = {}
        self._changing = asyncio.Lock()
        self.users: Callable[[str], list[Any]] = lambda image_id: []  # containers made from an image

    # --- lookups ---

    def get(self, name: str) -> Image:
        """By reference, id or unambiguous prefix of an id. Raises NotFound, InvalidParameter."""
        return self._image(self._find(name))

    def resolve(self, name: str) -> str:
        """The id that a reference, an id or its prefix stands for now; "" when that is no image."""
        try:
            return self._find(name).id
        except (NotFound, InvalidParameter):
            return ""

    def descendants(self, name: str) -> frozenset[str]:
        """The ids of an image and of all that were made from it, and from those; none when that is no image."""
        found, added = set[str](), {self.resolve(name)} - {""}
        while added:
            found |= added
            added = {one.id for one in self._records.values() if self.config(one.id).parent in added} - found
        return frozenset(found)

    def all(self) -> list[Image]:
        """All images, the newest first."""
        found = [self._image(record) for record in self._records.values()]
        return sorted(found, key=lambda image: (image.config.created or "", image.id), reverse=True)

    def _find(self, name: str) -> ImageRecord:
        if not name:
            raise InvalidParameter("invalid reference format")
        digits = name.removeprefix("sha256:")
        if len(digits) == 64 and _HEX.issuperset(digits):
            record = self._records.get(f"sha256:{digits}")
            if record is None:
                raise NotFound(f"No such image: sha256:{digits}")
            return record
        reference = Reference.parse(name)
        record = self._by_reference(reference) or self._by_prefix(digits)
        if record is None:
            raise NotFound(f"No such image: {reference.tagged().familiar}")
        return record

    def _by_reference(self, reference: Reference) -> ImageRecord | None:
        if reference.digest is not None:
            for record in self._records.values():
                if reference.digest in (record.manifest, record.id):
                    return record
            return None
        tag = self._tags.get(_key(reference.tagged()))
        return self._records.get(tag.image) if tag else None

    def _by_prefix(self, digits: str) -> ImageRecord | None:
        if not digits or not _HEX.issuperset(digits):
            return None
        found = [key for key in self._records.keys() if key.startswith(f"sha256:{digits}")]  # noqa: SIM118  not a dict
        if len(found) > 1:
            raise NotFound(f"No such image: {digits}: the prefix is ambiguous")
        return self._records.get(found[0]) if found else None

    def _image(self, record: ImageRecord) -> Image:
        tags = [Reference.parse(tag.name).familiar for tag in self._tags.values() if tag.image == record.id]
        repositories = sorted({tag.rpartition(":")[0] for tag in tags})
        return Image(
            id=Digest(record.id),
            config=self.config(record.id),
            manifest=Digest(record.manifest) if record.manifest else None,
            size=record.size,
            tags=tuple(sorted(tags)),
            repo_digests=tuple(f"{name}@{record.manifest}" for name in repositories) if record.manifest else (),
            snapshot=record.snapshot,
            tagged_at=record.tagged_at,
            layers=record.layers,
        )

    def config(self, image_id: str) -> ImageConfig:
        found = self._configs.get(image_id)
        if found is None:
            found = self._configs[image_id] = decode_config(self.content.read(image_id))
        return found

    def blobs(self, image: Image) -> tuple[str, ...]:
        """The layers' blobs as they came, lowest first."""
        record = self._records.get(image.id)
        return record.blobs if record else ()

    # --- what changes ---

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """One change of the set of blobs at a time: from the first blob of an image to its record, and removals.

        When that fails, what was stored for an image that is not there goes again.
        """
        async with self._changing:
            try:
                yield
            except BaseException:
                with suppress(KistError, OSError):
                    self.collect()
                    await asyncio.to_thread(self._snapshotter.collect)
                raise

    async def add(
        self,
        config: bytes,
        layers: list[str],
        manifest: str = "",
        progress: Progress | None = None,
        names: Iterable[Reference] = (),
    ) -> Image:
        """An image from blobs that are in the content store: unpacks the layers that are not there yet.

        Record and names come together: what a crash cuts off is there whole or not at all.
        The caller holds `changing`. Raises InvalidParameter when a layer is not what the configuration says.
        """
        parsed = decode_config(config)
        diff_ids = parsed.rootfs.diff_ids
        if len(diff_ids) != len(layers):
            raise InvalidParameter(
                f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, got {len(layers)}"
            )
        await self._unpack(diff_ids, layers, progress)
        image_id = self.content.put(config)
        if not manifest:
            manifest = self.content.put(self._manifest_of(image_id, len(config), layers))
        chain = chain_id(diff_ids)
        size = sum(self._snapshotter.stat(chain_id(diff_ids[: n + 1])).size for n in range(len(diff_ids)))
        old = self._records.get(image_id)
        tagged_at = old.tagged_at if old else ""
        record = ImageRecord(image_id, manifest, size, chain, tuple(diff_ids), tuple(layers), tagged_at)
        with self._database.transaction():
            self._records.put(image_id, record)
            for name in names:
                self.tag(image_id, name, announce=False)
        return self.get(image_id)

    def _manifest_of(self, image_id: str, size: int, layers: list[str]) -> bytes:
        manifest = Manifest(
            config=Descriptor("application/vnd.oci.image.config.v1+json", image_id, size),
            layers=[Descriptor(_layer_type(self.content.path(blob)), blob, self.content.size(blob)) for blob in layers],
            media_type="application/vnd.oci.image.manifest.v1+json",
        )
        return b'{"schemaVersion":2,' + msgspec.json.encode(manifest, enc_hook=plain)[1:]

    async def _unpack(self, diff_ids: list[str], layers: list[str], progress: Progress | None) -> None:
        for number, blob in enumerate(layers):
            parent, chain = chain_id(diff_ids[:number]), chain_id(diff_ids[: number + 1])
            if self._snapshotter.exists(chain):
                continue
            key = f"unpack-{chain}"
            if self._snapshotter.exists(key):
                self._snapshotter.remove(key)
            fill = self._snapshotter.prepare(key, parent)
            try:
                if fill is not None:
                    await asyncio.to_thread(fill)
                found = await asyncio.to_thread(self._apply, key, self.content.path(blob))
                if found != diff_ids[number]:
                    raise InvalidParameter(
                        f"invalid diffID for layer {number}: expected {diff_ids[number]!r}, got {found!r}"
                    )
                size = await asyncio.to_thread(self._snapshotter.flush, key)
                self._snapshotter.commit(chain, key, size)
            except BaseException:
                self._snapshotter.remove(key)
                raise
            if progress is not None:
                progress({"id": diff_ids[number][7:19], "status": "Loading layer"})

    def _apply(self, key: str, path: str) -> str:
        with open(path, "rb") as file:
            stream = Hashed(decompressed(file))
            self._snapshotter.apply(key, cast(BinaryIO, stream))
            stream.drain()
        return stream.digest

    def _tell(self, action: str, image_id: str, name: str) -> None:
        """An event with the attributes Docker gives it: the labels of an image that is still there, and the name."""
        record = self._records.get(image_id)
        labels = (self._image(record).container_config.labels or {}) if record is not None else {}
        self._emit(action, image_id, {**labels, "name": name})

    def announce(self, action: str, image_id: str) -> None:
        """An event of an image as a whole: load, save, import."""
        self._tell(action, image_id, image_id)

    def tag(self, image_id: str, reference: Reference, *, announce: bool = True) -> None:
        """Points a name at an image; it may have pointed elsewhere. Raises InvalidParameter for a digest."""
        if reference.digest is not None:
            raise InvalidParameter("refusing to create a tag with a digest reference")
        named = reference.tagged()
        record = self._records.get(image_id)
        if record is None:
            raise NotFound(f"No such image: {image_id}")
        with self._database.transaction():
            self._tags.put(_key(named), Tag(_key(named), image_id))
            self._records.put(image_id, msgspec.structs.replace(record, tagged_at=rfc3339()))
        if announce:
            self._tell("tag", image_id, named.familiar)

    async def remove(self, name: str, *, force: bool = False, prune: bool = True) -> list[Deleted]:
        """What `rmi` does: a name goes; with its last name the image goes too, if nothing uses it.

        Raises Conflict with Docker's texts when containers use the image or several repositories name it.
        """
        record = self._find(name)
        image = self._image(record)
        by_id = name.removeprefix("sha256:") == record.id[7 : 7 + len(name.removeprefix("sha256:"))]
        reference = None if by_id and name not in image.tags else Reference.parse(name).tagged()
        if reference is not None and reference.digest is None:
            deleted = self._untag(record, reference, name, force)
            if deleted is not None:
                return deleted
            untagged = [Deleted(untagged=reference.familiar)]
            names = [reference]
        else:
            self._check_removable(record, image, force)
            untagged = [Deleted(untagged=tag) for tag in image.tags]
            names = [Reference.parse(tag) for tag in image.tags]
        for one in names:
            self._tags.delete(_key(one.tagged()))
            self._tell("untag", record.id, record.id)
        if self.users(record.id):
            return untagged
        deleted, _ = await self._delete(record)
        return untagged + deleted

    def _untag(self, record: ImageRecord, reference: Reference, asked: str, force: bool) -> list[Deleted] | None:
        """Only the name goes when there are others or containers stand on the image; None when the image goes too."""
        others = [tag for tag in self._tags.values() if tag.image == record.id and tag.name != _key(reference)]
        users = self.users(record.id)
        if not others and users and not force:
            raise Conflict(
                f'conflict: unable to remove repository reference "{asked}" (must force) - '
                f"container {users[0].id[:12]} is using its referenced image {record.id[7:19]}"
            )
        if not others:
            return None
        self._tags.delete(_key(reference))
        self._tell("untag", record.id, record.id)
        return [Deleted(untagged=reference.familiar)]

    def _check_removable(self, record: ImageRecord, image: Image, force: bool) -> None:
        short = record.id[7:19]
        users = self.users(record.id)
        running = [one for one in users if one.state.alive]
        if running:
            raise Conflict(
                f"conflict: unable to delete {short} (cannot be forced) - image is being used by running container "
                f"{running[0].id[:12]}"
            )
        if force:
            return
        if users:
            raise Conflict(
                f"conflict: unable to delete {short} (must be forced) - image is being used by stopped container "
                f"{users[0].id[:12]}"
            )
        if len({tag.rpartition(":")[0] for tag in image.tags}) > 1:
            raise Conflict(
                f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
            )

    async def _delete(self, record: ImageRecord) -> tuple[list[Deleted], int]:
        """Record first, then blobs and snapshots that no other image needs; and how many bytes those had."""
        freed = 0
        async with self._changing:
            self._records.delete(record.id)
            self._configs.pop(record.id, None)
            self._tell("delete", record.id, record.id)
            deleted = [Deleted(deleted=record.id)]
            self.discard(record.id, record.manifest, *record.blobs)
            shared = {
                chain_id(other.layers[:number])
                for other in self._records.values()
                for number in range(1, len(other.layers) + 1)
            }
            for number in range(len(record.layers), 0, -1):
                chain = chain_id(record.layers[:number])
                if chain in shared:
                    break
                try:
                    size = self._snapshotter.stat(chain).size
                    self._snapshotter.remove(chain)
                except (Conflict, NotFound):
                    break  # a container stands on it
                freed += size
                deleted.append(Deleted(deleted=chain))
            await asyncio.to_thread(self._snapshotter.collect)
        return deleted, freed

    def discard(self, *blobs: str) -> None:
        """Removes blobs unless an image needs them; only within a change (`changing`)."""
        wanted = {blob for one in self._records.values() for blob in (one.id, one.manifest, *one.blobs)}
        for blob in blobs:
            if blob and blob not in wanted:
                self.content.remove(blob)

    async def prune(self, *, dangling: bool, keep: Callable[[Image], bool]) -> tuple[list[Deleted], int]:
        """Removes images no container uses (`dangling`: only those without a name); what went, and how many bytes."""
        deleted: list[Deleted] = []
        freed = 0
        for image in self.all():
            if self.users(image.id) or (dangling and image.tags) or keep(image):
                continue
            for tag in image.tags:
                self._tags.delete(_key(Reference.parse(tag).tagged()))
                deleted.append(Deleted(untagged=tag))
            record = self._records.get(image.id)
            if record is not None:
                gone, bytes_ = await self._delete(record)
                deleted += gone
                freed += bytes_
        return deleted, freed

    def collect(self) -> None:
        """Removes blobs and layers that no image names: a crash or a failed load left them."""
        wanted = {blob for one in self._records.values() for blob in (one.id, one.manifest, *one.blobs)}
        for digest in self.content.digests():
            if digest not in wanted:
                self.content.remove(digest)
        chains = {chain_id(one.layers[: n + 1]) for one in self._records.values() for n in range(len(one.layers))}
        left = [record.key for record in self._snapshotter.all() if record.committed and record.key not in chains]
        while left:  # the topmost first: one with children is refused
            before, left = left, [key for key in left if not self._remove_layer(key)]
            if len(left) == len(before):
                return  # containers stand on them whose image was removed by force

    def _remove_layer(self, key: str) -> bool:
        try:
            self._snapshotter.remove(key)
        except Conflict:
            return False
        return True


def _key(reference: Reference) -> str:
    return f"{reference.name}:{reference.tag}"


def _layer_type(path: str) -> str:
    with open(path, "rb") as file:
        head = file.read(4)
    suffix = "+gzip" if head[:2] == b"\x1f\x8b" else "+zstd" if head == b"\x28\xb5\x2f\xfd" else ""
    return f"application/vnd.oci.image.layer.v1.tar{suffix}"


def decode_config(data: bytes) -> ImageConfig:
    """Raises InvalidParameter for what is no image configuration."""
    try:
        return msgspec.json.decode(data, type=ImageConfig)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise InvalidParameter(f"invalid image configuration: {error}") from error
