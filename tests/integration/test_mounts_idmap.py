"""Binds whose ids are mapped: what a container makes belongs to whom it was said, and nobody else's is its own."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd

KERNEL = tuple(int(number) for number in os.uname().release.split("-")[0].split(".")[:2])
LIST = "stat -c '%n %u:%g' /x/*"


@pytest.fixture
def owned(tmp_path: Path) -> Path:
    """A directory of user 1000, group 100, with a file of theirs and one of root's."""
    for name, owner in (("theirs", (1000, 100)), ("roots", (0, 0))):
        (tmp_path / name).write_text("text\n")
        os.chown(tmp_path / name, *owner)
    os.chown(tmp_path, 1000, 100)
    return tmp_path


def mapped(engine: Kistd, source: Path | str, ids: str, script: str, user: str = "", **options: Any) -> tuple[int, Any]:
    """Creates container `one`."""
    bind = {"Type": "bind", "Source": str(source), "Target": "/x", "BindOptions": {"Kist": {"IDMap": ids}, **options}}
    body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "User": user, "HostConfig": {"Mounts": [bind]}}
    return engine.request("POST", "/containers/create?name=one", body)


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


@pytest.mark.parametrize(("user", "inside"), [("", "0:0"), ("33:44", "33:44"), ("nobody", "65534:65534")])
def test_the_containers_user_is_the_one_that_is_kept(engine: Kistd, owned: Path, user: str, inside: str) -> None:
    status, answer = mapped(engine, owned, "keep=1000:100", f"touch /x/new; {LIST}", user)
    assert status == 201, answer
    lines = engine.ok("start", "-a", "one").splitlines()
    assert lines == [f"/x/new {inside}", "/x/roots 65534:65534", f"/x/theirs {inside}"]
    assert owner(owned / "new") == (1000, 100)


def test_what_belongs_to_nobody_that_is_mapped_cannot_be_changed(engine: Kistd, owned: Path) -> None:
    os.chmod(owned / "roots", 0o600)
    script = "cat /x/roots; echo more >> /x/roots; chown 7 /x/theirs; adduser -DH u; su u -c 'touch /x/other'"
    mapped(engine, owned, "keep=1000:100", f"chmod 777 /x; {script}")
    engine.docker("start", "-a", "one")
    assert (owned / "roots").read_text() == "text\n"
    assert owner(owned / "theirs") == (1000, 100)
    assert not (owned / "other").exists()


def test_ranges(engine: Kistd, owned: Path) -> None:
    mapped(engine, owned, "uids=0-5-1#1000-7-10;gids=100-8-1#0-6-1", f"{LIST}; touch /x/new; chown 9:6 /x/new")
    assert engine.docker("start", "-a", "one").text == "/x/roots 5:6\n/x/theirs 7:8\n"
    mapped(engine, owned, "uids=1000-0-10;gids=0-0-101", "touch /x/new; chown 9:100 /x/new; chown 10 /x/new")
    engine.ok("rm", "one")
    mapped(engine, owned, "uids=1000-0-10;gids=0-0-101", "touch /x/new; chown 9:100 /x/new; chown 10 /x/new")
    assert "Value too large" in engine.docker("start", "-a", "one").errors
    assert owner(owned / "new") == (1009, 100)


def test_execs_copies_and_restarts_see_the_same(engine: Kistd, owned: Path) -> None:
    mapped(engine, owned, "keep=1000:100", "sleep 100")
    engine.ok("start", "one")
    for name in ("first", "second"):
        engine.ok("exec", "one", "touch", f"/x/{name}")
        assert owner(owned / name) == (1000, 100)
        engine.ok("restart", "-t", "0", "one")
    (owned.parent / "sent").write_text("sent")
    engine.ok("cp", str(owned.parent / "sent"), "one:/x/sent")
    assert owner(owned / "sent") == (1000, 100)
    engine.ok("kill", "one")
    result = engine.docker("cp", str(owned.parent / "sent"), "one:/x/again")
    assert result.status != 0, "only a running container has the mount"
    assert not (owned / "again").exists()


