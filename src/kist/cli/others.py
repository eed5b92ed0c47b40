"""Commands of volumes, networks and the engine as a whole."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from kist import __version__
from kist.cli import tables
from kist.cli.containers import filters, inspect_each
from kist.cli.context import Context
from kist.cli.parse import Parsed
from kist.client.http import Unreachable

_VOLUMES = {"Name": "VOLUME NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT", "Labels": "LABELS",
            "Links": "LINKS", "Size": "SIZE"}  # fmt: skip
_NETWORKS = {"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv6": "IPV6",
             "Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT"}  # fmt: skip


def _labels(labels: dict[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in (labels or {}).items())


def volume_ls(context: Context, options: Parsed) -> int:
    found = context.client.call("GET", "/volumes", {"filters": filters(options.filter)})["Volumes"] or []
    rows = [
        {"Name": one["Name"], "Driver": one["Driver"], "Scope": one["Scope"], "Mountpoint": one["Mountpoint"],
         "Labels": _labels(one["Labels"]), "Links": "N/A", "Size": "N/A"}
        for one in found
    ]  # fmt: skip
    quiet = "Name" if options.quiet else ""
    sys.stdout.write(tables.show(rows, options.format, _VOLUMES, "{{.Driver}}\t{{.Name}}", quiet=quiet))
    return 0


def volume_create(context: Context, options: Parsed) -> int:
    labels = dict(one.partition("=")[::2] for one in options.label)
    body = {
        "Name": options.arguments[0] if options.arguments else options.name,
        "Driver": options.driver,
        "DriverOpts": dict(one.partition("=")[::2] for one in options.opt),
        "Labels": labels,
    }
    print(context.client.call("POST", "/volumes/create", None, body)["Name"])
    return 0


def volume_inspect(context: Context, options: Parsed) -> int:
    return inspect_each(context, options, lambda name: context.client.call("GET", f"/volumes/{name}"), "volume")


def volume_rm(context: Context, options: Parsed) -> int:
    query = {"force": options.force}
    return context.for_each(options.arguments, lambda name: context.client.call("DELETE", f"/volumes/{name}", query))


def network_ls(context: Context, options: Parsed) -> int:
    found = context.client.call("GET", "/networks", {"filters": filters(options.filter)})
    rows = [
        {"ID": one["Id"] if options.no_trunc else one["Id"][:12], "Name": one["Name"], "Driver": one["Driver"],
         "Scope": one["Scope"], "IPv6": str(one["EnableIPv6"]).lower(), "Internal": str(one["Internal"]).lower(),
         "Labels": _labels(one["Labels"]), "CreatedAt": one["Created"]}
        for one in found
    ]  # fmt: skip
    quiet = "ID" if options.quiet else ""
    default = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
    sys.stdout.write(tables.show(rows, options.format, _NETWORKS, default, quiet=quiet))
    return 0


def network_inspect(context: Context, options: Parsed) -> int:
    return inspect_each(context, options, lambda name: context.client.call("GET", f"/networks/{name}"), "network")


def version(context: Context, options: Parsed) -> int:
    client = {"Version": __version__, "ApiVersion": context.version, "Os": "linux"}
    found: dict[str, Any] = {"Client": client, "Server": None}
    failure: Unreachable | None = None
    try:
        found["Server"] = context.client.call("GET", "/version")
    except Unreachable as error:
        failure = error
    if options.format:
        sys.stdout.write(tables.one(found, options.format))
    else:
        print(f"Client:\n Version:           {__version__}\n API version:       {context.version}")
        server = found["Server"]
        if server:
            print(f"\nServer: {server['Platform']['Name']}\n Engine:\n  Version:          {server['Version']}")
            print(f"  API version:      {server['ApiVersion']} (minimum version {server['MinAPIVersion']})")
            print(f"  OS/Arch:          {server['Os']}/{server['Arch']}\n  Kernel:           {server['KernelVersion']}")
    if failure is not None:
        raise failure
    return 0


def info(context: Context, options: Parsed) -> int:
    found = context.client.call("GET", "/info")
    if options.format:
        sys.stdout.write(tables.one(found, options.format))
        return 0
    for title, key in (("Containers", "Containers"), (" Running", "ContainersRunning"), (" Paused", "ContainersPaused"),
                       (" Stopped", "ContainersStopped"), ("Images", "Images"), ("Server Version", "ServerVersion"),
                       ("Storage Driver", "Driver"), ("Logging Driver", "LoggingDriver"),
                       ("Cgroup Driver", "CgroupDriver"), ("Cgroup Version", "CgroupVersion"),
                       ("Kernel Version", "KernelVersion"), ("Operating System", "OperatingSystem"),
                       ("OSType", "OSType"), ("Architecture", "Architecture"), ("CPUs", "NCPU"), ("Name", "Name"),
                       ("ID", "ID"), ("Docker Root Dir", "DockerRootDir")):  # fmt: skip
        print(f"{title}: {found[key]}")
    print(f"Total Memory: {found['MemTotal'] / (1 << 30):.4g}GiB")
    return 0


def events(context: Context, options: Parsed) -> int:
    from kist.cli.containers import _when

    query = {"since": _when(options.since), "until": _when(options.until), "filters": filters(options.filter)}
    answer = context.client.open("GET", "/events", query)
    from kist.model.template import Template

    template = Template("{{json .}}" if options.format == "json" else options.format) if options.format else None
    for line in answer.lines():
        event = json.loads(line)
        if template is not None:
            print(template.render(event), flush=True)
            continue
        seconds, fraction = divmod(event["timeNano"], 10**9)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds)) + f".{fraction:09d}"
        zone = time.strftime("%z", time.localtime(seconds))
        attributes = ", ".join(f"{key}={value}" for key, value in sorted(event["Actor"]["Attributes"].items()))
        shown = f" ({attributes})" if attributes else ""
        print(
            f"{stamp}{zone[:3]}:{zone[3:]} {event['Type']} {event['Action']} {event['Actor']['ID']}{shown}", flush=True
        )
    return 0


def dial_stdio(context: Context, options: Parsed) -> int:
    """Standard input and output as a connection to the daemon, for ssh://."""
    from kist.cli.stream import carry

    carry(context.endpoint.connect())
    return 0


def daemon_stop(context: Context, options: Parsed) -> int:
    """Ends the daemon that kist started; containers run on."""
    from kist.cli.daemon import stop

    stop()
    return 0
