"""copy_tree: all of a tree arrives, and nothing elsewhere, whatever somebody does to the target meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from kist.snapshot.copy import copy_tree

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
# What a copy may do to the target; before each of these calls the adversary gets a turn.
_CALLS = ("mkdir", "open", "symlink", "mknod", "link", "chown", "setxattr", "chmod", "utime", "copy_file_range")


def tree(root: Path) -> Path:
    (root / "dir/sub").mkdir(parents=True)
    (root / "dir/sub/inner").write_text("inner")
    os.link(root / "dir/sub/inner", root / "dir/hard")
    (root / "file").write_text("content")
    os.chmod(root / "file", 0o4755)
    os.chown(root / "file", 12, 34)
    os.chmod(root / "file", 0o4755)
    os.setxattr(root / "file", "user.note", b"kept")
    os.symlink("/nowhere", root / "link")
    os.setxattr(root / "link", "trusted.note", b"of the link", follow_symlinks=False)
    os.chown(root / "link", 56, 78, follow_symlinks=False)
    os.mkfifo(root / "fifo", 0o620)
    os.mknod(root / "sock", stat.S_IFSOCK | 0o640)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(root / "dir", "user.note", b"of the directory")
    for name in ("dir/sub/inner", "file", "link", "fifo", "dir/sub", "dir", "."):
        os.utime(root / name, ns=(1_000, 2_000), follow_symlinks=False)
    os.chmod(root, 0o750)
    return root


def described(root: Path) -> dict[str, Any]:
    """By name, all that a copy keeps."""
    found: dict[str, Any] = {}
    inodes: dict[int, str] = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        attributes = {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        link = os.readlink(path) if path.is_symlink() else ""
        name = str(path.relative_to(root))
        same = inodes.setdefault(status.st_ino, name)
        found[name] = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, same, link, content, attributes)
        if not stat.S_ISCHR(status.st_mode):
            found[name] += (status.st_mtime_ns,)
    return found


def test_everything_is_kept(tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    target = tmp_path / "target"
    target.mkdir()
    copy_tree(str(source), str(target))
    assert described(target) == described(source)


def test_a_directory_of_another_file_system_is_copied(tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    target = Path("/dev/shm") / f"kist-copy-{os.getpid()}"
    target.mkdir()
    try:
        os.removexattr(source / "file", "user.note")
        os.removexattr(source / "dir", "user.note")
        copy_tree(str(source), str(target))
        assert (target / "file").read_text() == "content"
    finally:
        for path in sorted(target.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        target.rmdir()


def test_holes_are_kept(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for directory in (source, target):
        directory.mkdir()
    with open(source / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(32 << 20)
        file.write(b"middle")
        file.truncate(64 << 20)
    with open(source / "empty", "wb") as file:
        file.truncate(16 << 20)
    with open(source / "large", "wb") as file:
        file.write(os.urandom(300_001))
    copy_tree(str(source), str(target))
    for name in ("sparse", "empty", "large"):
        assert (target / name).read_bytes() == (source / name).read_bytes()
        assert (target / name).stat().st_blocks <= (source / name).stat().st_blocks + 8, name


def test_attributes_that_the_target_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").touch()
    os.setxattr(tmp_path / "source/file", "user.note", b"dropped")
    os.setxattr(tmp_path / "source/file", "trusted.note", b"kept")

    def refuse(path: Any, name: str, value: bytes) -> None:
        if name == "user.note":
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        real(path, name, value)

    real = os.setxattr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "setxattr", refuse)
        for number, drop in enumerate((True, False)):
            place = tmp_path / f"target{number}"
            place.mkdir()
            with contextlib.nullcontext() if drop else pytest.raises(OSError, match="not supported"):
                copy_tree(str(tmp_path / "source"), str(place), drop_attributes=drop)
    assert os.getxattr(tmp_path / "target0/file", "trusted.note") == b"kept"


def test_a_group_that_a_directory_gives_away(tmp_path: Path) -> None:
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "source/file").touch()
    (tmp_path / "source/dir").mkdir()
    os.chown(tmp_path / "target", 0, 77)
    os.chmod(tmp_path / "target", 0o2755)
    copy_tree(str(tmp_path / "source"), str(tmp_path / "target"))
    assert described(tmp_path / "target") == described(tmp_path / "source")


class Adversary:
    """Before call number `turn` of the copy it puts a link that leads outside in the place of `victim`."""

    def __init__(self, patch: pytest.MonkeyPatch, victim: Path, outside: Path, turn: int) -> None:
        self.calls, self.done = 0, False
        rename, symlink = os.rename, os.symlink

        def act() -> None:
            self.calls += 1
            if self.calls > turn and not self.done and os.path.lexists(victim):
                self.done = True
                rename(victim, f"{victim}.mine")
                symlink(outside, victim)

        for name in _CALLS:
            patch.setattr(os, name, self._watched(getattr(os, name), act))

    def _watched(self, real: Any, act: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            act()
            return real(*arguments, **options)

        return call


@pytest.mark.parametrize("name", ["dir", "dir/sub", "dir/sub/inner", "dir/hard", "file", "fifo", "null"])
def test_a_name_that_becomes_a_link_leads_nowhere(tmp_path: Path, name: str) -> None:
    """At every moment of the copy: nothing outside is made, changed or linked to."""
    source, outside = tree(tmp_path / "source"), tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "inner").write_text("secret")
    (outside / "sub/inner").write_text("secret")
    lead = outside if (source / name).is_dir() else outside / "inner"

    def state() -> list[tuple[object, ...]]:
        found = [(path, path.lstat()) for path in sorted([outside, *outside.rglob("*")])]
        return [(path, one.st_mode, one.st_uid, one.st_nlink, one.st_ctime_ns) for path, one in found]

    before = state()
    turn = 0
    while True:
        target = tmp_path / f"target-{turn}"
        target.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            adversary = Adversary(patch, target / name, lead, turn)
            with contextlib.suppress(OSError):
                copy_tree(str(source), str(target))
        assert state() == before, f"turn {turn}"
        if not adversary.done:
            return
        turn += 1
