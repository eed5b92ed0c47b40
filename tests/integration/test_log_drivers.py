"""Log drivers with servers that take their protocols to the letter, real daemons where there are any."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests import log_servers as servers
from tests.conftest import SLOWNESS, Kistd

S = TypeVar("S", bound=Any)
Keep = Callable[[S], S]


@pytest.fixture
def serve() -> Iterator[Callable[[Any], Any]]:
    """Servers that are closed with the test."""
    opened: list[Any] = []

    def keep(server: Any) -> Any:
        opened.append(server)
        return server

    yield keep
    for server in opened:
        if server.listener.fileno() >= 0 if isinstance(server, servers.Stream) else True:
            server.close()
        assert not server.problems, server.problems


def options(driver: str, **given: str) -> list[str]:
    found = ["--log-driver", driver]
    for key, value in given.items():
        found += ["--log-opt", f"{key.replace('_', '-')}={value}"]
    return found


SCRIPT = "echo out; echo err >&2; echo; printf 'no newline'"
OUTPUT = {b"out", b"err", b"no newline"}


def run(engine: Kistd, *arguments: str, script: str = SCRIPT) -> str:
    """A container's id, after it has ended."""
    name = engine.ok("run", "-d", *arguments, "busybox", "sh", "-c", script).strip()
    engine.ok("wait", name)
    return name


# --- syslog ---


@pytest.mark.parametrize("kind", ["udp", "tcp", "unix", "unixgram"])
@pytest.mark.parametrize("form", ["", "rfc3164", "rfc5424", "rfc5424micro"])
def test_syslog(engine: Kistd, serve: Keep[Any], tmp_path: Path, kind: str, form: str) -> None:
    parse = servers.rfc5424 if form.startswith("rfc5424") else servers.rfc3164
    path = str(tmp_path / "s")
    address: Any = path if kind.startswith("unix") else ("127.0.0.1", 0)
    server: Any
    if kind in ("udp", "unixgram"):
        server = serve(servers.Datagrams(parse, address))
    else:
        server = serve(servers.Stream(servers.lines(parse), address))
    url = f"{kind}://{path}" if kind.startswith("unix") else f"{kind}://127.0.0.1:{server.port}"
    name = run(engine, *options("syslog", syslog_address=url, syslog_format=form, syslog_facility="local3"))
    got = server.wait(3)
    assert {one["text"] for one in got} == OUTPUT
    assert {(one["text"], one["severity"]) for one in got} >= {(b"out", 6), (b"err", 3)}
    assert {(one["facility"], one["tag"]) for one in got} == {(19, name[:12])}
    assert all(("." in one["time"]) == (form == "rfc5424micro") for one in got)
    assert engine.docker("logs", name).out == b"out\n\nno newline"


@pytest.mark.parametrize("form", ["rfc3164", "rfc5424"])
def test_syslog_over_tls(engine: Kistd, serve: Keep[Any], tmp_path: Path, form: str) -> None:
    authority, context = certificates(tmp_path)
    parse = servers.counted(servers.rfc5424) if form == "rfc5424" else servers.lines(servers.rfc3164)
    server = serve(servers.Stream(parse, context=context))
    url = f"tcp+tls://127.0.0.1:{server.port}"
    refused = engine.docker("run", "--rm", *options("syslog", syslog_address=url), "busybox", "true")
    assert refused.status == 125
    assert "failed to initialize logging driver: tls: failed to verify certificate: x509:" in refused.errors
    run(
        engine,
        *options("syslog", syslog_address=url, syslog_tls_ca_cert=authority, syslog_format=form, tag="a/{{.Name}}"),
    )
    assert {one["text"] for one in server.wait(3)} == OUTPUT
    run(engine, *options("syslog", syslog_address=url, syslog_tls_skip_verify="true", syslog_format=form))
    server.wait(6)


