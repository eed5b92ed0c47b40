"""Every option of the daemon, declared once. Names, shorthands and daemon.json keys are dockerd's (28.5).

An option of dockerd that this engine does not have is in the table too, with the reason: naming it is refused by
name, never ignored. `kind` says how a value is read: flag (boolean), string, int, size (bytes, `64m`), list, map
(`key=value`), runtimes (`name=path`), features (`name[=true|false]`), ip, ips, ulimits.
"""

from __future__ import annotations

import msgspec


class Option(msgspec.Struct, frozen=True):
    """One option. `key` is its name in daemon.json; `reload`: SIGHUP applies a new value without a restart."""

    name: str
    kind: str
    help: str
    default: object = None
    short: str = ""
    key: str = ""
    refused: str = ""  # why naming it is an error; "" when it works
    reload: bool = False
    hidden: bool = False
    file: bool = True  # may stand in daemon.json
    flag: bool = True  # may stand on the command line
    harmless: object = None  # the one value of a refused option that may be named (it asks for what is so anyway)

    @property
    def json_key(self) -> str:
        return self.key or self.name

    @property
    def field(self) -> str:
        return self.json_key.replace("-", "_")


_NETWORKS = "pools and options for all networks come with a later version"
_IPV6 = "IPv6 comes with a later version"
_CONTAINERD = "kist needs no containerd"
_REGISTRY = "pull and push come with a later version"
_CLUSTER = "services over several machines come with a later version"
_BUILD = "builds come with a later version"
_REMOVED = "it was removed from Docker"

