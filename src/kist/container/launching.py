"""Everything a start needs before the monitor is told: addresses, ports, files, the OCI configuration."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Callable
from functools import partial

import msgspec

from kist.container import cdi, links, mounts, sources
from kist.container.engine import Engine
from kist.container.joining import check_exists, join, let_in, let_in_anew, publish
from kist.container.logging import log_setup
from kist.container.machine import Machine
from kist.container.naming import has_names, host_file, own_file
from kist.model.container import ContainerRecord
from kist.model.errors import Conflict, InvalidParameter, KistError
from kist.model.network import Endpoint, PublishedPort
from kist.network import files as texts
from kist.runtime import oci, seccomp
from kist.runtime.launch import ForeignRuntime, LaunchRequest, LogSetup
from kist.runtime.security import parse_security_options
from kist.runtime.spec import Joined, build_spec, capabilities_of

log = logging.getLogger(__name__)
_HOSTS_LIMIT = 1 << 20  # bytes
Prepared = tuple[LaunchRequest, tuple[Endpoint, ...], tuple[PublishedPort, ...]]


def prepare(engine: Engine, machine: Machine, address: str = "") -> Prepared:
    """Takes addresses and ports and writes files; what it took is given back when it fails. `address` is the one that
    the container is to have when it is free.
    """
    record = machine.record
    asked = record.host_config
    runtime = _runtime(engine, machine)
    joined = _joined(engine, machine)
    sources.settle(record.mounts)
    mounts.check_parts(engine, record.mounts)
    run_dir = engine.run_dir(machine)
    os.makedirs(run_dir, mode=0o700, exist_ok=True)
    for name in os.listdir(run_dir):
        try:
            os.unlink(f"{run_dir}/{name}")
        except IsADirectoryError:  # what another runtime keeps
            shutil.rmtree(f"{run_dir}/{name}")
    check_exists(engine, record)
    endpoints, veths = join(engine, machine, address)
    ports: tuple[PublishedPort, ...] = ()
    try:
        linked = links.linked(engine.index, record)
        ports = publish(engine, record, endpoints, let_in(engine, record, endpoints, linked))
        files = _write_files(engine, machine, endpoints, linked)
        program, flags = _filter(engine, machine) if runtime is None else (b"", 0)
        told = tuple(variable for link in linked for variable in link.environment())
        edits = engine.cdi.edits(asked.device_requests) if asked.device_requests else []
        spec = _spec(engine, msgspec.structs.replace(record, endpoints=endpoints), joined, files, edits, told)
        request = LaunchRequest(
            container_id=record.id,
            spec=spec,
            user=record.config.user,
            extra_groups=(*(asked.group_add or ()), *cdi.groups(edits)),
            rootfs=engine.snapshotter.mounts(record.snapshot),
            links=veths,
            log=log_setup(machine, engine.log_path(machine)),
            run_dir=run_dir,
            root_dir=f"{engine.exec_root}/rootfs",
            cgroup=engine.cgroup(machine),
            open_stdin=record.config.open_stdin,
            stdin_once=record.config.stdin_once,
            seccomp_program=program,
            seccomp_flags=flags,
            foreign=runtime,
            seccomp=None if runtime is None else _foreign_filter(engine, machine),
            dns=has_names(endpoints),
            loopback=asked.network_mode != "host" and not joined.network,
        )
    except BaseException:
        if ports:
            engine.networks.unpublish(machine.id)
        for endpoint in endpoints:
            engine.networks.detach(endpoint)
        raise
    return request, endpoints, ports


def _spec(
    engine: Engine,
    record: ContainerRecord,
    joined: Joined,
    files: dict[str, str],
    edits: list[cdi.Edits],
    told: tuple[str, ...] = (),
) -> oci.Spec:
    spec = build_spec(
        record,
        engine.host,
        joined,
        files,
        f"{engine.exec_root}/rootfs",
        linked=told,
        images=mounts.layers_of(engine, record.mounts),
    )
    return cdi.apply(spec, edits) if edits else spec


def mounted(engine: Engine, machine: Machine) -> LaunchRequest:
    """What a start is given as far as mounts are concerned, for whoever asks how a running container was mounted."""
    record = machine.record
    asked = record.host_config.device_requests
    spec = _spec(engine, record, Joined(), files_of(engine, machine), engine.cdi.edits(asked) if asked else [])
    return LaunchRequest(
        container_id=record.id,
        spec=spec,
        user="",
        extra_groups=(),
        rootfs=engine.snapshotter.mounts(record.snapshot),
        links=(),
        log=LogSetup(),
        run_dir=engine.run_dir(machine),
        root_dir=f"{engine.exec_root}/rootfs",
        cgroup=engine.cgroup(machine),
    )


def _runtime(engine: Engine, machine: Machine) -> ForeignRuntime | None:
    """Raises InvalidParameter when it is not registered any more."""
    if not engine.is_foreign(machine):
        return None
    name = machine.record.host_config.runtime
    if name not in engine.runtimes.foreign:
        raise InvalidParameter(f"unknown or invalid runtime name: {name}")
    return engine.runtimes.foreign[name]


def _joined(engine: Engine, machine: Machine) -> Joined:
    asked = machine.record.host_config
    paths = {}
    for field, kind, mode in (
        ("network", "net", asked.network_mode),
        ("pid", "pid", asked.pid_mode),
        ("ipc", "ipc", asked.ipc_mode),
    ):
        if mode.startswith("container:"):
            paths[field] = f"/proc/{_running_pid(engine, mode, field)}/ns/{kind}"
            if field == "ipc":
                paths["shm"] = paths["ipc"].replace("/ns/ipc", "/ns/mnt")
    return Joined(**paths)


def _running_pid(engine: Engine, mode: str, field: str) -> int:
    named = mode.partition(":")[2]
    other = engine.index.find(named)
    if field == "network" and other.state.restarting:
        raise Conflict(
            f"cannot join network namespace of container: Container {named} is restarting, wait until the "
            f"container is running"
        )
    other.check_not_restarting()
    if not other.state.alive:
        if field == "network":
            raise Conflict(f"cannot join network namespace of container: container {other.id} is not running")
        raise Conflict(f"failed to join {field.upper()} namespace: container {other.id} is not running")
    if field == "ipc" and other.record.host_config.ipc_mode not in ("shareable", "host"):
        raise InvalidParameter(
            f"failed to join IPC namespace: container {other.id}: non-shareable IPC "
            f"(hint: use IpcMode:shareable for the donor container)"
        )
    return other.state.pid


def _write_files(
    engine: Engine, machine: Machine, endpoints: tuple[Endpoint, ...], linked: list[links.Linked]
) -> dict[str, str]:
    """hosts, hostname and resolv.conf of this container, unless it has those of another one."""
    record, asked, defaults = machine.record, machine.record.host_config, engine.defaults
    directory = engine.directory(record.id)
    if not asked.network_mode.startswith("container:"):
        shares = asked.network_mode == "host"
        gateway = defaults.host_gateway or (engine.networks.get("bridge").gateway if _has_bridge(engine) else "")
        content = {
            "resolv.conf": resolv_conf(engine, record, endpoints),
            "hostname": f"{record.config.hostname}\n",
        }
        if shares and not asked.extra_hosts:
            content["hosts"] = host_file("/etc/hosts")
        else:
            addresses = [one for endpoint in endpoints for one in (endpoint.address, endpoint.address6) if one]
            content["hosts"] = texts.hosts(
                record.config.hostname,
                record.config.domainname,
                addresses,
                asked.extra_hosts or (),
                gateway,
                [(link.address, link.hosts_names) for link in linked],
            )
        for name, text in content.items():
            _write(f"{directory}/{name}", text)
    return files_of(engine, machine)


def resolv_conf(engine: Engine, record: ContainerRecord, endpoints: tuple[Endpoint, ...]) -> str:
    """The container's resolv.conf(5). Raises InvalidParameter for a name server that is no address."""
    if has_names(endpoints):
        return own_file(record, engine.defaults).text
    asked, defaults = record.host_config, engine.defaults
    return texts.resolv_conf(
        host_file("/etc/resolv.conf"),
        asked.dns or defaults.dns,
        asked.dns_search or defaults.dns_search,
        asked.dns_options or defaults.dns_options,
        keep_local=asked.network_mode == "host",
    )


