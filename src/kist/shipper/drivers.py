"""Drivers by name: those that are here, and those of the entry points of other packages.

A driver's module is imported when somebody uses it, ours no earlier than others'.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from pathlib import Path

from kist.shipper.driver import Driver

GROUP = "kist.log_drivers"
OURS = {
    "fluentd": "kist.shipper.fluentd:Fluentd",
    "gelf": "kist.shipper.gelf:Gelf",
    "journald": "kist.shipper.journald:Journald",
    "splunk": "kist.shipper.splunk:Splunk",
    "syslog": "kist.shipper.syslog:Syslog",
}


@cache
def driver_class(name: str) -> type[Driver] | None:
    """None when there is no such driver. Raises ValueError when a package's driver cannot be loaded."""
    target = OURS.get(name) or plugins().get(name)
    if target is None:
        return None
    module, _, attribute = target.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # other people's code
        raise ValueError(f"log driver {name} ({target}) cannot be loaded: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Driver)):
        raise ValueError(f"log driver {name} ({target}) is not a kist.shipper.driver.Driver")
    return found


@cache
def plugins() -> dict[str, str]:
    """`module:attribute` by name, of the packages that are installed (packaging.python.org, entry points).

    importlib.metadata does this too, at the price of a hundred modules.
    """
    found: dict[str, str] = {}
    for directory in reversed([one for one in sys.path if one]):
        for file in Path(directory).glob("*-info/entry_points.txt"):
            found |= _section(file.read_text(encoding="utf-8", errors="replace"), GROUP)
    return found


def _section(text: str, name: str) -> dict[str, str]:
    found, inside = {}, False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == f"[{name}]"
        elif inside and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found[key.strip()] = value.partition("[")[0].strip()
    return found


def names() -> list[str]:
    """Of all drivers that send to a server."""
    return sorted({*OURS, *plugins()})
