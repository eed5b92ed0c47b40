"""Answers about networks and volumes."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET

from kist.wire.answer import Answer, Labels, Maybe, Strings


class EndpointIPAMConfig(Answer, frozen=True, kw_only=True):
    ipv4_address: Maybe[str] = UNSET
    ipv6_address: Maybe[str] = UNSET
    link_local_ips: Maybe[list[str]] = UNSET


class EndpointSettings(Answer, frozen=True, kw_only=True):
    ipam_config: EndpointIPAMConfig | None
    links: Strings
    aliases: Strings
    mac_address: str
    driver_opts: Labels
    gw_priority: int
    network_id: str
    endpoint_id: str
    gateway: str
    ip_address: str
    ip_prefix_len: int
    ipv6_gateway: str
    global_ipv6_address: str
    global_ipv6_prefix_len: int
    dns_names: Strings


class IPAMConfig(Answer, frozen=True, kw_only=True):
    subnet: Maybe[str] = UNSET
    ip_range: Maybe[str] = UNSET
    gateway: Maybe[str] = UNSET
    auxiliary_addresses: Maybe[dict[str, str]] = UNSET


class IPAM(Answer, frozen=True, kw_only=True):
    driver: str
    options: Labels
    config: list[IPAMConfig] | None


class ConfigReference(Answer, frozen=True, kw_only=True):
    network: str


class NetworkContainer(Answer, frozen=True, kw_only=True):
    name: str
    endpoint_id: str
    mac_address: str
    ipv4_address: str
    ipv6_address: str


class Peer(Answer, frozen=True, kw_only=True):
    name: str
    ip: str


class Network(Answer, frozen=True, kw_only=True):
    """The answer of GET /networks/{id}, and one element of the list."""

    name: str
    id: str
    created: str
    scope: str
    driver: str
    enable_ipv4: bool
    enable_ipv6: bool
    ipam: IPAM
    internal: bool
    attachable: bool
    ingress: bool
    config_from: ConfigReference
    config_only: bool
    containers: dict[str, NetworkContainer]
    options: Labels
    labels: Labels
    peers: Maybe[list[Peer]] = UNSET


class NetworkCreated(Answer, frozen=True, kw_only=True):
    id: str
    warning: str


class NetworksPruned(Answer, frozen=True, kw_only=True):
    networks_deleted: Strings


# --- volumes ---


class VolumeUsage(Answer, frozen=True, kw_only=True):
    """-1 for what is not known."""

    ref_count: int
    size: int


class Volume(Answer, frozen=True, kw_only=True):
    """The answer of GET /volumes/{name}; `usage_data` only in /system/df."""

    created_at: Maybe[str] = UNSET
    driver: str
    labels: Labels
    mountpoint: str
    name: str
    options: Labels
    scope: Literal["local", "global"]
    status: Maybe[dict[str, object]] = UNSET
    usage_data: Maybe[VolumeUsage] = UNSET


class Volumes(Answer, frozen=True, kw_only=True):
    """The answer of GET /volumes (VolumeListResponse)."""

    volumes: list[Volume]
    warnings: Strings


class VolumesPruned(Answer, frozen=True, kw_only=True):
    volumes_deleted: Strings
    space_reclaimed: int
