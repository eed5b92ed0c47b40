"""The composition root: settings become services, services become routes."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from kist.api.absent import add_absent
from kist.api.app import App
from kist.api.archive import FileRoutes
from kist.api.checkpoints import CheckpointRoutes
from kist.api.containers import ContainerRoutes
from kist.api.events import EventRoutes
from kist.api.execs import ExecRoutes
from kist.api.images import ImageRoutes
from kist.api.networks import NetworkRoutes
from kist.api.stats import StatsRoutes
from kist.api.system import SystemRoutes
from kist.api.usage import DiskUsage
from kist.api.volumes import VolumeFileRoutes, VolumeRoutes
from kist.api.websocket import WebsocketRoutes
from kist.container.cdi import Registry
from kist.container.connecting import Connecting
from kist.container.create import Created, CreateRequest
from kist.container.engine import Defaults, Engine, Runtimes
from kist.container.events import EventBus
from kist.container.execs import Execs
from kist.container.files import ContainerFiles
from kist.container.index import Index
from kist.container.lifecycle import Lifecycle
from kist.container.logging import check_log_config, check_log_driver
from kist.container.machine import Machine
from kist.container.probing import Probing
from kist.container.recovery import Recovery
from kist.container.service import ContainerService
from kist.container.shipping import Shipping
from kist.container.unhealthy import Unhealthy
from kist.container.volume_files import VolumeFiles
from kist.daemon import facts
from kist.daemon.durability import LateSync
from kist.http.router import Router
from kist.image.service import ImageService
from kist.image.transfer import Transfer
from kist.kernel import aside, cgroup
from kist.logs.reader import LogOptions
from kist.model.config import ContainerConfig, EndpointSettings, HostConfig, LogConfig
from kist.model.errors import InvalidParameter, KistError
from kist.network.default_bridge import BridgeSettings
from kist.network.repairing import Repairing
from kist.network.service import NetworkService
from kist.runtime import seccomp, spec
from kist.runtime.launch import ForeignRuntime
from kist.runtime.supervisor import Supervisor
from kist.settings.load import Settings
from kist.settings.options import OPTIONS
from kist.snapshot.base import DirectoryDriver
from kist.snapshot.contract import SnapshotRecord
from kist.snapshot.overlay import OverlayDriver
from kist.snapshot.vfs import VfsDriver
from kist.store.content import ContentStore
from kist.store.database import Database, Records
from kist.store.instance import Instance
from kist.volume.plugins import Plugins
from kist.volume.service import VolumeService

log = logging.getLogger(__name__)
_DRIVERS: dict[str, type[DirectoryDriver]] = {"overlay": OverlayDriver, "overlay2": OverlayDriver, "vfs": VfsDriver}


class Daemon:
    """Everything of one running kistd. `start` and `close` are its life. The instance's locks are the caller's."""

    def __init__(self, settings: Settings, instance: Instance) -> None:
        self.settings = settings
        self.data_root, self.exec_root = settings.text("data-root"), settings.text("exec-root")
        self._instance = instance
        try:
            self._build()
        except OSError as error:
            raise KistError(f"{error.filename or self.data_root}: {error.strerror or error}") from error

    def _build(self) -> None:
        settings = self.settings
        for directory in ("containers", "rootfs"):
            os.makedirs(f"{self.exec_root}/{directory}", mode=0o700, exist_ok=True)
        os.makedirs(f"{self.data_root}/containers", mode=0o710, exist_ok=True)
        self._database = Database(f"{self.data_root}/kist.db")
        self._late_sync = LateSync(self._database)
        self.events = EventBus()
        layout = cgroup.detect()
        snapshotter = self._snapshotter()
        images = ImageService(
            self._database,
            ContentStore(f"{self.data_root}/content"),
            snapshotter,
            lambda action, image_id, attributes: self.events.emit("image", action, image_id, attributes),
        )
        volumes = VolumeService(
            self._database,
            f"{self.data_root}/volumes",
            lambda action, name, driver: self.events.emit("volume", action, name, {"driver": driver}),
            Plugins(settings.text("plugin-socket-dir"), settings.words("plugin-spec-dir")),
        )
        root = f"kist/{self._instance.id}"
        defaults, init_binary = self._defaults(), self._init_binary()
        cgroup.make(layout, root)
        cgroup.hand_down_cpuset(layout, root)
        networks = NetworkService(
            self._database,
            self._instance.id,
            self._bridge_settings(),
            lambda action, network, more: self.events.emit(
                "network", action, network.id, {"name": network.name, "type": network.driver, **more}
            ),
        )
        networks.start()  # last: nothing fails behind it, so a refused start leaves no bridge
        index = Index(self._database)
        self.engine = Engine(
            index=index,
            images=images,
            snapshotter=snapshotter,
            volumes=volumes,
            networks=networks,
            supervisor=Supervisor(f"{root}/engine"),
            events=self.events,
            layout=layout,
            limits=facts.host_limits(layout, networks.forwarding, root),
            host=facts.host_facts(settings, layout, init_binary),
            defaults=defaults,
            data_root=self.data_root,
            exec_root=self.exec_root,
            cgroup_root=root,
            shipping=Shipping(self.data_root, self.exec_root, f"{root}/engine", index.all),
            cdi=Registry(settings.words("cdi-spec-dir")),
            runtimes=runtimes(settings),
        )
        self._repairing: Repairing | None = None
        images.users = self._holders_of_image
        volumes.users = self._users_of_volume
        networks.users = self._users_of_network
        volumes.runs = self._runs
        self.lifecycle = Lifecycle(self.engine)
        self.execs = Execs(self.engine)
        self._probing = Probing(self.engine, self.execs, Unhealthy(self.engine, self.lifecycle).heard)
        self.engine.changed = self._probing.follow
        self.containers = ContainerService(self.engine, self.lifecycle, self.execs)
        self.transfer = Transfer(images, snapshotter)

    def _snapshotter(self) -> DirectoryDriver:
        """The driver that was asked for, or the best that works on this data root. Raises KistError."""
        name = self.settings.text("storage-driver")
        if not name:
            name = self._best_driver()
        driver = _DRIVERS.get(name)
        if driver is None:
            raise InvalidParameter(f"unknown storage driver {name!r}: use one of overlay, vfs")
        name = driver.name
        problem = overlay_problem(self.data_root) if name == "overlay" else ""
        if problem:
            raise KistError(f"{problem}: use --storage-driver=vfs or another data root")
        records: Records[SnapshotRecord] = Records(self._database, f"snapshot-{name}", SnapshotRecord)
        return driver(f"{self.data_root}/{name}", records)

    def _best_driver(self) -> str:
        """The one whose snapshots are here already, or else overlay where it works."""
        for name in dict.fromkeys(driver.name for driver in _DRIVERS.values()):
            if self._database.items(f"snapshot-{name}"):
                return name
        problem = overlay_problem(self.data_root)
        if problem:
            log.warning("%s: the vfs driver is used instead, which copies whole images for each container", problem)
        return "vfs" if problem else "overlay"

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
        """Raises KistError for defaults that no container could be made with."""
        settings = self.settings
        gateways = settings.words("host-gateway-ip")
        if len(gateways) > 1:
            raise KistError(f"--host-gateway-ip {','.join(gateways)}: one address is supported by this engine")
        driver = settings.text("log-driver")
        try:
            check_log_driver(driver)
        except InvalidParameter as error:
            text = f"failed to set log opts: logger: no log driver named '{driver}' is registered"
            raise KistError(text) from error
        try:
            check_log_config(LogConfig(driver, settings.mapping("log-opt")))
        except KistError as error:
            raise KistError(f"failed to set log opts: {error.message}") from error
        return Defaults(
            log_driver=settings.text("log-driver"),
            log_options=settings.mapping("log-opt"),
            dns=settings.words("dns"),
            dns_options=settings.words("dns-opt"),
            dns_search=settings.words("dns-search"),
            host_gateway=gateways[0] if gateways else "",
            seccomp_profile=self._seccomp_profile(),
            cgroup_parent=settings.text("cgroup-parent"),
            publish_address=settings.text("ip"),
        )

    def _seccomp_profile(self) -> str:
        """`builtin`, `unconfined`, or the path of a profile that can be read and used."""
        path = self.settings.text("seccomp-profile") or "builtin"
        if path in ("builtin", "unconfined"):
            return path
        try:
            with open(path, encoding="utf-8") as file:
                seccomp.user_program(file.read(), frozenset())
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not UTF-8"
            raise KistError(f"opening seccomp profile ({path}) failed: open {path}: {reason}") from error
        except KistError as error:
            raise KistError(f"seccomp profile ({path}): {error.message}") from error
        return path

    def _init_binary(self) -> str:
        """The reaper of --init, where its mode bits are certain: a package's data may have lost them."""
        given = self.settings.text("init-path")
        if given and not os.access(given, os.X_OK):
            raise KistError(f"--init-path {given}: there is no such file that can be executed")
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

    def _users_of_network(self, network_id: str) -> list[tuple[str, str]]:
        return [
            (machine.name, endpoint.id)
            for machine in self.engine.index.all()
            for endpoint in machine.record.endpoints
            if endpoint.network_id == network_id
        ]

    def _holders_of_image(self, image_id: str) -> list[Any]:
        """Containers made from an image, and those in which it is mounted."""

        def holds(machine: Machine) -> bool:
            record = machine.record
            return record.image_id == image_id or any(point.image == image_id for point in record.mounts)

        return [machine for machine in self.engine.index.all() if holds(machine)]

    def _users_of_volume(self, name: str) -> list[str]:
        def uses(machine: Machine) -> bool:
            return any(point.type == "volume" and point.name == name for point in machine.record.mounts)

        return [machine.id for machine in self.engine.index.all() if uses(machine)]

    def _runs(self, container: str) -> bool:
        return any(machine.id == container and machine.state.alive for machine in self.engine.index.all())

    def apply(self, settings: Settings) -> None:
        """Settings after a reload: what may change without a restart takes effect, and whoever listens hears of it."""
        self.settings = settings
        self.engine.host = msgspec.structs.replace(
            self.engine.host, default_shm_size=settings.number("default-shm-size")
        )
        self.engine.runtimes = runtimes(settings)
        attributes = {option.json_key: _told(settings.options[option.name]) for option in OPTIONS if option.reload}
        self.events.emit("daemon", "reload", self._instance.id, {"name": os.uname().nodename, **attributes})

    # --- life ---

    async def start(self) -> None:
        """Brings the zygote up and finds what an earlier kistd left."""
        await self.engine.supervisor.start()
        self._repairing = self.engine.networks.watch()
        await Recovery(self.engine, self.lifecycle, self.execs).run()
        self.engine.images.collect()
        await asyncio.to_thread(self.engine.snapshotter.collect)

    async def close(self) -> None:
        """Lets go of everything; containers go on."""
        await self._probing.close()
        await self.engine.quiesce()
        await self.engine.volumes.close()
        for machine in self.engine.index.all():
            machine.close()
        self.engine.shipping.close()
        await self.engine.supervisor.close()
        if not any(machine.state.alive for machine in self.engine.index.all()):
            self.engine.networks.close_openings()
        if self._repairing is not None:
            self._repairing.close()
        self.engine.networks.close()
        self.engine.naming.close()
        self.engine.index.flush()
        await self._late_sync.close()
        self._database.close()

    # --- routes ---

    def app(self) -> App:
        router = Router()
        containers, experimental = self.containers, self.settings.flag("experimental")
        CheckpointRoutes(containers, experimental=experimental).add_to(router)  # before names that may have slashes
        ContainerRoutes(
            containers,
            self.engine.images,
            self._create,
            self._logs,
            self._pruned,
            cgroup2=self.engine.layout.is_v2,
            default_network=self.engine.networks.default_mode,
            experimental=experimental,
        ).add_to(router)
        StatsRoutes(containers).add_to(router)
        WebsocketRoutes(containers, self._logs).add_to(router)
        ExecRoutes(containers).add_to(router)
        FileRoutes(ContainerFiles(self.engine)).add_to(router)
        ImageRoutes(
            self.engine.images,
            self.transfer,
            lambda image_id: len(self._users_of_image(image_id)),
            self.engine.snapshotter.name,
            self._pruned,
        ).add_to(router)
        VolumeRoutes(self.engine.volumes, self._pruned).add_to(router)
        NetworkRoutes(self.engine.networks, Connecting(self.engine), containers.all, self._pruned).add_to(router)
        VolumeFileRoutes(VolumeFiles(self.engine)).add_to(router)
        usage = DiskUsage(
            self.engine.images,
            containers,
            self.engine.volumes,
            self.transfer.layer_sizes,
            lambda image_id: len(self._users_of_image(image_id)),
        )
        SystemRoutes(
            facts.version(experimental=experimental),
            lambda: facts.info(self.engine, self.settings, self._instance.id),
            usage.collect,
            self.engine.quiesce,
            self._pruned,
        ).add_to(router)
        EventRoutes(self.events.listen).add_to(router)
        add_absent(router)
        return App(router, f"kist/{facts.ENGINE_VERSION} (linux)", experimental=experimental)

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


