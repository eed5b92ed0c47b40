"""One suite for every snapshot driver."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kist.container.commit import EMPTY_LAYER
from kist.image.service import ImageService
from kist.kernel import aside, path
from kist.model.errors import Conflict, InvalidParameter, KistError, NotFound
from kist.snapshot.base import DirectoryDriver
from kist.snapshot.contract import SnapshotRecord
from kist.snapshot.overlay import OverlayDriver
from kist.snapshot.vfs import VfsDriver
from kist.store.content import ContentStore
from kist.store.database import Database
from kist.volume.filling import open_root

DRIVERS: list[type[DirectoryDriver]] = [OverlayDriver, VfsDriver]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class MemoryRecords:
    def __init__(self) -> None:
        self._values: dict[str, SnapshotRecord] = {}

    def get(self, key: str) -> SnapshotRecord | None:
        return self._values.get(key)

    def put(self, key: str, value: SnapshotRecord) -> None:
        self._values[key] = value

    def delete(self, key: str) -> None:
        self._values.pop(key, None)

    def values(self) -> list[SnapshotRecord]:
        return list(self._values.values())


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.name)
def driver(request: pytest.FixtureRequest) -> Iterator[DirectoryDriver]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        yield request.param(f"{directory}/snapshots", MemoryRecords())


def layer(*members: tuple[str, bytes | str | None]) -> io.BytesIO:
    """A tar: bytes make a file, None a directory, `-> x` a symbolic link, `=> x` a hard link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.mtime = 1_000_000_000
            info.mode = 0o644
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                info.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
                info.linkname = content[3:]
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    out.seek(0)
    return out


def prepare(driver: DirectoryDriver, key: str, parent: str, *, init: bool = False) -> None:
    """With all that takes long."""
    fill = driver.prepare(key, parent, init=init)
    if fill is not None:
        fill()


def commit(driver: DirectoryDriver, name: str, parent: str, *members: tuple[str, bytes | str | None]) -> None:
    prepare(driver, f"active-{name}", parent)
    driver.apply(f"active-{name}", layer(*members))
    driver.commit(name, f"active-{name}")


def opened(driver: DirectoryDriver, key: str, *, read_only: bool = False) -> int:
    """A descriptor of the mounted snapshot, which is mounted nowhere."""
    first = driver.mounts(key, read_only=read_only)[0]
    if first.type == "bind":
        return os.open(first.source, os.O_RDONLY | os.O_DIRECTORY)
    return aside.detached_overlay(first.source, [word for word in first.options if word not in ("ro", "rw")])


def content(driver: DirectoryDriver, key: str) -> dict[str, bytes]:
    root = opened(driver, key)
    base = f"/proc/self/fd/{root}"
    try:
        return {
            os.path.join(directory, name)[len(base) + 1 :]: Path(directory, name).read_bytes()
            for directory, _, names in os.walk(base)
            for name in names
            if os.path.isfile(os.path.join(directory, name)) and not os.path.islink(os.path.join(directory, name))
        }
    finally:
        os.close(root)


def test_a_child_sees_its_parents_files(driver: DirectoryDriver) -> None:
    commit(driver, "one", "", ("a", b"1"), ("d", None), ("d/b", b"2"))
    commit(driver, "two", "one", ("a", b"new"), ("d/c", b"3"))
    assert content(driver, "two") == {"a": b"new", "d/b": b"2", "d/c": b"3"}
    assert content(driver, "one") == {"a": b"1", "d/b": b"2"}


def test_whiteouts_hide_and_opaque_directories_empty(driver: DirectoryDriver) -> None:
    commit(driver, "one", "", ("a", b"1"), ("keep", b"k"), ("d", None), ("d/x", b"x"), ("d/y", b"y"))
    commit(driver, "two", "one", (".wh.a", b""), ("d", None), ("d/.wh..wh..opq", b""), ("d/z", b"z"))
    assert content(driver, "two") == {"keep": b"k", "d/z": b"z"}


@pytest.mark.parametrize("instead", [None, b"x", "-> c"], ids=["directory", "file", "link"])
def test_a_directory_by_a_link_that_is_replaced_is_another(
    driver: DirectoryDriver, instead: bytes | str | None
) -> None:
    """Names are resolved anew once a link on their way has gone."""
    members: list[tuple[str, bytes | str | None]] = [("b", None), ("c", None), ("a", "-> b"), ("a/f1", b"1")]
    if isinstance(instead, bytes):
        members += [("a", instead), ("a", None), ("a/f2", b"2")]
    else:
        members += [("a", instead), ("a/f2", b"2")]
    commit(driver, "one", "", *members)
    assert content(driver, "one") == {"b/f1": b"1", "c/f2" if isinstance(instead, str) else "a/f2": b"2"}


