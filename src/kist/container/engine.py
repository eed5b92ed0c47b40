"""What the verbs work with: the stores, services and facts of one engine, in one frozen value."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import msgspec

from kist.container.cdi import Registry
from kist.container.events import EventBus
from kist.container.growth import Growth
from kist.container.index import Index
from kist.container.logging import ships
from kist.container.machine import Machine
from kist.container.naming import Naming
from kist.container.shipping import Shipping
from kist.container.validate import HostLimits
from kist.image.service import ImageService
from kist.kernel import cgroup
from kist.kernel.cgroup import Layout
from kist.model.container import ContainerRecord
from kist.model.network import Endpoint, Network
from kist.network.service import NetworkService
from kist.runtime.launch import ForeignRuntime
from kist.runtime.spec import Host
from kist.runtime.supervisor import Supervisor
from kist.snapshot.contract import Snapshotter
from kist.volume.service import VolumeService

OWN_RUNTIME = "kist"
OWN_NAMES = (OWN_RUNTIME, "runc", "io.containerd.runc.v2")  # scripts name dockerd's


class Defaults(msgspec.Struct, frozen=True):
    """The daemon's settings that new containers take on."""

    log_driver: str = "json-file"
    log_options: dict[str, str] = {}
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    host_gateway: str = ""
    seccomp_profile: str = "builtin"
    cgroup_parent: str = ""
    publish_address: str = "0.0.0.0"


class Runtimes(msgspec.Struct, frozen=True):
    """Which runtimes there are beside the engine's own, and which one a container gets that names none."""

    foreign: dict[str, ForeignRuntime] = {}
    default: str = OWN_RUNTIME

    def known(self, name: str) -> bool:
        return name in OWN_NAMES or name in self.foreign


class Engine:
    """Everything a verb may use. `cgroup_root` is this instance's group."""

    def __init__(
        self,
        *,
        index: Index,
        images: ImageService,
        snapshotter: Snapshotter,
        volumes: VolumeService,
        networks: NetworkService,
        supervisor: Supervisor,
        events: EventBus,
        layout: Layout,
        limits: HostLimits,
        host: Host,
        defaults: Defaults,
        data_root: str,
        exec_root: str,
        cgroup_root: str,
        shipping: Shipping,
        cdi: Registry,
        runtimes: Runtimes,
    ) -> None:
        self.shipping = shipping
        self.index, self.images, self.snapshotter, self.volumes = index, images, snapshotter, volumes
        self.networks, self.supervisor, self.events = networks, supervisor, events
        self.layout, self.limits, self.host, self.defaults = layout, limits, host, defaults
        self.data_root, self.exec_root, self.cgroup_root = data_root, exec_root, cgroup_root
        self._systemd = os.path.isdir("/run/systemd/system")  # sd_booted(3)
        self.cdi = cdi
        self.runtimes = runtimes
        self.naming = Naming(defaults)
        self.growth = Growth()  # of logs
        self.turn = asyncio.Lock()  # of those who read logs: one piece at a time, and everybody else between two
        self._tasks: set[asyncio.Task[None]] = set()
        self.changed: Callable[[Machine], None] = lambda machine: None  # hears of every start, end, pause and unpause

    def run_dir(self, machine: Machine) -> str:
        """The monitor's directory; goes with the container."""
        return f"{self.exec_root}/containers/{machine.id}"

    def directory(self, container_id: str) -> str:
        """Log, hosts, hostname, resolv.conf."""
        return f"{self.data_root}/containers/{container_id}"

    def log_path(self, machine: Machine) -> str:
        """What its monitor writes; `logs` reads that for every driver."""
        if ships(machine.record):
            return self.shipping.spool(machine.id).log
        return f"{self.directory(machine.id)}/{machine.id}-json.log"

    def cgroup(self, machine: Machine) -> str:
        parent = machine.record.host_config.cgroup_parent or self.defaults.cgroup_parent
        if parent:
            return cgroup.below(self.layout, parent, machine.id, systemd=self._systemd)
        return f"{self.cgroup_root}/{machine.id}"

    @staticmethod
    def is_foreign(machine: Machine) -> bool:
        """Whether another runtime has started it, or would."""
        return machine.record.host_config.runtime not in OWN_NAMES

    def emit(self, machine: Machine, action: str, **attributes: str) -> None:
        """An event of a container, with the attributes Docker gives it: image, name, labels."""
        config = machine.record.config
        self.events.emit(
            "container",
            action,
            machine.id,
            {**(config.labels or {}), "image": machine.record.image, "name": machine.name, **attributes},
        )

    def emit_surroundings(self, machine: Machine, endpoints: Iterable[Endpoint], *, begin: bool) -> None:
        """Events of networks and volumes of a container that starts or has ended, which has or had these endpoints."""
        record = machine.record
        for network in self._joined(record, endpoints):
            attributes = {"container": machine.id, "name": network.name, "type": network.driver}
            self.events.emit("network", "connect" if begin else "disconnect", network.id, attributes)
        for point in record.mounts:
            if point.type == "volume":
                attributes = {"container": machine.id, "driver": point.driver}
                if begin:
                    attributes |= {"destination": point.destination, "propagation": point.propagation}
                    attributes["read/write"] = str(point.rw).lower()
                self.events.emit("volume", "mount" if begin else "unmount", point.name, attributes)

    def _joined(self, record: ContainerRecord, endpoints: Iterable[Endpoint]) -> list[Network]:
        mode = record.host_config.network_mode
        if mode in ("host", "none") and not record.config.network_disabled:
            return [self.networks.get(mode)]
        return [self.networks.get(endpoint.network_id) for endpoint in endpoints]

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task the engine owns and awaits in `quiesce`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def quiesce(self) -> None:
        """Until nothing is being torn down any more."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))
