"""Which containers start again, and after which pause."""

from __future__ import annotations

import itertools

import pytest

from kist.container.restarting import next_delay, starts_again, starts_at_boot
from kist.model.config import ContainerConfig, HostConfig, RestartPolicy
from kist.model.container import ContainerRecord, State


def record(policy: str, *, most: int = 0, count: int = 0, stopped: bool = False, started: bool = True,
           status: str = "exited", code: int = 0) -> ContainerRecord:  # fmt: skip
    return ContainerRecord(
        id="a" * 64, name="n", created="", image="", image_id="", config=ContainerConfig(),
        host_config=HostConfig(restart_policy=RestartPolicy(policy, most)), networks={}, path="", args=(), mounts=(),
        driver="overlay", snapshot="", state=State(status=status, exit_code=code), restart_count=count,
        has_been_started=started, manually_stopped=stopped,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "most", "count", "stopped", "code", "again"),
    [
        ("no", 0, 0, False, 1, False),
        ("", 0, 0, False, 1, False),
        ("always", 0, 9, False, 0, True),
        ("always", 0, 0, True, 1, False),
        ("unless-stopped", 0, 0, False, 0, True),
        ("unless-stopped", 0, 0, True, 0, False),
        ("on-failure", 0, 99, False, 1, True),
        ("on-failure", 0, 0, False, 0, False),
        ("on-failure", 3, 2, False, 1, True),
        ("on-failure", 3, 3, False, 1, False),
        ("on-failure", 3, 0, True, 1, False),
    ],
)
def test_at_an_end(policy: str, most: int, count: int, stopped: bool, code: int, again: bool) -> None:
    assert starts_again(record(policy, most=most, count=count, stopped=stopped, status="running"), code) is again


@pytest.mark.parametrize(
    ("given", "starts"),
    [
        (record("always", stopped=True), True),
        (record("always", started=False), False),
        (record("always", status="running"), False),
        (record("always", status="restarting"), False),
        (record("unless-stopped"), True),
        (record("unless-stopped", stopped=True), False),
        (record("on-failure", code=255), True),
        (record("on-failure", code=0), False),
        (record("on-failure", code=137, stopped=True), False),
        (record("on-failure", code=1, most=2, count=2), False),
        (record("no", code=255), False),
    ],
)
def test_when_kistd_begins(given: ContainerRecord, starts: bool) -> None:
    assert starts_at_boot(given) is starts


def test_a_record_without_a_policy_stays_down() -> None:
    bare = record("no")
    assert not starts_again(bare, 1)


def test_pauses_double_up_to_a_minute_and_begin_anew_after_ten_seconds() -> None:
    pauses = list(itertools.accumulate(range(12), lambda last, _: next_delay(last, 0.3), initial=0.0))
    assert pauses[1:] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0]
    assert next_delay(60.0, 9.9) == 60.0
    assert next_delay(60.0, 10.0) == 0.1
