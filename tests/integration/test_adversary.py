"""Containers, clients and log servers that mean no good, against what works on files, streams and logs."""

from __future__ import annotations

import base64
import http.client
import os
import random
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd
from tests.integration.test_copy import archive, head, put

from kist.kernel import cgroup

_DEEP = "cd {top}; i=0; while [ $i -lt 1900 ]; do mkdir d && cd d || exit 3; i=$((i+1)); done; touch leaf"


@pytest.fixture
def box(engine: Kistd) -> Iterator[str]:
    engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    yield "box"
    engine.docker("rm", "-f", "box")


def run_until_ready(engine: Kistd, program: str) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", f"{program}; touch /ready; sleep 1000")
    deadline = time.monotonic() + 60
    while head(engine, "box", "/ready")[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.05)


def memory(pid: int) -> int:
    """Resident, in KiB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


def memory_of(engine: Kistd) -> int:
    assert engine.process is not None
    return memory(engine.process.pid)


def pings(engine: Kistd) -> None:
    begin = time.monotonic()
    assert engine.request("GET", "/_ping")[0] == 200
    assert time.monotonic() - begin < 2


def raw(kind: bytes, content: bytes, size: int | None = None) -> bytes:
    """A header of any kind with what is behind it, whatever it says."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, len(content) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


# --- trees and archives ---


def test_trees_of_any_depth_are_removed(own_engine: Kistd) -> None:
    engine = own_engine
    engine.ok("run", "--name", "deep", "-v", "deep:/v", "busybox", "sh", "-c",
              "; ".join(f"({_DEEP.format(top=top)})" for top in ("/", "/v", "/tmp")))  # fmt: skip
    assert put(engine, "deep", "/tmp", archive(("d", tarfile.REGTYPE, b"a file now"))) == (200, b"")
    engine.ok("rm", "deep")
    engine.ok("volume", "rm", "deep")
    engine.request("POST", "/kist/quiesce")
    assert os.listdir(f"{engine.base}/d/volumes") == []
    assert not [name for name in os.listdir(f"{engine.base}/d/overlay") if name.startswith("removed-")]
    engine.ok("run", "--rm", "-v", "deep:/v", "busybox", "sh", "-c", _DEEP.format(top="/v"))
    engine.kill()
    os.rename(f"{engine.base}/d/volumes/deep", f"{engine.base}/d/volumes/.removed-deep")
    engine.start()
    assert os.listdir(f"{engine.base}/d/volumes") == [], "what a crash left of it is removed, too"
    assert "Traceback" not in engine.log()


def test_a_large_volume_is_removed_beside_everything_else(engine: Kistd, box: str) -> None:
    engine.ok("volume", "create", "large")
    where = engine.request("GET", "/volumes/large")[1]["Mountpoint"]
    for number in range(30_000):
        os.close(os.open(f"{where}/{number}", os.O_CREAT | os.O_WRONLY))
    removal = threading.Thread(target=lambda: engine.ok("volume", "rm", "large"))
    longest = 0.0
    removal.start()
    while removal.is_alive():
        begin = time.monotonic()
        engine.request("GET", "/_ping")
        longest = max(longest, time.monotonic() - begin)
    assert longest < 0.5
    assert not os.path.exists(where)


@pytest.mark.parametrize(
    "data",
    [
        raw(tarfile.XHDTYPE, b"12 path=abc\n") * 3000 + raw(tarfile.REGTYPE, b""),
        raw(tarfile.GNUTYPE_LONGNAME, b"abc\0") * 3000 + raw(tarfile.REGTYPE, b""),
        raw(tarfile.XHDTYPE, b"", 1 << 40),
        raw(tarfile.GNUTYPE_LONGNAME, bytes(4096), 1 << 33),
        raw(tarfile.XGLTYPE, b"12 path=abc\n", 1 << 62),
        raw(tarfile.XHDTYPE, b"1" * 1_000_000),
        archive(("f", tarfile.REGTYPE, b"x"), pax_headers={"size": "-512"}),
        archive(("f", tarfile.REGTYPE, b"x"), pax_headers={"GNU.sparse.map": "5,2,0,2", "GNU.sparse.size": "9"}),
        archive(("f", tarfile.REGTYPE, b"x")) [:1024] + b"\1" * 512,
        archive(("f", tarfile.REGTYPE, b"x"))[:1100],
        archive(("../\udcff", tarfile.REGTYPE, b"")),
        archive(("l", tarfile.SYMTYPE, "../../../\udcfe")),
    ],
    ids=["pax headers in a row", "long names in a row", "a pax header of a TiB", "a long name of 8 GiB",
         "a global header of 4 EiB", "a pax header of digits", "a negative size", "a map that goes back",
         "a broken header behind a good member", "half a header", "a name that is no text", "a link that is no text"],
)  # fmt: skip
def test_archives_that_mean_no_good_are_refused_at_once(engine: Kistd, box: str, data: bytes) -> None:
    mark, before, begin = len(engine.log()), memory_of(engine), time.monotonic()
    status, told = put(engine, box, "/tmp", data)
    assert status == 400, told
    assert time.monotonic() - begin < 5
    assert memory_of(engine) - before < 20_000
    assert "Traceback" not in engine.log()[mark:]


