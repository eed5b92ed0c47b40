"""Every option has values to offer or is known to be free text: a new one makes somebody decide."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kist.cli import complete_values
from kist.cli.commands import GLOBAL, GROUPS, TOP
from kist.cli.parse import Command, Opt


def options() -> Iterator[tuple[tuple[str, ...], Opt]]:
    commands: list[tuple[tuple[str, ...], Command]] = [((), GLOBAL), *(((one.name,), one) for one in TOP)]
    commands += [((name, one.name), one) for name, (_, inside) in GROUPS.items() for one in inside]
    for path, command in commands:
        for option in command.options:
            yield path, option


def test_every_option_has_values_or_is_free_text() -> None:
    seen = set()
    for path, option in options():
        if option.kind == "flag":
            continue
        seen.add(option.name)
        has = option.name == "filter" or bool(complete_values.of(option.name, path))
        free = option.name in complete_values.FREE_TEXT
        assert has != free, f"{' '.join(path)} --{option.name}: give it values or list it as free text, not both"
    stale = (complete_values.FREE_TEXT | set(complete_values.OPTIONS)) - seen
    assert not stale, f"no command has {sorted(stale)}"


def test_every_filter_has_names_and_is_checked_when_it_is_read() -> None:
    for path, option in options():
        if option.name == "filter":
            assert complete_values.FILTERS[" ".join(path)], path
            assert option.check == "filter", path


@pytest.mark.parametrize("key", sorted({one for names in complete_values.FILTERS.values() for one in names}))
def test_every_filter_key_is_known(key: str) -> None:
    free = {"exited", "expose", "publish", "label", "label!", "daemon", "until"}
    assert (key in complete_values.FILTER_VALUES) != (key in free)
