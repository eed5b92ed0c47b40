"""What options and arguments may be, for completion: fixed words, or the name of a source in `complete`.

An option of one name takes the same values in every command. A source is a string (`containers`, `files`, …), "" is
nothing known; words that end in `=`, `:` or `-` are beginnings.
"""

from __future__ import annotations

import re

Source = str | tuple[str, ...]

SIGNALS = (
    "ABRT",
    "ALRM",
    "BUS",
    "CHLD",
    "CLD",
    "CONT",
    "FPE",
    "HUP",
    "ILL",
    "INT",
    "IO",
    "IOT",
    "KILL",
    "PIPE",
    "POLL",
    "PROF",
    "PWR",
    "QUIT",
    *("RTMAX" if not n else f"RTMAX-{n}" for n in range(15)),
    *("RTMIN" if not n else f"RTMIN+{n}" for n in range(16)),
    "SEGV",
    "STKFLT",
    "STOP",
    "SYS",
    "TERM",
    "TRAP",
    "TSTP",
    "TTIN",
    "TTOU",
    "URG",
    "USR1",
    "USR2",
    "VTALRM",
    "WINCH",
    "XCPU",
    "XFSZ",
)
CAPABILITIES = (
    "ALL",
    *(
        f"CAP_{name}"
        for name in (
            "AUDIT_CONTROL",
            "AUDIT_READ",
            "AUDIT_WRITE",
            "BLOCK_SUSPEND",
            "BPF",
            "CHECKPOINT_RESTORE",
            "CHOWN",
            "DAC_OVERRIDE",
            "DAC_READ_SEARCH",
            "FOWNER",
            "FSETID",
            "IPC_LOCK",
            "IPC_OWNER",
            "KILL",
            "LEASE",
            "LINUX_IMMUTABLE",
            "MAC_ADMIN",
            "MAC_OVERRIDE",
            "MKNOD",
            "NET_ADMIN",
            "NET_BIND_SERVICE",
            "NET_BROADCAST",
            "NET_RAW",
            "PERFMON",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYSLOG",
            "SYS_ADMIN",
            "SYS_BOOT",
            "SYS_CHROOT",
            "SYS_MODULE",
            "SYS_NICE",
            "SYS_PACCT",
            "SYS_PTRACE",
            "SYS_RAWIO",
            "SYS_RESOURCE",
            "SYS_TIME",
            "SYS_TTY_CONFIG",
            "WAKE_ALARM",
        )
    ),
)
_HOST = ("host",)

