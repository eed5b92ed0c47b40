"""`cp`: what a copy is called, by the ends of both paths and by what is there (docker's documented rules)."""

from __future__ import annotations

import pytest

from kist.cli.copy import Place, plan, rebased, split
from kist.model.errors import KistError


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("c:/x", ("c", "/x")),
        ("c:x:y", ("c", "x:y")),
        ("/a:b", ("", "/a:b")),
        ("./a:b", ("", "./a:b")),
        ("x", ("", "x")),
        ("-", ("", "-")),
    ],
)
def test_arguments(argument: str, expected: tuple[str, str]) -> None:
    assert split(argument) == expected


@pytest.mark.parametrize(
    ("source", "target", "member", "expected"),
    [
        (Place("/s/f", True), Place("/t", True, True), "f", ("/t", "f")),
        (Place("/s/f", True), Place("/t/g", True), "f", ("/t", "g")),
        (Place("/s/f", True), Place("/t/g"), "f", ("/t", "g")),
        (Place("/s/d", True, True), Place("/t", True, True), "d/x", ("/t", "d/x")),
        (Place("/s/d", True, True), Place("/t/e"), "d/x", ("/t", "e/x")),
        (Place("/s/d/.", True, True), Place("/t", True, True), "./x", ("/t", "./x")),
        (Place("/s/d/.", True, True), Place("/t/e"), "./x", ("/t", "e/x")),
        (Place("/", True, True), Place("/t/e"), "/x", ("/t", "e/x")),
    ],
)
def test_names(source: Place, target: Place, member: str, expected: tuple[str, str]) -> None:
    directory, rename = plan(source, target)
    assert (directory, rename(member)) == expected


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (Place("/s/d", True, True), Place("/t/f", True), "cannot copy directory"),
        (Place("/s/f", True), Place("/t/none/"), "no such directory"),
    ],
)
def test_what_cannot_be_copied(source: Place, target: Place, message: str) -> None:
    with pytest.raises(KistError, match=message):
        plan(source, target)


def test_a_followed_link_keeps_its_name() -> None:
    assert rebased("/w/l", "/w/f") == ("/w/f", "l")
    assert rebased("/w/l/", "/w/d") == ("/w/d/", "l")
    assert rebased("/w/l/.", "/w/d") == ("/w/d/.", "")
