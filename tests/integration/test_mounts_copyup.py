"""Copy-up: an empty volume becomes what the image has there, and nothing of any other place."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd


def tree() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", mode: int = 0o644, **fields: Any) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mode, info.mtime = kind, len(data), mode, 1_000_000_000
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))

        directory, link, hard = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
        add("data", directory, mode=0o2750, uid=33, gid=44)
        add("data/suid", data=b"s", mode=0o4755, uid=5, gid=6)
        xattrs = {"SCHILY.xattr.user.note": "kept", "SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8")}
        add("data/caps", data=b"c", mode=0o755, uid=7, pax_headers=xattrs)
        add("data/hard", hard, linkname="data/suid")
        add("data/deep", directory, mode=0o700)
        add("data/deep/link", link, linkname="../../../../etc/passwd", uid=8, gid=9)
        add("data/hard2", hard, linkname="data/suid")
        add("data/fifo", tarfile.FIFOTYPE, mode=0o620)
        add("data/null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
        add("data/large", data=bytes(range(256)) * 2000)
        add("file", data=b"content")
        for name, target in (("inside", "data"), ("outside", "../../../.."), ("host", f"{HOST}"), ("loop", "loop")):
            add(name, link, linkname=target)
        add("dots", directory)
        add("dots/up", link, linkname="../..")
        add("middle", data=b"")
    return buffer.getvalue()


HOST = "/var/tmp/kist-test-copyup"  # of the host: no image has it
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # struct vfs_cap_data, cap_net_bind_service+ep


@pytest.fixture
def image(engine: Kistd) -> Iterator[Kistd]:
    kind = {"Content-Type": "application/x-tar"}
    status, answer = engine.request("POST", "/images/create?fromSrc=-&repo=filled", tree(), kind)
    assert status == 200, answer
    yield engine
    engine.remove_all()
    _, listed = engine.request("GET", "/volumes")
    for volume in listed["Volumes"] or ():
        engine.ok("volume", "rm", volume["Name"])
    engine.ok("rmi", "filled")


def create(engine: Kistd, *binds: str, **host: Any) -> tuple[int, Any]:
    body = {"Image": "filled", "Cmd": ["/none"], "HostConfig": {"Binds": list(binds), **host}}
    return engine.request("POST", "/containers/create", body)


def data(engine: Kistd, name: str = "vol") -> Path:
    return Path(engine.base) / "d/volumes" / name / "_data"


def kinds(root: Path) -> dict[str, tuple[str, int, int]]:
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        found[str(path.relative_to(root))] = (stat.filemode(status.st_mode), status.st_uid, status.st_gid)
    return found


def test_everything_of_a_directory_arrives(image: Kistd) -> None:
    status, answer = create(image, "vol:/data")
    assert status == 201, answer
    root = data(image)
    assert kinds(root) == {
        ".": ("drwxr-s---", 33, 44),
        "suid": ("-rwsr-xr-x", 5, 6),
        "hard": ("-rwsr-xr-x", 5, 6),
        "hard2": ("-rwsr-xr-x", 5, 6),
        "caps": ("-rwxr-xr-x", 7, 0),
        "deep": ("drwx------", 0, 0),
        "deep/link": ("lrwxrwxrwx", 8, 9),
        "fifo": ("prw--w----", 0, 0),
        "null": ("crw-rw-rw-", 0, 0),
        "large": ("-rw-r--r--", 0, 0),
    }
    assert {(root / name).stat().st_ino for name in ("suid", "hard", "hard2")} == {(root / "suid").stat().st_ino}
    assert os.getxattr(root / "caps", "user.note") == b"kept"
    assert os.getxattr(root / "caps", "security.capability") == CAPABILITY
    assert os.readlink(root / "deep/link") == "../../../../etc/passwd"
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert (root / "large").read_bytes() == bytes(range(256)) * 2000
    assert (root / "suid").stat().st_mtime == 1_000_000_000


def test_links_on_the_way_stay_in_the_image(image: Kistd) -> None:
    Path(HOST).mkdir(exist_ok=True)
    (Path(HOST) / "secret").touch()
    try:
        assert (
            create(image, "in:/inside", "out:/outside", "ho:/host", "do:/dots/up/../data", "to:/dots/up/data")[0] == 201
        )
    finally:
        (Path(HOST) / "secret").unlink()
        Path(HOST).rmdir()
    full = sorted(os.listdir(data(image, "in")))
    assert "suid" in full
    assert sorted(os.listdir(data(image, "to"))) == full, "`..` ends at the image's root"
    assert os.listdir(data(image, "do")) == [], "a target is made clean before it is looked for: /dots/data"
    assert set(os.listdir(data(image, "out"))) >= {"data", "file", "inside"}, "the root of the image"
    assert os.listdir(data(image, "ho")) == []


@pytest.mark.parametrize(
    ("target", "status", "told"),
    [
        ("/file", 500, "source /file is not directory"),
        ("/middle/below", 500, "stat /middle/below: not a directory"),
        ("/loop", 500, "stat /loop: too many levels of symbolic links"),
    ],
)
def test_what_is_no_directory(image: Kistd, target: str, status: int, told: str) -> None:
    assert create(image, f"vol:{target}") == (status, {"message": told})
    assert image.request("GET", "/volumes")[1]["Volumes"] in (None, []), "the volume that was made for it is gone"
    assert create(image, f"vol:{target}:nocopy")[0] == 201, "nothing is looked at"


def test_an_anonymous_volume_over_a_file(image: Kistd) -> None:
    body = {"Image": "filled", "Cmd": ["/none"], "Volumes": {"/file": {}}}
    status, answer = image.request("POST", "/containers/create", body)
    assert (status, answer["message"]) == (500, "cannot mount volume over existing file, file exists /file")


@pytest.mark.parametrize(
    "mount",
    [
        "vol:/data:nocopy",
        {"Type": "volume", "Source": "vol", "Target": "/data", "VolumeOptions": {"NoCopy": True}},
    ],
)
def test_nocopy(image: Kistd, mount: str | dict[str, Any]) -> None:
    asked = {"Binds": [mount]} if isinstance(mount, str) else {"Mounts": [mount]}
    body = {"Image": "filled", "Cmd": ["/none"], "HostConfig": asked}
    assert image.request("POST", "/containers/create", body)[0] == 201
    assert os.listdir(data(image)) == []


def test_only_an_empty_volume_is_filled(image: Kistd) -> None:
    image.ok("run", "--rm", "-v", "vol:/v", "busybox", "touch", "/v/mine")
    assert create(image, "vol:/data")[0] == 201
    assert os.listdir(data(image)) == ["mine"]


def test_a_part_of_a_volume_is_filled_itself(image: Kistd) -> None:
    image.ok("run", "--rm", "-v", "vol:/v", "busybox", "sh", "-c", "mkdir /v/part /v/full; touch /v/full/mine")

    def part(inside: str) -> tuple[int, Any]:
        options = {"Subpath": inside}
        mounts = [{"Type": "volume", "Source": "vol", "Target": "/data", "VolumeOptions": options}]
        return create(image, Mounts=mounts)

    for inside in ("part", "full", "none"):
        assert part(inside)[0] == 201
    assert sorted(os.listdir(data(image))) == ["full", "part"]
    assert "suid" in os.listdir(data(image) / "part")
    assert os.listdir(data(image) / "full") == ["mine"]
