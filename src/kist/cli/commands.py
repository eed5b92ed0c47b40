"""Every command, declared once: name, arguments, options, and the function that carries it out."""

from __future__ import annotations

from kist.cli.options import CREATE, RUN
from kist.cli.parse import Command, Opt

_FILTER = Opt("filter", "list", "Filter output based on conditions provided", "f", check="filter")
_FORMAT = Opt("format", "text", "Format output using a custom template", "f")
_LIST_FORMAT = Opt("format", "text", "Format output using a custom template")
_QUIET = Opt("quiet", "flag", "Only display IDs", "q")
_NO_TRUNC = Opt("no-trunc", "flag", "Don't truncate output")
_KEYS = Opt("detach-keys", "text", "Override the key sequence for detaching a container")
_PROXY = Opt("sig-proxy", "flag", "Proxy all received signals to the process", default=True)
_FORCE = Opt("force", "flag", "Do not prompt for confirmation", "f")
_CHANGEABLE = frozenset({
    "blkio-weight", "cpu-period", "cpu-quota", "cpu-shares", "cpus", "cpuset-cpus", "cpuset-mems", "memory",
    "memory-reservation", "memory-swap", "pids-limit",
})  # fmt: skip
_UPDATE_OPTIONS = (
    *(one for one in CREATE if one.name in _CHANGEABLE),
    Opt("cpu-rt-period", "int", "Limit the CPU real-time period in microseconds"),
    Opt("cpu-rt-runtime", "int", "Limit the CPU real-time runtime in microseconds"),
    Opt("restart", "text", "Restart policy to apply when a container exits"),
)
_STOP = (
    Opt("signal", "text", "Signal to send to the container", "s"),
    Opt("timeout", "int", "Seconds to wait before killing the container", "t"),
    Opt("time", "int", "Seconds to wait before killing the container"),
)

