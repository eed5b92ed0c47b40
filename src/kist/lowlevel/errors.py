"""What goes wrong with the command, and what is told of it: on standard error and in the log, as runc writes them."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


class RuntimeFailure(Exception):
    """`status` is the command's exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.message, self.status = message, status


class Log:
    """The command's log: `path` "" is standard error; `style` is text or json."""

    def __init__(self, path: str = "", style: str = "text", debug: bool = False) -> None:
        self._path, self._style, self._debug = path, style, debug

    def write(self, level: str, message: str) -> None:
        if level == "debug" and not self._debug:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._style == "json":
            line = json.dumps({"level": level, "msg": message, "time": now}, separators=(",", ":"))
        else:
            line = f'time="{now}" level={level} msg={json.dumps(message)}'
        if not self._path:
            print(line, file=sys.stderr)
            return
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            print(f"cannot write to {self._path}: {error.strerror}", file=sys.stderr)

    def fail(self, message: str) -> None:
        """An error that ends the command: whoever reads only standard error learns of it too."""
        self.write("error", message)
        if self._path:
            print(message, file=sys.stderr)


def words(report: dict[str, Any]) -> str:
    """A failure on the way to the program, as runc tells it."""
    if report.get("problem"):
        reason = report["problem"]
    else:
        reason = f"{report.get('operation')}: {report.get('message')}"
    return f"unable to start container process: {reason}"
