"""ssh:// to a kistd behind a real sshd: with kist, with the stock docker command, and with either at the far end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.conftest import Kistd

KIST = [sys.executable, "-m", "kist.cli.main"]
COMMANDS = pytest.mark.parametrize("command", [KIST, ["docker"]], ids=["kist", "docker"])
FAR_ENDS = pytest.mark.parametrize("far", ["kist", "docker"])


class Sshd(NamedTuple):
    base: Path
    port: int
    pid: int

    def url(self, engine: Kistd) -> str:
        return f"ssh://root@127.0.0.1:{self.port}{engine.socket}"

    def environment(self, **more: str) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "KIST_"))}
        return {
            **clean,
            "PATH": f"{self.base}/near:{os.environ['PATH']}",
            "DOCKER_CONFIG": f"{self.base}/config",
            **more,
        }

    def far_end(self, name: str) -> None:
        """What `docker` and `kist` are over there: the stock command alone, or kist under both names."""
        for link in ("kist", "docker"):
            (self.base / "far" / link).unlink(missing_ok=True)
        if name == "kist":
            for link in ("kist", "docker"):
                (self.base / "far" / link).write_text(f'#!/bin/sh\nexec {sys.executable} -m kist.cli.main "$@"\n')
                (self.base / "far" / link).chmod(0o755)
        else:
            docker = shutil.which("docker")
            assert docker is not None
            (self.base / "far" / "docker").symlink_to(docker)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A server of this test's own: its keys, its port on 127.0.0.1, a /run that nobody else sees."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    server = shutil.which("sshd") or "/usr/sbin/sshd"
    base = tmp_path_factory.mktemp("ssh")
    for name in ("near", "far", "config"):
        (base / name).mkdir()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", base / name], check=True)
    shutil.copy(base / "user.pub", base / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (base / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {base}/host\nAuthorizedKeysFile {base}/authorized_keys\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        f"MaxStartups 100\nSetEnv PATH={base}/far:/usr/bin:/bin PYTHONPATH={os.environ.get('PYTHONPATH', '')}\n"
    )
    (base / "ssh_config").write_text(
        f"IdentityFile {base}/user\nIdentitiesOnly yes\nUserKnownHostsFile {base}/known\n"
        f"StrictHostKeyChecking accept-new\nLogLevel ERROR\n"
    )
    # ssh takes the home directory from the password file: only by its command line can it be kept off the user's own.
    (base / "near" / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {base}/ssh_config "$@"\n')
    (base / "near" / "ssh").chmod(0o755)
    start = f"mount -t tmpfs none /run && mkdir /run/sshd && exec {server} -D -e -f {base}/sshd_config"
    with (base / "log").open("wb") as log:
        process = subprocess.Popen(["unshare", "--mount", "sh", "-c", start], stderr=log)
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, (base / "log").read_text()
            time.sleep(0.02)
    yield Sshd(base, port, process.pid)
    process.terminate()
    process.wait()


@pytest.fixture
def clean_sshd(sshd: Sshd) -> Iterator[Sshd]:
    """With the check that no ssh, no session of sshd and nothing behind it is left when the command has ended."""
    yield sshd
    deadline = time.monotonic() + 5
    while left := processes(sshd):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def processes(sshd: Sshd) -> list[str]:
    """Command lines of the clients, of the sessions, and of the `dial-stdio` at the far end."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != sshd.pid:
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            ours = f"{sshd.base}/ssh_config" in line or parent == sshd.pid
            if ours or ("dial-stdio" in line and "python3 -c" not in line and "/s " in f"{line} "):
                found.append(line)
    return found


def run(
    sshd: Sshd, command: list[str], url: str, *words: str, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*command, "-H", url, *words], input=stdin, capture_output=True, timeout=40, check=False,
                          env=sshd.environment(**environment))  # fmt: skip


@COMMANDS
@FAR_ENDS
def test_input_that_ends_before_the_output_does(clean_sshd: Sshd, engine: Kistd, command: list[str], far: str) -> None:
    clean_sshd.far_end(far)
    data = os.urandom(500_000)
    script = "cat >/tmp/f; sleep 0.3; cat /tmp/f; echo end; echo err >&2; exit 5"
    url = clean_sshd.url(engine)
    done = run(clean_sshd, command, url, "run", "--rm", "-i", "busybox", "sh", "-c", script, stdin=data)
    assert (done.returncode, done.stdout == data + b"end\n", done.stderr) == (5, True, b"err\n")


@COMMANDS
def test_exec_logs_and_attach(clean_sshd: Sshd, engine: Kistd, command: list[str]) -> None:
    clean_sshd.far_end("kist")
    url = clean_sshd.url(engine)
    name = engine.ok("run", "-di", "busybox", "sh", "-c", "read x; echo got $x; sleep 0.2; exit 7").strip()
    done = run(clean_sshd, command, url, "exec", "-i", name, "sh", "-c", "sed s/a/b/; exit 3", stdin=b"aaa\n")
    assert (done.returncode, done.stdout) == (3, b"baa\n"), done.stderr
    following = subprocess.Popen([*command, "-H", url, "logs", "-f", name], stdout=subprocess.PIPE,
                                 env=clean_sshd.environment())  # fmt: skip
    done = run(clean_sshd, command, url, "attach", name, stdin=b"word\n")
    assert (done.returncode, done.stdout) == (7, b"got word\n"), done.stderr
    assert following.communicate(timeout=20)[0] == b"got word\n" and following.returncode == 0


