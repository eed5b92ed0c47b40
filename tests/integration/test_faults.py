"""Faults: full and read-only disks, missing rights and kernel features, clients that vanish, bad archives, kill -9.

Each is a precise error with Docker's status, nothing half-made is left behind, and the engine works on.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import SLOWNESS, Kistd, UnixConnection, assert_no_leak, footprint, links, published

from kist.daemon.purge import purge
from kist.http import server
from kist.kernel import cgroup
from kist.kernel.mount import mount, umount2
from kist.kernel.syscalls import X86_64

KISTD = [sys.executable, "-m", "kist.daemon.main"]
TAR = {"Content-Type": "application/x-tar"}
MS_RDONLY, MS_REMOUNT, MNT_DETACH = 1, 32, 2


@pytest.fixture(autouse=True)
def _as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def base() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="kf", dir="/tmp")
    os.chmod(path, 0o755)
    yield path
    if os.path.exists(f"{path}/d/kist.db"):
        purge(f"{path}/d", f"{path}/e")
    shutil.rmtree(path)


def until(done: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds * SLOWNESS
    while not done():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.02)


def stop(engine: Kistd) -> None:
    if engine.process is not None and engine.process.poll() is None:
        engine.remove_all()
        assert engine.stop() == 0, engine.log()
    assert "Traceback" not in engine.log(), engine.log()
    purge(f"{engine.base}/d", f"{engine.base}/e")


# --- a full disk ---


@pytest.fixture(params=["tmpfs", "ext4"])
def small(request: pytest.FixtureRequest, base: str, busybox_archive: Path) -> Iterator[Kistd]:
    """An engine whose data root is a file system of 24 MiB of its own."""
    os.mkdir(f"{base}/d")
    if request.param == "tmpfs":
        mount("tmpfs", f"{base}/d", "tmpfs", 0, "size=24m")
    else:
        subprocess.run(["truncate", "-s", "24M", f"{base}/image"], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", f"{base}/image"], check=True)
        subprocess.run(["mount", "-o", "loop", f"{base}/image", f"{base}/d"], check=True)
    engine = Kistd(base, "--bridge", "none")
    try:
        engine.start()
        assert engine.request("POST", "/images/load", busybox_archive.read_bytes(), TAR)[0] == 200
        yield engine
        stop(engine)
    finally:
        if engine.process is not None and engine.process.poll() is None:
            engine.kill()
        umount2(f"{base}/d", MNT_DETACH)


def fill(engine: Kistd) -> str:
    """Takes every last block; the path of what does."""
    path = f"{engine.base}/d/filler"
    with open(path, "ab", buffering=0) as file:
        for size in (1 << 20, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\1" * size) == size:
                    continue
    return path


def test_a_full_disk_is_told_and_survived(small: Kistd) -> None:
    ticking = "i=0; while true; do i=$((i+1)); echo tick $i padding-padding-padding-padding; usleep 500; done"
    small.ok("run", "-d", "--name", "ticks", "--network", "none", "busybox", "sh", "-c", ticking)
    small.ok("create", "--name", "ready", "--network", "none", "busybox", "echo", "hello")
    small.ok("create", "--name", "victim", "busybox", "true")
    images = small.request("GET", "/images/json")[1]
    before = stored(small)
    filler = fill(small)
    time.sleep(0.5)  # the log hits the end of the disk meanwhile
    status, answer = small.request("POST", "/containers/create?name=nospace", {"Image": "busybox"})
    assert status == 500 and any(word in answer["message"].lower() for word in ("no space", "full")), answer
    assert small.request("GET", "/containers/nospace/json")[0] == 404
    told = load_error(small, layer_archive(os.urandom(1 << 20)))
    assert "no space left" in told.lower(), told
    status, answer = small.request("POST", "/images/create?fromSrc=-&repo=full", plain_tar(os.urandom(1 << 20)), TAR)
    assert status == 500 and "no space left" in answer["message"].lower(), answer
    status, answer = small.request("POST", "/containers/ready/start")
    assert status == 204 or (status == 500 and any(w in answer["message"].lower() for w in ("space", "full"))), answer
    assert stored(small) == before, "something half-made is left"
    # What runs, runs on; execs work; a removal works, it is what makes room.
    assert small.ok("exec", "ticks", "echo", "alive") == "alive\n"
    assert json.loads(small.ok("inspect", "ticks"))[0]["State"]["Running"] is True
    assert small.request("GET", "/images/json")[1] == images
    assert small.docker("rm", "victim").status == 0
    os.unlink(filler)
    small.ok("create", "--name", "after", "--network", "none", "busybox", "echo", "works")
    assert small.ok("start", "-a", "after") == "works\n"
    time.sleep(0.2)
    small.ok("kill", "ticks")
    small.ok("wait", "ticks")
    # No line of the log is torn, and it goes on after the gap.
    lines = (Path(small.base) / "d/containers" / container_id(small, "ticks")).glob("*-json.log")
    numbers = [int(json.loads(line)["log"].split()[1]) for line in next(lines).read_text().splitlines()]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 20
    small.kill()
    small.start()
    assert small.request("GET", "/containers/nospace/json")[0] == 404
    assert small.request("GET", "/containers/victim/json")[0] == 404
    assert small.request("GET", "/containers/after/json")[1]["State"]["ExitCode"] == 0


def test_an_end_on_a_full_disk_is_not_lost(small: Kistd) -> None:
    small.ok(
        "run",
        "-d",
        "--name",
        "ends",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 23' TERM; while true; do usleep 20000; done",
    )
    filler = fill(small)
    assert small.request("POST", "/containers/ends/stop?t=5")[0] == 204
    assert small.request("GET", "/containers/ends/json")[1]["State"]["ExitCode"] == 23
    os.unlink(filler)
    small.kill()
    small.start()
    state = small.request("GET", "/containers/ends/json")[1]["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 23)


def container_id(engine: Kistd, name: str) -> str:
    found: str = engine.request("GET", f"/containers/{name}/json")[1]["Id"]
    return found


def stored(engine: Kistd) -> dict[str, list[str]]:
    """Everything below the data root that belongs to images and containers."""
    engine.request("POST", "/kist/quiesce")
    root = f"{engine.base}/d"
    found = {name: sorted(os.listdir(f"{root}/{name}"))
             for name in ("content/blobs/sha256", "content/ingest", "containers", "volumes")}  # fmt: skip
    for driver in ("overlay", "vfs"):
        if os.path.isdir(f"{root}/{driver}"):
            found[driver] = sorted(os.listdir(f"{root}/{driver}"))
    return found


# --- a read-only disk ---


@pytest.mark.parametrize("root", ["d", "e"])
def test_a_read_only_root_is_refused_at_the_start_by_name(base: str, root: str) -> None:
    os.mkdir(f"{base}/{root}")
    mount("tmpfs", f"{base}/{root}", "tmpfs", MS_RDONLY)
    try:
        assert refusal(base) == f"failed to start daemon: cannot use {base}/{root}: Read-only file system"
    finally:
        umount2(f"{base}/{root}")


def test_a_root_that_becomes_read_only_stops_nothing_that_runs(base: str, busybox_archive: Path) -> None:
    os.mkdir(f"{base}/d")
    mount("tmpfs", f"{base}/d", "tmpfs", 0, "size=64m")
    engine = Kistd(base, "--bridge", "none")
    try:
        engine.start()
        assert engine.request("POST", "/images/load", busybox_archive.read_bytes(), TAR)[0] == 200
        engine.ok("create", "--name", "idle", "--network", "none", "busybox", "true")
        engine.ok("run", "-d", "--name", "runs", "--tmpfs", "/t", "--network", "none", "busybox", "sleep", "100")
        before = stored(engine)
        subprocess.run(["mount", "-o", "remount,ro", f"{base}/d"], check=False)
        # Open files keep a tmpfs from it: bind it read-only over itself, which is what new opens meet.
        mount(f"{base}/d", f"{base}/d", None, 4096)
        mount(None, f"{base}/d", None, 4096 | MS_REMOUNT | MS_RDONLY)
        for method, path, body in (
            ("POST", "/containers/create?name=no", {"Image": "busybox"}),
            ("POST", "/containers/idle/start", None),
            ("POST", "/volumes/create", {"Name": "novolume"}),
        ):
            status, answer = engine.request(method, path, body, TAR if isinstance(body, bytes) else None)
            assert status == 500, (path, status, answer)
            assert "read-only file system" in answer["message"].lower(), (path, answer)
        assert "read-only file system" in load_error(engine, layer_archive(b"x")).lower()
        assert engine.ok("exec", "runs", "echo", "alive") == "alive\n"
        assert engine.request("GET", "/_ping")[0] == 200
        umount2(f"{base}/d", MNT_DETACH)
        mount(None, f"{base}/d", None, MS_REMOUNT, "size=64m")
        assert stored(engine) == before
        assert engine.ok("start", "-a", "idle") == ""
        engine.ok("rm", "idle")
        stop(engine)
    finally:
        if engine.process is not None and engine.process.poll() is None:
            engine.kill()
        umount2(f"{base}/d", MNT_DETACH)


# --- rights and kernel features that are missing ---


def refusal(base: str, *flags: str, before: list[str] | None = None, script: str = "") -> str:
    """What a kistd says that does not start; `before` is a command line it is run by, `script` Python run before it."""
    Path(f"{base}/c.json").write_text("{}")
    start = KISTD if not script else [sys.executable, "-c", f"{script}\nfrom kist.daemon.main import main\nmain()"]
    done = subprocess.run(
        [*(before or []), *start, "--data-root", f"{base}/d", "--exec-root", f"{base}/e", "-H", f"unix://{base}/s",
         "--pidfile", f"{base}/p", "--config-file", f"{base}/c.json", *flags],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    assert not os.path.exists(f"{base}/s") and not os.path.exists(f"{base}/p")
    return done.stderr.strip().splitlines()[-1]


def test_without_root_kistd_says_so(base: str) -> None:
    words = refusal(base, before=["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"])
    assert words == "kistd needs to be started with root privileges: use sudo, or run it as root"
    assert not os.path.exists(f"{base}/d")


def test_root_of_a_user_namespace_is_told_apart(base: str) -> None:
    words = refusal(base, before=["unshare", "--user", "--map-root-user"])
    assert words.startswith("failed to start daemon: kistd runs in a user namespace"), words


def test_a_capability_that_is_missing_is_named(base: str) -> None:
    words = refusal(base, before=["setpriv", "--bounding-set", "-net_admin,-mknod", "--inh-caps", "-net_admin,-mknod"])
    assert words == (
        "failed to start daemon: kistd lacks CAP_NET_ADMIN, CAP_MKNOD: start it as root of the machine, or in a "
        "container with --privileged"
    )


# A filter of seccomp(2) that answers one call with an errno, in the process that becomes kistd.
BLOCK = """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
code = b"".join(struct.pack("=HBBI", *one) for one in (
    (0x20, 0, 0, 0), (0x15, 0, 1, {number}), (0x06, 0, 0, 0x00050000 | {errno}), (0x06, 0, 0, 0x7FFF0000)))
