"""Dockerfile instructions that change an image's configuration: what `commit --change` and `import --change` take.

Reading is pure; the grammar is that of Dockerfiles (docs.docker.com/reference/dockerfile): words with quotes, `\\` to
escape, `$NAME`, `${NAME:-word}` and `${NAME:+word}` replaced from ENV, JSON arrays for lists of words.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping

import msgspec

from kist.model.config import ContainerConfig, Health
from kist.model.errors import InvalidParameter

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SHELL = ["/bin/sh", "-c"]
_TIMES = {"interval": "interval", "timeout": "timeout", "start-period": "start_period",
          "start-interval": "start_interval"}  # fmt: skip


def apply(config: ContainerConfig, changes: Iterable[str]) -> ContainerConfig:
    """The configuration after the instructions, each of one or more lines. Raises InvalidParameter, Docker's texts."""
    for change in changes:
        lines = list(_lines(change))
        if not lines:
            raise InvalidParameter("file with no instructions")
        for line in lines:
            config = _apply(config, line)
    return config


def _lines(text: str) -> Iterable[str]:
    """Instructions without comments; a line that ends with `\\` goes on."""
    whole = ""
    for raw in text.split("\n"):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.endswith("\\"):
            whole += line[:-1]
            continue
        yield (whole + line).strip()
        whole = ""
    if whole.strip():
        yield whole.strip()


def _apply(config: ContainerConfig, line: str) -> ContainerConfig:
    word, _, rest = _split(line)
    act = _ACTS.get(word.lower())
    if act is None:
        raise InvalidParameter(f"{word.lower()} is not a valid change command")
    return act(config, rest)


def _split(text: str) -> tuple[str, str, str]:
    """The first word and what follows it."""
    match = re.match(r"(\S*)(\s*)(.*)", text, re.DOTALL)
    assert match is not None  # it matches anything
    return match[1], match[2], match[3].strip()


# --- instructions ---


def _set(config: ContainerConfig, **fields: object) -> ContainerConfig:
    return msgspec.structs.replace(config, **fields)


def _cmd(config: ContainerConfig, rest: str) -> ContainerConfig:
    words = _command(rest)
    return _set(config, cmd=words or None)


def _entrypoint(config: ContainerConfig, rest: str) -> ContainerConfig:
    words = _command(rest)
    return _set(config, entrypoint=words or None)


def _command(rest: str) -> list[str]:
    words = _json(rest)
    if words is not None:
        return words
    return [*_SHELL, rest] if rest else []


