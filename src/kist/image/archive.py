"""Images in files: docker-archive and OCI image layout, in and out (`load`, `save`), and plain root trees (`import`).

An archive is read once, as a stream: each member becomes a blob while it passes, and the manifests are read when all
is there. What no manifest names is removed again.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import msgspec

from kist.image.compression import decompressed
from kist.image.service import host_architecture
from kist.model.config import ContainerConfig
from kist.model.digest import plain
from kist.model.errors import InvalidParameter
from kist.model.image import HistoryEntry, Image, ImageConfig, Index, Manifest, RootFS
from kist.model.reference import Reference
from kist.model.timestamp import rfc3339
from kist.snapshot.headers import Header
from kist.store.content import ContentStore

_SMALL = 4 << 20  # metadata larger than this is refused
_CHUNK = 1 << 20
_BLOBS = "blobs/sha256/"
_DEPTH = 4  # an index of indexes; more is a loop
_REF = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"


class LoadedImage(msgspec.Struct, frozen=True):
    """One image of an archive: blobs are in the content store."""

    config: bytes
    layers: tuple[str, ...]
    tags: tuple[str, ...]
    manifest: str = ""


class _ManifestEntry(msgspec.Struct, rename="pascal"):
    """One element of a docker-archive's manifest.json."""

    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


