"""Containers, images and volumes as the API shows them, from records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from kist.api.times import ago
from kist.model.config import EndpointSettings
from kist.model.container import ContainerRecord, HealthState, MountPoint, State
from kist.model.image import Image
from kist.model.number import is_number
from kist.model.timestamp import nanoseconds
from kist.model.volume import ShownVolume, Volume
from kist.wire import networks as wire
from kist.wire.encode import container_config, endpoint_settings, host_config

_HEALTH_WORDS = {"starting": "health: starting"}  # the others are clear on their own


def status_text(state: State) -> str:
    """`Up 5 minutes`, `Exited (0) 2 hours ago`, `Created`."""
    if state.status in ("running", "paused"):
        paused = " (Paused)" if state.paused else ""
        known = state.health
        health = f" ({_HEALTH_WORDS.get(known.status, known.status)})" if known is not None and not paused else ""
        return f"Up {ago(state.started_at)}{paused}{health}"
    if state.status == "restarting":
        return f"Restarting ({state.exit_code}) {ago(state.finished_at)} ago"
    if state.status == "exited":
        return f"Exited ({state.exit_code}) {ago(state.finished_at)} ago"
    return {"removing": "Removal In Progress", "dead": "Dead"}.get(state.status, "Created")


def networks(record: ContainerRecord) -> dict[str, Any]:
    """The networks a container is in, by name, with its addresses while it runs."""
    mode = record.host_config.network_mode
    if mode.startswith("container:"):
        return {}
    asked = {("bridge" if name == "default" else name): settings for name, settings in record.networks.items()}
    found = {}
    for name in asked or ([] if record.left_all else [mode]):
        settings = asked.get(name) or EndpointSettings()
        for endpoint in record.endpoints:
            if endpoint.network == name:
                settings = msgspec.structs.replace(
                    settings,
                    network_id=endpoint.network_id,
                    endpoint_id=endpoint.id,
                    gateway=endpoint.gateway,
                    ip_address=endpoint.address,
                    ip_prefix_len=endpoint.prefix,
                    mac_address=endpoint.mac,
                    ipv6_gateway=endpoint.gateway6,
                    global_ipv6_address=endpoint.address6,
                    global_ipv6_prefix_len=endpoint.prefix6,
                    dns_names=list(endpoint.names) or None,
                )
        found[name] = endpoint_settings(settings)
    return found


def port_map(record: ContainerRecord) -> dict[str, Any]:
    """NetworkSettings.Ports: what is exposed, and where it is published, while the container is in a bridge network."""
    if not (record.state.alive and record.endpoints):
        return {}
    found: dict[str, Any] = dict.fromkeys(record.config.exposed_ports or ())
    for port in record.ports:
        key = f"{port.container_port}/{port.protocol}"
        found[key] = [*(found.get(key) or []), {"HostIp": port.host_ip, "HostPort": str(port.host_port or "")}]
    return found


def ports_summary(record: ContainerRecord) -> list[dict[str, Any]]:
    if not (record.state.alive and record.endpoints):
        return []
    found: list[dict[str, Any]] = [
        {"IP": one.host_ip, "PrivatePort": one.container_port}
        | ({"PublicPort": one.host_port} if one.host_port else {})  # none where the network is routed
        | {"Type": one.protocol}
        for one in record.ports
    ]
    published = {(one.container_port, one.protocol) for one in record.ports}
    for key in record.config.exposed_ports or ():
        number, _, protocol = key.partition("/")
        if is_number(number) and (int(number), protocol or "tcp") not in published:
            found.append({"PrivatePort": int(number), "Type": protocol or "tcp"})
    return found


def mount(point: MountPoint) -> dict[str, Any]:
    """One entry of Mounts; tmpfs of --tmpfs is not listed, as Docker leaves it out."""
    data: dict[str, Any] = {"Type": point.type}
    if point.name:
        data["Name"] = point.name
    data |= {"Source": point.source, "Destination": point.destination}
    if point.driver:
        data["Driver"] = point.driver
    return {**data, "Mode": point.mode, "RW": point.rw, "Propagation": point.propagation}


def mounts(record: ContainerRecord) -> list[dict[str, Any]]:
    from_option = set(record.host_config.tmpfs or ())
    return [mount(point) for point in record.mounts if not (point.type == "tmpfs" and point.destination in from_option)]


def state(one: State) -> dict[str, Any]:
    health = {} if one.health is None else {"Health": _health(one.health)}
    return {
        "Status": one.status,
        "Running": one.running,
        "Paused": one.paused,
        "Restarting": one.status == "restarting",
        "OOMKilled": one.oom_killed,
        "Dead": one.status == "dead",
        "Pid": one.pid,
        "ExitCode": one.exit_code,
        "Error": one.error,
        "StartedAt": one.started_at,
        "FinishedAt": one.finished_at,
        **health,
    }


def _health(one: HealthState) -> dict[str, Any]:
    log = [{"Start": run.start, "End": run.end, "ExitCode": run.exit_code, "Output": run.output} for run in one.log]
    return {"Status": one.status, "FailingStreak": one.failing_streak, "Log": log}


def inspect(
    record: ContainerRecord,
    directory: str,
    log_path: str,
    exec_ids: list[str],
    upper: str,
    sizes: tuple[int, int] | None,
    links: list[str] | None,
) -> dict[str, Any]:
    """The answer of GET /containers/{id}/json. `links`: HostConfig.Links with today's names."""
    attached = networks(record)
    bridge = attached.get("bridge", {})
    data: dict[str, Any] = {
        "Id": record.id,
        "Created": record.created,
        "Path": record.path,
        "Args": list(record.args),
        "State": state(record.state),
        "Image": record.image_id,
        "ResolvConfPath": f"{directory}/resolv.conf" if record.has_been_started else "",
        "HostnamePath": f"{directory}/hostname" if record.has_been_started else "",
        "HostsPath": f"{directory}/hosts" if record.has_been_started else "",
        "LogPath": log_path if _logs_to_file(record) else "",
        "Name": f"/{record.name}",
        "RestartCount": record.restart_count,
        "Driver": record.driver,
        "Platform": record.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": exec_ids or None,
        "HostConfig": {**host_config(record.host_config), "Links": links},
        "GraphDriver": {"Data": {"UpperDir": upper}, "Name": record.driver},
    }
    if sizes is not None:
        data["SizeRw"], data["SizeRootFs"] = sizes
    data["Mounts"] = mounts(record)
    data["Config"] = container_config(record.config)
    data["NetworkSettings"] = {
        "Bridge": "",
        "SandboxID": record.id if record.state.alive else "",
        "SandboxKey": f"/proc/{record.state.pid}/ns/net" if record.state.alive else "",
        "Ports": port_map(record),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": bridge.get("EndpointID", ""),
        "Gateway": bridge.get("Gateway", ""),
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": bridge.get("IPAddress", ""),
        "IPPrefixLen": bridge.get("IPPrefixLen", 0),
        "IPv6Gateway": "",
        "MacAddress": bridge.get("MacAddress", ""),
        "Networks": attached,
    }
    return data


