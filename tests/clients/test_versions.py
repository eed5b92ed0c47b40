"""Every verb by the stock command in each version of the API, and what the answers' heads say.

docker 28.2 itself speaks 1.50 at most; told to speak 1.51 it does, and takes whatever it is answered.
"""

from __future__ import annotations

import gc
import io
import os
import pty
import re
import select
import shlex
import socket
import subprocess
import tarfile
import time
from pathlib import Path

import docker
import pytest
from tests.conftest import Kistd, Result, UnixConnection

VERSIONS = ("1.24", "1.30", "1.40", "1.41", "1.44", "1.47", "1.51")
LONG = "[0-9a-f]{64}"

# A line: arguments of docker; `=> status`; the lines of its output and of its errors (`!`) as regular expressions.
# `@1.25` before a line: from this version on; before it the command refuses by itself.
VERBS = """
create --name {V}c -l kind={V} -v {V}vol:/v busybox sh -c "echo out; echo err >&2; exit 5"
  LONG
ps -aq -f name={V}c -f status=created --no-trunc
  LONG
start -a {V}c => 5
  out
  ! err
wait {V}c
  5
ps -a -f label=kind={V} -f exited=5 --format "{{.Names}} {{.Image}} {{.State}}"
  {V}c busybox exited
inspect {V}c --format "{{.State.ExitCode}} {{.Config.Labels.kind}} {{(index .Mounts 0).Destination}}"
  5 {V} /v
logs {V}c
  out
  ! err
logs --tail 1 -t {V}c
  ! \\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z err
logs --since 2001-01-01T00:00:00Z {V}c
  out
  ! err
logs --since 2101-01-01T00:00:00Z {V}c
@1.35 logs --until 2001-01-01T00:00:00Z {V}c
logs -f {V}c
  out
  ! err
rm {V}c
  {V}c
run --rm busybox true
run --rm busybox sh -c "exit 5" => 5
run --rm --bogus busybox true => 125
  ! unknown flag: --bogus
  !
  ! Usage:  docker run .*
  !
  ! Run 'docker run --help' for more information
run --rm nosuch true => 125
  ! Unable to find image 'nosuch:latest' locally
  ! docker: Error response from daemon: pull access denied for nosuch, .*
  !
  ! Run 'docker run --help' for more information
run --rm busybox /etc => 126
  ! docker: Error response from daemon: .*"/etc": is a directory.*
  !
  ! Run 'docker run --help' for more information
run --rm busybox nosuch => 127
  ! docker: Error response from daemon: .*executable file not found in \\$PATH.*
  !
  ! Run 'docker run --help' for more information
ps -aq
run -d --name {V}r -p 127.0.0.1::80 busybox sh -c "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"
  LONG
ps --format "{{.Names}} {{.Status}} {{.Ports}}"
  {V}r Up .* 127.0.0.1:\\d+->80/tcp
exec {V}r echo inside
  inside
exec -u daemon {V}r id -un
  daemon
@1.25 exec -e A=b {V}r sh -c "echo $A"
  b
@1.35 exec -w /etc {V}r pwd
  /etc
exec -d {V}r touch /made
exec {V}r sh -c "until test -e /made; do sleep 0.02; done; echo err >&2; exit 7" => 7
  ! err
exec {V}r nosuch => 127
  OCI runtime exec failed: .*executable file not found in \\$PATH.*
top {V}r -o pid,user
  PID +USER
  (\\d+ +root *\\n?)+
port {V}r
  80/tcp -> 127.0.0.1:\\d+
rename {V}r {V}s
kill -s USR2 {V}nosuch => 1
  ! Error response from daemon: cannot kill container: {V}nosuch: No such container: {V}nosuch
restart -t 5 {V}s
  {V}s
stop -t 5 {V}s
  {V}s
wait {V}s
  3
start {V}s
  {V}s
kill -s KILL {V}s
  {V}s
wait {V}s
  137
rm -f -v {V}s
  {V}s
rm nosuch => 1
  ! Error response from daemon: No such container: nosuch
images --format "{{.Repository}}:{{.Tag}} {{.Size}}"
  busybox:latest 1.98MB
image inspect busybox --format "{{.Os}} {{json .RepoTags}} {{.Config.Cmd}}"
  linux \\["busybox:latest"\\] \\[sh\\]
history busybox --format "{{.Size}}"
  1.98MB
tag busybox {V}:t
rmi {V}:t
  Untagged: {V}:t
image inspect {V}:t => 1
  \\[\\]
  ! Error response from daemon: No such image: {V}:t
volume ls -q -f name={V}
  {V}vol
volume create {V}two
  {V}two
volume inspect {V}two --format "{{.Driver}} {{.Scope}}"
  local local
@1.25 volume prune -f --filter label=no
  Total reclaimed space: 0B
volume rm {V}two {V}vol
  {V}two
  {V}vol
network ls --format "{{.Name}}"
  bridge
  host
  none
network inspect bridge --format "{{.Driver}} {{len .Containers}}"
  bridge 0
@1.25 system df --format "{{.Type}} {{.TotalCount}}"
  Images 1
  Containers 0
  Local Volumes \\d+
  Build Cache 0
info --format "{{.OSType}} {{.Driver}} {{.Containers}}"
  linux (overlay|vfs)\\w* 0
version --format "{{.Client.APIVersion}} {{.Server.APIVersion}} {{.Server.MinAPIVersion}}"
  {NUMBER} 1.51 1.24
"""


