"""From command line and daemon.json to settings: parse, merge, refuse conflicts, find what a reload changes."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kist.model.errors import InvalidParameter
from kist.settings.options import BY_FLAG, BY_KEY, BY_NAME, BY_SHORT, OPTIONS, Option
from kist.settings.values import LISTS, MAPS, RESERVED, from_json, from_word

_SCHEMES = ("unix", "tcp", "fd")


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
    option = BY_FLAG.get(name)
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
    elif option.kind in MAPS:
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
    unknown = sorted(key for key in data if key not in BY_KEY)
    if unknown:
        raise InvalidParameter(
            f"{where}: the following directives don't match any configuration option: {', '.join(unknown)}"
        )
    found: dict[str, Any] = {}
    try:
        for key, value in data.items():
            option = BY_KEY[key]
            if option.name in found:
                raise InvalidParameter(f"{key} names again what {option.json_key} sets: use only {option.json_key}")
            found[option.name] = from_json(option, value)
    except InvalidParameter as error:
        raise InvalidParameter(f"{where}: {error.message}") from error
    return found


def merge(flags: Mapping[str, Any], file: Mapping[str, Any], path: str) -> Settings:
    """Both sources together. An option that both name is an error, as with dockerd."""
    conflicts = sorted(name for name in file if name in flags)
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
    settings = Settings(options, frozenset(file) | frozenset(flags))
    check(settings)
    return settings


def _shown(value: object) -> str:
    """As Go prints it: lists and maps in brackets."""
    if isinstance(value, tuple | list):
        return f"[{' '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_shown(value[key])}' for key in sorted(value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def check(settings: Settings) -> None:
    """Refuses by name what this engine does not have, and values that cannot be. Raises InvalidParameter."""
    _check_refused(settings)
    _check_words(settings)
    _check_runtimes(settings)
    for name, least in (("mtu", 0), ("shutdown-timeout", -1)):
        if settings.number(name) < least:
            raise InvalidParameter(f"invalid value {settings.number(name)} for --{name}: at least {least} is expected")
    if settings.text("bip") and settings.text("bridge"):
        raise InvalidParameter("You specified -b & --bip, mutually exclusive options. Please specify only one")
    _check_exec_options(settings.words("exec-opt"))
    _check_labels(settings.words("label"))
    _check_networks(settings)
    for host in settings.words("host"):
        scheme, separator, _ = host.partition("://")
        if separator and scheme not in _SCHEMES:
            raise InvalidParameter(f"Invalid bind address format: {host}: use unix://, tcp:// or fd://")
    for name in sorted(settings.options["feature"]):
        if settings.options["feature"][name]:
            raise InvalidParameter(f"--feature {name} is not supported: kist has no feature of that name to switch on")


def _check_refused(settings: Settings) -> None:
    for name in sorted(settings.given):
        option = BY_NAME[name]
        if not option.refused or (option.harmless is not None and settings.options[name] == option.harmless):
            continue
        shown = f"--{name}" if option.flag else f'"{option.json_key}"'
        if option.harmless is True:
            shown += "=false"
        raise InvalidParameter(f"{shown} is not supported: {option.refused}")


def _check_runtimes(settings: Settings) -> None:
    name = settings.text("default-runtime")
    if name not in settings.options["add-runtime"] and name not in RESERVED:
        raise InvalidParameter(f"specified default runtime '{name}' does not exist")


def _check_words(settings: Settings) -> None:
    for name, allowed, text in (
        ("default-ipc-mode", ("shareable", "private"),
         'default IPC mode setting ({}) is invalid; use "shareable" or "private"'),
        ("default-cgroupns-mode", ("host", "private"),
         'default cgroup namespace mode ({}) is invalid; use "host" or "private"'),
        ("log-level", ("debug", "info", "warn", "error", "fatal"), "invalid logging level: {}"),
        ("log-format", ("text", "json"), "invalid log format: {}"),
        ("publish-policy", ("host", "open"), 'invalid publish policy: {}; use "host" or "open"'),
    ):  # fmt: skip
        if settings.text(name) not in allowed:
            raise InvalidParameter(text.format(settings.text(name)))


def _check_exec_options(words: Sequence[str]) -> None:
    for word in words:
        key, _, value = word.partition("=")
        if key != "native.cgroupdriver":
            raise InvalidParameter(f"invalid exec-opt {word!r}: only native.cgroupdriver=cgroupfs is known")
        if value != "cgroupfs":
            raise InvalidParameter(f"--exec-opt {word} is not supported: this engine manages cgroups itself")


def _check_labels(labels: Sequence[str]) -> None:
    known: dict[str, str] = {}
    for label in labels:
        key, equals, value = label.partition("=")
        if not key or not equals:
            raise InvalidParameter(f"bad attribute format: {label}")
        if known.setdefault(key, value) != value:
            raise InvalidParameter(f"conflict labels for {key}={value} and {key}={known[key]}")


def _check_networks(settings: Settings) -> None:
    """Addresses of the default bridge that cannot be, before anything is made."""
    for name, parse in (("bip", ipaddress.IPv4Interface), ("fixed-cidr", ipaddress.IPv4Network)):
        text = settings.text(name)
        try:
            if text and ("/" not in text or parse(text) is None):
                raise ValueError("a prefix length is missing")
        except ValueError as error:
            raise InvalidParameter(f"invalid value {text!r} for --{name}: {error}") from error


def reload(current: Settings, flags: Mapping[str, Any], text: str, path: str) -> tuple[Settings, list[str], list[str]]:
    """The settings after SIGHUP, the names that changed, and those whose new value needs a restart and is not taken.

    Raises InvalidParameter, and then nothing changes: dockerd logs the error and goes on as before.
    """
    wanted = merge(flags, parse_file(text, path), path)
    different = [option for option in OPTIONS if wanted.options[option.name] != current.options[option.name]]
    changed = [option.name for option in different if option.reload]
    kept = [option.name for option in different if not option.reload]
    options = current.options | {name: wanted.options[name] for name in changed}
    return Settings(options, current.given | wanted.given), changed, kept
