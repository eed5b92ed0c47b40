"""Answers as Docker writes them: which fields are left out when they are empty, which are null."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from kist.model.config import ContainerConfig, EndpointSettings, HostConfig
from kist.model.digest import plain

# Go's `omitempty` in Docker's types; everything else is always there, as null, "", 0 or [].
_CONFIG_OMITTED = frozenset({
    "ExposedPorts", "Healthcheck", "ArgsEscaped", "NetworkDisabled", "MacAddress", "StopSignal", "StopTimeout", "Shell",
})  # fmt: skip
_HOST_OMITTED = frozenset({
    "Annotations", "Mounts", "StorageOpt", "Tmpfs", "Sysctls", "Init", "KernelMemory", "KernelMemoryTCP",
})  # fmt: skip
_NO_TEXT = re.compile("[\ud800-\udfff]")  # as Python keeps such bytes (PEP 383)
_EMPTY: tuple[Any, ...] = (None, "", 0, False, [], {})


def _without_empty(data: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in names or value not in _EMPTY}


def container_config(config: ContainerConfig) -> dict[str, Any]:
    data = _without_empty(msgspec.to_builtins(config), _CONFIG_OMITTED)
    if "Healthcheck" in data:
        data["Healthcheck"] = {key: value for key, value in data["Healthcheck"].items() if value not in _EMPTY}
    if data["Labels"] is None:
        data["Labels"] = {}
    return data


def host_config(config: HostConfig) -> dict[str, Any]:
    return _without_empty(msgspec.to_builtins(config), _HOST_OMITTED)


def endpoint_settings(settings: EndpointSettings) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(settings)
    return data


def dumps(value: Any) -> bytes:
    """JSON with a newline, as Go's encoder ends it. A byte that is no text, of a file's name, is told as U+FFFD."""
    try:
        return msgspec.json.encode(value, enc_hook=plain) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(_as_text(msgspec.to_builtins(value, enc_hook=plain))) + b"\n"


def _as_text(value: Any) -> Any:
    if isinstance(value, str):
        return _NO_TEXT.sub("\ufffd", value)
    if isinstance(value, list | tuple):
        return [_as_text(item) for item in value]
    if isinstance(value, dict):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    return value
