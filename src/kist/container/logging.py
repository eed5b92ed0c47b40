"""Logging drivers as they are asked for: which there are, what their options mean, and what the monitor is told.

The monitor writes the json-file format for every driver. For `json-file` and `local` that is the log; for the drivers
that send to a server (kist.shipper) it is what is to be sent, and what `docker logs` reads.
"""

from __future__ import annotations

from collections.abc import Callable

from kist.container.loginfo import extra_attributes, tag_of
from kist.container.machine import Machine
from kist.model.config import LogConfig
from kist.model.container import ContainerRecord
from kist.model.errors import InvalidParameter, NotSupported
from kist.model.number import is_number
from kist.runtime.launch import LogSetup
from kist.shipper import drivers, values
from kist.shipper.driver import Driver
from kist.shipper.spool import Spool

FILE_DRIVERS = ("json-file", "local")
_KNOWN_ELSEWHERE = frozenset({"awslogs", "gcplogs", "etwlogs"})
_COMMON = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})
_FILE_OPTIONS = frozenset({"max-size", "max-file", "compress"})
_CACHE = "cache-"
_BUILT_IN = frozenset({"mode", "max-buffer-size", "cache-disabled"} | {_CACHE + key for key in _COMMON | _FILE_OPTIONS})
# What is kept when nothing is said (moby/moby#40207), and by `local` and caches always.
_DEFAULT_SIZE, _DEFAULT_FILES = 20_000_000, 5
# A spool must hold what its server has not: these are the least, whatever was asked for.
_LEAST_SPOOL, _LEAST_SPOOL_FILES = 1 << 20, 3
_LONGEST_LAG = 4 << 20  # bytes
NO_DRIVER = "failed to create task for container: failed to initialize logging driver"  # Docker's words for a start


def ships(record: ContainerRecord) -> bool:
    """Whether its log is sent to a server."""
    config = record.host_config.log_config
    return config is not None and config.type not in (*FILE_DRIVERS, "none", "")


def keeps_log(record: ContainerRecord) -> bool:
    """Whether `logs` can be answered."""
    config = record.host_config.log_config or LogConfig()
    options = config.config or {}
    if ships(record):
        return not options.get("cache-disabled") or not values.boolean(options["cache-disabled"])
    return config.type != "none"


def driver_names() -> list[str]:
    """As `docker info` lists them."""
    return sorted([*FILE_DRIVERS, "none", *drivers.names()])


def check_log_config(config: LogConfig | None) -> None:
    """Raises InvalidParameter with Docker's texts, NotSupported for drivers of Docker's that are not here."""
    if config is None or config.type == "none":
        return
    options = config.config or {}
    _check_mode(options)
    _check_cache(options)
    check_log_driver(config.type)
    own = {key: value for key, value in options.items() if key not in _BUILT_IN}
    try:
        if config.type in FILE_DRIVERS:
            _check_file_options(config.type, own)
        else:
            kind = _driver(config.type)
            kind.validate({key: value for key, value in own.items() if key not in _COMMON})
    except ValueError as error:
        raise InvalidParameter(str(error)) from error


def check_log_driver(name: str) -> None:
    """Raises InvalidParameter, NotSupported."""
    if name in _KNOWN_ELSEWHERE:
        raise NotSupported(f"logging driver {name} is not supported by this engine")
    if name not in (*FILE_DRIVERS, "none"):
        _driver(name)


def _driver(name: str) -> type[Driver]:
    try:
        kind = drivers.driver_class(name)
    except ValueError as error:
        raise InvalidParameter(str(error)) from error
    if kind is None:
        raise InvalidParameter(f'error looking up logging plugin {name}: plugin "{name}" not found')
    return kind


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
        values.size(options["max-buffer-size"], 1024)
    except ValueError as error:
        raise InvalidParameter(f"error parsing option max-buffer-size: {error}") from error


def _check_cache(options: dict[str, str]) -> None:
    text = options.get("cache-disabled", "")
    try:
        values.boolean(text or "false")
    except ValueError as error:
        raise InvalidParameter(f"invalid value for option cache-disabled: {text}") from error
    cached = {key.removeprefix(_CACHE): value for key, value in options.items() if key.startswith(_CACHE)}
    try:
        _local_limits(cached)
    except ValueError as error:
        raise InvalidParameter(str(error)) from error


