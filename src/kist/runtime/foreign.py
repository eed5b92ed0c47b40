"""What another OCI runtime is told: the same configuration as this engine carries out itself, as config.json.

What such a container cannot have is refused when it is made (`problem`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from kist.kernel import const
from kist.kernel.cgroup import Layout
from kist.model.container import MountPoint
from kist.monitor import operations as do
from kist.runtime import oci, plan
from kist.runtime.launch import ExecRequest, LaunchRequest
from kist.runtime.plan import Start

_VERSION = "1.0.2"  # what a configuration of this engine needs, which older runtimes know


def problem(mounts: Sequence[MountPoint], ipc_mode: str) -> str:
    """Why a container cannot be one of another runtime's, or ""."""
    if ipc_mode.startswith("container:"):
        return "--ipc container: (the /dev/shm of another container)"
    for mount in mounts:
        if mount.id_map is not None:
            return f"mount {mount.destination}: mapped ids"
        if mount.image:
            return f"mount {mount.destination}: an image"
        if mount.subpath:
            return f"mount {mount.destination}: a part of a volume"
        if mount.propagation in ("shared", "rshared"):
            return f"mount {mount.destination}: propagation {mount.propagation}"
    return ""


def launch(request: LaunchRequest, layout: Layout) -> Start:
    """As `plan.launch`; the plan is what `monitor.foreign.start` reads."""
    assert request.foreign is not None
    root, *inside = request.rootfs
    attributes, options, _ = plan.split_options(root.options)
    steps: list[do.Operation] = [
        do.IsolateMounts(const.MS_SLAVE | const.MS_REC),
        do.MountRoot(root.type, root.source, options, attributes, request.root_dir),
    ]
    steps += [plan.mount_step(oci.Mount(one.target, one.type, one.source, one.options)) for one in inside]
    network = [*plan.own_links(request), *plan.network_steps(request)] if request.links else []
    given = {
        "spec": _configuration(request),
        "user": request.user,
        "groups": list(request.extra_groups),
        "root": do.encode(steps),
        "network": do.encode(network),
    }
    runtime = {
        "path": request.foreign.path,
        "args": list(request.foreign.args),
        "id": request.container_id,
        "directory": request.run_dir,
        "cgroup": request.cgroup,
    }
    message = {"command": "launch", "config": {**plan.start_config(request), "runtime": runtime}, "before": []}
    return Start(message, json.dumps(given, separators=(",", ":")).encode())


def _configuration(request: LaunchRequest) -> dict[str, Any]:
    """config.json but for the user, whom the starter looks up, and the network namespace that it makes."""
    spec = request.spec
    namespaces = tuple(one for one in spec.linux.namespaces if not (request.links and one.type == "network"))
    sysctl = dict(spec.linux.sysctl)
    if spec.domainname:  # a property since version 1.1 only
        sysctl["kernel.domainname"] = spec.domainname
    linux = msgspec.structs.replace(
        spec.linux,
        namespaces=namespaces,
        cgroups_path=f"/{request.cgroup}",
        seccomp=request.seccomp,
        sysctl=sysctl,
    )
    return oci.to_json(msgspec.structs.replace(spec, linux=linux, oci_version=_VERSION, domainname=""))


def exec_start(request: ExecRequest) -> Start:
    """As `plan.exec_start`. The runtime has the filter of the container, and joins its namespaces."""
    sets = oci.Capabilities(request.capabilities, request.capabilities, (), request.capabilities)
    height, width = request.console_size
    process = oci.Process(
        cwd=request.cwd,
        args=request.args,
        env=request.env,
        terminal=request.tty,
        console_size={"height": height, "width": width} if height and width else None,
        capabilities=sets,
        rlimits=request.rlimits,
        no_new_privileges=request.no_new_privileges,
        oom_score_adj=request.oom_score_adj,
    )
    given = {
        "process": msgspec.json.decode(msgspec.json.encode(process)),
        "user": request.user,
        "groups": list(request.extra_groups),
    }
    config = {"tty": request.tty, "stdin": request.stdin, "stdout": request.stdout, "stderr": request.stderr}
    message = {"command": "exec", "id": request.exec_id, "config": config}
    return Start(message, json.dumps(given, separators=(",", ":")).encode())
