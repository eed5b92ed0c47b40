"""Files in and out of containers by the stock docker command and by the API, with containers that mean no good."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import socket
import stat
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.conftest import Kistd, UnixConnection

TAR = {"Content-Type": "application/x-tar"}
FILES = (
    "mkdir -p /w/d/sub; echo hi >/w/f; ln /w/f /w/h; ln -s f /w/l; ln -s d /w/dl; ln -s /nowhere/x /w/dangling; "
    "ln -s /w/d /w/absolute; mkfifo /w/fifo; chmod 4755 /w/d/sub; "
)


def archive(*members: tuple[str, bytes, bytes | str], **fields: Any) -> bytes:
    """(name, type, content or target)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = kind, 0o640, 1_000_000_000
            for field, value in fields.items():
                setattr(info, field, value)
            if isinstance(content, bytes):
                info.size = len(content)
                made.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content
                made.addfile(info)
    return out.getvalue()


def put(engine: Kistd, name: str, path: str, data: bytes, query: str = "") -> tuple[int, Any]:
    return engine.request("PUT", f"/containers/{name}/archive?path={quote(path, safe='')}{query}", data, TAR)


def get(engine: Kistd, name: str, path: str) -> list[tarfile.TarInfo]:
    status, data = engine.request("GET", f"/containers/{name}/archive?path={quote(path, safe='')}")
    assert status == 200, data
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        return list(found)


def head(engine: Kistd, name: str, path: str) -> tuple[int, dict[str, Any]]:
    connection = UnixConnection(engine.socket)
    connection.request("HEAD", f"/containers/{name}/archive?path={quote(path, safe='')}")
    answer = connection.getresponse()
    told = answer.getheader("X-Docker-Container-Path-Stat")
    connection.close()
    return answer.status, json.loads(base64.b64decode(told)) if told else {}


@pytest.fixture
def box(engine: Kistd) -> Iterator[str]:
    engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", f"{FILES} touch /ready; sleep 1000")
    deadline = time.monotonic() + 10
    while head(engine, "box", "/ready")[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    yield "box"
    engine.docker("rm", "-f", "box")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/w/f", ["f"]),
        ("/w/d", ["d", "d/sub"]),
        ("/w/d/", ["d", "d/sub"]),
        ("/w/d/.", [".", "./sub"]),
        ("w/d", ["d", "d/sub"]),
        ("/w/dl", ["dl"]),
        ("/w/dl/", ["dl", "dl/sub"]),
        ("/w/dl/.", [".", "./sub"]),
        ("/w/../w/f", ["f"]),
        ("/w/absolute/..", ["w", "w/absolute", "w/d", "w/d/sub", "w/dangling", "w/dl", "w/f", "w/fifo", "w/h", "w/l"]),
    ],
)
def test_names_in_the_archive(engine: Kistd, box: str, path: str, names: list[str]) -> None:
    assert [member.name for member in get(engine, box, path)] == names


def test_what_a_stat_tells(engine: Kistd, box: str) -> None:
    def told(path: str) -> tuple[str, int, str]:
        status, found = head(engine, box, path)
        assert status == 200
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", found["mtime"])
        return found["name"], found["mode"], found["linkTarget"]

    assert told("/w/f") == ("f", 0o644, "")
    assert told("/w/l") == ("l", 1 << 27 | 0o777, "/w/f")
    assert told("/w/dangling") == ("dangling", 1 << 27 | 0o777, "/nowhere/x")
    assert told("/w/d/") == ("d", 1 << 31 | 0o755, "")
    assert told("/w/d/sub") == ("sub", 1 << 31 | 1 << 23 | 0o755, "")
    assert told("/w/fifo") == ("fifo", 1 << 25 | 0o644, "")
    assert told("/dev/null") == ("null", 1 << 26 | 1 << 21 | 0o666, "")
    assert told("/")[0] == "/"
    assert head(engine, box, "/none")[0] == 404
    assert head(engine, box, "/w/f/")[0] == 500
    assert engine.request("GET", "/containers/box/archive?path=/none") == (
        404, {"message": "Could not find the file /none in container box"})  # fmt: skip
    assert engine.request("GET", "/containers/box/archive") == (
        400, {"message": "bad parameter: pathcannot be empty"})  # fmt: skip
    assert engine.request("GET", "/containers/none/archive?path=/") == (
        404, {"message": "No such container: none"})  # fmt: skip