def _check_file_options(name: str, options: dict[str, str]) -> None:
    for key in options:
        if name == "local" and key not in _FILE_OPTIONS:
            raise ValueError(f"unknown log opt '{key}' for log driver local")
        if key not in _FILE_OPTIONS | _COMMON:
            raise ValueError(f"unknown log opt '{key}' for json-file log driver")
    _limits(name, options)


def _limits(name: str, options: dict[str, str]) -> tuple[int | None, int, bool]:
    return _local_limits(options) if name == "local" else _json_limits(options)


def _json_limits(options: dict[str, str]) -> tuple[int | None, int, bool]:
    """(bytes a file, files, compressed). Raises ValueError with Docker's texts."""
    if "max-size" not in options and "max-file" not in options:
        if values.boolean(options.get("compress", "false")):
            raise ValueError("compress cannot be true when max-file is less than 2 or max-size is not set")
        return _DEFAULT_SIZE, _DEFAULT_FILES, "compress" not in options
    files = options.get("max-file", "1")
    if not is_number(files) or int(files) < 1:
        raise ValueError("max-file cannot be less than 1")
    size = _json_size(options["max-size"]) if "max-size" in options else _DEFAULT_SIZE
    compress = values.boolean(options.get("compress", "false"))
    if compress and (int(files) == 1 or "max-size" not in options or size is None):
        raise ValueError("compress cannot be true when max-file is less than 2 or max-size is not set")
    return size, int(files), compress


def _json_size(text: str) -> int | None:
    if text in ("", "-1"):
        return None
    size = values.size(text, 1000)
    if size <= 0:
        raise ValueError("max-size must be a positive number")
    return size


def _local_limits(options: dict[str, str]) -> tuple[int, int, bool]:
    """The same of `local` and of the cache, which always have an end."""
    size, files = _DEFAULT_SIZE, options.get("max-file", str(_DEFAULT_FILES))
    if "max-size" in options:
        size = _worded("max-size", options["max-size"], lambda text: values.size(text, 1000))
    count = _worded("max-file", files, values.integer)
    try:
        compress = values.boolean(options.get("compress", "true"))
    except ValueError as error:
        raise ValueError(f"invalid boolean value for compress: {error}") from error
    if count < 0:
        raise ValueError("max-file must not be negative")
    if compress and count <= 1:
        raise ValueError("compression cannot be enabled when max file count is 1")
    return size, max(1, count), compress


def _worded(key: str, text: str, parse: Callable[[str], int]) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"invalid value for {key}: {text}: {error}") from error


def log_setup(machine: Machine, path: str) -> LogSetup:
    """What the monitor is told. `path`: of the log. Raises InvalidParameter for a tag that cannot be made."""
    config = machine.record.host_config.log_config or LogConfig("json-file")
    options = config.config or {}
    if config.type == "none":
        return LogSetup()
    if ships(machine.record):
        return _spool_setup(config.type, options, path)
    size, files, compress = _limits(config.type or "json-file", options)
    try:
        attrs = extra_attributes(machine.record, options)
        if options.get("tag"):
            attrs["tag"] = tag_of(machine.record, options["tag"])
    except ValueError as error:
        raise InvalidParameter(f"{NO_DRIVER}: {error}") from error
    return LogSetup(path, size, files, attrs or None, compress)


def _spool_setup(driver: str, options: dict[str, str], path: str) -> LogSetup:
    cached = {key.removeprefix(_CACHE): value for key, value in options.items() if key.startswith(_CACHE)}
    size, files, compress = _local_limits(cached)
    size, files = max(size, _LEAST_SPOOL), max(files, _LEAST_SPOOL_FILES)
    spool = Spool(path.rpartition("/")[0])
    waits = options.get("mode", "blocking") != "non-blocking"
    waits = waits and not _driver(driver).is_asynchronous(options)
    bound = min(_LONGEST_LAG, size * (files - 1) // 2) if waits else 0
    return LogSetup(path, size, files, None, compress, spool.wake_path, spool.shipped, bound)


def lag_limit(options: dict[str, str]) -> int | None:
    """Bytes that may wait for a server that is away, when less than the cache was asked for."""
    text = options.get("max-buffer-size")
    return values.size(text, 1024) if text else None


def compresses(record: ContainerRecord) -> bool:
    """Whether the engine compresses what the monitor rotated."""
    config = record.host_config.log_config or LogConfig("json-file")
    return config.type in FILE_DRIVERS and _limits(config.type, config.config or {})[2]