def certificates(directory: Path) -> tuple[str, Any]:
    """(path of the authority's certificate, a server's context)."""
    import ssl

    key, certificate = directory / "key.pem", directory / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return str(certificate), context


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.skipif(not os.path.exists("/usr/sbin/rsyslogd"), reason="needs rsyslogd (package rsyslog)")
def test_a_real_syslog_daemon(engine: Kistd, tmp_path: Path) -> None:
    config = tmp_path / "rsyslog.conf"
    config.write_text(
        f'module(load="imtcp")\ninput(type="imtcp" address="127.0.0.1" port="5514")\n'
        f'template(name="t" type="string" string="%syslogfacility-text%.%syslogseverity-text% %app-name% %msg%\\n")\n'
        f'*.* action(type="omfile" file="{tmp_path}/out" template="t")\n'
    )
    daemon = subprocess.Popen(["rsyslogd", "-n", "-f", str(config), "-i", str(tmp_path / "pid")])
    try:
        wait_for_port(5514)
        deadline = time.monotonic() + 15
        run(engine, *options("syslog", syslog_address="tcp://127.0.0.1:5514", syslog_format="rfc5424", tag="real"))
        out = tmp_path / "out"
        while time.monotonic() < deadline and (not out.exists() or out.read_text().count(" real ") < 3):
            time.sleep(0.05)
        found = {line for line in (tmp_path / "out").read_text().splitlines() if " real " in line}
        assert found == {"daemon.info real out", "daemon.err real err", "daemon.info real no newline"}
    finally:
        daemon.terminate()
        daemon.wait()


# --- journald ---


@pytest.fixture
def journal_socket() -> Iterator[str]:
    path = "/run/systemd/journal/socket"
    if os.path.exists(path):
        pytest.skip("a journal daemon runs here")
    made = not os.path.isdir("/run/systemd")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    yield path
    os.unlink(path)
    os.removedirs(os.path.dirname(path)) if made else os.rmdir(os.path.dirname(path))


def test_journald(engine: Kistd, serve: Keep[Any], journal_socket: str) -> None:
    server = serve(servers.Datagrams(servers.journal, journal_socket))
    given = options("journald", tag="{{.Name}}!", labels="a.b")
    script = f"{SCRIPT}; head -c 1000000 /dev/zero | tr '\\0' x"
    name = run(engine, "--name", "jd", "--label", "a.b=c", *given, script=script)
    got = server.wait(5)
    while sum(len(one["MESSAGE"]) for one in got) < 1_000_016:
        got = server.wait(len(got) + 1)
    first = next(one for one in got if one["MESSAGE"] == b"out")
    assert first["PRIORITY"] == b"6"
    assert first["CONTAINER_ID"] == name[:12].encode() and first["CONTAINER_ID_FULL"] == name.encode()
    assert (first["CONTAINER_NAME"], first["CONTAINER_TAG"], first["SYSLOG_IDENTIFIER"]) == (b"jd", b"jd!", b"jd!")
    assert (first["IMAGE_NAME"], first["A_B"]) == (b"busybox", b"c")
    assert next(one for one in got if one["MESSAGE"] == b"err")["PRIORITY"] == b"3"
    pieces = [one for one in got if "CONTAINER_PARTIAL_MESSAGE" in one]
    assert {one["CONTAINER_PARTIAL_ID"] for one in pieces} == {pieces[0]["CONTAINER_PARTIAL_ID"]}
    assert [int(one["CONTAINER_PARTIAL_ORDINAL"]) for one in pieces] == list(range(1, len(pieces) + 1))


def test_journald_that_is_not_there(engine: Kistd) -> None:
    if os.path.exists("/run/systemd/journal/socket"):
        pytest.skip("a journal daemon runs here")
    result = engine.docker("run", "--rm", *options("journald"), "busybox", "true")
    assert result.status == 125
    assert "failed to initialize logging driver: journald is not enabled on this host" in result.errors


# --- fluentd ---


def test_fluentd(engine: Kistd, serve: Keep[Any]) -> None:
    server = serve(servers.Stream(servers.forward))
    given = options(
        "fluentd", fluentd_address=f"127.0.0.1:{server.port}", tag="docker.{{.ImageName}}", labels_regex="^a", env="E"
    )
    began = int(time.time())
    name = run(engine, "--name", "fl", "--label", "ab=c", "--label", "b=d", "-e", "E=1", *given)
    got = server.wait(4)
    assert {one["tag"] for one in got} == {"docker.busybox"}
    assert all(began <= one["time"] <= time.time() and one["chunk"] is None for one in got)
    record = next(one["record"] for one in got if one["record"]["log"] == "err")
    assert record == {
        "container_id": name, "container_name": "/fl", "source": "stderr", "log": "err", "ab": "c", "E": "1",
    }  # fmt: skip
    last = next(one["record"] for one in got if one["record"]["log"] == "no newline")
    assert (last["partial_message"], last["partial_ordinal"], last["partial_last"]) == ("true", "1", "false")