def test_hard_links_and_kinds_come_through(engine: Kistd, box: str) -> None:
    members = {member.name: member for member in get(engine, box, "/w")}
    assert (members["w/h"].type, members["w/h"].linkname) == (tarfile.LNKTYPE, "w/f")
    assert members["w/fifo"].isfifo()
    assert members["w/l"].linkname == "f"
    assert all(isinstance(member.mtime, int) for member in members.values())
    everything = {member.name for member in get(engine, box, "/")}
    assert {"/w/f", "/proc", "/dev", "/sys", "/etc/passwd"} <= everything
    assert not any(name.startswith(("/proc/", "/dev/", "/sys/")) for name in everything)


def _takes_attributes(directory: str) -> bool:
    """A tmpfs takes attributes of users since Linux 6.6."""
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        try:
            os.setxattr(file.name, "user.note", b"")
        except OSError:
            return False
    return True


def test_all_kinds_go_in(engine: Kistd, box: str) -> None:
    data = archive(
        ("n", tarfile.DIRTYPE, ""), ("n/f", tarfile.REGTYPE, b"abc"), ("n/h", tarfile.LNKTYPE, "n/f"),
        ("n/l", tarfile.SYMTYPE, "f"), ("n/p", tarfile.FIFOTYPE, ""), ("deep/er/f", tarfile.REGTYPE, b""),
        ("x" * 200, tarfile.REGTYPE, b"long"), ("umläut\n", tarfile.REGTYPE, b"odd"),
        pax_headers={"SCHILY.xattr.user.note": "good"}, uid=12, gid=34,
    )  # fmt: skip
    assert put(engine, box, "/w", data) == (200, b"")
    pid = engine.request("GET", "/containers/box/json")[1]["State"]["Pid"]
    root = Path(f"/proc/{pid}/root/w")
    takes_attributes = _takes_attributes(engine.base)
    status = (root / "n/f").stat()
    assert (status.st_uid, status.st_gid, status.st_nlink, stat.S_IMODE(status.st_mode)) == (12, 34, 2, 0o640)
    assert status.st_mtime == 1_000_000_000
    assert (root / "n").stat().st_mtime == 1_000_000_000
    if takes_attributes:
        assert os.getxattr(root / "n/f", "user.note") == b"good"
    assert (root / "n/l").readlink() == Path("f")
    assert stat.S_ISFIFO((root / "n/p").lstat().st_mode)
    assert (root / ("x" * 200)).read_bytes() == b"long"
    assert (root / "umläut\n").read_bytes() == b"odd"
    assert (root / "deep/er").stat().st_uid == 0
    again = {member.name: member for member in get(engine, box, "/w/n")}
    assert again["n/f"].pax_headers.get("SCHILY.xattr.user.note") == ("good" if takes_attributes else None)


@pytest.mark.parametrize(
    ("path", "data", "query", "answer"),
    [
        ("/none", archive(), "", (404, "Could not find the file /none in container box")),
        ("/w/f", archive(), "", (400, "extraction point is not a directory")),
        ("/w", archive(("d", b"0", b"x")), "&noOverwriteDirNonDir=1",
         (400, 'cannot overwrite directory "/w/d" with non-directory "/w"')),
        ("/w", archive(("f", b"5", "")), "&noOverwriteDirNonDir=true",
         (400, 'cannot overwrite non-directory "/w/f" with directory "/w"')),
        ("/w", archive(("../x", b"0", b"x")), "", (400, '"../x" is outside of "/w"')),
        ("/w", archive(("s", b"2", "../etc/passwd")), "", (400, 'invalid symlink "/w/s" -> "../etc/passwd"')),
        ("/w", archive(("h", b"1", "../etc/passwd")), "", (400, 'invalid hardlink "/w/etc/passwd" -> "../etc/passwd"')),
        ("/w", archive(("q", b"Z", "")), "", (400, "unhandled tar header type 90")),
        ("/w", b"garbage" * 200, "", (400, "archive/tar: invalid tar header: invalid header")),
        ("/w", archive(("big", b"0", b"x" * 5000))[:2000], "",
         (400, "archive/tar: invalid tar header: unexpected end of data")),
    ],
)  # fmt: skip
def test_what_cannot_go_in(
    engine: Kistd, box: str, path: str, data: bytes, query: str, answer: tuple[int, str]
) -> None:
    status, told = put(engine, box, path, data, query)
    assert (status, told["message"]) == answer


