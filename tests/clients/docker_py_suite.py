"""docker-py's own integration tests against a private kistd:

    python -m tests.clients.docker_py_suite CHECKOUT [FILE or FILE::TEST ...]

CHECKOUT is one of docker/docker-py; its tests are used with the library that is installed. `docker_py_later.txt` lists
the tests whose need is not there yet, by name and with the reason. The status is 0 when every other test passes and
each of those fails: one that passes is to be taken off the list.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from tests.conftest import ROOT, Kistd

LATER = Path(__file__).with_name("docker_py_later.txt")
OVER_TCP = (
    "api_container_test.py::AttachContainerTest::test_run_container_reading_socket_ws"  # no ws:// to a unix socket
)
NOT_HERE = ("swarm", "service", "secret", "config_test", "nodes", "context")  # files about what kist does not have
IMAGES = ("alpine:3.10", "alpine:latest", "busybox:latest", "hello-world:latest")
_USERS = (
    "root:x:0:0:root:/root:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/home:/bin/false\n"
    "postgres:x:70:70:postgres:/var/lib/postgresql:/bin/sh\n"
)
_GROUPS = "root:x:0:\nnogroup:x:65534:\npostgres:x:70:\n"
_DIRECTORIES = (
    "bin", "etc", "home", "proc", "sys", "dev", "root", "var", "var/opt", "var/lib", "var/lib/postgresql", "usr",
    "usr/bin",
)  # fmt: skip


def root_archive() -> bytes:
    """A root file system of busybox as the tests expect one: links for its commands, users, a /tmp for all."""
    busybox = shutil.which("busybox")
    assert busybox, "busybox is missing (Debian package busybox-static)"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in (*_DIRECTORIES, "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(entry)
        archive.add(os.path.realpath(busybox), "bin/busybox")
        for name in subprocess.check_output([busybox, "--list"], text=True).split():
            if name != "busybox":
                entry = tarfile.TarInfo(f"bin/{name}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(entry)
        for name, text in (("etc/passwd", _USERS), ("etc/group", _GROUPS)):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def later() -> dict[str, str]:
    """Name of a test (`file.py::Class::test`) -> why it does not pass yet."""
    found: dict[str, str] = {}
    reason = ""
    for line in LATER.read_text().splitlines():
        if line.startswith("#"):
            reason = line.removeprefix("#").strip()
        elif line.strip():
            found[line.strip()] = reason
    return found


def run(engine: Kistd, tcp: str, checkout: Path, chosen: list[str], base: Path) -> dict[str, str]:
    """Name of a test -> passed, skipped or failed. `tcp`: where the engine listens beside its unix socket."""
    data = root_archive()
    for image in IMAGES:
        engine.ok("import", "-c", "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                  "-c", 'CMD ["/bin/sh"]', "-", image, stdin=data)  # fmt: skip
    shutil.copytree(checkout / "tests", base / "tests")
    files = chosen or sorted(
        path.name
        for path in (base / "tests/integration").glob("*_test.py")
        if not any(word in path.name for word in NOT_HERE)
    )
    found = _pytest(engine.host, files, base)
    if OVER_TCP in found:
        found |= _pytest(tcp, [OVER_TCP], base)
    return found


def _pytest(host: str, names: list[str], base: Path) -> dict[str, str]:
    report = base / "report.xml"
    arguments = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(base), "-p", "no:cacheprovider"]
    arguments += ["-q", "--timeout", "120", "--tb", "short", f"--junitxml={report}", "-W", "ignore"]
    arguments += [f"tests/integration/{name}" for name in names]
    environment = {**os.environ, "DOCKER_HOST": host, "DOCKER_CONFIG": str(base)}
    subprocess.run(arguments, cwd=base, env=environment, check=False)
    return outcomes(report)


def outcomes(report: Path) -> dict[str, str]:
    found = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        module, _, group = (case.get("classname") or "").rpartition(".")
        name = f"{module.rpartition('.')[2]}.py::{group}::{case.get('name')}"
        kinds = {child.tag for child in case}
        found[name] = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
    return found


def main() -> int:
    if len(sys.argv) < 2 or not (Path(sys.argv[1]) / "tests/integration").is_dir():
        print(__doc__, file=sys.stderr)
        return 2
    base = Path(tempfile.mkdtemp(prefix="kd", dir="/tmp"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        tcp = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    engine = Kistd(str(base), "-H", tcp)
    engine.start()
    try:
        found = run(engine, tcp, Path(sys.argv[1]).resolve(), sys.argv[2:], base)
    finally:
        engine.remove_all()
        engine.stop()
        engine.clean_host()
        shutil.rmtree(base, ignore_errors=True)
    expected = later()
    wrong = sorted(name for name, outcome in found.items() if outcome == "failed" and name not in expected)
    stale = sorted(name for name, outcome in found.items() if outcome == "passed" and name in expected)
    for name in wrong:
        print(f"failed: {name}")
    for name in stale:
        print(f"passes, and is listed in {LATER.relative_to(ROOT)}: {name}")
    counts = {outcome: list(found.values()).count(outcome) for outcome in ("passed", "failed", "skipped")}
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()), f"of {len(found)}")
    return 1 if wrong or stale or not found else 0


if __name__ == "__main__":
    sys.exit(main())
