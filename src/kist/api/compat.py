"""What differs between versions of the API, in one place. Everything else in this folder speaks the newest.

Requests of an older client are brought to today's meaning before they are carried out, answers to it are brought back.
Source: the version history in Docker's documentation, and the answers of engines of those versions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from kist.http.server import Request
from kist.model import endpoint_sysctls
from kist.model.config import (
    BindOptions,
    ContainerConfig,
    EndpointSettings,
    ExecConfig,
    HostConfig,
    MountRequest,
    VolumeOptions,
)
from kist.model.errors import InvalidParameter, KistError

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


def number(version: str) -> tuple[int, ...]:
    """`1.41` as (1, 41), compared as dockerd does: what is no number is 0, and 1.41.0 is 1.41."""
    # int() takes a few thousand digits at most
    found = [int(part[-9:] or "0") + len(part[:-9].strip("0")) * 10**9 for part in version.split(".")]
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)


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


def websocket_has_all(request: Request) -> bool:
    """Before 1.42 an attach by websocket was always to all three streams."""
    return not at_least(request, "1.42")


def websocket_is_binary(request: Request) -> bool:
    """Before 1.28 output came in text frames."""
    return at_least(request, "1.28")


RAW_STREAM, FRAMED_STREAM = "application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"


def stream_type(request: Request, *, tty: bool) -> str:
    """The media type of attach, exec and logs: before 1.42 nothing told the framed form from the plain one."""
    return RAW_STREAM if tty or not at_least(request, "1.42") else FRAMED_STREAM


def hijack_type(request: Request, *, tty: bool) -> str:
    """The same for attach and exec, where a client that asked for no upgrade is always told `raw`, framed or not."""
    return stream_type(request, tty=tty) if "upgrade" in request.headers else RAW_STREAM


def is_plain_error(version: str) -> bool:
    """Clients older than what is served do not know errors as JSON: they are told in plain text."""
    return bool(version) and number(version) < number(MINIMUM_VERSION)


# --- requests ---


def create(
    request: Request,
    config: ContainerConfig,
    host: HostConfig,
    endpoints: Endpoints,
    *,
    cgroup2: bool,
    default_network: str = "bridge",
) -> tuple[ContainerConfig, HostConfig, Endpoints, list[str]]:
    """A request to create a container in today's terms, and warnings. Raises InvalidParameter."""
    if host.network_mode in ("", "default"):
        host = _replace(host, network_mode=default_network)
        endpoints = {(default_network if name == "default" else name): one for name, one in (endpoints or {}).items()}
    host = _create_host(request, host, cgroup2)
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
    warnings = _volume_driver(request, host)
    config, endpoints, warned = _mac_address(request, config, host, endpoints)
    warnings += warned
    host, endpoints, warned = _interface_sysctls(request, host, endpoints)
    return config, host, endpoints, warnings + warned


def update(request: Request, asked: HostConfig) -> HostConfig:
    """A request to update a container in today's terms."""
    if not at_least(request, "1.40"):
        asked = _replace(asked, pids_limit=None)
    return _replace(asked, kernel_memory=0) if at_least(request, "1.42") else asked


def _create_host(request: Request, host: HostConfig, cgroup2: bool) -> HostConfig:
    if not at_least(request, "1.25"):
        host = _replace(host, auto_remove=False)  # these clients remove the container themselves
    if not at_least(request, "1.40"):
        host = _replace(host, kernel_memory_tcp=0, ipc_mode=host.ipc_mode or "shareable")
    if not at_least(request, "1.41") and not cgroup2:
        host = _replace(host, cgroupns_mode=host.cgroupns_mode or "host")
    if not at_least(request, "1.42"):
        host = _replace(host, console_size=None)
    else:
        host = _replace(host, kernel_memory=0)
    if not at_least(request, "1.43"):
        host = _replace(host, annotations=None)
    if host.pids_limit is not None and host.pids_limit <= 0:
        host = _replace(host, pids_limit=None)
    return host


