"""Commands of checkpoints."""

from __future__ import annotations

import sys

from kist.cli import tables
from kist.cli.context import Context
from kist.cli.parse import Parsed


def create(context: Context, options: Parsed) -> int:
    container, checkpoint = options.arguments
    body = {"CheckpointID": checkpoint, "CheckpointDir": options.checkpoint_dir, "Exit": not options.leave_running}
    context.client.call("POST", f"/containers/{container}/checkpoints", None, body)
    print(checkpoint)
    return 0


def listing(context: Context, options: Parsed) -> int:
    query = {"dir": options.checkpoint_dir} if options.checkpoint_dir else None
    found = context.client.call("GET", f"/containers/{options.arguments[0]}/checkpoints", query) or []
    sys.stdout.write(
        tables.show(
            found, "", tables.Listing("*checkpoint.checkpointContext", {"Name": "CHECKPOINT NAME"}, "{{.Name}}")
        )
    )
    return 0


def remove(context: Context, options: Parsed) -> int:
    container, checkpoint = options.arguments
    query = {"dir": options.checkpoint_dir} if options.checkpoint_dir else None
    context.client.call("DELETE", f"/containers/{container}/checkpoints/{checkpoint}", query)
    return 0
