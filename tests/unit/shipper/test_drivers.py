"""Drivers of other packages are found by their entry points; values are read as Go reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kist.shipper import drivers, values


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "other_driver.py").write_text(
        "from kist.shipper.driver import Driver\nclass Mine(Driver):\n    pass\nclass Strange:\n    pass\n"
    )
    information = tmp_path / "other-1.dist-info"
    information.mkdir()
    (information / "entry_points.txt").write_text(
        "[console_scripts]\nmine = no:no\n[kist.log_drivers]\nmine = other_driver:Mine\n"
        "strange = other_driver:Strange\n"
        "gone = nowhere_at_all:X\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    drivers.plugins.cache_clear()
    yield tmp_path
    drivers.plugins.cache_clear()
    drivers.driver_class.cache_clear()


def test_a_package_brings_a_driver(package: Path) -> None:
    found = drivers.driver_class("mine")
    assert found is not None and found.__name__ == "Mine"
    assert {"mine", "syslog"} <= set(drivers.names())
    assert drivers.driver_class("other") is None


@pytest.mark.parametrize(("name", "text"), [("strange", "is not a kist"), ("gone", "cannot be loaded: No module")])
def test_one_that_is_none_is_refused(package: Path, name: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        drivers.driver_class(name)


@pytest.mark.parametrize(
    ("text", "base", "size"),
    [("1m", 1000, 10**6), ("1m", 1024, 1 << 20), ("1.5 kB", 1000, 1500), ("10", 1000, 10), ("2GiB", 1024, 2 << 30)],
)
def test_sizes(text: str, base: int, size: int) -> None:
    assert values.size(text, base) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1x", "1ib", "1 mm"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="invalid s"):
        values.size(text, 1000)


def test_durations() -> None:
    assert values.duration("1m30s") == 90
    assert values.duration("250ms") == 0.25
    with pytest.raises(ValueError, match='time: missing unit in duration "1"'):
        values.duration("1")
    with pytest.raises(ValueError, match='time: invalid duration "x"'):
        values.duration("x")
