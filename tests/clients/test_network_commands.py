"""Command lines of networks that change something: a scene is played with `docker`, then with `kist`, against kistd.

Both must say the same at every line, ask the daemon for the same, and leave nothing.
"""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.clients.test_differential import run, split
from tests.conftest import Kistd, UnixConnection

KIST = [sys.executable, "-m", "kist.cli.main"]

# One line a command; every scene removes what it makes.
SCENES = {
    "names": """
network create scene
network create scene
network inspect scene --format "{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.Attachable}} {{.EnableIPv4}}"
network ls --filter name=scene --format "{{.Name}} {{.Driver}} {{.IPv4}} {{.IPv6}} {{.Internal}}"
network create a:b
network create bad/name
network create .dot
network inspect bad/name --format {{.Name}}
run --rm --network bad/name busybox true
create --name scenebox busybox true
network connect bad/name scenebox
network disconnect bad/name scenebox
rm scenebox
network rm scene nosuch bridge a:b
network rm bad/name .dot
network rm -f scene
""",
    "every flag": """
network create --attachable --internal --subnet 10.231.5.0/24 --gateway 10.231.5.254 --ip-range 10.231.5.128/25
    --aux-address a=10.231.5.7 --label l=1 --label m -o com.docker.network.driver.mtu=1400 --ipam-opt x=y
    --ipam-driver default --driver bridge --scope local --ipv4=true --ipv6=false scene
network inspect scene --format "{{json .IPAM}} {{json .Options}} {{json .Labels}} {{.Internal}} {{.Attachable}}"
network ls --filter label=l=1 --filter label=m --format '{{.Name}} {{.Label "l"}} {{.Label "m"}}'
network rm scene
""",
    "several subnets": """
network create --ipv6 --subnet 10.231.5.0/24,fd00:231::/64 --gateway fd00:231::9 --ip-range 10.231.5.128/25 scene
network inspect scene --format "{{.EnableIPv6}} {{len .IPAM.Config}}"
network inspect scene --format "{{range .IPAM.Config}}[{{.Subnet}} {{.Gateway}} {{.IPRange}}]{{end}}"
run --rm --network scene busybox sh -c "ip -o addr show eth0 | grep -cE '10.231.5.|fd00:231::'"
run --rm --network scene --ip 10.231.5.9 --ip6 fd00:231::77 busybox
    sh -c "ip -o addr show eth0 | grep -oE '(10.231.5.9|fd00:231::77)/'"
network rm scene
network create --subnet "" --ip-range "" --gateway "" scene
network rm scene
""",
    "no IPv4": """
network create --ipv4=false --ipv6 --subnet fd00:231::/64 scene
network inspect scene --format "{{.EnableIPv4}} {{.EnableIPv6}} {{json .IPAM.Config}}"
run --rm --network scene busybox sh -c "ip -4 -o addr show eth0 | wc -l"
network rm scene
""",
    "configuration": """
network create --config-only --subnet 10.231.6.0/24 sceneconf
network create --config-from sceneconf --internal scene
network create --config-from sceneconf --subnet 10.231.7.0/24 other
network inspect scene --format "{{json .IPAM.Config}} {{.ConfigFrom.Network}} {{.Driver}} {{.Internal}}"
run --rm --network sceneconf busybox true
network rm sceneconf
network rm scene
network rm sceneconf
""",
    "connect": """
network create --subnet 10.231.8.0/24 scene
run -d --name scenebox busybox sleep 1000
network connect --alias web,db --alias more --ip 10.231.8.77 --gw-priority 5 --driver-opt a=b
    --link-local-ip 169.254.7.7 --link nosuch:x scene scenebox
network connect scene scenebox
inspect scenebox --format "{{with .NetworkSettings.Networks.scene}}{{json .IPAMConfig}} {{json .Aliases}}{{end}}"
inspect scenebox --format "{{with .NetworkSettings.Networks.scene}}{{.GwPriority}} {{json .DriverOpts}}{{end}}"
inspect scenebox --format "{{with .NetworkSettings.Networks.scene}}{{json .Links}} {{.IPAddress}}{{end}}"
exec scenebox sh -c "ip -4 -o addr show eth1 | grep -oE '(10.231.8.77|169.254.7.7)/'"
network inspect scene --format "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}"
ps --filter network=scene --format "{{.Names}}"
run --rm --network scene busybox sh -c "ping -c 1 -W 5 -q more >/dev/null"
network rm -f nosuch
network disconnect scene scenebox
network disconnect scene scenebox
exec scenebox ls /sys/class/net
network connect scene scenebox
network disconnect --force scene scenebox
network disconnect bridge scenebox
inspect scenebox --format "{{len .NetworkSettings.Networks}}"
rm -f scenebox
network rm scene
""",
    "connect what has stopped": """
network create --subnet 10.231.8.0/24 scene
create --name scenebox busybox sh -c "ip -4 -o addr show eth1 | grep -o 10.231.8.7"
network connect --ip 10.231.8.7 scene scenebox
start -a scenebox
network disconnect scene scenebox
start -a scenebox
rm scenebox
network rm scene
""",
    "run in several": """
network create --subnet 10.231.8.0/24 scene
network create --subnet 10.231.9.0/24 sceneb
run --rm --network scene --network name=sceneb,alias=q,gw-priority=1 busybox
    sh -c "ip route | grep -o 'default via 10.231.9.1'"
run --rm --network name=scene,ip=10.231.8.9
    --network name=sceneb,ip=10.231.9.9,driver-opt=com.docker.network.endpoint.ifname=foo busybox
    sh -c "ip -4 -o addr | grep -oE '(eth|foo).* 10.231.*/'"
create --name scenebox --net sceneb --network scene --network-alias a --net-alias b busybox true
inspect scenebox --format "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{json $v.Aliases}} {{end}}"
inspect scenebox --format {{.HostConfig.NetworkMode}}
rm scenebox
create --name scenebox --network scene --network nosuch busybox true
start scenebox
inspect scenebox --format "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}"
rm scenebox
network rm sceneb scene
""",
    "prune": """
network create --label keep=no scene
network create --label keep=yes sceneb
network prune
network prune --force --filter label!=keep
network prune -f --filter label=keep=no
network ls --filter name=scene --format {{.Name}}
network prune -f --filter until=1h
network rm sceneb
network prune -f
""",
}  # fmt: skip