def test_several_directories_are_emptied_and_whited_out_in_one_layer(driver: DirectoryDriver) -> None:
    commit(driver, "one", "", ("d", None), *[(f"d/{name}/f", b"x") for name in "abc"], ("e/f", b"x"), ("keep", b"k"))
    commit(driver, "two", "one", ("d", None), ("d/.wh..wh..opq", b""), ("d/z", b"z"), ("n/f", b"x"), (".wh.n", b""),
           (".wh.e", b""))  # fmt: skip
    assert content(driver, "two") == {"keep": b"k", "d/z": b"z"}


def test_what_is_written_stays_in_the_active_snapshot(driver: DirectoryDriver) -> None:
    commit(driver, "one", "", ("a", b"1"))
    prepare(driver, "container", "one")
    root = opened(driver, "container")
    Path(f"/proc/self/fd/{root}/a").write_bytes(b"changed")
    os.close(root)
    assert content(driver, "container") == {"a": b"changed"}
    assert content(driver, "one") == {"a": b"1"}


def test_an_init_snapshot_has_the_mount_points(driver: DirectoryDriver) -> None:
    commit(driver, "one", "", ("a", b"1"))
    prepare(driver, "container", "one", init=True)
    root = opened(driver, "container")
    for name in ("proc", "sys", "dev/pts", "etc/resolv.conf", ".dockerenv"):
        assert os.path.exists(f"/proc/self/fd/{root}/{name}"), name
    os.close(root)


def test_links_modes_owners_and_times_are_kept(driver: DirectoryDriver) -> None:
    commit(driver, "one", "", ("f", b"data"), ("hard", "=> f"), ("soft", "-> f"))
    root = opened(driver, "one")
    base = f"/proc/self/fd/{root}"
    assert os.stat(f"{base}/f").st_ino == os.stat(f"{base}/hard").st_ino
    assert os.readlink(f"{base}/soft") == "f"
    assert os.stat(f"{base}/f").st_mtime == 1_000_000_000
    assert os.stat(f"{base}/f").st_mode & 0o7777 == 0o644
    os.close(root)


@pytest.mark.parametrize(
    "members",
    [
        [("../escape", b"x")],
        [("a/../../escape", b"x")],
        [("link", "-> /tmp"), ("link/../../escape", b"x")],
        [("hard", "=> ../../etc/passwd")],
        [(".wh...", b"")],
    ],
)
def test_names_that_climb_out_are_refused(
    driver: DirectoryDriver, members: list[tuple[str, bytes | str | None]]
) -> None:
    prepare(driver, "bad", "")
    with pytest.raises(InvalidParameter):
        driver.apply("bad", layer(*members))
    driver.remove("bad")


def test_links_lead_nowhere_outside(driver: DirectoryDriver, tmp_path: Path) -> None:
    prepare(driver, "bad", "")
    with contextlib.suppress(KistError):  # refused, or kept inside
        driver.apply("bad", layer(("link", f"-> {tmp_path}"), ("link/inside", b"x")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"not a tar at all" * 100, b"\0" * 100, b"x" * 512])
def test_garbage_is_refused(driver: DirectoryDriver, data: bytes) -> None:
    prepare(driver, "bad", "")
    with pytest.raises(InvalidParameter):
        driver.apply("bad", io.BytesIO(data))


def test_the_life_cycle_is_guarded(driver: DirectoryDriver) -> None:
    commit(driver, "one", "", ("a", b"1"))
    prepare(driver, "child", "one")
    with pytest.raises(Conflict):
        prepare(driver, "child", "one")
    with pytest.raises(Conflict):
        driver.remove("one")
    with pytest.raises(Conflict):
        prepare(driver, "grandchild", "child")
    with pytest.raises(Conflict):
        driver.commit("again", "one")
    with pytest.raises(NotFound):
        driver.mounts("nothing")
    driver.remove("child")
    driver.remove("one")
    driver.collect()
    assert not driver.exists("one")


def test_an_image_is_unpacked_counted_and_synced_beside_the_thread_that_answers(
    driver: DirectoryDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, threading.Thread] = {}

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(driver, name)

        def call(*arguments: Any) -> Any:
            threads[name] = threading.current_thread()
            return real(*arguments)

        return call

    slow = ("apply", "usage", "_sync")
    for name in slow:
        monkeypatch.setattr(driver, name, watched(name))
    database = Database(str(tmp_path / "database"))
    blobs = ContentStore(str(tmp_path / "content"))
    digest = blobs.put(layer(("a", b"12345")).read())
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest]}}
    image = asyncio.run(ImageService(database, blobs, driver).add(json.dumps(config).encode(), [digest]))
    database.close()
    assert driver.stat(image.snapshot).size == image.size == 5
    assert set(threads) == set(slow)
    assert threading.current_thread() not in threads.values()


