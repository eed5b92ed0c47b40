"""What --network, --network-alias, --ip and the like of `run` and `create` ask: the endpoints of a create request."""

from __future__ import annotations

import re
from typing import Any

from kist.cli.parse import Parsed, go_csv
from kist.model.errors import KistError

# Docker's own test for the long form; what has a `=` and does not look like this is a name.
_LONG = re.compile(r"\w+=\w+(,\w+=\w+)*", re.ASCII)
_ADDRESSES = {"ip": "IPv4Address", "ip6": "IPv6Address"}
_BOTH = "conflicting options: cannot specify both"


def read(text: str) -> tuple[str, dict[str, Any]]:
    """`name` or `name=NET,alias=A,ip=ADDRESS,…` as a network and its settings. Raises ValueError with Docker's texts.

    All of the long form is taken in lower case, as Docker's command does.
    """
    if not _LONG.search(text):
        return text, {}
    name, settings = "", dict[str, Any]()
    for field in go_csv(text):
        key, equals, value = field.lower().partition("=")
        if not equals or not key:
            raise ValueError(f"invalid field {field}")
        key, value = key.strip(), value.strip()
        if key == "name":
            name = value
        else:
            _set(settings, key, value)
    if not name:
        raise ValueError("network name/id is not specified")
    return name, settings


def _set(settings: dict[str, Any], key: str, value: str) -> None:
    if key == "alias":
        settings.setdefault("Aliases", []).append(value)
    elif key in _ADDRESSES:
        if value:
            settings.setdefault("IPAMConfig", {})[_ADDRESSES[key]] = value
    elif key == "link-local-ip":
        settings.setdefault("IPAMConfig", {}).setdefault("LinkLocalIPs", []).append(value)
    elif key == "mac-address":
        settings["MacAddress"] = value
    elif key == "driver-opt":
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise ValueError("invalid key value pair format in driver options")
        settings.setdefault("DriverOpts", {})[name.strip()] = text.strip()
    elif key == "gw-priority":
        settings["GwPriority"] = _priority(value)
    else:
        raise ValueError(f"invalid field key {key}")


def _priority(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(f"invalid gw-priority ({text}): invalid syntax")
    if not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError(f"invalid gw-priority ({text}): value out of range")
    return int(text)


def endpoints(options: Parsed) -> tuple[str, dict[str, Any]]:
    """(network mode, EndpointsConfig). Raises KistError with Docker's texts.

    The flags that name no network are of the first one. A single network of which no more than the name is said has
    no entry; no network at all is `default`, with one.
    """
    given: list[tuple[str, dict[str, Any]]] = options.network or [("default", {})]
    found: dict[str, Any] = {}
    for number, (name, said) in enumerate(given):
        settings = said if number else _with_flags(name, said, options)
        _check(name, settings)
        if name in found:
            raise KistError(f'network "{name}" is specified multiple times')
        if any(settings.values()) or len(given) > 1 or not options.network:
            found[name] = settings
    own = [_is_user_defined(name) for name, _ in given]
    if any(own) and not all(own):
        raise KistError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    return given[0][0], found


def _with_flags(name: str, said: dict[str, Any], options: Parsed) -> dict[str, Any]:
    addresses = said.get("IPAMConfig", {})
    for flag, before, value, told in (
        ("network-alias", said.get("Aliases"), options.network_alias, "alias"),
        ("ip", addresses.get("IPv4Address"), options.ip, "IPv4 address"),
        ("ip6", addresses.get("IPv6Address"), options.ip6, "IPv6 address"),
        ("mac-address", said.get("MacAddress"), options.mac_address, "MAC address"),
        ("link-local-ip", addresses.get("LinkLocalIPs"), options.link_local_ip, "link-local IP addresses"),
    ):
        if before and value:
            raise KistError(f"{_BOTH} --{flag} and per-network {told}")
    asked = {"IPv4Address": options.ip, "IPv6Address": options.ip6, "LinkLocalIPs": options.link_local_ip}
    addresses = {**addresses, **{key: value for key, value in asked.items() if value}}
    flags = {
        "Aliases": options.network_alias,
        "Links": options.link if _is_user_defined(name) else [],  # of the default network they are the container's
        "MacAddress": options.mac_address,
        "IPAMConfig": addresses,
    }
    return {**said, **{key: value for key, value in flags.items() if value}}


def _check(name: str, settings: dict[str, Any]) -> None:
    if not name.strip():
        raise KistError("no name set for network")
    if settings.get("Aliases") and not _is_user_defined(name):
        raise KistError("network-scoped aliases are only supported for user-defined networks")
    mac = settings.get("MacAddress", "")
    if mac and not is_mac(mac.strip()):
        raise KistError(f"{mac} is not a valid mac address")


def _is_user_defined(name: str) -> bool:
    return name not in ("default", "bridge", "host", "none") and not name.startswith("container:")


def is_mac(text: str) -> bool:
    parts = text.replace("-", ":").split(":")
    return len(parts) in (6, 8, 20) and all(re.fullmatch("[0-9a-fA-F]{2}", part) for part in parts)
