"""Commands of checkpoints."""

from __future__ import annotations

import sys

from kist.cli import tables
from kist.cli.context import Context
from kist.cli.parse import Parsed


def create(context: Context, options: Parsed) -> int:
    container, checkpoint = options.arguments
    body = {
        "CheckpointID": checkpoint,
        "CheckpointDir": options.checkpoint_dir,
        "Exit": not options.leave_running,
    }
    context.client.call("POST", f"/containers/{container}/checkpoints", None, body)
    print(checkpoint)
    return 0


def ls(context: Context, options: Parsed) -> int:
    found = context.client.call("GET", f"/containers/{options.arguments[0]}/checkpoints", _directory(options))
    rows: list[tables.Row] = [{"Name": one["Name"]} for one in found]
    sys.stdout.write(tables.show(rows, "", {"Name": "CHECKPOINT NAME"}, "{{.Name}}"))
    return 0


def rm(context: Context, options: Parsed) -> int:
    container, checkpoint = options.arguments
    context.client.call("DELETE", f"/containers/{container}/checkpoints/{checkpoint}", _directory(options))
    return 0


def _directory(options: Parsed) -> dict[str, str | None]:
    return {"dir": options.checkpoint_dir or None}