def test_cleanup_removes_what_nobody_recorded(driver: DirectoryDriver) -> None:
    commit(driver, "one", "", ("a", b"1"))
    root = os.path.dirname(os.path.dirname(driver.directory("one")))
    os.makedirs(f"{root}/999/fs")
    driver.cleanup()
    assert not os.path.exists(f"{root}/999")
    assert content(driver, "one") == {"a": b"1"}


def test_usage_counts_bytes_and_inodes(driver: DirectoryDriver) -> None:
    commit(driver, "one", "", ("a", b"12345"), ("hard", "=> a"), ("d", None))
    assert driver.stat("one").size == 5
    assert driver.usage("one").inodes == 2


def test_hostile_paths_resolve_in_the_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("inside")
    os.symlink("/etc/passwd", tmp_path / "absolute")
    os.symlink("../../../../etc/passwd", tmp_path / "climbing")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        for name in ("absolute", "climbing", "../../etc/passwd"):
            assert path.read_file_in_root(root, name, 100) == b"inside"
        os.close(path.make_directories(root, "a/../b/c"))
    finally:
        os.close(root)


@contextlib.contextmanager
def mounted(driver: DirectoryDriver, key: str) -> Iterator[Path]:
    """A snapshot as its container sees it."""
    root = open_root(driver.mounts(key))
    try:
        yield Path(f"/proc/self/fd/{root}")
    finally:
        os.close(root)


def change(root: Path) -> None:
    """A bit of everything."""
    (root / "new/deep").mkdir(parents=True)
    (root / "new/deep/f").write_bytes(b"new")
    os.link(root / "new/deep/f", root / "new/hard")
    (root / "new/link").symlink_to("deep/f")
    (root / "changed").write_bytes(b"other")
    (root / "gone").unlink()
    shutil.rmtree(root / "dir")
    (root / "dir").mkdir()
    (root / "dir/again").write_bytes(b"again")
    shutil.rmtree(root / "tree")
    (root / "tree").write_bytes(b"a file now")
    (root / "mode").chmod(0o600)
    os.setxattr(root / "new/deep/f", "user.note", b"\xff\x00kept")


BASE = (
    ("changed", b"old"), ("gone", b"1"), ("dir", None), ("dir/lost", b"2"), ("tree", None), ("tree/inner", b"3"),
    ("mode", b"4"), ("same", None), ("same/f", b"5"),
)  # fmt: skip
CHANGED = {
    "/changed": 0, "/dir": 0, "/dir/again": 1, "/dir/lost": 2, "/gone": 2, "/mode": 0, "/new": 1, "/new/deep": 1,
    "/new/deep/f": 1, "/new/hard": 1, "/new/link": 1, "/tree": 0,
}  # fmt: skip


def test_changes_are_told(driver: DirectoryDriver) -> None:
    commit(driver, "base", "", *BASE)
    prepare(driver, "box", "base", init=True)
    assert driver.changes("box")() == []
    with mounted(driver, "box") as root:
        change(root)
    found = driver.changes("box")()
    assert {one.path: int(one.kind) for one in found} == CHANGED
    assert [one.path for one in found] == sorted(CHANGED, key=lambda one: one.split("/"))


def test_a_diff_is_a_layer(driver: DirectoryDriver) -> None:
    """What it holds makes of the parent what the container had; the same files give the same bytes."""
    commit(driver, "base", "", *BASE)
    prepare(driver, "box", "base", init=True)
    with mounted(driver, "box") as root:
        change(root)
    first, second = io.BytesIO(), io.BytesIO()
    driver.diff("box")(first.write)
    driver.diff("box")(second.write)
    assert first.getvalue() == second.getvalue()
    first.seek(0)
    prepare(driver, "again", "base")
    driver.apply("again", first)
    with mounted(driver, "again") as root:
        assert (root / "new/deep/f").read_bytes() == b"new"
        assert (root / "new/hard").stat().st_nlink == 2
        assert (root / "new/link").readlink() == Path("deep/f")
        assert os.getxattr(root / "new/deep/f", "user.note") == b"\xff\x00kept"
        assert (root / "changed").read_bytes() == b"other"
        assert (root / "tree").read_bytes() == b"a file now"
        assert (root / "mode").stat().st_mode & 0o777 == 0o600
        assert os.listdir(root / "dir") == ["again"]
        assert sorted(os.listdir(root)) == ["changed", "dir", "mode", "new", "same", "tree"]


def test_a_diff_of_nothing_is_the_empty_layer(driver: DirectoryDriver) -> None:
    commit(driver, "base", "", ("a", b"1"))
    prepare(driver, "box", "base", init=True)
    out = io.BytesIO()
    driver.diff("box")(out.write)
    assert f"sha256:{hashlib.sha256(out.getvalue()).hexdigest()}" == EMPTY_LAYER
