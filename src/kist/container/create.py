"""`create`: from a request to a recorded container that can be started. Half-made ones are taken back."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from kist.container import health, links, merge, mounts, validate, volumes_from
from kist.container.engine import Engine
from kist.container.logging import check_log_config
from kist.container.machine import Machine
from kist.container.names import check_name, new_id
from kist.container.platform import parse_platform
from kist.container.threads import in_thread
from kist.kernel import caps
from kist.model.config import ContainerConfig, EndpointSettings, HostConfig, LogConfig, RestartPolicy
from kist.model.container import ContainerRecord, LinkedContainer, MountPoint
from kist.model.errors import InvalidParameter, KistError, NotFound, NotSupported
from kist.model.image import Image
from kist.model.network import Network
from kist.model.timestamp import rfc3339
from kist.runtime import foreign, seccomp, security, spec
from kist.runtime.plan import rlimit_names


class CreateRequest(msgspec.Struct, frozen=True):
    config: ContainerConfig
    host_config: HostConfig
    networks: dict[str, EndpointSettings] | None = None
    name: str = ""
    platform: str = ""


class Created(msgspec.Struct, frozen=True):
    id: str
    warnings: tuple[str, ...]


async def create(engine: Engine, request: CreateRequest) -> Created:
    """Raises what the request deserves: InvalidParameter, NotFound for the image, Conflict for the name."""
    name = check_name(request.name) if request.name else ""
    platform = parse_platform(request.platform) if request.platform else None
    host = _adapt(engine, request.host_config)
    validate.validate_request(request.config, host, engine.limits)
    config = validate.validate_config(request.config)
    host, warnings = validate.validate_host_config(host, engine.limits)
    host = _complete(engine, host)
    validate.validate_networking(request.networks, _found(engine, request.networks))
    _check_supported(engine, host)
    image = _image(engine, config)
    if image is not None and platform is not None:
        _check_platform(image, config.image, platform)
    merged = merge.merge_config(config, image.container_config if image else None)
    health.check_action(merged, host)
    container_id = new_id()
    hostname = merged.hostname or (os.uname().nodename if host.network_mode == "host" else container_id[:12])
    merged = msgspec.structs.replace(merged, hostname=hostname)
    taken_over = volumes_from.points(engine.index, host.volumes_from or ())
    points = mounts.collect(merged, host, taken_over, engine.data_root)
    linked = links.resolve(engine.index, host.links or (), host.network_mode)
    problem = foreign.problem(points, host.ipc_mode) if host.runtime in engine.runtimes.foreign else ""
    if problem:
        raise NotSupported(f"{problem} is not supported with another runtime than kist")
    name = engine.index.reserve(name, container_id)
    try:
        machine = await _make(engine, request, container_id, name, merged, host, image, points, linked)
    except BaseException:
        engine.index.release(name, container_id)
        raise
    engine.emit(machine, "create")
    if host.privileged or "ALL" in [one.upper().removeprefix("CAP_") for one in host.cap_add or ()]:
        missing = _missing_capabilities(engine)
        if missing:
            warnings = [
                *warnings,
                f"The engine itself does not have {', '.join(missing)}: the container gets the rest.",
            ]
    return Created(container_id, tuple(warnings))


def _missing_capabilities(engine: Engine) -> list[str]:
    return [name for name in caps.NAMES
            if name not in engine.host.capabilities]  # fmt: skip


def _complete(engine: Engine, host: HostConfig) -> HostConfig:
    """What follows from the request, as Docker keeps it."""
    masked, readonly = _hidden_paths(host)
    kill_disable = host.oom_kill_disable
    return msgspec.structs.replace(
        host,
        masked_paths=masked,
        readonly_paths=readonly,
        memory_swap=host.memory_swap or 2 * host.memory,
        oom_kill_disable=False if kill_disable is None and engine.limits.oom_kill_disable else kill_disable,
    )


def _adapt(engine: Engine, host: HostConfig) -> HostConfig:
    """The engine's defaults where the request is silent, as Docker's inspect shows them."""
    asked = host.log_config or LogConfig()
    driver, options = asked.type or engine.defaults.log_driver, asked.config or {}
    if driver == engine.defaults.log_driver:  # also what came without a driver, as `--log-opt` alone does
        options = {**engine.defaults.log_options, **options}
    log_config = LogConfig(driver, options)
    network_mode = host.network_mode or "default"
    ipc = host.ipc_mode or engine.host.ipc
    policy = host.restart_policy or RestartPolicy("no")
    shm_size = host.shm_size if host.shm_size else engine.host.default_shm_size
    cgroupns = host.cgroupns_mode
    if not cgroupns:
        cgroupns = "host" if host.privileged and not engine.layout.is_v2 else engine.host.cgroupns
    return msgspec.structs.replace(
        host,
        log_config=log_config,
        network_mode=engine.networks.default_mode if network_mode == "default" else network_mode,
        ipc_mode=ipc,
        restart_policy=RestartPolicy(policy.name or "no", policy.maximum_retry_count),
        shm_size=0 if ipc == "host" or ipc.startswith("container:") else shm_size,
        cgroupns_mode=cgroupns,
        runtime=host.runtime or engine.runtimes.default,
        isolation=host.isolation,
        console_size=host.console_size or (0, 0),
    )


def _hidden_paths(host: HostConfig) -> tuple[list[str] | None, list[str] | None]:
    """MaskedPaths and ReadonlyPaths: the defaults are written down, so that inspect tells them."""
    if host.privileged or "systempaths=unconfined" in (host.security_opt or ()):
        return host.masked_paths, host.readonly_paths
    masked, readonly = host.masked_paths, host.readonly_paths
    return (
        list(spec.MASKED_PATHS) if masked is None else masked,
        list(spec.READONLY_PATHS) if readonly is None else readonly,
    )


def _check_supported(engine: Engine, host: HostConfig) -> None:
    """What is refused by name: known to Docker, not to this version."""
    security.check_capabilities(host.cap_add or (), host.cap_drop or (), engine.host.capabilities)
    options = security.parse_security_options(host.security_opt or ())
    if options.seccomp and options.seccomp != "unconfined":
        security_profile_compiles(options.seccomp, engine, host)
    if options.apparmor not in ("", "unconfined"):
        raise InvalidParameter(f"AppArmor profile {options.apparmor!r} cannot be applied: AppArmor is not supported")
    if not engine.runtimes.known(host.runtime):
        raise InvalidParameter(f"unknown or invalid runtime name: {host.runtime}")
    _check_storage_options(host.storage_opt or {})
    if spec.uses_init(host, engine.host) and not engine.host.init_binary:
        raise NotSupported(f"--init: there is no reaper for {os.uname().machine}; name one with --init-path")
    if host.userns_mode not in ("", "host"):
        raise InvalidParameter("invalid userns mode")
    known = rlimit_names()
    for limit in host.ulimits or ():
        if limit.name not in known:
            raise InvalidParameter(f"invalid ulimit type: {limit.name}")
        if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
            raise InvalidParameter(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )
    for rule in host.device_cgroup_rules or ():
        spec.parse_device_rule(rule)
    for mapping in host.devices or ():
        if not set(mapping.cgroup_permissions) <= set("rwm"):
            raise InvalidParameter(f"bad mode specified: {mapping.cgroup_permissions}")
    check_log_config(host.log_config)
    _check_joined(engine, host.ipc_mode)
    _check_joined(engine, host.pid_mode)
    _check_network_mode(engine, host)


def _check_storage_options(options: dict[str, str]) -> None:
    """A limit on a container's files needs project quotas, which the drivers do not use: dockerd's words for the same.

    Raises InvalidParameter.
    """
    for name in options:
        if name != "size":
            raise InvalidParameter(f"Unknown option {name}")
        raise InvalidParameter("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")


def security_profile_compiles(text: str, engine: Engine, host: HostConfig) -> None:
    """A broken profile is refused when the container is made, not when it is started."""
    from_capabilities = frozenset(spec.capabilities_of(host, engine.host))
    seccomp.user_program(text, from_capabilities)


def _exists(engine: Engine, network: str) -> bool:
    try:
        engine.networks.get(network)
    except NotFound:
        return False
    return True


def _check_network_mode(engine: Engine, host: HostConfig) -> None:
    """What is not there is told at the start, as a name may be made until then. Clients take a 404 for the image's."""
    mode = host.network_mode
    if mode in ("bridge", "host", "none"):
        return
    if mode.startswith("container:"):
        _check_joined(engine, mode)


