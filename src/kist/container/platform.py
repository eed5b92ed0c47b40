"""Platforms as people write them: `linux/arm64`, `linux/arm/v7`, `x86_64` (containerd's grammar and names)."""

from __future__ import annotations

import os
import re

from kist.model.errors import InvalidParameter

_OS = re.compile(r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)\))?$")
_PART = re.compile(r"^[A-Za-z0-9_.-]+$")
_SYSTEMS = frozenset({
    "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl", "netbsd",
    "openbsd", "plan9", "solaris", "windows", "zos",
})  # fmt: skip
_ARCHITECTURES = frozenset({
    "386", "amd64", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc",
    "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm",
})  # fmt: skip
# What uname(1) and people say -> (architecture, variant).
_OTHER_NAMES = {
    "i386": ("386", ""),
    "i686": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
}


def parse_platform(text: str) -> tuple[str, str, str]:
    """(operating system, architecture, variant); what is not said is this machine's. Raises InvalidParameter."""
    if "*" in text:
        raise InvalidParameter(f'"{text}": wildcards not yet supported: invalid argument')
    parts = text.split("/")
    system = _OS.match(parts[0])
    wrong = parts[0] if system is None else next((part for part in parts[1:] if not _PART.match(part)), None)
    if system is None or wrong is not None:
        kind, rule = ("component", f'platform specifier component must match "{_PART.pattern}"')
        if system is None:
            kind, rule = ("OS component", f'OSAndVersion specifier component must match "{_OS.pattern}"')
        raise InvalidParameter(f'"{wrong}" is an invalid {kind} of "{text}": {rule}: invalid argument')
    if len(parts) > 3:
        raise InvalidParameter(f'"{text}": cannot parse platform specifier: invalid argument')
    if len(parts) > 1:
        return system[1].lower(), *_architecture(parts[1], parts[2] if len(parts) == 3 else "")
    if system[1].lower() in _SYSTEMS:
        return system[1].lower(), *_architecture(os.uname().machine, "")
    architecture, variant = _architecture(parts[0], "")
    if architecture not in _ARCHITECTURES:
        raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')
    return "linux", architecture, variant


def _architecture(name: str, variant: str) -> tuple[str, str]:
    name = name.lower()
    known, own = _OTHER_NAMES.get(name, (name, ""))
    return known, own or variant.lower()
