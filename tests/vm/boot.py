"""What a machine holds whose power fails: an engine that systemd runs, and containers. test_systemd.py looks at them.

Run by guest.sh before the tests, without pytest; its status 0 means that the power is to fail.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

UNITS = Path("/etc/systemd/system")
HOST = "unix:///run/kist.sock"
CONTAINERS = {
    "always": ["--restart", "always"],
    "unless": ["--restart", "unless-stopped"],
    "stopped": ["--restart", "unless-stopped"],
    "stopped-always": ["--restart", "always"],
    "plain": [],
    "gone": ["--rm"],
}


def docker(*arguments: str, input_: bytes | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "-H", HOST, *arguments], input=input_.decode("latin-1") if input_ else None, text=True, timeout=120,
        capture_output=True, check=False, encoding="latin-1",
    )  # fmt: skip


def ok(*arguments: str, input_: bytes | None = None) -> str:
    done = docker(*arguments, input_=input_)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def systemctl(*arguments: str) -> None:
    subprocess.run(["systemctl", *arguments], check=True, timeout=120)


def main() -> int:
    if not any("vm" in word for word in sys.argv[1:] or ["tests/vm"]):
        return 1
    packaging = Path(__file__).resolve().parents[2] / "packaging"
    for unit in ("kist.service", "kist.socket"):
        shutil.copy(packaging / unit, UNITS)
    systemctl("daemon-reload")
    systemctl("enable", "kist.socket", "kist.service")
    systemctl("start", "kist.socket")
    ok("load", input_=Path("/var/tmp/kist-test-busybox.tar").read_bytes())
    for name, options in CONTAINERS.items():
        ok("run", "-d", "--name", name, "-v", "kept:/v", *options, "busybox", "sh", "-c",
           "date >>/v/starts; trap exit TERM; sleep 10000 & wait")  # fmt: skip
    ok("stop", "stopped", "stopped-always")
    return 0


if __name__ == "__main__":
    sys.exit(main())