def rewrite_resolv_conf(engine: Engine, machine: Machine, before: ContainerRecord) -> None:
    """After a change of networks, unless somebody has written to the file meanwhile."""
    path = f"{engine.directory(machine.id)}/resolv.conf"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            untouched = file.read() == resolv_conf(engine, before, before.endpoints)
        if untouched:  # in place, as it is mounted in the container
            _write(path, resolv_conf(engine, machine.record, machine.record.endpoints))
    except OSError as error:
        log.warning("cannot tell container %s of its name server: %s", machine.id, error)


def files_of(engine: Engine, machine: Machine) -> dict[str, str]:
    """Where the files of a container's network are: at the other one's when it joins a network."""
    owner = machine.id
    mode = machine.record.host_config.network_mode
    if mode.startswith("container:"):
        owner = engine.index.find(mode.partition(":")[2]).id
    return {f"/etc/{name}": f"{engine.directory(owner)}/{name}" for name in ("resolv.conf", "hostname", "hosts")}


def tell_parents(engine: Engine, machine: Machine) -> None:
    """Containers that are linked to this one, and run, learn the address that it has now."""
    address = links.address_of(machine.record)
    for parent, alias in engine.index.parents(machine.id) if address else ():
        _edit_hosts(engine, parent, partial(texts.with_address, name=links.bare(alias), address=address))
        if parent.state.alive:
            try:
                let_in_anew(engine, parent)
            except KistError as error:
                log.warning("container %s does not reach what it is linked to: %s", parent.id, error.message)


