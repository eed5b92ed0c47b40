"""What tests share: a private kistd on the real kernel, a plain HTTP client, and the check that nothing leaks."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests import wire_check

from kist.daemon.purge import purge
from kist.kernel import cgroup, const, ns
from kist.kernel.mount import mount
from kist.kernel.nftables import Firewall
from kist.kernel.rtnetlink import RouteSocket
from kist.network.firewall import SETS


def pytest_configure(config: pytest.Config) -> None:
    """Each of several processes (`-n 2`) has a network and mounts of its own, or what one makes were another's leak."""
    if hasattr(config, "workerinput") and os.geteuid() == 0:
        ns.unshare(const.CLONE_NEWNET | const.CLONE_NEWNS)
        mount(None, "/", None, const.MS_REC | const.MS_PRIVATE)
        with RouteSocket() as route:
            route.raise_loopback()


ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
SLOWNESS = float(os.environ.get("KIST_TEST_SLOWNESS", "1"))  # how much longer all takes than on real processors
RECORDED = str(ROOT / "tests" / "recorded_kistd.py")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("kist", timeout=30 * SLOWNESS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30 * SLOWNESS)
        self.sock.connect(self._path)


class Kistd:
    """A private engine: its own roots and socket. `base` must be short, socket paths are limited."""

    started: ClassVar[list[Kistd]] = []

    def __init__(self, base: str, *flags: str) -> None:
        self.base, self.flags = base, flags
        self.socket = f"{base}/s"
        self.host = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None
        self._answers_checked = 0

    def start(self) -> None:
        arguments = [sys.executable, "-P", RECORDED, f"{self.base}/answers", "--data-root", f"{self.base}/d"]
        arguments += ["--exec-root", f"{self.base}/e", "-H", self.host, "--pidfile", f"{self.base}/p", "--config-file"]
        config = f"{self.base}/c.json"
        if not os.path.exists(config):
            Path(config).write_text("{}")
        with open(f"{self.base}/log", "ab") as log:
            self.process = subprocess.Popen([*arguments, config, *self.flags], stdout=log, stderr=log)
        if self not in self.started:
            self.started.append(self)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self.request("GET", "/_ping")[0] == 200:
                    return
            except OSError:
                time.sleep(0.02)
            if self.process.poll() is not None:
                break
        raise AssertionError(f"kistd did not start:\n{self.log()}")

    def log(self) -> str:
        return Path(f"{self.base}/log").read_text()

    @property
    def id(self) -> str:
        return Path(f"{self.base}/d/engine-id").read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """(status, JSON or bytes). A JSON answer is held against its model."""
        connection = UnixConnection(self.socket)
        try:
            data = json.dumps(body).encode() if isinstance(body, dict | list) else body
            sent = {"Content-Type": "application/json", **(headers or {})} if body is not None else headers or {}
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            raw = answer.read()
            kind = answer.getheader("Content-Type", "") or ""
            self.check_answer(method, path, answer.status, kind, raw)
            lines = raw.strip().splitlines()
            if kind.startswith("application/json") and len(lines) == 1:
                return answer.status, json.loads(raw)
            return answer.status, raw
        finally:
            connection.close()

    def check_answer(self, method: str, path: str, status: int, kind: str, raw: bytes) -> None:
        """Raises AssertionError for an answer that is not as its model says."""
        wire_check.check(method, path, status, kind, raw)

    def check_answers(self) -> None:
        """The same for all that this engine has answered since the last call, to whomever."""
        answers, offset = Path(f"{self.base}/answers"), self._answers_checked
        self._answers_checked = answers.stat().st_size if answers.exists() else 0
        wire_check.check_file(answers, offset)

    def docker(self, *arguments: str, stdin: bytes | None = None, timeout: float = 60, **environment: str) -> Result:
        """The stock docker command against this engine."""
        done = subprocess.run(
            ["docker", "-H", self.host, *arguments],
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout * SLOWNESS,
            env={**os.environ, "DOCKER_CONFIG": f"{self.base}/docker-config", **environment},
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str, stdin: bytes | None = None) -> str:
        """docker's standard output; fails the test unless the status is 0."""
        result = self.docker(*arguments, stdin=stdin)
        assert result.status == 0, f"docker {arguments}: {result.status}\n{result.text}\n{result.errors}"
        return result.text

    def remove_all(self) -> None:
        """Every container, and waits until all is torn down."""
        _, listed = self.request("GET", "/containers/json?all=1")
        for one in listed:
            self.request("DELETE", f"/containers/{one['Id']}?force=1&v=1")
        self.request("POST", "/kist/quiesce")

    def clean_host(self) -> None:
        """What a stopped engine leaves on purpose: bridge, table, cgroups."""
        purge(f"{self.base}/d", f"{self.base}/e")


class Result:
    def __init__(self, status: int, out: bytes, err: bytes) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "replace")

    @property
    def errors(self) -> str:
        return self.err.decode("utf-8", "replace")


@pytest.fixture(autouse=True)
def _answers() -> Iterator[None]:
    """After every test: what any engine answered to anyone meanwhile is held against the models."""
    yield
    for one in Kistd.started:
        one.check_answers()