def commands(scene: str) -> list[str]:
    """Lines that begin with a blank continue those before."""
    return scene.replace("\n    ", " ").split("\n")[1:-1]


@pytest.mark.parametrize("name", SCENES)
def test_both_commands_play_a_scene_alike(engine: Kistd, name: str) -> None:
    played = [
        [(line, run(command, engine, split(line))) for line in commands(SCENES[name])] for command in (["docker"], KIST)
    ]
    for theirs, ours in zip(*played, strict=True):
        assert ours == theirs


def test_the_scenes_are_not_all_of_failures(engine: Kistd) -> None:
    """A daemon that refuses everything would make both commands say the same."""
    for line in commands(SCENES["connect"]):
        status = run(KIST, engine, split(line))[0]
        again = line in ("network connect scene scenebox", "network disconnect scene scenebox")
        assert status == 0 or again, line


@pytest.mark.parametrize("command", ["create", "connect", "disconnect", "rm"])
def test_help_has_the_same_words(command: str) -> None:
    theirs, ours = (
        subprocess.run([*one, "network", command, "--help"], capture_output=True, text=True, check=True).stdout.split()
        for one in (["docker"], KIST)
    )
    assert ["kist" if word == "docker" else word for word in theirs] == ours


@pytest.mark.parametrize("version", ["1.43", "1.44"])
@pytest.mark.parametrize(
    "flag", ["--mac-address 02:00:00:00:00:05", "--network name=bridge,mac-address=02:00:00:00:00:05"]
)
def test_an_older_api_is_not_asked_for_what_it_would_overlook(engine: Kistd, version: str, flag: str) -> None:
    words = split(f"run --rm {flag} busybox cat /sys/class/net/eth0/address")
    theirs, ours = (run(command, engine, words, version) for command in (["docker"], KIST))
    assert ours == theirs
    assert ours[0] == (125 if version == "1.43" else 0)


# --- what is asked of the daemon ---


class _Listening(BaseHTTPRequestHandler):
    """Passes requests on to the engine, and keeps what was asked."""

    engine: ClassVar[Kistd]
    asked: ClassVar[list[tuple[str, str, Any]]] = []

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.command != "HEAD":
            self.asked.append((self.command, self.path, json.loads(body) if body else None))
        connection = UnixConnection(self.engine.socket)
        kinds = {"Content-Type": self.headers["Content-Type"]} if body else {}
        connection.request(self.command, self.path, body or None, kinds)
        answer = connection.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name in ("Content-Type", "Api-Version", "Ostype"):
            if answer.getheader(name):
                self.send_header(name, str(answer.getheader(name)))
        if answer.status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        connection.close()
        with suppress(BrokenPipeError):  # of a client that has read enough
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_DELETE = _pass_on

    def address_string(self) -> str:
        return "client"  # there is no address on a unix socket

    def log_message(self, *_: object) -> None:
        return


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def listening(engine: Kistd, tmp_path: Path) -> Iterator[str]:
    """The address of a server that keeps what clients ask of the engine."""
    _Listening.engine = engine
    address = f"{engine.base}/listen"
    with _Server(address, _Listening) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"unix://{address}"
        server.shutdown()
        thread.join()
    os.unlink(address)