OPTIONS: dict[str, Source] = {
    "attach": ("stderr", "stdin", "stdout"),
    "cap-add": CAPABILITIES,
    "cap-drop": CAPABILITIES,
    "cgroupns": ("host", "private"),
    "checkpoint-dir": "files",
    "cidfile": "files",
    "config": "files",
    "config-from": "networks",
    "context": "contexts",
    "detach-keys": ("ctrl-",),
    "blkio-weight-device": "files",
    "device": "files",
    "device-read-bps": "files",
    "device-read-iops": "files",
    "device-write-bps": "files",
    "device-write-iops": "files",
    "docker": ("host=", "ca=", "cert=", "key=", "skip-tls-verify=", "from="),
    "driver": "volume drivers",
    "driver-opt": ("com.docker.network.endpoint.ifname=", "com.docker.network.endpoint.sysctls="),
    "env": "environment",
    "env-file": "files",
    "from": "contexts",
    "gpus": ("all",),
    "health-on-failure": ("none", "kill", "restart", "stop"),
    "host": ("unix://", "tcp://", "ssh://"),
    "input": "files",
    "ipam-driver": ("default",),
    "isolation": ("default",),
    "ipc": ("container:", "host", "none", "private", "shareable"),
    "label-file": "files",
    "link": "links",
    "log-driver": "log drivers",
    "log-level": ("debug", "info", "warn", "error", "fatal"),
    "log-opt": (
        *(
            f"fluentd-{name}="
            for name in ("address", "async", "buffer-limit", "max-retries", "request-ack", "retry-wait")
        ),
        *(f"gelf-{name}=" for name in ("address", "compression-level", "compression-type", "tcp-max-reconnect")),
        *(f"splunk-{name}=" for name in ("url", "token", "format", "gzip", "index", "source", "sourcetype")),
        *(f"syslog-{name}=" for name in ("address", "facility", "format", "tls-ca-cert", "tls-cert", "tls-key")),
        "compress=",
        "env=",
        "env-regex=",
        "labels=",
        "max-buffer-size=",
        "max-file=",
        "max-size=",
        "mode=",
        "tag=",
    ),
    "mount": ("type=bind,", "type=volume,", "type=tmpfs,", "type=image,"),
    "net": "networks",
    "network": "networks",
    "output": "files",
    "pid": ("container:", "host"),
    "platform": (
        "linux/386",
        "linux/amd64",
        "linux/arm",
        "linux/arm/v5",
        "linux/arm/v6",
        "linux/arm/v7",
        "linux/arm64",
        "linux/arm64/v8",
        "linux/ppc64le",
        "linux/s390x",
        "linux/riscv64",
    ),
    "pull": ("always", "missing", "never"),
    "restart": ("no", "always", "on-failure", "unless-stopped"),
    "runtime": "runtimes",
    "scope": ("local",),
    "security-opt": ("apparmor=", "label=", "no-new-privileges", "seccomp=", "systempaths=unconfined"),
    "signal": SIGNALS,
    "stop-signal": SIGNALS,
    "storage-opt": ("size=",),
    "sysctl": ("net.", "kernel.", "fs.mqueue."),
    "tlscacert": "files",
    "tlscert": "files",
    "tlskey": "files",
    "type": ("container", "image", "network", "volume"),
    "ulimit": tuple(
        f"{name}="
        for name in (
            "core",
            "cpu",
            "data",
            "fsize",
            "locks",
            "memlock",
            "msgqueue",
            "nice",
            "nofile",
            "nproc",
            "rss",
            "rtprio",
            "rttime",
            "sigpending",
            "stack",
        )
    ),
    "userns": _HOST,
    "uts": _HOST,
    "volume": "files",
    "volume-driver": "volume drivers",
    "volumes-from": "containers",
}
_BRIDGE_OPTIONS = tuple(
    f"com.docker.network.{name}="
    for name in (
        "bridge.enable_icc",
        "bridge.enable_ip_masquerade",
        "bridge.gateway_mode_ipv4",
        "bridge.gateway_mode_ipv6",
        "bridge.host_binding_ipv4",
        "bridge.inhibit_ipv4",
        "bridge.name",
        "bridge.trusted_host_interfaces",
        "container_iface_prefix",
        "driver.mtu",
        "enable_ipv4",
        "enable_ipv6",
        "host_ipv4",
        "host_ipv6",
    )
)

# What is the user's own to say: names to be, numbers, times, texts. An option is here or has values above.
FREE_TEXT = frozenset({
    "add-host", "alias", "annotation", "author", "aux-address", "blkio-weight", "cgroup-parent", "change", "checkpoint",
    "cpu-count", "cpu-percent", "cpu-period", "cpu-quota", "cpu-rt-period", "cpu-rt-runtime", "cpu-shares", "cpus",
    "cpuset-cpus", "cpuset-mems", "description", "device-cgroup-rule", "dns", "dns-opt", "dns-option", "dns-search",
    "domainname", "entrypoint", "expose", "gateway", "group-add", "gw-priority", "health-cmd", "health-interval",
    "health-retries", "health-start-interval", "health-start-period", "health-timeout", "hostname", "io-maxbandwidth",
    "io-maxiops", "ip", "ip-range", "ip6", "ipam-opt", "kernel-memory", "label", "last", "link-local-ip", "mac-address",
    "memory", "memory-reservation", "memory-swap", "memory-swappiness", "message", "name", "net-alias", "network-alias",
    "oom-score-adj", "pids-limit", "publish", "shm-size", "since", "stop-timeout", "subnet", "tail", "time", "timeout",
    "tmpfs", "until", "user", "workdir",
})  # fmt: skip

_WITH_RAW = ("ps", "container ls", "images", "image ls", "volume ls", "network ls", "system df")
_WITH_TABLE = ("history", "image history", "context ls", "stats", "container stats", "search")
_FORMATS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_WITH_RAW, ("json", "raw", "table")),
    **dict.fromkeys(_WITH_TABLE, ("json", "table")),
}

