"""What differs between versions of the API, in one place. Everything else in this folder speaks the newest.

Requests of an older client are brought to today's meaning before they are carried out, answers to it are brought back.
Source: the version history in Docker's documentation, and the answers of engines of those versions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from kist.http.server import Request
from kist.model.config import (
    BindOptions,
    ContainerConfig,
    EndpointSettings,
    ExecConfig,
    HostConfig,
    MountRequest,
    VolumeOptions,
)
from kist.model.errors import InvalidParameter

API_VERSION, MINIMUM_VERSION = "1.51", "1.24"
Endpoints = dict[str, EndpointSettings] | None
_replace = msgspec.structs.replace

# Fields of an image's configuration that answers always had, empty or not.
_IMAGE_CONFIG = ("Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir")
_IMAGE_CONFIG_BEFORE_1_50 = (
    *_IMAGE_CONFIG, "AttachStderr", "AttachStdin", "AttachStdout", "Domainname", "Hostname", "Image", "OpenStdin",
    "StdinOnce", "Tty",
)  # fmt: skip
_IMAGE_CONFIG_OTHER = ("ExposedPorts", "StopSignal", "ArgsEscaped", "Healthcheck", "Shell")


def number(version: str) -> tuple[int, int]:
    """`1.41` as (1, 41)."""
    major, _, minor = version.partition(".")
    return int(major), int(minor)


def at_least(request: Request, version: str) -> bool:
    """Whether the client speaks this version or a newer one."""
    return number(request.version) >= number(version)


def check_version(version: str) -> None:
    """Raises InvalidParameter with Docker's texts for what is not served."""
    if number(version) < number(MINIMUM_VERSION):
        raise InvalidParameter(
            f"client version {version} is too old. Minimum supported API version is {MINIMUM_VERSION}, "
            f"please upgrade your client to a newer version"
        )
    if number(version) > number(API_VERSION):
        raise InvalidParameter(f"client version {version} is too new. Maximum supported API version is {API_VERSION}")


# --- streams ---


def stream_type(request: Request, *, tty: bool) -> str:
    """The media type of attach, exec and logs: before 1.42 nothing told the framed form from the plain one."""
    kind = "raw" if tty or not at_least(request, "1.42") else "multiplexed"
    return f"application/vnd.docker.{kind}-stream"


# --- requests ---


def create(
    request: Request, config: ContainerConfig, host: HostConfig, endpoints: Endpoints
) -> tuple[ContainerConfig, HostConfig, Endpoints, list[str]]:
    """A request to create a container in today's terms, and warnings. Raises InvalidParameter."""
    host = _create_host(request, host)
    host = _replace(host, mounts=_create_mounts(request, host.mounts))
    if not at_least(request, "1.44"):
        if config.healthcheck is not None:
            config = _replace(config, healthcheck=_replace(config.healthcheck, start_interval=0))
        if len(endpoints or ()) > 1:
            raise InvalidParameter(
                f"Container cannot be created with multiple network endpoints: {', '.join(endpoints or ())}"
            )
    if not at_least(request, "1.48") and endpoints:
        endpoints = {name: _replace(one, gw_priority=0) for name, one in endpoints.items()}
    return _mac_address(request, config, host, endpoints)


def _create_host(request: Request, host: HostConfig) -> HostConfig:
    if not at_least(request, "1.25"):
        host = _replace(host, auto_remove=False)  # these clients remove the container themselves
    if not at_least(request, "1.40"):
        host = _replace(host, kernel_memory_tcp=0, ipc_mode=host.ipc_mode or "shareable")
    if not at_least(request, "1.42"):
        host = _replace(host, console_size=None)
    else:
        host = _replace(host, kernel_memory=0)
    if not at_least(request, "1.43"):
        host = _replace(host, annotations=None)
    if host.pids_limit is not None and host.pids_limit <= 0:
        host = _replace(host, pids_limit=None)
    return host


def _create_mounts(request: Request, mounts: list[MountRequest] | None) -> list[MountRequest] | None:
    return None if mounts is None else [_create_mount(request, one) for one in mounts]


