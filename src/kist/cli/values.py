"""How the values of some options are read, with the texts of Docker's command. Imported when one is given."""

from __future__ import annotations

import csv
import re
import socket
from collections.abc import Callable
from typing import Any

from kist.cli.parse import parse_size

_ULIMITS = frozenset({
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
})  # fmt: skip
_SYSCTLS = frozenset({
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
})  # fmt: skip
_BLANKS = " \t"
_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?\s*\Z")
_DEVICE_RULE = re.compile(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}\Z")
_RATE = "The correct format is <device-path>:<number>{}. Number must be a positive integer{}"


def _of_device(text: str) -> tuple[str, str]:
    """`/dev/sda:VALUE`."""
    path, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def _weight(text: str) -> dict[str, Any]:
    path, value = _of_device(text)
    weight = int(value) if value.isascii() and value.isdigit() else -1
    if weight != 0 and not 10 <= weight <= 1000:
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": weight}


def _rate(text: str) -> dict[str, Any]:
    path, value = _of_device(text)
    if not (value.isascii() and value.isdigit()) or int(value) >= 1 << 64:
        raise ValueError(f"invalid rate for device: {text}. {_RATE.format('', '')}")
    return {"Path": path, "Rate": int(value)}


def _bytes_rate(text: str) -> dict[str, Any]:
    path, value = _of_device(text)
    told = _RATE.format("[<unit>]", ". Unit is optional and can be kb, mb, or gb")
    try:
        rate = parse_size(value)
    except ValueError:
        rate = -1
    if rate < 0:
        raise ValueError(f"invalid rate for device: {text}. {told}")
    return {"Path": path, "Rate": rate}


def _device_rule(text: str) -> str:
    for rule in text.split(","):
        if not _DEVICE_RULE.match(rule.strip()):
            raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
            return True
        except (OSError, ValueError):
            continue
    return False


def _address(text: str) -> str:
    if not is_address(text.strip()):
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return text.strip()


def _domain(text: str) -> str:
    if text.strip(" ") == ".":
        return text
    if not re.search("[a-zA-Z]", text) or not _DOMAIN.match(text) or len(text) > 255:
        raise ValueError(f"{text} is not a valid domain")
    return text


def _extra_host(text: str) -> str:
    """`name:address` or `name=address`; an IPv6 address may be in brackets."""
    separator = "=" if "=" in text else ":"
    name, found, address = text.partition(separator)
    if not found or not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    if bare != "host-gateway" and not is_address(bare):
        raise ValueError(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{bare}"


def _variable(text: str) -> str:
    if not text.partition("=")[0]:
        raise ValueError(f"invalid environment variable: {text}")
    return text


def _label(text: str) -> str:
    key = text.partition("=")[0].lstrip(_BLANKS)
    if not key:
        raise ValueError(f"invalid label '{text}': empty name")
    if any(one in key for one in _BLANKS):
        raise ValueError(f"label '{key}' contains whitespaces")
    return text


def _link(text: str) -> str:
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return text


def _network(text: str) -> tuple[str, dict[str, Any]]:
    from kist.cli.endpoints import read

    return read(text)


def _sysctl(text: str) -> str:
    name, equals, _ = text.partition("=")
    if not equals or not (name in _SYSCTLS or name.startswith(("net.", "fs.mqueue."))):
        raise ValueError(f"sysctl '{text}' is not allowed")
    return text


def _ulimit(text: str) -> dict[str, Any]:
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    numbers = limits.split(":")
    if len(numbers) > 2:
        raise ValueError(f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`")
    soft, hard = _number(numbers[0]), _number(numbers[-1])
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(
            "ulimit soft limit must be less than or equal to hard limit: "
            + (f"soft: -1 (unlimited), hard: {hard}" if soft == -1 else f"{soft} > {hard}")
        )
    return {"Name": name, "Hard": hard, "Soft": soft}


def _number(text: str) -> int:
    if not (text.isascii() and text.lstrip("+-").isdigit()):
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def _gpus(text: str) -> dict[str, Any]:
    """`all`, a number, or `device=0,capabilities=utility,…` as one entry of DeviceRequests."""
    request: dict[str, Any] = {}
    seen: set[str] = set()
    for field in next(csv.reader([text]), []):
        key, equals, value = field.partition("=")
        if not equals:
            key, value = "count", field
        if key in seen:
            raise ValueError(f"gpu request key '{key}' can be specified only once")
        seen.add(key)
        if key == "count":
            request["Count"] = _count(value)
        elif key == "driver":
            request["Driver"] = value
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "capabilities":
            request["Capabilities"] = [[*value.split(","), "gpu"]]
        elif key == "options":
            request["Options"] = {one.partition("=")[0]: one.partition("=")[2] for one in next(csv.reader([value]), [])}
        else:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
    if "count" not in seen and "device" not in seen:
        request["Count"] = 1
    return {"Capabilities": [["gpu"]], **request}


def _count(text: str) -> int:
    if text == "all":
        return -1
    if not (text.isascii() and text.lstrip("+-").isdigit()):
        raise ValueError(f'invalid count ({text}): value must be either "all" or an integer: invalid syntax')
    return int(text)


def _filter(text: str) -> str:
    """An empty one is none, as in Docker."""
    if text and "=" not in text:
        raise ValueError("bad format of filter (expected name=value)")
    return text


READ: dict[str, Callable[[str], Any]] = {
    "address": _address,
    "bytes_rate": _bytes_rate,
    "device_rule": _device_rule,
    "domain": _domain,
    "extra_host": _extra_host,
    "filter": _filter,
    "gpus": _gpus,
    "label": _label,
    "link": _link,
    "network": _network,
    "rate": _rate,
    "sysctl": _sysctl,
    "ulimit": _ulimit,
    "variable": _variable,
    "weight": _weight,
}
