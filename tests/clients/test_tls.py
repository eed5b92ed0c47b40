"""TLS with client certificates: kist and docker against a kistd that listens on a unix socket and two TCP ports."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.conftest import Kistd, _end_engine, _make_engine

KIST = [sys.executable, "-m", "kist.cli.main"]
COMMANDS = pytest.mark.parametrize("command", [KIST, ["docker"]], ids=["kist", "docker"])


class Encrypted(NamedTuple):
    engine: Kistd
    hosts: tuple[str, str]
    good: Path
    bad: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_certificates(directory: Path, server: bool) -> None:
    """ca.pem, cert.pem and key.pem of a client; server-cert.pem and server-key.pem for 127.0.0.1."""
    directory.mkdir()
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]

    def openssl(*words: str) -> None:
        subprocess.run([*new, *words], check=True, capture_output=True, cwd=directory)

    openssl("-x509", "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=authority")
    signed = ["-x509", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-addext", "basicConstraints=critical,CA:FALSE"]
    openssl(*signed, "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=client",
            "-addext", "extendedKeyUsage=clientAuth")  # fmt: skip
    if server:
        openssl(*signed, "-keyout", "server-key.pem", "-out", "server-cert.pem", "-subj", "/CN=server",
                "-addext", "extendedKeyUsage=serverAuth", "-addext", "subjectAltName=IP:127.0.0.1")  # fmt: skip


@pytest.fixture(scope="module")
def encrypted(busybox_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    base = tmp_path_factory.mktemp("tls")
    make_certificates(base / "good", True)
    make_certificates(base / "bad", False)
    shutil.copy(base / "good/ca.pem", base / "bad/ca.pem")  # it trusts the server, not the other way round
    hosts = (f"tcp://127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{free_port()}")
    flags = [word for host in hosts for word in ("-H", host)]
    flags += ["--tlsverify", "--tlscacert", f"{base}/good/ca.pem"]
    flags += ["--tlscert", f"{base}/good/server-cert.pem", "--tlskey", f"{base}/good/server-key.pem"]
    engine = _make_engine(busybox_archive, *flags)
    yield Encrypted(engine, hosts, base / "good", base / "bad")
    _end_engine(engine)


def arguments(encrypted: Encrypted, command: list[str], *words: str) -> list[str]:
    options = ["-H", encrypted.hosts[0], "--tlsverify"]
    for option, name in (("--tlscacert", "ca"), ("--tlscert", "cert"), ("--tlskey", "key")):
        options += [option, f"{encrypted.good}/{name}.pem"]
    return [*command, *options, *words]


def run(line: list[str], stdin: bytes = b"", /, **environment: str) -> subprocess.CompletedProcess[bytes]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "KIST_"))}
    return subprocess.run(line, input=stdin, capture_output=True, timeout=40, check=False,
                          env={**clean, "DOCKER_CONFIG": "/nosuch", **environment})  # fmt: skip


@COMMANDS
def test_run_with_its_output_errors_and_exit_code(encrypted: Encrypted, command: list[str]) -> None:
    done = run(arguments(encrypted, command, "run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 5"))
    assert (done.returncode, done.stdout, done.stderr) == (5, b"out\n", b"err\n")


@COMMANDS
@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_input_that_ends_before_the_output_does(encrypted: Encrypted, command: list[str], size: int) -> None:
    data = os.urandom(size)
    script = "cat >/tmp/f; sleep 0.3; cat /tmp/f; echo end"
    done = run(arguments(encrypted, command, "run", "--rm", "-i", "busybox", "sh", "-c", script), data)
    assert done.returncode == 0, done.stderr
    assert done.stdout == data + b"end\n"


@COMMANDS
def test_input_and_output_at_the_same_time(encrypted: Encrypted, command: list[str]) -> None:
    data = os.urandom(2_000_000)
    done = run(arguments(encrypted, command, "run", "--rm", "-i", "busybox", "cat"), data)
    assert (done.returncode, done.stdout == data) == (0, True), done.stderr


@COMMANDS
def test_exec_with_input(encrypted: Encrypted, command: list[str]) -> None:
    name = encrypted.engine.ok("run", "-d", "busybox", "sleep", "100").strip()
    done = run(arguments(encrypted, command, "exec", "-i", name, "sh", "-c", "sed s/a/b/; exit 3"), b"aaa\n")
    assert (done.returncode, done.stdout) == (3, b"baa\n"), done.stderr
    encrypted.engine.ok("rm", "-f", name)


@COMMANDS
def test_attach_and_follow_logs_until_the_container_ends(encrypted: Encrypted, command: list[str]) -> None:
    script = "read x; echo got $x; sleep 0.3; echo bye; exit 7"
    name = encrypted.engine.ok("run", "-di", "busybox", "sh", "-c", script).strip()
    with subprocess.Popen(arguments(encrypted, command, "logs", "-f", name), stdout=subprocess.PIPE) as following:
        attached = run(arguments(encrypted, command, "attach", name), b"word\n")
        told = following.communicate(timeout=20)[0]
    assert (attached.returncode, attached.stdout) == (7, b"got word\nbye\n"), attached.stderr
    assert (following.returncode, told) == (0, b"got word\nbye\n")
    encrypted.engine.ok("rm", "-f", name)


@COMMANDS
def test_the_other_sockets_serve_too(encrypted: Encrypted, command: list[str]) -> None:
    line = arguments(encrypted, command, "version", "--format", "{{.Server.Os}}")
    assert run([encrypted.hosts[1] if word == encrypted.hosts[0] else word for word in line]).stdout == b"linux\n"
    done = run([*command, "-H", encrypted.engine.host, "version", "--format", "{{.Server.Os}}"])
    assert done.stdout == b"linux\n"


@COMMANDS
def test_docker_s_variables(encrypted: Encrypted, command: list[str]) -> None:
    environment = {"DOCKER_HOST": encrypted.hosts[0], "DOCKER_CERT_PATH": str(encrypted.good)}
    done = run([*command, "ps"], DOCKER_TLS_VERIFY="1", **environment)
    assert done.returncode == 0, done.stderr
    done = run([*command, "ps"], **environment)
    assert (done.returncode, b"Client sent an HTTP request to an HTTPS server" in done.stderr) == (1, True)


@COMMANDS
def test_a_context_with_its_own_certificates(encrypted: Encrypted, command: list[str], tmp_path: Path) -> None:
    pem = ",".join(f"{name}={encrypted.good}/{name}.pem" for name in ("ca", "cert", "key"))
    made = [*command, "context", "create", "far", "--docker", f"host={encrypted.hosts[0]},{pem}"]
    assert run(made, DOCKER_CONFIG=str(tmp_path)).returncode == 0
    for other in (KIST, ["docker"]):
        done = run([*other, "-c", "far", "run", "--rm", "-i", "busybox", "cat"], b"x\n", DOCKER_CONFIG=str(tmp_path))
        assert (done.returncode, done.stdout) == (0, b"x\n"), done.stderr


@COMMANDS
def test_a_client_of_another_authority_is_refused(encrypted: Encrypted, command: list[str]) -> None:
    before = encrypted.engine.request("GET", "/containers/json?all=1")[1]
    for directory in (encrypted.bad, None):
        line = arguments(encrypted, command, "run", "-d", "busybox", "true")
        wanted = {f"{encrypted.good}/{name}.pem": f"{encrypted.bad}/{name}.pem" for name in ("cert", "key")}
        if directory is None:  # no certificate at all
            at = line.index("--tlscert")
            line = line[:at] + line[at + 4 :]
        done = run([wanted.get(word, word) for word in line])
        assert done.returncode == 125 and b"tls" in done.stderr.lower(), done.stderr
    assert encrypted.engine.request("GET", "/containers/json?all=1")[1] == before


@COMMANDS
def test_a_server_of_another_authority_or_name_is_refused(encrypted: Encrypted, command: list[str]) -> None:
    line = arguments(encrypted, command, "ps")
    alien = [f"{encrypted.bad}/cert.pem" if word.endswith("ca.pem") else word for word in line]
    named = [word.replace("127.0.0.1", "localhost") for word in line]
    for one in (alien, named):
        done = run(one)
        assert done.returncode == 1 and b"failed to verify certificate: x509" in done.stderr, done.stderr
    unverified = ["--tls" if word == "--tlsverify" else word for word in named]
    assert run(unverified).returncode == 0


def test_nothing_is_left_of_encrypted_streams(encrypted: Encrypted) -> None:
    """Clients that vanish in the middle, and one that never says anything, cost no descriptor for good."""
    assert encrypted.engine.process is not None
    directory = f"/proc/{encrypted.engine.process.pid}/fd"
    before = len(os.listdir(directory))
    port = int(encrypted.hosts[0].rpartition(":")[2])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
    line = arguments(encrypted, KIST, "run", "--rm", "-i", "busybox", "cat")
    vanishing = [subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(2)]
    time.sleep(1)
    for process in vanishing:
        process.kill()
        process.communicate()
    for connection in silent:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"400 Bad Request" in connection.recv(1000)
        connection.close()
    encrypted.engine.remove_all()
    deadline = time.monotonic() + 5
    while len(os.listdir(directory)) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(os.listdir(directory)) <= before
