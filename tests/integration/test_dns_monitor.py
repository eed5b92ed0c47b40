"""The name server of a container that runs: opened by init, held by its monitor, served by one kistd after another."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import socket
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.conftest import Kistd
from tests.dns_world import Seen, mynet

from kist.kernel import caps, cgroup
from kist.kernel.rtnetlink import RouteSocket
from kist.model.config import ContainerConfig, HostConfig
from kist.model.container import ContainerRecord
from kist.model.mount import Mount
from kist.model.network import Link
from kist.network import resolvconf
from kist.network.dns.service import Nameservers
from kist.runtime import foreign, plan, seccomp
from kist.runtime.launch import ExecRequest, ForeignRuntime, LaunchRequest, LogSetup
from kist.runtime.spec import Host, Joined, build_spec, capabilities_of
from kist.runtime.supervisor import AttachClient, Message, MonitorHandle, Supervisor, plan_file

LOOP = "while :; do nslookup box | grep -A9 Name; sleep 0.1; done"
MAPPED = (100_000, 65_536)


@pytest.fixture
def rootfs(busybox_archive: Path, tmp_path: Path) -> Path:
    root = tmp_path / "rootfs"
    root.mkdir()
    with tarfile.open(busybox_archive) as archive:
        index = archive.extractfile("manifest.json")
        assert index is not None
        for name in json.load(index)[0]["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(name)) as layer:
                layer.extraction_filter = lambda member, path: member
                layer.extractall(root)
    for directory, names, files in os.walk(root):
        for path in (directory, *(f"{directory}/{name}" for name in (*names, *files))):
            os.lchown(path, 0, 0)
    (root / "etc/resolv.conf").touch()  # where a mapped root may make nothing
    for part in (tmp_path, *tmp_path.parents):  # a mapped root has to come through to it
        if part != Path("/"):
            os.chmod(part, os.stat(part).st_mode | 0o011)
    return root


class Box:
    """A container under a supervisor of its own, and a part of kistd that serves its names."""

    def __init__(self, base: Path, root: Path) -> None:
        self.base, self.root = base, root
        self.group = f"kist/test-{secrets.token_hex(4)}"
        self.id = secrets.token_hex(32)
        self.host = Host(capabilities=frozenset(caps.names(caps.current()["prm"])))
        self.supervisor = Supervisor(f"{self.group}/engine")
        self.nameservers = Nameservers()
        self.events: asyncio.Queue[Message] = asyncio.Queue()
        self.lost = asyncio.Event()
        self.handle: MonitorHandle | None = None
        self.asked = HostConfig(network_mode="bridge", readonly_rootfs=False)

    def request(self, *command: str, mapped: bool, dns: bool, tty: bool, links: tuple[Link, ...]) -> LaunchRequest:
        record = ContainerRecord(
            id=self.id, name="asking", created="2026-01-01T00:00:00Z", image="busybox", image_id="",
            config=ContainerConfig(hostname="asking", cmd=list(command), tty=tty), host_config=self.asked, networks={},
            path=command[0], args=command[1:], mounts=(), driver="vfs", snapshot="",
        )  # fmt: skip
        for name in ("run", "at"):
            (self.base / name).mkdir()
        resolv = self.base / "resolv.conf"
        resolv.write_text(resolvconf.internal("", (), (), ()).text)
        spec = build_spec(record, self.host, Joined(), {"/etc/resolv.conf": str(resolv)}, str(self.base / "at"),
                          id_map=MAPPED if mapped else None)  # fmt: skip
        return LaunchRequest(
            container_id=self.id, spec=spec, user="", extra_groups=(),
            rootfs=(Mount("bind", str(self.root), ("rbind",)),), links=links, log=LogSetup(str(self.base / "log")),
            run_dir=str(self.base / "run"), root_dir=str(self.base / "at"), cgroup=f"{self.group}/{self.id}",
            seccomp_program=seccomp.default_program(frozenset(capabilities_of(self.asked, self.host))), dns=dns,
        )  # fmt: skip

    async def start(
        self, *command: str, mapped: bool = False, dns: bool = True, tty: bool = False, links: tuple[Link, ...] = (),
        runtime: str = "",
    ) -> Message:  # fmt: skip
        request = self.request(*command, mapped=mapped, dns=dns, tty=tty, links=links)
        if runtime:
            request = msgspec.structs.replace(request, foreign=ForeignRuntime("other", runtime))
            start = foreign.launch(request, cgroup.detect())
        else:
            start = plan.launch(request, cgroup.detect())
        self.handle = await self.supervisor.launch(start, (), (), self._heard, lambda handle: self.lost.set())
        return await asyncio.wait_for(self.events.get(), 10)

    def _heard(self, event: Message, descriptors: list[int]) -> None:
        if event["event"] == "nameserver":
            self.nameserver = tuple(descriptors)
        else:
            for descriptor in descriptors:
                os.close(descriptor)
        self.events.put_nowait(event)

    async def serve(self, **options: bool) -> int:
        """Asks the monitor for the sockets, as kistd does when it has heard that the container runs; how many came."""
        assert self.handle is not None
        self.handle.send({"command": "nameserver", **options})
        while (await asyncio.wait_for(self.events.get(), 10))["event"] != "nameserver":
            continue
        if self.nameserver:
            self.nameservers.serve(self.id, (self.nameserver[0], self.nameserver[1]), Seen(mynet()), ())
        return len(self.nameserver)

    async def crash_and_come_back(self) -> None:
        """kistd goes, with everything that it holds, and another one connects."""
        assert self.handle is not None
        self.nameservers.close()
        self.handle.close()
        self.handle = await self.supervisor.adopt(str(self.base / "run"), self._heard, lambda handle: self.lost.set())
        while (await asyncio.wait_for(self.events.get(), 10))["event"] != "hello":
            continue

    async def said(self, words: str, count: int = 1) -> None:
        text = ""
        for _ in range(400):
            text = "".join(json.loads(line)["log"] for line in (self.base / "log").read_text().splitlines())
            if text.count(words) >= count:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(text)

    async def exec(self, *command: str) -> str:
        ours, theirs = socket.socketpair()
        request = ExecRequest(
            exec_id="e" * 64, args=command, env=("PATH=/bin:/usr/bin",), cwd="/", user="", extra_groups=(), tty=False,
            stdin=False, stdout=True, stderr=True, console_size=(0, 0),
            capabilities=capabilities_of(HostConfig(), self.host), no_new_privileges=False,
        )  # fmt: skip
        assert self.handle is not None
        with theirs, ours:
            client = AttachClient(theirs.fileno(), multiplexed=False, stdin=False, stdout=True, stderr=True)
            message, steps = plan.exec_start(request, {})
            with plan_file(steps) as unread:
                self.handle.send({**message, "client": client.message()}, [unread, theirs.fileno()])
            theirs.close()
            ours.setblocking(False)
            found = b""
            while data := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours, 65536), 10):
                found += data
        return found.decode()

    async def end(self) -> None:
        self.nameservers.close()
        if self.handle is not None and not self.handle.closed:
            cgroup.kill(cgroup.detect(), f"{self.group}/{self.id}")
            self.handle.send({"command": "release", "removed": True, "code": 137})
            await asyncio.wait_for(self.lost.wait(), 10)
        await self.supervisor.close()
        for _ in range(100):
            if cgroup.remove(cgroup.detect(), self.group):
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the container's cgroups stay")


def run(base: Path, root: Path, work: Callable[[Box], Awaitable[Any]]) -> Any:
    @asynccontextmanager
    async def box() -> AsyncIterator[Box]:
        made = Box(base, root)
        try:
            yield made
        finally:
            await made.end()

    async def go() -> Any:
        async with box() as made:
            return await work(made)

    return asyncio.run(go())


def names_in(pid: int) -> list[str]:
    """The descriptors of a process that are sockets of the address family."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{name}")
        if target.startswith("socket:"):
            found.append(target)
    return found


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("tty", [False, True])
def test_a_container_and_its_execs_find_names(
    engine: Kistd, rootfs: Path, tmp_path: Path, mapped: bool, tty: bool
) -> None:
    async def work(box: Box) -> str:
        started = await box.start("/bin/sh", "-c", LOOP, mapped=mapped, tty=tty)
        assert started["event"] == "started", started
        assert await box.serve() == 2
        await box.said("Address: 172.18.0.2")
        return "" if mapped else await box.exec("nslookup", "other.mynet")

    found = run(tmp_path, rootfs, work)
    assert mapped or "Address: 172.18.0.3" in found


