"""A container as the engine remembers it: what was asked, what was resolved, and the state last observed."""

from __future__ import annotations

import msgspec

from kist.model.config import ContainerConfig, EndpointSettings, HostConfig
from kist.model.idmap import IDMap
from kist.model.network import Endpoint, PublishedPort

NEVER = "0001-01-01T00:00:00Z"  # Go's zero time, Docker's "not yet"


class ProbeResult(msgspec.Struct, frozen=True):
    """One run of a health check. Times are RFC 3339; `exit_code` -1: it did not run, or took too long."""

    start: str
    end: str
    exit_code: int
    output: str


class HealthState(msgspec.Struct, frozen=True):
    """What is known of a container that has a health check. `status` is starting, healthy or unhealthy."""

    status: str = "starting"
    failing_streak: int = 0
    log: tuple[ProbeResult, ...] = ()  # the latest, oldest first


class State(msgspec.Struct, frozen=True):
    """Observed, never intended. `status` is created, running, paused, restarting, removing, exited or dead."""

    status: str = "created"
    pid: int = 0
    pid_start: int = 0  # start time of pid in clock ticks since boot, so that a recycled pid is not taken for it
    monitor_pid: int = 0
    monitor_start: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: str = NEVER
    finished_at: str = NEVER
    boot_id: str = ""  # /proc/sys/kernel/random/boot_id when it was started
    paused_briefly: bool = False  # by the engine, which lets it go on by itself, after its own crash as well
    health: HealthState | None = None  # None: it has no health check

    @property
    def running(self) -> bool:
        return self.status in ("running", "paused", "restarting")

    @property
    def paused(self) -> bool:
        return self.status == "paused"

    @property
    def restarting(self) -> bool:
        return self.status == "restarting"

    @property
    def alive(self) -> bool:
        """There is a process: `restarting` is between two."""
        return self.status in ("running", "paused")


class MountPoint(msgspec.Struct, frozen=True):
    """One mount of a container after everything was resolved: what inspect shows and the runtime mounts."""

    type: str  # bind, volume, tmpfs, image
    destination: str  # absolute path inside
    source: str = ""  # path on the host ("" for tmpfs)
    name: str = ""  # of the volume
    driver: str = ""  # of the volume
    mode: str = ""  # as given after the second colon: "ro,z"
    rw: bool = True
    propagation: str = ""
    recursive: bool = True
    read_only_recursive: bool = True
    options: tuple[str, ...] = ()  # tmpfs options
    anonymous: bool = False  # a volume the engine named: goes with the container when rm says -v
    subpath: str = ""  # what of a volume or an image is shown: relative, as it was asked for
    copy_up: bool = False  # an empty volume is filled from the image once
    follows_if_possible: bool = False  # its propagation is the engine's choice: private where the source has none
    makes_source: bool = False  # a directory is made where a bind's source is missing at the start
    image: str = ""  # id of the image that is mounted
    id_map: IDMap | None = None  # of a bind: which ids of the source are shown as which
    driver_options: dict[str, str] | None = None  # for a volume that is made with the container, as are its labels
    labels: dict[str, str] | None = None


class LinkedContainer(msgspec.Struct, frozen=True):
    """A container that another one was linked to (--link): known inside that one by `alias`."""

    id: str
    name: str  # when the link was made: for who asks when it is gone
    alias: str


class ContainerRecord(msgspec.Struct, frozen=True):
    """Everything the store keeps of a container (one row). Paths are absolute."""

    id: str  # 64 hex digits
    name: str  # without the slash
    created: str  # RFC 3339, nanoseconds
    image: str  # as the user named it
    image_id: str
    config: ContainerConfig  # merged with the image's
    host_config: HostConfig
    networks: dict[str, EndpointSettings]  # as asked, by network name
    path: str  # argv[0]
    args: tuple[str, ...]
    mounts: tuple[MountPoint, ...]
    driver: str  # snapshot driver
    snapshot: str  # key of the writable snapshot
    state: State = State()
    endpoints: tuple[Endpoint, ...] = ()  # while it runs
    ports: tuple[PublishedPort, ...] = ()
    left_all: bool = False  # it was disconnected from every network; its next start joins that of its mode again
    restart_count: int = 0
    has_been_started: bool = False
    manually_stopped: bool = False
    platform: str = "linux"
    removing: bool = False
    links: tuple[LinkedContainer, ...] = ()