_PS = (
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
)
_IMAGES = ("before", "dangling", "label", "reference", "since", "until")
_EVENTS = ("container", "daemon", "event", "image", "label", "network", "scope", "type", "volume")
_PRUNED = ("label", "label!", "until")
FILTERS: dict[str, tuple[str, ...]] = {
    "ps": _PS,
    "container ls": _PS,
    "images": _IMAGES,
    "image ls": _IMAGES,
    "events": _EVENTS,
    "system events": _EVENTS,
    "network ls": ("dangling", "driver", "id", "label", "name", "scope", "type"),
    "volume ls": ("dangling", "driver", "label", "name"),
    "container prune": _PRUNED,
    "image prune": _PRUNED,
    "network prune": _PRUNED,
    "system prune": _PRUNED,
    "volume prune": ("all", "label", "label!"),
}
_YES_OR_NO = ("true", "false")
FILTER_VALUES: dict[str, Source] = {
    "all": _YES_OR_NO,
    "ancestor": "images",
    "before": "containers",
    "container": "containers",
    "dangling": _YES_OR_NO,
    "driver": ("bridge", "host", "local", "null"),
    "event": (
        "attach",
        "commit",
        "connect",
        "copy",
        "create",
        "delete",
        "destroy",
        "detach",
        "die",
        "disconnect",
        "exec_create",
        "exec_detach",
        "exec_die",
        "exec_start",
        "export",
        "health_status",
        "import",
        "kill",
        "load",
        "mount",
        "oom",
        "pause",
        "prune",
        "pull",
        "push",
        "reload",
        "remove",
        "rename",
        "resize",
        "restart",
        "save",
        "start",
        "stop",
        "tag",
        "top",
        "unmount",
        "unpause",
        "untag",
        "update",
    ),
    "health": ("healthy", "none", "starting", "unhealthy"),
    "id": "containers",
    "image": "images",
    "is-task": _YES_OR_NO,
    "name": "",
    "network": "networks",
    "reference": "images",
    "scope": ("local", "swarm"),
    "since": "containers",
    "status": ("created", "dead", "exited", "paused", "removing", "restarting", "running"),
    "type": ("container", "daemon", "image", "network", "volume"),
    "volume": "volumes",
}

# What a command wants of the containers that it names; the others take any.
_STATES = {
    **dict.fromkeys(("attach", "exec", "port", "top", "commit", "stats"), "active"),
    **dict.fromkeys(("stop", "kill", "wait"), "active"),
    "checkpoint create": "active",
    "pause": "unpaused",
    "unpause": "paused",
    "start": "stopped",
    "rm": "stopped",
}
_ARGUMENTS: dict[str, Source] = {
    "IMAGE": "images",
    "SOURCE_IMAGE": "images",
    "REPOSITORY": "images",
    "DISTRIBUTION": "distributions",
    "VOLUME": "volumes",
    "NETWORK": "networks",
    "CONTEXT": "contexts",
    "NAME": "objects",
    "file": "files",
    "FILE": "files",
}


def of(option: str, path: tuple[str, ...]) -> Source:
    """The values of an option in the command of that path."""
    if option == "format":
        return _FORMATS.get(" ".join(path), ("json",))
    if option == "driver" and path[:1] == ("network",):
        return ("bridge", "host", "null")
    if option == "opt" and path[:1] == ("network",):
        return (*_BRIDGE_OPTIONS, "kist.expose=")
    if option == "opt" and path[:1] == ("volume",):
        return ("device=", "o=", "size=", "type=")
    return OPTIONS.get(option, "")


def argument(name: str, path: tuple[str, ...], flags: frozenset[str]) -> str:
    """The source for an argument as the usage names it: `CONTAINER`, `SOURCE_IMAGE[:TAG]`, `file|URL|-`.

    `flags`: those given already.
    """
    if name.startswith("CONTAINER:"):
        return "files"
    bare = re.split(r"[\[|:.]", name, maxsplit=1)[0]
    if path[-1:] in (("create",), ("import",)) and bare in ("VOLUME", "CONTEXT", "NETWORK", "REPOSITORY"):
        return ""  # a new name
    if bare == "CONTAINER" and path[-1:] == ("rm",) and "force" in flags:
        return "containers"
    if bare == "CONTAINER":
        return _STATES.get(" ".join(path), _STATES.get(path[-1], "containers")) if path else "containers"
    return str(_ARGUMENTS.get(bare, ""))