def test_what_is_asked_while_there_is_no_kistd_is_answered_by_the_next(
    engine: Kistd, rootfs: Path, tmp_path: Path
) -> None:
    async def work(box: Box) -> None:
        await box.start("/bin/sh", "-c", "nslookup box; nslookup other; echo done; sleep 1000")
        await box.serve()
        await box.said("Address: 172.18.0.2")
        for _ in range(3):
            await box.crash_and_come_back()
            asking = asyncio.ensure_future(box.exec("nslookup", "web"))
            await asyncio.sleep(0.5)
            assert not asking.done()
            assert await box.serve() == 2
            assert "Address: 172.18.0.3" in await asking

    run(tmp_path, rootfs, work)


def test_a_container_that_did_not_ask_has_none(engine: Kistd, rootfs: Path, tmp_path: Path) -> None:
    async def work(box: Box) -> tuple[int, str]:
        await box.start("/bin/sh", "-c", "echo begun; sleep 1000", dns=False)
        await box.said("begun")
        return await box.serve(), await box.exec("netstat", "-lnu")

    count, listening = run(tmp_path, rootfs, work)
    assert count == 0
    assert "127.0.0.11" not in listening


@pytest.mark.parametrize("mapped", [False, True])
def test_a_container_that_runs_gets_one_later(engine: Kistd, rootfs: Path, tmp_path: Path, mapped: bool) -> None:
    """As when it is connected to a network that has names. Once it is there, the same sockets come again."""

    async def work(box: Box) -> None:
        await box.start("/bin/sh", "-c", LOOP, mapped=mapped, dns=False)
        assert await box.serve() == 0
        assert await box.serve(open=True) == 2
        await box.said("Address: 172.18.0.2")
        before = {os.fstat(descriptor).st_ino for descriptor in box.nameserver}
        assert await box.serve(open=True) == 2
        assert {os.fstat(descriptor).st_ino for descriptor in box.nameserver} == before

    run(tmp_path, rootfs, work)