def test_holes_stay_holes(engine: Kistd, box: str) -> None:
    size = (1 << 40) + 256
    where = {"GNU.sparse.map": f"0,256,{1 << 40},256", "GNU.sparse.size": str(size)}
    assert (
        put(engine, box, "/tmp", archive(("f", tarfile.REGTYPE, b"a" * 256 + b"z" * 256), pax_headers=where))[0] == 200
    )
    told = engine.ok("exec", box, "sh", "-c", "stat -c '%s %b' /tmp/f; tail -c 1 /tmp/f")
    length, blocks, last = told.split()
    assert (int(length), last) == (size, "z")
    assert int(blocks) < 64


def test_names_that_are_no_text_are_told(engine: Kistd, box: str) -> None:
    engine.ok("exec", box, "sh", "-c", r"touch /$(printf 'a\377'); ln -s $(printf 'x\376') /link")
    status, changes = engine.request("GET", "/containers/box/changes")
    assert status == 200
    assert {"/a\ufffd", "/link"} <= {change["Path"] for change in changes}
    assert head(engine, box, "/link")[1]["linkTarget"] == "/x\ufffd"


SWAPS = r"""mkdir -p /w/a/b/d/e /w/x
(while :; do mv /w/a /w/a2; ln -s {host} /w/a; rm -f /w/a; mv /w/a2 /w/a; mkdir -p /w/a/b; done) 2>/dev/null &
(while :; do cd /w/a/b; ln -s ../../../../../..{host} l; mv -T l d; rm -rf d; mkdir -p d/e; done) 2>/dev/null &
(cd /w/x; while :; do ln -sfn /proc/1/root p; ln -sfn /proc/self/cwd q; rm -f *; mkdir p q; rmdir *; done) 2>/dev/null &
wait"""


