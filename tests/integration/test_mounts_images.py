"""Mounts of type image: read-only, the image's own files, held for as long as the container is there."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd, _end_engine, _make_engine, busybox


def tree() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:

        def add(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"") -> None:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(data)
            info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
            archive.addfile(info, io.BytesIO(data))

        add("foo", data=b"bar")
        for name in ("subdir", "hack"):
            add(name, tarfile.DIRTYPE)
        add("subdir/hello", data=b"world")
        for name, target in (("root", "/"), ("good", "../subdir"), ("bad", "root"), ("up", "../../../../..")):
            add(f"hack/{name}", tarfile.SYMTYPE, target)
    return buffer.getvalue()


def add_image(engine: Kistd) -> None:
    kind = {"Content-Type": "application/x-tar"}
    status, answer = engine.request("POST", "/images/create?fromSrc=-&repo=files&tag=one", tree(), kind)
    assert status == 200, answer


@pytest.fixture
def files(engine: Kistd) -> Iterator[Kistd]:
    add_image(engine)
    yield engine
    engine.remove_all()
    engine.docker("rmi", "files:one")


def image(source: str = "files:one", target: str = "/i", **options: Any) -> dict[str, Any]:
    return {"Type": "image", "Source": source, "Target": target, **({"ImageOptions": options} if options else {})}


def create(engine: Kistd, words: list[str], *mounts: dict[str, Any], name: str = "one", **host: Any) -> tuple[int, Any]:
    body = {"Image": "busybox", "Cmd": words, "HostConfig": {"Mounts": list(mounts), **host}}
    return engine.request("POST", f"/containers/create?name={name}", body)


def test_an_image_is_mounted_read_only(files: Kistd) -> None:
    status, answer = create(
        files, ["sh", "-c", "cat /i/foo; ls -A /i; touch /i/new"], image(), image(target="/j/again")
    )
    assert (status, answer["Warnings"]) == (201, ["Image mount is an experimental feature"] * 2)
    result = files.docker("start", "-a", "one")
    assert result.text == "barfoo\nhack\nsubdir\n"
    assert "touch: /i/new: Read-only file system" in result.errors


@pytest.mark.parametrize(
    ("inside", "command", "shown"),
    [
        ("subdir", "ls", "hello\n"),
        ("hack/good", "ls", "hello\n"),
        ("subdir/hello", "cat", "world"),
        ("foo", "cat", "bar"),
    ],
)
def test_a_part_of_an_image(files: Kistd, inside: str, command: str, shown: str) -> None:
    assert create(files, [command, "/i"], image(Subpath=inside))[0] == 201
    assert files.ok("start", "-a", "one") == shown


def test_parts_that_are_not_to_be_had(files: Kistd) -> None:
    for number, inside in enumerate(("hack/bad", "hack/root", "hack/up")):
        assert create(files, ["ls", "/i"], image(Subpath=inside), name=f"c{number}")[0] == 201
        status, answer = files.request("POST", f"/containers/c{number}/start")
        assert (status, answer["message"].partition(",")[0]) == (400, "path concatenation escapes the base directory")
    create(files, ["ls", "/i"], image(Subpath="none"))
    status, answer = files.request("POST", "/containers/one/start")
    assert status == 404
    assert answer["message"].startswith("cannot access path ")
    status, answer = create(files, ["true"], image(Subpath="../../etc/passwd"), name="two")
    assert (status, answer["message"]) == (
        400,
        'invalid mount config for type "image": subpath must be a relative path within the volume',
    )


def test_an_image_that_is_not_there(files: Kistd) -> None:
    status, answer = create(files, ["true"], image("nosuch"))
    assert (status, answer["message"]) == (404, "No such image: nosuch:latest")
    assert files.request("GET", "/containers/json?all=1")[1] == []
    status, answer = create(files, ["true"], {**image(), "Source": ""})
    assert answer["message"] == 'invalid mount config for type "image": field Source must not be empty'


def test_inspect_shows_what_was_asked_for(files: Kistd) -> None:
    create(files, ["true"], image(Subpath="subdir"))
    _, found = files.request("GET", "/containers/one/json")
    (mount,) = found["Mounts"]
    assert (mount["Type"], mount["Name"], mount["Destination"]) == ("image", "files:one", "/i")
    assert (mount["RW"], mount["Mode"], mount["Propagation"]) == (False, "", "")
    assert mount["Source"].startswith(f"{files.base}/d/")
    assert found["HostConfig"]["Mounts"] == [image(Subpath="subdir")]


def test_an_image_in_use_stays(files: Kistd) -> None:
    create(files, ["cat", "/i/foo"], image())
    _, listed = files.request("GET", "/containers/json?all=1")
    _, found = files.request("GET", "/images/files:one/json")
    short, container = found["Id"][7:19], listed[0]["Id"][:12]
    status, answer = files.request("DELETE", "/images/files:one")
    assert (status, answer["message"]) == (
        409,
        f'conflict: unable to remove repository reference "files:one" (must force) - container {container} is using '
        f"its referenced image {short}",
    )
    files.request("POST", "/images/prune?filters=%7B%22dangling%22:%5B%22false%22%5D%7D")
    assert files.request("DELETE", "/images/files:one?force=1")[0] == 200
    assert files.ok("start", "-a", "one") == "bar", "by force only the name goes"
    files.remove_all()
    assert files.request("DELETE", f"/images/{short}")[0] == 200
    _, usage = files.request("GET", "/system/df")
    assert [one["RepoTags"] for one in usage["Images"]] == [["busybox:latest"]]


def test_the_image_is_counted_as_docker_counts(files: Kistd) -> None:
    create(files, ["true"], image())
    _, usage = files.request("GET", "/system/df")
    counted = {one["RepoTags"][0]: one["Containers"] for one in usage["Images"]}
    assert counted == {"busybox:latest": 1, "files:one": 0}, "containers that were made from it"


def test_files_are_copied_out_and_none_in(files: Kistd) -> None:
    create(files, ["sleep", "100"], image(), image(target="/p", Subpath="subdir"), image(target="/f", Subpath="foo"))
    for _ in ("stopped", "running"):
        for source, content in (("/i/foo", b"bar"), ("/p/hello", b"world"), ("/f", b"bar")):
            result = files.docker("cp", f"one:{source}", "-")
            assert content in result.out, (source, result.errors)
        told = files.docker("cp", "/etc/hostname", "one:/i/new").errors
        assert "mounted volume is marked read-only" in told
        files.ok("start", "one")


def test_taken_over_by_another_container(files: Kistd) -> None:
    create(files, ["true"], image())
    assert files.ok("run", "--rm", "--volumes-from", "one", "busybox", "cat", "/i/foo") == "bar"
    files.ok("create", "--name", "two", "--volumes-from", "one", "busybox", "cat", "/i/foo")
    files.ok("rm", "one")
    assert files.request("DELETE", "/images/files:one")[0] == 409
    assert files.ok("start", "-a", "two") == "bar"


def test_a_killed_kistd_forgets_nothing(own_engine: Kistd) -> None:
    add_image(own_engine)
    create(own_engine, ["sh", "-c", "cat /i/foo; sleep 100"], image())
    own_engine.ok("start", "one")
    own_engine.kill()
    own_engine.start()
    assert own_engine.request("DELETE", "/images/files:one")[0] == 409
    assert own_engine.ok("exec", "one", "cat", "/i/subdir/hello") == "world"
    own_engine.ok("restart", "-t", "0", "one")
    assert own_engine.ok("exec", "one", "cat", "/i/subdir/hello") == "world"
    own_engine.remove_all()
    own_engine.ok("rmi", "files:one")


def test_with_the_driver_that_copies() -> None:
    engine = _make_engine(busybox(), "--storage-driver", "vfs")
    try:
        add_image(engine)
        create(
            engine, ["sh", "-c", "cat /i/foo /p/hello; touch /i/x"], image(), image(target="/p", Subpath="hack/good")
        )
        result = engine.docker("start", "-a", "one")
        assert result.text == "barworld"
        assert "Read-only file system" in result.errors
        assert b"world" in engine.docker("cp", "one:/p/hello", "-").out
    finally:
        _end_engine(engine)


def test_an_image_covers_no_file(files: Kistd) -> None:
    for number, options in enumerate(({}, {"Subpath": "foo"})):
        mount = image(target="/etc/passwd" if not options else "/etc", **options)
        assert create(files, ["true"], mount, name=f"c{number}")[0] == 201
        status, answer = files.request("POST", f"/containers/c{number}/start")
        assert (status, "Are you trying to mount a directory onto a file" in answer["message"]) == (400, True), answer


def test_the_command_asks_for_the_image_that_is_missing(files: Kistd) -> None:
    """There are no registries yet: what is asked for is told in the refusal."""
    command = [str(Path(sys.executable).parent / "kist"), "-H", files.host, "run", "--rm"]
    for source, asked in (("nosuch", "nosuch:latest"), ("busybox:9", "busybox:9")):
        words = ["--mount", f"type=image,src={source},dst=/i", "busybox", "true"]
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 125
        assert f"Unable to find image '{asked}' locally\n" in done.stderr
        assert f"pull access denied for {asked.partition(':')[0]}" in done.stderr
        refused = subprocess.run(
            [*command, "--pull", "never", *words], capture_output=True, text=True, timeout=60, check=False
        )
        assert f"No such image: {asked}" in refused.stderr