def parse_verbs() -> list[tuple[str, str, int, list[str], list[str]]]:
    """(first version, arguments, status, output, errors) of each verb."""
    found: list[tuple[str, str, int, list[str], list[str]]] = []
    for line in VERBS.replace("LONG", LONG).strip().splitlines():
        if line.startswith("  !"):
            found[-1][4].append(line[3:].strip(" "))
        elif line.startswith("  "):
            found[-1][3].append(line[2:])
        else:
            since, _, rest = line[1:].partition(" ") if line.startswith("@") else ("1.24", "", line)
            command, _, status = rest.partition(" => ")
            found.append((since, command, int(status or "0"), [], []))
    return found


# Before 1.30 the command waits by listening to events, before 1.25 it removes containers itself. Both it leaves behind
# when it has seen enough, and sometimes says so as it ends, whatever engine it talks to.
CANCELLED = re.compile(
    r'time=.* msg="(error getting events from daemon|error removing container): ?.*context canceled"\n'
)


def number(version: str) -> int:
    return int(version.partition(".")[2])


def speak(engine: Kistd, version: str, *arguments: str, stdin: bytes | None = None) -> Result:
    return engine.docker(*arguments, stdin=stdin, DOCKER_API_VERSION=version)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_verb(engine: Kistd, version: str) -> None:
    name = "v" + version.replace(".", "")
    for since, line, status, output, errors in parse_verbs():
        place = {"{V}": name, "{NUMBER}": version}
        for key, value in place.items():
            line = line.replace(key, value)
            output = [one.replace(key, value) for one in output]
            errors = [one.replace(key, value) for one in errors]
        done = speak(engine, version, *shlex.split(line))
        said = f"{line}: {done.status} {done.text!r} {done.errors!r}"
        if number(since) > number(version):
            assert done.status == 1 and f"requires API version {since}" in done.errors, said
            continue
        assert done.status == status, said
        told = CANCELLED.sub("", done.errors)
        assert re.fullmatch("\n".join(output), done.text.rstrip("\r\n")), f"{said}\nagainst {output}"
        assert re.fullmatch("\n".join(errors), told.rstrip("\n")), f"{said}\nagainst {errors}"


def test_a_killed_process_is_128_and_the_signal(engine: Kistd, version: str) -> None:
    process = subprocess.Popen(
        ["docker", "-H", engine.host, "run", "--rm", "--name", "doomed", "busybox", "sh", "-c", "echo up; sleep 100"],
        env={**os.environ, "DOCKER_API_VERSION": version, "DOCKER_CONFIG": f"{engine.base}/docker-config"},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    assert speak(engine, version, "kill", "-s", "KILL", "doomed").status == 0
    assert process.wait(20) == 128 + 9
    process.stdout.close()
    assert speak(engine, version, "ps", "-aq").text == ""


def test_images_go_out_and_in(engine: Kistd, version: str, tmp_path: Path) -> None:
    path = str(tmp_path / "saved.tar")
    assert speak(engine, version, "save", "-o", path, "busybox").status == 0
    assert speak(engine, version, "load", "-i", path).text == "Loaded image: busybox:latest\n"
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("empty"))
        done = speak(engine, version, "import", "-c", 'CMD ["x"]', "-", "imported:one", stdin=file.getvalue())
    assert re.fullmatch(f"sha256:{LONG}\n", done.text), done.errors
    inspected = speak(engine, version, "image", "inspect", "imported:one", "--format", "{{.Config.Cmd}}")
    assert inspected.text == "[x]\n"
    assert speak(engine, version, "rmi", "imported:one").text.startswith("Untagged: imported:one\nDeleted: sha256:")