def _check_joined(engine: Engine, mode: str) -> None:
    """A container that a namespace is to be shared with must be there.

    Raises InvalidParameter: to `docker run` "not found" says that the image is missing, and it pulls.
    """
    kind, _, name = mode.partition(":")
    if kind == "container":
        try:
            engine.index.find(name)
        except NotFound as error:
            raise InvalidParameter(error.message) from error


def _found(engine: Engine, names: Iterable[str] | None) -> dict[str, Network]:
    found = {}
    for name in names or ():
        with suppress(NotFound):
            found[name] = engine.networks.get(name)
    return found


def _networks(engine: Engine, host: HostConfig, asked: dict[str, EndpointSettings]) -> dict[str, EndpointSettings]:
    """What is asked of networks by their names, whatever they were called; that of the mode first."""
    found: dict[str, EndpointSettings] = {}
    named = _found(engine, [host.network_mode, *asked])
    if host.network_mode in named and len(asked) > 1:
        found[named[host.network_mode].name] = EndpointSettings()
    for name, settings in asked.items():
        found[named[name].name if name in named and name != "default" else name] = settings
    return found


def _image(engine: Engine, config: ContainerConfig) -> Image | None:
    if not config.image:
        if not (config.cmd or config.entrypoint):
            raise InvalidParameter("no command specified")
        raise NotSupported("a container without an image is not supported by this engine yet")
    return engine.images.get(config.image)