def _create_mount(request: Request, mount: MountRequest) -> MountRequest:
    bind: BindOptions | None = mount.bind_options
    volume: VolumeOptions | None = mount.volume_options
    if bind is not None:
        if not at_least(request, "1.40"):
            bind = _replace(bind, non_recursive=False)
        if not at_least(request, "1.42"):
            bind = _replace(bind, create_mountpoint=False)
        if not at_least(request, "1.44") and mount.type == "bind" and bind.read_only_force_recursive:
            raise InvalidParameter("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
    if not at_least(request, "1.44") and mount.type == "bind" and mount.read_only:
        bind = _replace(bind or BindOptions(), read_only_non_recursive=True)  # all read-only mounts were, then
    if not at_least(request, "1.42"):
        volume = volume if mount.type == "volume" else None
        mount = _replace(mount, tmpfs_options=mount.tmpfs_options if mount.type == "tmpfs" else None)
    else:
        for name, options, kind in (
            ("VolumeOptions", volume, "volume"),
            ("BindOptions", mount.bind_options, "bind"),
            ("TmpfsOptions", mount.tmpfs_options, "tmpfs"),
        ):
            if options is not None and mount.type != kind:
                raise InvalidParameter(f'{name} must not be specified on mount type "{mount.type}"')
    if not at_least(request, "1.45") and volume is not None and volume.subpath:
        raise InvalidParameter("VolumeOptions.Subpath needs API v1.45 or newer")
    if not at_least(request, "1.48") and mount.type == "image":
        raise InvalidParameter('Mount type "Image" needs API v1.48 or newer')
    return _replace(mount, bind_options=bind, volume_options=volume)


def _mac_address(
    request: Request, config: ContainerConfig, host: HostConfig, endpoints: Endpoints
) -> tuple[ContainerConfig, HostConfig, Endpoints, list[str]]:
    """The address was the container's before 1.44; it is the endpoint's now."""
    address = config.mac_address
    old = not at_least(request, "1.44")
    if not address:
        if old and endpoints:
            endpoints = {name: _replace(one, mac_address="") for name, one in endpoints.items()}
        return config, host, endpoints, []
    mode = host.network_mode or "default"
    private = mode not in ("host", "none") and not mode.startswith("container:")
    if old and not private:
        raise InvalidParameter("conflicting options: mac-address and the network mode")
    if private:
        found = dict(endpoints or {})
        key = next(iter(found), mode)
        known = found.get(key, EndpointSettings())
        if not old and known.mac_address not in ("", address):
            raise InvalidParameter(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, "
                "or be left empty"
            )
        found[key] = _replace(known, mac_address=address)
        endpoints = found
    if old:
        return config, host, endpoints, []
    warning = (
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
    )
    return _replace(config, mac_address=""), host, endpoints, [warning]


def exec_create(request: Request, config: ExecConfig) -> ExecConfig:
    return config if at_least(request, "1.42") else _replace(config, console_size=None)


def exec_console_size(request: Request, size: tuple[int, int] | None) -> tuple[int, int] | None:
    return size if at_least(request, "1.42") else None


def stop_signal(request: Request) -> str:
    """The `signal` of stop and restart, which came with 1.42."""
    return request.query.get("signal", "") if at_least(request, "1.42") else ""


def wait_condition(request: Request) -> str:
    """The `condition` of wait, which came with 1.30."""
    asked = request.query.get("condition", "") if at_least(request, "1.30") else ""
    return asked or "not-running"


def image_references(request: Request) -> list[str]:
    """The parameter `filter` of the image list, a pattern, before it became `filters={"reference": …}` in 1.41."""
    pattern = request.query.get("filter", "")
    return [pattern] if pattern and not at_least(request, "1.41") else []


def usage_types(request: Request) -> frozenset[str]:
    """What /system/df is to tell; `type` came with 1.42."""
    asked = request.query_lists.get("type", []) if at_least(request, "1.42") else []
    known = frozenset({"container", "image", "volume", "build-cache"})
    for one in asked:
        if one not in known:
            raise InvalidParameter(f"unknown object type: {one}")
    return frozenset(asked) or known


def prunes_named_volumes(request: Request) -> bool:
    """Before 1.42 pruning took every unused volume, since then only anonymous ones."""
    return not at_least(request, "1.42")


# --- answers ---


def container_summary(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    if not at_least(request, "1.46"):
        data["HostConfig"].pop("Annotations", None)
    return data


def image_summary(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    if not at_least(request, "1.43") and not data["RepoTags"] and not data["RepoDigests"]:
        data |= {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}
    if not at_least(request, "1.44"):
        data["VirtualSize"] = data["Size"]
    if not at_least(request, "1.51"):
        data["Containers"] = -1
    return data


def image_inspect(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """`data` holds every field any version had."""
    always = _IMAGE_CONFIG if at_least(request, "1.50") else _IMAGE_CONFIG_BEFORE_1_50
    config = data["Config"]
    data["Config"] = {key: config.get(key) for key in always} | _present(config, _IMAGE_CONFIG_OTHER)
    if at_least(request, "1.44"):
        del data["VirtualSize"]
        if not data["Created"]:
            del data["Created"]
    elif not data["Created"]:
        data["Created"] = "0001-01-01T00:00:00Z"
    if at_least(request, "1.45"):
        del data["Container"], data["ContainerConfig"]
    return data


def _present(config: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {key: config[key] for key in names if config.get(key)}


def usage(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    if not at_least(request, "1.44"):
        for image in data["Images"] or ():
            image["VirtualSize"] = image["Size"]
    return data


def info(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    if not at_least(request, "1.25"):
        data["SecurityOptions"] = [one.removeprefix("name=").partition(",")[0] for one in data["SecurityOptions"]]
    if not at_least(request, "1.47"):
        nothing = {"AllowNondistributableArtifactsCIDRs": None, "AllowNondistributableArtifactsHostnames": None}
        data["RegistryConfig"] = {**data["RegistryConfig"], **nothing}
    if not at_least(request, "1.49"):
        del data["FirewallBackend"]
        for key in ("ContainerdCommit", "RuncCommit", "InitCommit"):
            data[key] = {**data[key], "Expected": data[key]["ID"]}
    if not at_least(request, "1.50"):
        data |= {"BridgeNfIptables": False, "BridgeNfIp6tables": False}
    return data


def event_is_told(request: Request, kind: str, action: str) -> bool:
    """Events of made images came with 1.46."""
    return at_least(request, "1.46") or (kind, action) != ("image", "create")
