"""dockerd and its containerd with `kist-runtime` in runc's place: the same commands, the same answers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.oracle.conftest import Dockerd

RUNTIME = str(Path(sys.executable).with_name("kist-runtime"))
PROGRAM = "echo started; trap 'echo ended; exit 5' TERM; while :; do sleep 0.1; done"
LIFE: tuple[tuple[str, ...], ...] = (
    ("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"),
    ("run", "--rm", "busybox", "nonsense"),
    ("run", "--rm", "busybox", "/etc/passwd"),
    ("run", "--rm", "-t", "busybox", "tty"),
    ("run", "--rm", "--user", "7:8", "--read-only", "--hostname", "h", "--init", "-m", "32m", "busybox", "sh", "-c",
     "id; hostname; cat /proc/1/comm; touch /x; grep -E '^(Cap|Sec|NoNew)' /proc/self/status; ls -l /dev;"
     "mount | sort | grep -v 'on /sys/fs/cgroup '"),  # which kist leaves read-only
    ("run", "-d", "--name", "aa", "busybox", "sh", "-c", PROGRAM),
    ("exec", "-e", "X=y", "aa", "sh", "-c", "echo $X; exit 4"),
    ("exec", "-t", "aa", "tty"),
    ("exec", "aa", "nonsense"),
    ("pause", "aa"),
    ("exec", "aa", "true"),
    ("unpause", "aa"),
    ("update", "-m", "64m", "--memory-swap", "128m", "aa"),
    ("top", "aa", "-o", "pid,comm"),
    ("stop", "aa"),
    ("logs", "aa"),
    ("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "aa"),
    ("start", "aa"),
    ("kill", "aa"),
    ("wait", "aa"),
    ("rm", "aa"),
)  # fmt: skip


@pytest.fixture(scope="module")
def both(busybox_archive: Path) -> Iterator[Dockerd]:
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("needs root and dockerd")
    engine = Dockerd(tempfile.mkdtemp(prefix="ko", dir="/tmp"), f"--add-runtime own={RUNTIME}")
    try:
        engine.start()
        engine.request("POST", "/images/load", busybox_archive.read_bytes(), {"Content-Type": "application/x-tar"})
        yield engine
    finally:
        if engine.process is not None:
            engine.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                engine.process.wait(30)
        engine.clean_host()
        shutil.rmtree(engine.base, ignore_errors=True)


def plain(text: str) -> str:
    """Without ids, pids and times; the runtimes' own names are one."""
    text = re.sub(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "ID", text.replace("kist-runtime", "runc"))
    text = re.sub(r"[A-Z][a-z]{2} +[0-9]+ [0-9]{2}:[0-9]{2}", "DATE", text)
    text = re.sub(r"(lowerdir|upperdir|workdir)=[^,)]*", r"\1", text)
    return re.sub(r"\b[0-9]{3,7}\b", "N", text)


def test_a_life_under_dockerd(both: Dockerd) -> None:
    told: dict[str, list[tuple[tuple[str, ...], int, str, str]]] = {"runc": [], "own": []}
    for runtime, found in told.items():
        for words in LIFE:
            named = (words[0], "--runtime", runtime, *words[1:]) if words[0] == "run" else words
            done = both.docker(*named)
            found.append((words, done.status, plain(done.text), plain(done.errors)))
    for theirs, ours in zip(told["runc"], told["own"], strict=True):
        assert ours == theirs
