"""Images as they are written down: descriptors, manifests, configurations (OCI image spec, Docker image spec v1.2)."""

from __future__ import annotations

import msgspec

from kist.model.config import ContainerConfig
from kist.model.digest import Digest

MEDIA_TYPE_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_TYPE_OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_TYPE_OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_TYPE_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
MEDIA_TYPE_OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
MEDIA_TYPE_OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
MEDIA_TYPE_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MEDIA_TYPE_DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_TYPE_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
MEDIA_TYPE_DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Platform(msgspec.Struct, frozen=True, omit_defaults=True, rename={"os_version": "os.version"}):
    architecture: str = ""
    os: str = ""
    os_version: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] | None = None
    artifact_type: str = ""


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    config: Descriptor
    layers: list[Descriptor]
    schema_version: int = 2
    media_type: str = ""
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    manifests: list[Descriptor]
    schema_version: int = 2
    media_type: str = ""
    annotations: dict[str, str] | None = None


class RootFS(msgspec.Struct, frozen=True):
    type: str = "layers"
    diff_ids: list[str] = []


class HistoryEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, frozen=True, rename={"os_version": "os.version", "os_features": "os.features"}):
    """The configuration blob of an image; its digest is the image's id. `config` keeps Docker's field names."""

    architecture: str = ""
    os: str = ""
    created: str | None = None
    author: str = ""
    config: ContainerConfig | None = None
    rootfs: RootFS = RootFS()
    history: list[HistoryEntry] | None = None
    variant: str = ""
    os_version: str = ""
    os_features: list[str] | None = None
    docker_version: str = ""
    comment: str = ""
    container: str = ""
    parent: str = ""


class Image(msgspec.Struct, frozen=True):
    """An image of this engine: what the image store answers and containers are made from."""

    id: Digest  # digest of the configuration blob
    config: ImageConfig
    manifest: Digest | None  # digest of the manifest blob it was loaded or pulled with
    size: int  # bytes of all layers, unpacked
    tags: tuple[str, ...] = ()  # familiar names with tag: "busybox:latest"
    repo_digests: tuple[str, ...] = ()  # "busybox@sha256:…"
    snapshot: str = ""  # key of the committed snapshot that is the whole root file system ("" for no layers)
    tagged_at: str = ""  # RFC 3339, when the newest tag was set
    layers: tuple[str, ...] = ()  # diff ids, lowest first

    @property
    def container_config(self) -> ContainerConfig:
        return self.config.config or ContainerConfig()