def test_fluentd_acknowledged_with_nanoseconds_over_a_unix_socket(
    engine: Kistd, serve: Keep[Any], tmp_path: Path
) -> None:
    server = serve(servers.Stream(servers.forward, str(tmp_path / "f")))
    given = options(
        "fluentd", fluentd_address=f"unix://{tmp_path}/f", fluentd_request_ack="1", fluentd_sub_second_precision="t"
    )
    run(engine, *given, script="seq 1 3000")
    got = server.wait(3000)
    assert [one["record"]["log"] for one in got] == [str(number) for number in range(1, 3001)]
    assert len({one["chunk"] for one in got}) == 3000
    assert all(one["time"][0] == "EventTime" and one["time"][2] < 10**9 for one in got)


def test_fluentd_that_is_not_there(engine: Kistd) -> None:
    result = engine.docker("run", "--rm", *options("fluentd", fluentd_address="127.0.0.1:1"), "busybox", "true")
    assert result.status == 125
    assert (
        "failed to create task for container: failed to initialize logging driver: dial tcp 127.0.0.1:1: connect: "
        "connection refused" in result.errors
    )


def test_fluentd_that_comes_later(engine: Kistd, serve: Keep[Any]) -> None:
    server = serve(servers.Stream(servers.forward))
    server.close()
    address = f"127.0.0.1:{server.port}"
    given = options("fluentd", fluentd_address=address, fluentd_async="true", fluentd_retry_wait="100ms")
    run(engine, *given, script="seq 1 100")
    server = serve(servers.Stream(servers.forward, ("127.0.0.1", server.port)))
    assert [one["record"]["log"] for one in server.wait(100)] == [str(number) for number in range(1, 101)]


# --- gelf ---


@pytest.mark.parametrize("compression", ["gzip", "zlib", "none"])
def test_gelf_over_udp(engine: Kistd, serve: Keep[Any], compression: str) -> None:
    server = serve(servers.Datagrams(servers.Chunks()))
    given = options("gelf", gelf_address=f"udp://127.0.0.1:{server.port}", gelf_compression_type=compression, env="E")
    script = f"{SCRIPT}; echo; head -c 9000 /dev/urandom | od -An -tx1 -w9000"
    name = run(engine, "-e", "E=x", *given, script=script)
    got = server.wait(5)
    message = next(one for one in got if one["short_message"] == "err")
    assert message["level"] == 3 and message["_container_id"] == name and message["_E"] == "x"
    assert message["_command"].startswith("sh -c ") and message["_image_name"] == "busybox"
    assert abs(message["timestamp"] - time.time()) < 60
    assert max(len(one["short_message"]) for one in got) > 10_000


def test_gelf_over_tcp(engine: Kistd, serve: Keep[Any]) -> None:
    server = serve(servers.Stream(servers.zeros))
    run(engine, *options("gelf", gelf_address=f"tcp://127.0.0.1:{server.port}"))
    assert {one["short_message"] for one in server.wait(3)} == {"out", "err", "no newline"}


# --- splunk ---


@pytest.mark.parametrize("form", ["inline", "json", "raw"])
def test_splunk(engine: Kistd, serve: Keep[Any], form: str) -> None:
    server = serve(servers.Collector("secret"))
    given = options(
        "splunk",
        splunk_url=f"http://127.0.0.1:{server.port}", splunk_token="secret", splunk_format=form, splunk_gzip="true",
        splunk_index="i", splunk_source="s", splunk_index_acknowledgment="true", env="E", tag="t",
    )  # fmt: skip
    run(engine, "-e", "E=x", *given, script="""echo '{"a":1}'; echo plain >&2""")
    got = sorted(server.wait(2), key=lambda one: "plain" in str(one))
    assert all((one["index"], one["source"]) == ("i", "s") and re.fullmatch(r"\d+\.\d{6}", one["time"]) for one in got)
    if form == "raw":
        assert [one["event"] for one in got] == ['t E=x {"a":1}', "t E=x plain"]
    else:
        line: Any = {"a": 1} if form == "json" else '{"a":1}'
        assert [one["event"] for one in got] == [
            {"line": line, "source": "stdout", "tag": "t", "attrs": {"E": "x"}},
            {"line": "plain", "source": "stderr", "tag": "t", "attrs": {"E": "x"}},
        ]
    assert server.requests[0][0] == "OPTIONS"
    assert all(sent.get("X-Splunk-Request-Channel") for method, sent in server.requests if method == "POST")