def _logs_to_file(record: ContainerRecord) -> bool:
    config = record.host_config.log_config
    return record.has_been_started and (config is None or config.type == "json-file")


def summary(
    record: ContainerRecord,
    sizes: tuple[int, int] | None,
    resolve: Callable[[str], str],
    names: list[str] | None = None,
) -> dict[str, Any]:
    """One element of GET /containers/json; `names` where links give it more than its own.

    `resolve` gives the id of the image that has a name today: the container's is shown by its id when that is another.
    """
    is_named = record.image == record.image_id or resolve(record.image) == record.image_id
    data: dict[str, Any] = {
        "Id": record.id,
        "Names": [f"/{name}" for name in names or (record.name,)],
        "Image": record.image if is_named else record.image_id,
        "ImageID": record.image_id,
        "Command": command_text(record),
        "Created": nanoseconds(record.created) // 1_000_000_000,
        "Ports": ports_summary(record),
    }
    for key, size in zip(("SizeRw", "SizeRootFs"), sizes or (), strict=False):
        if size:
            data[key] = size
    return {
        **data,
        "Labels": record.config.labels or {},
        "State": record.state.status,
        "Status": status_text(record.state),
        "HostConfig": _summary_host_config(record),
        "NetworkSettings": {"Networks": networks(record)},
        "Mounts": mounts(record),
    }


def _summary_host_config(record: ContainerRecord) -> dict[str, Any]:
    annotations = record.host_config.annotations
    found: dict[str, Any] = {"NetworkMode": record.host_config.network_mode}
    return {**found, "Annotations": annotations} if annotations else found


def command_text(record: ContainerRecord) -> str:
    """Path and arguments in one line; words with spaces in single quotes, as Docker shows them."""
    words = [f"'{word}'" if " " in word else word for word in record.args]
    return " ".join([record.path, *words])


# --- images ---


def created_at(image: Image) -> int:
    """Nanoseconds since the epoch; 0 when the image does not say."""
    try:
        return nanoseconds(image.config.created or "")
    except (ValueError, IndexError, KeyError):
        return 0


def image_summary(image: Image, tags: list[str], users: int, shared: int = -1) -> dict[str, Any]:
    """One element of GET /images/json; `shared` bytes of its layers are other images' too, -1: not counted."""
    return {
        "Containers": users,
        "Created": created_at(image) // 1_000_000_000,
        "Id": image.id,
        "Labels": image.container_config.labels,
        "ParentId": "",
        "RepoDigests": list(image.repo_digests),
        "RepoTags": tags,
        "SharedSize": shared,
        "Size": image.size,
    }


# --- volumes ---


def volume(one: Volume, scope: Literal["local", "global"] = "local") -> wire.Volume:
    return wire.Volume(
        created_at=one.created,
        driver=one.driver,
        labels=one.labels,
        mountpoint=one.mountpoint,
        name=one.name,
        options=one.options,
        scope=scope,
    )


def shown_volume(one: ShownVolume) -> wire.Volume:
    found = volume(one.volume, "global" if one.scope == "global" else "local")
    return found if not one.status else msgspec.structs.replace(found, status=one.status)
