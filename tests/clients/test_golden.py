"""Every endpoint in every version answers as the golden files say (golden.py writes them anew)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.golden import GOLDEN, Scene, text_of
from tests.conftest import Kistd, _end_engine, _make_engine

NAMES = sorted(path.stem for path in GOLDEN.glob("*.json"))


@pytest.fixture(scope="module")
def answers(busybox_archive: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Of an engine of its own: lists show what others left."""
    engine: Kistd = _make_engine(busybox_archive)
    try:
        yield Scene(engine).answers()
    finally:
        _end_engine(engine)


def test_there_is_a_file_for_every_endpoint(answers: dict[str, dict[str, Any]]) -> None:
    assert sorted(answers) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_the_golden_ones(answers: dict[str, dict[str, Any]], name: str) -> None:
    assert text_of(answers[name]) == (GOLDEN / f"{name}.json").read_text()
