"""Driver options of bridge networks (`docker network create -o KEY=VALUE`), and one of our own. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import msgspec

from kist.model.errors import InvalidParameter, KistError
from kist.model.number import is_number

_PREFIX = "com.docker.network."
NAME = f"{_PREFIX}bridge.name"
MTU = f"{_PREFIX}driver.mtu"
IPV4, IPV6 = f"{_PREFIX}enable_ipv4", f"{_PREFIX}enable_ipv6"
INTERFACE_PREFIX = f"{_PREFIX}container_iface_prefix"
EXPOSE = "kist.expose"
_ICC, _MASQUERADE = f"{_PREFIX}bridge.enable_icc", f"{_PREFIX}bridge.enable_ip_masquerade"
_BINDING = f"{_PREFIX}bridge.host_binding_ipv4"
_MODE4, _MODE6 = f"{_PREFIX}bridge.gateway_mode_ipv4", f"{_PREFIX}bridge.gateway_mode_ipv6"
_INHIBIT, _TRUSTED = f"{_PREFIX}bridge.inhibit_ipv4", f"{_PREFIX}bridge.trusted_host_interfaces"
_HOST4, _HOST6 = f"{_PREFIX}host_ipv4", f"{_PREFIX}host_ipv6"
MODES = ("nat", "nat-unprotected", "routed", "isolated")
_BOOLEANS = {**dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
             **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False)}  # fmt: skip
_LONGEST_NAME = 15  # IFNAMSIZ, with the NUL byte that ends it


class BridgeOptions(msgspec.Struct, frozen=True):
    """What a bridge network is to be like."""

    name: str = ""
    mtu: int = 0  # 0: the daemon's
    icc: bool = True
    masquerade: bool = True
    binding: str = ""  # where ports are published that name no address of the host
    mode4: str = "nat"
    mode6: str = "nat"
    inhibit_ipv4: bool = False  # the bridge gets no address
    trusted: tuple[str, ...] = ()  # interfaces of the host whose packets may go to unpublished ports
    interface_prefix: str = "eth"
    host4: str = ""  # source address of what leaves, in place of the outgoing interface's
    host6: str = ""
    strict: bool = False  # containers reach each other on exposed ports only


def parse(options: Mapping[str, str]) -> BridgeOptions:
    """Raises InvalidParameter with Docker's texts. Keys that mean nothing to a bridge are let be, as Docker does."""
    strict = options.get(EXPOSE, "open")
    if strict not in ("open", "strict"):
        raise InvalidParameter(f"invalid value for {EXPOSE}: {strict}: use open or strict")
    name = options.get(NAME, "")
    if name and not _is_interface_name(name):
        raise InvalidParameter(
            f"invalid bridge name {name}: a name of an interface has at most {_LONGEST_NAME} bytes, and no / or blank"
        )
    mode4, mode6 = _mode(options, _MODE4), _mode(options, _MODE6)
    return BridgeOptions(
        name=name,
        mtu=_mtu(options),
        icc=_boolean(options, _ICC, True),
        masquerade=_boolean(options, _MASQUERADE, True),
        binding=_address(options, _BINDING),
        mode4=mode4,
        mode6=mode6,
        inhibit_ipv4=_boolean(options, _INHIBIT, False),
        trusted=tuple(filter(None, options.get(_TRUSTED, "").split(":"))),
        interface_prefix=options.get(INTERFACE_PREFIX, "") or "eth",
        host4=_address(options, _HOST4),
        host6=_address(options, _HOST6),
        strict=strict == "strict",
    )


def check(options: BridgeOptions, *, internal: bool) -> None:
    """What fits together only with the rest of the network. Raises KistError with Docker's texts."""
    if "isolated" in (options.mode4, options.mode6) and not internal:
        raise KistError("gateway mode 'isolated' can only be used for an internal network")
    if options.mtu < 0:
        raise InvalidParameter(f"invalid MTU number: {options.mtu}")


def enabled(options: Mapping[str, str], key: str, asked: bool | None, default: bool) -> bool:
    """Whether a family of addresses is: as the request says, or a driver option. Raises InvalidParameter."""
    if asked is not None:
        return asked
    if key not in options:
        return default
    if options[key] not in _BOOLEANS:
        raise InvalidParameter(f'driver-opt "{key}" is not a valid bool')
    return _BOOLEANS[options[key]]


def _failed(key: str, value: str, why: str) -> InvalidParameter:
    return InvalidParameter(f"failed to parse {key} value: {value} ({why})")


def _boolean(options: Mapping[str, str], key: str, default: bool) -> bool:
    if key not in options:
        return default
    value = options[key]
    if value not in _BOOLEANS:
        raise _failed(key, value, f'strconv.ParseBool: parsing "{value}": invalid syntax')
    return _BOOLEANS[value]


def _mtu(options: Mapping[str, str]) -> int:
    value = options.get(MTU, "0")
    if not is_number(value.removeprefix("-").removeprefix("+")):
        raise _failed(MTU, value, f'strconv.Atoi: parsing "{value}": invalid syntax')
    return int(value)


def _mode(options: Mapping[str, str], key: str) -> str:
    value = options.get(key, "nat")
    if value not in MODES:
        raise _failed(key, value, f"unknown gateway mode {value}")
    return value


def _address(options: Mapping[str, str], key: str) -> str:
    if key not in options:
        return ""
    try:
        return str(ipaddress.ip_address(options[key]))
    except ValueError:
        raise _failed(key, options[key], "nil ip") from None


def _is_interface_name(name: str) -> bool:
    """dev_valid_name of net/core/dev.c."""
    raw = name.encode()
    return len(raw) <= _LONGEST_NAME and name not in (".", "..") and not any(one in b"/: \t\n\v\f\r" for one in raw)
