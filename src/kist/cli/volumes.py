"""Commands that Docker has not: a volume as a tar, from a tar, and from another volume."""

from __future__ import annotations

import os

from kist.cli.context import Context
from kist.cli.images import file_chunks, save_answer, stdin_chunks
from kist.cli.parse import Parsed
from kist.model.errors import KistError


def export(context: Context, options: Parsed) -> int:
    if not options.output and os.isatty(1):
        raise KistError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    answer = context.client.open("GET", f"/kist/volumes/{options.arguments[0]}/export")
    save_answer(answer, options.output, "failed to export volume")
    return 0


def import_(context: Context, options: Parsed) -> int:
    name, source = options.arguments[0], (options.arguments[1:] or ["-"])[0]
    if source == "-" and os.isatty(0):
        raise KistError("requested import from stdin, but stdin is a terminal")
    if source != "-" and not os.path.exists(source):
        raise KistError(f"open {source}: no such file or directory")
    stream = stdin_chunks() if source == "-" else file_chunks(source)
    kind = {"Content-Type": "application/x-tar"}
    context.client.open("POST", f"/kist/volumes/{name}/import", stream=stream, headers=kind).read()
    print(name)
    return 0


def clone(context: Context, options: Parsed) -> int:
    return _copy(context, options, snapshot=False)


def snapshot(context: Context, options: Parsed) -> int:
    return _copy(context, options, snapshot=True)


def _copy(context: Context, options: Parsed, *, snapshot: bool) -> int:
    source, target = options.arguments
    context.client.call("POST", f"/kist/volumes/{source}/clone", {"to": target, "snapshot": snapshot})
    print(target)
    return 0
