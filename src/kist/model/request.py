"""What a client asks of a container where that takes more than a word."""

from __future__ import annotations

import msgspec

from kist.model.config import ContainerConfig
from kist.model.reference import Reference


class AttachRequest(msgspec.Struct, frozen=True):
    """`keys`: what detaches, in Docker's words. `past`: the log comes first. `leftover`: input read with the head."""

    stdin: bool
    stdout: bool
    stderr: bool
    keys: str = ""
    past: bool = False
    multiplexed: bool = True
    leftover: bytes = b""


class CommitRequest(msgspec.Struct, frozen=True):
    """`config` replaces the container's own; what it leaves open is filled from that."""

    config: ContainerConfig | None = None
    changes: tuple[str, ...] = ()
    name: Reference | None = None
    author: str = ""
    comment: str = ""
    pause: bool = True


class PoolRequest(msgspec.Struct, frozen=True):
    """A subnet as it is asked for: texts, checked by whoever plans the network."""

    subnet: str = ""
    range: str = ""
    gateway: str = ""
    auxiliary: dict[str, str] | None = None


class NetworkRequest(msgspec.Struct, frozen=True):
    """A network that is to be. `ipv4` and `ipv6` None: as its driver options say, or IPv4 alone."""

    name: str
    driver: str = "bridge"
    scope: str = ""
    ipv4: bool | None = None
    ipv6: bool | None = None
    pools: tuple[PoolRequest, ...] = ()
    ipam_driver: str = "default"
    ipam_options: dict[str, str] | None = None
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: str = ""
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