def _json(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        return msgspec.json.decode(text, type=list[str])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def _env(config: ContainerConfig, rest: str) -> ContainerConfig:
    variables = _variables(config)
    found = dict(one.partition("=")[::2] for one in config.env or ())
    found |= dict(_pairs("ENV", rest, variables))
    return _set(config, env=[f"{name}={value}" for name, value in found.items()])


def _label(config: ContainerConfig, rest: str) -> ContainerConfig:
    return _set(config, labels={**(config.labels or {}), **dict(_pairs("LABEL", rest, _variables(config)))})


def _expose(config: ContainerConfig, rest: str) -> ContainerConfig:
    _check(rest, "EXPOSE requires at least one argument")
    ports: dict[str, dict[str, object]] = dict(config.exposed_ports or {})
    for word in _words(rest):
        for port in _ports(expand(word, _variables(config))):
            ports[port] = {}
    return _set(config, exposed_ports=ports)


def _ports(text: str) -> list[str]:
    numbers, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise InvalidParameter(f"invalid proto: {protocol}")
    first, dash, last = numbers.rpartition(":")[2].partition("-")
    bounds = [first, last] if dash else [first, first]
    if not all(re.fullmatch(r"[0-9]{1,5}", one) and int(one) < 65536 for one in bounds) or int(bounds[0]) > int(
        bounds[1]
    ):
        raise InvalidParameter(f"invalid containerPort: {numbers}")
    return [f"{number}/{protocol}" for number in range(int(bounds[0]), int(bounds[1]) + 1)]


def _volume(config: ContainerConfig, rest: str) -> ContainerConfig:
    words = _json(rest)
    paths = [expand(word, _variables(config)) for word in (_words(rest) if words is None else words)]
    _check(paths, "VOLUME requires at least one argument")
    if not all(one.strip() for one in paths):
        raise InvalidParameter("VOLUME specified can not be an empty string")
    return _set(config, volumes={**(config.volumes or {}), **{one.strip(): {} for one in paths}})


def _user(config: ContainerConfig, rest: str) -> ContainerConfig:
    _check(rest, "USER requires exactly one argument")
    return _set(config, user=expand(rest, _variables(config)))


def _workdir(config: ContainerConfig, rest: str) -> ContainerConfig:
    _check(rest, "WORKDIR requires exactly one argument")
    place = expand(rest, _variables(config))
    if not place.startswith("/"):
        place = posixpath.normpath(f"/{f'{config.working_dir}/{place}'.lstrip('/')}")
    return _set(config, working_dir=place)


def _stopsignal(config: ContainerConfig, rest: str) -> ContainerConfig:
    _check(rest, "STOPSIGNAL requires exactly one argument")
    return _set(config, stop_signal=expand(rest, _variables(config)))


def _onbuild(config: ContainerConfig, rest: str) -> ContainerConfig:
    _check(rest, "ONBUILD requires at least one argument")
    word = _split(rest)[0].upper()
    if word == "ONBUILD":
        raise InvalidParameter("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if word in ("MAINTAINER", "FROM"):
        raise InvalidParameter(f"{word} isn't allowed as an ONBUILD trigger")
    return _set(config, on_build=[*(config.on_build or ()), rest])


def _healthcheck(config: ContainerConfig, rest: str) -> ContainerConfig:
    flags, rest = _flags(rest)
    word, _, command = _split(rest)
    _check(word, "HEALTHCHECK requires at least one argument")
    kind = word.upper()
    if kind == "NONE":
        if command:
            raise InvalidParameter("HEALTHCHECK NONE takes no arguments")
        return _set(config, healthcheck=Health(test=["NONE"]))
    if kind != "CMD":
        raise InvalidParameter(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    _check(command, "Missing command after HEALTHCHECK CMD")
    words = _json(command)
    test = ["CMD", *words] if words is not None else ["CMD-SHELL", command]
    times = {field: _duration(flags[name], name) for name, field in _TIMES.items() if name in flags}
    return _set(config, healthcheck=Health(test=test, retries=_retries(flags.get("retries", "")), **times))


def _flags(rest: str) -> tuple[dict[str, str], str]:
    found: dict[str, str] = {}
    while rest.startswith("--"):
        word, _, rest = _split(rest)
        name, equals, value = word[2:].partition("=")
        if name not in (*_TIMES, "retries"):
            raise InvalidParameter(f"unknown flag: --{name}")
        if not equals:
            raise InvalidParameter(f"missing a value on flag: {name}")
        found[name] = value
    return found, rest


def _duration(text: str, flag: str) -> int:
    """Nanoseconds of Go's `1m30s`."""
    if text == "0":
        return 0
    pieces = list(_DURATION.finditer(text))
    if not pieces or "".join(piece[0] for piece in pieces) != text:
        raise InvalidParameter(f'time: invalid duration "{text}"')
    found = sum(int(float(piece[1]) * _UNITS[piece[2]]) for piece in pieces)
    if 0 < found < 1_000_000:
        raise InvalidParameter(f"Interval {flag!r} cannot be less than 1ms".replace("'", '"'))
    return found


def _retries(text: str) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise InvalidParameter(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if int(text) < 0:
        raise InvalidParameter(f"--retries cannot be negative ({text})")
    return int(text)


def _check(given: object, message: str) -> None:
    if not given:
        raise InvalidParameter(message)


_ACTS: dict[str, Callable[[ContainerConfig, str], ContainerConfig]] = {
    "cmd": _cmd, "entrypoint": _entrypoint, "env": _env, "expose": _expose, "healthcheck": _healthcheck,
    "label": _label, "onbuild": _onbuild, "stopsignal": _stopsignal, "user": _user, "volume": _volume,
    "workdir": _workdir,
}  # fmt: skip


# --- words ---


def _variables(config: ContainerConfig) -> dict[str, str]:
    return dict(one.partition("=")[::2] for one in config.env or ())


def _pairs(instruction: str, rest: str, variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """`a=b c="d e"`, or the old `a rest of the line`."""
    _check(rest, f"{instruction} requires at least one argument")
    words = _words(rest)
    if "=" not in words[0]:
        name, _, value = _split(rest)
        _check(value, f"{instruction} must have two arguments")
        return [(expand(name, variables), expand(value, variables))]
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidParameter(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
        _check(name, f"{instruction} names can not be blank")
        found.append((expand(name, variables), expand(value, variables)))
    return found


def _words(text: str) -> list[str]:
    """Words between blanks outside of quotes, as they are written."""
    found: list[str] = []
    current, quote, i = "", "", 0
    while i < len(text):
        char = text[i]
        if char == "\\" and quote != "'" and i + 1 < len(text):
            current += text[i : i + 2]
            i += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char.isspace():
            if current:
                found.append(current)
            current = ""
            i += 1
            continue
        current += char
        i += 1
    return [*found, current] if current else found


def expand(word: str, variables: Mapping[str, str]) -> str:
    """A word without its quotes and escapes, with variables replaced. Raises InvalidParameter."""
    return _Expansion(word, variables).run("")


class _Expansion:
    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._text, self._variables, self._at = text, variables, 0

    def run(self, stop: str) -> str:
        """To the end, or to a character outside of quotes, which is taken."""
        found: list[str] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            self._at += 1
            if stop and char == stop:
                return "".join(found)
            found.append(self._piece(char))
        if stop:
            raise InvalidParameter(f'failed to process "{self._text}": syntax error: missing "{stop}"')
        return "".join(found)

    def _piece(self, char: str) -> str:
        if char == "'":
            return self._until("'")
        if char == '"':
            return self._quoted()
        if char == "\\":
            return self._next()
        return self._variable() if char == "$" else char

    def _next(self) -> str:
        char = self._text[self._at : self._at + 1]
        self._at += 1
        return char

    def _until(self, end: str) -> str:
        close = self._text.find(end, self._at)
        if close < 0:
            raise InvalidParameter(f'failed to process "{self._text}": unexpected end of statement while looking for '
                                   f"matching {'single' if end == chr(39) else 'double'}-quote")  # fmt: skip
        found = self._text[self._at : close]
        self._at = close + 1
        return found

    def _quoted(self) -> str:
        found: list[str] = []
        while True:
            if self._at >= len(self._text):
                return self._until('"')  # raises: there is none
            char = self._next()
            if char == '"':
                return "".join(found)
            if char == "$":
                found.append(self._variable())
            elif char == "\\" and self._text[self._at : self._at + 1] in ('"', "$", "\\"):
                found.append(self._next())
            else:
                found.append(char)

    def _variable(self) -> str:
        if self._text[self._at : self._at + 1] == "{":
            self._at += 1
            return self._braced()
        match = _NAME.match(self._text, self._at)
        if match is None:
            return "$"
        self._at = match.end()
        return self._variables.get(match[0], "")

    def _braced(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            raise InvalidParameter(f'failed to process "{self._text}": syntax error: bad substitution')
        self._at = match.end()
        value = self._variables.get(match[0])
        char = self._next()
        if char == "}":
            return value or ""
        empty_counts = char == ":"
        operator = self._next() if empty_counts else char
        if operator not in ("-", "+", "?"):
            raise InvalidParameter(
                f'failed to process "{self._text}": unsupported modifier ({char}{operator}) in substitution'
            )
        word = self.run("}")
        is_set = bool(value) if empty_counts else value is not None
        if operator == "+":
            return word if is_set else ""
        if not is_set and operator == "?":
            raise InvalidParameter(f'failed to process "{self._text}": {match[0]}: {word or "not allowed to be unset"}')
        return value or "" if is_set else word
