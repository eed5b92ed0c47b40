"""`diff`, `export` and `commit`: what a container has made of its image."""

from __future__ import annotations

import os
import sys
from typing import Any

from kist.cli.context import Context
from kist.cli.images import save_answer
from kist.cli.parse import Parsed
from kist.model.errors import KistError
from kist.model.reference import Reference

_LETTERS = "CAD"


def diff(context: Context, options: Parsed) -> int:
    (name,) = options.arguments
    if not name:
        raise KistError("Container name cannot be empty")
    for change in context.client.call("GET", f"/containers/{name}/changes") or ():
        print(_LETTERS[change["Kind"]], change["Path"])
    return 0


def export(context: Context, options: Parsed) -> int:
    if not options.output and os.isatty(1):
        raise KistError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    answer = context.client.open("GET", f"/containers/{options.arguments[0]}/export")
    save_answer(answer, options.output, "failed to export container")
    return 0


def commit(context: Context, options: Parsed) -> int:
    name, *given = options.arguments
    query: dict[str, Any] = {"container": name, "comment": options.message or None, "author": options.author or None,
                             "changes": options.change, "pause": None if options.pause else "0"}  # fmt: skip
    if given and given[0]:
        reference = Reference.parse(given[0])
        if reference.digest is not None:
            raise KistError("refusing to create a tag with a digest reference")
        query |= {"repo": reference.familiar_name, "tag": reference.tagged().tag}
    sys.stdout.write(f"{context.client.call('POST', '/commit', query)['Id']}\n")
    return 0
