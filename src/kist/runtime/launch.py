"""What the engine tells the runtime about a container it is to start."""

from __future__ import annotations

import msgspec

from kist.model.mount import Mount
from kist.model.network import Link
from kist.runtime.oci import Rlimit, Seccomp, Spec


class LogSetup(msgspec.Struct, frozen=True):
    """Where the monitor writes the json-file log; `path` empty: nothing is written (driver none).

    `wake` and `shipped` belong to the shipper (kist.shipper.spool) where there is one; `bound`: so many bytes may wait
    for it before the container's output is not read any more, 0 for no bound.
    """

    path: str = ""
    max_size: int | None = None  # bytes
    max_files: int = 1
    attrs: dict[str, str] | None = None
    compress: bool = False  # what is rotated will be compressed, by somebody else
    wake: str = ""
    shipped: str = ""
    bound: int = 0


class ForeignRuntime(msgspec.Struct, frozen=True):
    """An OCI runtime command that is not this engine's own: `path`, with `args` before its own words."""

    name: str
    path: str
    args: tuple[str, ...] = ()


class LaunchRequest(msgspec.Struct, frozen=True):
    container_id: str
    spec: Spec
    user: str  # `user[:group]`, looked up in the container's own files
    extra_groups: tuple[str, ...]
    rootfs: tuple[Mount, ...]  # the first is the root, the others are mounted inside
    links: tuple[Link, ...]
    log: LogSetup
    run_dir: str  # <exec-root>/containers/<id>: the monitor's socket, exit file; private to root
    root_dir: str  # an empty directory over which the root is mounted, in the container's namespace only
    cgroup: str  # below each hierarchy's root
    open_stdin: bool = False
    stdin_once: bool = False
    seccomp_program: bytes = b""
    seccomp_flags: int = 0
    loopback: bool = True  # a network namespace of its own, whose lo is to be raised
    dns: bool = False  # a name server at 127.0.0.11: its sockets are made, and kept by the monitor (its `nameserver`)
    foreign: ForeignRuntime | None = None  # what starts it; None: this engine
    seccomp: Seccomp | None = None  # for that one, which compiles the filter itself
    keyring: str | None = None  # name of the session keyring: None for one from the id, "" for the caller's own


class ExecRequest(msgspec.Struct, frozen=True):
    """A process beside the container's first."""

    exec_id: str
    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    extra_groups: tuple[str, ...]
    tty: bool
    stdin: bool
    stdout: bool
    stderr: bool
    console_size: tuple[int, int]
    capabilities: tuple[str, ...]
    no_new_privileges: bool
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int | None = None
    seccomp_program: bytes = b""
    seccomp_flags: int = 0
    user_namespace: bool = False
