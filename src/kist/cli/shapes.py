"""What `inspect --format` sees: the daemon's JSON as the Go structs that Docker's command reads it into.

A struct prints without its names, has every field even where JSON leaves it out, and knows a nil list from a nil
pointer.
What is a struct and what a map is told apart by the names of the maps (moby, api/types).
"""

from __future__ import annotations

from typing import Any

from kist.model.goformat import NilList, NilMap, Number, StringMap, Struct

_MAPS = frozenset(
    {
        "Labels",
        "Volumes",
        "ExposedPorts",
        "PortBindings",
        "Ports",
        "Networks",
        "Options",
        "DriverOpts",
        "Sysctls",
        "Tmpfs",
        "Annotations",
        "StorageOpt",
        "Data",
        "Attributes",
        "Containers",
        "Config",
        "ExternalLinks",
        "DriverConfig",
        "Status",
        "ConfigOnly",
        "AuxiliaryAddresses",
        "AuxAddress",
    }
)
_LISTS = frozenset(
    {
        "ExecIDs",
        "Binds",
        "VolumesFrom",
        "CapAdd",
        "CapDrop",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "ExtraHosts",
        "GroupAdd",
        "Links",
        "SecurityOpt",
        "MaskedPaths",
        "ReadonlyPaths",
        "BlkioWeightDevice",
        "BlkioDeviceReadBps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteIOps",
        "Devices",
        "DeviceCgroupRules",
        "DeviceRequests",
        "Ulimits",
        "Mounts",
        "Env",
        "Cmd",
        "Entrypoint",
        "OnBuild",
        "Shell",
        "Aliases",
        "DNSNames",
        "SecondaryIPAddresses",
        "SecondaryIPv6Addresses",
        "Args",
        "RepoTags",
        "RepoDigests",
        "Layers",
    }
)
# Fields that JSON leaves out when they are empty: struct -> (field, its empty value).
_LEFT_OUT: dict[str, tuple[tuple[str, Any], ...]] = {
    "container": (("SizeRw", None), ("SizeRootFs", None)),
    "State": (("Health", None),),
    "container.Config": (
        ("ExposedPorts", NilMap()),
        ("Healthcheck", None),
        ("ArgsEscaped", False),
        ("NetworkDisabled", False),
        ("MacAddress", ""),
        ("StopSignal", ""),
        ("StopTimeout", None),
        ("Shell", NilList()),
    ),
    "HostConfig": (
        ("Annotations", NilMap()),
        ("StorageOpt", NilMap()),
        ("Tmpfs", NilMap()),
        ("Sysctls", NilMap()),
        ("Mounts", NilList()),
        ("Init", None),
    ),
    "network.IPAM.Config": (("AuxiliaryAddresses", NilMap()),),
    "image": (("Variant", ""), ("OsVersion", ""), ("Comment", ""), ("Author", "")),
}
_CONFIG = (
    "Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr", "ExposedPorts", "Tty", "OpenStdin",
    "StdinOnce", "Env", "Cmd", "Healthcheck", "ArgsEscaped", "Image", "Volumes", "WorkingDir", "Entrypoint",
    "NetworkDisabled", "MacAddress", "OnBuild", "Labels", "StopSignal", "StopTimeout", "Shell",
)  # fmt: skip
_IMAGE_CONFIG = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal",
                 "ArgsEscaped", "Healthcheck", "OnBuild", "Shell")  # fmt: skip
_ORDER = {"container.Config": _CONFIG, "image.Config": _IMAGE_CONFIG}
_OF_TEXT = frozenset({"Labels", "Options", "DriverOpts", "Sysctls", "Tmpfs", "Annotations", "StorageOpt", "Data"})


class _Object(Struct):
    """A struct of Docker's API."""

    def __init__(self, fields: dict[str, Any], source: Any) -> None:
        super().__init__(fields)
        self.as_json = source


def kind_of(value: Any) -> str:
    """container, image, volume or network, by the fields that only one of them has."""
    for kind, key in (("container", "State"), ("image", "RootFS"), ("volume", "Mountpoint")):
        if key in value:
            return kind
    return "network"


def typed(value: Any) -> Any:
    """A container, image, network or volume as its struct."""
    kind = kind_of(value)
    return _struct(value, kind, "volume.Volume" if kind == "volume" else "types.Inspect")


def _struct(value: dict[str, Any], name: str, kind: str = "struct") -> Struct:
    fields = {key: _field(key, item, name) for key, item in value.items()}
    for key, empty in _LEFT_OUT.get(name, ()):
        fields.setdefault(key, empty)
    order = _ORDER.get(name, ())
    fields = {key: fields[key] for key in order if key in fields} | fields
    shown = {key: value[key] for key in order if value.get(key)} if name == "image.Config" else value
    made = _Object(fields, shown)
    made.kind = kind
    return made


def _field(name: str, value: Any, parent: str) -> Any:
    if value is None:
        return NilList() if name in _LISTS else NilMap() if name in _MAPS else None
    if isinstance(value, list):
        return [_struct(one, f"{parent}.{name}") if isinstance(one, dict) else one for one in value]
    if not isinstance(value, dict):
        return value
    if name == "Config" and parent in ("container", "image"):
        return _struct(value, f"{parent}.Config")
    if name in _OF_TEXT:
        return StringMap(value)
    if name in _MAPS:
        return {key: _in_map(key, one, name) for key, one in value.items()}
    return _struct(value, f"network.{name}" if name == "IPAM" else name)


def _in_map(key: str, value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_struct(one, key) if isinstance(one, dict) else one for one in value]
    if isinstance(value, dict):
        return _struct(value, name)
    return NilList() if value is None else value


def raw(value: Any) -> Any:
    """The JSON itself, its numbers as text."""
    if isinstance(value, dict):
        return {key: raw(one) for key, one in value.items()}
    if isinstance(value, list):
        return [raw(one) for one in value]
    return Number(repr(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value