def runtimes(settings: Settings) -> Runtimes:
    """Those that --add-runtime and daemon.json name."""
    given = settings.options["add-runtime"]
    return Runtimes(
        {name: ForeignRuntime(name, one["path"], tuple(one["runtimeArgs"])) for name, one in given.items()},
        settings.text("default-runtime"),
    )


def _told(value: object) -> str:
    """A setting as the event of a reload has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return json.dumps(value, separators=(",", ":"))
    if isinstance(value, dict) and any(isinstance(one, dict) for one in value.values()):
        return " ".join(f"{name}:{value[name]['path']}" for name in sorted(value))
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{str(value[key]).lower()}' for key in sorted(value))}]"
    return str(value)


def overlay_problem(root: str) -> str:
    """Tries an overlay on this very directory, which tmpfs without xattrs, overlayfs and others cannot back.

    What is wrong, or "".
    """
    base = f"{root}/overlay-probe"
    try:
        for name in ("lower", "upper", "work"):
            os.makedirs(f"{base}/{name}", exist_ok=True)
        options = [f"lowerdir={base}/lower", f"upperdir={base}/upper", f"workdir={base}/work"]
        os.close(aside.detached_overlay("overlay", options))
        return ""
    except OSError as error:
        if error.errno == errno.ENODEV:
            return "this kernel has no overlayfs (try: modprobe overlay)"
        return f"overlayfs does not work on {root} ({(error.strerror or str(error)).lower()})"
    finally:
        for path in (f"{base}/work/work", f"{base}/work/index", f"{base}/lower", f"{base}/upper", f"{base}/work", base):
            try:
                os.rmdir(path)
            except OSError:
                continue
