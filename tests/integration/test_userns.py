"""A container in a user namespace of its own, started by zygote and monitor as the engine starts every other."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import socket
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd

from kist.kernel import caps, cgroup
from kist.kernel.rtnetlink import RouteSocket
from kist.model.config import ContainerConfig, HostConfig
from kist.model.container import ContainerRecord
from kist.model.mount import Mount
from kist.model.network import Link
from kist.runtime import plan, seccomp
from kist.runtime.launch import ExecRequest, LaunchRequest, LogSetup
from kist.runtime.spec import Host, Joined, build_spec, capabilities_of
from kist.runtime.supervisor import AttachClient, Message, MonitorHandle, Supervisor, plan_file

FIRST, COUNT = 100_000, 65_536
NS_GET_USERNS = 0xB701  # linux/nsfs.h
ADDRESS = "172.17.77.77"
REPORT = """
echo uid $(id -u) gid $(id -g) groups $(id -G)
echo map $(cat /proc/self/uid_map)
echo interfaces $(ls /sys/class/net)
echo address $(ip -4 addr show eth0 | grep -o '172[0-9./]*')
echo sysowner $(stat -c %u:%g /sys/class/net/eth0/mtu)
echo procowner $(stat -c %u:%g /proc/1/status)
echo netowner $(stat -c %u:%g /proc/sys/net/ipv4)
echo rootowner $(stat -c %u:%g / /bin/busybox)
echo null $(stat -c %u:%g /dev/null) $(echo gone > /dev/null && echo writable)
echo first $(cat /proc/1/comm)
touch /made && chown 5:6 /made && echo chowned
mkdir /m && mount -t tmpfs none /m 2>/dev/null || echo nomount
ip link set eth0 down 2>/dev/null || echo noadmin
sysctl -w net.ipv4.ip_forward=1 2>/dev/null || echo readonly
chroot / true && echo chrooted
echo reopened > /dev/stdout
echo end
exec sleep 1000
"""
EXEC = "id -u; cat /proc/self/uid_map; ls /sys/class/net; cat /proc/1/comm; echo again > /dev/stdout"


@pytest.fixture
def rootfs(busybox_archive: Path, tmp_path: Path) -> Iterator[Path]:
    """busybox's files, owned by the ids that the container's root and others have outside."""
    root = tmp_path / "rootfs"
    root.mkdir()
    with tarfile.open(busybox_archive) as archive:
        index = archive.extractfile("manifest.json")
        assert index is not None
        for name in json.load(index)[0]["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(name)) as layer:
                layer.extraction_filter = lambda member, path: member  # Python 3.11.2 has no filters and does the same
                layer.extractall(root)
    for directory, names, files in os.walk(root):
        for path in (directory, *(f"{directory}/{name}" for name in (*names, *files))):
            found = os.lstat(path)
            if found.st_uid < COUNT:
                os.lchown(path, FIRST + found.st_uid, FIRST + found.st_gid)
                if not stat.S_ISLNK(found.st_mode):
                    os.chmod(path, stat.S_IMODE(found.st_mode))  # chown(2) took the set-id bits away
    for part in (tmp_path, *tmp_path.parents):  # the mapped root has to come through to it
        if part != Path("/") and not os.stat(part).st_mode & 0o001:
            os.chmod(part, os.stat(part).st_mode | 0o001)
    yield root
    shutil.rmtree(root)


class Run:
    """A container under a supervisor of its own, from its start to the end of its monitor."""

    def __init__(self, base: Path, root: Path, bridge: int) -> None:
        self.base, self.root, self.bridge = base, root, bridge
        self.group = f"kist/test-{secrets.token_hex(4)}"
        self.id = secrets.token_hex(32)
        self.host = Host(capabilities=frozenset(caps.names(caps.current()["prm"])))
        self.supervisor = Supervisor(f"{self.group}/engine")
        self.events: asyncio.Queue[Message] = asyncio.Queue()
        self.lost = asyncio.Event()
        self.handle: MonitorHandle | None = None

    async def start(self, *command: str) -> Message:
        asked = HostConfig(network_mode="bridge", readonly_rootfs=False)
        record = ContainerRecord(
            id=self.id, name="mapped", created="2026-01-01T00:00:00Z", image="busybox", image_id="",
            config=ContainerConfig(hostname="mapped", cmd=list(command)), host_config=asked, networks={},
            path=command[0], args=command[1:], mounts=(), driver="vfs", snapshot="",
        )  # fmt: skip
        for name in ("run", "at"):
            (self.base / name).mkdir()
        spec = build_spec(record, self.host, Joined(), {}, str(self.base / "at"), id_map=(FIRST, COUNT))
        link = Link(f"veth{secrets.token_hex(4)}", self.bridge, "eth0", "02:42:ac:11:4d:4d", 1500, (f"{ADDRESS}/16",),
                    "172.17.0.1")  # fmt: skip
        request = LaunchRequest(
            container_id=self.id, spec=spec, user="", extra_groups=(),
            rootfs=(Mount("bind", str(self.root), ("rbind",)),), links=(link,),
            log=LogSetup(str(self.base / "log")), run_dir=str(self.base / "run"), root_dir=str(self.base / "at"),
            cgroup=f"{self.group}/{self.id}",
            seccomp_program=seccomp.default_program(frozenset(capabilities_of(asked, self.host))),
        )  # fmt: skip
        start = plan.launch(request, cgroup.detect())
        self.handle = await self.supervisor.launch(start, (), (), self._heard, lambda handle: self.lost.set())
        return await asyncio.wait_for(self.events.get(), 10)

    def _heard(self, event: Message, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        self.events.put_nowait(event)

    async def output(self) -> dict[str, str]:
        """What the container has reported, word by word, once it is complete."""
        for _ in range(500):
            lines = [json.loads(line)["log"].strip() for line in (self.base / "log").read_text().splitlines()]
            if "end" in lines:
                return {first: rest for first, _, rest in (line.partition(" ") for line in lines)}
            await asyncio.sleep(0.02)
        raise AssertionError((self.base / "log").read_text())

    async def exec(self, *command: str) -> bytes:
        ours, theirs = socket.socketpair()
        request = ExecRequest(
            exec_id="e" * 64, args=command, env=("PATH=/bin:/usr/bin",), cwd="/", user="", extra_groups=(), tty=False,
            stdin=False, stdout=True, stderr=True, console_size=(0, 0),
            capabilities=capabilities_of(HostConfig(), self.host), no_new_privileges=False, user_namespace=True,
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
        return found

    async def end(self) -> None:
        if self.handle is not None and not self.handle.closed:
            cgroup.kill(cgroup.detect(), f"{self.group}/{self.id}")
            while not self.events.empty():
                self.events.get_nowait()
            self.handle.send({"command": "release", "removed": True, "code": 137})
            await asyncio.wait_for(self.lost.wait(), 10)
        await self.supervisor.close()
        for _ in range(100):
            if cgroup.remove(cgroup.detect(), self.group):
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the container's cgroups stay")


def owner_of(path: str) -> int:
    """The inode of the user namespace that a namespace belongs to (ioctl_ns(2))."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        owner = fcntl.ioctl(descriptor, NS_GET_USERNS)
        try:
            return os.fstat(owner).st_ino
        finally:
            os.close(owner)
    finally:
        os.close(descriptor)