program = ctypes.create_string_buffer(code, len(code))
class fprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
assert libc.prctl(38, 1, 0, 0, 0) == 0
one = fprog(4, ctypes.addressof(program))
assert libc.prctl(22, 2, ctypes.byref(one)) == 0, ctypes.get_errno()
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")
@pytest.mark.parametrize("name", ["openat2", "fsopen", "move_mount", "clone3", "pidfd_open", "close_range",
                                  "mount_setattr"])  # fmt: skip
def test_a_system_call_that_is_missing_is_named(base: str, name: str) -> None:
    words = refusal(base, script=BLOCK.format(number=X86_64[name], errno=38))
    assert words.startswith(f"failed to start daemon: this kernel ({os.uname().release}) has no {name}(2)"), words
    assert not os.path.exists(f"{base}/d")
    if name == "openat2":
        words = refusal(base, script=BLOCK.format(number=X86_64[name], errno=1))
        assert words.startswith(f"failed to start daemon: {name}(2) is forbidden here"), words


def test_without_a_cgroup_file_system_kistd_says_what_to_mount(base: str) -> None:
    without = ["unshare", "--mount", "sh", "-c", 'umount -R /sys/fs/cgroup; exec "$@"', "sh"]
    words = refusal(base, before=without)
    assert words.startswith("failed to start daemon: no cgroup file system is mounted"), words
    read_only = ["unshare", "--mount", "sh", "-c",
                 'mount -o remount,bind,ro /sys/fs/cgroup/unified || mount -o remount,bind,ro /sys/fs/cgroup;'
                 'exec "$@"', "sh"]  # fmt: skip
    words = refusal(base, before=read_only)
    assert "is mounted read-only: kistd makes a cgroup for each container" in words, words


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")
def test_without_nf_tables_the_start_says_how_to_do_without(base: str) -> None:
    """NETLINK_NETFILTER is protocol 12 of socket(2): a kernel without nf_tables answers EPROTONOSUPPORT."""
    code = BLOCK.replace(
        "(0x15, 0, 1, {number}), (0x06,", "(0x15, 0, 3, 41), (0x20, 0, 0, 32), (0x15, 0, 1, 12), (0x06,"
    )
    script = code.replace("fprog(4,", "fprog(6,").format(number=0, errno=93)
    before = set(links())
    words = refusal(base, script=script)
    assert "this kernel lacks nf_tables (try: modprobe nf_tables), or use --iptables=false" in words, words
    assert set(links()) <= before, "a bridge is left"
    assert refusal(base, "--bip", "10.77.1.1/24", script=script).startswith("failed to start daemon: cannot set the")


