"""Who the user is to a registry: what the stock docker command and kist tell a daemon, from one config.json."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KIST = [sys.executable, "-m", "kist.cli.main"]
HUB = "https://index.docker.io/v1/"


class Daemon(http.server.ThreadingHTTPServer):
    """Answers no pull, and keeps what it was told with it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.told: list[dict[str, Any]] = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def do_GET(self) -> None:
        self._answer(200, b"OK" if self.path.endswith("/_ping") else b'{"ApiVersion": "1.51", "Version": "28.0.0"}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "/images/create" in self.path:
            assert isinstance(self.server, Daemon)
            self.server.told.append(json.loads(base64.urlsafe_b64decode(self.headers["X-Registry-Auth"])))
        self._answer(403, b'{"message": "no pull today"}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Api-Version", "1.51")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name there
        """Nothing."""


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    server = Daemon()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def helper(tmp_path: Path) -> Path:
    """`docker-credential-test`, which knows one registry, and says a wrong thing or fails for others."""
    script = tmp_path / "bin" / "docker-credential-test"
    script.parent.mkdir()
    script.write_text("""#!/bin/sh
read server
echo "$1 $server" >>"$(dirname "$0")/asked"
case $server in
one.example) echo '{"ServerURL": "one.example", "Username": "me", "Secret": "se:cr\\u00e9t"}' ;;
token.example) echo '{"ServerURL": "token.example", "Username": "<token>", "Secret": "abc"}' ;;
none.example) echo 'credentials not found in native keychain'; exit 1 ;;
broken.example) echo 'not json' ;;
*) echo 'the keychain is locked'; exit 3 ;;
esac
""")
    script.chmod(0o755)
    return script


def ask(command: list[str], daemon: Daemon, directory: Path, image: str, config: dict[str, Any]) -> Any:
    """What a daemon is told, or else what the command says."""
    (directory / "config.json").write_text(json.dumps(config))
    daemon.told.clear()
    path = f"{directory}/bin:{os.environ['PATH']}"
    host = f"tcp://127.0.0.1:{daemon.server_address[1]}"
    environment = {**os.environ, "DOCKER_CONFIG": str(directory), "PATH": path}
    done = subprocess.run(
        [*command, "-H", host, "create", "--pull", "always", image],
        env=environment, capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode != 0
    return daemon.told[0] if daemon.told else done.stderr.decode()


def auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


STORED = {
    HUB: {"auth": auth("hub:pass")},
    "plain.example:5000": {"auth": auth("u:p:with:colons")},
    "https://old.example/v1/": {"auth": auth("old:pw")},
    "tokens.example": {"identitytoken": "idt"},
    "apart.example": {"username": "a", "password": "b"},
    "empty.example": {},
}
HELPED = {"auths": STORED, "credHelpers": {"one.example": "test", "token.example": "test", "none.example": "test"}}


@pytest.mark.parametrize("config", [{}, {"auths": STORED}, HELPED, {"auths": STORED, "credsStore": "test"}],
                         ids=["nothing", "stored", "some helped", "all helped"])  # fmt: skip
@pytest.mark.parametrize(
    "image",
    ["one.example/a", "token.example/a:1", "none.example/a", "plain.example:5000/a/b", "tokens.example/x",
     "apart.example/x", "empty.example/x", "old.example/x", "busybox", "docker.io/library/busybox:latest"],
)  # fmt: skip
def test_both_commands_tell_the_same(
    daemon: Daemon, helper: Path, tmp_path: Path, config: dict[str, Any], image: str
) -> None:
    told = ask(KIST, daemon, tmp_path, image, config)
    expected = ask(["docker"], daemon, tmp_path, image, config)
    if isinstance(expected, dict):
        assert told == {key: value for key, value in expected.items() if value}
    else:
        assert isinstance(told, str), told
        assert told.replace("kist", "docker") == expected


def test_helpers_that_fail_are_told_of(daemon: Daemon, helper: Path, tmp_path: Path) -> None:
    def said(image: str, **config: object) -> str:
        return str(ask(KIST, daemon, tmp_path, image, config))

    assert "error getting credentials - err: exit status 3, out: `the keychain is locked`" in said(
        "locked.example/a", credsStore="test"
    )
    assert "docker-credential-test did not print what" in said("broken.example/a", credsStore="test")
    missing = said("a.example/a", credsStore="nosuch")
    assert 'exec: "docker-credential-nosuch": executable file not found in $PATH' in missing
    assert "is no name of a credential helper" in said("a.example/a", credsStore="../../bin/sh")
    assert "auth of a.example is not in base64" in said("a.example/a", auths={"a.example": {"auth": "%%%"}})
    assert "invalid auth configuration file" in said("a.example/a", auths={"a.example": {"auth": auth("nocolon")}})
    assert "is no object" in said("a.example/a", auths={"a.example": [1]})


def test_a_helper_is_started_only_where_a_registry_is_asked(daemon: Daemon, helper: Path, tmp_path: Path) -> None:
    ask(KIST, daemon, tmp_path, "one.example/a", {"credsStore": "test"})
    asked = helper.with_name("asked")
    assert asked.read_text() == "get one.example\n"
    asked.unlink()
    ask(KIST, daemon, tmp_path, "plain.example/a", {"credHelpers": {"one.example": "test"}})
    assert not asked.exists()