def asked_by(command: list[str], host: str, line: str) -> list[tuple[str, str, Any]]:
    """What a command line sends that is not a question, without what is empty but for the names of networks."""
    _Listening.asked.clear()
    environment = {**os.environ, "DOCKER_CONFIG": "/nonexistent", "DOCKER_API_VERSION": "1.50"}
    subprocess.run([*command, "-H", host, *split(line)], env=environment, check=False, timeout=60,
                   stdin=subprocess.DEVNULL, capture_output=True)  # fmt: skip
    return [(method, path, told(body)) for method, path, body in _Listening.asked if method != "GET"]


def told(value: Any, key: str = "") -> Any:
    """Without what says nothing: Go's client leaves such fields out, or sends them, as the field is declared."""
    if isinstance(value, dict):
        found = {name: told(one, name) for name, one in value.items()}
        return {name: one for name, one in found.items() if one or one is False or key == "EndpointsConfig"}
    if isinstance(value, list):
        return [told(one) for one in value]
    return None if value is False and key not in ("EnableIPv4", "EnableIPv6") else value


BODIES = """
create busybox true
create --network bridge busybox true
create --network host busybox true
create --network none busybox true
create --network scene busybox true
create --network default busybox true
create --network container:nosuch busybox true
create --network scene --network other busybox true
create --network other --net scene --network third busybox true
create --network name=scene busybox true
create --network name=scene,alias=A,alias=b,ip=10.1.0.9,ip6=fd00::9,link-local-ip=169.254.1.1,link-local-ip=fe80::9
    busybox true
create --network name=scene,mac-address=02:00:00:00:00:01,driver-opt=a=B,driver-opt=c=d=e,gw-priority=-7 busybox true
create --network name=scene,"alias=a" busybox true
create --network " name = scene , gw-priority = 3 " busybox true
create --network name=scene,ip=,gw-priority=0 busybox true
create --network name=scene,alias=a --network name=other,alias=b,gw-priority=+2 busybox true
create --network scene --network-alias a --net-alias b --network-alias c busybox true
create --network scene --ip 10.1.0.9 --ip6 fd00::9 --link-local-ip 169.254.1.1 --link-local-ip fe80::9 busybox true
create --network scene --mac-address 02-00-00-00-00-01 --link a:b --link c busybox true
create --network name=scene,ip=10.1.0.9 --ip6 fd00::9 --network-alias a busybox true
create --network scene --network other --ip 10.1.0.9 --network-alias a --link a:b busybox true
create --ip 10.1.0.9 busybox true
create --mac-address 02:00:00:00:00:01 busybox true
create --link a:b --link c busybox true
create --network bridge --link a:b busybox true
create --link-local-ip 169.254.1.1 busybox true
create --network none --mac-address 02:00:00:00:00:01 busybox true
create --dns-opt a --dns-option b --dns-opt c busybox true
network create scene
network create --ipv4 --ipv6=false scene
network create --ipv6 scene
network create --driver nosuch -o a -o b=c=d -o e= --label x --label y=z=1 --scope global --ingress scene
network create --attachable --internal --config-only --config-from other scene
network create --subnet 10.1.0.0/24 --gateway 10.1.0.1 --ip-range 10.1.0.128/25 --aux-address a=10.1.0.2 scene
network create --subnet 10.1.0.0/24 --aux-address a=10.1.0.2 --aux-address b=10.1.0.3 --ipam-driver x
    --ipam-opt a=b scene
network create --ipv6 --subnet fd00::/64 --gateway fd00::1 scene
network connect scene nosuch
network connect --ip 10.1.0.9 --ip6 fd00::9 --link-local-ip a,b --link-local-ip c --alias d,e --alias f scene nosuch
network connect --link a:b --link c --driver-opt "a = b ,c=d=e" --driver-opt f= --gw-priority -3 scene nosuch
network connect --alias "" scene nosuch
network connect "sc ene" nosuch
network disconnect scene nosuch
network disconnect -f scene nosuch
network rm scene other
network rm -f nosuch
network prune -f --filter label=nosuch --filter until=1h
"""


def test_both_commands_ask_for_the_same(engine: Kistd, listening: str) -> None:
    """No network of these is there, but for a moment."""
    for line in commands(BODIES):
        theirs = asked_by(["docker"], listening, line)
        engine.docker("network", "rm", "-f", "scene")
        ours = asked_by(KIST, listening, line)
        engine.docker("network", "rm", "-f", "scene")
        assert theirs, line
        assert ours == theirs, line
