"""The command line of `kist-runtime`: runc's options, declared once, and a parser that imports nothing."""

from __future__ import annotations

from typing import NamedTuple

from kist.lowlevel.errors import RuntimeFailure


class Option(NamedTuple):
    """`kind`: flag, text, number, list. `refused`: why naming it is an error."""

    name: str
    kind: str
    help: str
    short: str = ""
    default: object = None
    refused: str = ""


class Command(NamedTuple):
    """`most` -1: any number of arguments, and what follows the first is not read for options."""

    usage: str
    help: str
    least: int
    most: int
    options: tuple[Option, ...] = ()


_NO_SYSTEMD = "kist-runtime writes cgroups itself; use the cgroupfs manager"
_NO_PIVOT = "a container is never started without pivot_root, which its root can undo a chroot with"

GLOBAL = (
    Option("debug", "flag", "enable debug logging"),
    Option("log", "text", "file to write the log to (default: standard error)", default=""),
    Option("log-format", "text", "text or json", default="text"),
    Option("root", "text", "directory for the state of containers", default="/run/kist-runtime"),
    Option("systemd-cgroup", "flag", "enable systemd cgroup support", refused=_NO_SYSTEMD),
    Option("cgroup-manager", "text", "cgroupfs is the only one", default="cgroupfs"),
    Option("rootless", "text", "auto or false", default="auto"),
    Option("criu", "text", "", default=""),
    Option("help", "flag", "show this help", short="h"),
    Option("version", "flag", "print the version", short="v"),
)
_START = (
    Option("bundle", "text", "directory of config.json (default: the current one)", short="b", default=""),
    Option("console-socket", "text", "AF_UNIX socket that receives the master of the terminal", default=""),
    Option("pid-file", "text", "file to write the process id to", default=""),
    Option("no-pivot", "flag", "", refused=_NO_PIVOT),
    Option("no-new-keyring", "flag", "keep the session keyring of the caller"),
    Option("preserve-fds", "number", "pass so many descriptors above standard error on", default=0),
)
_LIMITS = (
    Option("resources", "text", "file with the new resources, - for standard input", short="r", default=""),
    Option("blkio-weight", "number", "weight of block I/O, 10 to 1000"),
    Option("cpu-period", "number", "CFS period in microseconds"),
    Option("cpu-quota", "number", "CFS quota in microseconds"),
    Option("cpu-share", "number", "relative weight of processor time"),
    Option("cpu-rt-period", "number", "real-time period in microseconds"),
    Option("cpu-rt-runtime", "number", "real-time runtime in microseconds"),
    Option("cpuset-cpus", "text", "processors to use", default=""),
    Option("cpuset-mems", "text", "memory nodes to use", default=""),
    Option("memory", "number", "limit in bytes"),
    Option("memory-reservation", "number", "soft limit in bytes"),
    Option("memory-swap", "number", "memory and swap together in bytes, -1: no limit"),
    Option("kernel-memory", "number", "", refused="no kernel has it any more"),
    Option("kernel-memory-tcp", "number", "", refused="no kernel has it any more"),
    Option("pids-limit", "number", "how many processes there may be"),
    Option("l3-cache-schema", "text", "", refused="Intel RDT is not supported"),
    Option("mem-bw-schema", "text", "", refused="Intel RDT is not supported"),
)
_EXEC = (
    Option("console-socket", "text", "AF_UNIX socket that receives the master of the terminal", default=""),
    Option("cwd", "text", "working directory in the container", default=""),
    Option("env", "list", "set an environment variable", short="e"),
    Option("tty", "flag", "allocate a terminal", short="t"),
    Option("user", "text", "uid[:gid]", short="u", default=""),
    Option("additional-gids", "list", "additional groups", short="g"),
    Option("process", "text", "file with the process as in config.json", short="p", default=""),
    Option("detach", "flag", "do not wait for the process", short="d"),
    Option("pid-file", "text", "file to write the process id to", default=""),
    Option("process-label", "text", "", refused="SELinux labels are not supported"),
    Option("apparmor", "text", "", refused="AppArmor profiles are not supported"),
    Option("no-new-privs", "flag", "set no_new_privs"),
    Option("cap", "list", "add a capability", short="c"),
    Option("preserve-fds", "number", "pass so many descriptors above standard error on", default=0),
    Option("cgroup", "list", "", refused="processes are started in the container's own cgroup"),
    Option("ignore-paused", "flag", "allow it in a paused container"),
)
_CRIU = "checkpoints are not supported"

