"""`--link` and `--volumes-from`: what containers know of each other, by the stock docker command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import Kistd


@pytest.fixture
def web(engine: Kistd) -> Iterator[str]:
    options = ("--name", "web", "--hostname", "webhost", "-e", "COLOUR=red", "--expose", "80-82", "--expose", "53/udp")
    yield engine.ok("run", "-d", *options, "busybox", "sleep", "1000").strip()
    engine.docker("rm", "-f", "web")


def inspect(engine: Kistd, name: str) -> Any:
    return engine.request("GET", f"/containers/{name}/json")[1]


def address(engine: Kistd, name: str) -> str:
    return str(inspect(engine, name)["NetworkSettings"]["IPAddress"])


def hosts(engine: Kistd, name: str) -> list[str]:
    lines = engine.ok("exec", name, "cat", "/etc/hosts").splitlines()
    return [line for line in lines if "local" not in line and "ip6" not in line]


def test_a_linked_container_is_known_by_name_and_environment(engine: Kistd, web: str) -> None:
    engine.ok("run", "-d", "--name", "client", "--link", "web:my-db", "--link", "web", "busybox", "sleep", "1000")
    where = address(engine, "web")
    assert hosts(engine, "client")[:2] == [f"{where}\tmy-db webhost web", f"{where}\tweb webhost"]
    assert engine.docker("exec", "client", "ping", "-c1", "-W2", "my-db").status == 0
    shown = engine.ok("exec", "client", "env").splitlines()
    assert set(shown) >= {
        f"MY_DB_PORT=tcp://{where}:80",
        f"MY_DB_PORT_80_TCP=tcp://{where}:80",
        f"MY_DB_PORT_80_TCP_ADDR={where}",
        "MY_DB_PORT_80_TCP_PORT=80",
        "MY_DB_PORT_80_TCP_PROTO=tcp",
        f"MY_DB_PORT_80_TCP_START=tcp://{where}:80",
        "MY_DB_PORT_80_TCP_PORT_END=82",
        f"MY_DB_PORT_53_UDP=udp://{where}:53",
        "MY_DB_NAME=/client/my-db",
        "MY_DB_ENV_COLOUR=red",
        "WEB_NAME=/client/web",
    }
    assert not any(line.startswith("MY_DB_ENV_PATH") for line in shown)
    first = engine.ok("inspect", "client", "--format", "{{json .HostConfig.Links}}")
    assert json.loads(first) == ["/web:/client/my-db", "/web:/client/web"]
    _, listed = engine.request("GET", "/containers/json")
    assert sorted(listed, key=lambda one: len(one["Names"]))[-1]["Names"] == ["/client/my-db", "/client/web", "/web"]
    assert inspect(engine, "client/my-db")["Id"] == web


def test_an_address_that_changes_is_told(engine: Kistd, web: str) -> None:
    engine.ok("run", "-d", "--name", "client", "--link", "web:db", "busybox", "sleep", "1000")
    engine.ok("exec", "client", "sh", "-c", "echo 1.2.3.4 own >> /etc/hosts")
    before = address(engine, "web")
    engine.ok("stop", "-t0", "web")
    for _ in range(2):  # so that the old address is taken
        engine.ok("run", "-d", "busybox", "sleep", "1000")
    engine.ok("start", "web")
    after = address(engine, "web")
    assert after != before
    found = hosts(engine, "client")
    assert f"{after}\tdb webhost web" in found
    assert "1.2.3.4 own" in found
    assert not any(line.startswith(f"{before}\tdb") for line in found)


def test_a_link_is_renamed_and_removed(engine: Kistd, web: str) -> None:
    engine.ok("run", "-d", "--name", "client", "--link", "web:db", "--link", "web:other", "busybox", "sleep", "1000")
    engine.ok("rename", "client", "renamed")
    assert inspect(engine, "renamed/db")["Id"] == web
    assert engine.request("GET", "/containers/client/db/json")[0] == 404
    assert engine.docker("rm", "--link", "web").errors == (
        "Error response from daemon: Conflict, cannot remove the default link name of the container\n"
    )
    engine.ok("rm", "--link", "renamed/db")
    assert inspect(engine, "renamed")["HostConfig"]["Links"] == ["/web:/renamed/other"]
    assert engine.request("GET", "/containers/renamed/db/json")[0] == 404
    assert not any(line.partition("\t")[2].startswith("db ") for line in hosts(engine, "renamed"))
    engine.ok("rm", "-f", "renamed")
    assert inspect(engine, "web")["Id"] == web
    assert engine.request("GET", "/containers/renamed/other/json")[0] == 404


def test_links_outlive_the_daemon(own_engine: Kistd) -> None:
    own_engine.ok("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    own_engine.ok("run", "-d", "--name", "client", "--link", "web:db", "busybox", "sleep", "1000")
    own_engine.kill()
    own_engine.start()
    assert inspect(own_engine, "client/db")["Name"] == "/web"
    own_engine.ok("restart", "-t0", "client")
    assert "db" in "".join(hosts(own_engine, "client"))
    own_engine.ok("rm", "-f", "web")
    own_engine.ok("stop", "-t0", "client")
    told = own_engine.docker("start", "client").errors
    assert "Cannot link to a non running container: /web AS /client/db" in told


@pytest.mark.parametrize(
    ("link", "status", "words"),
    [
        ("nosuch:x", 400, "could not get container for nosuch: No such container: nosuch"),
        ("a:b:c", 400, "bad format for links: a:b:c"),
        ("", 400, "empty string specified for links"),
        ("hosty:x", 400, "conflicting options: host type networking can't be used with links"),
    ],
)
def test_links_that_cannot_be(engine: Kistd, link: str, status: int, words: str) -> None:
    engine.ok("create", "--name", "hosty", "--network", "host", "busybox")
    body = {"Image": "busybox", "HostConfig": {"Links": [link]}}
    got, told = engine.request("POST", "/containers/create", body)
    assert (got, words in told["message"]) == (status, True), told


def test_mounts_of_others_are_taken_over(engine: Kistd) -> None:
    data = ("-v", "named:/named", "-v", "/anonymous", "-v", f"{engine.base}:/bind:ro", "--tmpfs", "/private")
    engine.ok("create", "--name", "data", *data, "busybox")
    engine.ok("create", "--name", "more", "-v", "/named", "busybox")
    try:
        engine.ok("run", "--rm", "--volumes-from", "data", "busybox", "sh", "-c", "echo a > /named/f; ls /bind/log")
        refused = "echo b > /anonymous/f && exit 5; cat /named/f; grep -c /private /proc/mounts"
        told = engine.docker("run", "--rm", "--volumes-from", "data:ro", "busybox", "sh", "-c", refused)
        assert told.text == "a\n0\n"
        assert "Read-only file system" in told.errors
        engine.ok("create", "--name", "taker", "--volumes-from", "data:ro,z", "--volumes-from", "more", "-v",
                  "/tmp:/bind", "busybox")  # fmt: skip
        found = {one["Destination"]: one for one in inspect(engine, "taker")["Mounts"]}
        assert sorted(found) == ["/anonymous", "/bind", "/named"]
        assert found["/named"]["Name"] != "named", "the container named last is asked last"
        assert (found["/bind"]["Source"], found["/bind"]["RW"]) == ("/tmp", True), "what is asked for goes before"
        assert not found["/anonymous"]["RW"]
        engine.ok("rm", "-v", "data", "more")
        engine.ok("start", "taker")  # its volumes are still there: it uses them
        engine.ok("wait", "taker")
        engine.ok("rm", "-v", "taker")
        assert engine.ok("volume", "ls", "-q").split() == ["named"]
    finally:
        engine.docker("volume", "rm", "named")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nosuch", "No such container: nosuch"),
        ("", "volumes-from specification cannot be an empty string"),
        ("x:bogus", "invalid mode: bogus"),
        ("x:ro,rslave", "invalid mode: ro,rslave"),
        ("x:nocopy", "invalid mode: nocopy"),
    ],
)
def test_volumes_from_that_cannot_be(engine: Kistd, text: str, words: str) -> None:
    body = {"Image": "busybox", "HostConfig": {"VolumesFrom": [text]}}
    assert engine.request("POST", "/containers/create", body) == (400, {"message": words})