def test_a_data_root_that_overlayfs_cannot_use_is_served_by_vfs_and_that_is_said(
    base: str, busybox_archive: Path
) -> None:
    for name in ("low", "up", "work", "d"):
        os.mkdir(f"{base}/{name}")
    mount("overlay", f"{base}/d", "overlay", 0, f"lowerdir={base}/low,upperdir={base}/up,workdir={base}/work")
    engine = Kistd(base, "--bridge", "none")
    try:
        words = refusal(base, "--storage-driver", "overlay", "--bridge", "none")
        assert words.startswith(f"failed to start daemon: overlayfs does not work on {base}/d ("), words
        assert words.endswith("): use --storage-driver=vfs or another data root"), words
        engine.start()
        assert f"overlayfs does not work on {base}/d (" in engine.log()
        assert "the vfs driver is used instead" in engine.log()
        assert engine.request("GET", "/info")[1]["Driver"] == "vfs"
        assert engine.request("POST", "/images/load", busybox_archive.read_bytes(), TAR)[0] == 200
        assert engine.ok("run", "--rm", "--network", "none", "busybox", "echo", "copied") == "copied\n"
        engine.stop()
        engine.start()  # the driver whose snapshots are there is kept, without a word
        assert engine.ok("run", "--rm", "--network", "none", "busybox", "echo", "again") == "again\n"
        stop(engine)
    finally:
        if engine.process is not None and engine.process.poll() is None:
            engine.kill()
        umount2(f"{base}/d", MNT_DETACH)