def test_splunk_that_is_busy(engine: Kistd, serve: Keep[Any]) -> None:
    server = serve(servers.Collector("secret"))
    given = options("splunk", splunk_url=f"http://127.0.0.1:{server.port}", splunk_token="secret")
    server.status = 503
    refused = engine.docker("run", "--rm", *given, "busybox", "true")
    assert "splunk: failed to verify connection - 503 Service Unavailable -" in refused.errors
    server.status = 200
    name = engine.ok(
        "run", "-d", *given, "busybox", "sh", "-c", "until test -e /go; do sleep 0.1; done; seq 1 50"
    ).strip()
    server.status = 503
    engine.ok("exec", name, "touch", "/go")
    engine.ok("wait", name)
    time.sleep(0.5)
    server.status = 200
    assert [one["event"]["line"] for one in server.wait(50)] == [str(number) for number in range(1, 51)]


def test_splunk_that_does_not_want_it(engine: Kistd, serve: Keep[Any]) -> None:
    """What is refused for good is given up, told once, and holds nothing up; too many requests are no refusal."""
    server = serve(servers.Collector("secret"))
    given = options("splunk", splunk_url=f"http://127.0.0.1:{server.port}", splunk_token="secret",
                    splunk_verify_connection="false")  # fmt: skip
    script = "for n in 1 2 3; do until test -e /go$n; do sleep 0.05; done; seq ${n}1 ${n}5; done; sleep 100"
    name = engine.ok("run", "-d", *given, "busybox", "sh", "-c", script).strip()

    def told(text: str) -> list[str]:
        return [line for line in engine.log().splitlines() if name in line and text in line]

    def until_told(text: str) -> None:
        deadline = time.monotonic() + 15
        while not told(text):
            assert time.monotonic() < deadline, engine.log()
            time.sleep(0.05)

    server.status = 400
    engine.ok("exec", name, "touch", "/go1")
    until_told("400")
    server.status = 429
    engine.ok("exec", name, "touch", "/go2")
    until_told("429")
    server.status = 200
    engine.ok("exec", name, "touch", "/go3")
    assert [one["event"]["line"] for one in server.wait(10)] == [f"{n}{m}" for n in (2, 3) for m in range(1, 6)]
    until_told("5 lines were refused and given up")
    assert len(told("lines are given up that the server refuses")) == 1


# --- servers and processes that go away ---


def numbers(server: Any, count: int, seconds: float = 30) -> list[int]:
    return [int(one["record"]["log"]) for one in server.wait(count, seconds)]


def test_a_server_that_goes_away_loses_nothing_that_it_acknowledged_not(engine: Kistd, serve: Keep[Any]) -> None:
    server = serve(servers.Stream(servers.forward))
    given = options("fluentd", fluentd_address=f"127.0.0.1:{server.port}", fluentd_request_ack="true")
    engine.ok(
        "run",
        "-d",
        *given,
        "busybox",
        "sh",
        "-c",
        "i=0; while test $i -lt 600; do echo $i; i=$((i+1)); usleep 2000; done",
    )
    first = numbers(server, 100)
    server.close()
    time.sleep(0.5)
    again = serve(servers.Stream(servers.forward, ("127.0.0.1", server.port)))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (not again.got or again.got[-1]["record"]["log"] != "599"):
        time.sleep(0.05)
    assert sorted(set(numbers(server, 0) + numbers(again, 0))) == list(range(600))
    assert first == sorted(set(first))


def shipper_pid(engine: Kistd) -> int:
    return int(Path(f"{engine.base}/e/shipper.lock").read_text())