def test_much_in_both_directions_at_once(clean_sshd: Sshd, engine: Kistd) -> None:
    clean_sshd.far_end("kist")
    data = os.urandom(3_000_000)
    done = run(clean_sshd, KIST, clean_sshd.url(engine), "run", "--rm", "-i", "busybox", "cat", stdin=data)
    assert (done.returncode, done.stdout == data) == (0, True), done.stderr


def test_an_image_goes_over_and_comes_back(clean_sshd: Sshd, engine: Kistd, busybox_archive: Path) -> None:
    clean_sshd.far_end("kist")
    url = clean_sshd.url(engine)
    done = run(clean_sshd, KIST, url, "load", stdin=busybox_archive.read_bytes())
    assert done.returncode == 0, done.stderr
    done = run(clean_sshd, KIST, url, "save", "busybox")
    assert done.returncode == 0 and len(done.stdout) > 100_000


@COMMANDS
def test_the_host_of_a_context_and_of_the_environment(clean_sshd: Sshd, engine: Kistd, command: list[str]) -> None:
    clean_sshd.far_end("kist")
    url, name = clean_sshd.url(engine), f"far-{len(command)}"
    environment = clean_sshd.environment()
    subprocess.run([*command, "context", "create", name, "--docker", f"host={url}"], env=environment, check=True)
    other = ["docker"] if command == KIST else KIST
    for words, more in ((["-c", name], {}), ([], {"DOCKER_HOST": url}), ([], {"DOCKER_CONTEXT": name})):
        line = [*other, *words, "version", "--format", "{{.Server.Os}}"]
        done = subprocess.run(line, env={**environment, **more}, capture_output=True, check=False)
        assert done.stdout == b"linux\n", done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_no_ssh_behind(clean_sshd: Sshd, engine: Kistd, number: signal.Signals) -> None:
    clean_sshd.far_end("kist")
    name = engine.ok("run", "-d", "busybox", "sleep", "100").strip()
    process = subprocess.Popen([*KIST, "-H", clean_sshd.url(engine), "logs", "-f", name], env=clean_sshd.environment())
    deadline = time.monotonic() + 10
    while not any("dial-stdio" in line for line in processes(clean_sshd)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    assert process.wait(10) == 128 + number


@COMMANDS
def test_failures_are_told(clean_sshd: Sshd, engine: Kistd, command: list[str]) -> None:
    clean_sshd.far_end("kist")
    done = run(clean_sshd, command, f"ssh://root@127.0.0.1:{clean_sshd.port}/nosuch/s", "ps")
    assert (done.returncode, b"daemon" in done.stderr) == (1, True), done.stderr
    done = run(clean_sshd, command, f"ssh://root@127.0.0.1:{clean_sshd.port + 1}", "ps")
    text = done.stderr.decode()
    assert done.returncode == 1
    assert text.startswith("error during connect: ") and "has exited with exit status 255" in text
    assert "Connection refused" in text


def test_a_machine_without_ssh(sshd: Sshd) -> None:
    done = run(sshd, KIST, "ssh://root@127.0.0.1", "ps", PATH="/nosuch")
    assert (done.returncode, b'exec: "ssh": ' in done.stderr) == (1, True), done.stderr


def test_a_path_with_the_signs_of_a_shell_is_only_a_path(clean_sshd: Sshd, engine: Kistd, tmp_path: Path) -> None:
    clean_sshd.far_end("kist")
    odd = tmp_path / "a'b;touch hit $(touch hit)"
    odd.mkdir()
    (odd / "s").symlink_to(engine.socket)
    url = f"ssh://root@127.0.0.1:{clean_sshd.port}{odd}/s"
    assert len(str(odd)) < 100
    done = run(clean_sshd, KIST, url, "version", "--format", "{{.Server.Os}}")
    assert done.stdout == b"linux\n", done.stderr
    assert not Path("/root/hit").exists()


def test_dial_stdio_half_closes_both_ways(engine: Kistd) -> None:
    """The request is all that is sent; the answer comes after the end of it, and then the command ends."""
    line = [*KIST, "-H", engine.host, "system", "dial-stdio"]
    request = b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    done = subprocess.run(line, input=request, capture_output=True, timeout=10, check=False)
    assert done.returncode == 0 and done.stdout.startswith(b"HTTP/1.1 200 OK\r\n"), done.stderr
    # Nobody reads any more, and the daemon says nothing: it ends all the same.
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"HTTP/1.1 200 OK\r\n"
    process.stdout.close()
    assert process.wait(10) == 0
    process.stdin.close()


def test_signals_close_together_all_reach_the_container(engine: Kistd) -> None:
    """Here a lock once waited for itself."""
    script = (
        "n=0; trap 'n=$((n+1))' USR1 USR2; trap 'echo $n; echo end; exit 4' TERM; echo up; while :; do sleep 0.05; done"
    )
    process = subprocess.Popen([*KIST, "-H", engine.host, "run", "--rm", "busybox", "sh", "-c", script],
                               stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    for _ in range(40):
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGUSR2)
        time.sleep(0.002)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 4 and out.endswith(b"end\n") and int(out.split()[0]) > 1
