"""Commands of volumes and the engine as a whole."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from kist.cli import tables
from kist.cli.containers import filters, inspect_each
from kist.cli.context import Context
from kist.cli.parse import Parsed
from kist.model.goformat import Map, Named, Struct

_VOLUMES = tables.Listing(
    "*formatter.volumeContext",
    {"Name": "VOLUME NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT", "Labels": "LABELS",
     "Links": "LINKS", "Size": "SIZE", "Availability": "AVAILABILITY", "Group": "GROUP", "Status": "STATUS"},
    "{{.Driver}}\t{{.Name}}", "name: {{.Name}}\ndriver: {{.Driver}}\n", "Name",
)  # fmt: skip
_NOT_KNOWN = ("Availability", "Group", "Links", "Size", "Status")  # to a list: df and swarms tell them


def volume_ls(context: Context, options: Parsed) -> int:
    found = context.client.call("GET", "/volumes", {"filters": filters(options.filter)})["Volumes"] or []
    rows = [
        {"Name": one["Name"], "Driver": one["Driver"], "Scope": one["Scope"], "Mountpoint": one["Mountpoint"],
         "Labels": tables.labels(one["Labels"]), **dict.fromkeys(_NOT_KNOWN, "N/A")}
        for one in found
    ]  # fmt: skip
    source = options.format or ("" if options.quiet else context.choice.format("volumesFormat"))
    labels = [one["Labels"] or {} for one in found]
    listing = _VOLUMES._replace(raw="name: {{.Name}}") if options.quiet else _VOLUMES
    sys.stdout.write(tables.show(rows, source, listing, quiet=options.quiet, labels=labels))
    return 0


def volume_create(context: Context, options: Parsed) -> int:
    labels = dict(one.partition("=")[::2] for one in options.label)
    body = {
        "Name": options.arguments[0] if options.arguments else options.name,
        "Driver": options.driver,
        "DriverOpts": options.opt,
        "Labels": labels,
    }
    print(context.client.call("POST", "/volumes/create", None, body)["Name"])
    return 0


def volume_inspect(context: Context, options: Parsed) -> int:
    return inspect_each(context, options, lambda name: context.client.call("GET", f"/volumes/{name}"), "volume")


def volume_rm(context: Context, options: Parsed) -> int:
    query = {"force": options.force}
    return context.for_each(options.arguments, lambda name: context.client.call("DELETE", f"/volumes/{name}", query))


def events(context: Context, options: Parsed) -> int:
    from kist.cli.containers import _when
    from kist.model.template import TemplateError, parsed

    source = "{{json .}}" if options.format == "json" else options.format
    template = parsed(source, prefix="Error parsing format: ") if source else None
    if template is not None:
        try:
            template.render(_message({"Actor": {"ID": "", "Attributes": {}}}))
        except TemplateError as error:
            error.status = 64
            raise
        template.prefix = ""
    query = {"since": _when(options.since), "until": _when(options.until), "filters": filters(options.filter)}
    answer = context.client.open("GET", "/events", query)
    for line in answer.lines():
        event = json.loads(line)
        print(_event_line(event) if template is None else template.render(_message(event)), flush=True)
    return 0


class _Message(Struct):
    kind = "*events.Message"


class _Actor(Struct):
    kind = "events.Actor"


class _Type(Named):
    kind = "events.Type"


class _Action(Named):
    kind = "events.Action"


def _message(event: dict[str, Any]) -> Struct:
    """An event with all the fields of Go's struct, in its order; JSON leaves out those that are empty."""
    found = _Message(
        Status=event.get("status", ""),
        ID=event.get("id", ""),
        From=event.get("from", ""),
        Type=_Type(event.get("Type", "")),
        Action=_Action(event.get("Action", "")),
        Actor=_Actor({**event["Actor"], "Attributes": Map(event["Actor"]["Attributes"])}),
        Scope=event.get("scope", ""),
        Time=event.get("time", 0),
        TimeNano=event.get("timeNano", 0),
    )
    attributes = dict(sorted(event["Actor"]["Attributes"].items()))
    found.as_json = {**event, "Actor": {**event["Actor"], "Attributes": attributes}}
    return found


def _event_line(event: dict[str, Any]) -> str:
    seconds, fraction = divmod(event["timeNano"], 10**9)
    local = time.localtime(seconds)
    offset = time.strftime("%z", local)
    zone = f"{offset[:3]}:{offset[3:]}" if local.tm_gmtoff else "Z"
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{fraction:09d}{zone}"
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(event["Actor"]["Attributes"].items()))
    shown = f" ({attributes})" if attributes else ""
    return f"{stamp} {event['Type']} {event['Action']} {event['Actor']['ID']}{shown}"


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
