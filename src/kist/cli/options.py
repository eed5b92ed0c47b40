"""The options of `run` and `create`, and how they become the body of a create request."""

from __future__ import annotations

import os
from typing import Any

from kist.cli.parse import Opt, Parsed, UsageError, parse_size
from kist.model.errors import KistError

CREATE: tuple[Opt, ...] = (
    Opt("add-host", "list", "Add a custom host-to-IP mapping (host:ip)"),
    Opt("annotation", "list", "Add an annotation to the container (passed through to the OCI runtime)"),
    Opt("attach", "list", "Attach to STDIN, STDOUT or STDERR", "a"),
    Opt("blkio-weight", "int", "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"),
    Opt("cap-add", "list", "Add Linux capabilities"),
    Opt("cap-drop", "list", "Drop Linux capabilities"),
    Opt("cgroup-parent", "text", "Optional parent cgroup for the container"),
    Opt("cgroupns", "text", "Cgroup namespace to use (host|private)"),
    Opt("cidfile", "text", "Write the container ID to the file"),
    Opt("cpu-period", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Opt("cpu-quota", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Opt("cpu-shares", "int", "CPU shares (relative weight)", "c"),
    Opt("cpus", "text", "Number of CPUs"),
    Opt("cpuset-cpus", "text", "CPUs in which to allow execution (0-3, 0,1)"),
    Opt("cpuset-mems", "text", "MEMs in which to allow execution (0-3, 0,1)"),
    Opt("device", "list", "Add a host device to the container"),
    Opt("device-cgroup-rule", "list", "Add a rule to the cgroup allowed devices list"),
    Opt("dns", "list", "Set custom DNS servers"),
    Opt("dns-option", "list", "Set DNS options"),
    Opt("dns-search", "list", "Set custom DNS search domains"),
    Opt("domainname", "text", "Container NIS domain name"),
    Opt("entrypoint", "text", "Overwrite the default ENTRYPOINT of the image"),
    Opt("env", "list", "Set environment variables", "e"),
    Opt("env-file", "list", "Read in a file of environment variables"),
    Opt("expose", "list", "Expose a port or a range of ports"),
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
    Opt("ipc", "text", "IPC mode to use"),
    Opt("label", "list", "Set meta data on a container", "l"),
    Opt("label-file", "list", "Read in a line delimited file of labels"),
    Opt("log-driver", "text", "Logging driver for the container"),
    Opt("log-opt", "list", "Log driver options"),
    Opt("mac-address", "text", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    Opt("memory", "size", "Memory limit", "m"),
    Opt("memory-reservation", "size", "Memory soft limit"),
    Opt("memory-swap", "size", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    Opt("memory-swappiness", "int", "Tune container memory swappiness (0 to 100)", default=-1),
    Opt("mount", "list", "Attach a filesystem mount to the container"),
    Opt("name", "text", "Assign a name to the container"),
    Opt("network", "list", "Connect a container to a network"),
    Opt("net", "list", "Connect a container to a network"),
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
    Opt("sysctl", "list", "Sysctl options"),
    Opt("tmpfs", "list", "Mount a tmpfs directory"),
    Opt("tty", "flag", "Allocate a pseudo-TTY", "t"),
    Opt("ulimit", "list", "Ulimit options"),
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
    if options.mac_address:
        config["MacAddress"] = options.mac_address
    network, endpoints = _networks([*options.network, *options.net])
    for address in options.dns:
        _check_address(address, "--dns")
    host = _host(options, network, binds, bindings)
    if options.rm and host["RestartPolicy"]["Name"] not in ("", "no"):
        raise KistError("conflicting options: cannot specify both --restart and --rm")
    return {**config, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": endpoints}}


def _networks(given: list[str]) -> tuple[str, dict[str, Any]]:
    """The network mode, and an endpoint for each network when there is more to say than one name.

    `name` or `name=NET,alias=A,ip=ADDRESS,…`. Raises UsageError.
    """
    endpoints: dict[str, Any] = {}
    for text in given:
        fields = text.split(",") if "=" in text else [f"name={text}"]
        name, endpoint = "", dict[str, Any]()
        for field in fields:
            key, _, value = field.partition("=")
            if key == "name":
                name = value
            elif key == "alias":
                endpoint.setdefault("Aliases", []).append(value)
            elif key in ("ip", "ip6"):
                endpoint.setdefault("IPAMConfig", {})["IPv4Address" if key == "ip" else "IPv6Address"] = value
            elif key == "mac-address":
                endpoint["MacAddress"] = value
            elif key == "driver-opt":
                endpoint.setdefault("DriverOpts", {}).update([_pair(value)])
            else:
                raise UsageError(f'invalid argument "{text}" for "--network" flag: invalid field key {key}')
        if not name:
            raise UsageError(f'invalid argument "{text}" for "--network" flag: network name/id is not specified')
        endpoints[name] = endpoint
    if not endpoints:
        return "default", {}
    own = [one in ("default", "bridge", "host", "none") or one.startswith("container:") for one in endpoints]
    if any(own) and not all(own):
        raise KistError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    return next(iter(endpoints)), endpoints if len(endpoints) > 1 or any(endpoints.values()) else {}


def _check_address(text: str, flag: str) -> None:
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
            return
        except OSError:
            continue
    reason = f"IP address is not correctly formatted: {text}"
    raise UsageError(f'invalid argument "{text}" for "{flag}" flag: {reason}')


def _host(options: Parsed, network: str, binds: list[str], bindings: dict[str, Any]) -> dict[str, Any]:
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
        "ExtraHosts": [one.replace("=", ":", 1) if "=" in one else one for one in options.add_host] or None,
        "GroupAdd": options.group_add or None,
        "IpcMode": options.ipc,
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
        "CpuShares": options.cpu_shares,
        "Memory": options.memory,
        "NanoCpus": cpus(options.cpus),
        "CgroupParent": options.cgroup_parent,
        "BlkioWeight": options.blkio_weight,
        "CpuPeriod": options.cpu_period,
        "CpuQuota": options.cpu_quota,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "Devices": [_device(one) for one in options.device],
        "DeviceCgroupRules": options.device_cgroup_rule or None,
        "MemoryReservation": options.memory_reservation,
        "MemorySwap": options.memory_swap,
        "MemorySwappiness": options.memory_swappiness,
        "OomKillDisable": options.oom_kill_disable,
        "PidsLimit": options.pids_limit if "pids-limit" in options.given else 0,
        "Ulimits": [_ulimit(one) for one in options.ulimit],
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
    try:
        return round(float(text) * 1_000_000_000)
    except ValueError:
        raise UsageError(
            f'invalid argument "{text}" for "--cpus" flag: failed to parse {text} as a rational number'
        ) from None


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
_ULIMITS = frozenset({
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
})  # fmt: skip


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


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise KistError(f"invalid device specification: {text}")
    source = parts[0]
    target, mode = source, "rwm"
    if len(parts) == 3:
        target, mode = parts[1], parts[2]
    elif len(parts) == 2:
        if set(parts[1]) <= set("rwm") and parts[1]:
            mode = parts[1]
        else:
            target = parts[1]
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": mode}


def _ulimit(text: str) -> dict[str, Any]:
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        low = int(soft)
        high = int(hard) if hard else low
    except ValueError:
        wrong = soft if not soft.lstrip("-").isdigit() else hard
        raise UsageError(
            f'invalid argument "{text}" for "--ulimit" flag: strconv.ParseInt: parsing "{wrong}": invalid syntax'
        ) from None
    if name not in _ULIMITS:
        raise UsageError(f'invalid argument "{text}" for "--ulimit" flag: invalid ulimit type: {name}')
    return {"Name": name, "Hard": high, "Soft": low}


def _binds(volumes: list[str]) -> tuple[list[str], dict[str, Any]]:
    """-v with a source is a bind; without one it is an anonymous volume."""
    binds: list[str] = []
    anonymous: dict[str, Any] = {}
    for one in volumes:
        if ":" not in one:
            anonymous[one] = {}
            continue
        source, colon, rest = one.partition(":")
        if source.startswith((".", "~")):
            source = os.path.abspath(os.path.expanduser(source)) if source.startswith("~") else os.path.abspath(source)
        binds.append(f"{source}{colon}{rest}")
    return binds, anonymous


def mount(text: str) -> dict[str, Any]:
    """`type=bind,src=/a,dst=/b,readonly`. Raises UsageError with Docker's texts."""

    def wrong(reason: str) -> UsageError:
        return UsageError(f'invalid argument "{text}" for "--mount" flag: {reason}')

    found: dict[str, Any] = {"Type": "volume"}
    inner: dict[str, dict[str, Any]] = {"BindOptions": {}, "VolumeOptions": {}, "TmpfsOptions": {}, "ImageOptions": {}}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        key = key.strip().lower()
        if key in ("readonly", "ro"):
            found["ReadOnly"] = value in ("", "1", "true")
        elif key == "volume-nocopy":
            inner["VolumeOptions"]["NoCopy"] = value in ("", "1", "true")
        elif not equals:
            raise wrong(f"invalid field '{part}' must be a key=value pair")
        elif key == "type":
            found["Type"] = value.lower()
        elif key in ("source", "src"):
            found["Source"] = os.path.abspath(value) if value.startswith(".") else value
        elif key in ("target", "dst", "destination"):
            found["Target"] = value
        elif key == "consistency":
            found["Consistency"] = value
        elif key == "bind-propagation":
            inner["BindOptions"]["Propagation"] = value.lower()
        elif key == "bind-recursive":
            words = {"enabled": {}, "disabled": {"NonRecursive": True}, "writable": {"ReadOnlyNonRecursive": True},
                     "readonly": {"ReadOnlyForceRecursive": True}}  # fmt: skip
            if value not in words:
                raise wrong(
                    f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")'
                )
            inner["BindOptions"].update(words[value])
        elif key == "volume-subpath":
            inner["VolumeOptions"]["Subpath"] = value
        elif key == "volume-label":
            inner["VolumeOptions"].setdefault("Labels", {}).update([_pair(value)])
        elif key == "volume-driver":
            inner["VolumeOptions"].setdefault("DriverConfig", {})["Name"] = value
        elif key == "tmpfs-size":
            try:
                inner["TmpfsOptions"]["SizeBytes"] = parse_size(value)
            except ValueError:
                raise wrong(f"invalid value for {key}: {value}") from None
        elif key == "tmpfs-mode":
            try:
                inner["TmpfsOptions"]["Mode"] = int(value, 8)
            except ValueError:
                raise wrong(f"invalid value for {key}: {value}") from None
        else:
            raise wrong(f"unexpected key '{key}' in '{part}'")
    if not found.get("Target"):
        raise wrong("target is required")
    found.update({key: value for key, value in inner.items() if value})
    return found


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
        rest, _, protocol = one.partition("/")
        first, last = port_range(rest, "port")
        exposed.update({f"{number}/{protocol or 'tcp'}": {} for number in range(first, last + 1)})
    return exposed, bindings


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
