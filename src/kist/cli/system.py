"""Disk usage, and the commands that remove all that nobody uses: of one kind, or of every kind at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from kist.cli import tables
from kist.cli.containers import filters, ps_row
from kist.cli.context import Context, confirm
from kist.cli.parse import Parsed
from kist.model.errors import KistError
from kist.model.goformat import Struct

# What a prune asks of the daemon gives: the bytes that are free now, and what it removed, each on a line.
Pruned = tuple[int, list[str]]


# --- prune ---


def _containers(context: Context, words: list[str], everything: bool) -> Pruned:
    found = context.client.call("POST", "/containers/prune", {"filters": filters(words)})
    return found["SpaceReclaimed"], _listed("Deleted Containers:", found["ContainersDeleted"])


def _networks(context: Context, words: list[str], everything: bool) -> Pruned:
    found = context.client.call("POST", "/networks/prune", {"filters": filters(words)})
    return 0, _listed("Deleted Networks:", found["NetworksDeleted"])


def _volumes(context: Context, words: list[str], everything: bool) -> Pruned:
    asked = [*words, "all=true"] if everything else words
    found = context.client.call("POST", "/volumes/prune", {"filters": filters(asked)})
    return found["SpaceReclaimed"], _listed("Deleted Volumes:", found["VolumesDeleted"])


def _images(context: Context, words: list[str], everything: bool) -> Pruned:
    asked = [*words, f"dangling={'false' if everything else 'true'}"]
    found = context.client.call("POST", "/images/prune", {"filters": filters(asked)})
    names = [
        f"untagged: {one['Untagged']}" if one.get("Untagged") else f"deleted: {one['Deleted']}"
        for one in found["ImagesDeleted"] or ()
    ]
    return found["SpaceReclaimed"], _listed("Deleted Images:", names)


def _builds(context: Context, words: list[str], everything: bool) -> Pruned:
    query = {"all": everything, "filters": filters(words)}
    found = context.client.call("POST", "/build/prune", query)
    return found["SpaceReclaimed"], _listed("Deleted build cache objects:", found["CachesDeleted"])


def _listed(title: str, names: list[str] | None) -> list[str]:
    return [title, *names, ""] if names else []


def _prune(context: Context, options: Parsed, warning: str, act: Callable[..., Pruned], everything: bool) -> int:
    if not confirm(options.force, warning):
        return 0
    freed, lines = act(context, options.filter, everything)
    print(*lines, f"Total reclaimed space: {tables.human_size(freed, 4)}", sep="\n")
    return 0


def container_prune(context: Context, options: Parsed) -> int:
    return _prune(context, options, "This will remove all stopped containers.", _containers, False)


def image_prune(context: Context, options: Parsed) -> int:
    kind = "images without at least one container associated to them" if options.all else "dangling images"
    return _prune(context, options, f"This will remove all {kind}.", _images, options.all)


def volume_prune(context: Context, options: Parsed) -> int:
    if options.all and any(word.partition("=")[0] == "all" for word in options.filter):
        raise KistError("conflicting options: cannot specify both --all and --filter all=1")
    kind = "all local volumes" if options.all else "anonymous local volumes"
    return _prune(
        context, options, f"This will remove {kind} not used by at least one container.", _volumes, options.all
    )


def network_prune(context: Context, options: Parsed) -> int:
    if not confirm(options.force, "This will remove all custom networks not used by at least one container."):
        return 0
    sys.stdout.write("".join(f"{line}\n" for line in _networks(context, options.filter, False)[1]))
    return 0


def prune(context: Context, options: Parsed) -> int:
    """Of every kind, in Docker's order; volumes only when asked for, and then anonymous ones."""
    if options.volumes and any(word.partition("=")[0] == "until" for word in options.filter):
        raise KistError('ERROR: The "until" filter is not supported with "--volumes"')
    if not confirm(options.force, _warning(options)):
        return 0
    total = 0
    steps = [_containers, _networks, *([_volumes] if options.volumes else []), _images, _builds]
    for step in steps:
        freed, lines = step(context, options.filter, options.all and step is not _volumes)
        total += freed
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    print(f"Total reclaimed space: {tables.human_size(total, 4)}")
    return 0


def _warning(options: Parsed) -> str:
    lines = ["This will remove:", "  - all stopped containers", "  - all networks not used by at least one container"]
    if options.volumes:
        lines.append("  - all anonymous volumes not used by at least one container")
    if options.all:
        lines += ["  - all images without at least one container associated to them", "  - all build cache"]
    else:
        lines += ["  - all dangling images", "  - unused build cache"]
    shown = sorted(word for word in options.filter if word.partition("=")[0] in ("label", "label!", "until"))
    if shown:
        lines += ["", "  Items to be pruned will be filtered with:", *(f"  - {word}" for word in shown)]
    return "\n".join([*lines, ""])


# --- disk usage ---


