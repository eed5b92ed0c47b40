"""Command lines as Docker's command reads them: options declared once in tables, parsed by a small loop."""

from __future__ import annotations

from typing import Any, NamedTuple

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_EMPTY: dict[str, Any] = {
    "flag": False,
    "list": [],
    "strings": [],
    "map": {},
    "pairs": {},
    "int": 0,
    "uint16": 0,
    "size": 0,
    "time": 0,
}


class Opt(NamedTuple):
    """One option. `kind`: flag, text, int, uint16, size (bytes), time (nanoseconds), and of those that may be given
    many times list, strings (each a line of CSV), map (each `a=b,c=d`), pairs (each `a=b`, or `a` alone).

    `check` names what reads each value of a list (`cli/values.py`), `same_as` the option that it is an old name of.
    """

    name: str
    kind: str = "flag"
    help: str = ""
    short: str = ""
    default: Any = None
    check: str = ""
    hidden: bool = False
    same_as: str = ""


class Command(NamedTuple):
    """One command. `run` names a function as `module:function`; `maximum` -1 is any number of arguments."""

    name: str
    usage: str
    help: str
    run: str
    options: tuple[Opt, ...] = ()
    minimum: int = 0
    maximum: int = 0
    interspersed: bool = True
    aliases: tuple[str, ...] = ()
    hidden: bool = False


class UsageError(Exception):
    """A wrong command line: the text for the user and the exit status. `plain`: the usage does not help."""

    def __init__(self, text: str, status: int = 125, *, plain: bool = False) -> None:
        super().__init__(text)
        self.text, self.status, self.plain = text, status, plain


class HelpAsked(Exception):
    """--help was given."""


class Parsed:
    """Values of options by name with `-` as `_`; `given` names those that were said."""

    def __init__(self, options: tuple[Opt, ...]) -> None:
        self.arguments: list[str] = []
        self.given: set[str] = set()
        self._values: dict[str, Any] = {}
        for option in options:
            empty = _EMPTY.get(option.kind, "")
            self._values[option.name] = option.default if option.default is not None else empty

    def __getattr__(self, name: str) -> Any:
        return self._values[name.replace("_", "-")]

    def set(self, option: Opt, value: Any) -> None:
        name = option.same_as or option.name
        if option.kind in ("list", "strings"):
            earlier = self._values[name] if name in self.given else []
            value = [*earlier, *value] if option.kind == "strings" else [*earlier, value]
        elif option.kind in ("map", "pairs"):
            value = {**self._values[name], **value}
        self.given.add(name)
        self._values[name] = value


def parse(command: Command, words: list[str], path: str) -> Parsed:
    """Raises UsageError with Docker's texts, HelpAsked."""
    parsed = Parsed(command.options)
    longs = {option.name: option for option in command.options}
    shorts = {option.short: option for option in command.options if option.short}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            parsed.arguments += rest
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name == "help":
                raise HelpAsked
            option = longs.get(name)
            if option is None:
                raise UsageError(with_usage(f"unknown flag: --{name}", command, path))
            _take(parsed, option, f"--{name}", value if equals else None, rest, command, path)
        elif word.startswith("-") and len(word) > 1:
            _shorthands(parsed, word[1:], shorts, rest, command, path)
        else:
            parsed.arguments.append(word)
            if not command.interspersed:
                parsed.arguments += rest
                break
    _check_count(parsed, command, path)
    return parsed


def _shorthands(
    parsed: Parsed, letters: str, shorts: dict[str, Opt], rest: list[str], command: Command, path: str
) -> None:
    whole = letters
    while letters:
        letter, letters = letters[0], letters[1:]
        option = shorts.get(letter)
        if option is None:
            if letter == "h" and whole == "h":
                raise HelpAsked
            raise UsageError(with_usage(f"unknown shorthand flag: '{letter}' in -{letter}{letters}", command, path))
        if option.kind == "flag":
            if letters.startswith("="):
                _take(parsed, option, f"-{letter}", letters[1:], rest, command, path)
                return
            parsed.set(option, True)
            continue
        _take(parsed, option, f"-{letter}", letters.removeprefix("=") if letters else None, rest, command, path)
        return