@pytest.mark.skipif(KERNEL < (6, 3), reason="tmpfs takes mapped ids since Linux 6.3")
def test_mounts_below_are_mapped_too_or_not_bound(engine: Kistd, owned: Path) -> None:
    (owned / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "uid=1000,gid=100,mode=755", "below", owned / "below"], check=True)
    try:
        status, _ = mapped(engine, owned, "keep=1000:100", "touch /x/below/new; stat -c %u:%g /x/below")
        assert status == 201
        assert engine.ok("start", "-a", "one") == "0:0\n"
        assert owner(owned / "below/new") == (1000, 100)
        engine.ok("rm", "one")
        subprocess.run(["mount", "-t", "proc", "below", owned / "below"], check=True)
        mapped(engine, owned, "keep=1000:100", "true")
        told = engine.docker("start", "one").errors
        assert f'error mounting "{owned}" to rootfs at "/x" with mapped ids: invalid argument: this kernel' in told
        engine.ok("rm", "one")
        mapped(engine, owned, "keep=1000:100", "ls /x/below", NonRecursive=True)
        assert engine.ok("start", "-a", "one") == ""
    finally:
        subprocess.run(["umount", "-l", owned / "below"], check=False)
        subprocess.run(["umount", "-l", owned / "below"], check=False)


def test_inspect_tells_and_a_wrong_map_is_refused_at_once(engine: Kistd, owned: Path) -> None:
    assert mapped(engine, owned, "keep=1000:100", "true")[0] == 201
    _, found = engine.request("GET", "/containers/one/json")
    assert found["HostConfig"]["Mounts"][0]["BindOptions"] == {"Kist": {"IDMap": "keep=1000:100"}}
    for ids, told in (
        ("uids=0-0-1", "gids are missing"),
        ("uids=0-0-2#1-5-1;gids=0-0-1", "id 1 is in two ranges"),
        ("uids=0-4294967294-2;gids=0-0-1", "'0-4294967294-2' goes beyond the last id, or has none"),
    ):
        status, answer = mapped(engine, owned, ids, "true")
        assert (status, answer["message"]) == (
            400,
            f"invalid mount config for type \"bind\": invalid idmap '{ids}': {told}",
        )


def test_the_command_keeps_whoever_calls_it(engine: Kistd, owned: Path) -> None:
    """The effective user stays root, who can read the command's own files."""
    become = "import os, sys; os.setregid(100, 0); os.setreuid(1000, 0); os.execv(sys.argv[1], sys.argv[1:])"
    command = [str(Path(sys.executable).parent / "kist"), "-H", engine.host, "run", "--rm"]
    words = ["--mount", "type=bind,src=.,dst=/w,idmap=keep", "busybox", "touch", "/w/made"]
    done = subprocess.run(
        [sys.executable, "-c", become, *command, *words],
        cwd=owned,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert owner(owned / "made") == (1000, 100)


def test_the_command_asks_no_other_daemon_for_it(tmp_path: Path) -> None:
    """Whoever reads over unknown fields makes files that are root's."""
    asked: list[str] = []

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps({"Platform": {"Name": "Docker Engine - Community"}, "ApiVersion": "1.51"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Api-Version", "1.51")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            command = [str(Path(sys.executable).parent / "kist"), "-H", f"tcp://127.0.0.1:{server.server_port}"]
            words = ["run", "--rm", "--mount", f"type=bind,src={tmp_path},dst=/w,idmap=keep", "busybox"]
            done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=False)
        finally:
            server.shutdown()
            thread.join()
    assert done.returncode == 125
    assert "idmap: this daemon is not kistd and cannot map the ids of a mount" in done.stderr
    assert not [path for path in asked if "create" in path]
