"""What the engine says about itself and the machine: /version, /info, and the limits the kernel can set."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

from kist import __version__
from kist.api.compat import API_VERSION, MINIMUM_VERSION
from kist.container.engine import Engine
from kist.container.logging import driver_names
from kist.container.validate import HostLimits
from kist.image.service import host_architecture
from kist.kernel import caps, cgroup
from kist.kernel.cgroup import Layout, read
from kist.runtime.spec import Host
from kist.settings.load import Settings

# The version of dockerd whose behaviour this engine has; clients compare it.
DOCKER_VERSION = "28.5.2"
ENGINE_VERSION = f"{DOCKER_VERSION}+kist.{__version__}"


def host_limits(layout: Layout, forwarding: bool, group: str) -> HostLimits:
    """What the cgroup controllers of this host can do. `group` is the engine's own."""
    return HostLimits(
        cpu_count=os.cpu_count() or 1,
        cpus=_numbers(read("/sys/devices/system/cpu/online")),
        mems=_numbers(read("/sys/devices/system/node/online") or "0"),
        forwarding=forwarding,
        **(v2_limits(layout, group) if layout.is_v2 else v1_limits(layout)),
    )


def v1_limits(layout: Layout) -> dict[str, bool]:
    """By the files in the hierarchies' roots, which show what groups have."""

    def has(controller: str, name: str) -> bool:
        root = layout.path(controller, "")
        return bool(root) and os.path.exists(f"{root}/{name}")

    return {
        "memory": "memory" in layout.v1,
        "swap": has("memory", "memory.memsw.limit_in_bytes"),
        "swappiness": has("memory", "memory.swappiness"),
        "reservation": "memory" in layout.v1,
        "oom_kill_disable": has("memory", "memory.oom_control"),
        "pids": "pids" in layout.v1,
        "cpu_shares": "cpu" in layout.v1,
        "cpu_quota": has("cpu", "cpu.cfs_quota_us"),
        "cpu_realtime": has("cpu", "cpu.rt_period_us"),
        "cpuset": "cpuset" in layout.v1,
        "blkio_weight": has("blkio", "blkio.bfq.weight"),
        "blkio_throttle": has("blkio", "blkio.throttle.read_bps_device"),
    }


def v2_limits(layout: Layout, group: str) -> dict[str, bool]:
    """By the controllers that there are; what a kernel may leave out of one shows in a group made below the engine's,
    as those of containers are. Who made this tree may have kept controllers for itself.
    """
    probe = f"{group}/probe"
    cgroup.make_with_controllers(layout, probe)
    try:
        return _of_group(layout.path("", probe))
    finally:
        cgroup.remove(layout, probe)


def _of_group(directory: str) -> dict[str, bool]:
    controllers = set(read(f"{directory}/cgroup.controllers").split())

    def has(controller: str, *names: str) -> bool:
        return controller in controllers and any(os.path.exists(f"{directory}/{name}") for name in names)

    return {
        "memory": "memory" in controllers,
        "swap": has("memory", "memory.swap.max"),  # CONFIG_SWAP, and not swapaccount=0
        "swappiness": False,
        "reservation": "memory" in controllers,
        "oom_kill_disable": False,
        "pids": "pids" in controllers,
        "cpu_shares": "cpu" in controllers,
        "cpu_quota": has("cpu", "cpu.max"),  # CONFIG_CFS_BANDWIDTH
        "cpu_realtime": False,
        "cpuset": "cpuset" in controllers,
        "blkio_weight": has("io", "io.bfq.weight", "io.weight"),
        "blkio_throttle": has("io", "io.max"),  # CONFIG_BLK_DEV_THROTTLING
    }