def test_events_are_told(engine: Kistd, version: str) -> None:
    start = time.time()
    assert speak(engine, version, "run", "--rm", "--name", "told", "busybox", "true").status == 0
    engine.request("POST", "/kist/quiesce")
    done = speak(
        engine, version, "events", "--since", f"{start:.6f}", "--until", f"{time.time():.6f}", "--filter",
        "container=told", "--format", "{{.Action}}",
    )  # fmt: skip
    assert done.text.split() == ["create", "attach", "start", "die", "destroy"], done.text


class Terminal:
    """The stock command on a pseudo terminal of 33 lines and 77 columns."""

    def __init__(self, engine: Kistd, version: str, *arguments: str) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.environ |= {"TERM": "xterm", "DOCKER_API_VERSION": version}
            os.environ["DOCKER_CONFIG"] = f"{engine.base}/docker-config"
            os.execvp("sh", ["sh", "-c", "stty rows 33 cols 77; exec \"$@\"", "sh", "docker", "-H", engine.host,
                             *arguments])  # fmt: skip
        self.seen = b""

    def until(self, text: bytes) -> None:
        deadline = time.monotonic() + 10
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come, only {self.seen!r}"
            data = os.read(self.master, 65536)
            self.seen += data

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def wait(self) -> int:
        try:
            while os.read(self.master, 65536):
                continue
        except OSError:
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.master)
        return os.waitstatus_to_exitcode(status)


# The size comes with create from 1.42 on, by a resize before: the program waits for it.
SIZED = "until stty size | grep -q '33 77'; do sleep 0.02; done; echo si''zed; read line; echo \"got <$line>\"; exit 4"


def test_terminals(engine: Kistd, version: str) -> None:
    first = Terminal(engine, version, "run", "-it", "--name", "tty", "busybox", "sh", "-c", SIZED)
    first.until(b"sized")
    beside = Terminal(engine, version, "exec", "-it", "tty", "sh", "-c", SIZED)
    beside.until(b"sized")
    beside.type(b"exec\n")
    beside.until(b"got <exec>")
    assert beside.wait() == 4
    first.type(b"\x10\x11")
    assert first.wait() == 0
    again = Terminal(engine, version, "attach", "tty")
    time.sleep(0.1)
    again.type(b"back\n")
    again.until(b"got <back>")
    assert again.wait() == 4
    assert speak(engine, version, "rm", "tty").status == 0


# --- negotiation, and what is not served ---


def test_the_command_negotiates(engine: Kistd) -> None:
    answer = engine.docker("version", "--format", "{{.Client.APIVersion}} {{.Server.APIVersion}}").text.split()
    assert answer[1] == "1.51"
    assert answer[0] in ("1.50", "1.51")


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("1.52", "client version 1.52 is too new. Maximum supported API version is 1.51"),
        ("2.0", "client version 2.0 is too new. Maximum supported API version is 1.51"),
    ],
)
def test_a_newer_client_is_told(engine: Kistd, version: str, text: str) -> None:
    done = speak(engine, version, "ps")
    assert (done.status, done.text, done.errors) == (1, "", f"Error response from daemon: {text}\n")
    assert engine.request("GET", f"/v{version}/containers/json") == (400, {"message": text})


def test_an_older_client_is_told_in_plain_text(engine: Kistd) -> None:
    text = (
        "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer "
        "version"
    )
    status, headers, body = plain(engine, "GET", "/v1.23/containers/json")
    assert (status, body) == (400, f"{text}\n".encode())
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    done = speak(engine, "1.23", "ps")
    assert (done.status, done.errors) == (1, f"Error response from daemon: {text}\n")


