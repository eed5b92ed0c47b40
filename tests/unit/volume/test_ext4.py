"""File systems made without mkfs, held against e2fsck."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kist.volume import ext4

FSCK = shutil.which("e2fsck", path="/usr/sbin:/sbin")
SIZES = [
    256 << 10, 1 << 20, 8 << 20, (8 << 20) + 4095, 127 << 20, 128 << 20, 129 << 20, 1 << 30, (10 << 30) + 12345678,
    1 << 40,
]  # fmt: skip


@pytest.mark.skipif(FSCK is None, reason="needs e2fsck")
@pytest.mark.parametrize("size", SIZES)
def test_e2fsck_finds_nothing_wrong(tmp_path: Path, size: int) -> None:
    image = tmp_path / "image"
    ext4.make(str(image), size)
    assert size - image.stat().st_size < 160 << 20
    assert image.stat().st_blocks * 512 < max(size // 5, 6 << 20)
    assert FSCK is not None
    checked = subprocess.run([FSCK, "-fn", str(image)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "10/" in checked.stdout


@pytest.mark.parametrize("size", [0, ext4.SMALLEST - 1, ext4.LARGEST])
def test_sizes_that_do_not_go(tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match="cannot be made"):
        ext4.make(str(tmp_path / "image"), size)
    assert not (tmp_path / "image").exists()


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "image").write_text("mine")
    with pytest.raises(FileExistsError):
        ext4.make(str(tmp_path / "image"), 1 << 20)
    assert (tmp_path / "image").read_text() == "mine"
