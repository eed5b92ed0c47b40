"""Health checks: what is to be asked, when, and what the answers mean. Decisions only; probing.py carries them out.

Times, numbers and rules are dockerd's (HealthConfig in the contract): a probe that ends with 0 makes a container
healthy, `retries` others in a row make it unhealthy, and failures within the start period do not count.
"""

from __future__ import annotations

import msgspec

from kist.model.config import ContainerConfig, Health, HostConfig
from kist.model.container import HealthState, ProbeResult
from kist.model.errors import InvalidParameter
from kist.model.timestamp import nanoseconds

LOG_ENTRIES = 5
OUTPUT_BYTES = 4096
STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
_SECOND = 1_000_000_000
_INTERVAL, _TIMEOUT, _START_INTERVAL = 30 * _SECOND, 30 * _SECOND, 5 * _SECOND
_RETRIES = 3
_SHELL = ("/bin/sh", "-c")

ON_FAILURE = "kist.health-on-failure"  # an annotation, or a label for clients that know no annotations
ACTIONS = ("none", "kill", "restart", "stop")


def has_check(config: ContainerConfig) -> bool:
    check = config.healthcheck
    return check is not None and bool(check.test) and check.test is not None and check.test[0] in ("CMD", "CMD-SHELL")


def command(config: ContainerConfig) -> list[str]:
    """What a probe runs; empty when the check names no program."""
    check = config.healthcheck
    kind, *words = check.test or [""] if check is not None else [""]
    if kind == "CMD-SHELL" and words:
        return [*(config.shell or _SHELL), *words]
    return words


def timeout(check: Health) -> int:
    """Nanoseconds a probe may take."""
    return check.timeout or _TIMEOUT


def interval(check: Health, status: str, since_start: int) -> int:
    """Nanoseconds to the next probe, `since_start` nanoseconds after the container started."""
    if status == STARTING and since_start < check.start_period:
        return check.start_interval or _START_INTERVAL
    return check.interval or _INTERVAL


def begun(config: ContainerConfig, before: HealthState | None) -> HealthState | None:
    """At a start: nothing is known yet; results of the life before stay to be seen."""
    return HealthState(STARTING, 0, before.log if before else ()) if has_check(config) else None


def ended(before: HealthState | None) -> HealthState | None:
    """What does not run is not healthy."""
    return None if before is None else msgspec.structs.replace(before, status=UNHEALTHY)


def judged(check: Health, before: HealthState, result: ProbeResult, started_at: str) -> HealthState:
    """What a result makes of the container."""
    log = (*before.log, result)[-LOG_ENTRIES:]
    if result.exit_code == 0:
        return HealthState(HEALTHY, 0, log)
    in_start_period = nanoseconds(result.start) - nanoseconds(started_at) < check.start_period
    if before.status == STARTING and in_start_period:
        return msgspec.structs.replace(before, log=log)
    streak = before.failing_streak + 1
    status = UNHEALTHY if streak >= (check.retries or _RETRIES) else before.status
    return HealthState(status, streak, log)


def action(config: ContainerConfig, host: HostConfig) -> str:
    """What is done with the container when it becomes unhealthy: one of ACTIONS."""
    return (host.annotations or {}).get(ON_FAILURE) or (config.labels or {}).get(ON_FAILURE) or "none"


def check_action(config: ContainerConfig, host: HostConfig) -> None:
    """Raises InvalidParameter for an action that does not exist, or that nothing would ever set off."""
    asked = action(config, host)
    if asked not in ACTIONS:
        raise InvalidParameter(f"invalid value for {ON_FAILURE} ({asked}): must be one of {', '.join(ACTIONS)}")
    if asked != "none" and not has_check(config):
        raise InvalidParameter(f"{ON_FAILURE}={asked} needs a health check, and this container has none")


def duration(nanoseconds_: int) -> str:
    """As Go writes it: `1m30s`, `1.5s`, `200ms` (time.Duration)."""
    if nanoseconds_ < _SECOND:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000)):
            if nanoseconds_ >= size:
                return f"{_decimal(nanoseconds_, size)}{unit}"
        return f"{nanoseconds_}ns" if nanoseconds_ else "0s"
    minutes, rest = divmod(nanoseconds_, 60 * _SECOND)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if minutes or hours else ""
    return f"{text}{_decimal(rest, _SECOND)}s"


def _decimal(number: int, unit: int) -> str:
    whole, fraction = divmod(number, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