def test_an_empty_body_is_an_empty_archive(engine: Kistd, box: str) -> None:
    assert put(engine, box, "/w", b"") == (200, b"")


def test_compressed_archives(engine: Kistd, box: str) -> None:
    import bz2
    import gzip
    import lzma

    for name, compress in (("g", gzip.compress), ("b", bz2.compress), ("x", lzma.compress)):
        assert put(engine, box, "/w", compress(archive((name, b"0", b"z")))) == (200, b"")
        assert head(engine, box, f"/w/{name}")[0] == 200


def test_read_only_places(engine: Kistd, tmp_path: Path) -> None:
    engine.ok("create", "--name", "box", "--read-only", "-v", f"{tmp_path}:/b:ro", "-v", "copies:/v", "busybox", "true")
    try:
        data = archive(("x", b"0", b"abc"))
        assert put(engine, "box", "/tmp", data) == (400, {"message": "container rootfs is marked read-only"})
        assert put(engine, "box", "/b", data) == (400, {"message": "mounted volume is marked read-only"})
        assert put(engine, "box", "/v", data) == (200, b"")
        assert engine.ok("run", "--rm", "-v", "copies:/v", "busybox", "cat", "/v/x") == "abc"
    finally:
        engine.ok("rm", "-f", "box")
        engine.ok("volume", "rm", "copies")


def test_archive_mode_gives_files_to_the_containers_user(engine: Kistd) -> None:
    engine.ok("create", "--name", "box", "-u", "nobody", "busybox", "true")
    data = archive(("x", b"0", b"abc"), uid=5)
    assert put(engine, "box", "/tmp", data, "&copyUIDGID=1")[0] == 200
    (member,) = get(engine, "box", "/tmp/x")
    assert (member.uid, member.gid) == (65534, 65534)
    engine.ok("rm", "box")
    engine.ok("create", "--name", "box", "-u", "stranger", "busybox", "true")
    assert put(engine, "box", "/tmp", data, "&copyUIDGID=1") == (
        400, {"message": "unable to find user stranger: no matching entries in passwd file"})  # fmt: skip


@pytest.mark.parametrize("life", ["created", "running", "paused", "stopped"])
def test_every_life_and_every_mount(engine: Kistd, tmp_path: Path, life: str) -> None:
    (tmp_path / "host").write_text("of the host")
    (tmp_path / "one").write_text("of a file")
    command = ["busybox", "sh", "-c", "echo t >/t/inside; sleep 1000"]
    mounts = ["-v", f"{tmp_path}:/bind", "-v", "copies:/volume", "--tmpfs", "/t", "-v", f"{tmp_path}/one:/etc/one"]
    engine.ok("create", "--name", "box", *mounts, *command)
    try:
        if life != "created":
            engine.ok("start", "box")
            while head(engine, "box", "/t/inside")[0] != 200:
                time.sleep(0.02)
        if life == "paused":
            engine.ok("pause", "box")
        if life == "stopped":
            engine.ok("kill", "box")
            engine.ok("wait", "box")
        for place in ("/bind", "/volume", "/tmp", "/etc"):
            assert engine.docker("cp", "-", f"box:{place}", stdin=archive(("in", b"0", place.encode()))).status == 0
            (member,) = get(engine, "box", f"{place}/in")
            assert member.size == len(place)
        assert (tmp_path / "in").read_text() == "/bind"
        assert [member.size for member in get(engine, "box", "/etc/one")] == [9]
        assert head(engine, "box", "/t/inside")[0] == (200 if life in ("running", "paused") else 404)
        if life == "running":
            assert engine.docker("cp", "-", "box:/t", stdin=archive(("in", b"0", b"x"))).status == 0
            assert engine.ok("exec", "box", "cat", "/t/in", "/volume/in") == "x/volume"
        if life == "created":
            engine.ok("start", "box")
            assert engine.ok("exec", "box", "cat", "/tmp/in", "/volume/in", "/etc/in") == "/tmp/volume/etc"
        if life == "paused":
            engine.ok("unpause", "box")
    finally:
        engine.ok("rm", "-f", "box")
        engine.ok("volume", "rm", "copies")


