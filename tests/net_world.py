"""For tests of networks: an engine in a network namespace of its own, a neighbour, sockets in both and in containers.

`home` is the host of the engine: 198.51.100.1 and 2001:db8:1::1. `other` stands for another machine on its wire:
198.51.100.2 and 2001:db8:1::2.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import dns.message
import dns.rcode
from tests.conftest import Kistd, footprint

from kist.kernel import const, ns

T = TypeVar("T")
HOME, OTHER = "198.51.100.1", "198.51.100.2"
HOME6, OTHER6 = "2001:db8:1::1", "2001:db8:1::2"
PATIENCE, IMPATIENCE = 5.0, 0.4  # seconds for what is to come, and for what is not


class Space:
    """A network namespace: of a process that holds it, or of a container."""

    def __init__(self, pid: int = 0) -> None:
        self._holder: subprocess.Popen[bytes] | None = None
        if not pid:
            self._holder = subprocess.Popen(["unshare", "--net", "sleep", "100000"])
            own, pid = os.stat("/proc/self/ns/net").st_ino, self._holder.pid
            while os.stat(f"/proc/{pid}/ns/net").st_ino == own:
                continue
        self.pid = pid
        self._descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def call(self, work: Callable[[], T]) -> T:
        """Runs it in a thread there; what it starts or opens stays there."""
        found: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                ns.setns(self._descriptor, const.CLONE_NEWNET)
                found.append(work())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        return self.call(lambda: socket.socket(family, kind, protocol))

    def run(self, *command: str) -> str:
        """A program of the host's there; what it prints. Fails the test with its errors."""
        done = self.call(lambda: subprocess.run(command, capture_output=True, text=True, check=False))
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def close(self) -> None:
        os.close(self._descriptor)
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()


class World:
    """The engine, its host and a neighbour."""

    def __init__(self, base: str, *flags: str) -> None:
        self.home, self.other = Space(), Space()
        for space in (self.home, self.other):
            space.run("ip", "link", "set", "lo", "up")
        self.home.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(self.other.pid))
        for space, last in ((self.home, "1"), (self.other, "2")):
            space.run("ip", "address", "add", f"198.51.100.{last}/24", "dev", "wire")
            space.run("ip", "address", "add", f"2001:db8:1::{last}/64", "dev", "wire", "nodad")
            space.run("ip", "link", "set", "wire", "up")
        self.engine = Kistd(base, *flags)

    def start(self) -> None:
        self.home.call(self.engine.start)

    def footprint(self) -> dict[str, Any]:
        return self.home.call(lambda: footprint(self.engine))

    def container(self, name: str) -> Space:
        """The namespace of a running container; to be closed."""
        pid = inspect(self.engine, name)["State"]["Pid"]
        assert pid, name
        return Space(pid)

    def remove_networks(self) -> None:
        status, answer = self.engine.request("POST", "/networks/prune")
        assert status == 200, answer

    def close(self) -> None:
        self.home.call(self.engine.clean_host)
        self.other.close()
        self.home.close()

    def end(self) -> None:
        try:
            self.engine.remove_all()
            assert self.engine.stop() == 0, self.engine.log()
            self.engine.check_answers()
        finally:
            Kistd.started.remove(self.engine)
            self.close()
            shutil.rmtree(self.engine.base, ignore_errors=True)


def make_world(archive: Path, *flags: str) -> World:
    """With an engine that has the image busybox; to be ended."""
    made = World(tempfile.mkdtemp(prefix="kt", dir="/tmp"), *flags)
    os.chmod(made.engine.base, 0o755)
    made.start()
    sent = {"Content-Type": "application/x-tar"}
    status, answer = made.engine.request("POST", "/images/load", archive.read_bytes(), sent)
    assert status == 200, answer
    return made