def test_what_has_ended_gets_none(engine: Kistd, rootfs: Path, tmp_path: Path) -> None:
    async def work(box: Box) -> int:
        await box.start("/bin/sh", "-c", "exit 0", dns=False)
        while (await asyncio.wait_for(box.events.get(), 10))["event"] != "exited":
            continue
        return await box.serve(open=True)

    assert run(tmp_path, rootfs, work) == 0


def test_the_namespace_goes_with_the_container(engine: Kistd, rootfs: Path, tmp_path: Path) -> None:
    """The monitor that waits to be released keeps no socket of it, and its link on the host is gone."""
    _, network = engine.request("GET", "/networks/bridge")
    name = f"veth{secrets.token_hex(4)}"
    with RouteSocket() as route:
        bridge = route.links()[network["Options"]["com.docker.network.bridge.name"]]
    link = Link(name, bridge, "eth0", "02:42:ac:11:4d:4e", 1500, ("172.17.77.78/16",), "172.17.0.1")

    async def work(box: Box) -> None:
        started = await box.start("/bin/sh", "-c", "nslookup box; exit 3", links=(link,))
        monitor = started["monitor"]
        await asyncio.sleep(0.2)
        held = set(names_in(monitor))
        with RouteSocket() as route:
            assert name in route.links()
        await box.serve()
        while (event := await asyncio.wait_for(box.events.get(), 10))["event"] != "exited":
            continue
        assert event["code"] == 3
        await box.said("Address: 172.18.0.2")
        assert len(held - set(names_in(monitor))) == 2
        box.nameservers.stop(box.id)
        for _ in range(200):
            with RouteSocket() as route:
                if name not in route.links():
                    return
            await asyncio.sleep(0.05)
        raise AssertionError("the link stays")

    run(tmp_path, rootfs, work)


def test_a_start_that_fails_leaves_no_socket(engine: Kistd, rootfs: Path, tmp_path: Path) -> None:
    async def work(box: Box) -> Message:
        return await box.start("/no/such/program")

    assert run(tmp_path, rootfs, work)["event"] == "failed"


@pytest.mark.skipif(shutil.which("runc") is None, reason="no runc")
def test_a_container_of_another_runtime_finds_names(engine: Kistd, rootfs: Path, tmp_path: Path) -> None:
    _, network = engine.request("GET", "/networks/bridge")
    with RouteSocket() as route:
        bridge = route.links()[network["Options"]["com.docker.network.bridge.name"]]
    link = Link(f"veth{secrets.token_hex(4)}", bridge, "eth0", "02:42:ac:11:4d:4f", 1500, ("172.17.77.79/16",),
                "172.17.0.1")  # fmt: skip

    async def work(box: Box) -> None:
        started = await box.start("/bin/sh", "-c", LOOP, links=(link,), runtime=shutil.which("runc") or "")
        assert started["event"] == "started", started
        assert await box.serve() == 2
        await box.said("Address: 172.18.0.2")

    run(tmp_path, rootfs, work)
