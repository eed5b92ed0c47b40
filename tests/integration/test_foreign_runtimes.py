"""Containers that Debian's runc starts, and `kist-runtime` as a foreign runtime of kistd: everything works as with
kist's own, and nothing of them is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Kistd, UnixConnection, _end_engine, _make_engine, assert_no_leak, footprint

from kist.kernel import cgroup

RUNC = shutil.which("runc") or ""
OWN = shutil.which("kist-runtime", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or ""
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not RUNC, reason="runc is not installed: make packages"),
]


@pytest.fixture(scope="module")
def shared(busybox_archive: Path) -> Iterator[Kistd]:
    flags = [f"--add-runtime=other={RUNC}", f"--add-runtime=own={OWN}", "--add-runtime=none=/no/such/runtime"]
    engine = _make_engine(busybox_archive, *flags)
    yield engine
    _end_engine(engine)


@pytest.fixture
def engine(shared: Kistd) -> Iterator[Kistd]:
    before = footprint(shared)
    yield shared
    shared.remove_all()
    assert_no_leak(shared, before)


@pytest.fixture(params=["other", "own"])
def run(request: pytest.FixtureRequest) -> list[str]:
    return ["run", f"--runtime={request.param}"]


def status(engine: Kistd, name: str) -> str:
    return engine.ok("inspect", "-f", "{{.State.Status}}", name).strip()


def wait_for(engine: Kistd, name: str, wanted: str) -> None:
    deadline = time.monotonic() + 10
    while status(engine, name) != wanted:
        assert time.monotonic() < deadline, status(engine, name)
        time.sleep(0.02)


def pid_of(engine: Kistd, name: str) -> int:
    return int(engine.ok("inspect", "-f", "{{.State.Pid}}", name))


def test_run_gives_output_and_exit_code(engine: Kistd, run: list[str]) -> None:
    done = engine.docker(*run, "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.status, done.text, done.errors) == (7, "out\n", "err\n")
    assert engine.docker(*run, "--rm", "-i", "busybox", "cat", stdin=b"through").text == "through"


def test_it_is_the_runtime_that_was_named(engine: Kistd) -> None:
    """The monitor is the parent of an init that runc made: its state is where runc finds it."""
    engine.ok("run", "-d", "--runtime=other", "--name", "aa", "busybox", "sleep", "100")
    assert engine.ok("inspect", "-f", "{{.HostConfig.Runtime}}", "aa") == "other\n"
    ident = engine.ok("inspect", "-f", "{{.Id}}", "aa").strip()
    root = f"{engine.base}/e/containers/{ident}/state"
    done = subprocess.run([RUNC, "--root", root, "state", ident], capture_output=True, check=True)
    state = json.loads(done.stdout)
    assert (state["status"], state["pid"]) == ("running", pid_of(engine, "aa"))
    parent = Path(f"/proc/{state['pid']}/stat").read_text().rpartition(")")[2].split()[1]
    assert Path(f"/proc/{parent}/comm").read_text() == "kist-monitor\n"


def test_a_container_has_what_was_asked(engine: Kistd, run: list[str]) -> None:
    words = (
        "--user daemon --memory 64m --pids-limit 50 --hostname h --env A=b --cap-drop all --workdir /made/here "
        "--tmpfs /t:size=1m --read-only --ulimit core=5:6 --init --shm-size 1m -v kept:/kept --group-add 77 "
        "--sysctl net.ipv4.ip_forward=1 --device /dev/full:/dev/other"
    )
    asked = words.split()
    look = (
        "id -un; id -G; hostname; echo $A; pwd; cat /proc/sys/net/ipv4/ip_forward; ulimit -c; cat /proc/1/comm;"
        "cat /sys/fs/cgroup/pids/pids.max; touch /y 2>/dev/null || echo read-only; ls /dev/other;"
        "grep Seccomp: /proc/self/status;"
        "grep CapEff /proc/self/status; df /dev/shm | tail -1 | awk '{print $2}'; umask;"
        "wc -c < /proc/kcore; ls /sys/firmware"
    )
    names = {}
    for runtime in ("kist", run[1].partition("=")[2]):
        done = engine.docker("run", "--rm", f"--runtime={runtime}", *asked, "busybox", "sh", "-c", look)
        assert done.status == 0, done.errors
        names[runtime] = done.text
    engine.ok("volume", "rm", "kept")
    assert len(set(names.values())) == 1, names
    assert "read-only" in names["kist"]


def test_the_network_is_the_engines(engine: Kistd, run: list[str]) -> None:
    engine.ok(*run, "-d", "--name", "web", "-p", "127.0.0.1:18099:80", "busybox", "sh", "-c",
              "mkdir /w; echo page > /w/index.html; httpd -f -p 80 -h /w")  # fmt: skip
    address = engine.ok("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web").strip()
    assert f"inet {address}/" in engine.ok("exec", "web", "ip", "addr", "show", "eth0")
    assert "disable_ipv6 = 1" in engine.ok("exec", "web", "sysctl", "net.ipv6.conf.eth0.disable_ipv6")
    assert engine.ok(*run, "--rm", "busybox", "wget", "-qO-", f"http://{address}/") == "page\n"
    assert (
        engine.ok(*run, "--rm", "--network=container:web", "busybox", "wget", "-qO-", "http://127.0.0.1/") == "page\n"
    )
    assert engine.ok(*run, "--rm", "--network=none", "busybox", "ls", "/sys/class/net").split() == ["lo"]
    inside = engine.ok(*run, "--rm", "--network=host", "busybox", "readlink", "/proc/self/ns/net").strip()
    assert engine.process is not None
    assert inside == os.readlink(f"/proc/{engine.process.pid}/ns/net")


def test_a_life(engine: Kistd, run: list[str]) -> None:
    program = "trap 'echo ended; exit 5' TERM; echo started; while :; do sleep 0.1; done"
    engine.ok(*run, "-d", "--name", "aa", "busybox", "sh", "-c", program)
    engine.ok("pause", "aa")
    assert status(engine, "aa") == "paused"
    engine.ok("unpause", "aa")
    assert "sleep 0.1" in engine.ok("top", "aa")
    engine.ok("update", "--memory", "32m", "--memory-swap", "64m", "aa")
    ident = engine.ok("inspect", "-f", "{{.Id}}", "aa").strip()
    layout, group = cgroup.detect(), f"kist/{engine.id}/{ident}"
    assert cgroup.read(f"{layout.path('memory', group)}/memory.limit_in_bytes") in (str(32 << 20), "")
    _, stats = engine.request("GET", "/containers/aa/stats?stream=0&one-shot=1")
    assert stats["pids_stats"]["current"] >= 1
    assert stats["networks"]["eth0"]["rx_packets"] >= 0
    assert engine.docker("cp", "-", "aa:/tmp", stdin=engine.docker("cp", "aa:/etc/passwd", "-").out).status == 0
    assert engine.ok("exec", "aa", "cat", "/tmp/passwd") == engine.ok("exec", "aa", "cat", "/etc/passwd")
    engine.ok("stop", "aa")
    assert engine.ok("inspect", "-f", "{{.State.ExitCode}}", "aa") == "5\n"
    assert engine.ok("logs", "aa") == "started\nended\n"
    engine.ok("start", "aa")
    engine.ok("restart", "-t", "0", "aa")
    engine.ok("kill", "aa")
    wait_for(engine, "aa", "exited")
    assert engine.ok("inspect", "-f", "{{.State.ExitCode}}", "aa") == "137\n"
    engine.ok("rm", "aa")


def test_exec(engine: Kistd, run: list[str]) -> None:
    engine.ok(*run, "-d", "--name", "aa", "-u", "daemon", "busybox", "sleep", "100")
    done = engine.docker("exec", "-e", "X=y", "aa", "sh", "-c", "id -un; echo $X; echo err >&2; exit 4")
    assert (done.status, done.text, done.errors) == (4, "daemon\ny\n", "err\n")
    assert engine.ok("exec", "-u", "0:77", "aa", "id", "-G") == "77\n"
    assert engine.docker("exec", "-i", "aa", "cat", stdin=b"in").text == "in"
    missing = engine.docker("exec", "aa", "nonsense")
    assert (missing.status, 'exec: "nonsense": executable file not found in $PATH' in missing.text) == (127, True)
    assert missing.text.startswith("OCI runtime exec failed: exec failed: unable to start container process: ")
    unknown = engine.docker("exec", "-u", "nobody-here", "aa", "true")
    assert (unknown.status, "unable to find user nobody-here" in unknown.text + unknown.errors) == (126, True)
    engine.ok("exec", "-d", "aa", "sleep", "200")
    deadline = time.monotonic() + 5
    while "sleep 200" not in engine.ok("top", "aa"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_terminals(engine: Kistd, run: list[str]) -> None:
    engine.ok(*run, "-dt", "--name", "tt", "busybox", "sh", "-c", "tty; sleep 100")
    deadline = time.monotonic() + 5
    while engine.ok("logs", "tt") != "/dev/pts/0\r\n":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    status_code, answer = engine.request(
        "POST", "/containers/tt/exec", {"Cmd": ["tty"], "Tty": True, "AttachStdout": True}
    )
    assert status_code == 201
    _, said = engine.request("POST", f"/exec/{answer['Id']}/start", {"Detach": False, "Tty": True})
    assert said == b"/dev/pts/1\r\n"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["busybox", "nonsense"], 127, 'exec: "nonsense": executable file not found in $PATH'),
        (["busybox", "/etc/passwd"], 126, "permission denied"),
        (["-u", "nobody-here", "busybox", "true"], 125, "unable to find user nobody-here"),
        (["--sysctl", "net.ipv4.no_such=1", "busybox", "true"], 127, "/proc/sys/net/ipv4/no_such"),
    ],
)
def test_failures_have_dockers_words(engine: Kistd, run: list[str], words: list[str], code: int, told: str) -> None:
    done = engine.docker(*run, "--name", "aa", *words)
    assert (done.status, told in done.errors) == (code, True), done.errors
    if "user" not in told:
        assert (
            "failed to create task for container: failed to create shim task: OCI runtime create failed: "
            in done.errors
        )
    assert status(engine, "aa") == "created"
    _, listed = engine.request("GET", "/containers/json?all=1")
    assert len(listed) == 1


def test_a_runtime_that_is_not_there(engine: Kistd) -> None:
    done = engine.docker("run", "--runtime=none", "--name", "aa", "busybox", "true")
    assert (done.status, "fork/exec /no/such/runtime: no such file or directory" in done.errors) == (127, True)
    unknown = engine.docker("run", "--runtime=nonsense", "busybox", "true")
    assert (unknown.status, "unknown or invalid runtime name: nonsense" in unknown.errors) == (125, True)


def test_what_another_runtime_cannot_have_is_refused(engine: Kistd) -> None:
    shared = engine.docker("run", "--runtime=other", "-v", "/tmp:/x:rshared", "busybox", "true")
    assert (shared.status, "not supported with another runtime" in shared.errors) == (125, True), shared.errors


def test_info_tells_the_runtimes(engine: Kistd) -> None:
    _, info = engine.request("GET", "/info")
    assert info["Runtimes"]["other"] == {"path": RUNC}
    assert info["DefaultRuntime"] == "kist"


def test_orphans_of_a_container_that_shares_pids_are_reaped(engine: Kistd) -> None:
    """They fall to the monitor, which is the subreaper here."""
    engine.ok("run", "-d", "--runtime=other", "--pid=host", "--name", "aa", "busybox", "sh", "-c",
              "for i in 1 2 3 4 5; do (sleep 0.2 & ); done; exec sleep 100")  # fmt: skip
    pid = pid_of(engine, "aa")
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    deadline = time.monotonic() + 5
    while Path(f"/proc/{parent}/task/{parent}/children").read_text().split() != [str(pid)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_containers_outlive_kistd(own_engine: Kistd) -> None:
    """Adopted by the next one, which may be told of other runtimes: it goes on, and starts again where it is known."""
    engine = own_engine
    config = Path(f"{engine.base}/c.json")
    config.write_text(
        json.dumps({"runtimes": {"x": {"path": RUNC, "runtimeArgs": ["--debug"]}}, "default-runtime": "x"})
    )
    engine.stop()
    engine.start()
    _, info = engine.request("GET", "/info")
    assert (info["DefaultRuntime"], info["Runtimes"]["x"]) == ("x", {"path": RUNC, "runtimeArgs": ["--debug"]})
    engine.ok("run", "-d", "--name", "aa", "busybox", "sh", "-c", "echo a; sleep 1; echo b; exec sleep 100")
    assert engine.ok("inspect", "-f", "{{.HostConfig.Runtime}}", "aa") == "x\n"
    engine.kill()
    time.sleep(1.2)
    config.write_text("{}")
    engine.start()
    assert status(engine, "aa") == "running"
    assert engine.ok("logs", "aa") == "a\nb\n"
    assert engine.ok("exec", "aa", "echo", "still") == "still\n"
    engine.ok("stop", "-t", "0", "aa")
    done = engine.docker("start", "aa")
    assert (done.status, "unknown or invalid runtime name: x" in done.errors) == (1, True)
    config.write_text(json.dumps({"runtimes": {"x": {"path": RUNC}}}))
    assert engine.process is not None
    engine.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 5
    while "x" not in engine.request("GET", "/info")[1]["Runtimes"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    engine.ok("start", "aa")


def test_a_monitor_that_dies_takes_its_container_along(engine: Kistd) -> None:
    engine.ok("run", "-d", "--runtime=other", "--name", "aa", "busybox", "sleep", "100")
    pid = pid_of(engine, "aa")
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    wait_for(engine, "aa", "exited")
    assert engine.ok("inspect", "-f", "{{.State.ExitCode}}", "aa") == "137\n"
    engine.ok("start", "aa")
    assert status(engine, "aa") == "running"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--add-runtime", "runc=/x"], "runtime name 'runc' is reserved"),
        (["--add-runtime", "nonsense"], 'invalid argument "nonsense"'),
        (["--default-runtime", "x"], "specified default runtime 'x' does not exist"),
    ],
)
def test_bad_options_are_refused(flags: list[str], told: str) -> None:
    kistd = shutil.which("kistd", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or ""
    done = subprocess.run([kistd, *flags, "--validate"], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, told in done.stderr) == (1, True), done.stderr


def test_health_checks_and_restart_policies(engine: Kistd, run: list[str]) -> None:
    engine.ok(*run, "-d", "--name", "aa", "--restart=on-failure:1", "--health-cmd", "test -e /tmp", "--health-interval",
              "100ms", "busybox", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")  # fmt: skip
    deadline = time.monotonic() + 10
    while engine.ok("inspect", "-f", "{{.State.Health.Status}}", "aa") != "healthy\n":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first = pid_of(engine, "aa")
    os.kill(first, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while engine.ok("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "aa") != "1 running\n":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert pid_of(engine, "aa") != first


def test_kills_for_memory_are_told(engine: Kistd, run: list[str]) -> None:
    engine.ok(*run, "-d", "--name", "aa", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c",
              "x=a; while :; do x=$x$x; done")  # fmt: skip
    wait_for(engine, "aa", "exited")
    assert engine.ok("inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "aa") == "true 137\n"


def test_kistd_dies_at_any_moment_of_a_start(own_engine: Kistd) -> None:
    """The next one finds the container running, or as it was; the fixture counts what is left."""
    engine = own_engine
    Path(f"{engine.base}/c.json").write_text(json.dumps({"runtimes": {"x": {"path": RUNC}}}))
    engine.stop()
    engine.start()
    for step in range(10):
        ident = engine.ok("create", "--runtime=x", "busybox", "sleep", "100").strip()
        connection = UnixConnection(engine.socket)
        connection.request("POST", f"/containers/{ident}/start")
        time.sleep(step * 0.012)
        engine.kill()
        connection.close()
        engine.start()
        assert status(engine, ident) in ("created", "running")
        engine.ok("start", ident)
        assert status(engine, ident) == "running"
        engine.ok("rm", "-f", ident)


def test_a_starter_that_dies_leaves_nothing(engine: Kistd) -> None:
    """Whatever the runtime has begun by then is killed with the container's group."""
    for step in range(6):
        ident = engine.ok("create", "--runtime=other", "busybox", "sleep", "100").strip()
        connection = UnixConnection(engine.socket)
        connection.request("POST", f"/containers/{ident}/start")
        time.sleep(0.005 + step * 0.008)
        for pid in cgroup.pids(cgroup.detect(), f"kist/{engine.id}/engine"):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text() == "kist-starter\n":
                    os.kill(pid, signal.SIGKILL)
        assert connection.getresponse().status in (204, 500)
        connection.close()
        engine.ok("rm", "-f", ident)
        layout, group = cgroup.detect(), f"kist/{engine.id}/{ident}"
        deadline = time.monotonic() + 5
        while cgroup.exists(layout, group):
            assert time.monotonic() < deadline, cgroup.pids(layout, group)
            time.sleep(0.02)


