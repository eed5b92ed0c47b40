"""An image's configuration fills what the user left open (what moby calls merging the run configuration)."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from kist.model.config import ContainerConfig, Health
from kist.model.errors import InvalidParameter

T = TypeVar("T")


def merge_config(user: ContainerConfig, image: ContainerConfig | None) -> ContainerConfig:
    """The configuration of a container made from an image. Raises InvalidParameter when nothing is to be run."""
    merged = fill(user, image) if image is not None else user
    if merged.entrypoint == [""]:  # how a client says: no entry point, whatever the image has
        merged = msgspec.structs.replace(merged, entrypoint=None)
    if not merged.entrypoint and not merged.cmd:
        raise InvalidParameter("no command specified")
    return merged


def command_of(config: ContainerConfig) -> tuple[str, tuple[str, ...]]:
    """(Path, Args) as inspect shows them: the entry point first, then the command."""
    words = [*(config.entrypoint or ()), *(config.cmd or ())]
    return words[0], tuple(words[1:])


def fill(user: ContainerConfig, image: ContainerConfig) -> ContainerConfig:
    """What the first leaves open is the second's."""
    cmd, entrypoint = user.cmd, user.entrypoint
    if not entrypoint:
        cmd = cmd or image.cmd
        entrypoint = image.entrypoint if entrypoint is None else entrypoint
    return msgspec.structs.replace(
        user,
        user=user.user or image.user,
        exposed_ports=_union(user.exposed_ports, image.exposed_ports),
        env=merge_env(user.env, image.env),
        labels={**(image.labels or {}), **(user.labels or {})},
        cmd=cmd,
        entrypoint=entrypoint,
        healthcheck=_merge_health(user.healthcheck, image.healthcheck),
        working_dir=user.working_dir or image.working_dir,
        volumes=_union(user.volumes, image.volumes),
        stop_signal=user.stop_signal or image.stop_signal,
        stop_timeout=image.stop_timeout if user.stop_timeout is None else user.stop_timeout,
        shell=user.shell or image.shell,
        on_build=user.on_build,
    )


def merge_env(user: list[str] | None, image: list[str] | None) -> list[str] | None:
    """The user's variables, then those of the image that the user did not set."""
    if not user:
        return image
    names = {variable.partition("=")[0] for variable in user}
    return [*user, *(variable for variable in image or () if variable.partition("=")[0] not in names)]


def _union(user: dict[str, T] | None, image: dict[str, T] | None) -> dict[str, T] | None:
    if not user:
        return image
    return {**user, **{key: value for key, value in (image or {}).items() if key not in user}}


def _merge_health(user: Health | None, image: Health | None) -> Health | None:
    if user is None or image is None:
        return user if image is None else image
    return Health(
        test=user.test or image.test,
        interval=user.interval or image.interval,
        timeout=user.timeout or image.timeout,
        retries=user.retries or image.retries,
        start_period=user.start_period or image.start_period,
        start_interval=user.start_interval or image.start_interval,
    )