def forget_link(engine: Engine, parent: Machine, alias: str) -> None:
    """The name of a link that is no more goes out of the hosts file."""
    _edit_hosts(engine, parent, partial(texts.without_name, name=links.bare(alias)))


def _edit_hosts(engine: Engine, machine: Machine, change: Callable[[str], str]) -> None:
    """In place, as it is mounted in the container, which may have written to it. What is too long is no hosts file."""
    if not machine.state.alive:
        return
    try:
        descriptor = os.open(f"{engine.directory(machine.id)}/hosts", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        text = os.read(descriptor, _HOSTS_LIMIT).decode("utf-8", "surrogateescape")
        changed = change(text)
        if changed != text and len(text) < _HOSTS_LIMIT:
            data = changed.encode("utf-8", "surrogateescape")
            os.pwrite(descriptor, data, 0)
            os.ftruncate(descriptor, len(data))
    except OSError as error:
        log.warning("cannot tell container %s where its links are: %s", machine.id, error)
    finally:
        os.close(descriptor)


def _has_bridge(engine: Engine) -> bool:
    return any(network.name == "bridge" for network in engine.networks.all())


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, text.encode())
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != 0o644:
            os.fchmod(descriptor, 0o644)
    finally:
        os.close(descriptor)


def _filter(engine: Engine, machine: Machine) -> tuple[bytes, int]:
    """The seccomp filter: none for privileged containers, as Docker has it."""
    asked = machine.record.host_config
    options = parse_security_options(asked.security_opt or ())
    if options.seccomp == "unconfined" or (asked.privileged and not options.seccomp):
        return b"", 0
    capabilities = frozenset(capabilities_of(asked, engine.host))
    if options.seccomp:
        return seccomp.user_program(options.seccomp, capabilities)
    return default_filter(engine.defaults.seccomp_profile, capabilities)


def _foreign_filter(engine: Engine, machine: Machine) -> oci.Seccomp | None:
    """The same as configuration, for a runtime that compiles it itself."""
    asked, profile = machine.record.host_config, engine.defaults.seccomp_profile
    options = parse_security_options(asked.security_opt or ())
    if options.seccomp == "unconfined" or (asked.privileged and not options.seccomp):
        return None
    capabilities = frozenset(capabilities_of(asked, engine.host))
    if options.seccomp:
        return seccomp.user_configuration(options.seccomp, capabilities)
    if profile == "unconfined":
        return None
    if profile in ("", "builtin"):
        return seccomp.default_configuration(capabilities)
    with open(profile, encoding="utf-8") as file:
        return seccomp.user_configuration(file.read(), capabilities)


def default_filter(profile: str, capabilities: frozenset[str]) -> tuple[bytes, int]:
    """The daemon's own filter (--seccomp-profile), for containers that name none."""
    if profile == "unconfined":
        return b"", 0
    if profile not in ("", "builtin"):
        with open(profile, encoding="utf-8") as file:
            return seccomp.user_program(file.read(), capabilities)
    return seccomp.default_program(capabilities), 0


def shares_with_host(machine: Machine) -> dict[str, bool]:
    """Which namespaces of a container are the host's own, for an exec that is to join the others."""
    asked = machine.record.host_config
    return {
        "network": asked.network_mode == "host",
        "uts": asked.uts_mode == "host",
        "pid": asked.pid_mode == "host",
        "ipc": asked.ipc_mode == "host",
        "cgroup": asked.cgroupns_mode == "host",
    }
