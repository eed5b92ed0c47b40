"""What kistd tells a monitor about the container it is to start.

The runtime room turns a LaunchRequest into a plan (a list of operations); only the plan travels to the monitor.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kist.model.mount import Mount
from kist.model.network import Link


class NetworkSetup(msgspec.Struct, frozen=True):
    """`mode`: host (no namespace), none (a namespace with lo), bridge (links), join (the namespace of `join_pid`)."""

    mode: str
    links: tuple[Link, ...] = ()
    join_pid: int = 0


class LogSetup(msgspec.Struct, frozen=True):
    """Where the monitor writes the json-file log; `path` empty: nothing is written (driver none)."""

    path: str = ""
    max_size: int | None = None  # bytes
    max_files: int = 1
    attrs: dict[str, str] | None = None  # labels and environment shown with `logs --details`


class LaunchRequest(msgspec.Struct, frozen=True):
    container_id: str
    oci: dict[str, Any]  # the OCI runtime-spec configuration, as JSON-ready data
    rootfs: tuple[Mount, ...]  # mounted one after the other at oci["root"]["path"], in the container's namespace only
    network: NetworkSetup
    log: LogSetup
    run_dir: str  # <exec-root>/containers/<id>: the monitor's socket, exit file and pid file; private to root
    cgroup: str  # path below each hierarchy's root, "kist/<instance>/<id>" or what --cgroup-parent makes of it
    monitor_cgroup: str  # where the monitor itself lives
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    console_size: tuple[int, int] = (0, 0)  # height, width; zero: unknown
    init_binary: str = ""  # host path of the reaper for --init, bind-mounted at /sbin/docker-init; "": none
    seccomp_program: bytes = b""  # compiled classic BPF, empty: no filter
    seccomp_flags: int = 0
    files: dict[str, str] = {}  # path inside -> host path of hosts, hostname, resolv.conf bind mounts
    detach_keys: str = ""
