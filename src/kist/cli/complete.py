"""`kist __complete WORD…`: what the last word may become, one `value<TAB>description` a line, then `:` and a directive.

Everything comes from the tables that the parser reads: commands, options, and the arguments that a usage names. What
values an option takes is in `complete_values`. The directives are those of Docker's command: 0 (files, when nothing was
found), 2 (no space follows), 4 (no files). The daemon is asked for names, never started, given up on after 5 seconds.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

from kist.cli import complete_values as values
from kist.cli.choice import Choice
from kist.cli.commands import GLOBAL, GROUPS, TOP
from kist.cli.context import Context
from kist.cli.parse import Command, Opt, Parsed, UsageError, parse
from kist.model.errors import KistError

FILES, NO_SPACE, NO_FILES = 0, 2, 4
_SECONDS = 5

Found = list[tuple[str, str]]


class Place(NamedTuple):
    """Where the last word stands: in which command, after which arguments, or as the value of which option."""

    command: Command
    path: tuple[str, ...]
    arguments: list[str]
    option: Opt | None
    only_arguments: bool
    flags: frozenset[str] = frozenset()  # given already


def main(words: list[str]) -> int:
    """Prints the candidates. Never fails: a shell that completes shows no errors."""
    signal.alarm(_SECONDS)
    *before, current = words or [""]
    try:
        found, directive = candidates(before, current)
    except (KistError, UsageError, OSError):
        found, directive = [], NO_FILES
    for value, about in found:
        print(f"{value}\t{about}" if about else value)
    print(f":{directive}")
    return 0


def candidates(before: list[str], current: str) -> tuple[Found, int]:
    """What `current` may become behind the words `before`. Raises KistError, UsageError."""
    globals_, rest = _split(before)
    place = _locate(rest) if globals_.option is None else globals_
    ask = Asker(before[: len(before) - len(rest)] if globals_.option is None else [])
    if place.option is None and not place.only_arguments and current.startswith("-"):
        flag, equals, value = current.partition("=")
        if not equals:
            return _options(place.command, current), NO_FILES
        option = next((one for one in place.command.options if flag == f"--{one.name}"), None)
        if option is None:
            return [], NO_FILES
        return _values(option, place, value, ask)
    if place.option is not None:
        return _values(place.option, place, current, ask)
    if not place.command.run:
        return _commands(place.path, current), NO_FILES
    return _arguments(place, current, ask)


def _split(words: list[str]) -> tuple[Place, list[str]]:
    """The place among the global options, and the words from the command's name on."""
    place, rest = _walk(GLOBAL, (), words)
    return place, rest


def _walk(command: Command, path: tuple[str, ...], words: list[str]) -> tuple[Place, list[str]]:
    """Reads options and arguments; for a command whose options end at its first argument, what is left."""
    arguments: list[str] = []
    flags: set[str] = set()
    longs = {option.name: option for option in command.options}
    shorts = {option.short: option for option in command.options if option.short}
    rest = list(words)
    while rest:
        word = rest[0]
        if word == "--":
            return Place(command, path, arguments + rest[1:], None, True, frozenset(flags)), []
        if not word.startswith("-") or word == "-":
            if command is GLOBAL:
                break
            if not command.interspersed:
                return Place(command, path, arguments + rest, None, True, frozenset(flags)), []
            arguments.append(rest.pop(0))
            continue
        rest.pop(0)
        option = _wants_value(word, longs, shorts)
        if option is None:
            flags |= {word[2:]} if word.startswith("--") else {shorts[one].name for one in word[1:] if one in shorts}
            continue
        if not rest:
            return Place(command, path, arguments, option, False), []
        rest.pop(0)
    return Place(command, path, arguments, None, False, frozenset(flags)), rest


