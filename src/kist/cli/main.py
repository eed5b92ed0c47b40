"""The entry of `kist`: global options, the command, and how every failure is told."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from kist import __version__
from kist.cli.choice import Choice
from kist.cli.commands import GLOBAL, GROUPS, NOT_YET, TOP
from kist.cli.context import Context, RunFailed
from kist.cli.parse import Command, HelpAsked, Parsed, UsageError, help_text, option_lines, parse, with_usage
from kist.client.http import ApiError, Unreachable
from kist.model.errors import KistError

_LEVELS = frozenset({"trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"})
_NEVER_START = frozenset({"others:daemon_stop"})


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
    if words[:1] == ["__complete"]:
        from kist.cli.complete import main as complete

        return complete(words[1:])
    try:
        given = parse(GLOBAL, words, path)
        choice = _choice(given)
        found = _find(["--version"] if given.version else given.arguments)
        if isinstance(found, int):
            return found
        command, path, rest = found
        parsed = parse(command, rest, path)
        return _carry_out(command, choice, parsed)
    except HelpAsked:
        print("\n" + help_text(command, path) + "\n" if path != "kist" else _overview())
        return 0
    except UsageError as error:
        text = error.text
        shown = error.plain or "Usage:" in text or "--help" in text
        if path != "kist" and not shown:  # raised while options were put together
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
        return getattr(error, "status", 1)


def _carry_out(command: Command, choice: Choice, parsed: Any) -> int:
    module, _, function = command.run.partition(":")
    act = getattr(importlib.import_module(f"kist.cli.{module}"), function)
    context = Context(choice, os.environ.get("DOCKER_API_VERSION", ""))
    try:
        try:
            return int(act(context, parsed))
        except KistError as error:
            if not (choice.is_default and command.run not in _NEVER_START and _nobody_there(context, error)):
                raise
            if not _started(error):
                raise
        return int(act(context, parsed))
    finally:
        context.close()


def _nobody_there(context: Context, error: KistError) -> bool:
    """Whether the command failed before it did anything: one that reached a daemon must not be carried out twice."""
    unreachable = isinstance(error, Unreachable) or isinstance(error.__cause__, Unreachable)
    return unreachable and not context.endpoint.reached


def _started(error: KistError) -> bool:
    """Starts a daemon where that is allowed. Raises KistError, with the status of the command's own failure."""
    from kist.cli.daemon import start_if_allowed

    try:
        return start_if_allowed()
    except KistError as failure:
        if isinstance(error, RunFailed):
            raise RunFailed(failure.message, error.status, error.command) from failure
        raise


def _choice(given: Parsed) -> Choice:
    """Raises KistError for global options that cannot be."""
    if given.log_level not in _LEVELS:
        raise KistError(f"Unable to parse logging level: {given.log_level}")
    choice = Choice(given)
    choice.check()
    return choice


def _find(words: list[str]) -> tuple[Command, str, list[str]] | int:
    if not words:
        print(_overview(), file=sys.stderr)
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
        if command.name == name or name in command.aliases:
            return command, f"kist {command.name}", rest
    if name in NOT_YET:
        print(f"kist: kist {name} is not supported yet{NOT_YET[name]}", file=sys.stderr)
        return 1
    if name not in GROUPS:
        print(f"kist: unknown command: kist {name}\n\nRun 'kist --help' for more information", file=sys.stderr)
        return 1
    about, commands = GROUPS[name]
    if not rest or rest[0] == "--help":
        print(_group(name, about, commands), file=sys.stdout if rest else sys.stderr)
        return 0
    for command in commands:
        if command.name == rest[0] or rest[0] in command.aliases:
            return command, f"kist {name} {command.name}", rest[1:]
    if f"{name} {rest[0]}" in NOT_YET:
        print(f"kist: kist {name} {rest[0]} is not supported yet{NOT_YET[f'{name} {rest[0]}']}", file=sys.stderr)
        return 1
    takes = " COMMAND" if name == "volume" else ""  # Docker says it there only
    print(f"kist: unknown command: kist {name} {rest[0]}\n\nUsage:  kist {name}{takes}\n\n"
          f"Run 'kist {name} --help' for more information", file=sys.stderr)  # fmt: skip
    return 1


def _group(name: str, about: str, commands: tuple[Command, ...]) -> str:
    width = max(11, *(len(command.name) for command in commands)) + 1  # as cobra pads
    listed = "\n".join(
        f"  {one.name:<{width}}{one.help}" for one in sorted(commands, key=lambda one: one.name) if not one.hidden
    )
    head = f"Usage:  kist {name} COMMAND\n\n{about}\n\nCommands:\n{listed}\n\n"
    return head + f"Run 'kist {name} COMMAND --help' for more information on a command."


def _overview() -> str:
    width = max(11, *map(len, GROUPS), *(len(command.name) for command in TOP)) + 1
    commands = "\n".join(f"  {one.name:<{width}}{one.help}" for one in sorted(TOP, key=lambda one: one.name))
    groups = "\n".join(f"  {name:<{width}}{about}" for name, (about, _) in sorted(GROUPS.items()))
    return "\n\n".join(
        [
            "Usage:  kist [OPTIONS] COMMAND",
            "A container engine, Docker's in Python",
            f"Management Commands:\n{groups}",
            f"Commands:\n{commands}",
            "Global Options:\n" + "\n".join(option_lines(GLOBAL)),
            "Run 'kist COMMAND --help' for more information on a command.",
        ]
    )


if __name__ == "__main__":
    main()