COMMANDS = {
    "create": Command("<container-id>", "create a container", 1, 1, _START),
    "start": Command("<container-id>", "execute the program of a created container", 1, 1),
    "run": Command("<container-id>", "create and start a container", 1, 1, (
        *_START,
        Option("detach", "flag", "do not wait for the container", short="d"),
        Option("keep", "flag", "do not delete the container when it has ended"),
        Option("no-subreaper", "flag", "accepted: this command is never one"),
    )),
    "state": Command("<container-id>", "print the state of a container", 1, 1),
    "kill": Command("<container-id> [signal]", "send a signal (default: SIGTERM) to a container", 1, 2, (
        Option("all", "flag", "to all processes of the container", short="a"),
    )),
    "delete": Command("<container-id>", "delete what is held by a container", 1, 1, (
        Option("force", "flag", "kill it first if it runs", short="f"),
    )),
    "exec": Command("<container-id> <command> [args]", "execute another process in a container", 1, -1, _EXEC),
    "list": Command("", "list the containers below --root", 0, 0, (
        Option("format", "text", "table or json", short="f", default="table"),
        Option("quiet", "flag", "only ids", short="q"),
    )),
    "ps": Command("<container-id> [ps options]", "list the processes of a container", 1, -1, (
        Option("format", "text", "table or json", short="f", default="table"),
    )),
    "pause": Command("<container-id>", "stop all processes of a container", 1, 1),
    "resume": Command("<container-id>", "let the processes of a paused container go on", 1, 1),
    "update": Command("<container-id>", "change the limits of a container", 1, 1, _LIMITS),
    "events": Command("<container-id>", "print statistics and what happens", 1, 1, (
        Option("interval", "text", "time between statistics", default="5s"),
        Option("stats", "flag", "print statistics once"),
    )),
    "features": Command("", "print what this runtime can do", 0, 0),
    "spec": Command("", "write a new config.json", 0, 0, (
        Option("bundle", "text", "directory to write it into", short="b", default=""),
        Option("rootless", "flag", "", refused="running without root comes with a later version"),
    )),
    "checkpoint": Command("<container-id>", "not supported", 0, -1, (Option("all", "flag", "", refused=_CRIU),)),
    "restore": Command("<container-id>", "not supported", 0, -1, (Option("all", "flag", "", refused=_CRIU),)),
}  # fmt: skip


class Parsed(NamedTuple):
    """`options` by name; `command` "" when there is none."""

    general: dict[str, object]
    command: str
    options: dict[str, object]
    arguments: list[str]


def parse(words: list[str]) -> Parsed:
    """Raises RuntimeFailure that says what is wrong."""
    general, rest = _read(words, GLOBAL, stop=True, where="")
    if not rest:
        return Parsed(general, "", {}, [])
    name, *rest = rest
    command = COMMANDS.get(name)
    if command is None:
        raise RuntimeFailure(f"no such command: {name}: see kist-runtime --help")
    help_too = (*command.options, Option("help", "flag", "show this help", short="h"))
    options, arguments = _read(rest, help_too, stop=command.most < 0, where=f'"{name}": ')
    if not options["help"]:
        _count(name, command, arguments)
    return Parsed(general, name, options, arguments)


def _count(name: str, command: Command, arguments: list[str]) -> None:
    count = len(arguments)
    if command.least <= count and (command.most < 0 or count <= command.most):
        return
    if command.least == command.most:
        wanted = f"exactly {command.least}"
    else:
        wanted = f"a minimum of {command.least}" if count < command.least else f"a maximum of {command.most}"
    raise RuntimeFailure(f'kist-runtime: "{name}" requires {wanted} argument(s)')


def _read(
    words: list[str], table: tuple[Option, ...], *, stop: bool, where: str
) -> tuple[dict[str, object], list[str]]:
    """Options and what is left. `stop`: the first word that is none ends them; without, they may stand anywhere."""
    names = {one.name: one for one in table} | {one.short: one for one in table if one.short}
    found: dict[str, object] = {
        one.name: [] if one.kind == "list" else False if one.kind == "flag" else one.default for one in table
    }
    left: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "--":
            return found, left + words
        if not word.startswith("-") or word == "-":
            left.append(word)
            if stop:
                return found, left + words
            continue
        name, equals, value = word.lstrip("-").partition("=")
        option = names.get(name)
        if option is None:
            raise RuntimeFailure(f"{where}flag provided but not defined: -{name}")
        if option.kind == "flag":
            given = value not in ("false", "0", "f") if equals else True
            if given and option.refused:
                raise RuntimeFailure(f"--{option.name} is not supported: {option.refused}")
            found[option.name] = given
            continue
        if not equals:
            if not words:
                raise RuntimeFailure(f"{where}flag needs an argument: -{name}")
            value = words.pop(0)
        if option.refused and value:
            raise RuntimeFailure(f"--{option.name} is not supported: {option.refused}")
        _store(found, option, value, where)
    return found, left


def _store(found: dict[str, object], option: Option, value: str, where: str) -> None:
    if option.kind == "list":
        kept = found[option.name]
        assert isinstance(kept, list)
        kept.append(value)
    elif option.kind == "number":
        if not (value.removeprefix("-").isascii() and value.removeprefix("-").isdecimal()):
            raise RuntimeFailure(f'{where}invalid value "{value}" for flag -{option.name}: not a number')
        found[option.name] = int(value)
    else:
        found[option.name] = value


def usage(name: str = "") -> str:
    """The help of the command, or of one of its commands."""
    table: tuple[Option, ...] = GLOBAL
    if not name:
        lines = ["Usage: kist-runtime [global options] command [command options] [arguments]", "", "Commands:"]
        lines += [f"  {one:<12} {command.help}" for one, command in COMMANDS.items() if command.help != "not supported"]
        lines += ["", "Global options:"]
    else:
        command = COMMANDS[name]
        lines = [f"Usage: kist-runtime {name} [options] {command.usage}".rstrip(), "", command.help]
        table = command.options
        if table:
            lines += ["", "Options:"]
    for one in table:
        if not one.refused and one.help:
            short = f", -{one.short}" if one.short else ""
            lines.append(f"  --{one.name}{short}{'' if one.kind == 'flag' else ' value'}  {one.help}")
    return "\n".join(lines)
