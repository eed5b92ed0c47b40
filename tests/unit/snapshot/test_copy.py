"""copy_tree: all of a tree arrives, and nothing elsewhere, whatever somebody does to the target meanwhile."""

from __future__ import annotations

import contextlib
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