def _wants_value(word: str, longs: dict[str, Opt], shorts: dict[str, Opt]) -> Opt | None:
    """The option whose value is the next word."""
    if word.startswith("--"):
        option = longs.get(word[2:])
        return option if option is not None and option.kind != "flag" else None
    for number, letter in enumerate(word[1:], 2):
        option = shorts.get(letter)
        if option is None:
            return None
        if option.kind != "flag":
            return option if number == len(word) else None
    return None


def _locate(words: list[str]) -> Place:
    nothing = Command("", "", "", "")
    if not words:
        return Place(GLOBAL, (), [], None, False)
    name, *rest = words
    if name == "help":
        return _locate(rest) if not rest or rest[0] != "help" else Place(nothing, ("?",), [], None, False)
    for command in TOP:
        if name == command.name or name in command.aliases:
            return _walk(command, (command.name,), rest)[0]
    if name not in GROUPS:
        return Place(nothing, ("?",), [], None, False)
    if not rest:
        return Place(nothing, (name,), [], None, False)
    for command in GROUPS[name][1]:
        if rest[0] == command.name or rest[0] in command.aliases:
            return _walk(command, (name, command.name), rest[1:])[0]
    return Place(nothing, ("?",), [], None, False)


def _commands(path: tuple[str, ...], current: str) -> Found:
    listed: list[tuple[str, str]] = []
    if not path:
        listed = [(one.name, one.help) for one in TOP if not one.hidden]
        listed += [(name, about) for name, (about, _) in GROUPS.items()]
        listed.append(("help", "Help about the command"))
    elif path[0] in GROUPS:
        listed = [(one.name, one.help) for one in GROUPS[path[0]][1] if not one.hidden]
        aliases = [(alias, one.help) for one in GROUPS[path[0]][1] if not one.hidden for alias in one.aliases]
        if current:  # an alias is not offered, but completed for who begins to type it
            listed += [one for one in aliases if not any(name.startswith(current) for name, _ in listed)]
    return sorted({one for one in listed if one[0].startswith(current)})


def _options(command: Command, current: str) -> Found:
    found: Found = []
    for option in command.options:
        if option.hidden:
            continue
        found.append((f"--{option.name}", option.help))
        if option.short and current == "-":
            found.append((f"-{option.short}", option.help))
    if current.startswith("--h"):
        found.append(("--help", "Print usage"))
    return sorted(one for one in found if one[0].startswith(current))


def _values(option: Opt, place: Place, current: str, ask: Asker) -> tuple[Found, int]:
    if option.kind == "flag":
        return _starting(["true", "false"], current), NO_FILES
    source = values.of(option.name, place.path)
    if option.name == "filter":
        return _filter(values.FILTERS.get(" ".join(place.path), ()), current, ask)
    if isinstance(source, tuple):
        return _choices(source, current)
    if source == "files":
        return [], FILES
    return _starting(ask.names(source), current), NO_SPACE if source == "links" else NO_FILES


def _choices(words: tuple[str, ...], current: str) -> tuple[Found, int]:
    found = _starting(list(words), current)
    return found, NO_SPACE if any(one.endswith(("=", ":", "-")) for one, _ in found) else NO_FILES


def _filter(keys: tuple[str, ...], current: str, ask: Asker) -> tuple[Found, int]:
    key, equals, value = current.partition("=")
    if not equals:
        return _starting([f"{one}=" for one in keys], current), NO_SPACE
    if key not in keys:
        return [], NO_FILES
    source = values.FILTER_VALUES.get(key, "")
    words = list(source) if isinstance(source, tuple) else ask.names(source)
    return [(f"{key}={word}", about) for word, about in _starting(words, value)], NO_FILES