def test_kist_without_rights_on_the_socket_says_so(engine: Kistd) -> None:
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, "-m", "kist.cli.main",
         "-H", engine.host, "ps"], capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("permission denied while trying to connect to the"), done.stderr
    assert engine.socket in done.stderr and "Traceback" not in done.stderr


# --- clients that vanish ---


def raw(engine: Kistd, data: bytes) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20 * SLOWNESS)
    client.connect(engine.socket)
    client.sendall(data)
    return client


def post(path: str, body: bytes = b"", *, length: int | None = None, kind: str = "application/json") -> bytes:
    size = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n".encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_a_client_that_vanishes_within_an_upload_leaves_nothing(engine: Kistd, busybox_archive: Path) -> None:
    before = stored(engine)
    data = busybox_archive.read_bytes()
    for path in ("/images/load", "/images/create?fromSrc=-&repo=cut"):
        raw(engine, post(path, data[: len(data) // 2], length=len(data), kind="application/x-tar")).close()
    raw(engine, post("/containers/create?name=cut", b'{"Image": "busy', length=100)).close()
    until(lambda: engine.request("GET", "/_ping")[0] == 200)
    time.sleep(0.2)
    assert stored(engine) == before
    assert engine.request("GET", "/containers/cut/json")[0] == 404


def test_a_client_that_vanishes_before_its_answer_leaves_the_container_whole(engine: Kistd) -> None:
    def status(name: str) -> int:
        return engine.request("GET", f"/containers/{name}/json")[0]

    for round_ in range(8):
        name = f"gone{round_}"
        raw(engine, post(f"/containers/create?name={name}", b'{"Image":"busybox","Cmd":["sleep","60"]}')).close()
        until(partial(lambda name: status(name) == 200, name))
        raw(engine, post(f"/containers/{name}/start")).close()
        until(partial(lambda name: engine.request("GET", f"/containers/{name}/json")[1]["State"]["Running"], name))
        assert engine.ok("exec", name, "echo", "whole") == "whole\n"
        raw(engine, f"DELETE /containers/{name}?force=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode()).close()
        until(partial(lambda name: status(name) == 404, name))


def test_clients_that_vanish_within_streams_leave_nothing(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "chat", "busybox", "sh", "-c", "while true; do echo line; usleep 5000; done")
    before = footprint(engine)
    upgrade = (b"POST /containers/chat/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
               b"Upgrade: tcp\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
    for head in (get("/containers/chat/logs?stdout=1&follow=1"), upgrade, get("/events"), post("/containers/chat/wait"),
                 get("/images/busybox/get"), get("/containers/chat/logs?stdout=1")):  # fmt: skip
        for keep in (0, 1):
            client = raw(engine, head)
            if keep:
                assert client.recv(64), head
            client.close()
    assert engine.ok("exec", "chat", "echo", "alive") == "alive\n"
    assert_no_leak(engine, before)
    with contextlib.suppress(ProcessLookupError):
        monitor = monitor_of(engine, "chat")
        until(lambda: len(os.listdir(f"/proc/{monitor}/fd")) < 16)


def monitor_of(engine: Kistd, name: str) -> int:
    pid = engine.request("GET", f"/containers/{name}/json")[1]["State"]["Pid"]
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("PPid")))


def test_idle_slow_and_many_clients_do_not_stall_others(engine: Kistd) -> None:
    before = footprint(engine)
    idle = [raw(engine, b"") for _ in range(200)]
    slow = [raw(engine, b"GET /containers/json HTTP/1.1\r\nHost: x\r\nX-Slow: ") for _ in range(50)]
    start = time.monotonic()
    for number in range(20):
        slow[number].send(b"a")
        assert engine.request("GET", "/_ping")[0] == 200
    assert engine.ok("run", "--rm", "busybox", "echo", "quick") == "quick\n"
    assert time.monotonic() - start < 10
    huge = raw(engine, b"GET /_ping HTTP/1.1\r\nHost: x\r\n")
    with contextlib.suppress(OSError):
        for _ in range(300):  # more than a mebibyte
            huge.sendall(b"X-Big: " + b"a" * 4096 + b"\r\n")
    assert b" 431 " in huge.recv(100)
    for client in (*idle, *slow, huge):
        client.close()
    assert_no_leak(engine, before)


def test_a_head_that_never_ends_ends_its_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server, "_HEAD_SECONDS", 0.2)

    async def answer(request: server.Request) -> server.Response:
        return server.Response(200, b"fine")

    async def drop_by_drop() -> None:
        connections: set[server.Connection] = set()
        loop = asyncio.get_running_loop()
        listening = await loop.create_unix_server(lambda: server.Connection(answer, connections), f"{tmp_path}/s")
        idle = await asyncio.open_unix_connection(f"{tmp_path}/s")
        reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/s")
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"fine" in await reader.read(1000)
        start = loop.time()
        head = iter(b"GET / HTTP/1.1\r\nX: " + b"x" * 1000)
        while loop.time() - start < 5 and not writer.is_closing() and not reader.at_eof():
            writer.write(bytes([next(head)]))
            await asyncio.sleep(0.02)
        assert 0.1 < loop.time() - start < 2
        idle[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")  # one that sent nothing may wait as long as it likes
        assert b"fine" in await idle[0].read(1000)
        for one in (writer, idle[1]):
            one.close()
        listening.close()
        await asyncio.sleep(0.05)
        assert not connections

    asyncio.run(drop_by_drop())


def test_a_client_that_never_reads_stalls_nobody_and_costs_bounded_memory(engine: Kistd) -> None:
    noisy = "dd if=/dev/zero bs=64k count=800 2>/dev/null; sleep 100"
    engine.ok("create", "--name", "noisy", "busybox", "sh", "-c", noisy)
    head = (b"POST /containers/noisy/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
            b"Upgrade: tcp\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
    deaf, hears = raw(engine, head), raw(engine, head)
    assert all(b"101 UPGRADED" in client.recv(4096) for client in (deaf, hears))
    engine.ok("start", "noisy")
    got = 0
    while got < 800 * 65536:
        got += len(hears.recv(1 << 20))
    monitor = monitor_of(engine, "noisy")
    resident = next(int(line.split()[1]) for line in Path(f"/proc/{monitor}/status").read_text().splitlines()
                    if line.startswith("VmRSS"))  # fmt: skip
    assert resident < 64 << 10, f"{resident} KiB"
    deaf.close()
    hears.close()
    until(lambda: len(os.listdir(f"/proc/{monitor}/fd")) < 16)


# --- archives for load that are wrong ---


def plain_tar(content: bytes, name: str = "file") -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return tar([(info, content)])


def tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def files(**named: bytes) -> bytes:
    return tar([(tarfile.TarInfo(name.replace("__", "/").replace("_dot_", ".")), data) for name, data in named.items()])


def layered(layer: bytes, *, diff_id: str = "", manifest: Any = None, config: bytes | None = None) -> bytes:
    """A docker-archive of one layer."""
    digest = diff_id or f"sha256:{hashlib.sha256(layer).hexdigest()}"
    described = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    entries = [{"Config": "config.json", "RepoTags": ["bad:latest"], "Layers": ["layer.tar"]}]
    data = json.dumps(described).encode() if config is None else config
    return files(config_dot_json=data, layer_dot_tar=layer,
                 manifest_dot_json=json.dumps(entries if manifest is None else manifest).encode())  # fmt: skip


def layer_archive(content: bytes) -> bytes:
    return layered(plain_tar(content))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **pax: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, link, pax
    return info


def oci(*, wrong: str) -> bytes:
    """An OCI layout in which one thing is wrong."""
    layer = plain_tar(b"x")
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}})

    def descriptor(data: bytes) -> dict[str, Any]:
        return {"mediaType": "x", "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}

    manifest = json.dumps({"schemaVersion": 2, "config": descriptor(config.encode()), "layers": [descriptor(layer)]})
    index = json.dumps({"schemaVersion": 2, "manifests": [descriptor(manifest.encode())]})
    blobs = {f"blobs/sha256/{hashlib.sha256(data).hexdigest()}": data
             for data in (layer, config.encode(), manifest.encode())}  # fmt: skip
    names = list(blobs)
    if wrong == "digest":
        blobs[names[1]] = config.encode() + b" "
    elif wrong == "missing":
        del blobs[names[0]]
    members = [(tarfile.TarInfo(name), data) for name, data in blobs.items()]
    return tar([*members, (tarfile.TarInfo("index.json"), index.encode()),
                (tarfile.TarInfo("oci-layout"), b'{"imageLayoutVersion":"1.0.0"}')])  # fmt: skip


GOOD = layer_archive(b"content" * 100)
BOMB = gzip.compress(plain_tar(bytes(64 << 20)), 9)
BAD_ARCHIVES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "invalid archive"),
    "no tar at all": (b"this is no archive" * 100, "invalid archive"),
    "truncated": (GOOD[: len(GOOD) // 2 // 512 * 512 - 100], "invalid archive"),
    "no manifest": (files(some_dot_txt=b"x"), "neither manifest.json nor index.json"),
    "manifest is no JSON": (files(manifest_dot_json=b"{["), "manifest.json"),
    "manifest of a wrong type": (files(manifest_dot_json=b'{"a": 1}'), "manifest.json"),
    "manifest nested without end": (files(manifest_dot_json=b"[" * 200_000), "manifest.json"),
    "manifest too large": (files(manifest_dot_json=b"[" + b" " * (5 << 20) + b"]"), "larger than"),
    "manifest names what is not there": (
        layered(b"", manifest=[{"Config": "no.json", "Layers": []}]), "no.json is not in it"),
    "a bad name": (layered(plain_tar(b"x"), manifest=[{"Config": "config.json", "RepoTags": ["UPPER:x y"],
                                                       "Layers": ["layer.tar"]}]), "invalid reference"),
    "configuration is no JSON": (layered(plain_tar(b"x"), config=b"nonsense"), "invalid image configuration"),
    "layers and diff ids differ in number": (
        layered(plain_tar(b"x"), config=b'{"rootfs": {"diff_ids": []}}'), "layers length mismatch"),
    "wrong diff id": (layered(plain_tar(b"x"), diff_id="sha256:" + "0" * 64), "invalid diffID for layer 0"),
    "layer is no tar": (layered(b"rubbish" * 300), "invalid tar"),
    "layer is cut": (layered(plain_tar(b"x" * 9000)[:4000]), "invalid tar"),
    "layer climbs out": (layered(plain_tar(b"x", "../../climbed")), "leads out of the root"),
    "a hard link to the outside": (
        layered(tar([(member("a", tarfile.LNKTYPE, "../../../etc/passwd"), b"")])), "leads out of the root"),
    "a hard link to nothing": (layered(tar([(member("a", tarfile.LNKTYPE, "etc/passwd"), b"")])), "cannot unpack"),
    "a whiteout of the parent": (layered(plain_tar(b"", ".wh...")), "whiteout"),
    "a member of an unknown type": (layered(tar([(member("a", b"Z"), b"")])), "unknown type"),
    "a time that is none": (layered(tar([(member("a", mtime="nan"), b"")])), "invalid tar"),
    "a gzip stream that is cut": (BOMB[: len(BOMB) // 2], "cannot decompress (gzip)"),
    "a gzip stream that is damaged": (BOMB[:1000] + b"\xff" * 1000 + BOMB[2000:], "cannot decompress (gzip)"),
    "a layer whose gzip stream is cut": (layered(gzip.compress(plain_tar(b"x" * 5000))[:60]), "cannot decompress"),
    "a zstd stream of nonsense": (b"\x28\xb5\x2f\xfd" + b"\xff" * 100, "cannot decompress (zstd)"),
    "an xz stream of nonsense": (b"\xfd7zXZ\x00" + b"\xff" * 100, "cannot decompress (xz)"),
    "a blob that is not its digest": (oci(wrong="digest"), "invalid archive: the digest of blobs/sha256/"),
    "a blob that is missing": (oci(wrong="missing"), "is not in it"),
}  # fmt: skip


def load_error(engine: Kistd, data: bytes) -> str:
    """What the stream of a load ends with, as dockerd tells it."""
    status, answer = engine.request("POST", "/images/load", data, TAR)
    assert (status, set(answer)) == (200, {"error", "errorDetail"}), (status, answer)
    assert answer["errorDetail"] == {"message": answer["error"]}
    return str(answer["error"])


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_a_bad_archive_is_refused_and_the_store_is_unchanged(engine: Kistd, name: str) -> None:
    data, words = BAD_ARCHIVES[name]
    before, images = stored(engine), engine.request("GET", "/images/json")[1]
    told = load_error(engine, data)
    assert words in told, told
    assert "internal error" not in told and "Traceback" not in engine.log()
    assert stored(engine) == before
    assert engine.request("GET", "/images/json")[1] == images


def test_what_is_hostile_and_can_be_contained_stays_inside(engine: Kistd) -> None:
    """Absolute names, links that lead out, and devices become files of the image, as with Docker."""
    secret = Path("/tmp/kist-test-outside")
    secret.write_text("outside")
    inside = tar([
        (member("tmp", tarfile.DIRTYPE), b""),
        (member("/absolute"), b"inside"), (member("out", tarfile.SYMTYPE, "/tmp"), b""),
        (member("out/kist-test-outside"), b"overwritten"),
        (member("up", tarfile.SYMTYPE, "../../../../../../tmp"), b""),
        (member("up/kist-test-outside"), b"overwritten"), (member("null", tarfile.CHRTYPE), b""),
    ])  # fmt: skip
    try:
        status, answer = engine.request("POST", "/images/load", layered(inside), TAR)
        assert status == 200, answer
        assert secret.read_text() == "outside"
        engine.ok("create", "--name", "hostile", "bad", "x")
        engine.ok("rm", "hostile")
    finally:
        engine.request("DELETE", "/images/bad?force=1")
        secret.unlink()


def test_a_prefix_of_two_ids_is_refused(engine: Kistd) -> None:
    ids: list[str] = []
    while not ids or len({one[0] for one in ids}) == len(ids):
        ids.append(engine.request("POST", "/containers/create", {"Image": "busybox"})[1]["Id"])
    double = next(one[0] for one in ids if sum(other[0] == one[0] for other in ids) > 1)
    for method, path in (("GET", f"/containers/{double}/json"), ("POST", f"/containers/{double}/start"),
                         ("DELETE", f"/containers/{double}")):  # fmt: skip
        status, answer = engine.request(method, path)
        assert (status, answer["message"]) == (400, f"multiple IDs found with provided prefix: {double}")


# --- kill -9 at any moment ---


def consistency(engine: Kistd) -> None:
    """Every record has what belongs to it, and nothing is there that has no record."""
    engine.request("POST", "/kist/quiesce")
    known = {one["Id"]: one for one in engine.request("GET", "/containers/json?all=1")[1]}
    running = {key for key, one in known.items() if one["State"] == "running"}
    assert set(os.listdir(f"{engine.base}/d/containers")) == set(known)
    until(lambda: set(os.listdir(f"{engine.base}/e/containers")) == running)
    layers = {one.split(":")[0] for one in os.listdir(f"{engine.base}/d/overlay") if one.isdigit()}
    image = engine.request("GET", "/images/busybox/json")[1]
    assert len(layers) == len(known) + len(image["RootFS"]["Layers"]), (layers, known)
    volumes = {one["Name"] for one in engine.request("GET", "/volumes")[1]["Volumes"] or ()}
    mounted = {point["Name"] for one in known.values() for point in one["Mounts"]}
    assert volumes == mounted == set(os.listdir(f"{engine.base}/d/volumes"))
    groups = {name for root in cgroup.detect().directories(f"kist/{engine.id}")
              for name in (os.listdir(root) if os.path.isdir(root) else ()) if len(name) == 64}  # fmt: skip
    until(lambda: groups <= running or not _group_names(engine) - running)
    until(lambda: len([one for one in links() if one.startswith("veth")]) == len(running))
    elements = published(engine.id)
    assert len(elements) == len(running), (elements, running)
    for key in running:
        found = engine.request("GET", f"/containers/{key}/json")[1]
        assert os.path.exists(f"/proc/{found['State']['Pid']}"), found["State"]
        assert found["NetworkSettings"]["IPAddress"], found["NetworkSettings"]
        assert found["State"]["StartedAt"] > "2000"


def _group_names(engine: Kistd) -> set[str]:
    return {name for root in cgroup.detect().directories(f"kist/{engine.id}") if os.path.isdir(root)
            for name in os.listdir(root) if len(name) == 64}  # fmt: skip


def test_kill_9_at_any_moment_leaves_nothing_half_made(own_engine: Kistd) -> None:
    chance = random.Random(20261124)
    veths = len([one for one in links() if one.startswith("veth")])
    assert veths == 0
    for round_ in range(20):
        stopping = threading.Event()

        def work(number: int, stopping: threading.Event = stopping, round_: int = round_) -> None:
            count = 0
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                while not stopping.is_set():
                    count += 1
                    name = f"r{round_}-{number}-{count}"
                    body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "Volumes": {"/data": {}},
                            "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "0"}]}}}  # fmt: skip
                    own_engine.request("POST", f"/containers/create?name={name}", body)
                    own_engine.request("POST", f"/containers/{name}/start")
                    if count % 2:
                        own_engine.request("DELETE", f"/containers/{name}?force=1&v=1")

        workers = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        for worker in workers:
            worker.start()
        time.sleep(chance.uniform(0.0, 0.12))
        own_engine.kill()
        stopping.set()
        for worker in workers:
            worker.join()
        own_engine.start()
        consistency(own_engine)
        if round_ % 5 == 4:
            own_engine.remove_all()
            assert own_engine.request("GET", "/containers/json?all=1")[1] == [], "one cannot be removed"
            consistency(own_engine)
    assert "Traceback" not in own_engine.log()


def test_what_a_crash_left_of_volumes_is_settled_by_the_next_start(own_engine: Kistd) -> None:
    """Each step between nothing and a volume, and back: what nobody can own goes, what holds data comes back."""
    own_engine.kill()
    volumes = Path(own_engine.base) / "d" / "volumes"
    names = {kind: number * 64 for kind, number in (("made", "1"), ("marked", "2"), ("removed", "3"), ("data", "4"))}
    (volumes / names["made"]).mkdir()
    (volumes / names["marked"] / "_data").mkdir(parents=True)
    (volumes / names["marked"] / "pending").touch()
    (volumes / f".removed-{names['removed']}" / "_data").mkdir(parents=True)
    (volumes / names["data"] / "_data").mkdir(parents=True)
    (volumes / names["data"] / "_filling" / "half").mkdir(parents=True)
    own_engine.start()
    listed = {one["Name"] for one in own_engine.request("GET", "/volumes")[1]["Volumes"]}
    assert listed == {names["data"]} == set(os.listdir(volumes))
    assert os.listdir(volumes / names["data"]) == ["_data"]


def test_kill_9_within_a_load_leaves_nothing_half_made(own_engine: Kistd) -> None:
    chance = random.Random(7)
    before = stored(own_engine)
    content = random.Random(1).randbytes(3 << 20)
    archive = layer_archive(content)
    for _ in range(6):
        loader = threading.Thread(
            target=lambda: _ignore(lambda: own_engine.request("POST", "/images/load", archive, TAR))
        )
        loader.start()
        time.sleep(chance.uniform(0.005, 0.08))
        own_engine.kill()
        loader.join()
        own_engine.start()
        if own_engine.request("GET", "/images/bad/json")[0] == 200:
            own_engine.request("DELETE", "/images/bad")
        assert stored(own_engine) == before
    assert own_engine.request("POST", "/images/load", archive, TAR)[0] == 200
    own_engine.request("DELETE", "/images/bad")


def _ignore(work: Callable[[], object]) -> None:
    with contextlib.suppress(OSError, ValueError):
        work()


# --- a listener that is slow within one process ---


def test_uploads_side_by_side_do_not_take_each_others_blobs(engine: Kistd) -> None:
    """A good and a bad archive with the same layer, at the same time, several times."""
    good, bad = GOOD, layered(plain_tar(b"content" * 100), config=b"nonsense")

    async def both() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(5):
            answers = await asyncio.gather(
                *(loop.run_in_executor(None, engine.request, "POST", "/images/load", one, TAR)
                  for one in (good, bad, good))
            )  # fmt: skip
            assert [b"error" in bytes(str(answer), "utf-8") for _, answer in answers] == [False, True, False], answers
            await loop.run_in_executor(None, engine.request, "DELETE", "/images/bad?force=1")

    asyncio.run(both())


def test_unix_connection_is_reused_after_an_error(engine: Kistd) -> None:
    connection = UnixConnection(engine.socket)
    for path, wanted in (("/containers/none/json", 404), ("/_ping", 200), ("/images/none/json", 404), ("/info", 200)):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == wanted
    connection.close()
