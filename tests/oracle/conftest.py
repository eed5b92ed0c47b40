"""The oracle: Debian's dockerd on a socket, a data root and a network of its own, beside a kistd with the same image.

Run by `make oracle`; without dockerd these tests are skipped and say so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Kistd

from kist.kernel import cgroup

# dockerd hands down what signals it was started with ignored; posix_spawn(3), as make uses it, leaves one behind.
_CLEAN = """
import os, sys
from kist.kernel import process
process.reset_foreign_signals()
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Dockerd(Kistd):
    """The same questions, asked of dockerd.

    It gets a network namespace, so that docker0 and its iptables rules are nobody's business, and tmpfs where it
    would write under /etc, /run and /var/lib.
    """

    def start(self) -> None:
        hidden = " && ".join(
            f"mkdir -p {directory} && mount -t tmpfs none {directory}"
            for directory in ("/etc/docker", "/run/docker", "/var/lib/docker")
        )
        flags = f"--data-root {self.base}/d --exec-root {self.base}/e -H {self.host} --pidfile {self.base}/p"
        group = f"--cgroup-parent {self.group}"
        script = f"{hidden} && ip link set lo up && exec dockerd {flags} {group} {' '.join(self.flags)}"
        with open(f"{self.base}/log", "ab") as log:
            command = ["unshare", "--mount", "--net", "sh", "-c", script]
            self.process = subprocess.Popen(
                [sys.executable, "-c", _CLEAN, *command], stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self.request("GET", "/_ping")[0] == 200:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"dockerd did not start:\n{self.log()}")

    def check_answer(self, method: str, path: str, status: int, kind: str, raw: bytes) -> None:
        """The models are of kist's version; Debian's dockerd is older."""

    @property
    def group(self) -> str:
        return f"/kist-oracle-{os.path.basename(self.base)}"

    def clean_host(self) -> None:
        """The cgroups that dockerd and runc leave behind."""
        for root in cgroup.detect().directories(self.group.lstrip("/")):
            for directory, _, _ in os.walk(root, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)


@pytest.fixture(scope="session")
def kist(shared_engine: Kistd) -> Kistd:
    return shared_engine


@pytest.fixture(scope="module", autouse=True)
def clean(request: pytest.FixtureRequest) -> None:
    """Each module begins with two engines that hold nothing but the image."""
    for name in ("kist", "dockerd"):
        engine: Kistd = request.getfixturevalue(name)
        for one in engine.request("GET", "/containers/json?all=1")[1]:
            engine.request("DELETE", f"/containers/{one['Id']}?force=1&v=1")
        for volume in engine.request("GET", "/volumes")[1]["Volumes"] or ():
            engine.request("DELETE", f"/volumes/{volume['Name']}?force=1")
        for image in engine.request("GET", "/images/json")[1]:
            for tag in image["RepoTags"] or ():
                if tag != "busybox:latest":
                    engine.request("DELETE", f"/images/{tag}?force=1")


@pytest.fixture(scope="session")
def dockerd(busybox_archive: Path) -> Iterator[Dockerd]:
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("needs root and dockerd")
    engine = Dockerd(tempfile.mkdtemp(prefix="ko", dir="/tmp"))
    os.chmod(engine.base, 0o755)
    try:
        engine.start()
        status, answer = engine.request(
            "POST", "/images/load", busybox_archive.read_bytes(), {"Content-Type": "application/x-tar"}
        )
        assert status == 200, answer
        yield engine
        for one in engine.request("GET", "/containers/json?all=1")[1]:
            engine.request("DELETE", f"/containers/{one['Id']}?force=1&v=1")
    finally:
        if engine.process is not None:
            engine.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                engine.process.wait(30)
        engine.clean_host()
        shutil.rmtree(engine.base, ignore_errors=True)
