"""References as people write them."""

from __future__ import annotations

import pytest

from kist.model.errors import InvalidParameter
from kist.model.reference import Reference

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "name", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox:latest"),
        ("busybox:1.2", "docker.io/library/busybox", "busybox:1.2"),
        ("user/app", "docker.io/user/app", "user/app:latest"),
        ("docker.io/library/busybox", "docker.io/library/busybox", "busybox:latest"),
        ("index.docker.io/user/app:x", "docker.io/user/app", "user/app:x"),
        ("localhost/app", "localhost/app", "localhost/app:latest"),
        ("host.test:5000/a/b:tag", "host.test:5000/a/b", "host.test:5000/a/b:tag"),
        ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a:latest"),
        (f"app@sha256:{HEX}", "docker.io/library/app", f"app@sha256:{HEX}"),
    ],
)
def test_names(text: str, name: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert reference.name == name
    assert reference.tagged().familiar == familiar


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("UPPER", r"repository name \(library/UPPER\) must be lowercase"),
        ("a b", "invalid reference format"),
        ("a:" + "x" * 129, "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a@sha256:123", "invalid reference format"),
        (HEX, "cannot specify 64-byte hexadecimal strings"),
        ("x" * 300, "must not be more than 255 characters"),
    ],
)
def test_bad_names_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        Reference.parse(text)