def test_copies_raced_by_renames_stay_in_the_container(engine: Kistd, tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("the host's")
    tmp_path.chmod(0o755)
    engine.ok("run", "-d", "--name", "racer", "busybox", "sh", "-c", SWAPS.format(host=tmp_path))
    into = archive(
        ("b", tarfile.DIRTYPE, ""), ("b/d", tarfile.DIRTYPE, ""), ("b/d/canary", tarfile.REGTYPE, b"evil"),
        ("b/d/e/set", tarfile.REGTYPE, b"evil"), ("b/d/h", tarfile.LNKTYPE, "b/d/canary"),
        ("b/d", tarfile.REGTYPE, b"a file now"), ("p/evil", tarfile.REGTYPE, b"x"), ("q/evil", tarfile.REGTYPE, b"x"),
        mode=0o4777,
    )  # fmt: skip
    end = time.monotonic() + 4
    seen: set[object] = set()

    def pound(path: str) -> None:
        while time.monotonic() < end:
            seen.add(put(engine, "racer", path, into)[0])

    def look(path: str) -> None:
        while time.monotonic() < end:
            _, data = engine.request("GET", f"/containers/racer/archive?path={path}")
            assert not isinstance(data, bytes) or b"the host's" not in data
            seen.add("read")

    threads = [threading.Thread(target=pound, args=(path,)) for path in ("/w/a", "/w/x")]
    threads += [threading.Thread(target=look, args=(path,)) for path in ("/w/a", "/w/a/b/d/.", "/w/x/p/.")]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert {200, "read"} <= seen, "some of it came through"
    assert os.listdir(tmp_path) == ["canary"]
    assert (tmp_path / "canary").read_text() == "the host's"
    assert tmp_path.stat().st_mode & 0o7777 == 0o755
    assert not os.path.exists("/evil")
    assert "Traceback" not in engine.log()


# --- what is cut off ---


def test_a_kistd_killed_within_a_commit_leaves_nothing_paused(own_engine: Kistd) -> None:
    engine = own_engine
    run_until_ready(engine, "dd if=/dev/zero of=/big bs=1M count=500")

    def commit() -> None:
        with suppress(OSError, http.client.HTTPException):
            engine.request("POST", "/commit?container=box&repo=half")

    client = threading.Thread(target=commit)
    client.start()
    deadline = time.monotonic() + 20
    while not engine.request("GET", "/containers/box/json")[1]["State"]["Paused"]:
        assert time.monotonic() < deadline
    engine.kill()
    client.join()
    engine.start()
    assert engine.request("GET", "/containers/box/json")[1]["State"]["Status"] == "running"
    assert engine.ok("exec", "box", "echo", "alive") == "alive\n"
    assert os.listdir(f"{engine.base}/d/content/ingest") == []
    engine.ok("pause", "box")
    engine.kill()
    engine.start()
    assert engine.request("GET", "/containers/box/json")[1]["State"]["Paused"], "a pause of somebody's own stays"


@pytest.mark.parametrize("what", ["commit", "export"])
def test_what_is_removed_while_it_is_read_is_no_success(engine: Kistd, what: str) -> None:
    run_until_ready(engine, "mkdir /m; cd /m; i=0; while [ $i -lt 20000 ]; do : >$i; i=$((i+1)); done")
    answers: list[Any] = []

    def ask() -> None:
        method, path = {
            "commit": ("POST", "/commit?container=box&repo=half"),
            "export": ("GET", "/containers/box/export"),
        }[what]
        try:
            answers.append(engine.request(method, path))
        except http.client.IncompleteRead as error:
            answers.append(error)

    client = threading.Thread(target=ask)
    client.start()
    time.sleep(0.3)
    engine.ok("rm", "-f", "box")
    client.join()
    (answer,) = answers
    if what == "export":
        assert isinstance(answer, http.client.IncompleteRead), "the answer breaks off"
    else:
        assert answer[0] == 404, answer
        assert "half" not in engine.ok("images")


# --- clients and servers ---


def upgraded(engine: Kistd) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(engine.socket)
    key = base64.b64encode(os.urandom(16)).decode()
    client.sendall(
        b"GET /containers/box/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key.encode() + b"\r\n\r\n"
    )
    assert b" 101 " in client.recv(1000)
    return client


def test_frames_that_announce_much_keep_little(engine: Kistd) -> None:
    engine.ok("run", "-di", "--name", "box", "busybox", "sh", "-c", "cat >/dev/null")
    before = memory_of(engine)
    clients = [upgraded(engine) for _ in range(10)]
    for one in clients:
        one.sendall(b"\x82\xff" + struct.pack(">Q", 31 << 20) + bytes(4))
        one.sendall(bytes(8 << 20))
    assert memory_of(engine) - before < 20_000
    pings(engine)
    for one in clients:
        one.close()


def test_a_broken_frame_is_answered_once(engine: Kistd) -> None:
    engine.ok("run", "-di", "--name", "box", "busybox", "cat")
    for data in (b"\x81\x02hi", b"\x82\xff" + b"\xff" * 12, b"\x89\xfe\x00\x80" + bytes(132), b"\x80\x80" + bytes(4)):
        with upgraded(engine) as client:
            client.sendall(data)
            answer = b""
            while piece := client.recv(4096):
                answer += piece
        assert answer[0] == 0x88
        assert len(answer) == 2 + answer[1], "one frame, and the end"


def _endless(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        client.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")


def _serve(listener: socket.socket) -> None:
    """A collector of events that never comes to an end."""
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_answer, args=(client,), daemon=True).start()


def _answer(client: socket.socket) -> None:
    with client, suppress(OSError):
        while data := client.recv(65536):
            if data.startswith(b"OPTIONS"):
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            elif b"\r\n\r\n" in data:
                _endless(client)


def test_a_log_server_that_answers_for_ever_fills_no_memory(engine: Kistd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener,), daemon=True).start()
        url = f"splunk-url=http://127.0.0.1:{listener.getsockname()[1]}"
        options = ("--log-driver", "splunk", "--log-opt", url, "--log-opt", "splunk-token=x")
        engine.ok("run", "-d", "--name", "box", *options, "busybox", "sh", "-c", "while sleep 0.1; do echo x; done")
        time.sleep(3)
        shippers = [pid for pid in _children(engine) if _comm(pid).startswith("kist-shipper")]
        assert shippers
        assert all(memory(pid) < 100_000 for pid in shippers)
        engine.ok("rm", "-f", "box")
        deadline = time.monotonic() + 15
        while os.listdir(f"{engine.base}/d/shipping") and time.monotonic() < deadline:
            time.sleep(0.1)
        listener.shutdown(socket.SHUT_RDWR)


def _children(engine: Kistd) -> list[int]:
    return cgroup.pids(cgroup.detect(), f"kist/{engine.id}/engine")


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("option", "status", "text"),
    [
        ({"tag": "{{"}, 400, "unclosed action"),
        ({"labels-regex": "("}, 400, "error parsing regexp"),
        ({"max-size": f"{'9' * 500}k"}, 400, "invalid size"),
    ],
)
def test_log_options_that_cannot_be(engine: Kistd, option: dict[str, str], status: int, text: str) -> None:
    host = {"LogConfig": {"Type": "json-file", "Config": option}}
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": host}
    told = engine.request("POST", "/containers/create?name=logger", body)
    if told[0] == 201:
        told = engine.request("POST", "/containers/logger/start")
    assert told[0] == status
    assert text in told[1]["message"]


def test_clients_that_vanish_leave_nothing(engine: Kistd, box: str) -> None:
    chance = random.Random(3)
    asked = (
        b"PUT /containers/box/archive?path=/tmp HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n"
        + archive(("f", tarfile.REGTYPE, b"x" * 5000))[:1200],
        b"GET /containers/box/export HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /containers/box/archive?path=/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /containers/box/stats HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    for _ in range(100):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(engine.socket)
            client.sendall(chance.choice(asked))
            client.settimeout(chance.choice((0.001, 0.01)))
            with suppress(TimeoutError):
                client.recv(100)
    pings(engine)
    assert "Traceback" not in engine.log()