def _volume_driver(request: Request, host: HostConfig) -> list[str]:
    """A warning that the command gave itself before 1.48."""
    if not host.volume_driver or not at_least(request, "1.48"):
        return []
    for mount in host.mounts or ():
        options = mount.volume_options
        named = options is not None and options.driver_config is not None and options.driver_config.name
        if mount.type == "volume" and not named:
            return [
                "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via "
                "'mount'. Use '--mount type=volume,volume-driver=...' instead"
            ]
    return []


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
) -> tuple[ContainerConfig, Endpoints, list[str]]:
    """The address was the container's before 1.44; it is the endpoint's now."""
    address = config.mac_address
    old = not at_least(request, "1.44")
    if not address:
        if old and endpoints:
            endpoints = {name: _replace(one, mac_address="") for name, one in endpoints.items()}
        return config, endpoints, []
    mode = host.network_mode
    private = mode not in ("host", "none") and not mode.startswith("container:")
    if old and not private:
        raise InvalidParameter("conflicting options: mac-address and the network mode")
    if private:
        try:
            key = _main_endpoint(request, mode, endpoints)
        except InvalidParameter as error:
            raise InvalidParameter(
                f"unable to migrate container-wide MAC address to a specific network: {error.message}"
            ) from error
        known = (endpoints or {}).get(key, EndpointSettings())
        if not old and known.mac_address not in ("", address):
            raise InvalidParameter(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, "
                "or be left empty"
            )
        endpoints = {**(endpoints or {}), key: _replace(known, mac_address=address)}
    if old:
        return config, endpoints, []
    warning = (
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
    )
    return _replace(config, mac_address=""), endpoints, [warning]


def _main_endpoint(request: Request, mode: str, endpoints: Endpoints) -> str:
    """The name of the network that container-wide settings are meant for. Raises InvalidParameter when unclear."""
    if not endpoints or mode in endpoints:
        return mode
    if not at_least(request, "1.44"):
        return next(iter(endpoints))  # there is one, and these engines took it whatever its name
    raise InvalidParameter("HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks")


def _interface_sysctls(
    request: Request, host: HostConfig, endpoints: Endpoints
) -> tuple[HostConfig, Endpoints, list[str]]:
    """`net.ipv4.conf.eth0.…` as a container-wide setting becomes the endpoint's own; since 1.48 it must be that."""
    found = {
        name: parts
        for name in host.sysctls or ()
        if len(parts := name.split(".", 4)) == 5 and parts[0] == "net" and parts[3].startswith("eth")
    }
    if not found or host.network_mode == "host" or host.network_mode.startswith("container:"):
        return host, endpoints, []
    option = endpoint_sysctls.OPTION
    for name, parts in found.items():
        if at_least(request, "1.48"):
            raise KistError(
                f"interface specific sysctl setting \"{name}\" must be supplied using driver option '{option}'"
            )
        if parts[3] != "eth0":
            raise KistError(
                f"unable to determine network endpoint for sysctl {name}, use driver option '{option}' to set "
                f"per-interface sysctls"
            )
    try:
        key = _main_endpoint(request, host.network_mode, endpoints)
    except InvalidParameter as error:
        raise InvalidParameter(f"unable to find a network for sysctl {next(iter(found))}: {error.message}") from error
    asked = host.sysctls or {}
    moved = ",".join(f"net.{one[1]}.{one[2]}.IFNAME.{one[4]}={asked[name]}" for name, one in found.items())
    known = (endpoints or {}).get(key, EndpointSettings())
    options = dict(known.driver_opts or {})
    # what the endpoint asks for itself comes last and wins
    options[option] = f"{moved},{options[option]}" if option in options else moved
    endpoints = {**(endpoints or {}), key: _replace(known, driver_opts=options)}
    host = _replace(host, sysctls={name: value for name, value in asked.items() if name not in found})
    return host, endpoints, [f'Migrated sysctl "{",".join(found)}" to DriverOpts{{"{option}":"{moved}"}}.']