def test_the_stock_command(engine: Kistd, box: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "a").write_text("A")
    (source / "sub" / "b").write_text("B")
    (source / "link").symlink_to("a")
    engine.ok("cp", str(source), "box:/new")
    engine.ok("cp", f"{source}/.", "box:/w/d")
    engine.ok("cp", f"{source}/a", "box:/w/renamed")
    engine.ok("cp", "-L", f"{source}/link", "box:/w/followed")
    assert engine.ok("exec", "box", "cat", "/new/a", "/new/sub/b", "/w/d/a", "/w/renamed", "/w/followed") == "ABAAA"
    engine.ok("cp", f"{source}/a", "box:/w/l")  # through the link
    assert engine.ok("exec", "box", "cat", "/w/f") == "A"
    out = tmp_path / "out"
    out.mkdir()
    engine.ok("cp", "box:/new", str(out))
    engine.ok("cp", "box:/new/a", f"{out}/renamed")
    engine.ok("cp", "-L", "box:/new/link", f"{out}/followed")
    engine.ok("cp", "box:/new/link", f"{out}/link")
    assert (out / "new/sub/b").read_text() == "B"
    assert (out / "renamed").read_text() == (out / "followed").read_text() == "A"
    assert (out / "link").readlink() == Path("a")
    streamed = engine.docker("cp", "box:/new", "-").out
    with tarfile.open(fileobj=io.BytesIO(streamed)) as found:
        assert found.getnames() == ["new", "new/a", "new/link", "new/sub", "new/sub/b"]
    assert engine.docker("cp", "box:/none", str(out)).errors == (
        "Error response from daemon: Could not find the file /none in container box\n"
    )
    assert "cannot copy directory" in engine.docker("cp", str(source), "box:/w/renamed").errors


def test_large_and_sparse_files_in_bounded_memory(engine: Kistd, box: str, tmp_path: Path) -> None:
    size = 300 << 20
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(size)
        file.seek(size - 3)
        file.write(b"end")
    assert engine.process is not None
    status = Path(f"/proc/{engine.process.pid}/status")

    def resident() -> int:
        return int(re.findall(r"VmRSS:\s+(\d+)", status.read_text())[0]) // 1024

    before = resident()
    engine.ok("cp", str(big), "box:/tmp/big")
    engine.ok("cp", "box:/tmp/big", f"{tmp_path}/back")
    assert resident() - before < 60
    assert (tmp_path / "back").stat().st_size == size
    with (tmp_path / "back").open("rb") as back:
        back.seek(size - 3)
        assert back.read() == b"end"


def test_links_lead_nowhere_outside(engine: Kistd, tmp_path: Path) -> None:
    """CVE-2018-15664 and its kind: a path of the container is resolved in the container."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret").write_text("of the host")
    script = f"mkdir -p /x; ln -s {victim} /x/out; ln -s ../../../../../../..{victim} /x/up; sleep 1000"
    engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    engine.ok("exec", "box", "sh", "-c", "until [ -L /x/up ]; do sleep 0.02; done")
    for path in ("/x/out/secret", "/x/up/secret"):
        assert head(engine, "box", path)[0] == 404
    assert head(engine, "box", "/proc/1/root/x/out/secret")[0] == 500  # magic links are not followed at all
    for path in ("/x/out", "/x/up"):
        assert put(engine, "box", path, archive(("secret", b"0", b"taken")))[0] == 404
    data = archive(("out/secret", b"0", b"taken"))
    assert put(engine, "box", "/x", data)[0] == 500
    engine.ok("exec", "box", "mkdir", "-p", str(victim))
    assert put(engine, "box", "/x", data)[0] == 200
    assert (victim / "secret").read_text() == "of the host"
    assert engine.ok("exec", "box", "cat", f"{victim}/secret") == "taken"  # in the container's own tree
    engine.ok("rm", "-f", "box")


def test_a_container_that_swaps_directories_and_links(engine: Kistd, tmp_path: Path) -> None:
    """While files go in and out, the container turns their directory into a link to the host's and back."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret").write_text("of the host")
    (victim / "secret").chmod(0o600)
    swap = (
        f"mkdir -p /x/a; ln -s {victim} /x/b; while :; do mv /x/a /x/c; mv /x/b /x/a; mv /x/a /x/b; mv /x/c /x/a; done"
    )
    engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", swap)
    data = archive(*((f"a/{number}", b"0", b"mine") for number in range(50)), ("a/secret", b"0", b"mine"), mode=0o4777)
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        put(engine, "box", "/x", data)
        put(engine, "box", "/x/a", archive(("secret", b"0", b"mine"), mode=0o4777))
        status, got = engine.request("GET", "/containers/box/archive?path=/x/a/secret")
        assert status != 200 or b"of the host" not in got
    assert (victim / "secret").read_text() == "of the host"
    assert stat.S_IMODE((victim / "secret").stat().st_mode) == 0o600
    assert [one.name for one in victim.iterdir()] == ["secret"]
    engine.ok("rm", "-f", "box")