def assert_footprint(now: Callable[[], dict[str, Any]], before: dict[str, Any]) -> None:
    """Fails when there is more of anything than before, for longer than the kernel needs to clean up."""
    deadline = time.monotonic() + 5
    while True:
        after = now()
        leaks = {
            key: (before[key], after[key]) for key in before if key != "threads" and _more(before[key], after[key])
        }
        if not leaks:
            return
        assert time.monotonic() < deadline, f"left behind (before, after): {leaks}"
        time.sleep(0.05)


def _more(before: Any, after: Any) -> bool:
    if isinstance(before, int):
        return bool(after > before)
    return bool(set(map(str, after)) - set(map(str, before)))


class Box:
    """A container that runs."""

    def __init__(
        self, world: World, spaces: ExitStack, name: str, network: str, *options: str, run: bool = True
    ) -> None:
        self.engine, self.name, self.network = world.engine, name, network
        if run:
            self.engine.ok("run", "-d", "--name", name, "--network", network, *options, "busybox", "sleep", "10000")
        self.space = world.container(name)
        spaces.callback(self.space.close)

    @classmethod
    def of(cls, world: World, spaces: ExitStack, name: str, network: str) -> Box:
        """One that runs already."""
        return cls(world, spaces, name, network, run=False)

    @property
    def four(self) -> str:
        return address(self.engine, self.name, self.network)

    @property
    def six(self) -> str:
        return address(self.engine, self.name, self.network, 6)

    def ports(self) -> Any:
        return inspect(self.engine, self.name)["NetworkSettings"]["Ports"]


def inspect(engine: Kistd, name: str) -> Any:
    status, answer = engine.request("GET", f"/containers/{name}/json")
    assert status == 200, answer
    return answer


def endpoint(engine: Kistd, name: str, network: str) -> Any:
    return inspect(engine, name)["NetworkSettings"]["Networks"][network]


def address(engine: Kistd, name: str, network: str, version: int = 4) -> str:
    return str(endpoint(engine, name, network)["IPAddress" if version == 4 else "GlobalIPv6Address"])


def heard(
    server: Space, port: int, client: Space, where: str, at: int = 0, kind: str = "tcp", seconds: float = IMPATIENCE
) -> str:
    """The address that a server on `port` sees when the client goes to `where`, port `at`; "" when they do not meet.
    The answer has to come back to the client, from where it went.
    """
    family = socket.AF_INET6 if ":" in where else socket.AF_INET
    any_address = "::" if family == socket.AF_INET6 else "0.0.0.0"
    number = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    with server.socket(family, number) as listening, client.socket(family, number) as asking:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((any_address, port))
        listening.settimeout(seconds)
        asking.settimeout(seconds)
        try:
            if kind == "tcp":
                listening.listen()
                asking.connect((where, at or port))
                answering, peer = listening.accept()
                with answering:
                    answering.sendall(b"heard")
                    answer = asking.recv(10)
            else:
                asking.connect((where, at or port))
                asking.send(b"anyone?")
                _, peer = listening.recvfrom(10)
                listening.sendto(b"heard", peer)
                answer = asking.recv(10)
        except OSError:
            return ""
        assert answer == b"heard"
        return str(peer[0])


def meets(server: Space, port: int, client: Space, where: str, at: int = 0, kind: str = "tcp") -> str:
    """The same for those who have to meet: waits longer, and fails the test where they do not."""
    found = heard(server, port, client, where, at, kind, PATIENCE)
    assert found, f"{kind} {where}:{at or port} does not lead to port {port}"
    return found


def resolve(space: Space, name: str, kind: str = "A", seconds: float = PATIENCE) -> list[str]:
    """What a container's own name server says, sorted; [] where it has no such name."""
    asked = dns.message.make_query(name, kind)
    with space.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(seconds)
        client.connect(("127.0.0.11", 53))
        client.send(asked.to_wire())
        answer = dns.message.from_wire(client.recv(4096))
    assert answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL), answer
    return sorted(record.to_text() for group in answer.answer for record in group)