def test_a_container_mapped_to_100000_owns_its_namespaces(engine: Kistd, rootfs: Path, tmp_path: Path) -> None:
    """The engine is there for its bridge; the container is the test's own."""
    _, network = engine.request("GET", "/networks/bridge")
    with RouteSocket() as route:
        bridge = route.links()[network["Options"]["com.docker.network.bridge.name"]]

    async def go() -> tuple[Message, dict[str, str], dict[str, Any]]:
        run = Run(tmp_path, rootfs, bridge)
        try:
            started = await run.start("/bin/sh", "-c", REPORT)
            assert started["event"] == "started", started
            said = await run.output()
            pid = started["pid"]
            own = os.stat(f"/proc/{pid}/ns/user").st_ino
            seen = {
                "own": own != os.stat("/proc/self/ns/user").st_ino,
                "owners": {
                    name: owner_of(f"/proc/{pid}/ns/{name}") == own
                    for name in ("net", "mnt", "uts", "ipc", "pid", "cgroup")
                },
                "outside": os.stat(f"/proc/{pid}").st_uid,
                "maps": [Path(f"/proc/{pid}/{name}").read_text().split() for name in ("uid_map", "gid_map")],
                "made": (os.lstat(rootfs / "made").st_uid, os.lstat(rootfs / "made").st_gid),
                "exec": (await run.exec("sh", "-c", EXEC)).decode().split(),
            }
            return started, said, seen
        finally:
            await run.end()

    _, said, seen = asyncio.run(go())
    assert seen["own"] is True
    assert all(seen["owners"].values()), seen["owners"]
    assert seen["outside"] == FIRST
    assert seen["maps"] == [["0", str(FIRST), str(COUNT)]] * 2
    assert said["uid"] == "0 gid 0 groups 0 10"  # of the image's own /etc/group
    assert said["map"].split() == ["0", str(FIRST), str(COUNT)]
    assert said["interfaces"] == "eth0 lo"
    assert said["address"].split()[0] == f"{ADDRESS}/16"
    # sysfs, procfs and the network's part of /proc/sys belong to the container's root, not to nobody
    assert (said["sysowner"], said["procowner"], said["netowner"]) == ("0:0", "0:0", "0:0")
    assert said["rootowner"] == "0:0 0:0"
    assert said["null"].endswith("writable")
    assert said["first"] == "sh"
    assert {"chowned", "nomount", "noadmin", "readonly", "chrooted", "reopened"} <= set(said)
    assert seen["made"] == (FIRST + 5, FIRST + 6)
    assert seen["exec"] == ["0", "0", str(FIRST), str(COUNT), "eth0", "lo", "sleep", "again"]