def _numbers(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def host_facts(settings: Settings, layout: Layout, init_binary: str) -> Host:
    return Host(
        capabilities=frozenset(caps.names(caps.current()["prm"])),
        ping_sysctls=os.path.exists("/proc/sys/net/ipv4/ping_group_range"),
        default_ulimits=tuple(settings.options["default-ulimit"]),
        default_shm_size=settings.number("default-shm-size"),
        no_new_privileges=settings.flag("no-new-privileges"),
        cgroupns=settings.text("default-cgroupns-mode"),
        ipc=settings.text("default-ipc-mode"),
        init=settings.flag("init"),
        init_binary=init_binary,
    )


def version(*, experimental: bool) -> dict[str, Any]:
    """The answer of /version, but for the API versions."""
    uname = os.uname()
    details = {
        "ApiVersion": API_VERSION,
        "Arch": host_architecture(),
        "BuildTime": "",
        "Experimental": str(experimental).lower(),
        "GitCommit": "kist",
        "KernelVersion": uname.release,
        "MinAPIVersion": MINIMUM_VERSION,
        "Os": "linux",
    }
    return {
        "Platform": {"Name": f"kist {__version__}"},
        "Components": [{"Name": "Engine", "Version": ENGINE_VERSION, "Details": details}],
        "Version": ENGINE_VERSION,
        "GitCommit": "kist",
        "GoVersion": "",
        "Os": "linux",
        "Arch": host_architecture(),
        "KernelVersion": uname.release,
        **({"Experimental": True} if experimental else {}),
    }


def _os_release() -> dict[str, str]:
    found = {}
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, equals, value = line.strip().partition("=")
                if equals:
                    found[key] = value.strip("\"'")
    except OSError:
        pass
    return found


def _runtimes(engine: Engine) -> dict[str, Any]:
    return {
        name: {"path": one.path, **({"runtimeArgs": list(one.args)} if one.args else {})}
        for name, one in engine.runtimes.foreign.items()
    }


def info(engine: Engine, settings: Settings, engine_id: str) -> dict[str, Any]:
    """The answer of /info. What this engine does not have is there with Docker's value for `none`."""
    states = [machine.state for machine in engine.index.all()]
    release, limits = _os_release(), engine.limits
    devices, problems = engine.cdi.devices()
    running = sum(state.alive and not state.paused for state in states)
    paused = sum(state.paused for state in states)
    return {
        "ID": engine_id,
        "Containers": len(states),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(states) - running - paused,
        "Images": len(engine.images.all()),
        "Driver": engine.snapshotter.name,
        "DriverStatus": [["Data Root", engine.data_root]],
        "Plugins": {"Volume": sorted({"local", *engine.volumes.plugins.names()}),
                    "Network": ["bridge", "host", "null"], "Authorization": None, "Log": driver_names()},
        "MemoryLimit": limits.memory,
        "SwapLimit": limits.swap,
        "CpuCfsPeriod": limits.cpu_quota,
        "CpuCfsQuota": limits.cpu_quota,
        "CPUShares": limits.cpu_shares,
        "CPUSet": limits.cpuset,
        "PidsLimit": limits.pids,
        "IPv4Forwarding": limits.forwarding,
        "Debug": settings.flag("debug"),
        "NFd": len(os.listdir("/proc/self/fd")),
        "OomKillDisable": limits.oom_kill_disable,
        "NGoroutines": 1,
        "SystemTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "LoggingDriver": engine.defaults.log_driver,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2" if engine.layout.is_v2 else "1",
        "NEventsListener": 0,
        "KernelVersion": platform.release(),
        "OperatingSystem": release.get("PRETTY_NAME", "Linux"),
        "OSVersion": release.get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": platform.machine(),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {"InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": []},
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "GenericResources": None,
        "DockerRootDir": engine.data_root,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Name": os.uname().nodename,
        "Labels": list(settings.words("label")),
        "ExperimentalBuild": settings.flag("experimental"),
        "ServerVersion": ENGINE_VERSION,
        "Runtimes": {"kist": {"path": "kist"}, **_runtimes(engine)},
        "DefaultRuntime": engine.runtimes.default,
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": "",
                  "RemoteManagers": None},
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "kist-init",
        "FirewallBackend": {"Driver": "nftables"},
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": [f"name=seccomp,profile={engine.defaults.seccomp_profile}", "name=cgroupns",
                            *(["name=no-new-privileges"] if engine.host.no_new_privileges else [])],
        "CDISpecDirs": list(engine.cdi.directories),
        **({"DiscoveredDevices": [{"Source": "cdi", "ID": name} for name in sorted(devices)]} if devices else {}),
        "Warnings": problems or None,
    }  # fmt: skip
