"""Checkpoints by criu, in the machine that scripts/vm.sh starts: containers that go on where they were."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import Kistd, _end_engine, _make_engine, assert_no_leak, footprint

# Counts on standard output, into a file that stays open, and into a volume.
COUNTS = "exec 5>>/root/open; i=0; while true; do i=$((i+1)); echo $i; echo $i >&5; echo $i >/v/last; sleep 0.1; done"
PLAIN = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.1; done"


@pytest.fixture(scope="module")
def experimental(busybox_archive: Path) -> Iterator[Kistd]:
    engine = _make_engine(busybox_archive, "--experimental")
    yield engine
    _end_engine(engine)


@pytest.fixture
def engine(experimental: Kistd) -> Iterator[Kistd]:
    before = footprint(experimental)
    yield experimental
    experimental.remove_all()
    assert_no_leak(experimental, before)
    assert "Traceback" not in experimental.log()


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def shown(engine: Kistd, name: str = "counter") -> dict[str, object]:
    found: dict[str, object] = json.loads(engine.ok("inspect", name))[0]
    return found


def state(engine: Kistd, name: str = "counter") -> tuple[object, object]:
    _, found = engine.request("GET", f"/containers/{name}/json")
    return found["State"]["Status"], found["State"]["ExitCode"]


def numbers(engine: Kistd, name: str = "counter") -> list[int]:
    return [int(line) for line in engine.ok("logs", name).split()]


def count_on(engine: Kistd, more: int = 3, name: str = "counter") -> list[int]:
    """Waits until it has counted on; no number is missing and none is there twice."""
    before = len(numbers(engine, name))
    until(lambda: len(numbers(engine, name)) >= before + more, f"it does not count on:\n{engine.log()}")
    found = numbers(engine, name)
    assert found == list(range(1, len(found) + 1)), found
    return found


def run_counter(engine: Kistd, *options: str, program: str = PLAIN, name: str = "counter") -> None:
    engine.ok("run", "-d", "--name", name, *options, "busybox", "sh", "-c", program)
    count_on(engine, name=name)


def checkpoints(engine: Kistd, name: str, *options: str) -> list[str]:
    head, *rows = engine.ok("checkpoint", "ls", *options, name).splitlines()
    assert head == "CHECKPOINT NAME"
    return rows


def test_a_container_goes_on_where_it_was(engine: Kistd) -> None:
    run_counter(engine, "--hostname", "there", "-v", "kept:/v", program=COUNTS)
    address = engine.ok("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "counter").strip()
    engine.ok("exec", "-d", "counter", "sleep", "1000")  # as a health check may be: not a part of it
    assert engine.ok("checkpoint", "create", "counter", "first") == "first\n"
    assert state(engine) == ("exited", 137)
    assert checkpoints(engine, "counter") == ["first"]
    before = numbers(engine)
    time.sleep(0.5)
    assert numbers(engine) == before
    assert engine.ok("start", "--checkpoint", "first", "counter") == ""
    assert count_on(engine)[: len(before)] == before
    assert state(engine) == ("running", 0)
    inside = (
        "hostname; ip -4 -o addr show eth0 | grep -o 'inet [0-9.]*'; ip route | grep -o '^default via'; cat /etc/hosts;"
        "cat /proc/self/cgroup; echo 1 >/proc/sys/kernel/panic; echo 1 >/sys/fs/cgroup/pids.max; head -c 1 /proc/kcore"
    )
    seen = engine.docker("exec", "counter", "sh", "-c", inside)
    assert seen.text.startswith(f"there\ninet {address}\ndefault via\n") and f"{address}\tthere\n" in seen.text
    assert seen.text.endswith("\n0::/\n")
    assert seen.errors.count("Read-only file system") == 2, seen.errors
    written = [int(line) for line in engine.ok("exec", "counter", "cat", "/root/open").split()]
    assert written == list(range(1, len(written) + 1))
    assert int(engine.ok("exec", "counter", "cat", "/v/last")) > len(before)
    status = Path(f"/proc/{engine.ok('inspect', '-f', '{{.State.Pid}}', 'counter').strip()}/status").read_text()
    assert "Seccomp:\t2" in status and "CapEff:\t00000000a80425fb" in status
    engine.ok("stop", "-t", "0", "counter")
    assert state(engine) == ("exited", 137)
    engine.ok("checkpoint", "rm", "counter", "first")
    assert checkpoints(engine, "counter") == []


def test_one_that_is_left_running_goes_on_and_a_restore_that_fails_leaves_nothing(engine: Kistd) -> None:
    program = COUNTS.replace(">>", "<>", 1)
    run_counter(engine, "-v", "kept:/v", "-p", "8099:80", program=program)
    pid = shown(engine)["State"]
    engine.ok("checkpoint", "create", "--leave-running", "counter", "live")
    count_on(engine)
    assert shown(engine)["State"] == pid
    engine.ok("kill", "counter")
    refused = engine.docker("start", "--checkpoint", "live", "counter")  # criu does not restore a file that has grown
    assert refused.status == 1 and "OCI runtime restore failed: criu restore:" in refused.errors, refused.errors
    assert "bad size" in refused.errors and "criu-restore.log" in refused.errors, refused.errors
    assert state(engine) == ("exited", 128)
    engine.ok("start", "counter")  # its address and its port are free, and its group is gone
    until(lambda: numbers(engine).count(3) == 2, "it does not begin anew")


def test_kistd_may_end_before_between_and_after(engine: Kistd) -> None:
    run_counter(engine, "--restart", "always")
    engine.kill()
    engine.start()
    engine.ok("checkpoint", "create", "counter", "kept")
    time.sleep(0.5)
    assert state(engine) == ("exited", 137)  # its policy does not start it: it was told to end
    engine.kill()
    engine.start()  # which starts what has the policy `always`
    until(lambda: state(engine)[0] == "running", "it does not run")
    engine.ok("kill", "counter")
    engine.ok("start", "--checkpoint", "kept", "counter")
    last = numbers(engine)[-1]
    engine.kill()
    engine.start()
    until(lambda: numbers(engine)[-1] > last, "it does not count on")
    assert engine.ok("exec", "counter", "echo", "there") == "there\n"
    engine.ok("stop", "-t", "0", "counter")
    assert state(engine) == ("exited", 137)


def test_a_checkpoint_is_made_though_kistd_dies_meanwhile(engine: Kistd) -> None:
    run_counter(engine)
    with subprocess.Popen(["docker", "-H", engine.host, "checkpoint", "create", "counter", "one"]) as client:
        directory = Path(f"{engine.base}/d/containers/{shown(engine)['Id']}/checkpoints")
        until(lambda: (directory / ".one.partial").exists() or (directory / "one").exists(), "it is not begun")
        engine.kill()
        client.wait(30)
    until((directory / "one").exists, "it is not made")
    engine.start()
    until(lambda: state(engine) == ("exited", 137), "it has not ended")
    assert checkpoints(engine, "counter") == ["one"]
    engine.ok("start", "--checkpoint", "one", "counter")
    count_on(engine)


def test_streams_users_and_exit_codes_are_the_programs_own(engine: Kistd) -> None:
    program = "read a; echo got $a; echo error >&2; read b; echo got $b; cat /scratch/file; id -u; exit 7"
    engine.ok("create", "-i", "--name", "reads", "--user", "1000", "--read-only", "--tmpfs", "/scratch:mode=1777",
              "--network", "none", "--init", "busybox", "sh", "-c", program)  # fmt: skip
    engine.ok("start", "reads")
    with subprocess.Popen(["docker", "-H", engine.host, "attach", "reads"], stdin=subprocess.PIPE) as client:
        assert client.stdin is not None
        client.stdin.write(b"one\n")
        client.stdin.flush()
        until(lambda: "got one" in engine.ok("logs", "reads"), "it does not read")
        engine.ok("exec", "reads", "sh", "-c", "echo in memory >/scratch/file")
        engine.ok("checkpoint", "create", "reads", "asks")
        client.stdin.close()
    done = engine.docker("start", "--checkpoint", "asks", "reads")
    assert done.status == 0, done.errors
    done = engine.docker("attach", "reads", stdin=b"two\n")
    engine.ok("wait", "reads")
    assert state(engine, "reads") == ("exited", 7)
    assert engine.ok("logs", "reads") == "got one\ngot two\nin memory\n1000\n"


def test_connections_are_closed_and_the_networks_of_others_are_joined(engine: Kistd, tmp_path: Path) -> None:
    talk = "(while sleep 0.1; do echo; done) | nc -lp 7000 >/dev/null & sleep 1; "
    talk += "sleep 1000000 | nc 127.0.0.1 7000 | (i=0; while read x; do i=$((i+1)); echo $i; done; echo broken)"
    run_counter(engine, program=talk)
    engine.ok("run", "-d", "--name", "guest", "--network", "container:counter", "busybox", "sh", "-c", PLAIN)
    until(lambda: len(numbers(engine, "guest")) > 3, "it does not count")
    where = ("--checkpoint-dir", str(tmp_path))
    engine.ok("checkpoint", "create", *where, "guest", "beside")
    assert checkpoints(engine, "guest", *where) == ["beside"] == os.listdir(tmp_path)
    assert checkpoints(engine, "guest") == []
    engine.ok("start", *where, "--checkpoint", "beside", "guest")
    count_on(engine, name="guest")
    assert engine.ok("exec", "guest", "cat", "/proc/net/tcp") == engine.ok("exec", "counter", "cat", "/proc/net/tcp")
    engine.ok("checkpoint", "rm", *where, "guest", "beside")
    assert os.listdir(tmp_path) == []
    engine.ok("kill", "guest")
    engine.ok("checkpoint", "create", "counter", "talks")
    engine.ok("start", "--checkpoint", "talks", "counter")
    until(lambda: engine.ok("logs", "counter").endswith("\nbroken\n"), engine.ok("logs", "counter"))
    run_counter(engine, "--network", "host", name="free")
    engine.ok("checkpoint", "create", "free", "one")
    engine.ok("start", "--checkpoint", "one", "free")
    count_on(engine, name="free")


def test_kists_command_does_the_same(engine: Kistd) -> None:
    def kist(*words: str) -> str:
        done = subprocess.run(["kist", "-H", engine.host, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    waits = "until [ -e /go ]; do sleep 0.1; done; echo end; exit 7"
    engine.ok("run", "-d", "--name", "ends", "busybox", "sh", "-c", waits)
    assert kist("checkpoint", "create", "--leave-running", "ends", "one") == "one\n"
    assert kist("checkpoint", "ls", "ends") == "CHECKPOINT NAME\none\n"
    engine.ok("kill", "ends")
    start = ["kist", "-H", engine.host, "start", "-a", "--checkpoint", "one", "ends"]
    with subprocess.Popen(start, stdout=subprocess.PIPE, text=True) as attached:
        until(lambda: state(engine, "ends")[0] == "running", "it does not run")
        engine.ok("exec", "ends", "touch", "/go")
        assert (attached.communicate(timeout=60)[0], attached.returncode) == ("end\n", 7)
    assert kist("checkpoint", "rm", "ends", "one") == ""


def test_a_container_that_has_moved_its_mounts_is_refused(engine: Kistd, tmp_path: Path) -> None:
    """A restore would give the place of the writable one to the other."""
    for name in ("secret", "open"):
        (tmp_path / name).mkdir()
    engine.ok("run", "-d", "--name", "moves", "-v", f"{tmp_path}/secret:/a/x:ro", "-v", f"{tmp_path}/open:/b/x",
              "busybox", "sh", "-c", "mv /a /t; mv /b /a; mv /t /b; echo moved; sleep 1000")  # fmt: skip
    until(lambda: engine.ok("logs", "moves") == "moved\n", "it does not move them")
    refused = engine.docker("checkpoint", "create", "moves", "one")
    assert "is not any more what was mounted there at the start" in refused.errors, refused.errors
    assert engine.ok("exec", "moves", "echo", "alive") == "alive\n"


def test_what_cannot_be_is_refused_and_the_container_runs_on(engine: Kistd) -> None:
    run_counter(engine)
    engine.ok("run", "-dt", "--name", "terminal", "busybox", "sleep", "1000")
    engine.ok("run", "-d", "--name", "hosts-pids", "--pid", "host", "busybox", "sleep", "1000")
    engine.ok("create", "--name", "other", "busybox", "sleep", "1000")
    engine.ok("run", "-d", "--rm", "--name", "goes", "busybox", "sleep", "1000")
    for arguments, words in (
        (["create", "terminal", "one"], "checkpoint not support on containers with tty"),
        (["create", "hosts-pids", "one"], "its PID namespace is not its own (--pid host)"),
        (["create", "goes", "one"], "it is removed when it ends, and its checkpoint with it (--rm)"),
        (["create", "other", "one"], "is not running"),
        (["create", "nobody", "one"], "No such container: nobody"),
        (["create", "counter", "a/b"], "Invalid checkpoint ID (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        (["rm", "counter", "one"], "checkpoint one does not exist for container counter"),
        (["ls", "--checkpoint-dir", "/nowhere", "counter"], "checkpoint  does not exist for container counter"),
    ):
        refused = engine.docker("checkpoint", *arguments)
        assert refused.status == 1 and words in refused.errors, (arguments, refused.errors)
    engine.ok("checkpoint", "create", "--leave-running", "counter", "one")
    refused = engine.docker("checkpoint", "create", "counter", "one")
    assert "checkpoint with name one already exists for container counter" in refused.errors
    place = Path(f"{engine.base}/d/containers/{shown(engine)['Id']}/checkpoints/one")
    strange = place.parent / "strange"
    strange.mkdir()
    other = Path(f"{engine.base}/x")
    (other / "one").mkdir(parents=True)
    (other / "one" / "kist.json").write_bytes((place / "kist.json").read_bytes())
    engine.ok("kill", "counter")
    for options, words in (
        (["--checkpoint", "two", "counter"], "checkpoint two does not exist for container /counter"),
        (["--checkpoint", "strange", "counter"], "is not a checkpoint of this engine"),
        (["--checkpoint", "one", "--checkpoint-dir", str(other), "other"], "is one of container"),
    ):
        refused = engine.docker("start", *options)
        assert refused.status == 1 and words in refused.errors, (options, refused.errors)
    assert state(engine) == ("exited", 137)


def test_a_criu_that_does_not_work_is_named_before_anything_is_touched(
    busybox_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the kernel is too new for it."""
    broken = tmp_path / "criu"
    broken.write_text('#!/bin/sh\necho "(00.01) Error (criu/vdso.c:381): vdso: Unexpected bounds" >"$3"; exit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    engine = _make_engine(busybox_archive, "--experimental")
    try:
        run_counter(engine)
        refused = engine.docker("checkpoint", "create", "counter", "one")
        assert refused.status == 1 and "criu does not work on this machine" in refused.errors, refused.errors
        assert "vdso: Unexpected bounds" in refused.errors
        count_on(engine)
        assert checkpoints(engine, "counter") == []
    finally:
        _end_engine(engine)


def test_it_is_told_as_an_event(engine: Kistd) -> None:
    since = time.time()
    run_counter(engine)
    engine.ok("checkpoint", "create", "--leave-running", "counter", "one")
    told = engine.ok(
        "events", "--since", f"{since:.3f}", "--until", f"{time.time() + 0.1:.3f}", "--format", "{{.Action}}"
    )
    assert told.split()[-1] == "checkpoint"
