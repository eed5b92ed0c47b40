"""Volumes as a whole: export, import, clone and snapshot, by the API and by the command."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd
from tests.integration.test_volumes_options import TMPFS, data, is_mounted

TAR = {"Content-Type": "application/x-tar"}


@pytest.fixture
def made(engine: Kistd) -> Iterator[Kistd]:
    yield engine
    engine.remove_all()
    for name in engine.ok("volume", "ls", "-q").split():
        engine.ok("volume", "rm", name)
    assert os.listdir(f"{engine.base}/d/volumes") == []


def kist(engine: Kistd, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-P", "-m", "kist.cli.main", "-H", engine.host, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


def filled(engine: Kistd, name: str, *options: str) -> None:
    engine.ok("volume", "create", *options, "--label", "a=b", name)
    script = (
        "mkdir -m 750 /x/dir; echo one > /x/dir/file; ln /x/dir/file /x/hard; ln -s /etc/passwd /x/link; "
        "mkfifo /x/pipe; chown 5:6 /x/dir/file; chmod 711 /x; chown 7:8 /x; "
        "dd if=/dev/zero of=/x/sparse bs=1 seek=10M count=1 2>&1"
    )
    engine.ok("run", "--rm", "-v", f"{name}:/x", "busybox", "sh", "-c", script)


def listing(engine: Kistd, name: str) -> str:
    script = "cd /x; stat -c '%n %a %u %g %F %s %h' . $(find . | sort | tail -n +2); cat dir/file; readlink link"
    return engine.ok("run", "--rm", "-v", f"{name}:/x", "busybox", "sh", "-c", script)


def test_what_is_exported_can_be_imported(made: Kistd, tmp_path: Path) -> None:
    filled(made, "vol")
    exported = kist(made, "volume", "export", "vol")
    assert exported.returncode == 0, exported.stderr
    with tarfile.open(fileobj=io.BytesIO(exported.stdout)) as archive:
        assert {"./dir/file", "./hard", "./link", "./pipe"} < set(archive.getnames())
    imported = kist(made, "volume", "import", "copy", stdin=exported.stdout)
    assert (imported.returncode, imported.stdout) == (0, b"copy\n"), imported.stderr
    assert listing(made, "copy") == listing(made, "vol")
    file = tmp_path / "archive.tar.gz"
    file.write_bytes(gzip.compress(exported.stdout))
    assert kist(made, "volume", "import", "third", str(file)).returncode == 0
    assert listing(made, "third") == listing(made, "vol")
    assert kist(made, "volume", "export", "-o", str(tmp_path / "out.tar"), "vol").returncode == 0
    assert (tmp_path / "out.tar").read_bytes() == exported.stdout
    assert [one.name for one in tmp_path.glob("*.partial")] == []


def test_what_is_not_to_be_had(made: Kistd, tmp_path: Path) -> None:
    answer = kist(made, "volume", "export", "-o", str(tmp_path / "out"), "nosuch")
    assert (answer.returncode, b"get nosuch: no such volume" in answer.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []
    filled(made, "vol")
    _, archive = made.request("GET", "/kist/volumes/vol/export")
    told = {"message": "import vol: volume is not empty"}
    assert made.request("POST", "/kist/volumes/vol/import", archive, TAR) == (409, told)
    assert made.request("POST", "/kist/volumes/a/import", archive, TAR)[0] == 400
    assert made.request("POST", "/kist/volumes/nosuch/clone?to=new")[0] == 404
    assert made.request("POST", "/kist/volumes/vol/clone")[0] == 400
    assert made.request("POST", "/kist/volumes/vol/clone?to=../x")[0] == 400
    told = {"message": "clone vol: a volume named vol exists already"}
    assert made.request("POST", "/kist/volumes/vol/clone?to=vol") == (409, told)
    assert made.ok("volume", "ls", "-q") == "vol\n"


def hostile() -> dict[str, bytes]:
    found = {"garbage": b"x" * 5000}
    for name in ("../escape", "/../escape", "dir/../../escape"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("before"))
            archive.addfile(tarfile.TarInfo(name))
        found[name] = buffer.getvalue()
    return found


@pytest.mark.parametrize("what", hostile())
@pytest.mark.parametrize("known", [False, True])
def test_an_archive_that_is_none_leaves_nothing(made: Kistd, what: str, known: bool) -> None:
    if known:
        made.ok("volume", "create", "vol")
    assert made.request("POST", "/kist/volumes/vol/import", hostile()[what], TAR)[0] == 400
    assert made.ok("volume", "ls", "-q") == ("vol\n" if known else "")
    assert os.listdir(f"{made.base}/d/volumes") == (["vol"] if known else [])
    if known:
        assert os.listdir(data(made, "vol")) == []


def test_an_archive_with_links_stays_inside(made: Kistd, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "victim")
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("link/file"))
    made.request("POST", "/kist/volumes/vol/import", buffer.getvalue(), TAR)
    assert os.listdir(tmp_path / "victim") == []


@pytest.mark.parametrize("verb", ["clone", "snapshot"])
def test_a_copy_has_everything(made: Kistd, verb: str) -> None:
    filled(made, "vol")
    answer = kist(made, "volume", verb, "vol", "new")
    assert (answer.returncode, answer.stdout) == (0, b"new\n"), answer.stderr
    assert listing(made, "new") == listing(made, "vol")
    labels = json.loads(made.ok("volume", "inspect", "new", "-f", "{{json .Labels}}"))
    assert labels == {"a": "b", **({"kist.snapshot.of": "vol"} if verb == "snapshot" else {})}
    assert os.stat(f"{data(made, 'new')}/sparse").st_blocks < 1000, "holes stay holes"
    Path(f"{data(made, 'new')}/dir/file").write_text("changed")
    assert Path(f"{data(made, 'vol')}/dir/file").read_text() == "one\n"


def test_volumes_with_mounts(made: Kistd) -> None:
    made.ok("volume", "create", *TMPFS, "mem")
    made.ok("run", "-d", "--name", "box", "-v", "mem:/x", "busybox", "sh", "-c", "echo hi > /x/file; sleep 1000")
    made.ok("exec", "box", "sh", "-c", "until [ -s /x/file ]; do sleep 0.01; done")
    assert kist(made, "volume", "clone", "mem", "new").returncode == 0
    assert Path(f"{data(made, 'new')}/file").read_text() == "hi\n"
    made.ok("rm", "-f", "box")
    made.ok("volume", "create", "--opt", "size=8m", "small")
    archive = made.request("GET", "/kist/volumes/new/export")[1]
    assert made.request("POST", "/kist/volumes/small/import", archive, TAR)[0] == 201
    assert not is_mounted(made, "small")
    assert made.ok("run", "--rm", "-v", "small:/x", "busybox", "cat", "/x/file") == "hi\n"
    assert kist(made, "volume", "clone", "small", "small2").returncode == 0
    assert made.ok("volume", "inspect", "small2", "-f", "{{.Options.size}}") == "8m\n"


def written(path: str) -> int:
    """The number in a file that somebody writes anew all the time: between two numbers it is empty."""
    while not (text := Path(path).read_text()):
        pass
    return int(text)


def test_a_snapshot_is_taken_while_nobody_writes(made: Kistd) -> None:
    """Two files that are always written one after the other differ by at most one."""
    made.ok("volume", "create", "vol")
    for number in range(300):
        Path(f"{data(made, 'vol')}/pad{number}").write_bytes(bytes(1 << 16))
    script = "n=0; while :; do n=$((n+1)); echo $n > /x/a; echo $n > /x/z; done"
    made.ok("run", "-d", "--name", "box", "-v", "vol:/x", "busybox", "sh", "-c", script)
    time.sleep(0.2)
    for number in range(3):
        assert kist(made, "volume", "snapshot", "vol", f"snap{number}").returncode == 0
        first, last = (int(Path(f"{data(made, f'snap{number}')}/{name}").read_text() or -1) for name in "az")
        assert first - last in (0, 1) or -1 in (first, last)
    assert made.ok("inspect", "box", "-f", "{{.State.Status}}") == "running\n"
    before = written(f"{data(made, 'vol')}/a")
    time.sleep(0.3)
    assert written(f"{data(made, 'vol')}/a") > before, "it goes on"


def test_blocks_are_shared_where_the_file_system_can(own_engine: Kistd) -> None:
    """On btrfs; the file is larger than the room that is left for a second one."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    mkfs = shutil.which("mkfs.btrfs", path=path) or shutil.which("mkfs.xfs", path=path)
    if mkfs is None:
        pytest.skip("needs mkfs.btrfs or mkfs.xfs")
    base = tempfile.mkdtemp(prefix="kr", dir="/tmp")
    place = f"{own_engine.base}/d/volumes"
    try:
        with open(f"{base}/image", "wb") as file:
            file.truncate(400 << 20)
        subprocess.run([mkfs, "-q", f"{base}/image"], check=True)
        own_engine.stop()
        subprocess.run(["mount", "-o", "loop", f"{base}/image", place], check=True)
        own_engine.start()
        own_engine.ok("volume", "create", "vol")
        Path(f"{data(own_engine, 'vol')}/big").write_bytes(os.urandom(1 << 20) * 220)
        assert kist(own_engine, "volume", "snapshot", "vol", "new").returncode == 0
        assert os.path.getsize(f"{data(own_engine, 'new')}/big") == 220 << 20
        own_engine.ok("volume", "rm", "vol", "new")
    finally:
        own_engine.stop()
        subprocess.run(["umount", place], check=False)
        own_engine.start()
        shutil.rmtree(base)


def test_a_crash_in_an_import_leaves_no_volume(own_engine: Kistd) -> None:
    import http.client
    import socket

    connection: Any = http.client.HTTPConnection("kist")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(own_engine.socket)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("file")
        info.size = 1 << 20
        archive.addfile(info, io.BytesIO(bytes(1 << 20)))
    connection.putrequest("POST", "/kist/volumes/vol/import")
    connection.putheader("Content-Type", "application/x-tar")
    connection.putheader("Content-Length", str(1 << 30))
    connection.endheaders()
    connection.send(buffer.getvalue())
    deadline = time.monotonic() + 5
    while not os.path.exists(f"{data(own_engine, 'vol')}/file"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert own_engine.request("DELETE", "/volumes/vol")[0] == 409
    own_engine.kill()
    connection.close()
    own_engine.start()
    assert own_engine.ok("volume", "ls", "-q") == ""
    assert os.listdir(f"{own_engine.base}/d/volumes") == []
