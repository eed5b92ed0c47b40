"""`kistd --help`, laid out as dockerd's: derived from the table."""

from __future__ import annotations

from kist.settings.options import OPTIONS, Option

_METAVAR = {
    "flag": "", "string": " string", "int": " int", "size": " bytes", "list": " list", "map": " map",
    "features": " map", "runtimes": " runtime",
    "ip": " ip", "ips": " ip", "ulimits": " ulimit",
}  # fmt: skip


def render() -> str:
    shown = sorted((option for option in OPTIONS if not option.hidden), key=lambda option: option.name)
    left = [_left(option) for option in shown]
    width = max(map(len, left)) + 3
    lines = [f"{head.ljust(width)}{_right(option)}" for head, option in zip(left, shown, strict=True)]
    lines.append("  -v, --version".ljust(width) + "Print version information and quit")
    return "\n".join(
        ("", "Usage:  kistd [OPTIONS]", "", "A container engine that speaks Docker.", "", "Options:", *lines, "")
    )


def _left(option: Option) -> str:
    short = f"-{option.short}, " if option.short else "    "
    return f"  {short}--{option.name}{_METAVAR[option.kind]}"


def _right(option: Option) -> str:
    if option.refused:
        return f"{option.help} ({_refused(option)}not supported: {option.refused})"
    if option.default in (False, "", 0, (), {}, None):
        return option.help
    return f"{option.help} (default {_value(option.default)})"


def _refused(option: Option) -> str:
    """What of it cannot be had: everything, or all but what is so anyway."""
    if option.harmless is True:
        return "false is "
    return f"values other than {_value(option.harmless)} are " if option.harmless else ""


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
