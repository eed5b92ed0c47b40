"""The composition root: settings become services, services become routes."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kist.api.absent import add_absent
from kist.api.app import App
from kist.api.containers import ContainerRoutes
from kist.api.execs import ExecRoutes
from kist.api.images import ImageRoutes
from kist.api.networks import NetworkRoutes
from kist.api.system import SystemRoutes
from kist.api.usage import DiskUsage
from kist.api.volumes import VolumeRoutes
from kist.container.create import Created, CreateRequest
from kist.container.engine import Defaults, Engine
from kist.container.events import EventBus
from kist.container.execs import Execs
from kist.container.index import Index
from kist.container.lifecycle import Lifecycle
from kist.container.machine import Machine
from kist.container.recovery import Recovery
from kist.container.service import ContainerService
from kist.daemon import facts
from kist.http.router import Router
from kist.image.service import ImageService
from kist.image.transfer import Transfer
from kist.kernel import cgroup, mount
from kist.logs.reader import LogOptions
from kist.model.config import ContainerConfig, EndpointSettings, HostConfig
from kist.model.errors import InvalidParameter, KistError
from kist.network.service import BridgeSettings, NetworkService
from kist.runtime import spec
from kist.runtime.supervisor import Supervisor
from kist.settings.load import Settings
from kist.snapshot.base import DirectoryDriver
from kist.snapshot.contract import SnapshotRecord
from kist.snapshot.overlay import OverlayDriver
from kist.snapshot.vfs import VfsDriver
from kist.store.content import ContentStore
from kist.store.database import Database, Records
from kist.store.instance import Instance
from kist.volume.service import VolumeService

log = logging.getLogger(__name__)
_DRIVERS: dict[str, type[DirectoryDriver]] = {"overlay": OverlayDriver, "overlay2": OverlayDriver, "vfs": VfsDriver}


class Daemon:
    """Everything of one running kistd. `start` and `close` are its life."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data_root, self.exec_root = settings.text("data-root"), settings.text("exec-root")
        self._instance = Instance(self.data_root, self.exec_root)
        try:
            self._build()
        except BaseException:
            self._instance.close()
            raise

    def _build(self) -> None:
        settings = self.settings
        for directory in ("containers", "rootfs"):
            os.makedirs(f"{self.exec_root}/{directory}", mode=0o700, exist_ok=True)
        os.makedirs(f"{self.data_root}/containers", mode=0o710, exist_ok=True)
        self._database = Database(f"{self.data_root}/kist.db")
        self.events = EventBus()
        layout = cgroup.detect()
        snapshotter = self._snapshotter()
        images = ImageService(
            self._database,
            ContentStore(f"{self.data_root}/content"),
            snapshotter,
            lambda action, image_id, name: self.events.emit("image", action, image_id, {"name": name}),
        )
        volumes = VolumeService(
            self._database,
            f"{self.data_root}/volumes",
            lambda action, name, driver: self.events.emit("volume", action, name, {"driver": driver}),
        )
        networks = NetworkService(self._database, self._instance.id, self._bridge_settings())
        networks.start()
        root = f"kist/{self._instance.id}"
        self.engine = Engine(
            index=Index(self._database),
            images=images,
            snapshotter=snapshotter,
            volumes=volumes,
            networks=networks,
            supervisor=Supervisor(f"{root}/engine"),
            events=self.events,
            layout=layout,
            limits=facts.host_limits(layout, networks.forwarding),
            host=facts.host_facts(settings, layout, self._init_binary()),
            defaults=self._defaults(),
            data_root=self.data_root,
            exec_root=self.exec_root,
            cgroup_root=root,
        )
        images.users = self._users_of_image
        volumes.users = self._users_of_volume
        self.lifecycle = Lifecycle(self.engine)
        self.execs = Execs(self.engine)
        self.containers = ContainerService(self.engine, self.lifecycle, self.execs)
        self.transfer = Transfer(images, snapshotter)

    def _snapshotter(self) -> DirectoryDriver:
        """The driver that was asked for, or the best that works on this data root. Raises KistError."""
        name = self.settings.text("storage-driver")
        if not name:
            name = "overlay" if overlay_works(self.data_root) else "vfs"
        driver = _DRIVERS.get(name)
        if driver is None:
            raise InvalidParameter(f"unknown storage driver {name!r}: use one of overlay, vfs")
        name = driver.name
        if name == "overlay" and not overlay_works(self.data_root):
            raise KistError(
                f"overlayfs does not work on {self.data_root}: use --storage-driver=vfs or another data root"
            )
        records: Records[SnapshotRecord] = Records(self._database, f"snapshot-{name}", SnapshotRecord)
        return driver(f"{self.data_root}/{name}", records)

    def _bridge_settings(self) -> BridgeSettings:
        settings = self.settings
        return BridgeSettings(
            bridge=settings.text("bridge"),
            address=settings.text("bip"),
            fixed_cidr=settings.text("fixed-cidr"),
            gateway=settings.text("default-gateway"),
            mtu=settings.number("mtu"),
            forward=settings.flag("ip-forward"),
            firewall=settings.flag("iptables"),
            masquerade=settings.flag("ip-masq"),
            icc=settings.flag("icc"),
            publish_open=settings.text("publish-policy") == "open",
        )

    def _defaults(self) -> Defaults:
        settings = self.settings
        gateways = settings.words("host-gateway-ip")
        return Defaults(
            log_driver=settings.text("log-driver"),
            log_options=settings.mapping("log-opt"),
            dns=settings.words("dns"),
            dns_options=settings.words("dns-opt"),
            dns_search=settings.words("dns-search"),
            host_gateway=gateways[0] if gateways else "",
            seccomp_profile=settings.text("seccomp-profile"),
            cgroup_parent=settings.text("cgroup-parent"),
            publish_address=settings.text("ip"),
        )

    def _init_binary(self) -> str:
        """The reaper of --init, where its mode bits are certain: a package's data may have lost them."""
        given = self.settings.text("init-path")
        if given:
            return given
        source = Path(spec.__file__).parent / "init" / f"{os.uname().machine}.bin"
        if not source.exists():
            return ""
        target = f"{self.exec_root}/docker-init"
        shutil.copyfile(source, f"{target}.new")
        os.chmod(f"{target}.new", 0o755)
        os.rename(f"{target}.new", target)
        return target

    def _users_of_image(self, image_id: str) -> list[Any]:
        return [machine for machine in self.engine.index.all() if machine.record.image_id == image_id]

    def _users_of_volume(self, name: str) -> list[str]:
        def uses(machine: Machine) -> bool:
            return any(point.type == "volume" and point.name == name for point in machine.record.mounts)

        return [machine.id for machine in self.engine.index.all() if uses(machine)]

    # --- life ---

    async def start(self) -> None:
        """Brings the zygote up and finds what an earlier kistd left."""
        await self.engine.supervisor.start()
        await Recovery(self.engine, self.lifecycle, self.execs).run()
        self.engine.images.collect()

    async def close(self) -> None:
        """Lets go of everything; containers go on."""
        await self.engine.quiesce()
        for machine in self.engine.index.all():
            machine.close()
        await self.engine.supervisor.close()
        if not any(machine.state.alive for machine in self.engine.index.all()):
            self.engine.networks.close_openings()
        self.engine.networks.close()
        self._database.close()
        self._instance.close()

    # --- routes ---

    def app(self) -> App:
        router = Router()
        containers = self.containers
        ContainerRoutes(containers, self._create, self._logs, cgroup2=self.engine.layout.is_v2).add_to(router)
        ExecRoutes(containers).add_to(router)
        ImageRoutes(
            self.engine.images,
            self.transfer,
            lambda image_id: len(self._users_of_image(image_id)),
            self.engine.snapshotter.name,
            self._pruned,
        ).add_to(router)
        VolumeRoutes(self.engine.volumes, self._pruned).add_to(router)
        NetworkRoutes(self.engine.networks, containers.all, self._pruned).add_to(router)
        usage = DiskUsage(
            self.engine.images,
            containers,
            self.engine.volumes,
            self.transfer.layer_sizes,
            lambda image_id: len(self._users_of_image(image_id)),
        )
        SystemRoutes(
            facts.version(),
            lambda: facts.info(self.engine, self.settings, self._instance.id),
            usage.collect,
            self.events.listen,
            self.engine.quiesce,
        ).add_to(router)
        add_absent(router)
        return App(router, f"kist/{facts.ENGINE_VERSION} (linux)")

    def _pruned(self, kind: str, freed: int) -> None:
        self.events.emit(kind, "prune", "", {"reclaimed": str(freed)})

    async def _create(
        self,
        config: ContainerConfig,
        host: HostConfig,
        networks: dict[str, EndpointSettings] | None,
        name: str,
        platform: str,
    ) -> Created:
        return await self.containers.create(CreateRequest(config, host, networks, name, platform))

    def _logs(self, name: str, options: dict[str, Any], follow: bool) -> AsyncIterator[bytes]:
        return self.containers.logs(name, LogOptions(**options), follow)


def overlay_works(root: str) -> bool:
    """Tries an overlay on this very directory: tmpfs without xattrs, overlayfs and others cannot back one."""
    base = f"{root}/overlay-probe"
    try:
        for name in ("lower", "upper", "work"):
            os.makedirs(f"{base}/{name}", exist_ok=True)
        options = [f"lowerdir={base}/lower", f"upperdir={base}/upper", f"workdir={base}/work"]
        os.close(mount.detached_mount("overlay", "overlay", options))
        return True
    except OSError:
        return False
    finally:
        for path in (f"{base}/work/work", f"{base}/work/index", f"{base}/lower", f"{base}/upper", f"{base}/work", base):
            try:
                os.rmdir(path)
            except OSError:
                continue
