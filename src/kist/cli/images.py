"""Commands of images."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from kist.cli import tables
from kist.cli.containers import filters, inspect_each
from kist.cli.context import Context
from kist.cli.parse import Parsed
from kist.client.http import Answer, ApiError
from kist.model.errors import KistError
from kist.model.reference import Reference

_CHUNK = 1 << 20
_TITLES = {
    "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "ID": "IMAGE ID", "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT", "Size": "SIZE", "Containers": "CONTAINERS", "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
}  # fmt: skip
_RAW = """repository: {{.Repository}}
tag: {{.Tag}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}
"""
_IMAGES = tables.Listing(
    "*formatter.imageContext",
    _TITLES,
    "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    _RAW,
    "ID",
)
_WITH_DIGESTS = _IMAGES._replace(
    table="{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    raw=_RAW.replace("image_id", "digest: {{.Digest}}\nimage_id"),
)
_HISTORY = tables.Listing(
    "*image.historyContext",
    {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY",
     "Size": "SIZE", "Comment": "COMMENT"},
    "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}", quiet="ID",
)  # fmt: skip


def listing(context: Context, options: Parsed) -> int:
    if options.tree:
        raise KistError("kist images --tree is not supported yet: kist keeps one platform of an image")
    words = list(options.filter)
    if options.arguments:
        words.append(f"reference={options.arguments[0]}")
    found = context.client.call("GET", "/images/json", {"all": options.all, "filters": filters(words)})
    source = options.format or ("" if options.quiet else context.choice.format("imagesFormat"))
    digests = options.digests or "{{.Digest}}" in source
    rows = [row for image in found for row in _rows(image, options.no_trunc, digests)]
    if options.digests and source.startswith("table ") and "{{.Digest}}" not in source:
        source += "\t{{.Digest}}"
    if options.quiet and source in ("", "table"):
        rows = list({row["ID"]: row for row in rows}.values())
    listing_ = _WITH_DIGESTS if options.digests else _IMAGES
    if options.quiet:
        listing_ = listing_._replace(raw="image_id: {{.ID}}")
    sys.stdout.write(tables.show(rows, source, listing_, quiet=options.quiet))
    return 0


def _rows(image: dict[str, Any], whole: bool, with_digests: bool) -> Iterator[dict[str, Any]]:
    shown = image["Id"] if whole else image["Id"].removeprefix("sha256:")[:12]
    digests = {one.rpartition("@")[0]: one.rpartition("@")[2] for one in image.get("RepoDigests") or ()}
    base = {
        "ID": shown,
        "CreatedSince": tables.ago(image["Created"]),
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(image["Created"])),
        "Size": tables.human_size(image["Size"]),
        "VirtualSize": tables.human_size(image["Size"], 4),
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A" if image["Containers"] < 0 else str(image["Containers"]),
    }
    for tag in image.get("RepoTags") or ["<none>:<none>"]:
        repository, _, name = tag.rpartition(":")
        digest = digests.get(repository, "<none>") if with_digests else "<none>"
        yield {"Repository": repository, "Tag": name, "Digest": digest, **base}


def remove(context: Context, options: Parsed) -> int:
    status = 0
    for name in options.arguments:
        try:
            query = {"force": options.force, "noprune": options.no_prune}
            deleted = context.client.call("DELETE", f"/images/{name}", query)
        except ApiError as error:
            if options.force and error.status == 404:
                continue
            print(f"Error response from daemon: {error.message}", file=sys.stderr)
            status = 1
            continue
        for one in deleted:
            print(f"Untagged: {one['Untagged']}" if "Untagged" in one else f"Deleted: {one['Deleted']}")
    return status


def tag(context: Context, options: Parsed) -> int:
    source, target = options.arguments
    rest, _, digest = target.partition("@")
    if digest:
        raise KistError("refusing to create a tag with a digest reference")
    head, slash, last = rest.rpartition("/")
    name, _, label = last.partition(":")
    try:
        Reference.parse(target)
    except KistError as error:
        raise KistError(
            f'Error parsing reference: "{target}" is not a valid repository/tag: {error.message}'
        ) from error
    context.client.call("POST", f"/images/{source}/tag", {"repo": f"{head}{slash}{name}", "tag": label or None})
    return 0


def history(context: Context, options: Parsed) -> int:
    found = context.client.call("GET", f"/images/{options.arguments[0]}/history")
    rows = []
    for one in found:
        command = one["CreatedBy"].replace("\t", " ")
        if not options.no_trunc and len(command) > 45:
            command = command[:44] + "…"
        identifier = one["Id"] if options.no_trunc else one["Id"].removeprefix("sha256:")[:12]
        rows.append(
            {
                "ID": identifier if one["Id"] != "<missing>" else "<missing>",
                "CreatedSince": tables.ago(one["Created"]) if options.human else _iso(one["Created"]),
                "CreatedAt": _iso(one["Created"]),
                "CreatedBy": command,
                "Size": tables.human_size(one["Size"]) if options.human else str(one["Size"]),
                "Comment": one["Comment"],
            }
        )
    sys.stdout.write(tables.show(rows, options.format, _HISTORY, quiet=options.quiet))
    return 0


def _iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def inspect(context: Context, options: Parsed) -> int:
    return inspect_each(context, options, lambda name: context.client.call("GET", f"/images/{name}/json"), "image")


def file_chunks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def stdin_chunks() -> Iterator[bytes]:
    while chunk := os.read(0, _CHUNK):
        yield chunk


def load(context: Context, options: Parsed) -> int:
    if options.input:
        if not os.path.exists(options.input):
            raise KistError(f"open {options.input}: no such file or directory")
        stream = file_chunks(options.input)
    else:
        if os.isatty(0):
            raise KistError("requested load from stdin, but stdin is empty")
        stream = stdin_chunks()
    answer = context.client.open(
        "POST", "/images/load", {"quiet": options.quiet}, stream=stream, headers={"Content-Type": "application/x-tar"}
    )
    show_progress(answer)
    return 0


def show_progress(answer: Answer) -> None:
    """The JSON messages of a stream as lines. Raises KistError when one tells of a failure."""
    for line in answer.lines():
        message = json.loads(line)
        if "error" in message:
            raise KistError(str(message["error"]))
        if "stream" in message:
            sys.stdout.write(message["stream"])
        elif "status" in message and not message.get("id"):
            print(message["status"])
        sys.stdout.flush()


def save(context: Context, options: Parsed) -> int:
    if not options.output and os.isatty(1):
        raise KistError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    answer = context.client.open("GET", "/images/get", {"names": options.arguments})
    save_answer(answer, options.output, "failed to save image")
    return 0


def save_answer(answer: Answer, output: str, failed: str) -> None:
    """An answer's body into a file, whole or not at all, or to standard output. Raises KistError, OSError."""
    if not output:
        for chunk in answer.chunks():
            sys.stdout.buffer.write(chunk)
        sys.stdout.flush()
        return
    partial = f"{output}.{os.getpid()}.partial"
    try:
        with open(partial, "wb") as file:
            for chunk in answer.chunks():
                file.write(chunk)
        os.rename(partial, output)
    except BaseException as error:
        if os.path.exists(partial):
            os.unlink(partial)
        if isinstance(error, OSError):
            reason = (error.strerror or str(error)).lower()
            raise KistError(f"{failed}: {output}: {reason}") from error
        raise


def import_(context: Context, options: Parsed) -> int:
    source, *name = options.arguments
    if source != "-" and not os.path.exists(source):
        raise KistError(f"open {source}: no such file or directory")
    repository, _, label = (name[0] if name else "").partition(":")
    query = {"fromSrc": "-", "repo": repository or None, "tag": label or None, "message": options.message or None,
             "changes": options.change}  # fmt: skip
    stream = stdin_chunks() if source == "-" else file_chunks(source)
    answer = context.client.open(
        "POST", "/images/create", query, stream=stream, headers={"Content-Type": "application/x-tar"}
    )
    show_progress(answer)
    return 0


def bootstrap(context: Context, options: Parsed) -> int:
    answer = context.client.open("POST", "/kist/images/bootstrap", {"distribution": options.arguments[0]})
    show_progress(answer)
    return 0
