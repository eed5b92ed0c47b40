"""Output in columns and by --format: `table`, `json`, and Go templates over the rows of a listing."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kist.model.template import MISSING, Template, unescape

Row = dict[str, Any]


def human_size(size: float, digits: int = 3) -> str:
    """So many digits and a decimal unit (go-units' HumanSizeWithPrecision)."""
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    number = 0
    while size >= 1000 and number < len(units) - 1:
        size, number = size / 1000, number + 1
    return f"{size:.{digits}g}{units[number]}"


def binary_size(size: float) -> str:
    """Four digits and a binary unit (go-units' BytesSize)."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    number = 0
    while size >= 1024 and number < len(units) - 1:
        size, number = size / 1024, number + 1
    return f"{size:.4g}{units[number]}"


def human_duration(seconds: float) -> str:
    """go-units' HumanDuration."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    if whole < 120:
        return "About a minute"
    if whole < 3600:
        return f"{whole // 60} minutes"
    hours = round(whole / 3600)
    for limit, divisor, word in (
        (2, 1, ""),
        (48, 1, "hours"),
        (336, 24, "days"),
        (1440, 168, "weeks"),
        (17520, 720, "months"),
    ):
        if hours < limit:
            return f"{hours // divisor} {word}" if word else "About an hour"
    return f"{hours // 8760} years"


def ago(created: int) -> str:
    return f"{human_duration(time.time() - created)} ago" if created else "N/A"


def show(rows: Sequence[Row], source: str, columns: Mapping[str, str], default: str, *, quiet: str = "") -> str:
    """The whole listing. `columns` maps a field to its title; `quiet` names the only field to show."""
    if quiet:
        return "".join(f"{row[quiet]}\n" for row in rows)
    if source == "json":  # Go writes the fields of a row by name
        return "".join(
            f"{json.dumps(row, sort_keys=True, separators=(',', ':'), ensure_ascii=False)}\n" for row in rows
        )
    as_table = not source or source == "table" or source.startswith("table ")
    pattern = unescape(source.removeprefix("table").strip() if as_table and source else source) or default
    template = Template(pattern)
    lines = [template.render(row) for row in rows]
    if not as_table:
        return "".join(f"{line}\n" for line in lines)
    header = template.render(_Titles(columns))
    return align([header, *lines])


class _Titles(dict[str, Any]):
    """Renders a template into its column titles: every field is its title."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        super().__init__(columns)
        self._columns = columns

    def get(self, key: Any, default: Any = None) -> Any:
        return self._columns.get(key, MISSING)


def align(lines: list[str]) -> str:
    """Columns by tabs, three spaces apart, each as wide as its widest cell (text/tabwriter as Docker uses it)."""
    cells = [line.split("\t") for line in lines]
    widths: list[int] = []
    for row in cells:
        for number, cell in enumerate(row[:-1]):
            if number == len(widths):
                widths.append(0)
            widths[number] = max(widths[number], len(cell) + 3)
    out = []
    for row in cells:
        padded = [cell.ljust(max(10, widths[number])) for number, cell in enumerate(row[:-1])]
        out.append("".join(padded) + row[-1])
    return "".join(f"{line}\n" for line in out)


def inspect(values: list[Any], source: str) -> str:
    """What `inspect` prints: a JSON list, or each value through the template."""
    if not source:
        return json.dumps(values, indent=4, ensure_ascii=False) + "\n" if values else "[]\n"
    if source == "json":
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False) + "\n"
    template = Template(source)
    return "".join(f"{template.render(value)}\n" for value in values)


def one(value: Any, source: str) -> str:
    """A single value through --format, which is no list (`version`, `info`)."""
    return inspect([value], "{{json .}}" if source == "json" else source)
