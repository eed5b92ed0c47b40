"""From command line and daemon.json to settings: parse, merge, refuse conflicts, find what a reload changes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kist.model.errors import InvalidParameter
from kist.settings.options import BY_KEY, BY_NAME, BY_SHORT, OPTIONS, Option
from kist.settings.values import LISTS, from_json, from_word

# Keys of daemon.json that dockerd writes as objects of their own, with the option whose value they become.
_OBJECT_KEYS = {"features": "feature", "log-opts": "log-opt"}


class Settings(msgspec.Struct, frozen=True):
    """The daemon's options after merging; `options["data-root"]` and so on, by option name."""

    options: dict[str, Any]
    given: frozenset[str] = frozenset()  # names that a flag or the file set

    def text(self, name: str) -> str:
        return str(self.options[name])

    def flag(self, name: str) -> bool:
        return bool(self.options[name])

    def number(self, name: str) -> int:
        return int(self.options[name])

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(self.options[name])

    def mapping(self, name: str) -> dict[str, str]:
        return dict(self.options[name])


class Help(Exception):
    """--help was asked for."""


class ShowVersion(Exception):
    """--version was asked for."""


def parse_flags(arguments: Sequence[str]) -> dict[str, Any]:
    """What the command line sets, by option name; repeated list options add up. Raises InvalidParameter."""
    found: dict[str, Any] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "--help":
            raise Help
        if word in ("-v", "--version"):
            raise ShowVersion
        if word.startswith("--") and len(word) > 2:
            _long(word[2:], words, found)
        elif word.startswith("-") and len(word) > 1 and word != "--":
            _shorthands(word[1:], words, found)
        else:
            raise InvalidParameter(f'"kistd" accepts no arguments, got "{word}".\nSee \'kistd --help\'.')
    return found


def _long(text: str, words: list[str], found: dict[str, Any]) -> None:
    name, equals, value = text.partition("=")
    option = BY_NAME.get(name)
    if option is None:
        raise InvalidParameter(f"unknown flag: --{name}\nSee 'kistd --help'.")
    _set(option, value if equals else _value(option, words, f"--{name}"), found)


def _shorthands(letters: str, words: list[str], found: dict[str, Any]) -> None:
    """`-D`, `-Dl debug`, `-ldebug`, `-H=unix:///x`."""
    while letters:
        option = BY_SHORT.get(letters[0])
        if option is None:
            raise InvalidParameter(f"unknown shorthand flag: '{letters[0]}' in -{letters}\nSee 'kistd --help'.")
        rest = letters[1:]
        if option.kind == "flag" and not rest.startswith("="):
            _set(option, "true", found)
            letters = rest
            continue
        _set(option, rest.removeprefix("=") if rest else _value(option, words, f"-{letters[0]}"), found)
        return


def _value(option: Option, words: list[str], shown: str) -> str:
    if option.kind == "flag":
        return "true"
    if not words:
        raise InvalidParameter(f"flag needs an argument: {shown}\nSee 'kistd --help'.")
    return words.pop(0)


def _set(option: Option, word: str, found: dict[str, Any]) -> None:
    value = from_word(option, word)
    if option.kind in LISTS:
        found[option.name] = (*found.get(option.name, ()), *value)
    elif option.kind == "map":
        found[option.name] = {**found.get(option.name, {}), **value}
    else:
        found[option.name] = value


def parse_file(text: str, path: str) -> dict[str, Any]:
    """What daemon.json sets, by option name. Raises InvalidParameter: dockerd's texts, with the file's name."""
    where = f"unable to configure the Docker daemon with file {path}"
    if not text.strip():
        return {}
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"{where}: {error}") from error
    if not isinstance(data, dict):
        raise InvalidParameter(f"{where}: an object is expected")
    unknown = sorted(key for key in data if key not in BY_KEY or not BY_KEY[key].file)
    if unknown:
        raise InvalidParameter(
            f"{where}: the following directives don't match any configuration option: {', '.join(unknown)}"
        )
    try:
        return {BY_KEY[key].name: from_json(BY_KEY[key], value) for key, value in data.items()}
    except InvalidParameter as error:
        raise InvalidParameter(f"{where}: {error.message}") from error


def merge(flags: Mapping[str, Any], file: Mapping[str, Any], path: str) -> Settings:
    """Both sources together. An option that both name is an error, as with dockerd, but for options of key=value."""
    conflicts = sorted(
        name for name in file if name in flags and BY_NAME[name].kind != "map" and BY_NAME[name].name != "exec-opt"
    )
    if conflicts:
        shown = ", ".join(
            f"{BY_NAME[name].json_key}: (from flag: {_shown(flags[name])}, from file: {_shown(file[name])})"
            for name in conflicts
        )
        raise InvalidParameter(
            f"unable to configure the Docker daemon with file {path}: the following directives are specified "
            f"both as a flag and in the configuration file: {shown}"
        )
    options = {option.name: option.default for option in OPTIONS} | dict(file) | dict(flags)
    for name in file:
        if name in flags and BY_NAME[name].kind == "map":
            options[name] = {**file[name], **flags[name]}
    settings = Settings(options, frozenset(file) | frozenset(flags))
    check(settings)
    return settings


def _shown(value: object) -> str:
    return f"[{' '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def check(settings: Settings) -> None:
    """Refuses by name what this engine does not have, and values that cannot be. Raises InvalidParameter."""
    for name in sorted(settings.given):
        option = BY_NAME[name]
        value = settings.options[name]
        if option.refused and (option.harmless is None or value != option.harmless):
            raise InvalidParameter(f"--{name} is not supported: {option.refused}")
    for name, allowed in (
        ("default-ipc-mode", ("shareable", "private")),
        ("default-cgroupns-mode", ("host", "private")),
        ("log-level", ("debug", "info", "warn", "error", "fatal")),
        ("log-format", ("text", "json")),
        ("publish-policy", ("host", "open")),
    ):
        if settings.text(name) not in allowed:
            raise InvalidParameter(
                f'invalid value "{settings.text(name)}" for --{name}: use one of {", ".join(allowed)}'
            )
    if settings.text("bip") and settings.text("bridge"):
        raise InvalidParameter("You specified -b & --bip, mutually exclusive options. Please specify only one")
    for word in settings.words("exec-opt"):
        key, _, value = word.partition("=")
        if key != "native.cgroupdriver":
            raise InvalidParameter(f"invalid exec-opt {word!r}: only native.cgroupdriver=cgroupfs is known")
        if value != "cgroupfs":
            raise InvalidParameter(f"--exec-opt {word} is not supported: this engine manages cgroups itself")
    for label in settings.words("label"):
        if not label.partition("=")[1]:
            raise InvalidParameter(f"bad attribute format: {label}")
    for name in ("mtu", "shutdown-timeout"):
        if settings.number(name) < (-1 if name == "shutdown-timeout" else 0):
            raise InvalidParameter(f"invalid value {settings.number(name)} for --{name}")


def reload(current: Settings, flags: Mapping[str, Any], text: str, path: str) -> tuple[Settings, list[str]]:
    """The settings after SIGHUP, and the names that changed. Options that need a restart keep their value.

    Raises InvalidParameter, and then nothing changes: dockerd logs the error and goes on as before.
    """
    wanted = merge(flags, parse_file(text, path), path)
    changed = [
        option.name
        for option in OPTIONS
        if option.reload and wanted.options[option.name] != current.options[option.name]
    ]
    options = current.options | {name: wanted.options[name] for name in changed}
    return Settings(options, current.given | wanted.given), changed