def platform(request: Request) -> str:
    """The `platform` of create, `os[/arch[/variant]]`, which came with 1.41."""
    return request.query.get("platform", "") if at_least(request, "1.41") else ""


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


def image_platforms(request: Request, key: str, since: str) -> list[str]:
    """Platforms as JSON that an image endpoint is asked about, which it takes from version `since` on."""
    return [one for one in request.query_lists.get(key, []) if one] if at_least(request, since) else []


def takes_manifests(request: Request) -> bool:
    """Whether inspecting an image takes the parameter `manifests`."""
    return at_least(request, "1.48")


def takes_shared_size(request: Request) -> bool:
    """Whether the image list takes the parameter `shared-size`."""
    return at_least(request, "1.42")


def stats_once(request: Request) -> bool:
    """Whether `one-shot` means something: it came with 1.41."""
    return at_least(request, "1.41")


def lists_attached(request: Request) -> bool:
    """Before 1.28 the list of networks told who is attached, as inspect does."""
    return not at_least(request, "1.28")


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


def container_inspect(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    if not at_least(request, "1.42"):
        data["HostConfig"] = {"KernelMemory": 0, "KernelMemoryTCP": 0, **data["HostConfig"]}
    if not at_least(request, "1.45"):
        for name, endpoint in data["NetworkSettings"]["Networks"].items():
            if name not in ("bridge", "host", "none", "default"):
                known = [*(endpoint["Aliases"] or ()), data["Id"][:12], data["Config"]["Hostname"]]
                endpoint["Aliases"] = list(dict.fromkeys(known))
    return data


def container_summary(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    if not at_least(request, "1.46"):
        data["HostConfig"].pop("Annotations", None)
    return data


def image_summary(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    data = _image_names_and_size(request, data)
    if not at_least(request, "1.51"):
        data["Containers"] = -1
    return data


def _image_names_and_size(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    if not at_least(request, "1.43") and not data["RepoTags"] and not data["RepoDigests"]:
        data |= {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}
    if not at_least(request, "1.44"):
        data["VirtualSize"] = data["Size"]
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
    data["Images"] = data["Images"] and [_image_names_and_size(request, one) for one in data["Images"]]
    if not at_least(request, "1.42"):
        data["BuilderSize"] = 0
    return data


def info(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """`data` holds every field any version has."""
    if not at_least(request, "1.25"):
        data["SecurityOptions"] = [one.removeprefix("name=").partition(",")[0] for one in data["SecurityOptions"]]
    if not at_least(request, "1.39"):
        for key in ("KernelVersion", "OperatingSystem"):
            data[key] = data[key] or "<unknown>"
    if not at_least(request, "1.44"):
        data["Runtimes"] = {
            name: {key: value for key, value in one.items() if key != "status"}
            for name, one in data["Runtimes"].items()
        }
    if not at_least(request, "1.46"):
        data.pop("Containerd", None)
    if not at_least(request, "1.47"):  # though the history says 1.49, engines leave them out from here on
        nothing = {"AllowNondistributableArtifactsCIDRs": None, "AllowNondistributableArtifactsHostnames": None}
        data["RegistryConfig"] = {**data["RegistryConfig"], **nothing}
    if not at_least(request, "1.49"):
        data.pop("FirewallBackend", None)
        for key in ("ContainerdCommit", "RuncCommit", "InitCommit"):
            data[key] = {**data[key], "Expected": data[key]["ID"]}
    if not at_least(request, "1.50"):
        data.pop("DiscoveredDevices", None)
        data |= {"BridgeNfIptables": False, "BridgeNfIp6tables": False}
    return data


def event_action(request: Request, kind: str, action: str) -> str | None:
    """How a client is told of an event; None: not at all.

    Events of made images came with 1.46. `start_failed` is the engine's own: engines of 1.24 said `die`, and the
    command, which removes containers itself there, waits for it for ever.
    """
    if (kind, action) == ("container", "start_failed"):
        return None if at_least(request, "1.25") else "die"
    return None if (kind, action) == ("image", "create") and not at_least(request, "1.46") else action