@pytest.mark.parametrize("path", ["/v1.99/nosuch", "/v1.1/nosuch", "/nosuch", "/v1.41", "/vx/info", "/v1.41/nosuch/x"])
def test_what_is_no_endpoint_is_404_in_any_version(engine: Kistd, path: str) -> None:
    assert engine.request("GET", path) == (404, {"message": "page not found"})


@pytest.mark.parametrize("version", [*VERSIONS, "1.041", "1.41.0", ""])
def test_versions_are_numbers(engine: Kistd, version: str) -> None:
    prefix = f"/v{version}" if version else ""
    assert engine.request("GET", f"{prefix}/containers/json") == (200, [])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("version", ["auto", "1.51", "1.24"])
def test_docker_py_speaks(engine: Kistd, version: str) -> None:
    client = docker.DockerClient(base_url=engine.host, version=version)
    try:
        assert client.api.api_version == ("1.51" if version == "auto" else version)
        assert client.containers.run("busybox", ["sh", "-c", "echo hi"], remove=True) == b"hi\n"
        container = client.containers.run("busybox", ["sleep", "100"], detach=True)
        assert container.exec_run(["echo", "x"]) == (0, b"x\n")
        container.remove(force=True)
    finally:
        client.close()
        gc.collect()


# --- heads ---


