"""Output in columns and by --format: `table`, `json`, and Go templates over the rows of a listing."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kist.model.duration import human_duration
from kist.model.template import Struct, Template, TemplateError, parsed, unescape


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


def ago(created: int) -> str:
    return f"{human_duration(time.time() - created)} ago" if created else "N/A"


class Row(Struct):
    """A row of a listing: Docker's fields and, where it has labels, the method `.Label "name"`."""

    marshals = True

    def __init__(self, kind: str, fields: dict[str, Any], labels: Mapping[str, str] | None = None) -> None:
        super().__init__(fields)
        self.kind = kind
        if labels is not None:
            self.methods = {"Label": lambda _, name: labels.get(name, "")}


def labels(found: Mapping[str, str] | None) -> str:
    """`a=b,c=d` in the order of the names."""
    return ",".join(f"{key}={value}" for key, value in sorted((found or {}).items()))


class Listing(NamedTuple):
    """How a command lists: the Go type of its rows, fields with their titles, and its formats by name.

    `quiet` is the field of --quiet; `quiet_wins`: --quiet also beats a template.
    """

    kind: str
    titles: Mapping[str, str]
    table: str
    raw: str = ""
    quiet: str = ""
    quiet_wins: bool = False
    quiet_pattern: str = ""

    def pattern(self, source: str, quiet: bool) -> tuple[str, bool]:
        """(template, whether it has a head) of a --format; "" is the default."""
        if quiet and self.quiet and (source in ("", "table") or self.quiet_wins):
            return self.quiet_pattern or f"{{{{.{self.quiet}}}}}", False
        if source == "raw" and self.raw:
            return self.raw, False
        if source == "json":
            return "{{json .}}", False
        if source in ("", "table"):
            return self.table, True
        head = source.startswith("table")
        return unescape((source.removeprefix("table") if head else source).strip(" ")), head


def show(
    rows: Sequence[dict[str, Any]],
    source: str,
    listing: Listing,
    *,
    quiet: bool = False,
    labels: Sequence[Mapping[str, str] | None] = (),
) -> str:
    """The whole listing. `labels` belongs to `rows`, one by one. Raises TemplateError."""
    pattern, head = listing.pattern(source, quiet)
    template = Template(pattern)
    named: list[Any] = list(labels) or [None] * len(rows)
    lines = [template.render(Row(listing.kind, row, of)) for row, of in zip(rows, named, strict=True)]
    if not head:
        return "".join(f"{line}\n" for line in lines)
    return align([template.render(dict(listing.titles), titles=True), *lines])


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


def inspect(values: list[Any], source: str) -> tuple[str, list[str]]:
    """What `inspect` prints (a JSON list, or each value by the template), and what went wrong. Raises TemplateError.

    A template sees Go's structs, and where it wants what they have not, the JSON: as Docker's command does.
    """
    if not source:
        return json.dumps(values, indent=4, ensure_ascii=False) + "\n" if values else "[]\n", []
    if source == "json":
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False) + "\n", []
    from kist.cli.shapes import kind_of, raw, typed

    template = parsed(source)
    out, errors, strict = [], [], False
    for value in values:
        try:
            try:
                out.append(template.render(typed(value), strict=strict))
            except TemplateError:
                if kind_of(value) == "volume":  # Docker asks the JSON text for the others
                    raise
                strict = True  # from now on, as Docker's command sets it on the template itself
                out.append(template.render(raw(value), strict=True))
        except TemplateError as error:
            errors.append(error.message)
    return "".join(f"{one}\n" for one in out) or "\n", errors


def one(value: Any, source: str) -> str:
    """A single value through --format, which is no list (`system df -v`). Raises TemplateError."""
    return f"{Template('{{json .}}' if source == 'json' else source, prefix='').render(value)}\n"