def test_nothing_of_the_container_is_loaded(engine: Kistd, box: str) -> None:
    """CVE-2019-14271: after a copy kistd maps no file of the container's."""
    assert engine.docker("cp", "-a", "-", "box:/w", stdin=archive(("é", b"0", b"x"))).status == 0
    get(engine, "box", "/w")
    assert engine.process is not None
    maps = Path(f"/proc/{engine.process.pid}/maps").read_text()
    assert f"{engine.base}/d/" not in maps.replace(f"{engine.base}/d/kist.db", "")


def test_stalled_clients_stall_nobody(engine: Kistd, box: str) -> None:
    """More of them than the executor has threads."""
    stalled = []
    for number in range(40):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(engine.socket)
        if number % 2:
            connection.sendall(b"GET /containers/box/archive?path=/bin HTTP/1.1\r\nHost: x\r\n\r\n")
        else:
            length = b"Content-Length: 1000000\r\n"
            connection.sendall(b"PUT /containers/box/archive?path=/w HTTP/1.1\r\nHost: x\r\n" + length + b"\r\nabc")
        stalled.append(connection)
    time.sleep(0.3)
    begin = time.monotonic()
    assert head(engine, "box", "/w/f")[0] == 200
    assert engine.ok("run", "--rm", "busybox", "echo", "hi") == "hi\n"
    assert time.monotonic() - begin < 5
    for connection in stalled:
        connection.close()


def test_a_copy_that_breaks_off_leaves_nothing(engine: Kistd, tmp_path: Path) -> None:
    engine.ok("create", "--name", "box", "-v", f"{tmp_path}:/b", "busybox", "true")
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(engine.socket)
    part = archive(("big", b"0", bytes(2_000_000)))[:1_000_000]
    connection.sendall(
        b"PUT /containers/box/archive?path=/b HTTP/1.1\r\nHost: x\r\nContent-Length: 2003000\r\n\r\n" + part
    )
    time.sleep(0.2)
    connection.close()
    engine.ok("start", "box")  # not held up
    engine.ok("wait", "box")
    engine.ok("rm", "box")


def test_copies_and_starts_take_turns(engine: Kistd) -> None:
    engine.ok("create", "--name", "box", "busybox", "ls", "/tmp")
    data = archive(*((str(number), b"0", b"x") for number in range(500)))
    threads = [threading.Thread(target=put, args=(engine, "box", "/tmp", data)) for _ in range(4)]
    for one in threads:
        one.start()
    engine.ok("start", "box")
    for one in threads:
        one.join()
    engine.ok("start", "-a", "box")
    assert len(get(engine, "box", "/tmp")) == 501


def test_umount_right_after_rm(engine: Kistd, tmp_path: Path) -> None:
    """`docker rm c && umount /src`: nothing of the container holds what was mounted into it."""
    source = tmp_path / "source"
    source.mkdir()
    for _ in range(5):
        subprocess.run(["mount", "-t", "tmpfs", "none", source], check=True)
        try:
            engine.ok("run", "-d", "--name", "box", "-v", f"{source}:/s", "busybox", "sleep", "1000")
            engine.ok("cp", "-q", "/etc/hostname", "box:/s/x")
            engine.ok("rm", "-f", "box")
            subprocess.run(["umount", source], check=True)
            subprocess.run(["mount", "-t", "tmpfs", "none", source], check=True)
            engine.ok("create", "--name", "box", "-v", f"{source}:/s", "busybox", "true")
            engine.ok("cp", "-q", "/etc/hostname", "box:/s/x")
            engine.ok("rm", "box")
        finally:
            subprocess.run(["umount", source], check=True)


def test_events(engine: Kistd, box: str) -> None:
    since = str(time.time() - 0.001)
    get(engine, "box", "/w/f")
    put(engine, "box", "/w", archive())
    engine.request("GET", "/containers/box/export")
    told = engine.ok("events", "--since", since, "--until", str(time.time() + 0.01), "--format", "{{.Action}}")
    assert told.split() == ["archive-path", "extract-to-dir", "export"]