def _take(
    parsed: Parsed, option: Opt, shown: str, value: str | None, rest: list[str], command: Command, path: str
) -> None:
    if option.kind == "flag":
        if value is None:
            parsed.set(option, True)
            return
        if value not in _TRUE | _FALSE:
            reason = f'strconv.ParseBool: parsing "{value}": invalid syntax'
            raise UsageError(with_usage(_invalid(option, value, reason), command, path))
        parsed.set(option, value in _TRUE)
        return
    if value is None:
        if not rest:
            text = f"flag needs an argument: {shown}" if shown.startswith("--") else (
                f"flag needs an argument: '{shown[1]}' in {shown}")  # fmt: skip
            raise UsageError(with_usage(text, command, path))
        value = rest.pop(0)
    try:
        parsed.set(option, convert(option, value))
    except ValueError as error:
        raise UsageError(with_usage(_invalid(option, value, str(error)), command, path)) from error


def convert(option: Opt, value: str) -> Any:
    """Raises ValueError with Go's words."""
    if option.kind == "int":
        try:
            return int(value)
        except ValueError:
            raise ValueError(f'strconv.ParseInt: parsing "{value}": invalid syntax') from None
    if option.kind == "uint16":
        return _uint16(value)
    if option.kind == "size":
        size = parse_size(value)
        if size < 0 and option.name != "memory-swap":
            raise ValueError(f"invalid size: '{value}'")
        return size
    if option.kind == "time":
        return parse_duration(value)
    if option.check:
        from kist.cli import values

        return values.READ[option.check](value)
    if option.kind == "strings":
        return go_csv(value) if value else []
    if option.kind == "pairs":
        return dict([value.partition("=")[::2]])
    return parse_map(value) if option.kind == "map" else value


def _uint16(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) > 65535:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def go_csv(text: str) -> list[str]:
    """The fields of a line of CSV. Raises ValueError with the texts of Go's reader."""
    line = text.lstrip("\n").partition("\n")[0]
    if not line:
        raise ValueError("EOF")
    fields, start = [], 0
    while True:
        field, end = _quoted(line, start) if line.startswith('"', start) else _bare(line, start)
        fields.append(field)
        if end == len(line):
            return fields
        start = end + 1


def _bare(line: str, start: int) -> tuple[str, int]:
    """A field without quotes, and where it ends."""
    end = line.find(",", start)
    end = len(line) if end < 0 else end
    quote = line.find('"', start, end)
    if quote >= 0:
        raise ValueError(f'parse error on line 1, column {quote + 1}: bare " in non-quoted-field')
    return line[start:end], end


def _quoted(line: str, start: int) -> tuple[str, int]:
    """A field in quotes, of which two are one inside, and where it ends."""
    field, place = "", start + 1
    while True:
        quote = line.find('"', place)
        if quote < 0:
            raise ValueError(f'parse error on line 1, column {len(line) + 1}: extraneous or missing " in quoted-field')
        field += line[place:quote]
        place = quote + 1
        if line.startswith('"', place):
            field, place = field + '"', place + 1
        elif place == len(line) or line[place] == ",":
            return field, place
        else:
            raise ValueError(f'parse error on line 1, column {quote + 1}: extraneous or missing " in quoted-field')


def parse_map(text: str) -> dict[str, str]:
    """`a=b,c=d`, a pair with commas in double quotes. Raises ValueError with pflag's text."""
    pairs = [text]
    if text.count("=") > 1:
        import csv

        pairs = next(csv.reader([text]), [])
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair} must be formatted as key=value")
        found[key] = value
    return found


