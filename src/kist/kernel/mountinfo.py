"""What is mounted in this mount namespace (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\([0-7]{3})")


def points(text: str | None = None) -> list[str]:
    """The mount points, in the order they were made; one that is covered stands there more than once."""
    if text is None:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    return [_ESCAPE.sub(lambda match: chr(int(match[1], 8)), line.split(" ", 5)[4]) for line in text.splitlines()]


def count(path: str) -> int:
    """How many mounts lie on each other at a path."""
    return points().count(path)


def below(path: str) -> list[str]:
    """The mount points at a path and below, the last one first: the order in which they can be taken away."""
    return [one for one in reversed(points()) if one == path or one.startswith(f"{path}/")]