class _Contents:
    """Members of an archive as blobs, by name."""

    def __init__(self, content: ContentStore) -> None:
        self.content = content
        self.blobs: dict[str, str] = {}
        self.links: dict[str, str] = {}

    def read_all(self, stream: BinaryIO) -> None:
        try:
            with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 18, tarinfo=Header) as archive:
                for member in archive:
                    name = member.name.removeprefix("./").strip("/")
                    if member.isreg():
                        self.blobs[name] = self._ingest(archive, member)
                    elif member.issym() or member.islnk():
                        self.links[name] = _join(name, member.linkname) if member.issym() else member.linkname
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise InvalidParameter(f"invalid archive: {error}") from error

    def _ingest(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
        if member.issparse():  # small, and as large as it likes
            raise InvalidParameter(f"invalid archive: {member.name} is a sparse file")
        reader = archive.extractfile(member)
        assert reader is not None
        with self.content.ingest() as ingest:
            while chunk := reader.read(_CHUNK):
                ingest.write(chunk)
            return ingest.commit()

    def digest(self, name: str) -> str:
        """Raises InvalidParameter when a manifest names what the archive does not hold."""
        target = self.links.get(name, name)
        found = self.blobs.get(target)
        if found is None:
            raise InvalidParameter(f"invalid archive: {name} is not in it")
        if name.startswith(_BLOBS) and found != f"sha256:{name.removeprefix(_BLOBS)}":
            raise InvalidParameter(f"invalid archive: the digest of {name} is {found}")
        return found

    def read(self, name: str) -> bytes:
        digest = self.digest(name)
        if self.content.size(digest) > _SMALL:
            raise InvalidParameter(f"invalid archive: {name} is larger than {_SMALL} bytes")
        return self.content.read(digest)


def _join(name: str, link: str) -> str:
    parts = name.split("/")[:-1]
    for part in link.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def read_archive(stream: BinaryIO, content: ContentStore) -> list[LoadedImage]:
    """The images of an archive, compressed or not. Raises InvalidParameter; blobs that nothing names are removed."""
    contents = _Contents(content)
    images: list[LoadedImage] = []
    present = set(content.digests())
    try:
        contents.read_all(decompressed(stream))
        if "manifest.json" in contents.blobs:
            images = _docker_archive(contents)
        elif "index.json" in contents.blobs:
            images = _layout(contents)
        else:
            raise InvalidParameter("invalid archive: it has neither manifest.json nor index.json")
    finally:
        wanted = {layer for image in images for layer in image.layers} | {image.manifest for image in images}
        for digest in set(contents.blobs.values()) - wanted - present:
            content.remove(digest)
    return images


def _docker_archive(contents: _Contents) -> list[LoadedImage]:
    try:
        entries = msgspec.json.decode(contents.read("manifest.json"), type=list[_ManifestEntry])
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise InvalidParameter(f"invalid archive: manifest.json: {error}") from error
    return [
        LoadedImage(
            config=contents.read(entry.config),
            layers=tuple(contents.digest(layer) for layer in entry.layers),
            tags=tuple(entry.repo_tags or ()),
        )
        for entry in entries
    ]


def _layout(contents: _Contents) -> list[LoadedImage]:
    index = _decode_index(contents.read("index.json"))
    found = []
    for descriptor in index.manifests:
        annotations = descriptor.annotations or {}
        name = annotations.get(_CONTAINERD_NAME) or annotations.get(_REF, "")
        tags = (name,) if "/" in name or ":" in name else ()
        found += _manifests(contents, descriptor.digest, tags)
    return found


def _manifests(contents: _Contents, digest: str, tags: tuple[str, ...], depth: int = 0) -> list[LoadedImage]:
    if depth > _DEPTH:
        raise InvalidParameter(f"invalid archive: more than {_DEPTH} indexes lead to {digest}")
    data = contents.read(_blob_name(digest))
    if b'"manifests"' in data:
        index = _decode_index(data)
        ours = [
            one
            for one in index.manifests
            if one.platform is None or one.platform.architecture in ("", host_architecture())
        ]
        return [image for one in ours[:1] for image in _manifests(contents, one.digest, tags, depth + 1)]
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise InvalidParameter(f"invalid archive: manifest {digest}: {error}") from error
    return [
        LoadedImage(
            config=contents.read(_blob_name(manifest.config.digest)),
            layers=tuple(contents.digest(_blob_name(layer.digest)) for layer in manifest.layers),
            tags=tags,
            manifest=contents.digest(_blob_name(digest)),
        )
    ]


def _decode_index(data: bytes) -> Index:
    try:
        return msgspec.json.decode(data, type=Index)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise InvalidParameter(f"invalid archive: index: {error}") from error


def _blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def write_archive(images: list[tuple[Image, tuple[str, ...], list[str]]], content: ContentStore) -> Iterator[bytes]:
    """A tar that is both a docker-archive and an OCI layout. Images come with layer blobs and tags to name."""
    entries: list[dict[str, Any]] = []
    descriptors: list[dict[str, Any]] = []
    written: set[str] = set()
    yield _member("blobs/", b"", directory=True)
    yield _member("blobs/sha256/", b"", directory=True)
    for image, blobs, tags in images:
        manifest = str(image.manifest)
        for digest in (image.id, manifest, *blobs):
            if digest not in written:
                written.add(digest)
                yield from _blob(content, digest)
        entries.append(
            {
                "Config": _blob_name(image.id),
                "RepoTags": tags or None,
                "Layers": [_blob_name(blob) for blob in blobs],
            }
        )
        base = {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": manifest,
            "size": content.size(manifest),
        }
        for tag in tags:
            reference = Reference.parse(tag)
            names = {_CONTAINERD_NAME: f"{reference.name}:{reference.tag}", _REF: reference.tag}
            descriptors.append({**base, "annotations": names})
        if not tags:
            descriptors.append(base)
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": descriptors}
    yield _member("index.json", msgspec.json.encode(index, enc_hook=plain))
    yield _member("manifest.json", msgspec.json.encode(entries, enc_hook=plain))
    yield _member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield b"\0" * 1024


def _header(name: str, size: int, *, directory: bool = False) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o755 if directory else 0o644
    info.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
    return info.tobuf(tarfile.PAX_FORMAT)


def _member(name: str, data: bytes, *, directory: bool = False) -> bytes:
    return _header(name, len(data), directory=directory) + data + b"\0" * (-len(data) % 512)


def _blob(content: ContentStore, digest: str) -> Iterator[bytes]:
    size = content.size(digest)
    yield _header(_blob_name(digest), size)
    with open(content.path(digest), "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
    yield b"\0" * (-size % 512)


def import_root(
    stream: BinaryIO, content: ContentStore, config: ContainerConfig, comment: str, created_by: str = ""
) -> LoadedImage:
    """An image of one layer from the tar of a root tree, compressed or not; the layer is kept uncompressed."""
    plain = decompressed(stream)
    with content.ingest() as ingest:
        while chunk := plain.read(_CHUNK):
            ingest.write(chunk)
        if ingest.size < 1024:
            raise InvalidParameter("the archive is empty")
        layer = ingest.commit()
    return LoadedImage(config=encode_config(single_layer(layer, config, comment, created_by)), layers=(layer,), tags=())


def single_layer(diff_id: str, config: ContainerConfig, comment: str, created_by: str) -> ImageConfig:
    now = rfc3339()
    return ImageConfig(
        architecture=host_architecture(),
        os="linux",
        created=now,
        config=config,
        rootfs=RootFS(diff_ids=[diff_id]),
        history=[HistoryEntry(created=now, created_by=created_by, comment=comment)],
        comment=comment,
    )


def encode_config(config: ImageConfig) -> bytes:
    """The configuration blob; what has no value is left out, as other engines write it."""
    data = cast(dict[str, Any], msgspec.to_builtins(config, enc_hook=plain))
    kept = {key: value for key, value in data.items() if value not in ("", None) or key in ("architecture", "os")}
    if isinstance(kept.get("config"), dict):
        kept["config"] = {key: value for key, value in kept["config"].items() if value not in ("", None, False)}
    return msgspec.json.encode(kept)
