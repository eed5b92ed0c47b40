"""Paths below a root that somebody hostile made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kist.kernel import path


def test_a_plain_mount_point_is_behind_no_link(tmp_path: Path) -> None:
    """An image whose /dev is a link (CVE-2026-41579)."""
    (tmp_path / "real").mkdir()
    (tmp_path / "dev").symlink_to("real")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        for name in ("/dev", "/dev/pts"):
            with pytest.raises(OSError, match="must be an ordinary directory") as caught:
                path.make_plain_mountpoint(root, name)
            assert caught.value.filename == name
        os.close(path.make_plain_mountpoint(root, "/real/a/b"))
        assert (tmp_path / "real/a/b").is_dir()
        os.close(path.make_mountpoint(root, "/dev/c", directory=True))
        assert (tmp_path / "real/c").is_dir(), "where links are allowed they are followed in the root"
    finally:
        os.close(root)


@pytest.mark.parametrize(
    ("links", "target", "made"),
    [
        ({"a": "b/c"}, "/a", "b/c"),
        ({"a": "/b/c"}, "/a/d", "b/c/d"),
        ({"a": "../../../b"}, "/a", "b"),
        ({"a": "b", "b": "x/../c"}, "/a", "c"),
        ({"real/a": "../b", "up": "real"}, "/up/a/d", "b/d"),
    ],
)
@pytest.mark.parametrize("directory", [True, False])
def test_a_mount_point_is_made_where_links_lead(
    tmp_path: Path, links: dict[str, str], target: str, made: str, directory: bool
) -> None:
    root_path = tmp_path / "root"
    (root_path / "real").mkdir(parents=True)
    for name, leads in links.items():
        (root_path / name).symlink_to(leads)
    root = os.open(root_path, os.O_PATH | os.O_DIRECTORY)
    try:
        place = path.make_mountpoint(root, target, directory)
        assert os.path.samestat(os.fstat(place), os.stat(root_path / made))
        os.close(place)
        assert (root_path / made).is_dir() is directory
        assert os.listdir(tmp_path) == ["root"]
        os.close(path.make_mountpoint(root, target, directory))
    finally:
        os.close(root)


@pytest.mark.parametrize("leads", ["loop", "loop/x", "other"])
def test_links_that_lead_to_each_other_end(tmp_path: Path, leads: str) -> None:
    (tmp_path / "loop").symlink_to(leads)
    (tmp_path / "other").symlink_to("./loop")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="Too many levels"):
            path.make_mountpoint(root, "/loop/below", directory=True)
    finally:
        os.close(root)