def _check_platform(image: Image, asked: str, platform: tuple[str, str, str]) -> None:
    config = image.config
    if platform[:2] != (config.os, config.architecture):
        has, wanted = (
            "/".join(filter(None, one)) for one in ((config.os, config.architecture, config.variant), platform)
        )
        raise NotFound(
            f"image with reference {asked} was found but its platform ({has}) does not match the specified "
            f"platform ({wanted})"
        )


async def _make(
    engine: Engine,
    request: CreateRequest,
    container_id: str,
    name: str,
    config: ContainerConfig,
    host: HostConfig,
    image: Image | None,
    points: list[MountPoint],
    linked: tuple[LinkedContainer, ...],
) -> Machine:
    path, args = merge.command_of(config)
    directory = engine.directory(container_id)
    try:
        os.makedirs(directory, mode=0o710)
        fill = engine.snapshotter.prepare(container_id, image.snapshot if image else "", init=True)
        if fill is not None:  # a driver that copies the whole image
            await in_thread(fill)
        resolved = [await mounts.resolve(engine, container_id, point, image) for point in points]
        record = ContainerRecord(
            id=container_id,
            name=name,
            created=rfc3339(),
            image=request.config.image,
            image_id=image.id if image else "",
            config=config,
            host_config=host,
            networks=_networks(engine, host, request.networks or {}),
            path=path,
            args=args,
            mounts=tuple(resolved),
            driver=engine.snapshotter.name,
            snapshot=container_id,
            links=linked,
        )
        mounts.check_images(engine, resolved)
        machine = engine.index.add(record)
    except BaseException as error:
        await _take_back(engine, container_id)
        if isinstance(error, OSError):
            raise KistError(f"cannot make the container: {error}") from error
        raise
    engine.volumes.keep(container_id)
    return machine


async def _take_back(engine: Engine, container_id: str) -> None:
    """After a create that failed. What cannot be removed is found by the next start; the error that is told is the
    first one.
    """
    await engine.volumes.give_back(container_id)
    await engine.volumes.collect()
    shutil.rmtree(engine.directory(container_id), ignore_errors=True)
    with suppress(KistError):
        if engine.snapshotter.exists(container_id):
            engine.snapshotter.remove(container_id)
            await asyncio.to_thread(engine.snapshotter.collect)