_DISK = tables.Listing(
    "*formatter.diskUsageImagesContext",
    {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"},
    "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n",
)
_IMAGES = {"Repository": "REPOSITORY", "Tag": "TAG", "ID": "IMAGE ID", "CreatedSince": "CREATED", "Size": "SIZE",
           "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE", "Containers": "CONTAINERS"}  # fmt: skip
_CONTAINERS = {"ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "LocalVolumes": "LOCAL VOLUMES",
               "Size": "SIZE", "RunningFor": "CREATED", "Status": "STATUS", "Names": "NAMES"}  # fmt: skip
_VOLUMES = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}
_BUILDS = {"ID": "CACHE ID", "CacheType": "CACHE TYPE", "Size": "SIZE", "CreatedSince": "CREATED",
           "LastUsedSince": "LAST USED", "UsageCount": "USAGE", "Shared": "SHARED"}  # fmt: skip


def df(context: Context, options: Parsed) -> int:
    found = context.client.call("GET", "/system/df")
    if options.verbose:
        _verbose(found, options.format)
        return 0
    sys.stdout.write(tables.show(_totals(found), options.format, _DISK))
    return 0


def _totals(found: dict[str, Any]) -> list[dict[str, Any]]:
    images, containers, volumes = found["Images"], found["Containers"], found["Volumes"]
    used = {one["ImageID"] for one in containers}
    unused = sum(one["Size"] for one in images if one["Id"] not in used)
    idle = [one for one in containers if one["State"] not in ("running", "paused", "restarting")]
    loose = [one for one in volumes if not one["UsageData"]["RefCount"]]
    total = found["LayersSize"]
    rows = [
        ("Images", len(images), sum(one["Id"] in used for one in images), total, min(unused, total)),
        ("Containers", len(containers), len(containers) - len(idle),
         sum(one.get("SizeRw", 0) for one in containers), sum(one.get("SizeRw", 0) for one in idle)),
        ("Local Volumes", len(volumes), len(volumes) - len(loose), sum(one["UsageData"]["Size"] for one in volumes),
         sum(one["UsageData"]["Size"] for one in loose)),
        ("Build Cache", 0, 0, 0, 0),
    ]  # fmt: skip
    return [
        {"Type": kind, "TotalCount": str(count), "Active": str(active), "Size": tables.human_size(size, 4),
         "Reclaimable": tables.human_size(free, 4) + (f" ({100 * free // size}%)" if size else "")}
        for kind, count, active, size, free in rows
    ]  # fmt: skip


def _verbose(found: dict[str, Any], source: str) -> None:
    as_table = source in ("", "table")
    parts: dict[str, list[dict[str, Any]]] = {
        "Images": [_image(one, not as_table) for one in found["Images"]],
        "Containers": [_container(one, not as_table) for one in found["Containers"]],
        "Volumes": [_volume(one) for one in found["Volumes"]],
        "BuildCache": [],
    }
    if not as_table:
        text = tables.one(_Usage(parts), source)
        sys.stdout.write(text.removesuffix("\n"))  # docker ends it without
        return
    for title, rows, columns in (
        ("Images space usage:", parts["Images"], _IMAGES),
        ("\nContainers space usage:", parts["Containers"], _CONTAINERS),
        ("\nLocal Volumes space usage:", parts["Volumes"], _VOLUMES),
        ("\nBuild cache usage: 0B", [], _BUILDS),
    ):
        default = "\t".join(f"{{{{.{name}}}}}" for name in columns)
        sys.stdout.write(f"{title}\n\n{tables.show(rows, '', tables.Listing('', columns, default))}")


class _Usage(Struct):
    kind = "*formatter.diskUsageContext"


def _image(one: dict[str, Any], whole: bool) -> dict[str, Any]:
    repository, _, tag = ((one.get("RepoTags") or ["<none>:<none>"])[0]).rpartition(":")
    shared = max(one["SharedSize"], 0)
    row = {
        "Containers": str(one["Containers"]),
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(one["Created"])),
        "CreatedSince": tables.ago(one["Created"]),
        "Digest": "",
        "ID": one["Id"] if whole else one["Id"].removeprefix("sha256:")[:12],
        "Repository": repository,
        "SharedSize": tables.human_size(shared, 4),
        "Size": tables.human_size(one["Size"]),
        "Tag": tag,
        "UniqueSize": tables.human_size(one["Size"] - shared, 4),
    }
    return {**row, "VirtualSize": tables.human_size(one["Size"], 4)}


def _container(one: dict[str, Any], whole: bool) -> dict[str, Any]:
    return dict(sorted(ps_row({**one, "SizeRootFs": 0}, whole).items()))


def _volume(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "Availability": "N/A",
        "Driver": one["Driver"],
        "Group": "N/A",
        "Labels": ",".join(f"{key}={value}" for key, value in (one["Labels"] or {}).items()),
        "Links": str(one["UsageData"]["RefCount"]),
        "Mountpoint": one["Mountpoint"],
        "Name": one["Name"],
        "Scope": one["Scope"],
        "Size": tables.human_size(one["UsageData"]["Size"], 4),
        "Status": "N/A",
    }