OPTIONS: tuple[Option, ...] = (
    Option("add-runtime", "runtimes", "Register an additional OCI compatible runtime", {}, key="runtimes",
           reload=True),
    Option("allow-direct-routing", "flag", "Allow remote access to published ports on container IP addresses", False,
           refused="it comes with a later version", harmless=False),
    Option("authorization-plugin", "list", "Authorization plugins to load", (), key="authorization-plugins",
           refused="there are no plug-ins", harmless=()),
    Option("bip", "string", "IPv4 address for the default bridge", ""),
    Option("bip6", "string", "IPv6 address for the default bridge", "", refused=_IPV6),
    Option("bridge", "string", "Attach containers to a network bridge", "", short="b"),
    Option("bridge-accept-fwmark", "string",
           "In bridge networks, accept packets with this firewall mark/mask", "",
           refused="no rule of kist drops packets from outside a bridge", harmless=""),
    Option("cdi-spec-dir", "list", "CDI specification directories to use", ("/etc/cdi", "/var/run/cdi"),
           key="cdi-spec-dirs"),
    Option("cgroup-parent", "string", "Set parent cgroup for all containers", ""),
    Option("config-file", "string", "Daemon configuration file", "/etc/kist/daemon.json", file=False),
    Option("containerd", "string", "containerd grpc address", "", refused=_CONTAINERD),
    Option("containerd-namespace", "string", "Containerd namespace to use", "moby", refused=_CONTAINERD),
    Option("containerd-plugins-namespace", "string", "Containerd namespace to use for plugins", "plugins.moby",
           key="containerd-plugin-namespace", refused=_CONTAINERD),
    Option("cpu-rt-period", "int", "Limit the CPU real-time period in microseconds for the parent cgroup", 0,
           refused="this engine sets no real-time limits on parent cgroups", harmless=0),
    Option("cpu-rt-runtime", "int", "Limit the CPU real-time runtime in microseconds for the parent cgroup", 0,
           refused="this engine sets no real-time limits on parent cgroups", harmless=0),
    Option("cri-containerd", "flag", "start containerd with cri", False, refused=_CONTAINERD, harmless=False,
           file=False),
    Option("data-root", "string", "Root directory of persistent state", "/var/lib/kist"),
    Option("debug", "flag", "Enable debug mode", False, short="D", reload=True),
    Option("default-address-pool", "list", "Default address pools for node specific local networks", (),
           key="default-address-pools", refused=_NETWORKS, harmless=()),
    Option("default-cgroupns-mode", "string",
           'Default mode for containers cgroup namespace ("host" | "private")', "private"),
    Option("default-gateway", "ip", "Default gateway IPv4 address for the default bridge network", ""),
    Option("default-gateway-v6", "ip", "Default gateway IPv6 address for the default bridge network", "",
           refused=_IPV6),
    Option("default-ipc-mode", "string", 'Default mode for containers ipc ("shareable" | "private")', "private"),
    Option("default-network-opt", "list", "Default network options", (), key="default-network-opts", refused=_NETWORKS,
           harmless={}),
    Option("default-runtime", "string", "Default OCI runtime for containers", "kist",
           reload=True),
    Option("default-shm-size", "size", "Default shm size for containers", 64 << 20, reload=True),
    Option("default-ulimit", "ulimits", "Default ulimits for containers", (), key="default-ulimits"),
    Option("dns", "ips", "DNS server to use", ()),
    Option("dns-opt", "list", "DNS options to use", (), key="dns-opts"),
    Option("dns-search", "list", "DNS search domains to use", ()),
    Option("exec-opt", "list", "Runtime execution options", (), key="exec-opts"),
    Option("exec-root", "string", "Root directory for execution state files", "/run/kist"),
    Option("experimental", "flag", "Enable experimental features", False),
    Option("feature", "features", "Enable feature in the daemon", {}, key="features", reload=True),
    Option("firewall-backend", "string", "Firewall backend to use", "nftables",
           refused="nftables is the only one", harmless="nftables"),
    Option("fixed-cidr", "string", "IPv4 subnet for the default bridge network", ""),
    Option("fixed-cidr-v6", "string", "IPv6 subnet for the default bridge network", "", refused=_IPV6),
    Option("group", "string", "Group for the unix socket", "docker", short="G"),
    Option("host", "list", "Daemon socket(s) to connect to", (), short="H", key="hosts"),
    Option("host-gateway-ip", "ips",
           "IP addresses that the special 'host-gateway' string in --add-host resolves to. "
           "Defaults to the IP addresses of the default bridge", (), key="host-gateway-ips"),
    Option("http-proxy", "string", "HTTP proxy URL to use for outgoing traffic", "", refused=_REGISTRY),
    Option("https-proxy", "string", "HTTPS proxy URL to use for outgoing traffic", "", refused=_REGISTRY),
    Option("icc", "flag", "Enable inter-container communication for the default bridge network", True),
    Option("init", "flag", "Run an init in the container to forward signals and reap processes", False),
    Option("init-path", "string", "Path to the docker-init binary", ""),
    Option("insecure-registry", "list", "Enable insecure registry communication", (), key="insecure-registries",
           refused=_REGISTRY, harmless=(), reload=True),
    Option("ip", "ip", "Host IP for port publishing from the default bridge network", "0.0.0.0"),
    Option("ip-forward", "flag", "Enable IP forwarding in system configuration", True),
    Option("ip-forward-no-drop", "flag", "Do not set the filter-FORWARD policy to DROP when enabling IP forwarding",
           True, refused="the policies of the host's own chains are never changed", harmless=True),
    Option("ip-masq", "flag", "Enable IP masquerading for the default bridge network", True),
    Option("ip6tables", "flag", "Enable addition of ip6tables rules", True, refused=_IPV6, harmless=True),
    Option("iptables", "flag", "Enable addition of iptables rules", True),
    Option("ipv6", "flag", "Enable IPv6 networking for the default bridge network", False, refused=_IPV6,
           harmless=False),
    Option("label", "list", "Set key=value labels to the daemon", (), key="labels", reload=True),
    Option("live-restore", "flag", "Enable live restore of docker when containers are still running", True,
           refused="containers of kist always outlive the daemon", harmless=True, reload=True),
    Option("log-driver", "string", "Default driver for container logs", "json-file"),
    Option("log-format", "string", 'Set the logging format ("text"|"json")', "text"),
    Option("log-level", "string", 'Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")', "info", short="l"),
    Option("log-opt", "map", "Default log driver options for containers", {}, key="log-opts"),
    Option("max-concurrent-downloads", "int", "Set the max concurrent downloads", 3, refused=_REGISTRY, harmless=3,
           reload=True),
    Option("max-concurrent-uploads", "int", "Set the max concurrent uploads", 5, refused=_REGISTRY, harmless=5,
           reload=True),
    Option("max-download-attempts", "int", "Set the max download attempts for each pull", 5, refused=_REGISTRY,
           harmless=5, reload=True),
    Option("metrics-addr", "string", "Set default address and port to serve the metrics api on", "",
           refused="metrics come with a later version"),
    Option("mtu", "int", 'Set the MTU for the default "bridge" network', 1500),
    Option("network-control-plane-mtu", "int", "Network Control plane MTU", 1500, refused=_CLUSTER, harmless=1500),
    Option("network-diagnostic-port", "int", "TCP port number of the network diagnostic server", 0, refused=_CLUSTER,
           harmless=0, hidden=True),
    Option("no-new-privileges", "flag", "Set no-new-privileges by default for new containers", False),
    Option("no-proxy", "string", "Comma-separated list of hosts or IP addresses for which the proxy is skipped", "",
           refused=_REGISTRY),
    Option("node-generic-resource", "list", "Advertise user-defined resource", (), key="node-generic-resources",
           refused=_CLUSTER, harmless=()),
    Option("pidfile", "string", "Path to use for daemon PID file", "/run/kist.pid", short="p"),
    Option("plugin-socket-dir", "string", "Directory of the sockets of volume plug-ins", "/run/docker/plugins"),
    Option("plugin-spec-dir", "list", "Directories of the specifications of volume plug-ins",
           ("/etc/docker/plugins", "/usr/lib/docker/plugins"), key="plugin-spec-dirs"),
    Option("publish-policy", "string",
           'Whether published ports pass a host firewall that drops forwarded traffic ("host" | "open")', "host"),
    Option("raw-logs", "flag", "Full timestamps without ANSI coloring", True,
           refused="time stamps are always full, colours never used", harmless=True),
    Option("registry-mirror", "list", "Preferred registry mirror", (), key="registry-mirrors", refused=_REGISTRY,
           harmless=(), reload=True),
    Option("rootless", "flag", "Enable rootless mode", False, refused="running without root comes with a later version",
           harmless=False, file=False),
    Option("seccomp-profile", "string",
           'Path to seccomp profile. Set to "unconfined" to disable the default seccomp profile', "builtin"),
    Option("selinux-enabled", "flag", "Enable selinux support", False,
           refused="SELinux labels come with a later version",
           harmless=False),
    Option("shutdown-timeout", "int", "Set the default shutdown timeout", 15, reload=True),
    Option("storage-driver", "string", "Storage driver to use", "", short="s"),
    Option("storage-opt", "list", "Storage driver options", (), key="storage-opts",
           refused="the storage drivers have no options", harmless=()),
    Option("swarm-default-advertise-addr", "string", "Set default address or interface for swarm advertised address",
           "",
           refused=_CLUSTER),
    Option("tls", "flag", "Use TLS; implied by --tlsverify", False),
    Option("tlscacert", "string", "Trust certs signed only by this CA", ""),
    Option("tlscert", "string", "Path to TLS certificate file", ""),
    Option("tlskey", "string", "Path to TLS key file", ""),
    Option("tlsverify", "flag", "Use TLS and verify the remote", False),
    Option("userland-proxy", "flag", "Use userland proxy for loopback traffic", False,
           refused="published ports are translated by the kernel, for loopback too", harmless=False),
    Option("userland-proxy-path", "string", "Path to the userland proxy binary", "",
           refused="published ports are translated by the kernel, for loopback too"),
    Option("userns-remap", "string", "User/Group setting for user namespaces", "",
           refused="a remapped root for all containers comes with a later version", harmless=""),
    Option("validate", "flag", "Validate daemon configuration and exit", False, file=False),
    # Keys of daemon.json that have no flag.
    Option("builder", "string", "", refused=_BUILD, harmless={}, hidden=True, flag=False),
    Option("deprecated-key-path", "string", "", refused=_REMOVED, hidden=True, flag=False),
    Option("proxies", "string", "", refused=_REGISTRY, harmless={}, hidden=True, flag=False),
    Option("swarm-raft-election-tick", "int", "", refused=_CLUSTER, harmless=0, hidden=True, flag=False),
    Option("swarm-raft-heartbeat-tick", "int", "", refused=_CLUSTER, harmless=0, hidden=True, flag=False),
    # What dockerd 20.10 had and 28 refuses or ignores.
    Option("allow-nondistributable-artifacts", "list", "", (), refused=_REMOVED, harmless=(), hidden=True),
    Option("api-cors-header", "string", "", "", refused=_REMOVED, harmless="", hidden=True),
    Option("cluster-advertise", "string", "", "", refused=_REMOVED, hidden=True),
    Option("cluster-store", "string", "", "", refused=_REMOVED, hidden=True),
    Option("cluster-store-opt", "map", "", {}, key="cluster-store-opts", refused=_REMOVED, hidden=True),
    Option("graph", "string", "", "", short="g", refused=f"{_REMOVED}: use --data-root", hidden=True),
    Option("oom-score-adjust", "int", "", 0, hidden=True, harmless=0,
           refused=f"{_REMOVED}: use OOMScoreAdjust= in the unit that starts kistd"),
    Option("restart", "flag", "", True, short="r", refused="use a restart policy on run", harmless=True, hidden=True,
           file=False),
)  # fmt: skip

BY_NAME = {option.name: option for option in OPTIONS}
BY_FLAG = {option.name: option for option in OPTIONS if option.flag}
BY_SHORT = {option.short: option for option in OPTIONS if option.short}
BY_KEY = {option.json_key: option for option in OPTIONS if option.file}
BY_KEY["host-gateway-ip"] = BY_NAME["host-gateway-ip"]  # as it was called while it took one address
