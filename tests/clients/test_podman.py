"""Debian's podman with `kist-runtime` as its OCI runtime: what it asks of one, through conmon, unchanged."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kist.kernel import cgroup

RUNTIME = str(Path(sys.executable).with_name("kist-runtime"))
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed: make packages"),
]
# No default ulimits: podman's own are above what a container of the tests may set.
CONFIG = """[containers]
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Podman:
    """With roots of its own."""

    def __init__(self, base: str) -> None:
        self.base = base
        Path(f"{base}/containers.conf").write_text(CONFIG)
        self.words = [
            "podman", "--root", f"{base}/root", "--runroot", f"{base}/run", "--tmpdir", f"{base}/tmp",
            "--storage-driver", "vfs", "--runtime", RUNTIME,
        ]  # fmt: skip

    def __call__(self, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.words, *words],
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "CONTAINERS_CONF": f"{self.base}/containers.conf"},
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode("utf-8", "replace")
        )

    def ok(self, *words: str, stdin: bytes | None = None) -> str:
        done = self(*words, stdin=stdin)
        assert done.returncode == 0, f"podman {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return str(done.stdout)

    def status(self, name: str) -> str:
        return self.ok("inspect", "--format", "{{.State.Status}}", name).strip()


@pytest.fixture(scope="module")
def podman(busybox_archive: Path) -> Iterator[Podman]:
    base = tempfile.mkdtemp(prefix="kp", dir="/tmp")
    one = Podman(base)
    one.ok("load", "-i", str(busybox_archive))
    yield one
    one("rm", "--all", "--force", "--time", "0")
    subprocess.run(["umount", "--lazy", f"{base}/root/vfs"], check=False, capture_output=True)
    shutil.rmtree(base, ignore_errors=True)
    for root in cgroup.detect().roots:  # podman's own, for its containers and conmon
        for directory in (f"{root}/libpod_parent/conmon", f"{root}/libpod_parent"):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


@pytest.fixture(autouse=True)
def _nothing_left(podman: Podman) -> Iterator[None]:
    """podman removes what it made, and its runtime keeps nothing of it."""
    yield
    podman.ok("rm", "--all", "--force", "--time", "0")
    kept = Path("/run/kist-runtime")
    assert not kept.exists() or os.listdir(kept) == []
    left = [path for root in cgroup.detect().roots for path in Path(root).glob("libpod_parent/libpod-*")]
    assert left == []


def run(podman: Podman, *words: str) -> subprocess.CompletedProcess[str]:
    return podman("run", "--rm", "--network", "none", *words)


def test_run_gives_output_and_exit_code(podman: Podman) -> None:
    done = run(podman, "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert podman.ok("run", "--rm", "-i", "--network", "none", "busybox", "cat", stdin=b"through") == "through"


def test_a_container_has_what_was_asked(podman: Podman) -> None:
    asked = ["--user", "7:8", "--memory", "64m", "--pids-limit", "50", "--hostname", "h", "--env", "A=b", "--cap-drop",
             "all", "--workdir", "/tmp", "--tmpfs", "/etc/x:size=1m", "--read-only", "--sysctl",
             "net.ipv4.ip_forward=1",   "--init"]  # fmt: skip
    if not shutil.which("catatonit"):
        asked.remove("--init")
    look = "id -u; id -g; hostname; echo $A; pwd; cat /proc/sys/net/ipv4/ip_forward; touch /y || echo read-only"
    done = run(podman, *asked, "busybox", "sh", "-c", look)
    assert done.stdout.split() == ["7", "8", "h", "b", "/tmp", "1", "read-only"], done.stderr


def test_failures_have_dockers_exit_codes(podman: Podman) -> None:
    missing = run(podman, "busybox", "nonsense")
    assert (missing.returncode, "executable file not found in $PATH" in missing.stderr) == (127, True)
    denied = run(podman, "busybox", "/etc/passwd")
    assert (denied.returncode, "permission denied" in denied.stderr) == (126, True)


def test_a_life(podman: Podman) -> None:
    """Detached, with execs, logs, pause, statistics, processes, an orderly stop and a new start."""
    program = "echo started; trap 'echo ended; exit 5' TERM; while :; do sleep 0.1; done"
    podman.ok("run", "-d", "--name", "a", "--network", "none", "busybox", "sh", "-c", program)
    done = podman("exec", "--env", "X=y", "a", "sh", "-c", "echo $X; exit 4")
    assert (done.returncode, done.stdout) == (4, "y\n")
    assert podman("exec", "a", "nonsense").returncode == 127
    assert podman.ok("exec", "-i", "a", "cat", stdin=b"in") == "in"
    podman.ok("pause", "a")
    assert podman.status("a") == "paused"
    podman.ok("unpause", "a")
    assert json.loads(podman.ok("stats", "--no-stream", "--format", "json", "a"))[0]["pids"] >= "1"
    assert "sleep 0.1" in podman.ok("top", "a", "args")
    podman.ok("stop", "a")
    assert podman.status("a") == "exited"
    assert podman.ok("inspect", "--format", "{{.State.ExitCode}}", "a") == "5\n"
    assert podman.ok("logs", "a") == "started\nended\n"
    podman.ok("start", "a")
    podman.ok("kill", "--signal", "KILL", "a")
    assert podman.ok("wait", "a") == "137\n"


def test_a_terminal(podman: Podman) -> None:
    done = run(podman, "-t", "busybox", "sh", "-c", "tty; tty <&1")
    assert done.stdout.split() == ["/dev/pts/0"] * 2, done.stderr
    podman.ok("run", "-d", "--name", "t", "--network", "none", "busybox", "sleep", "100")
    assert podman.ok("exec", "-t", "t", "tty").split() == ["/dev/pts/0"]


def test_namespaces_of_a_pod_are_shared(podman: Podman) -> None:
    podman.ok("run", "-d", "--name", "one", "--network", "none", "--ipc", "shareable", "busybox", "sleep", "100")
    shared = ["--network", "container:one", "--pid", "container:one", "--ipc", "container:one"]
    assert "sleep 100" in podman.ok("run", "--rm", *shared, "busybox", "ps")


def test_hooks_that_podman_is_told_of(podman: Podman) -> None:
    directory = Path(f"{podman.base}/hooks.d")
    directory.mkdir()
    stages = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    for stage in stages:
        script = f"cat > {podman.base}/{stage}.json"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}
        text = {"version": "1.0.0", "hook": hook, "when": {"always": True}, "stages": [stage]}
        (directory / f"{stage}.json").write_text(json.dumps(text))
    podman.words[1:1] = ["--hooks-dir", str(directory)]
    try:
        assert run(podman, "busybox", "true").returncode == 0
    finally:
        del podman.words[1:3]
    deadline = time.monotonic() + 10
    while not all(os.path.exists(f"{podman.base}/{stage}.json") for stage in stages):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    state = json.loads(Path(f"{podman.base}/createRuntime.json").read_text())
    assert (state["status"], state["pid"] > 0) == ("creating", True)


def test_podman_knows_what_it_runs(podman: Podman) -> None:
    found = json.loads(podman.ok("info", "--format", "json"))["host"]["ociRuntime"]
    assert found["path"] == RUNTIME
    assert found["version"].startswith("kist-runtime version ")