def test_an_end_that_its_monitor_only_wrote_down_is_the_end(busybox_archive: Path, tmp_path: Path) -> None:
    """The runtime's `delete` comes between the exit file and the news: a monitor killed there had told nobody."""
    slow, go = tmp_path / "slow", tmp_path / "go"
    slow.write_text(f"""#!/bin/sh
case " $* " in *" delete "*) until [ -e {go} ]; do sleep 0.05; done;; esac
exec {RUNC} "$@"
""")
    slow.chmod(0o755)
    engine = _make_engine(busybox_archive, f"--add-runtime=slow={slow}")
    try:
        engine.ok("run", "-d", "--runtime=slow", "--name", "box", "busybox", "sh", "-c", "sleep 1; exit 5")
        ident = engine.ok("inspect", "-f", "{{.Id}}", "box").strip()
        parent = Path(f"/proc/{pid_of(engine, 'box')}/stat").read_text().rpartition(")")[2].split()[1]
        waiting = UnixConnection(engine.socket)
        waiting.request("POST", "/containers/box/wait")
        exit_file, deadline = Path(f"{engine.base}/e/containers/{ident}/exit"), time.monotonic() + 10
        while not exit_file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert status(engine, "box") == "running", "kistd was told: this test tests nothing"
        os.kill(int(parent), signal.SIGKILL)
        wait_for(engine, "box", "exited")
        assert engine.ok("inspect", "-f", "{{.State.ExitCode}}", "box") == "5\n"
        assert json.loads(waiting.getresponse().read()) == {"StatusCode": 5}
        waiting.close()
    finally:
        go.touch()
        _end_engine(engine)