def test_kistd_and_shipper_killed(own_engine: Kistd, serve: Keep[Any]) -> None:
    engine = own_engine
    server = serve(servers.Stream(servers.forward))
    given = options("fluentd", fluentd_address=f"127.0.0.1:{server.port}", fluentd_request_ack="true")
    script = "i=0; while test $i -lt 1500; do echo $i; i=$((i+1)); usleep 1000; done"
    engine.ok("run", "-d", "--rm", *given, "busybox", "sh", "-c", script)
    server.wait(100)
    os.kill(shipper_pid(engine), 9)  # kistd starts another
    server.wait(400)
    engine.kill()  # the shipper goes on
    server.wait(700)
    os.kill(shipper_pid(engine), 9)  # and now there is none
    count = len(server.got)
    time.sleep(0.3)
    assert len(server.got) < count + 200
    engine.start()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.got[-1]["record"]["log"] != "1499":
        time.sleep(0.05)
    got = numbers(server, 1500)
    assert sorted(set(got)) == list(range(1500))
    assert len(got) < 1500 + 3 * 1000  # once more a crash, at most
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and os.listdir(f"{engine.base}/d/shipping"):
        time.sleep(0.05)
    assert not os.listdir(f"{engine.base}/d/shipping")


def test_what_a_removed_container_wrote_last_is_sent(engine: Kistd, serve: Keep[Any]) -> None:
    server = serve(servers.Stream(servers.forward))
    engine.ok(
        "run", "--rm", *options("fluentd", fluentd_address=f"127.0.0.1:{server.port}"), "busybox", "seq", "1", "20000"
    )
    assert numbers(server, 20_000) == list(range(1, 20_001))


TALK = (
    "i=0; while test $i -lt 40; do head -c 1000000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); echo $i > /at; done; "
    "echo end > /at"
)


def progress(engine: Kistd, name: str) -> str:
    return engine.docker("exec", name, "cat", "/at").text.strip()


def settled(engine: Kistd, name: str) -> str:
    """How far it is, when it does not go on."""
    before = "none"
    while (now := progress(engine, name)) != before:
        before = now
        time.sleep(SLOWNESS)
    return now


def test_blocking_and_non_blocking(engine: Kistd, serve: Keep[Any]) -> None:
    """A server that takes nothing: blocking, the container waits with a bounded lag; non-blocking, it goes on."""
    import threading

    gate = threading.Event()

    def slow(file: Any) -> Any:
        gate.wait()
        return servers.forward(file)

    server = serve(servers.Stream(slow))
    given = {"fluentd_address": f"127.0.0.1:{server.port}", "tag": "x"}
    blocked = engine.ok("run", "-d", *options("fluentd", **given), "busybox", "sh", "-c", f"{TALK}; sleep 60").strip()
    free = engine.ok(
        "run", "-d", *options("fluentd", mode="non-blocking", **given), "busybox", "sh", "-c", f"{TALK}; sleep 60"
    ).strip()
    assert settled(engine, free) == "end"
    at = settled(engine, blocked)
    assert at.isdigit() and int(at) < 12
    engine.ok("rm", "-f", free)
    gate.set()
    deadline = time.monotonic() + 40 * SLOWNESS
    while time.monotonic() < deadline and progress(engine, blocked) != "end":
        time.sleep(0.2)
    assert progress(engine, blocked) == "end"
    engine.ok("rm", "-f", blocked)
    deadline = time.monotonic() + 40 * SLOWNESS
    while time.monotonic() < deadline and os.listdir(f"{engine.base}/d/shipping"):
        time.sleep(0.1)


# --- local, cache, options ---


def test_local_and_cache_options(engine: Kistd, serve: Keep[Any]) -> None:
    name = run(
        engine, *options("local", max_size="20k", max_file="3"), script="for i in $(seq 1 2000); do echo $i; done"
    )
    lines = engine.ok("logs", name).split()
    assert lines == [str(number) for number in range(2001 - len(lines), 2001)] and len(lines) < 1000
    assert engine.request("GET", f"/containers/{name}/json")[1]["LogPath"] == ""
    server = serve(servers.Stream(servers.lines(servers.rfc3164)))
    url = f"tcp://127.0.0.1:{server.port}"
    name = run(engine, *options("syslog", syslog_address=url, cache_disabled="true"))
    result = engine.docker("logs", name)
    assert result.errors.strip() == "Error response from daemon: configured logging driver does not support reading"
    server.wait(3)


