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
