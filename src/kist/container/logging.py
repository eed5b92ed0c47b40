"""Logging drivers as they are asked for: which there are, and what their options mean."""

from __future__ import annotations

import re

from kist.model.config import ContainerConfig, LogConfig
from kist.model.errors import InvalidParameter, NotSupported
from kist.model.number import is_number
from kist.runtime.launch import LogSetup

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"^(\d+(?:\.\d+)?) ?([kmgt]?)i?b?$", re.IGNORECASE)
_KNOWN_ELSEWHERE = frozenset(
    {"local", "syslog", "journald", "fluentd", "gelf", "splunk", "awslogs", "gcplogs", "etwlogs"}
)
_OPTIONS = frozenset(
    {"max-size", "max-file", "labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size"}
)


def check_log_config(config: LogConfig | None) -> None:
    """Raises InvalidParameter with Docker's texts, NotSupported for drivers of Docker's that are not here."""
    if config is None or config.type == "none":
        return
    _check_mode(config.config or {})
    check_log_driver(config.type)
    options = config.config or {}
    for key in options:
        if key == "compress":
            raise NotSupported("log option compress is not supported by this engine yet")
        if key not in _OPTIONS:
            raise InvalidParameter(f"unknown log opt '{key}' for json-file log driver")
    size = _size(options.get("max-size", ""))
    files = options.get("max-file", "1")
    if not is_number(files) or int(files) < 1:
        raise InvalidParameter("max-file cannot be less than 1")
    if int(files) > 1 and size is None:
        raise InvalidParameter("max-file option requires max-size to be set")


def check_log_driver(name: str) -> None:
    """Raises InvalidParameter, NotSupported."""
    if name in _KNOWN_ELSEWHERE:
        raise NotSupported(f"logging driver {name} is not supported by this engine yet: use json-file or none")
    if name not in ("json-file", "none"):
        raise InvalidParameter(f'error looking up logging plugin {name}: plugin "{name}" not found')


def _check_mode(options: dict[str, str]) -> None:
    """What every driver of Docker takes."""
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" not in options:
        return
    if mode != "non-blocking":
        raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    try:
        _size(options["max-buffer-size"])
    except InvalidParameter as error:
        raise InvalidParameter(f"error parsing option max-buffer-size: {error.message}") from error


def _size(text: str) -> int | None:
    if text in ("", "-1"):
        return None
    match = _SIZE.match(text)
    if match is None:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def log_setup(config: LogConfig | None, container: ContainerConfig, path: str) -> LogSetup:
    """What the monitor is told."""
    if config is None or config.type != "json-file":
        return LogSetup()
    options = config.config or {}
    attrs: dict[str, str] = {}
    for key in filter(None, options.get("labels", "").split(",")):
        if key in (container.labels or {}):
            attrs[key] = (container.labels or {})[key]
    environment = dict(one.split("=", 1) for one in container.env or () if "=" in one)
    attrs.update({key: environment[key] for key in options.get("env", "").split(",") if key in environment})
    if options.get("tag"):
        attrs["tag"] = options["tag"]
    return LogSetup(path, _size(options.get("max-size", "")), int(options.get("max-file", "1")), attrs or None)