REFUSED = [
    ("syslog", {"syslog_address": "gopher://x"}, "unsupported scheme: 'gopher'"),
    ("syslog", {"syslog_facility": "x"}, "invalid syslog facility"),
    ("syslog", {"syslog_format": "x"}, "Invalid syslog format"),
    ("syslog", {"x": "1"}, "unknown log opt 'x' for syslog log driver"),
    ("journald", {"x": "1"}, "unknown log opt 'x' for journald log driver"),
    ("fluentd", {"x": "1"}, "unknown log opt 'x' for fluentd log driver"),
    ("fluentd", {"fluentd_address": "x://y"}, "invalid fluentd-address (x://y): unsupported scheme: 'x'"),
    ("fluentd", {"fluentd_async": "x"}, 'strconv.ParseBool: parsing "x": invalid syntax'),
    ("fluentd", {"fluentd_buffer_limit": "x"}, "invalid size: 'x'"),
    ("gelf", {}, "gelf-address is a required parameter"),
    ("gelf", {"gelf_address": "http://x"}, "gelf: endpoint needs to be TCP or UDP"),
    ("gelf", {"gelf_address": "udp://x"}, "gelf: please provide gelf-address as proto://host:port"),
    ("gelf", {"gelf_address": "tcp://x:1", "gelf_compression_type": "none"}, "compression is only supported on UDP"),
    ("gelf", {"gelf_address": "udp://x:1", "x": "1"}, 'unknown log opt "x" for gelf log driver'),
    ("splunk", {"splunk_token": "x"}, "splunk: splunk-url is expected"),
    ("splunk", {"splunk_url": "http://x:1"}, "splunk: splunk-token is expected"),
    ("splunk", {"splunk_url": "x:1"}, "splunk: expected format scheme://dns_name_or_ip:port for splunk-url"),
    ("splunk", {"x": "1"}, "unknown log opt 'x' for splunk log driver"),
    ("local", {"x": "1"}, "unknown log opt 'x' for log driver local"),
    ("local", {"tag": "1"}, "unknown log opt 'tag' for log driver local"),
    ("local", {"max_file": "1"}, "compression cannot be enabled when max file count is 1"),
    ("json-file", {"compress": "true"}, "compress cannot be true when max-file is less than 2 or max-size is not set"),
    ("json-file", {"cache_disabled": "x"}, "invalid value for option cache-disabled: x"),
    ("syslog", {"mode": "x"}, "logger: logging mode not supported: x"),
    ("nosuch", {}, 'error looking up logging plugin nosuch: plugin "nosuch" not found'),
]


@pytest.mark.parametrize(("driver", "given", "text"), REFUSED)
def test_options_are_refused_in_dockers_words(engine: Kistd, driver: str, given: dict[str, str], text: str) -> None:
    config = {"Type": driver, "Config": {key.replace("_", "-"): value for key, value in given.items()}}
    body = {"Image": "busybox", "HostConfig": {"LogConfig": config}}
    status, answer = engine.request("POST", "/containers/create", body)
    assert (status, answer["message"]) == (400, text)


def test_info_lists_the_drivers(engine: Kistd) -> None:
    known = {"fluentd", "gelf", "journald", "json-file", "local", "none", "splunk", "syslog"}
    assert known <= set(engine.request("GET", "/info")[1]["Plugins"]["Log"])


def test_a_log_without_options_has_an_end(engine: Kistd) -> None:
    """Files of 20 MB, compressed, and inspect shows as much as Docker's; `-1` is Docker's log without end."""
    name = run(engine, script="seq 1 700000")
    directory = f"{engine.base}/d/containers/{name}"
    deadline = time.monotonic() + 20
    wanted = {f"{name}-json.log{suffix}" for suffix in ("", ".1.gz", ".2.gz")}
    while time.monotonic() < deadline and {one for one in os.listdir(directory) if "json" in one} != wanted:
        time.sleep(0.1)
    assert {one for one in os.listdir(directory) if "json" in one} == wanted
    assert engine.request("GET", f"/containers/{name}/json")[1]["HostConfig"]["LogConfig"]["Config"] == {}
    assert engine.ok("logs", name).split() == [str(number) for number in range(1, 700_001)]
    assert engine.ok("logs", "--tail", "500000", name).split()[0] == "200001"
    name = run(engine, *options("json-file", max_size="-1"), script="seq 1 400000")
    assert os.path.getsize(f"{engine.base}/d/containers/{name}/{name}-json.log") > 25_000_000
