"""What probes mean for the health of a container."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.container import health
from kist.model.config import ContainerConfig, Health, HostConfig
from kist.model.container import HealthState, ProbeResult
from kist.model.errors import InvalidParameter
from kist.model.timestamp import rfc3339

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def result(code: int, after: float = 100.0) -> ProbeResult:
    return ProbeResult(rfc3339(START + int(after * SECOND)), "", code, "")


def judged(check: Health, codes: list[int], after: float = 100.0) -> HealthState:
    state = HealthState()
    for code in codes:
        state = health.judged(check, state, result(code, after), rfc3339(START))
    return state


def config(*test: str, **more: object) -> ContainerConfig:
    return ContainerConfig(healthcheck=Health(test=list(test)), **more)  # type: ignore[arg-type]


def test_three_failures_in_a_row_are_too_many_unless_asked_otherwise() -> None:
    assert judged(Health(), [1, 1]) == HealthState("starting", 2, (result(1),) * 2)
    assert judged(Health(), [1, -1, 137]).status == "unhealthy"
    assert judged(Health(retries=1), [1]).status == "unhealthy"
    assert judged(Health(), [0, 1, 1]).status == "healthy"
    assert judged(Health(), [0, 1, 1, 0, 1, 1]).status == "healthy"


def test_failures_within_the_start_period_count_once_it_was_healthy() -> None:
    check = Health(retries=1, start_period=60 * SECOND)
    assert judged(check, [1, 1, 1], 59.9) == HealthState("starting", 0, (result(1, 59.9),) * 3)
    assert judged(check, [1], 60.0).status == "unhealthy"
    assert judged(check, [0, 1], 10).status == "unhealthy"


@given(st.lists(st.integers(-1, 3)), st.integers(0, 4), st.floats(0, 20), st.integers(0, 10))
def test_whatever_the_answers(codes: list[int], retries: int, after: float, period: int) -> None:
    state = judged(Health(retries=retries, start_period=period * SECOND), codes, after)
    assert len(state.log) == min(5, len(codes))
    assert [one.exit_code for one in state.log] == codes[-5:]
    if codes and codes[-1] == 0:
        assert (state.status, state.failing_streak) == ("healthy", 0)
    assert (state.status == "unhealthy") == (state.failing_streak >= (retries or 3))


def test_the_time_to_the_next_probe() -> None:
    assert health.interval(Health(), "starting", 0) == 30 * SECOND
    check = Health(interval=7 * SECOND, start_period=20 * SECOND)
    assert health.interval(check, "starting", 19 * SECOND) == 5 * SECOND
    assert health.interval(check, "starting", 20 * SECOND) == 7 * SECOND
    assert health.interval(check, "healthy", 0) == 7 * SECOND
    quick = Health(start_interval=SECOND, start_period=20 * SECOND)
    assert health.interval(quick, "starting", 0) == SECOND


def test_what_is_run() -> None:
    assert health.command(config("CMD", "a", "b c")) == ["a", "b c"]
    assert health.command(config("CMD-SHELL", "a b")) == ["/bin/sh", "-c", "a b"]
    assert health.command(config("CMD-SHELL", "a b", shell=["/bin/bash", "-ec"])) == ["/bin/bash", "-ec", "a b"]
    assert health.command(config("CMD")) == health.command(config("CMD-SHELL")) == []
    for none in (config("NONE"), config(), config("RUN", "x"), ContainerConfig()):
        assert not health.has_check(none)


def test_a_start_knows_nothing_and_an_end_is_not_healthy() -> None:
    before = HealthState("healthy", 0, (result(0),))
    assert health.begun(config("CMD", "a"), before) == HealthState("starting", 0, (result(0),))
    assert health.begun(config("CMD", "a"), None) == HealthState("starting", 0, ())
    assert health.begun(config("NONE"), None) is None
    assert health.ended(before) == HealthState("unhealthy", 0, (result(0),))
    assert health.ended(None) is None


def test_an_annotation_comes_before_a_label() -> None:
    labelled = config("CMD", "a", labels={health.ON_FAILURE: "stop"})
    assert health.action(labelled, HostConfig()) == "stop"
    assert health.action(labelled, HostConfig(annotations={health.ON_FAILURE: "kill"})) == "kill"
    assert health.action(config("CMD", "a"), HostConfig()) == "none"
    health.check_action(labelled, HostConfig())
    with pytest.raises(InvalidParameter, match="must be one of none, kill, restart, stop"):
        health.check_action(labelled, HostConfig(annotations={health.ON_FAILURE: "Kill"}))
    with pytest.raises(InvalidParameter, match="needs a health check"):
        health.check_action(ContainerConfig(labels={health.ON_FAILURE: "stop"}), HostConfig())


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0s"), (1, "1ns"), (1_500, "1.5µs"), (300_000_000, "300ms"), (1_500_000, "1.5ms"), (SECOND, "1s"),
        (1_500_000_000, "1.5s"), (60 * SECOND, "1m0s"), (90 * SECOND, "1m30s"), (3600 * SECOND, "1h0m0s"),
        (3661 * SECOND + 20_000_000, "1h1m1.02s"),
    ],
)  # fmt: skip
def test_durations_as_go_writes_them(number: int, text: str) -> None:
    assert health.duration(number) == text