def _arguments(place: Place, current: str, ask: Asker) -> tuple[Found, int]:
    names = re.findall(r"[A-Za-z_]+(?:[|\[:-][^ ]*)?", re.sub(r"\[(OPTIONS|ps OPTIONS)\]", "", place.command.usage))
    number = len(place.arguments)
    if place.command.maximum >= 0 and number >= place.command.maximum:
        return [], NO_FILES
    if not names:
        return [], NO_FILES
    source = values.argument(names[min(number, len(names) - 1)], place.path, place.flags)
    if source == "files":
        return [], FILES
    if place.arguments and place.path in (("network", "connect"), ("network", "disconnect")):
        listed: list[Any] = ask.attached(place.arguments[0], "disconnect" in place.path)
    else:
        listed = ask.names(source)
    if "..." in place.command.usage:
        listed = [one for one in listed if one not in place.arguments]
    return _starting(listed, current), NO_FILES


def _starting(words: list[Any], current: str) -> Found:
    pairs = [one if isinstance(one, tuple) else (one, "") for one in words]
    return [one for one in dict.fromkeys(pairs) if one[0].startswith(current)]


class Asker:
    """Names from the daemon that the global options mean."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def names(self, source: str) -> list[Any]:
        """What a source of `values` holds now; nothing when there is no daemon. Raises KistError."""
        return self._asked(_SOURCES[source]) if source else []

    def attached(self, network: str, attached: bool) -> list[Any]:
        """The containers that are in a network, or those that are not. Raises KistError."""
        return self._asked(_containers(wanted=lambda one: (network in one["NetworkSettings"]["Networks"]) == attached))

    def _asked(self, source: Callable[[Context], list[Any]]) -> list[Any]:
        given: Parsed = parse(GLOBAL, self._words, "kist")
        context = Context(Choice(given))
        try:
            return source(context)
        finally:
            context.close()


def _containers(*states: str, wanted: Callable[[Any], bool] = lambda _: True) -> Callable[[Context], list[str]]:
    def names(context: Context) -> list[str]:
        listed = context.client.call("GET", "/containers/json", {"all": True})
        return [
            name[1:] for one in listed if (not states or one["State"] in states) and wanted(one)
            for name in one["Names"] if "/" not in name[1:]
        ]  # fmt: skip

    return names


def _images(context: Context) -> list[str]:
    listed = context.client.call("GET", "/images/json")
    return [tag for one in listed for tag in one.get("RepoTags") or () if tag != "<none>:<none>"]


def _networks(context: Context) -> list[str]:
    return [one["Name"] for one in context.client.call("GET", "/networks")]


def _volumes(context: Context) -> list[str]:
    return [one["Name"] for one in context.client.call("GET", "/volumes")["Volumes"] or ()]


def _plugins(kind: str) -> Callable[[Context], list[str]]:
    return lambda context: list(context.client.call("GET", "/info")["Plugins"][kind] or ())


def _contexts(context: Context) -> list[Any]:
    current = context.choice.context
    stored = {meta["Name"]: meta["Metadata"].get("Description", "") for meta in context.choice.store.all()}
    return [(name, "current" if name == current else about) for name, about in {"default": "", **stored}.items()]


def _environment(_: Context) -> list[str]:
    import os

    return sorted(os.environ)


def _objects(context: Context) -> list[str]:
    return [*_containers()(context), *_images(context), *_networks(context), *_volumes(context)]


_SOURCES: dict[str, Callable[[Context], list[Any]]] = {
    "containers": _containers(),
    "running": _containers("running"),
    "unpaused": _containers("running"),
    "active": _containers("running", "paused", "restarting"),
    "stopped": _containers("created", "exited", "dead"),
    "paused": _containers("paused"),
    "images": _images,
    "networks": _networks,
    "volumes": _volumes,
    "contexts": _contexts,
    "objects": _objects,
    "environment": _environment,
    "distributions": lambda _: ["busybox", "debian"],
    "links": lambda context: [f"{name}:" for name in _containers()(context)],
    "runtimes": lambda context: sorted(context.client.call("GET", "/info")["Runtimes"] or ()),
    "log drivers": _plugins("Log"),
    "volume drivers": _plugins("Volume"),
}