def parse_size(text: str) -> int:
    """`64m` in bytes. Raises ValueError with Docker's text."""
    units = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
    lowered = text.strip().lower()
    digits = lowered.rstrip("abcdefghijklmnopqrstuvwxyz").strip()
    suffix = lowered[len(digits) :].strip()
    unit = suffix if suffix in ("", "b") else suffix.removesuffix("ib").removesuffix("b")
    try:
        if lowered == "-1":
            return -1
        return int(float(digits) * units[unit])
    except (ValueError, KeyError):
        raise ValueError(f"invalid size: '{text}'") from None


def parse_duration(text: str) -> int:
    """`1m30s` in nanoseconds. Raises ValueError with Go's text."""
    units = {"ns": 1, "us": 1000, "µs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    rest, total = text, 0.0
    if text == "0":
        return 0
    while rest:
        number = ""
        while rest and (rest[0].isdigit() or rest[0] in ".-+"):
            number, rest = number + rest[0], rest[1:]
        unit = ""
        while rest and not (rest[0].isdigit() or rest[0] == "."):
            unit, rest = unit + rest[0], rest[1:]
        if number and not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if number and unit not in units:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        if not number:
            raise ValueError(f'time: invalid duration "{text}"')
        total += float(number) * units[unit]
    if not text:
        raise ValueError('time: invalid duration ""')
    return int(total)


def _invalid(option: Opt, value: str, reason: str) -> str:
    name = f"-{option.short}, --{option.name}" if option.short else f"--{option.name}"
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'invalid argument "{quoted}" for "{name}" flag: {reason}'


def with_usage(text: str, command: Command, path: str) -> str:
    """What is wrong, the usage, and where to find more."""
    return f"{text}\n\nUsage:  {path} {command.usage}".rstrip() + f"\n\nRun '{path} --help' for more information"


def _check_count(parsed: Parsed, command: Command, path: str) -> None:
    count, low, high = len(parsed.arguments), command.minimum, command.maximum
    if low <= count and (high < 0 or count <= high):
        return
    plural = "argument" if low == 1 else "arguments"
    if high == 0:
        told, see = "accepts no arguments", "Run"
    elif low == high:
        told, see = f"requires {low} {plural}", "Run"
    elif high < 0:
        told, see = f"requires at least {low} {plural}", "See"
    elif count < low:
        told, see = f"requires at least {low} and at most {high} arguments", "Run"
    else:
        told, see = f"requires at most {high} {'argument' if high == 1 else 'arguments'}", "Run"
    text = f"kist: '{path}' {told}\n\nUsage:  {path} {command.usage}".rstrip()
    raise UsageError(f"{text}\n\n{see} '{path} --help' for more information", 1)


def help_text(command: Command, path: str) -> str:
    """What `--help` prints."""
    lines = [f"Usage:  {path} {command.usage}".rstrip(), "", command.help]
    if command.aliases:
        base = path.rpartition(" ")[0]
        lines += ["", "Aliases:", "  " + ", ".join(f"{base} {name}" for name in (command.name, *command.aliases))]
    if command.options:
        lines += ["", "Options:", *option_lines(command)]
    return "\n".join(lines)


_KINDS = {"flag": "", "int": " int", "uint16": " uint16", "size": " bytes", "time": " duration", "list": " list",
          "map": " stringToString", "strings": " strings", "pairs": " map"}  # fmt: skip


def _default(option: Opt) -> str:
    """What is taken when the option is not given, as Docker's help says it."""
    if option.kind == "pairs":
        return " (default map[])"
    if not option.default:
        return ""
    shown = {"flag": "true", "text": f'"{option.default}"'}.get(option.kind, str(option.default))
    return f" (default {shown})"


def option_lines(command: Command) -> list[str]:
    """The options of a command, one a line, in two columns."""
    rows = []
    for option in sorted(command.options, key=lambda one: one.name):
        if option.hidden:
            continue
        short = f"-{option.short}, " if option.short else "    "
        rows.append((f"  {short}--{option.name}{_KINDS.get(option.kind, ' string')}", option.help + _default(option)))
    width = max(len(left) for left, _ in rows) + 3
    return [f"{left:<{width}}{right}".rstrip() for left, right in rows]
