"""Answers about images."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET

from kist.wire.answer import Answer, Descriptor, Labels, Maybe, OCIPlatform, Plain, Strings, before, capital_id
from kist.wire.configs import ContainerConfig, Empty, HealthConfig
from kist.wire.containers import DriverData

_Old: TypeAlias = Annotated[Maybe[str], before("1.50")]
_OldFlag: TypeAlias = Annotated[Maybe[bool], before("1.50")]


class ImageConfig(Answer, frozen=True, kw_only=True):
    """What of a container's configuration an image has. Before 1.50 the other fields were there and empty."""

    user: str
    exposed_ports: Maybe[Empty] = UNSET
    env: Strings
    cmd: Strings
    healthcheck: Maybe[HealthConfig] = UNSET
    args_escaped: Maybe[bool] = UNSET
    volumes: Empty | None
    working_dir: str
    entrypoint: Strings
    on_build: Strings
    labels: Labels
    stop_signal: Maybe[str] = UNSET
    shell: Maybe[list[str]] = UNSET
    hostname: _Old = UNSET
    domainname: _Old = UNSET
    image: _Old = UNSET
    attach_stdin: _OldFlag = UNSET
    attach_stdout: _OldFlag = UNSET
    attach_stderr: _OldFlag = UNSET
    tty: _OldFlag = UNSET
    open_stdin: _OldFlag = UNSET
    stdin_once: _OldFlag = UNSET


class RootFS(Answer, frozen=True, kw_only=True):
    type: str
    layers: Maybe[list[str]] = UNSET


class Metadata(Answer, frozen=True, kw_only=True):
    last_tag_time: str


class ManifestSize(Answer, frozen=True, kw_only=True):
    total: int
    content: int


class UnpackedSize(Answer, frozen=True, kw_only=True):
    unpacked: int


class ManifestImageData(Answer, frozen=True, kw_only=True):
    platform: OCIPlatform
    containers: Strings
    size: UnpackedSize


class AttestationData(Plain, frozen=True, kw_only=True, rename={"for_": "For"}):
    for_: str


class ManifestSummary(Answer, frozen=True, kw_only=True, rename=capital_id):
    """One manifest of an image with several; only image stores that keep them tell of these."""

    id: str
    descriptor: Descriptor
    available: bool
    size: ManifestSize
    kind: Literal["image", "attestation", "unknown"]
    image_data: Maybe[ManifestImageData] = UNSET
    attestation_data: Maybe[AttestationData] = UNSET


class ImageInspect(Answer, frozen=True, kw_only=True):
    """The answer of GET /images/{name}/json."""

    id: str
    descriptor: Maybe[Descriptor] = UNSET
    manifests: Maybe[list[ManifestSummary]] = UNSET
    repo_tags: list[str]
    repo_digests: list[str]
    parent: str
    comment: str
    created: Maybe[str] = UNSET
    docker_version: str
    author: str
    config: ImageConfig
    architecture: str
    variant: Maybe[str] = UNSET
    os: str
    os_version: Maybe[str] = UNSET
    size: int
    graph_driver: DriverData
    root_fs: RootFS
    metadata: Metadata
    virtual_size: Annotated[Maybe[int], before("1.44")] = UNSET
    container: Annotated[Maybe[str], before("1.45")] = UNSET
    container_config: Annotated[Maybe[ContainerConfig], before("1.45")] = UNSET


class ImageSummary(Answer, frozen=True, kw_only=True):
    """One element of GET /images/json. -1 for what was not asked."""

    id: str
    parent_id: str
    repo_tags: list[str]
    repo_digests: list[str]
    created: int
    size: int
    shared_size: int
    labels: Labels
    containers: int
    manifests: Maybe[list[ManifestSummary]] = UNSET
    descriptor: Maybe[Descriptor] = UNSET
    virtual_size: Annotated[Maybe[int], before("1.44")] = UNSET


class HistoryEntry(Answer, frozen=True, kw_only=True):
    id: str
    created: int
    created_by: str
    tags: Strings
    size: int
    comment: str


class ImageDeleted(Answer, frozen=True, kw_only=True):
    """One of the two is there."""

    untagged: Maybe[str] = UNSET
    deleted: Maybe[str] = UNSET


class ImagesPruned(Answer, frozen=True, kw_only=True):
    images_deleted: list[ImageDeleted] | None
    space_reclaimed: int


class SearchResult(Plain, frozen=True, kw_only=True):
    description: str
    is_official: bool
    is_automated: bool
    name: str
    star_count: int


class Distribution(Answer, frozen=True, kw_only=True):
    """The answer of GET /distribution/{name}/json."""

    descriptor: Descriptor
    platforms: list[OCIPlatform] | None


class BuildsPruned(Answer, frozen=True, kw_only=True):
    caches_deleted: Strings
    space_reclaimed: int
