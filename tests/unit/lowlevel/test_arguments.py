"""The command line of kist-runtime."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.lowlevel import arguments
from kist.lowlevel.errors import RuntimeFailure


def test_options_stand_before_and_behind_arguments() -> None:
    parsed = arguments.parse(["--root", "/r", "--log-format=json", "delete", "c", "--force"])
    assert parsed.general["root"] == "/r"
    assert parsed.general["log-format"] == "json"
    assert (parsed.command, parsed.arguments, parsed.options["force"]) == ("delete", ["c"], True)


def test_what_follows_the_container_of_an_exec_is_its_own() -> None:
    parsed = arguments.parse(["exec", "-e", "A=b", "--env", "C=d", "-t", "c", "sh", "-c", "--force"])
    assert parsed.arguments == ["c", "sh", "-c", "--force"]
    assert parsed.options["env"] == ["A=b", "C=d"]
    assert parsed.options["tty"] is True


def test_flags_take_go_words() -> None:
    assert arguments.parse(["kill", "--all=false", "c"]).options["all"] is False
    assert arguments.parse(["--systemd-cgroup=false", "list"]).general["systemd-cgroup"] is False


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nonsense"], "no such command: nonsense"),
        (["list", "--x"], "flag provided but not defined: -x"),
        (["create", "--bundle"], "flag needs an argument: -bundle"),
        (["create", "--preserve-fds", "many", "c"], "not a number"),
        (["state"], '"state" requires exactly 1 argument(s)'),
        (["kill", "a", "b", "c"], '"kill" requires a maximum of 2 argument(s)'),
        (["exec"], '"exec" requires a minimum of 1 argument(s)'),
        (["exec", "--apparmor", "x", "c", "true"], "AppArmor profiles are not supported"),
        (["--systemd-cgroup", "list"], "--systemd-cgroup is not supported"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], told: str) -> None:
    with pytest.raises(RuntimeFailure) as raised:
        arguments.parse(words)
    assert told in raised.value.message


WORDS = st.sampled_from(["create", "--bundle", "-", "--", "exec", "-e", "=", "--all="])


@given(st.lists(st.text(max_size=8) | WORDS))
def test_any_words_are_read_or_refused(words: list[str]) -> None:
    with contextlib.suppress(RuntimeFailure):
        assert arguments.parse(words).command in ("", *arguments.COMMANDS)


def test_every_command_has_a_help() -> None:
    for name in arguments.COMMANDS:
        assert arguments.usage(name).startswith(f"Usage: kist-runtime {name}")
    assert "  exec " in arguments.usage()
