import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from kist.kernel.placement import spread


def test_directories_of_an_ext4_are_spread() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        kind = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True, check=True).stdout
        if "ext" not in kind or not shutil.which("lsattr"):
            pytest.skip(f"/var/tmp is {kind.strip()}, or lsattr is not there")
        before = _attributes(directory)
        spread(directory)
        assert set(_attributes(directory)) == {*before, "T"}
        spread(directory)
        assert set(_attributes(directory)) == {*before, "T"}


def test_where_there_is_no_such_flag_nothing_happens() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        spread(directory)
        assert Path(directory).is_dir()


def test_a_directory_that_is_not_there_is_told() -> None:
    with pytest.raises(FileNotFoundError):
        spread("/nonexistent/directory")


def _attributes(directory: str) -> str:
    told = subprocess.run(["lsattr", "-d", directory], capture_output=True, text=True, check=True).stdout
    return told.split()[0].replace("-", "")
