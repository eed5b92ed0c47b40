"""What the health flags of run and create ask the engine for."""

from __future__ import annotations

import pytest

from kist.cli.commands import CONTAINER
from kist.cli.options import body, health_check, restart_policy
from kist.cli.parse import Parsed, UsageError, parse, parse_duration
from kist.model.errors import KistError

CREATE = next(command for command in CONTAINER if command.name == "create")


def parsed(*words: str) -> Parsed:
    return parse(CREATE, [*words, "busybox"], "kist create")


def test_flags_become_a_health_check() -> None:
    asked = parsed("--health-cmd", "true", "--health-interval", "1m30s", "--health-timeout=200ms", "--health-retries",
                   "4", "--health-start-period", "1.5s", "--health-start-interval", "1h")  # fmt: skip
    assert body(asked, "busybox", [])["Healthcheck"] == {
        "Test": ["CMD-SHELL", "true"], "Interval": 90 * 10**9, "Timeout": 2 * 10**8, "Retries": 4,
        "StartPeriod": 15 * 10**8, "StartInterval": 3600 * 10**9,
    }  # fmt: skip
    assert health_check(parsed("--health-timeout", "1s")) == {
        "Test": None, "Interval": 0, "Timeout": 10**9, "Retries": 0, "StartPeriod": 0, "StartInterval": 0}  # fmt: skip
    assert health_check(parsed("--no-healthcheck")) == {"Test": ["NONE"]}
    assert "Healthcheck" not in body(parsed(), "busybox", [])


def test_what_is_done_with_an_unhealthy_one_goes_as_an_annotation() -> None:
    asked = parsed("--annotation", "a=b", "--health-on-failure", "restart")
    assert body(asked, "busybox", [])["HostConfig"]["Annotations"] == {"a": "b", "kist.health-on-failure": "restart"}
    assert body(parsed(), "busybox", [])["HostConfig"]["Annotations"] is None


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--no-healthcheck", "--health-retries", "1"), "--no-healthcheck conflicts with --health-* options"),
        (("--health-interval=-1s",), "--health-interval cannot be negative"),
        (("--health-start-interval=-1s",), "--health-start-interval cannot be negative"),
        (("--rm", "--restart", "always"), "conflicting options: cannot specify both --restart and --rm"),
        (("--restart", ":1"), "invalid restart policy format: no policy provided before colon"),
        (("--restart", "on-failure:1:2"), "invalid restart policy format: maximum retry count must be an integer"),
    ],
)
def test_what_is_refused_before_the_engine_is_asked(words: tuple[str, ...], text: str) -> None:
    with pytest.raises(KistError) as caught:
        body(parsed(*words), "busybox", [])
    assert caught.value.message == text


def test_policies() -> None:
    assert restart_policy("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert restart_policy("always") == {"Name": "always", "MaximumRetryCount": 0}
    assert restart_policy("") == {"Name": "", "MaximumRetryCount": 0}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("5", 'missing unit in duration "5"'), ("5x", 'unknown unit "x" in duration "5x"'), ("s", 'invalid duration "s"')],
)
def test_durations_that_are_none(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_duration(text)
    with pytest.raises(UsageError, match='for "--health-interval" flag: time: '):
        parsed("--health-interval", text)
