"""Everything a start needs before the monitor is told: addresses, ports, files, the OCI configuration."""

from __future__ import annotations

import os
import stat

from kist.container.engine import Engine
from kist.container.logging import log_setup
from kist.container.machine import Machine
from kist.model.errors import Conflict, InvalidParameter, KistError
from kist.model.network import Endpoint, Link, PublishedPort
from kist.network import files as texts
from kist.runtime import seccomp
from kist.runtime.launch import LaunchRequest
from kist.runtime.security import parse_security_options
from kist.runtime.spec import Joined, build_spec, capabilities_of

Prepared = tuple[LaunchRequest, tuple[Endpoint, ...], tuple[PublishedPort, ...]]


def prepare(engine: Engine, machine: Machine) -> Prepared:
    """Takes addresses and ports and writes files; what it took is given back when it fails."""
    record = machine.record
    asked = record.host_config
    joined = _joined(engine, machine)
    _check_bind_sources(machine)
    run_dir = engine.run_dir(machine)
    os.makedirs(run_dir, mode=0o700, exist_ok=True)
    for name in os.listdir(run_dir):
        os.unlink(f"{run_dir}/{name}")
    endpoint, link = _attach(engine, machine)
    ports: tuple[PublishedPort, ...] = ()
    try:
        if endpoint is not None:
            ports = engine.networks.publish(
                machine.id, record.name, endpoint, record.config, asked, engine.defaults.publish_address
            )
        files = _write_files(engine, machine, endpoint)
        program, flags = _filter(engine, machine)
        spec = build_spec(record, engine.host, joined, files, f"{engine.exec_root}/rootfs")
        request = LaunchRequest(
            container_id=record.id,
            spec=spec,
            user=record.config.user,
            extra_groups=tuple(asked.group_add or ()),
            rootfs=engine.snapshotter.mounts(record.snapshot),
            links=(link,) if link is not None else (),
            log=log_setup(machine, engine.log_path(machine)),
            run_dir=run_dir,
            root_dir=f"{engine.exec_root}/rootfs",
            cgroup=engine.cgroup(machine),
            open_stdin=record.config.open_stdin,
            stdin_once=record.config.stdin_once,
            seccomp_program=program,
            seccomp_flags=flags,
            loopback=asked.network_mode != "host" and not joined.network,
        )
    except BaseException:
        if ports:
            engine.networks.unpublish(machine.id)
        if endpoint is not None:
            engine.networks.detach(endpoint)
        raise
    return request, (endpoint,) if endpoint is not None else (), ports


def _attach(engine: Engine, machine: Machine) -> tuple[Endpoint | None, Link | None]:
    record = machine.record
    mode = record.host_config.network_mode
    if mode not in ("bridge", "host", "none") and not mode.startswith("container:"):
        engine.networks.get(mode)  # raises NotFound: a network that is there was refused when the container was made
    if mode != "bridge" or record.config.network_disabled:
        return None, None
    settings = record.networks.get("bridge") or record.networks.get("default")
    mac = (settings.mac_address if settings else "") or record.config.mac_address
    hairpin = bool(record.host_config.port_bindings or record.host_config.publish_all_ports)
    return engine.networks.attach(machine.id, mac, hairpin=hairpin)


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
    return Joined(**paths)


def _running_pid(engine: Engine, mode: str, field: str) -> int:
    other = engine.index.find(mode.partition(":")[2])
    if not other.state.alive:
        if field == "network":
            raise Conflict(f"cannot join network namespace of container: container {other.id} is not running")
        raise Conflict(f"cannot join {field.upper()} of a non running container: {other.id}")
    if field == "ipc" and other.record.host_config.ipc_mode not in ("shareable", "host"):
        raise InvalidParameter(
            f"non-shareable IPC (hint: use IpcMode:shareable for the donor container): container {other.id}"
        )
    return other.state.pid


def _check_bind_sources(machine: Machine) -> None:
    for mount in machine.record.mounts:
        if mount.type == "bind" and not os.path.lexists(mount.source):
            try:
                os.makedirs(mount.source)
            except OSError as error:
                raise KistError(
                    f"error while creating mount source path '{mount.source}': mkdir {mount.source}: "
                    f"{(error.strerror or '').lower()}"
                ) from error


def _write_files(engine: Engine, machine: Machine, endpoint: Endpoint | None) -> dict[str, str]:
    """hosts, hostname and resolv.conf of this container; of the other one when it joins a network."""
    record, asked, defaults = machine.record, machine.record.host_config, engine.defaults
    directory = engine.directory(record.id)
    if asked.network_mode.startswith("container:"):
        directory = engine.directory(engine.index.find(asked.network_mode.partition(":")[2]).id)
    else:
        shares = asked.network_mode == "host"
        gateway = defaults.host_gateway or (engine.networks.get("bridge").gateway if _has_bridge(engine) else "")
        content = {
            "resolv.conf": texts.resolv_conf(
                _host_file("/etc/resolv.conf"),
                asked.dns or defaults.dns,
                asked.dns_search or defaults.dns_search,
                asked.dns_options or defaults.dns_options,
                keep_local=shares,
            ),
            "hostname": f"{record.config.hostname}\n",
        }
        if shares and not asked.extra_hosts:
            content["hosts"] = _host_file("/etc/hosts")
        else:
            address = endpoint.address if endpoint else ""
            content["hosts"] = texts.hosts(
                record.config.hostname, record.config.domainname, address, asked.extra_hosts or (), gateway
            )
        for name, text in content.items():
            _write(f"{directory}/{name}", text)
    return {f"/etc/{name}": f"{directory}/{name}" for name in ("resolv.conf", "hostname", "hosts")}


def _has_bridge(engine: Engine) -> bool:
    return any(network.name == "bridge" for network in engine.networks.all())


def _host_file(path: str) -> str:
    """A file of the host as it is; "" where the host has none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


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