@pytest.fixture(scope="session")
def busybox_archive() -> Path:
    """An image archive of busybox, made once without any registry."""
    return busybox()


def busybox() -> Path:
    """The same for who is not a test."""
    kept = Path("/var/tmp/kist-test-busybox.tar")
    if kept.exists():
        return kept
    base = tempfile.mkdtemp(prefix="kb", dir="/tmp")
    engine = Kistd(base, "--bridge", "none")
    engine.start()
    try:
        status, answer = engine.request("POST", "/kist/images/bootstrap?distribution=busybox")
        assert status == 200, answer
        assert b"error" not in answer, answer
        _, data = engine.request("GET", "/images/busybox/get")
        partial = kept.with_suffix(f".{os.getpid()}")
        partial.write_bytes(data)
        partial.rename(kept)
    finally:
        engine.stop()
        engine.clean_host()
        shutil.rmtree(base, ignore_errors=True)
    return kept


def _make_engine(archive: Path, *flags: str) -> Kistd:
    engine = Kistd(tempfile.mkdtemp(prefix="kt", dir="/tmp"), *flags)
    os.chmod(engine.base, 0o755)
    engine.start()
    status, answer = engine.request("POST", "/images/load", archive.read_bytes(), {"Content-Type": "application/x-tar"})
    assert status == 200, answer
    return engine


def _end_engine(engine: Kistd) -> None:
    try:
        if engine.process is not None and engine.process.poll() is None:
            engine.remove_all()
            assert engine.stop() == 0, engine.log()
        engine.check_answers()
    finally:
        Kistd.started.remove(engine)
        engine.clean_host()
        shutil.rmtree(engine.base, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_engine(busybox_archive: Path) -> Iterator[Kistd]:
    """One engine for all tests that do not kill it."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    engine = _make_engine(busybox_archive)
    yield engine
    _end_engine(engine)


@pytest.fixture
def engine(shared_engine: Kistd) -> Iterator[Kistd]:
    """The shared engine, with the check that the test left nothing behind anywhere."""
    before = footprint(shared_engine)
    yield shared_engine
    shared_engine.remove_all()
    assert_no_leak(shared_engine, before)


@pytest.fixture
def own_engine(busybox_archive: Path) -> Iterator[Kistd]:
    """An engine of the test's own, to be killed and started again."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    engine = _make_engine(busybox_archive)
    before = footprint(engine)
    yield engine
    if engine.process is not None and engine.process.poll() is None:
        engine.remove_all()
        assert_no_leak(engine, before, descriptors=False)
    _end_engine(engine)


# --- leaks ---


def footprint(engine: Kistd) -> dict[str, Any]:
    """All that an engine may have made outside of itself."""
    assert engine.process is not None
    pid = engine.process.pid
    elements = filtered(engine.id)
    return {
        "mounts": Path("/proc/self/mountinfo").read_text().count("\n"),
        "cgroups": sorted(
            child for root in cgroup.detect().directories(f"kist/{engine.id}") for child in _directories(root)
        ),
        "links": sorted(name for name in links() if name.startswith(("veth", "br-"))),
        "nftables": elements,
        "monitors": _monitors(engine),
        "containers": [
            name
            for place in ("d/containers", "e/containers", "d/shipping")
            for name in _names(f"{engine.base}/{place}")
        ],
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
    }


def published(instance: str) -> list[bytes]:
    """The keys of all published ports in an engine's table."""
    with Firewall() as firewall:
        sets = [kind for version in (4, 6) for kind in (SETS[version].published, SETS[version].published_at)]
        return [element for kind in sets for element in firewall.elements(f"kist_{instance}", kind.name)]


def filtered(instance: str) -> list[bytes]:
    """The keys of all elements in an engine's table."""
    names = ["bridges", *(kind.name for version in (4, 6) for kind in SETS[version].all())]
    with Firewall() as firewall:
        try:
            return [element for name in names for element in firewall.elements(f"kist_{instance}", name)]
        except FileNotFoundError:  # with --bridge=none and no network there is no table
            return []


def links() -> list[str]:
    """Interfaces of the network namespace of the tests; /sys may show another's."""
    with RouteSocket() as route:
        return list(route.links())


def _directories(root: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(root) if entry.is_dir()]
    except FileNotFoundError:
        return []


def _monitors(engine: Kistd) -> list[int]:
    """Processes in the engine's own cgroup, but the zygote."""
    found = cgroup.pids(cgroup.detect(), f"kist/{engine.id}/engine")
    return sorted(pid for pid in found if _name(pid).startswith(("kist-monitor", "kist-shipper")))


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def assert_no_leak(engine: Kistd, before: dict[str, Any], *, descriptors: bool = True) -> None:
    """Compares with an earlier footprint, for as long as the kernel needs to clean up (veth: 60 ms)."""
    ignored = {"threads"} | (set() if descriptors else {"descriptors"})
    deadline = time.monotonic() + 5
    while True:
        after = footprint(engine)
        leaks = {
            key: (before[key], after[key])
            for key in before
            if key not in ignored
            and (
                after[key] > before[key]
                if isinstance(before[key], int)
                else set(map(str, after[key])) - set(map(str, before[key]))
            )
        }
        if not leaks:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"left behind (before, after): {leaks}")
        time.sleep(0.05)
