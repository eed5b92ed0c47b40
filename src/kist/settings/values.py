"""How the values of options are read: from a word of the command line, or from daemon.json."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from kist.model.errors import InvalidParameter
from kist.settings.options import Option

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
LISTS = frozenset({"list", "ips", "ulimits"})
MAPS = frozenset({"map", "features", "runtimes"})
RESERVED = ("kist", "runc", "io.containerd.runc.v2")  # what the engine itself goes by
_GO_TYPES = {"flag": "bool", "int": "int", "string": "string", "list": "[]string", "ips": "[]string",
             "map": "map[string]string", "features": "map[string]bool"}  # fmt: skip


def parse_bytes(text: str) -> int:
    """`64m`, `1.5GiB`, `1024` in bytes. Raises ValueError."""
    lowered = text.strip().lower()
    digits = lowered.rstrip("abcdefghijklmnopqrstuvwxyz").strip()
    suffix = lowered[len(digits) :].strip().removesuffix("ib").removesuffix("b")
    value = float(digits) * _UNITS[suffix]
    if value < 0:
        raise ValueError(text)
    return int(value)


def from_word(option: Option, word: str) -> Any:
    """One occurrence of an option on the command line. Raises InvalidParameter in dockerd's words."""
    try:
        return _word(option, word)
    except (ValueError, KeyError) as error:
        raise InvalidParameter(
            f'invalid argument "{word}" for "{_flag(option)}" flag: {_reason(option, word)}\nSee \'kistd --help\'.'
        ) from error


def _word(option: Option, word: str) -> Any:
    if option.kind == "flag":
        if word not in _TRUE | _FALSE:
            raise ValueError(word)
        return word in _TRUE
    if option.kind == "int":
        return int(word)
    if option.kind == "size":
        return parse_bytes(word)
    if option.kind == "ip":
        return str(ipaddress.ip_address(word))
    if option.kind == "ips":
        return tuple(str(ipaddress.ip_address(part)) for part in word.split(","))
    if option.kind == "ulimits":
        return (_ulimit(word),)
    if option.kind == "map":
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise ValueError(word)
        return {key: value}
    if option.kind == "runtimes":
        name, _, path = (part.strip() for part in word.partition("="))
        name = name.lower()
        if not name or not path:
            raise ValueError(word)
        return {name: _runtime(name, {"path": path})}
    if option.kind == "features":
        name, equals, value = word.partition("=")
        if not name or (equals and value not in _TRUE | _FALSE):
            raise ValueError(word)
        return {name: not equals or value in _TRUE}
    if option.kind == "list":
        return (word,)
    return word


def _runtime(name: str, value: object) -> dict[str, Any]:
    """A runtime's `path` and `runtimeArgs`. Raises InvalidParameter, where it can with dockerd's words."""
    if name in RESERVED:
        raise InvalidParameter(f"runtime name '{name}' is reserved")
    if not isinstance(value, dict):
        raise InvalidParameter(f"runtime {name}: an object with a path is expected")
    for key in value:
        if key not in ("path", "runtimeArgs"):
            raise InvalidParameter(f"runtime {name}: {key} is not supported: kist runs OCI runtime commands, no shims")
    path, arguments = value.get("path"), value.get("runtimeArgs") or []
    if not isinstance(path, str) or not path:
        raise InvalidParameter(f"runtime {name}: either a runtimeType or a path must be configured")
    if not isinstance(arguments, list) or not all(isinstance(one, str) for one in arguments):
        raise InvalidParameter(f"runtime {name}: runtimeArgs must be a list of words")
    return {"path": path, "runtimeArgs": arguments}


def _ulimit(word: str) -> tuple[str, int, int]:
    """`nofile=1024:2048` as (name, soft, hard)."""
    name, equals, limits = word.partition("=")
    soft, colon, hard = limits.partition(":")
    if not name or not equals:
        raise ValueError(word)
    low = int(soft)
    high = int(hard) if colon else low
    if high != -1 and (low > high or low == -1):
        raise ValueError(word)
    return name, low, high


def from_json(option: Option, value: object) -> Any:
    """The value of a key of daemon.json. Raises InvalidParameter that names the key, for a wrong type in Go's words.

    What is refused anyway is not looked into: it may be of any shape.
    """
    if option.refused:
        return tuple(value) if isinstance(value, list) else value
    wanted = {"flag": bool, "int": int, "string": str, "ip": str, "map": dict, "features": dict}.get(option.kind)
    if wanted is not None and (not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))):
        raise _wrong_type(option, value, _GO_TYPES.get(option.kind, "string"))
    if option.kind == "runtimes":
        if not isinstance(value, dict):
            raise _wrong_type(option, value, "map[string]system.Runtime")
        return {name: _runtime(name, one) for name, one in value.items()}
    if isinstance(value, dict) and option.kind in MAPS:
        inner = str if option.kind == "map" else bool
        for item in value.values():
            if not isinstance(item, inner):
                raise _wrong_type(option, item, "string" if inner is str else "bool")
    if option.kind in ("list", "ips"):
        for item in value if isinstance(value, list) else ():
            if not isinstance(item, str):
                raise _wrong_type(option, item, "string")
    try:
        return _json(option, value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        shown = json.dumps(value)
        raise InvalidParameter(f'invalid value for "{option.json_key}": {shown}: {_reason(option, shown)}') from error


def _wrong_type(option: Option, value: object, wanted: str) -> InvalidParameter:
    kinds = ((bool, "bool"), (str, "string"), (int, "number"), (float, "number"), (list, "array"), (dict, "object"))
    found = next((name for kind, name in kinds if isinstance(value, kind)), "null")
    return InvalidParameter(
        f"json: cannot unmarshal {found} into Go struct field Config.{option.json_key} of type {wanted}"
    )


def _json(option: Option, value: object) -> Any:
    if option.kind == "ip":
        return str(ipaddress.ip_address(str(value)))
    if option.kind == "size":
        return parse_bytes(str(value))
    if option.kind == "ulimits":
        return _json_ulimits(value)
    if option.kind in LISTS:
        items = _strings(value)
        return tuple(str(ipaddress.ip_address(item)) for item in items) if option.kind == "ips" else items
    return value


def _strings(value: object) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise TypeError(value)
    return tuple(items)


def _json_ulimits(value: object) -> tuple[tuple[str, int, int], ...]:
    """`{"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 2048}}`."""
    if not isinstance(value, dict):
        raise TypeError(value)
    return tuple((str(item.get("Name", name)), int(item["Soft"]), int(item["Hard"])) for name, item in value.items())


def _flag(option: Option) -> str:
    return f"-{option.short}, --{option.name}" if option.short else f"--{option.name}"


def _reason(option: Option, shown: str) -> str:
    wants = {
        "flag": "true or false is expected",
        "int": "a whole number is expected",
        "size": "a size like 64m is expected",
        "ip": "an IP address is expected",
        "ips": "IP addresses are expected",
        "map": "key=value is expected",
        "runtimes": f"invalid runtime argument: {shown}",
        "features": "name or name=true|false is expected",
        "ulimits": "NAME=SOFT[:HARD] is expected",
        "string": "a string is expected",
        "list": "a list of strings is expected",
    }
    return wants[option.kind]
