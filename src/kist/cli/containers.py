"""Commands of containers that are no streams of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from kist.cli import tables
from kist.cli.context import Context, Quiet
from kist.cli.parse import Parsed
from kist.cli.stream import demultiplex, write_all
from kist.client.http import ApiError, Unreachable
from kist.model.errors import KistError

_TITLES = {
    "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT", "RunningFor": "CREATED",
    "Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": "SIZE", "Names": "NAMES", "Labels": "LABELS",
    "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "Platform": "PLATFORM",
}  # fmt: skip
_RAW = """container_id: {{.ID}}
image: {{.Image}}
command: {{.Command}}
created_at: {{.CreatedAt}}
state: {{.State}}
status: {{.Status}}
names: {{.Names}}
labels: {{- pad .Labels 1 0}}
ports: {{- pad .Ports 1 0}}
"""
_PS = tables.Listing(
    "*formatter.ContainerContext", _TITLES,
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}", _RAW, "ID",
    quiet_wins=True,
)  # fmt: skip


def filters(words: list[str]) -> str | None:
    """`--filter a=b` as the API takes it."""
    found: dict[str, dict[str, bool]] = {}
    for word in filter(None, words):
        key, _, value = word.partition("=")
        found.setdefault(key.strip().lower(), {})[value.strip()] = True
    return json.dumps(found, separators=(",", ":")) if found else None


def ps(context: Context, options: Parsed) -> int:
    limit = 1 if options.latest else options.last
    source = options.format or context.choice.format("psFormat")
    if options.quiet and options.format:
        print("WARNING: Ignoring custom format, because both --format and --quiet are set.", file=sys.stderr)
    wants_size = options.size or _asks_for_size(source)
    query = {"all": options.all or limit > 0, "limit": limit if limit > 0 else None, "size": wants_size or None,
             "filters": filters(options.filter)}  # fmt: skip
    listed = context.client.call("GET", "/containers/json", query)
    rows = [ps_row(one, options.no_trunc) for one in listed]
    listing = _PS._replace(quiet_pattern="container_id: {{.ID}}") if source == "raw" else _PS
    if options.size:
        listing = listing._replace(table=_PS.table + "\t{{.Size}}", raw=_PS.raw + "size: {{.Size}}\n")
    labels = [one.get("Labels") or {} for one in listed]
    sys.stdout.write(tables.show(rows, source, listing, quiet=options.quiet, labels=labels))
    return 0


class _Probe(tables.Row):
    """A row of nothing that remembers whether its size was looked at."""

    asked = False

    def __getitem__(self, name: str) -> Any:
        self.asked |= name == "Size"
        return super().__getitem__(name)

    def items(self) -> Any:  # json
        self.asked = True
        return super().items()


def _asks_for_size(source: str) -> bool:
    """Whether a format shows sizes, which cost time. Raises TemplateError for one that cannot be."""
    if not source:
        return False
    from kist.model.template import Template

    probe = _Probe(_PS.kind, dict.fromkeys(_PS.titles, ""), {})
    template = Template(source, prefix="failed to parse template: ")
    template.prefix = "failed to execute template: "
    template.render(probe)
    return probe.asked


def ps_row(one: dict[str, Any], whole: bool) -> dict[str, Any]:
    command = f'"{one["Command"]}"'
    if not whole and len(one["Command"]) > 20:
        command = f'"{one["Command"][:19]}…"'
    names = [name.lstrip("/") for name in one["Names"]]
    names = [name for name in names if whole or "/" not in name]  # what links call it is shown in full only
    mounts = [mount.get("Name") or mount["Source"] for mount in one.get("Mounts") or ()]
    if not whole:
        mounts = [name if len(name) <= 15 else name[:14] + "…" for name in mounts]
    image = one["Image"] or "<no image>"
    if not whole and image.startswith("sha256:"):
        image = image[7:19]
    import time

    size = tables.human_size(one.get("SizeRw") or 0)
    if one.get("SizeRootFs"):
        size += f" (virtual {tables.human_size(one['SizeRootFs'])})"
    return {
        "ID": one["Id"] if whole else one["Id"][:12],
        "Image": image,
        "Command": command,
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(one["Created"])),
        "RunningFor": tables.ago(one["Created"]),
        "Ports": ports_text(one.get("Ports") or []),
        "State": one["State"],
        "Status": one["Status"],
        "Size": size,
        "Names": ",".join(names),
        "Labels": tables.labels(one.get("Labels")),
        "LocalVolumes": str(sum(mount.get("Driver") == "local" for mount in one.get("Mounts") or ())),
        "Mounts": ",".join(mounts),
        "Platform": None,
        "Networks": ",".join((one.get("NetworkSettings") or {}).get("Networks") or {}),
    }


def ports_text(ports: list[dict[str, Any]]) -> str:
    """`0.0.0.0:8080->80/tcp, 443/tcp`; neighbours are joined into ranges."""
    published: list[Any] = []
    exposed: list[Any] = []
    for port in ports:
        key = (port.get("IP", ""), port["Type"])
        entry = (key, port["PrivatePort"], port.get("PublicPort", 0))
        (published if port.get("PublicPort") else exposed).append(entry)
    texts = []
    for group in (_ranges(exposed), _ranges(published)):
        for (address, kind), first, last, public in group:
            inner = f"{first}" if first == last else f"{first}-{last}"
            if not public:
                texts.append(f"{inner}/{kind}")
                continue
            outer = f"{public}" if first == last else f"{public}-{public + last - first}"
            texts.append(f"{address}:{outer}->{inner}/{kind}")
    return ", ".join(texts)


def _ranges(entries: list[Any]) -> list[Any]:
    found: list[list[Any]] = []
    for key, private, public in sorted(entries, key=lambda one: (one[0][1], one[1], one[0][0], one[2])):
        for one in found:
            follows = one[2] + 1 == private and (not public or one[3] + (private - one[1]) == public)
            if one[0] == key and follows:
                one[2] = private
                break
        else:
            found.append([key, private, private, public])
    return found


def stop(context: Context, options: Parsed) -> int:
    return _each_with_time(context, options, "stop")


def restart(context: Context, options: Parsed) -> int:
    return _each_with_time(context, options, "restart")


def _each_with_time(context: Context, options: Parsed, verb: str) -> int:
    seconds = options.timeout if "timeout" in options.given else options.time if "time" in options.given else None
    query = {"t": seconds, "signal": options.signal or None}
    return context.for_each(
        options.arguments, lambda name: context.client.call("POST", f"/containers/{name}/{verb}", query)
    )


def kill(context: Context, options: Parsed) -> int:
    query = {"signal": options.signal or None}
    return context.for_each(
        options.arguments, lambda name: context.client.call("POST", f"/containers/{name}/kill", query)
    )


def update(context: Context, options: Parsed) -> int:
    if not options.given:
        raise KistError("you must provide one or more flags when using this command")
    from kist.cli.options import cpus, restart_policy

    body: dict[str, Any] = {
        "BlkioWeight": options.blkio_weight,
        "CpuShares": options.cpu_shares,
        "NanoCpus": cpus(options.cpus),
        "CpuPeriod": options.cpu_period,
        "CpuQuota": options.cpu_quota,
        "CpuRealtimePeriod": options.cpu_rt_period,
        "CpuRealtimeRuntime": options.cpu_rt_runtime,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "Memory": options.memory,
        "MemoryReservation": options.memory_reservation,
        "MemorySwap": options.memory_swap,
    }
    if "pids-limit" in options.given:
        body["PidsLimit"] = options.pids_limit
    if options.restart:
        body["RestartPolicy"] = restart_policy(options.restart)
    warnings: list[str] = []
    status = context.for_each(
        options.arguments,
        lambda name: warnings.extend(
            context.client.call("POST", f"/containers/{name}/update", None, body)["Warnings"] or ()
        ),
    )
    for warning in warnings:
        print(warning, file=sys.stderr)
    return status


def pause(context: Context, options: Parsed) -> int:
    return context.for_each(options.arguments, lambda name: context.client.call("POST", f"/containers/{name}/pause"))


def unpause(context: Context, options: Parsed) -> int:
    return context.for_each(options.arguments, lambda name: context.client.call("POST", f"/containers/{name}/unpause"))


def remove(context: Context, options: Parsed) -> int:
    query = {"force": options.force, "v": options.volumes, "link": options.link}

    def act(name: str) -> None:
        try:
            context.client.call("DELETE", f"/containers/{name}", query)
        except ApiError as error:
            if not (options.force and error.status == 404):
                raise
            print(f"Error response from daemon: {error.message}", file=sys.stderr)
            raise Quiet from error

    return context.for_each(options.arguments, act)


def rename(context: Context, options: Parsed) -> int:
    old, new = (word.strip() for word in options.arguments)
    if not old or not new:
        raise KistError("Error: Neither old nor new names may be empty")
    try:
        context.client.call("POST", f"/containers/{old}/rename", {"name": new})
    except ApiError as error:
        print(f"Error response from daemon: {error.message}", file=sys.stderr)
        print(f"Error: failed to rename container named {old}", file=sys.stderr)
        return 1
    return 0


def wait(context: Context, options: Parsed) -> int:
    return context.for_each(
        options.arguments, lambda name: str(context.client.call("POST", f"/containers/{name}/wait")["StatusCode"])
    )


def logs(context: Context, options: Parsed) -> int:
    found = context.client.call("GET", f"/containers/{options.arguments[0]}/json")
    query = {"stdout": True, "stderr": True, "follow": options.follow, "since": _when(options.since, "since"),
             "until": _when(options.until, "until"), "timestamps": options.timestamps, "tail": options.tail,
             "details": options.details}  # fmt: skip
    answer = context.client.open("GET", f"/containers/{found['Id']}/logs", query)
    if found["Config"]["Tty"]:
        for chunk in answer.chunks():
            write_all(1, chunk)
    else:
        demultiplex(answer.chunks())
    return 0


def _when(text: str, name: str = "") -> str | None:
    """`42m`, `2026-01-01T00:00:00`, or seconds, as the API wants it."""
    if not text:
        return None
    import time

    from kist.cli.parse import parse_duration

    try:
        return f"{time.time() - parse_duration(text) / 1e9:.9f}"
    except ValueError:
        pass
    if text.replace(".", "", 1).isdigit():
        return text
    return _parse_date(text, name)


def _parse_date(text: str, name: str) -> str:
    import datetime

    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        prefix = f'invalid value for "{name}": ' if name else ""
        raise KistError(f'{prefix}failed to parse value as time or duration: "{text}"') from None
    return f"{moment.astimezone(datetime.UTC).timestamp():.9f}"


def top(context: Context, options: Parsed) -> int:
    name, *arguments = options.arguments
    found = context.client.call("GET", f"/containers/{name}/top", {"ps_args": " ".join(arguments) or None})
    rows = [found["Titles"], *(found["Processes"] or [])]
    widths = [max(20, *(len(row[number]) + 3 for row in rows)) for number in range(len(found["Titles"]))]
    for row in rows:
        print("".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1])
    return 0


def port(context: Context, options: Parsed) -> int:
    name, *wanted = options.arguments
    found = context.client.call("GET", f"/containers/{name}/json")
    ports = found["NetworkSettings"]["Ports"] or {}
    if wanted:
        number, _, protocol = wanted[0].partition("/")
        if not number.isdigit():
            raise KistError(f'Error: invalid port ({number}): strconv.ParseUint: parsing "{number}": invalid syntax')
        bindings = ports.get(f"{number}/{protocol or 'tcp'}")
        if not bindings:
            raise KistError(f"Error: No public port '{wanted[0]}' published for {name}")
        for one in bindings:
            print(f"{one['HostIp']}:{one['HostPort']}")
        return 0
    lines = [f"{key} -> {one['HostIp']}:{one['HostPort']}" for key, bindings in ports.items() for one in bindings or ()]
    for line in sorted(lines):
        print(line)
    return 0


def inspect(context: Context, options: Parsed) -> int:
    query = {"size": options.size}
    return inspect_each(
        context, options, lambda name: context.client.call("GET", f"/containers/{name}/json", query), "container"
    )


_TYPES = ("config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume")


def inspect_any(context: Context, options: Parsed) -> int:
    """`kist inspect`: a container, image, network or volume of that name."""
    query = {"size": options.size}
    kinds: dict[str, Callable[[str], Any]] = {
        "container": lambda name: context.client.call("GET", f"/containers/{name}/json", query),
        "image": lambda name: context.client.call("GET", f"/images/{name}/json"),
        "network": lambda name: context.client.call("GET", f"/networks/{name}"),
        "volume": lambda name: context.client.call("GET", f"/volumes/{name}"),
    }
    if "type" in options.given and options.type not in kinds:
        if options.type in _TYPES:
            raise KistError(f"kist inspect --type {options.type} is not supported yet: this engine has no such objects")
        listed = ", ".join(f'"{one}"' for one in _TYPES)
        wrong = "type is empty" if not options.type else f'unknown type: "{options.type}"'
        raise KistError(f"{wrong}: must be one of {listed}")

    def find(name: str) -> Any:
        for kind, get in kinds.items():
            if options.type in ("", kind):
                try:
                    found = get(name)
                    if options.size and kind != "container":
                        print(f"WARNING: --size ignored for {kind}", file=sys.stderr)
                    return found
                except ApiError as error:
                    if error.status not in (400, 404) or options.type:
                        raise
        raise ApiError(404, f"No such object: {name}")

    return inspect_each(context, options, find, "object")


def inspect_each(context: Context, options: Parsed, get: Any, kind: str) -> int:
    """Prints what was found, and then what was not; 1 when anything was missing. Raises TemplateError."""
    found, errors = [], []
    if options.format and options.format != "json":
        from kist.model.template import parsed

        parsed(options.format)
    for name in options.arguments:
        try:
            found.append(get(name))
        except ApiError as error:
            missing = kind == "object" and error.message.startswith("No such object")
            errors.append(f"{'Error: ' if missing else 'Error response from daemon: '}{error.message}")
        except Unreachable:
            raise
        except KistError as error:  # a name that cannot be asked for
            errors.append(error.message)
    text, wrong = tables.inspect(found, options.format)
    sys.stdout.write(text)
    sys.stdout.flush()
    for one in [*wrong, *errors]:
        print(one, file=sys.stderr)
    return 1 if wrong or errors else 0