CONTAINER = (
    Command(
        "run",
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        "run:run",
        RUN,
        1,
        -1,
        False,
    ),
    Command(
        "create", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container", "run:create", CREATE, 1, -1, False
    ),
    Command(
        "start",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Start one or more stopped containers",
        "run:start",
        (
            Opt("attach", "flag", "Attach STDOUT/STDERR and forward signals", "a"),
            Opt("checkpoint", "text", "Restore from this checkpoint"),
            Opt("checkpoint-dir", "text", "Use a custom checkpoint storage directory"),
            Opt("interactive", "flag", "Attach container's STDIN", "i"),
            _KEYS,
            _PROXY,
        ),
        1,
        -1,
    ),
    Command(
        "attach",
        "[OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        "run:attach",
        (_KEYS, Opt("no-stdin", "flag", "Do not attach STDIN"), _PROXY),
        1,
        1,
    ),
    Command(
        "exec",
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        "run:exec_",
        (
            Opt("detach", "flag", "Detached mode: run command in the background", "d"),
            _KEYS,
            Opt("env", "list", "Set environment variables", "e"),
            Opt("env-file", "list", "Read in a file of environment variables"),
            Opt("interactive", "flag", "Keep STDIN open even if not attached", "i"),
            Opt("privileged", "flag", "Give extended privileges to the command"),
            Opt("tty", "flag", "Allocate a pseudo-TTY", "t"),
            Opt("user", "text", 'Username or UID (format: "<name|uid>[:<group|gid>]")', "u"),
            Opt("workdir", "text", "Working directory inside the container", "w"),
        ),
        2,
        -1,
        False,
    ),
    Command(
        "stop",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Stop one or more running containers",
        "containers:stop",
        _STOP,
        1,
        -1,
    ),
    Command(
        "restart",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Restart one or more containers",
        "containers:restart",
        _STOP,
        1,
        -1,
    ),
    Command(
        "kill",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Kill one or more running containers",
        "containers:kill",
        (Opt("signal", "text", "Signal to send to the container", "s"),),
        1,
        -1,
    ),
    Command(
        "wait",
        "CONTAINER [CONTAINER...]",
        "Block until one or more containers stop, then print their exit codes",
        "containers:wait",
        (),
        1,
        -1,
    ),
    Command(
        "rm",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Remove one or more containers",
        "containers:remove",
        (
            Opt("force", "flag", "Force the removal of a running container (uses SIGKILL)", "f"),
            Opt("link", "flag", "Remove the specified link", "l"),
            Opt("volumes", "flag", "Remove anonymous volumes associated with the container", "v"),
        ),
        1,
        -1,
    ),
    Command(
        "update",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Update configuration of one or more containers",
        "containers:update",
        _UPDATE_OPTIONS,
        1,
        -1,
    ),
    Command(
        "pause",
        "CONTAINER [CONTAINER...]",
        "Pause all processes within one or more containers",
        "containers:pause",
        (),
        1,
        -1,
    ),
    Command(
        "unpause",
        "CONTAINER [CONTAINER...]",
        "Unpause all processes within one or more containers",
        "containers:unpause",
        (),
        1,
        -1,
    ),
    Command(
        "cp",
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tkist cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files/folders between a container and the local filesystem",
        "copy:copy",
        (
            Opt("archive", "flag", "Archive mode (copy all uid/gid information)", "a"),
            Opt("follow-link", "flag", "Always follow symbol link in SRC_PATH", "L"),
            Opt(
                "quiet",
                "flag",
                "Suppress progress output during copy. Progress output is automatically suppressed if no "
                "terminal is attached",
                "q",
            ),
        ),
        2,
        2,
    ),
    Command(
        "diff",
        "CONTAINER",
        "Inspect changes to files or directories on a container's filesystem",
        "snapshots:diff",
        (),
        1,
        1,
    ),
    Command(
        "export",
        "[OPTIONS] CONTAINER",
        "Export a container's filesystem as a tar archive",
        "snapshots:export",
        (Opt("output", "text", "Write to a file, instead of STDOUT", "o"),),
        1,
        1,
    ),
    Command(
        "commit",
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        "snapshots:commit",
        (
            Opt("author", "text", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")', "a"),
            Opt("change", "list", "Apply Dockerfile instruction to the created image", "c"),
            Opt("message", "text", "Commit message", "m"),
            Opt("pause", "flag", "Pause container during commit", "p", True),
        ),
        1,
        2,
    ),
    Command("rename", "CONTAINER NEW_NAME", "Rename a container", "containers:rename", (), 2, 2),
    Command(
        "logs",
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        "containers:logs",
        (
            Opt("details", "flag", "Show extra details provided to logs"),
            Opt("follow", "flag", "Follow log output", "f"),
            Opt(
                "since",
                "text",
                'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
            ),
            Opt("until", "text", "Show logs before a timestamp or relative"),
            Opt("tail", "text", "Number of lines to show from the end of the logs", "n", "all"),
            Opt("timestamps", "flag", "Show timestamps", "t"),
        ),
        1,
        1,
    ),
    Command(
        "top",
        "CONTAINER [ps OPTIONS]",
        "Display the running processes of a container",
        "containers:top",
        (),
        1,
        -1,
        False,
    ),
    Command(
        "stats",
        "[OPTIONS] [CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        "stats:stats",
        (
            Opt("all", "flag", "Show all containers (default shows just running)", "a"),
            _LIST_FORMAT,
            Opt("no-stream", "flag", "Disable streaming stats and only pull the first result"),
            _NO_TRUNC,
        ),
        0,
        -1,
    ),
    Command(
        "port",
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
        "containers:port",
        (),
        1,
        2,
    ),
)
_PS_OPTIONS = (
    Opt("all", "flag", "Show all containers (default shows just running)", "a"),
    _FILTER,
    _LIST_FORMAT,
    Opt("last", "int", "Show n last created containers (includes all states)", "n", -1),
    Opt("latest", "flag", "Show the latest created container (includes all states)", "l"),
    _NO_TRUNC,
    _QUIET,
    Opt("size", "flag", "Display total file sizes", "s"),
)
_IMAGES_OPTIONS = (
    Opt("all", "flag", "Show all images (default hides intermediate images)", "a"),
    Opt("digests", "flag", "Show digests"),
    _FILTER,
    _LIST_FORMAT,
    _NO_TRUNC,
    _QUIET,
    Opt("tree", "flag", "List multi-platform images as a tree (not supported yet)", hidden=True),
)
_RMI_OPTIONS = (
    Opt("force", "flag", "Force removal of the image", "f"),
    Opt("no-prune", "flag", "Do not delete untagged parents"),
)
_HISTORY_OPTIONS = (
    _LIST_FORMAT,
    Opt("human", "flag", "Print sizes and dates in human readable format", "H", True),
    _NO_TRUNC,
    _QUIET,
)
IMAGE = (
    Command("history", "[OPTIONS] IMAGE", "Show the history of an image", "images:history", _HISTORY_OPTIONS, 1, 1),
    Command(
        "load",
        "[OPTIONS]",
        "Load an image from a tar archive or STDIN",
        "images:load",
        (
            Opt("input", "text", "Read from tar archive file, instead of STDIN", "i"),
            Opt("quiet", "flag", "Suppress the load output", "q"),
        ),
        0,
        0,
    ),
    Command(
        "save",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        "images:save",
        (Opt("output", "text", "Write to a file, instead of STDOUT", "o"),),
        1,
        -1,
    ),
    Command(
        "import",
        "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        "Import the contents from a tarball to create a filesystem image",
        "images:import_",
        (
            Opt("change", "list", "Apply Dockerfile instruction to the created image", "c"),
            Opt("message", "text", "Set commit message for imported image", "m"),
        ),
        1,
        -1,
    ),
    Command(
        "tag",
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        "images:tag",
        (),
        2,
        2,
    ),
)
SYSTEM = (
    Command("version", "[OPTIONS]", "Show the version information", "about:version", (_FORMAT,)),
    Command("info", "[OPTIONS]", "Display system-wide information", "about:info", (_FORMAT,)),
    Command(
        "events",
        "[OPTIONS]",
        "Get real time events from the server",
        "others:events",
        (
            _FILTER,
            _LIST_FORMAT,
            Opt("since", "text", "Show all events created since timestamp"),
            Opt("until", "text", "Stream events until this timestamp"),
        ),
    ),
)
_PRUNE_CONTAINERS = (_FORCE, Opt("filter", "list", 'Provide filter values (e.g. "until=<timestamp>")', check="filter"))
PRUNE = (
    _FORCE,
    Opt("all", "flag", "Remove all unused, not just dangling ones", "a"),
    Opt("filter", "list", "Provide filter values", check="filter"),
)

GLOBAL = Command("", "[OPTIONS] COMMAND [ARG...]", "A container engine, Docker's in Python", "", (
    Opt("config", "text", "Location of client config files (default: DOCKER_CONFIG, or ~/.docker)"),
    Opt("context", "text", "Name of the context to use to connect to the daemon", "c"),
    Opt("debug", "flag", "Enable debug mode", "D"),
    Opt("host", "list", "Daemon socket to connect to", "H"),
    Opt("log-level", "text", 'Set the logging level ("debug", "info", "warn", "error", "fatal")', "l", "info"),
    Opt("tls", "flag", "Use TLS; implied by --tlsverify"),
    Opt("tlscacert", "text", "Trust certs signed only by this CA"),
    Opt("tlscert", "text", "Path to TLS certificate file"),
    Opt("tlskey", "text", "Path to TLS key file"),
    Opt("tlsverify", "flag", "Use TLS and verify the remote"),
    Opt("version", "flag", "Print version information and quit", "v"),
), 0, -1, False)  # fmt: skip
_ENDPOINT = Opt("docker", "map", "set the docker endpoint: host, ca, cert, key, skip-tls-verify, from (default [])")
_DESCRIPTION = Opt("description", "text", "Description of the context")
CONTEXT = (
    Command("create", "[OPTIONS] CONTEXT", "Create a context", "contexts:create",
            (_DESCRIPTION, _ENDPOINT, Opt("from", "text", "create context from a named context")), 1, 1),
    Command("export", "[OPTIONS] CONTEXT [FILE|-]",
            "Export a context to a tar archive FILE or a tar stream on STDOUT.", "contexts:export", (), 1, 2),
    Command("import", "CONTEXT FILE|-", "Import a context from a tar or zip file", "contexts:import_", (), 2, 2),
    Command("inspect", "[OPTIONS] [CONTEXT] [CONTEXT...]", "Display detailed information on one or more contexts",
            "contexts:inspect", (_FORMAT,), 0, -1),
    Command("ls", "[OPTIONS]", "List contexts", "contexts:ls",
            (_LIST_FORMAT, Opt("quiet", "flag", "Only show context names", "q")), aliases=("list",)),
    Command("rm", "CONTEXT [CONTEXT...]", "Remove one or more contexts", "contexts:remove",
            (Opt("force", "flag", "Force the removal of a context in use", "f"),), 1, -1, aliases=("remove",)),
    Command("show", "", "Print the name of the current context", "contexts:show"),
    Command("update", "[OPTIONS] CONTEXT", "Update a context", "contexts:update", (_DESCRIPTION, _ENDPOINT), 1, 1),
    Command("use", "CONTEXT", "Set the current docker context", "contexts:use", (), 0, -1),
)  # fmt: skip
_NETWORK_CREATE = (
    Opt("attachable", "flag", "Enable manual container attachment"),
    Opt("aux-address", "pairs", "Auxiliary IPv4 or IPv6 addresses used by Network driver"),
    Opt("config-from", "text", "The network from which to copy the configuration"),
    Opt("config-only", "flag", "Create a configuration only network"),
    Opt("driver", "text", "Driver to manage the Network", "d", "bridge"),
    Opt("gateway", "strings", "IPv4 or IPv6 Gateway for the master subnet"),
    Opt("ingress", "flag", "Create swarm routing-mesh network"),
    Opt("internal", "flag", "Restrict external access to the network"),
    Opt("ip-range", "strings", "Allocate container ip from a sub-range"),
    Opt("ipam-driver", "text", "IP Address Management Driver", default="default"),
    Opt("ipam-opt", "pairs", "Set IPAM driver specific options"),
    Opt("ipv4", "flag", "Enable or disable IPv4 address assignment", default=True),
    Opt("ipv6", "flag", "Enable or disable IPv6 address assignment"),
    Opt("label", "list", "Set metadata on a network", check="label"),
    Opt("opt", "pairs", "Set driver specific options", "o"),
    Opt("scope", "text", "Control the network's scope"),
    Opt("subnet", "strings", "Subnet in CIDR format that represents a network segment"),
)
_NETWORK_CONNECT = (
    Opt("alias", "strings", "Add network-scoped alias for the container"),
    Opt("driver-opt", "strings", "driver options for the network"),
    Opt(
        "gw-priority",
        "int",
        "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
    ),
    Opt("ip", "text", 'IPv4 address (e.g., "172.30.100.104")'),
    Opt("ip6", "text", 'IPv6 address (e.g., "2001:db8::33")'),
    Opt("link", "list", "Add link to another container", check="link"),
    Opt("link-local-ip", "strings", "Add a link-local address for the container"),
)
NETWORK = (
    Command("connect", "[OPTIONS] NETWORK CONTAINER", "Connect a container to a network", "networks:connect",
            _NETWORK_CONNECT, 2, 2),
    Command("create", "[OPTIONS] NETWORK", "Create a network", "networks:create", _NETWORK_CREATE, 1, 1),
    Command("disconnect", "[OPTIONS] NETWORK CONTAINER", "Disconnect a container from a network", "networks:disconnect",
            (Opt("force", "flag", "Force the container to disconnect from a network", "f"),), 2, 2),
    Command("inspect", "[OPTIONS] NETWORK [NETWORK...]", "Display detailed information on one or more networks",
            "networks:inspect", (_FORMAT,), 1, -1),
    Command("ls", "[OPTIONS]", "List networks", "networks:listing", (_FILTER, _LIST_FORMAT, _NO_TRUNC, _QUIET),
            aliases=("list",)),
    Command("prune", "[OPTIONS]", "Remove all unused networks", "system:network_prune", _PRUNE_CONTAINERS),
    Command("rm", "NETWORK [NETWORK...]", "Remove one or more networks", "networks:remove",
            (Opt("force", "flag", "Do not error if the network does not exist", "f"),), 1, -1, aliases=("remove",)),
)  # fmt: skip

TOP = (
    *CONTAINER,
    Command("ps", "[OPTIONS]", "List containers", "containers:ps", _PS_OPTIONS),
    Command(
        "inspect",
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on Docker objects",
        "containers:inspect_any",
        (
            _FORMAT,
            Opt("size", "flag", "Display total file sizes if the type is container", "s"),
            Opt("type", "text", "Only inspect objects of the given type"),
        ),
        1,
        -1,
    ),
    Command("images", "[OPTIONS] [REPOSITORY[:TAG]]", "List images", "images:listing", _IMAGES_OPTIONS, 0, 1),
    Command("rmi", "[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images", "images:remove", _RMI_OPTIONS, 1, -1),
    *IMAGE,
    *SYSTEM,
)
_CHECKPOINT_DIR = Opt("checkpoint-dir", "text", "Use a custom checkpoint storage directory")
GROUPS: dict[str, tuple[str, tuple[Command, ...]]] = {
    "container": ("Manage containers", (
        *CONTAINER,
        Command("ls", "[OPTIONS]", "List containers", "containers:ps", _PS_OPTIONS, aliases=("list", "ps")),
        Command("prune", "[OPTIONS]", "Remove all stopped containers", "system:container_prune", _PRUNE_CONTAINERS),
        Command("inspect", "[OPTIONS] CONTAINER [CONTAINER...]", "Display detailed information on one or more containers",
                "containers:inspect", (_FORMAT, Opt("size", "flag", "Display total file sizes", "s")), 1, -1),
    )),
    "image": ("Manage images", (
        *IMAGE,
        Command("ls", "[OPTIONS] [REPOSITORY[:TAG]]", "List images", "images:listing", _IMAGES_OPTIONS, 0, 1,
                aliases=("list",)),
        Command("rm", "[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images", "images:remove", _RMI_OPTIONS, 1, -1,
                aliases=("remove",)),
        Command("inspect", "[OPTIONS] IMAGE [IMAGE...]", "Display detailed information on one or more images",
                "images:inspect", (_FORMAT,), 1, -1),
        Command("prune", "[OPTIONS]", "Remove unused images", "system:image_prune", PRUNE),
        Command("bootstrap", "DISTRIBUTION", "Make a base image from the distribution's packages (busybox, debian[:SUITE])",
                "images:bootstrap", (), 1, 1),
    )),
    "volume": ("Manage volumes", (
        Command("clone", "VOLUME NEW_VOLUME", "Make a new volume with the files of another one",
                "volumes:clone", (), 2, 2),
        Command("create", "[OPTIONS] [VOLUME]", "Create a volume", "others:volume_create", (
            Opt("driver", "text", "Specify volume driver name", "d", "local"), Opt("label", "list", "Set metadata for a volume", check="label"),
            Opt("name", "text", "Specify volume name"), Opt("opt", "pairs", "Set driver specific options", "o")), 0, 1),
        Command("export", "[OPTIONS] VOLUME", "Write the files of a volume as a tar archive", "volumes:export", (
            Opt("output", "text", "Write to a file, instead of STDOUT", "o"),), 1, 1),
        Command("import", "VOLUME [file|-]", "Make a volume from a tar archive", "volumes:import_", (), 1, 2),
        Command("inspect", "[OPTIONS] VOLUME [VOLUME...]", "Display detailed information on one or more volumes",
                "others:volume_inspect", (_FORMAT,), 1, -1),
        Command("ls", "[OPTIONS]", "List volumes", "others:volume_ls", (_FILTER, _LIST_FORMAT, _QUIET),
                aliases=("list",)),
        Command("prune", "[OPTIONS]", "Remove unused local volumes", "system:volume_prune", PRUNE),
        Command("rm", "[OPTIONS] VOLUME [VOLUME...]", "Remove one or more volumes", "others:volume_rm",
                (Opt("force", "flag", "Force the removal of one or more volumes", "f"),), 1, -1),
        Command("snapshot", "VOLUME NEW_VOLUME", "Make a new volume with the files of another one, while nobody writes",
                "volumes:snapshot", (), 2, 2),
    )),
    "network": ("Manage networks", NETWORK),
    "system": ("Manage the engine", (
        *SYSTEM[1:],
        Command("df", "[OPTIONS]", "Show disk usage", "system:df", (_LIST_FORMAT, Opt("verbose", "flag", "Show detailed information on space usage", "v"))),
        Command("prune", "[OPTIONS]", "Remove unused data", "system:prune", (
            Opt("all", "flag", "Remove all unused images not just dangling ones", "a"),
            Opt("filter", "list", 'Provide filter values (e.g. "label=<key>=<value>")', check="filter"),
            _FORCE, Opt("volumes", "flag", "Prune anonymous volumes"))),
        Command("dial-stdio", "", "Proxy the stdio stream to the daemon connection", "others:dial_stdio", hidden=True),
    )),
    "context": ("Manage contexts", CONTEXT),
    "completion": ("Generate the autocompletion script for the specified shell", tuple(
        Command(shell, "", f"Generate the autocompletion script for {shell}", f"completion:{shell}")
        for shell in ("bash", "fish", "zsh"))),
    "checkpoint": ("Manage checkpoints", (
        Command("create", "[OPTIONS] CONTAINER CHECKPOINT", "Create a checkpoint from a running container",
                "checkpoints:create", (
                    _CHECKPOINT_DIR, Opt("leave-running", "flag", "Leave the container running after checkpoint")), 2, 2),
        Command("ls", "[OPTIONS] CONTAINER", "List checkpoints for a container", "checkpoints:listing", (_CHECKPOINT_DIR,),
                1, 1, aliases=("list",)),
        Command("rm", "[OPTIONS] CONTAINER CHECKPOINT", "Remove a checkpoint", "checkpoints:remove", (_CHECKPOINT_DIR,),
                2, 2, aliases=("remove",)),
    )),
    "daemon": ("Manage the daemon of this machine", (
        Command("stop", "", "Stop the daemon that kist started; containers run on", "others:daemon_stop"),
    )),
}  # fmt: skip

# Commands of Docker's that are to come, with what helps meanwhile.
_MEANWHILE = ": make images by kist image bootstrap, kist load or kist import"
NOT_YET = {
    **dict.fromkeys(("pull", "push", "login", "logout", "search", "build", "image pull", "image push", "image build"),
                    _MEANWHILE),
    **dict.fromkeys((
        "compose", "swarm", "service", "stack", "node", "secret", "config", "plugin", "builder", "buildx", "manifest",
        "trust", "bake", "model", "volume update",
    ), ""),
}  # fmt: skip
