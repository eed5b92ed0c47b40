"""How the typed answers of the Engine API are written down, and the ones that belong to no subject.

The models in this room say exactly what goes over the wire. A field without a default is always there. `Maybe` is
left out when it is empty (Go's omitempty). `None` is what Go makes of a nil slice, map or pointer without omitempty.
Unknown fields are refused, so that what is sent without being modelled is noticed. `before` and `since` mark what
only some versions of the API have; everything else is version 1.51.

Source: the contract (Engine API v1.51) and dockerd's answers where it sends more than the contract says.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from kist.model.config import wire_name

T = TypeVar("T")
Maybe: TypeAlias = T | UnsetType
Strings: TypeAlias = list[str] | None
Labels: TypeAlias = dict[str, str] | None
Pairs: TypeAlias = list[tuple[str, str]]

# Names that neither snake_case -> PascalCase nor the request models' own table gives.
_EXCEPTIONS = {
    "image_id": "ImageID",
    "container_id": "ContainerID",
    "sandbox_id": "SandboxID",
    "node_id": "NodeID",
    "mac_address": "MacAddress",
    "exec_ids": "ExecIDs",
    "oom_killed": "OOMKilled",
    "rw": "RW",
    "ip": "IP",
    "link_local_ipv6_address": "LinkLocalIPv6Address",
    "link_local_ipv6_prefix_len": "LinkLocalIPv6PrefixLen",
    "secondary_ip_addresses": "SecondaryIPAddresses",
    "secondary_ipv6_addresses": "SecondaryIPv6Addresses",
    "root_fs": "RootFS",
    "enable_ipv4": "EnableIPv4",
    "enable_ipv6": "EnableIPv6",
    "ipam": "IPAM",
    "ip_range": "IPRange",
    "min_api_version": "MinAPIVersion",
    "cpu_shares": "CpuShares",
    "nfd": "NFd",
    "ngoroutines": "NGoroutines",
    "nevents_listener": "NEventsListener",
    "os_version": "OsVersion",
    "os_type": "OSType",
    "ncpu": "NCPU",
    "cdi_spec_dirs": "CDISpecDirs",
    "ipv4_forwarding": "IPv4Forwarding",
    "insecure_registry_cidrs": "InsecureRegistryCIDRs",
    "allow_nondistributable_artifacts_cidrs": "AllowNondistributableArtifactsCIDRs",
}


def go_name(field: str) -> str:
    """The name on the wire of an answer's field: `exec_ids` -> `ExecIDs`."""
    return _EXCEPTIONS.get(field) or wire_name(field)


def capital_id(field: str) -> str:
    """As `go_name`, for the objects whose `Id` is spelt `ID`."""
    return "ID" if field == "id" else go_name(field)


def before(version: str) -> msgspec.Meta:
    """Marks a field that answers to this version of the API, and to newer ones, no longer have."""
    return msgspec.Meta(extra={"before": version})


def since(version: str) -> msgspec.Meta:
    """Marks a field that answers to clients older than this version do not have."""
    return msgspec.Meta(extra={"since": version})


class Plain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object whose names on the wire are those of the fields."""


class Answer(Plain, frozen=True, kw_only=True, rename=go_name):
    """An object with Go's names."""


class Camel(Plain, frozen=True, kw_only=True, rename="camel"):
    """An object with names as `mediaType`."""


class Error(Plain, frozen=True, kw_only=True):
    """The body of every answer with a status of 400 or more (ErrorResponse)."""

    message: str


class Created(Answer, frozen=True, kw_only=True):
    """What was made: an exec, a committed image (IDResponse)."""

    id: str


class Authenticated(Answer, frozen=True, kw_only=True):
    """The answer of POST /auth."""

    status: str
    identity_token: Maybe[str] = UNSET


# --- progress ---


class ErrorDetail(Plain, frozen=True, kw_only=True):
    message: str
    code: Maybe[int] = UNSET


class ProgressDetail(Camel, frozen=True, kw_only=True):
    current: Maybe[int] = UNSET
    total: Maybe[int] = UNSET
    start: Maybe[int] = UNSET
    hidecounts: Maybe[bool] = UNSET
    units: Maybe[str] = UNSET


class Progress(Camel, frozen=True, kw_only=True):
    """One message of pull, push, load, import, build (CreateImageInfo, PushImageInfo, BuildInfo)."""

    stream: Maybe[str] = UNSET
    status: Maybe[str] = UNSET
    progress_detail: Maybe[ProgressDetail] = UNSET
    progress: Maybe[str] = UNSET
    id: Maybe[str] = UNSET
    error_detail: Maybe[ErrorDetail] = UNSET
    error: Maybe[str] = UNSET
    aux: Maybe[dict[str, object]] = UNSET


# --- descriptors of the OCI, which images and containers carry ---


class OCIPlatform(Plain, frozen=True, kw_only=True, rename={"os_version": "os.version", "os_features": "os.features"}):
    architecture: str
    os: str
    os_version: Maybe[str] = UNSET
    os_features: Maybe[list[str]] = UNSET
    variant: Maybe[str] = UNSET


class Descriptor(Camel, frozen=True, kw_only=True):
    """A descriptor of the OCI image specification."""

    media_type: str
    digest: str
    size: int
    urls: Maybe[list[str]] = UNSET
    annotations: Maybe[dict[str, str]] = UNSET
    data: Maybe[str] = UNSET
    platform: Maybe[OCIPlatform] = UNSET
    artifact_type: Maybe[str] = UNSET
