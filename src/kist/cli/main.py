"""The entry of `kist`: global options, the command, and how every failure is told."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from kist import __version__
from kist.cli.commands import GROUPS, TOP
from kist.cli.context import Context, RunFailed
from kist.cli.parse import Command, HelpAsked, UsageError, help_text, parse, with_usage
from kist.client.http import API_VERSION, ApiError, Unreachable
from kist.model.errors import KistError

_DEFAULT_HOST = "unix:///run/kist.sock"


def main() -> None:
    try:
        status = dispatch(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 1
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def dispatch(words: list[str]) -> int:
    """Carries out a command line; its exit status."""
    path = "kist"
    try:
        host, rest = _globals(words)
        found = _find(rest)
        if isinstance(found, int):
            return found
        command, path, rest = found
        parsed = parse(command, rest, path)
        context = _context(host)
        return _carry_out(command, context, parsed)
    except HelpAsked:
        print("\n" + help_text(command, path) + "\n" if path != "kist" else _overview())
        return 0
    except UsageError as error:
        text = error.text
        if path != "kist" and "Usage:" not in text and "--help" not in text:  # raised while options were put together
            text = with_usage(text, command, path)
        print(text, file=sys.stderr)
        return error.status
    except RunFailed as error:
        print(f"kist: {error.message}\n\nRun 'kist {error.command} --help' for more information", file=sys.stderr)
        return error.status
    except ApiError as error:
        print(f"Error response from daemon: {error.message}", file=sys.stderr)
        return 1
    except (KistError, OSError) as error:
        print(error.message if isinstance(error, KistError) else str(error), file=sys.stderr)
        return 1


def _carry_out(command: Command, context: Context, parsed: Any) -> int:
    module, _, function = command.run.partition(":")
    act = getattr(importlib.import_module(f"kist.cli.{module}"), function)
    try:
        return int(act(context, parsed))
    except Unreachable:
        if command.run == "others:daemon_stop":
            raise
        from kist.cli.daemon import start_if_wanted

        if not start_if_wanted(context.host):
            raise
        return int(act(Context(context.host, context.version, context.tls), parsed))


def _globals(words: list[str]) -> tuple[str, list[str]]:
    """Options before the command. Raises UsageError, HelpAsked."""
    host = ""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in ("-H", "--host"):
            host = value if equals else rest.pop(0) if rest else ""
        elif word.startswith("-H") and not word.startswith("--"):
            host = word[2:]
        elif name in ("-v", "--version"):
            rest.insert(0, "--version")
            return host, rest
        elif name in ("-D", "--debug"):
            continue
        elif name in ("-l", "--log-level", "--config", "-c", "--context"):
            given = value if equals else rest.pop(0) if rest else ""
            if name in ("-c", "--context") and given not in ("", "default"):
                raise UsageError(
                    f'Failed to initialize: unable to resolve docker endpoint: context "{given}": context not found', 1
                )
        elif name == "--help":
            raise HelpAsked
        else:
            raise UsageError(f"unknown flag: {name}\n\nUsage:  kist [OPTIONS] COMMAND [ARG...]\n\n"
                             f"Run 'kist --help' for more information", 125)  # fmt: skip
    return host, rest


def _find(words: list[str]) -> tuple[Command, str, list[str]] | int:
    if not words:
        print(_overview())
        return 0
    if words[0] == "--version":
        print(f"kist version {__version__}")
        return 0
    if words[0] == "help":
        words = [*words[1:], "--help"] if len(words) > 1 else ["--help"]
        if words == ["--help"]:
            print(_overview())
            return 0
    name, *rest = words
    for command in TOP:
        if command.name == name:
            return command, f"kist {name}", rest
    if name not in GROUPS:
        print(f"kist: unknown command: kist {name}\n\nRun 'kist --help' for more information", file=sys.stderr)
        return 1
    about, commands = GROUPS[name]
    if not rest or rest[0] == "--help":
        print(_group(name, about, commands))
        return 0
    for command in commands:
        if command.name == rest[0]:
            return command, f"kist {name} {command.name}", rest[1:]
    print(f"kist: unknown command: kist {name} {rest[0]}\n\nUsage:  kist {name} COMMAND\n\n"
          f"Run 'kist {name} --help' for more information", file=sys.stderr)  # fmt: skip
    return 1


def _group(name: str, about: str, commands: tuple[Command, ...]) -> str:
    width = max(len(command.name) for command in commands) + 2
    listed = "\n".join(f"  {one.name:<{width}}{one.help}" for one in sorted(commands, key=lambda one: one.name))
    head = f"Usage:  kist {name} COMMAND\n\n{about}\n\nCommands:\n{listed}\n\n"
    return head + f"Run 'kist {name} COMMAND --help' for more information on a command."


def _overview() -> str:
    width = max(len(command.name) for command in TOP) + 2
    commands = "\n".join(f"  {one.name:<{width}}{one.help}" for one in sorted(TOP, key=lambda one: one.name))
    groups = "\n".join(f"  {name:<{width}}{about}" for name, (about, _) in sorted(GROUPS.items()))
    return "\n\n".join(
        [
            "Usage:  kist [OPTIONS] COMMAND",
            "A container engine, Docker's in Python",
            f"Management Commands:\n{groups}",
            f"Commands:\n{commands}",
            "Global Options:\n  -H, --host string   Daemon socket to connect to\n"
            "  -v, --version       Print version information and quit",
            "Run 'kist COMMAND --help' for more information on a command.",
        ]
    )


def _context(host: str) -> Context:
    """The daemon to talk to: -H, KIST_HOST, DOCKER_HOST, or the default socket. Raises KistError."""
    host = host or os.environ.get("KIST_HOST", "") or os.environ.get("DOCKER_HOST", "") or _DEFAULT_HOST
    version = os.environ.get("DOCKER_API_VERSION", "") or API_VERSION
    if host.startswith("/"):
        host = f"unix://{host}"
    scheme = host.partition("://")[0]
    if scheme == "ssh":
        raise KistError(f"{host}: ssh:// is not supported by this version; forward the socket with ssh -L instead")
    if scheme not in ("unix", "tcp"):
        raise KistError(f"unable to parse docker host `{host}`")
    tls = None
    if scheme == "tcp" and os.environ.get("DOCKER_TLS_VERIFY"):
        from kist.client.tls import wrapper

        tls = wrapper(os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker"))
    return Context(host, version, tls)


if __name__ == "__main__":
    main()
