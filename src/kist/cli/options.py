"""The options of `run` and `create`, and how they become the body of a create request."""

from __future__ import annotations

import os
from typing import Any

from kist.cli.endpoints import endpoints, is_mac
from kist.cli.mounts import mount
from kist.cli.parse import Opt, Parsed, UsageError
from kist.model.errors import KistError

CREATE: tuple[Opt, ...] = (
    Opt("add-host", "list", "Add a custom host-to-IP mapping (host:ip)", check="extra_host"),
    Opt("annotation", "list", "Add an annotation to the container (passed through to the OCI runtime)"),
    Opt("attach", "list", "Attach to STDIN, STDOUT or STDERR", "a"),
    Opt("blkio-weight", "uint16", "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"),
    Opt("blkio-weight-device", "list", "Block IO weight (relative device weight)", check="weight"),
    Opt("cap-add", "list", "Add Linux capabilities"),
    Opt("cap-drop", "list", "Drop Linux capabilities"),
    Opt("cgroup-parent", "text", "Optional parent cgroup for the container"),
    Opt("cgroupns", "text", "Cgroup namespace to use (host|private)"),
    Opt("cidfile", "text", "Write the container ID to the file"),
    Opt("cpu-period", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Opt("cpu-quota", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Opt("cpu-count", "int", "CPU count (Windows only)", hidden=True),
    Opt("cpu-percent", "int", "CPU percent (Windows only)", hidden=True),
    Opt("cpu-rt-period", "int", "Limit CPU real-time period in microseconds"),
    Opt("cpu-rt-runtime", "int", "Limit CPU real-time runtime in microseconds"),
    Opt("cpu-shares", "int", "CPU shares (relative weight)", "c"),
    Opt("cpus", "text", "Number of CPUs"),
    Opt("cpuset-cpus", "text", "CPUs in which to allow execution (0-3, 0,1)"),
    Opt("cpuset-mems", "text", "MEMs in which to allow execution (0-3, 0,1)"),
    Opt("device", "list", "Add a host device to the container"),
    Opt("device-cgroup-rule", "list", "Add a rule to the cgroup allowed devices list", check="device_rule"),
    Opt("device-read-bps", "list", "Limit read rate (bytes per second) from a device", check="bytes_rate"),
    Opt("device-read-iops", "list", "Limit read rate (IO per second) from a device", check="rate"),
    Opt("device-write-bps", "list", "Limit write rate (bytes per second) to a device", check="bytes_rate"),
    Opt("device-write-iops", "list", "Limit write rate (IO per second) to a device", check="rate"),
    Opt("disable-content-trust", "flag", "Skip image verification", default=True),
    Opt("dns", "list", "Set custom DNS servers", check="address"),
    Opt("dns-opt", "list", "Set DNS options", hidden=True, same_as="dns-option"),
    Opt("dns-option", "list", "Set DNS options"),
    Opt("dns-search", "list", "Set custom DNS search domains", check="domain"),
    Opt("domainname", "text", "Container NIS domain name"),
    Opt("entrypoint", "text", "Overwrite the default ENTRYPOINT of the image"),
    Opt("env", "list", "Set environment variables", "e", check="variable"),
    Opt("env-file", "list", "Read in a file of environment variables"),
    Opt("expose", "list", "Expose a port or a range of ports"),
    Opt("gpus", "list", "GPU devices to add to the container ('all' to pass all GPUs)", check="gpus"),
    Opt("group-add", "list", "Add additional groups to join"),
    Opt("health-cmd", "text", "Command to run to check health"),
    Opt("health-interval", "time", "Time between running the check (ms|s|m|h) (default 0s)"),
    Opt("health-on-failure", "text", 'What to do when it is unhealthy ("none", "kill", "restart", "stop")'),
    Opt("health-retries", "int", "Consecutive failures needed to report unhealthy"),
    Opt(
        "health-start-interval",
        "time",
        "Time between running the check during the start period (ms|s|m|h) (default 0s)",
    ),
    Opt(
        "health-start-period",
        "time",
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)",
    ),
    Opt("health-timeout", "time", "Maximum time to allow one check to run (ms|s|m|h) (default 0s)"),
    Opt("hostname", "text", "Container host name", "h"),
    Opt("init", "flag", "Run an init inside the container that forwards signals and reaps processes"),
    Opt("interactive", "flag", "Keep STDIN open even if not attached", "i"),
    Opt("io-maxbandwidth", "size", "Maximum IO bandwidth limit for the system drive (Windows only)", hidden=True),
    Opt("io-maxiops", "int", "Maximum IOps limit for the system drive (Windows only)", hidden=True),
    Opt("ip", "text", "IPv4 address (e.g., 172.30.100.104)"),
    Opt("ip6", "text", "IPv6 address (e.g., 2001:db8::33)"),
    Opt("ipc", "text", "IPC mode to use"),
    Opt("isolation", "text", "Container isolation technology"),
    Opt("kernel-memory", "size", "Kernel memory limit"),
    Opt("label", "list", "Set meta data on a container", "l", check="label"),
    Opt("label-file", "list", "Read in a line delimited file of labels"),
    Opt("link", "list", "Add link to another container", check="link"),
    Opt("link-local-ip", "list", "Container IPv4/IPv6 link-local addresses"),
    Opt("log-driver", "text", "Logging driver for the container"),
    Opt("log-opt", "list", "Log driver options"),
    Opt("mac-address", "text", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    Opt("memory", "size", "Memory limit", "m"),
    Opt("memory-reservation", "size", "Memory soft limit"),
    Opt("memory-swap", "size", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    Opt("memory-swappiness", "int", "Tune container memory swappiness (0 to 100)", default=-1),
    Opt("mount", "list", "Attach a filesystem mount to the container"),
    Opt("name", "text", "Assign a name to the container"),
    Opt("network", "list", "Connect a container to a network", check="network"),
    Opt("net", "list", "Connect a container to a network", check="network", hidden=True, same_as="network"),
    Opt("network-alias", "list", "Add network-scoped alias for the container"),
    Opt("net-alias", "list", "Add network-scoped alias for the container", hidden=True, same_as="network-alias"),
    Opt("no-healthcheck", "flag", "Disable any container-specified HEALTHCHECK"),
    Opt("oom-kill-disable", "flag", "Disable OOM Killer"),
    Opt("oom-score-adj", "int", "Tune host's OOM preferences (-1000 to 1000)"),
    Opt("pid", "text", "PID namespace to use"),
    Opt("pids-limit", "int", "Tune container pids limit (set -1 for unlimited)"),
    Opt("platform", "text", "Set platform if server is multi-platform capable"),
    Opt("privileged", "flag", "Give extended privileges to this container"),
    Opt("publish", "list", "Publish a container's port(s) to the host", "p"),
    Opt("publish-all", "flag", "Publish all exposed ports to random ports", "P"),
    Opt("pull", "text", 'Pull image before running ("always", "missing", "never")', default="missing"),
    Opt("quiet", "flag", "Suppress the pull output", "q"),
    Opt("read-only", "flag", "Mount the container's root filesystem as read only"),
    Opt("restart", "text", "Restart policy to apply when a container exits", default="no"),
    Opt("rm", "flag", "Automatically remove the container and its associated anonymous volumes when it exits"),
    Opt("runtime", "text", "Runtime to use for this container"),
    Opt("security-opt", "list", "Security Options"),
    Opt("shm-size", "size", "Size of /dev/shm"),
    Opt("stop-signal", "text", "Signal to stop the container"),
    Opt("stop-timeout", "int", "Timeout (in seconds) to stop a container"),
    Opt("storage-opt", "list", "Storage driver options for the container"),
    Opt("sysctl", "list", "Sysctl options", check="sysctl"),
    Opt("tmpfs", "list", "Mount a tmpfs directory"),
    Opt("tty", "flag", "Allocate a pseudo-TTY", "t"),
    Opt("ulimit", "list", "Ulimit options", check="ulimit"),
    Opt("use-api-socket", "flag", "Bind mount Docker API socket and required auth"),
    Opt("user", "text", "Username or UID (format: <name|uid>[:<group|gid>])", "u"),
    Opt("userns", "text", "User namespace to use"),
    Opt("uts", "text", "UTS namespace to use"),
    Opt("volume", "list", "Bind mount a volume", "v"),
    Opt("volume-driver", "text", "Optional volume driver for the container"),
    Opt("volumes-from", "list", "Mount volumes from the specified container(s)"),
    Opt("workdir", "text", "Working directory inside the container", "w"),
)
RUN = (
    *CREATE,
    Opt("detach", "flag", "Run container in background and print container ID", "d"),
    Opt("detach-keys", "text", "Override the key sequence for detaching a container"),
    Opt("sig-proxy", "flag", "Proxy received signals to the process", default=True),
)


def body(options: Parsed, image: str, command: list[str]) -> dict[str, Any]:
    """The body of POST /containers/create. Raises UsageError, KistError with Docker's texts."""
    _check(options)
    attach = {stream.lower() for stream in options.attach}
    for stream in attach:
        if stream not in ("stdin", "stdout", "stderr"):
            raise UsageError(
                f'invalid argument "{stream}" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR'
            )
    detached = getattr(options, "detach", False) if "detach" in options._values else False
    streams = attach or (set() if detached else {"stdout", "stderr"} | ({"stdin"} if options.interactive else set()))
    ports, bindings = _ports(options)
    binds, volumes = _binds(options.volume)
    config: dict[str, Any] = {
        "Hostname": options.hostname,
        "Domainname": options.domainname,
        "User": options.user,
        "AttachStdin": "stdin" in streams,
        "AttachStdout": "stdout" in streams,
        "AttachStderr": "stderr" in streams,
        "Tty": options.tty,
        "OpenStdin": options.interactive,
        "StdinOnce": options.interactive and not detached and "stdin" in streams,
        "Env": environment(options.env_file, options.env),
        "Cmd": command or None,
        "Image": image,
        "Volumes": volumes,
        "WorkingDir": options.workdir,
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": dict(_pair(one) for one in _with_files(options.label_file, options.label)),
    }
    if ports:
        config["ExposedPorts"] = ports
    if "entrypoint" in options.given:
        config["Entrypoint"] = [options.entrypoint]
    check = health_check(options)
    if check is not None:
        config["Healthcheck"] = check
    if options.stop_signal:
        config["StopSignal"] = options.stop_signal
    if "stop-timeout" in options.given:
        config["StopTimeout"] = options.stop_timeout
    network, attached = endpoints(options)
    host = _host(options, network, binds, bindings)
    if options.rm and host["RestartPolicy"]["Name"] not in ("", "no"):
        raise KistError("conflicting options: cannot specify both --restart and --rm")
    return {**config, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": attached}}


_WINDOWS = ("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops")
_MODES = (("pid", "PID"), ("uts", "UTS"), ("userns", "USER"), ("cgroupns", "CGROUP"))


def _check(options: Parsed) -> None:
    """What is wrong with one option by itself. Raises KistError with Docker's texts."""
    for name in _WINDOWS:
        if name in options.given:
            raise UsageError(
                f'"--{name}" is only supported on a Docker daemon running on windows, but the Docker daemon is running '
                f"on linux",
                1,
                plain=True,
            )
    if options.use_api_socket:
        raise KistError("--use-api-socket is not supported yet")
    if not options.disable_content_trust:
        raise KistError("--disable-content-trust=false: signed images are not supported yet")
    if options.mac_address and not is_mac(options.mac_address.strip()):
        raise KistError(f"{options.mac_address} is not a valid mac address")
    if options.memory_swappiness != -1 and not 0 <= options.memory_swappiness <= 100:
        raise KistError(f"invalid value: {options.memory_swappiness}. Valid memory swappiness range is 0-100")
    for name, told in _MODES:
        value = getattr(options, name)
        joined = name == "pid" and value.startswith("container:") and len(value) > len("container:")
        if value not in ("", "host") and not joined and not (name == "cgroupns" and value == "private"):
            raise KistError(f"--{name}: invalid {told} mode")
    for option in options.storage_opt:
        if "=" not in option:
            raise KistError("invalid storage option")


def _host(options: Parsed, network: str, binds: list[str], bindings: dict[str, Any]) -> dict[str, Any]:
    devices, requests = _devices(options)
    host: dict[str, Any] = {
        "Binds": binds or None,
        "ContainerIDFile": options.cidfile,
        "LogConfig": {"Type": options.log_driver, "Config": dict(_pair(one) for one in options.log_opt)},
        "NetworkMode": network,
        "PortBindings": bindings,
        "RestartPolicy": restart_policy(options.restart),
        "AutoRemove": options.rm,
        "VolumeDriver": options.volume_driver,
        "VolumesFrom": options.volumes_from or None,
        "ConsoleSize": [0, 0],
        "CapAdd": options.cap_add or None,
        "CapDrop": options.cap_drop or None,
        "CgroupnsMode": options.cgroupns,
        "Dns": options.dns,
        "DnsOptions": options.dns_option,
        "DnsSearch": options.dns_search,
        "ExtraHosts": options.add_host or None,
        "GroupAdd": options.group_add or None,
        "IpcMode": options.ipc,
        "Links": options.link or None,
        "OomScoreAdj": options.oom_score_adj,
        "PidMode": options.pid,
        "Privileged": options.privileged,
        "PublishAllPorts": options.publish_all,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": _security(options.security_opt),
        "UTSMode": options.uts,
        "UsernsMode": options.userns,
        "ShmSize": options.shm_size,
        "Runtime": options.runtime,
        "Isolation": options.isolation,
        "StorageOpt": dict(_pair(one) for one in options.storage_opt) or None,
        "CpuShares": options.cpu_shares,
        "Memory": options.memory,
        "NanoCpus": cpus(options.cpus),
        "CgroupParent": options.cgroup_parent,
        "BlkioWeight": options.blkio_weight,
        "BlkioWeightDevice": options.blkio_weight_device,
        "BlkioDeviceReadBps": options.device_read_bps,
        "BlkioDeviceWriteBps": options.device_write_bps,
        "BlkioDeviceReadIOps": options.device_read_iops,
        "BlkioDeviceWriteIOps": options.device_write_iops,
        "CpuPeriod": options.cpu_period,
        "CpuQuota": options.cpu_quota,
        "CpuRealtimePeriod": options.cpu_rt_period,
        "CpuRealtimeRuntime": options.cpu_rt_runtime,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "Devices": devices,
        "DeviceRequests": requests or None,
        "DeviceCgroupRules": options.device_cgroup_rule or None,
        "KernelMemory": options.kernel_memory,
        "MemoryReservation": options.memory_reservation,
        "MemorySwap": options.memory_swap,
        "MemorySwappiness": options.memory_swappiness,
        "OomKillDisable": options.oom_kill_disable,
        "PidsLimit": options.pids_limit if "pids-limit" in options.given else 0,
        "Ulimits": options.ulimit,
        "Sysctls": dict(_pair(one) for one in options.sysctl) or None,
        "Tmpfs": {one.partition(":")[0]: one.partition(":")[2] for one in options.tmpfs} or None,
        "Mounts": [mount(one) for one in options.mount] or None,
        "Annotations": _annotations(options) or None,
    }
    if "init" in options.given:
        host["Init"] = options.init
    return host


def _annotations(options: Parsed) -> dict[str, str]:
    found = dict(_pair(one) for one in options.annotation)
    if options.health_on_failure:
        found["kist.health-on-failure"] = options.health_on_failure
    return found


def health_check(options: Parsed) -> dict[str, Any] | None:
    """Healthcheck; None leaves all of it to the image. Raises KistError with Docker's texts."""
    given = {
        "interval": options.health_interval,
        "timeout": options.health_timeout,
        "retries": options.health_retries,
        "start-period": options.health_start_period,
        "start-interval": options.health_start_interval,
    }
    asked = bool(options.health_cmd) or any(given.values())
    if options.no_healthcheck:
        if asked:
            raise KistError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    for name, value in given.items():
        if value < 0:
            raise KistError(f"--health-{name} cannot be negative")
    if not asked:
        return None
    return {
        "Test": ["CMD-SHELL", options.health_cmd] if options.health_cmd else None,
        "Interval": given["interval"],
        "Timeout": given["timeout"],
        "StartPeriod": given["start-period"],
        "StartInterval": given["start-interval"],
        "Retries": given["retries"],
    }


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def environment(files: list[str], given: list[str]) -> list[str]:
    """Variables of files, then those given; a bare name takes this process's value, or is dropped."""
    found = []
    for variable in _with_files(files, given):
        if "=" in variable:
            found.append(variable)
        elif variable in os.environ:
            found.append(f"{variable}={os.environ[variable]}")
    return found


def _with_files(files: list[str], given: list[str]) -> list[str]:
    found = []
    for path in files:
        try:
            with open(path, encoding="utf-8") as file:
                lines = file.read().splitlines()
        except OSError as error:
            raise KistError(f"open {path}: {(error.strerror or '').lower()}") from error
        for line in lines:
            bare = line.lstrip()
            if bare and not bare.startswith("#"):
                name = bare.partition("=")[0]
                if " " in name.strip() or not name:
                    raise KistError(f"invalid environment variable: {bare}" if not name else (
                        f"variable '{name}' contains whitespaces"))  # fmt: skip
                found.append(bare)
    return found + given


def cpus(text: str) -> int:
    if not text:
        return 0
    from fractions import Fraction

    try:
        found = Fraction(text) * 1_000_000_000
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f'invalid argument "{text}" for "--cpus" flag: failed to parse {text} as a rational number'
        ) from None
    if found.denominator != 1:
        raise UsageError(f'invalid argument "{text}" for "--cpus" flag: value is too precise')
    return found.numerator


def restart_policy(text: str) -> dict[str, Any]:
    """`on-failure:3` as a RestartPolicy. Raises KistError with Docker's texts."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise KistError("invalid restart policy format: no policy provided before colon")
    try:
        return {"Name": name, "MaximumRetryCount": int(count or 0)}
    except ValueError:
        raise KistError("invalid restart policy format: maximum retry count must be an integer") from None


_PLAIN_SECURITY = ("no-new-privileges", "writable-cgroups", "disable")


def _security(options: list[str]) -> list[str] | None:
    """A seccomp profile is sent as its text."""
    found = []
    for option in options:
        key, _, value = option.partition("=")
        if key == "seccomp" and value not in ("unconfined", "builtin", ""):
            try:
                with open(value, encoding="utf-8") as file:
                    option = f"seccomp={file.read()}"
            except OSError as error:
                raise KistError(
                    f"opening seccomp profile ({value}) failed: open {value}: {(error.strerror or '').lower()}"
                ) from error
        if not value and ":" not in option and option not in _PLAIN_SECURITY:
            raise KistError(f'Invalid --security-opt: "{option}"')
        if option not in ("seccomp=builtin",):
            found.append(option)
    return found or None


def _devices(options: Parsed) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """(Devices, DeviceRequests): paths, and names of the Container Device Interface. Raises KistError."""
    devices, names = [], []
    for text in options.device:
        if _is_cdi_name(text):
            names.append(text)
        else:
            devices.append(_device(text))
    requests = list(options.gpus)
    return devices, [*requests, {"Driver": "cdi", "DeviceIDs": names}] if names else requests


def _is_cdi_name(text: str) -> bool:
    """`vendor.com/class=name`."""
    kind, equals, name = text.partition("=")
    vendor, _, class_ = kind.partition("/")
    words = (vendor, class_, name)
    return bool(equals) and all(
        word and word[0].isalnum() and word[-1].isalnum() and all(one.isalnum() or one in "_-.:" for one in word)
        for word in words
    )


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise KistError(f"bad format for path: {text}")
    source = target = parts[0]
    mode = "rwm"
    if len(parts) == 3:
        target, mode = parts[1:]
        if not _is_device_mode(mode):
            raise KistError(f"bad mode specified: {mode}")
    elif len(parts) == 2 and _is_device_mode(parts[1]):
        mode = parts[1]
    elif len(parts) == 2:
        target = parts[1]
    if not target.startswith("/"):
        raise KistError(f"{target} is not an absolute path")
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": mode}


def _is_device_mode(text: str) -> bool:
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)


def _binds(volumes: list[str]) -> tuple[list[str], dict[str, Any]]:
    """-v with a source is a bind; without one it is an anonymous volume."""
    binds: list[str] = []
    anonymous: dict[str, Any] = {}
    for one in volumes:
        if ":" not in one or len(one) <= 2:
            anonymous[one] = {}
            continue
        if one.count(":") > 2:
            raise KistError(f"invalid spec: {one}: too many colons")
        source, colon, rest = one.partition(":")
        if source.startswith((".", "~")):
            source = os.path.abspath(os.path.expanduser(source)) if source.startswith("~") else os.path.abspath(source)
        binds.append(f"{source}{colon}{rest}")
    return binds, anonymous


def _ports(options: Parsed) -> tuple[dict[str, Any], dict[str, Any]]:
    """(ExposedPorts, PortBindings) from -p and --expose. Raises KistError with Docker's texts."""
    exposed: dict[str, Any] = {}
    bindings: dict[str, Any] = {}
    for one in options.publish:
        rest, _, protocol = one.partition("/")
        protocol = protocol or "tcp"
        if protocol not in ("tcp", "udp", "sctp"):
            raise KistError(f"invalid proto: {protocol}")
        address, host, container = _split_publish(rest)
        first, last = port_range(container, "containerPort")
        low, high = port_range(host, "hostPort") if host else (0, 0)
        if host and high - low != last - first and first != last:
            raise KistError(f"invalid ranges specified for container and host Ports: {container} and {host}")
        for step in range(last - first + 1):
            key = f"{first + step}/{protocol}"
            exposed[key] = {}
            number = "" if not host else str(low + step) if first != last else host
            bindings.setdefault(key, []).append({"HostIp": address, "HostPort": number})
    for one in options.expose:
        if ":" in one:
            raise KistError(f"invalid port format for --expose: {one}")
        rest, _, protocol = one.partition("/")
        first, last = _exposed(one, rest)
        exposed.update({f"{number}/{protocol or 'tcp'}": {} for number in range(first, last + 1)})
    return exposed, bindings


def _exposed(whole: str, ports: str) -> tuple[int, int]:
    """First and last of --expose. Raises KistError with Docker's texts."""
    first, dash, last = ports.partition("-")
    reason = ""
    for number in (first, last) if dash else (first,):
        if not (number.isascii() and number.isdigit()):
            reason = reason or f'strconv.ParseUint: parsing "{number}": invalid syntax'
        elif int(number) > 65535:
            reason = reason or f'strconv.ParseUint: parsing "{number}": value out of range'
    if not reason and dash and int(last) < int(first):
        reason = f"invalid range specified for port: {ports}"
    if not ports:
        reason = "empty string specified for ports"
    if reason:
        raise KistError(f"invalid range format for --expose: {whole}, error: {reason}")
    return int(first), int(last or first)


def _split_publish(text: str) -> tuple[str, str, str]:
    """[ip:][host:]container, the address in brackets when it is IPv6."""
    address = ""
    if text.startswith("["):
        address, _, text = text[1:].partition("]")
        text = text.removeprefix(":")
        host, _, container = text.rpartition(":")
        return address, host, container
    parts = text.split(":")
    if len(parts) > 3:
        raise KistError(f"invalid IP address: {':'.join(parts[:-2])}")
    if len(parts) == 3:
        address = parts[0]
        if address and (address.count(".") != 3 or not all(part.isdigit() for part in address.split("."))):
            raise KistError(f"invalid IP address: {address}")
    return address, parts[-2] if len(parts) > 1 else "", parts[-1]


def port_range(text: str, what: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    numbers = [first, last] if dash else [first, first]
    if not all(number.isdigit() and int(number) <= 65535 for number in numbers):
        raise KistError(f"invalid {what}: {text}")
    low, high = int(numbers[0]), int(numbers[1])
    if low > high:
        raise KistError(f"invalid {what}: {text}")
    return low, high
