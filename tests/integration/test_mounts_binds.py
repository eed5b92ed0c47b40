"""Binds and parts of volumes: sources, targets, how mounts travel, in the words of dockerd."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd

VOLUME = (
    "mkdir -p /v/sub/deep /v/hack; echo a > /v/file; touch /v/sub/in; ln -s / /v/hack/root; ln -s ../sub /v/hack/good;"
    "ln -s root /v/hack/bad; ln -s /sub /v/abs; ln -s ../../../.. /v/hack/up"
)


def bind(source: str | Path, target: str = "/x", **options: Any) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(source), "Target": target, "BindOptions": options}


def create(engine: Kistd, words: list[str], *mounts: dict[str, Any], name: str = "one", **host: Any) -> tuple[int, Any]:
    body = {"Image": "busybox", "Cmd": words, "HostConfig": {"Mounts": list(mounts), **host}}
    return engine.request("POST", f"/containers/create?name={name}", body)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """Directories `shared` and `private` that are mounts of that propagation."""
    for kind in ("shared", "private"):
        (tmp_path / kind).mkdir()
        subprocess.run(["mount", "--bind", tmp_path / kind, tmp_path / kind], check=True)
        subprocess.run(["mount", f"--make-{kind}", tmp_path / kind], check=True)
    try:
        yield tmp_path
    finally:
        for kind in ("shared/in", "shared/late", "shared", "private"):
            subprocess.run(["umount", "-l", tmp_path / kind], check=False, capture_output=True)


MOUNT_INSIDE = "mkdir -p /x/in; mount -t tmpfs inner /x/in; grep ' /x ' /proc/self/mountinfo"


def in_host(place: Path) -> bool:
    return f" {place} " in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(
    ("propagation", "shows", "tags"),
    [
        *(("private", False, ""), ("rprivate", False, ""), ("slave", False, "master:"), ("rslave", False, "master:")),
        *(("shared", True, "shared:"), ("rshared", True, "shared:")),
    ],
)
def test_mounts_travel_out(engine: Kistd, mounted: Path, propagation: str, shows: bool, tags: str) -> None:
    mount = f"type=bind,src={mounted}/shared,dst=/x,bind-propagation={propagation}"
    line = engine.ok("run", "--rm", "--privileged", "--mount", mount, "busybox", "sh", "-c", MOUNT_INSIDE)
    assert in_host(mounted / "shared/in") is shows
    words = line.split()
    assert "".join(word.rstrip("0123456789") for word in words[6 : words.index("-")]) == tags


@pytest.mark.parametrize(("propagation", "arrives"), [("rprivate", False), ("rslave", True), ("rshared", True)])
def test_mounts_travel_in(engine: Kistd, mounted: Path, propagation: str, arrives: bool) -> None:
    (mounted / "shared/late").mkdir()
    engine.ok("run", "-d", "--name", "one", "-v", f"{mounted}/shared:/x:{propagation}", "busybox", "sleep", "100")
    subprocess.run(["mount", "-t", "tmpfs", "late", mounted / "shared/late"], check=True)
    found = engine.ok("exec", "one", "sh", "-c", "grep -c ' /x/late ' /proc/mounts || true")
    assert found.strip() == ("1" if arrives else "0")


def test_what_a_container_has_private_stays_so_beside_shared_mounts(engine: Kistd, mounted: Path) -> None:
    lines = engine.ok(
        *("run", "--rm", "-v", f"{mounted}/shared:/x:shared", "-v", f"{mounted}:/p", "--tmpfs", "/t"),
        *("busybox", "cat", "/proc/self/mountinfo"),
    )
    tags = {words[4]: words[6] for line in lines.splitlines() if (words := line.split())}
    assert tags["/x"].startswith("shared:")
    assert tags["/p"] == tags["/t"] == tags["/etc/hosts"] == tags["/proc"] == "-"


@pytest.mark.parametrize(
    ("propagation", "kind"),
    [("shared", "shared"), ("rshared", "shared"), ("slave", "shared or slave"), ("rslave", "shared or slave")],
)
def test_what_no_mount_reaches_is_refused(engine: Kistd, mounted: Path, propagation: str, kind: str) -> None:
    result = engine.docker("run", "--rm", "-v", f"{mounted}/private:/x:{propagation}", "busybox", "true")
    assert result.status == 125
    assert f"path {mounted}/private is mounted on {mounted}/private but it is not a {kind} mount" in result.errors, (
        result.errors
    )


def test_the_data_root_is_never_held_from_inside(engine: Kistd) -> None:
    engine.ok("create", "--name", "one", "-v", "/:/host", "-v", f"{engine.base}/d:/d", "busybox", "true")
    found = engine.ok("inspect", "one", "-f", "{{range .Mounts}}{{.Destination}}={{.Propagation}} {{end}}")
    assert sorted(found.split()) == ["/d=rslave", "/host=rslave"]
    engine.ok("start", "one")
    result = engine.docker("run", "--rm", "-v", "/:/host:private", "busybox", "true")
    assert "must use either propagation mode" in result.errors


# --- sources ---


def test_kinds_of_sources(engine: Kistd, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/file").write_text("text")
    (tmp_path / "link").symlink_to("dir")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        words: tuple[str, ...] = (
            "-v",
            f"{tmp_path}/link:/l",
            "-v",
            f"{tmp_path}/dir/../dir/file:/f",
            "-v",
            f"{tmp_path}/sock:/s",
        )
        words += ("-v", f"{tmp_path}/fifo:/p", "-v", "/dev/null:/n")
        script = "cat /f; ls /l; for one in /s /p /n; do stat -c %F $one; done"
        found = engine.ok("run", "--rm", *words, "busybox", "sh", "-c", script)
    assert found == "textfile\nsocket\nfifo\ncharacter special file\n"


def test_sources_that_are_missing(engine: Kistd, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    missing = tmp_path / "new/deep"
    engine.ok("create", "--name", "made", "-v", f"{missing}:/x", "busybox", "true")
    assert not missing.exists(), "nothing is made before the start"
    engine.ok("start", "made")
    assert missing.is_dir()
    told = engine.docker("run", "--rm", "-v", f"{tmp_path}/dangling:/x", "busybox", "true").errors
    place = f"{tmp_path}/dangling"
    assert f"error while creating mount source path '{place}': mkdir {place}: file exists" in told
    for source in (place, f"{tmp_path}/none"):
        told = engine.docker("run", "--rm", "--mount", f"type=bind,src={source},dst=/x", "busybox", "true").errors
        assert f'invalid mount config for type "bind": bind source path does not exist: {source}' in told
    assert create(engine, ["true"], bind(tmp_path / "asked/for", CreateMountpoint=True))[0] == 201
    engine.ok("start", "one")
    assert (tmp_path / "asked/for").is_dir()


def test_a_source_that_goes_before_the_start(engine: Kistd, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    assert create(engine, ["true"], bind(tmp_path / "gone"))[0] == 201
    (tmp_path / "gone").rmdir()
    told = engine.docker("start", "one").errors
    assert (
        f'error mounting "{tmp_path}/gone" to rootfs at "/x": stat {tmp_path}/gone: no such file or directory' in told
    )
    assert engine.ok("inspect", "one", "-f", "{{.State.ExitCode}}") == "127\n"
    assert not (tmp_path / "gone").exists(), "--mount makes nothing"


# --- targets ---


def test_a_target_behind_a_link_that_leads_nowhere(engine: Kistd, tmp_path: Path) -> None:
    """Made where it leads, in the container."""
    (tmp_path / "in").touch()
    engine.ok(
        "run", "--name", "one", "busybox", "sh", "-c", "ln -s /no/../no/such /a; ln -s ../../../../up /b; ln -s /a /c"
    )
    engine.ok("commit", "one", "linked")
    words = ("-v", f"{tmp_path}:/a", "-v", f"{tmp_path}/in:/b", "-v", f"{tmp_path}:/c/below")
    found = engine.ok(
        "run", "--rm", *words[:4], "linked", "sh", "-c", "ls /no/such; stat -c %F /up; readlink /a; readlink /b"
    )
    assert found == "in\nregular empty file\n/no/../no/such\n../../../../up\n"
    assert engine.ok("run", "--rm", *words[4:], "linked", "ls", "/no/such/below") == "in\n"
    assert not Path("/up").exists()
    engine.ok("run", "--name", "two", "busybox", "ln", "-s", "loop", "/loop")
    engine.ok("commit", "two", "loop")
    told = engine.docker("run", "--rm", "-v", f"{tmp_path}:/loop", "loop", "true").errors
    assert "too many" in told.lower(), told
    engine.remove_all()
    engine.ok("rmi", "linked", "loop")


@pytest.mark.parametrize(("source", "target"), [("", "/etc/passwd"), ("/file", "/etc"), ("", "/etc/passwd/below")])
def test_kinds_that_do_not_fit(engine: Kistd, tmp_path: Path, source: str, target: str) -> None:
    (tmp_path / "file").touch()
    result = engine.docker("run", "--rm", "-v", f"{tmp_path}{source}:{target}", "busybox", "true")
    assert result.status == 125
    assert f'error mounting "{tmp_path}{source}" to rootfs at "{target}"' in result.errors
    assert "not a directory: Are you trying to mount a directory onto a file (or vice-versa)?" in result.errors


def test_the_deeper_is_mounted_later_and_files_cover_files(engine: Kistd, tmp_path: Path) -> None:
    for name in ("outer", "inner"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("covers\n")
    words: tuple[str, ...] = ("-v", f"{tmp_path}/inner:/a/b", "-v", f"{tmp_path}/outer:/a", "--tmpfs", "/a/b/c")
    words += ("-v", f"{tmp_path}/file:/etc/passwd")
    found = engine.ok("run", "--rm", *words, "busybox", "sh", "-c", "cat /etc/passwd; touch /a/o /a/b/i /a/b/c/t")
    assert found == "covers\n"
    assert sorted(os.listdir(tmp_path / "outer")) == ["b", "o"]
    assert sorted(os.listdir(tmp_path / "inner")) == ["c", "i"]


@pytest.mark.parametrize(
    ("options", "above", "below"),
    [
        ("", "rw", "rw"),
        (",readonly", "ro", "ro"),
        (",readonly,bind-recursive=writable", "ro", "rw"),
        (",readonly,bind-recursive=readonly,bind-propagation=rprivate", "ro", "ro"),
        (",bind-recursive=disabled", "rw", ""),
        (",readonly,bind-nonrecursive", "ro", ""),
    ],
)
def test_mounts_below_the_source(engine: Kistd, mounted: Path, options: str, above: str, below: str) -> None:
    (mounted / "shared/in").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", mounted / "shared/in"], check=True)
    script = "grep -E ' /x(/in)? ' /proc/mounts | cut -d' ' -f2,4 | cut -d, -f1"
    mount = f"type=bind,src={mounted}/shared,dst=/x{options}"
    found = dict(
        line.split() for line in engine.ok("run", "--rm", "--mount", mount, "busybox", "sh", "-c", script).splitlines()
    )
    assert (found["/x"], found.get("/x/in", "")) == (above, below)


@pytest.mark.parametrize(
    ("options", "read_only", "shown"),
    [
        ({"SizeBytes": 3 << 20, "Mode": 0o1750}, False, "rw,nosuid,nodev,noexec,relatime,size=3072k,mode=1750"),
        ({"Options": [["exec"]], "SizeBytes": 4097}, True, "ro,nosuid,nodev,relatime,size=8k"),
        ({"Options": [["noexec"]]}, False, "rw,nosuid,nodev,noexec,relatime"),
        ({}, False, "rw,nosuid,nodev,noexec,relatime"),
    ],
)
def test_options_of_tmpfs(engine: Kistd, options: dict[str, Any], read_only: bool, shown: str) -> None:
    mount = {"Type": "tmpfs", "Target": "/x", "ReadOnly": read_only, "TmpfsOptions": options}
    assert create(engine, ["grep", " /x ", "/proc/mounts"], mount)[0] == 201
    assert engine.ok("start", "-a", "one").split()[3] == shown


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([["size", "5"]], "invalid option: size"),
        ([[]], "invalid option array length"),
        ([["a"] * 3], "invalid option array"),
    ],
)
def test_options_that_no_tmpfs_has(engine: Kistd, options: list[list[str]], told: str) -> None:
    status, answer = create(engine, ["true"], {"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Options": options}})
    assert status == 400
    assert answer["message"].startswith(f'invalid mount config for type "tmpfs": {told}')


# --- parts of volumes ---


@pytest.fixture
def volume(engine: Kistd) -> Iterator[str]:
    engine.ok("run", "--rm", "-v", "parts:/v", "busybox", "sh", "-c", VOLUME)
    yield f"{engine.base}/d/volumes/parts/_data"
    engine.remove_all()
    engine.ok("volume", "rm", "parts")


def part(inside: str) -> str:
    return f"type=volume,src=parts,dst=/x,volume-subpath={inside}"


@pytest.mark.parametrize(
    ("inside", "shown"),
    [
        ("sub", "deep\nin\n"),
        ("sub/deep", ""),
        ("file", "/x\n"),
        ("hack/good", "deep\nin\n"),
        (".", "abs\nfile\nhack\nsub\n"),
    ],
)
def test_a_part_of_a_volume(engine: Kistd, volume: str, inside: str, shown: str) -> None:
    assert engine.ok("run", "--rm", "--mount", part(inside), "busybox", "ls", "/x") == shown
    assert engine.docker("create", "--name", "one", "--mount", part(inside), "busybox", "true").status == 0
    assert engine.ok("inspect", "one", "-f", "{{(index .Mounts 0).Source}}") == f"{volume}\n"


@pytest.mark.parametrize("inside", ["hack/bad", "hack/root", "abs", "hack/up"])
def test_a_part_that_leads_out_of_the_volume(engine: Kistd, volume: str, inside: str) -> None:
    engine.ok("create", "--name", "one", "--mount", part(inside), "busybox", "true")
    status, answer = engine.request("POST", "/containers/one/start")
    told = f"path concatenation escapes the base directory, base: {volume}, subpath: {inside}"
    assert (status, answer["message"]) == (400, told)


def test_a_part_that_is_not_there(engine: Kistd, volume: str) -> None:
    engine.ok("create", "--name", "one", "--mount", part("none"), "busybox", "true")
    status, answer = engine.request("POST", "/containers/one/start")
    place = f"{volume}/none"
    assert (status, answer["message"]) == (404, f"cannot access path {place}: lstat {place}: no such file or directory")
    engine.ok("run", "--rm", "-v", "parts:/v", "busybox", "mkdir", "/v/none")
    engine.ok("start", "one")
    for inside in ("../x", "/abs", "sub/../.."):
        told = engine.docker("run", "--rm", "--mount", part(inside), "busybox", "true").errors
        assert "subpath must be a relative path within the volume" in told


def test_a_part_that_is_turned_into_a_link_again_and_again(engine: Kistd, volume: str, tmp_path: Path) -> None:
    """Whatever a container finds there is the volume's, or there is no start."""
    (tmp_path / "secret").touch()
    turning = (
        f"mkdir /v/turn; ln -s {tmp_path} /v/out; while true; do mv /v/turn /v/kept; mv -T /v/out /v/turn;"
        "mv -T /v/turn /v/out; mv -T /v/kept /v/turn; done"
    )
    engine.ok("run", "-d", "--name", "turns", "-v", "parts:/v", "busybox", "sh", "-c", turning)
    outcomes = set()
    for _ in range(12):
        result = engine.docker("run", "--rm", "--mount", part("turn"), "busybox", "ls", "/x")
        assert "secret" not in result.text
        outcomes.add(result.status)
    assert outcomes <= {0, 125, 127}