def plain(
    engine: Kistd, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers in lower case, body)."""
    connection = UnixConnection(engine.socket)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/version", 200),
        ("GET", "/v1.24/info", 200),
        ("HEAD", "/_ping", 200),
        ("GET", "/v1.51/_ping", 200),
        ("OPTIONS", "/v1.44/containers/json", 200),
        ("GET", "/nosuch", 404),
        ("GET", "/v1.41/containers/nosuch/json", 404),
        ("GET", "/v1.99/info", 400),
        ("GET", "/v1.12/info", 400),
        ("GET", "/images/json?filters=bad", 400),
        ("GET", "/events?since=0&until=1", 200),
        ("GET", "/images/busybox/get", 200),
        ("GET", "/swarm", 503),
        ("POST", "/volumes/prune", 200),
        ("DELETE", "/volumes/nosuch?force=1", 204),
    ],
)
def test_every_answer_tells_the_version(engine: Kistd, method: str, path: str, status: int) -> None:
    found, headers, body = plain(engine, method, path)
    assert found == status
    assert headers["api-version"] == "1.51"
    assert headers["ostype"] == "linux"
    assert headers["docker-experimental"] == "false"
    assert re.fullmatch(r"kist/\S+ \(linux\)", headers["server"])
    if status >= 400 and "1.12" not in path:
        assert headers["content-type"] == "application/json"
        assert re.fullmatch(rb'\{"message":".+"\}\n', body)


def test_ping_by_get_and_head(engine: Kistd) -> None:
    for method, body, length in (("GET", b"OK", "2"), ("HEAD", b"", "0")):
        status, headers, found = plain(engine, method, "/_ping")
        assert (status, found) == (200, body)
        assert headers["content-type"] == "text/plain; charset=utf-8"
        assert headers["content-length"] == length
        assert headers["cache-control"] == "no-cache, no-store, must-revalidate"
        assert headers["pragma"] == "no-cache"
        assert headers["swarm"] == "inactive"
        assert headers["builder-version"] in ("1", "2")


@pytest.fixture
def running(engine: Kistd) -> tuple[Kistd, dict[str, str]]:
    """Containers with and without a terminal that say `hi` when told to."""
    ids = {}
    for kind in ("plain", "tty"):
        _, made = engine.request(
            "POST",
            f"/containers/create?name={kind}",
            {"Image": "busybox", "Cmd": ["sh", "-c", "read x; echo hi"], "OpenStdin": True, "Tty": kind == "tty"},
        )
        engine.request("POST", f"/containers/{kind}/start")
        ids[kind] = made["Id"]
    return engine, ids


def hijack(engine: Kistd, path: str, body: bytes, upgrade: bool) -> tuple[bytes, socket.socket]:
    """(the answer's head, the connection)."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(engine.socket)
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += ["Connection: Upgrade", "Upgrade: tcp"] if upgrade else []
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, head
        head += byte
    return head, connection


@pytest.mark.parametrize("upgrade", [True, False])
@pytest.mark.parametrize("kind", ["plain", "tty"])
def test_hijacked_connections(running: tuple[Kistd, dict[str, str]], kind: str, upgrade: bool) -> None:
    engine, _ = running
    for version in VERSIONS:
        framed = upgrade and kind == "plain" and number(version) >= 42
        media = f"application/vnd.docker.{'multiplexed' if framed else 'raw'}-stream"
        status = "101 UPGRADED" if upgrade else "200 OK"
        rest = "Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else ""
        expected = f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\n{rest}"
        head, connection = hijack(
            engine, f"/v{version}/containers/{kind}/attach?stream=1&stdin=1&stdout=1&stderr=1", b"", upgrade
        )
        connection.close()
        assert head.decode() == f"{expected}\r\n"
        config = {"Cmd": ["echo", "hi"], "AttachStdout": True, "Tty": kind == "tty"}
        _, made = engine.request("POST", f"/v{version}/containers/{kind}/exec", config)
        options = b'{"Tty":true}' if kind == "tty" else b"{}"
        head, connection = hijack(engine, f"/v{version}/exec/{made['Id']}/start", options, upgrade)
        said = b""
        while data := connection.recv(100):
            said += data
        connection.close()
        assert said == (b"hi\r\n" if kind == "tty" else b"\x01\0\0\0\0\0\0\x03hi\n")
        common = "Api-Version: 1.51\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: kist/"
        assert head.decode().startswith(expected + common), head


def test_the_media_type_of_logs(running: tuple[Kistd, dict[str, str]]) -> None:
    engine, _ = running
    for version in VERSIONS:
        for kind in ("plain", "tty"):
            _, headers, _ = plain(engine, "GET", f"/v{version}/containers/{kind}/logs?stdout=1")
            framed = kind == "plain" and number(version) >= 42
            assert headers["content-type"] == f"application/vnd.docker.{'multiplexed' if framed else 'raw'}-stream"


@pytest.mark.parametrize("version", ["1.30", "1.41", "1.51"])
@pytest.mark.parametrize("condition", ["", "not-running", "next-exit", "removed"])
def test_waits_tell_at_once_that_they_wait(engine: Kistd, version: str, condition: str) -> None:
    engine.ok("run", "-d", "--name", "waited", "busybox", "sleep", "100")
    connection = UnixConnection(engine.socket)
    connection.request("POST", f"/v{version}/containers/waited/wait?condition={condition}")
    stream = connection.sock
    answer = connection.getresponse()  # the head is there while the container runs
    assert (answer.status, answer.getheader("Content-Type")) == (200, "application/json")
    assert answer.getheader("Api-Version") == "1.51"
    assert engine.request("POST", "/containers/waited/kill")[0] == 204
    if condition == "removed":
        ready, _, _ = select.select([stream], [], [], 0.1)
        assert not ready
        assert engine.request("DELETE", "/containers/waited")[0] == 204
    assert answer.read() == b'{"StatusCode":137}\n'
    connection.close()


@pytest.mark.parametrize("path", ["/events", "/containers/silent/logs?stdout=1&follow=1"])
def test_streams_start_at_once_and_end_with_their_client(engine: Kistd, path: str) -> None:
    engine.ok("run", "-d", "--name", "silent", "busybox", "sleep", "100")
    connection = UnixConnection(engine.socket)
    connection.request("GET", path)
    assert connection.getresponse().status == 200  # with nothing to tell yet
    connection.close()  # that the engine lets go of its end is what the fixture checks


def test_conditions_of_wait_by_version(engine: Kistd) -> None:
    engine.docker("run", "--name", "over", "busybox", "sh", "-c", "exit 6")
    for condition in ("", "not-running"):
        assert engine.request("POST", f"/containers/over/wait?condition={condition}") == (200, {"StatusCode": 6})
    assert engine.request("POST", "/v1.30/containers/over/wait?condition=bad") == (
        400,
        {"message": 'invalid condition: "bad"'},
    )
    # before 1.30 there were no conditions: this one is not heard, and the container has ended
    for condition in ("bad", "removed", "next-exit"):
        assert engine.request("POST", f"/v1.29/containers/over/wait?condition={condition}") == (200, {"StatusCode": 6})


# --- what differs in what is done ---


@pytest.mark.parametrize(
    ("version", "host", "options"),
    [
        ("1.24", {"Sysctls": {"net.ipv4.conf.eth0.log_martians": "1"}}, None),
        ("1.47", {"Sysctls": {"net.ipv4.conf.eth0.log_martians": "1"}}, None),
        ("1.51", {}, {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"}),
    ],
)
def test_settings_of_an_interface_are_made(
    engine: Kistd, version: str, host: dict[str, object], options: dict[str, str] | None
) -> None:
    body: dict[str, object] = {
        "Image": "busybox",
        "Cmd": ["cat", "/proc/sys/net/ipv4/conf/eth0/log_martians"],
        "HostConfig": host,
        "NetworkingConfig": {"EndpointsConfig": {"bridge": {"DriverOpts": options}}},
    }
    status, answer = engine.request("POST", f"/v{version}/containers/create?name=martians", body)
    assert status == 201, answer
    assert speak(engine, version, "start", "-a", "martians").text == "1\n"


def test_settings_of_an_interface_are_refused_where_they_do_not_belong(engine: Kistd) -> None:
    body = {"Image": "busybox", "HostConfig": {"Sysctls": {"net.ipv4.conf.eth0.log_martians": "1"}}}
    status, answer = engine.request("POST", "/v1.48/containers/create", body)
    assert status == 500
    assert "must be supplied using driver option 'com.docker.network.endpoint.sysctls'" in answer["message"]
    options = {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.eth0.log_martians=1"}
    bad = {"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"bridge": {"DriverOpts": options}}}}
    status, answer = engine.request("POST", "/containers/create", bad)
    assert status == 400
    assert "unrecognised network interface sysctl 'net.ipv4.conf.eth0.log_martians=1'" in answer["message"]


ARM = '{"os":"linux","architecture":"arm","variant":"v7"}'


@pytest.mark.parametrize(
    ("method", "path", "since"),
    [
        ("GET", "/images/busybox/json?platform=", "1.49"),
        ("GET", "/images/busybox/history?platform=", "1.48"),
        ("DELETE", "/images/busybox:gone?platforms=", "1.50"),
    ],
)
def test_images_for_other_machines_are_not_found(engine: Kistd, method: str, path: str, since: str) -> None:
    engine.ok("tag", "busybox", "busybox:gone")
    status, answer = engine.request(method, f"/v{since}{path}{ARM}")
    assert status == 404
    assert "does not match the specified platform (linux/arm/v7)" in answer["message"]
    for bad, text in (
        ("{}", "both OS and Architecture must be provided"),
        ('{"variant":"v7"}', "optional platform fields provided, but OS and Architecture are missing"),
        ("x", "failed to parse platform: "),
    ):
        status, answer = engine.request(method, f"/v{since}{path}{bad}")
        assert (status, answer["message"].startswith(text)) == (400, True), answer
    assert engine.request(method, f"/v1.{number(since) - 1}{path}{ARM}")[0] == 200  # not heard: any image does
    if method != "DELETE":
        assert engine.request("DELETE", "/images/busybox:gone")[0] == 200


def test_only_images_for_the_platform_are_loaded_and_saved(engine: Kistd) -> None:
    status, archive = engine.request("GET", "/images/busybox/get")
    assert status == 200
    for version, loaded in (("1.48", False), ("1.47", True)):
        status, answer = engine.request("POST", f"/v{version}/images/load?quiet=1&platform={ARM}", archive)
        assert (status, b"Loaded" in bytes(str(answer), "utf-8")) == (200, loaded)
    status, answer = engine.request("GET", f"/v1.48/images/busybox/get?platform={ARM}")
    assert (status, answer) == (500, {"message": "no suitable export target found for platform linux/arm/v7"})
    status, answer = engine.request("GET", f"/v1.48/images/busybox/get?platform={ARM}&platform={ARM}")
    assert (status, answer) == (400, {"message": "multiple platform parameters not supported"})


def test_pruning_took_named_volumes_before_1_42(engine: Kistd) -> None:
    for version, kept in (("1.51", ["named"]), ("1.41", [])):
        engine.request("POST", "/volumes/create", {"Name": "named"})
        assert engine.request("POST", f"/v{version}/volumes/prune")[0] == 200
        assert [one["Name"] for one in engine.request("GET", "/volumes")[1]["Volumes"]] == kept
