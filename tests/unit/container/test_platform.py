"""Platforms as people write them."""

from __future__ import annotations

import pytest

from kist.container.platform import parse_platform
from kist.model.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("linux/amd64", ("linux", "amd64", "")),
        ("Linux/X86_64", ("linux", "amd64", "")),
        ("linux/aarch64", ("linux", "arm64", "")),
        ("linux/arm/v6", ("linux", "arm", "v6")),
        ("armhf", ("linux", "arm", "v7")),
        ("s390x", ("linux", "s390x", "")),
        ("windows(10.0.17763)/amd64", ("windows", "amd64", "")),
    ],
)
def test_platforms(text: str, wanted: tuple[str, str, str]) -> None:
    assert parse_platform(text) == wanted


@pytest.mark.parametrize("text", ["*/amd64", "", "/amd64", "linux/", "linux/a$b", "bogus", "a/b/c/d"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r": invalid argument$"):
        parse_platform(text)
