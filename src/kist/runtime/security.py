"""Capabilities and security options of a container, in Docker's words."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kist.kernel import caps
from kist.model.errors import InvalidParameter

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
)  # fmt: skip
_TRUE, _FALSE = (
    frozenset({"1", "t", "T", "TRUE", "true", "True"}),
    frozenset({"0", "f", "F", "FALSE", "false", "False"}),
)


class SecurityOptions(msgspec.Struct, frozen=True):
    """`seccomp` is "" for the default, "unconfined", or the text of a profile. None: not said."""

    no_new_privileges: bool | None = None
    seccomp: str = ""
    apparmor: str = ""
    writable_cgroups: bool | None = None
    systempaths_unconfined: bool = False
    labels: tuple[str, ...] = ()


def parse_security_options(options: Iterable[str]) -> SecurityOptions:
    """Raises InvalidParameter with Docker's texts."""
    found: dict[str, object] = {}
    labels: list[str] = []
    for option in options:
        if option == "no-new-privileges":
            found["no_new_privileges"] = True
        elif option == "writable-cgroups":
            found["writable_cgroups"] = True
        elif option == "disable":
            labels.append("disable")
        else:
            _key_and_value(option, found, labels)
    return msgspec.convert({**found, "labels": tuple(labels)}, SecurityOptions)


def _key_and_value(option: str, found: dict[str, object], labels: list[str]) -> None:
    separator = "=" if "=" in option else ":"
    key, there, value = option.partition(separator)
    if not there:
        raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
    if key == "label":
        labels.append(value)
    elif key in ("apparmor", "seccomp"):
        found[key] = value
    elif key in ("no-new-privileges", "writable-cgroups") and value in _TRUE | _FALSE:
        found[key.replace("-", "_")] = value in _TRUE
    elif key == "systempaths" and value == "unconfined":
        found["systempaths_unconfined"] = True
    else:
        raise InvalidParameter(f'invalid --security-opt 2: "{option}"')


def tweak_capabilities(
    adds: Iterable[str], drops: Iterable[str], privileged: bool, available: frozenset[str]
) -> tuple[str, ...]:
    """The set a container gets. `available` is what the engine has itself; more cannot be given."""
    everything = tuple(name for name in caps.NAMES if name in available)
    if privileged:
        return everything
    added, dropped = normalize(adds, available), normalize(drops, available)
    if "ALL" in added:
        return tuple(name for name in everything if name not in dropped)
    if "ALL" in dropped:
        return tuple(added)
    kept = [name for name in DEFAULT_CAPABILITIES if name not in dropped and name in available]
    return tuple(dict.fromkeys([*kept, *added]))


def normalize(names: Iterable[str], available: frozenset[str]) -> list[str]:
    """`net_admin` as `CAP_NET_ADMIN`, `all` as `ALL`. Raises InvalidParameter with Docker's texts."""
    found = []
    for name in names:
        upper = name.upper()
        if upper != "ALL" and not upper.startswith("CAP_"):
            upper = f"CAP_{upper}"
        if upper == "ALL":
            found.append(upper)
        elif upper not in caps.NUMBERS:
            raise InvalidParameter(f'unknown capability: "{upper}"')
        elif upper not in available:
            raise InvalidParameter(
                f'capability not supported by your kernel or not available in the current environment: "{upper}"'
            )
        else:
            found.append(upper)
    return found


def check_capabilities(adds: Iterable[str], drops: Iterable[str], available: frozenset[str]) -> None:
    """Raises InvalidParameter as the create request answers it."""
    for field, names in (("CapAdd", adds), ("CapDrop", drops)):
        try:
            normalize(names, available)
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid {field}: {error.message}") from error
