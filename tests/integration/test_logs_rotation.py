"""`docker logs -f` of a container that writes faster than its small log files last."""

from __future__ import annotations

import subprocess

import pytest
from tests.conftest import Kistd


def follow(engine: Kistd, lines: int, max_file: int) -> list[int]:
    """All numbers that a follower from the start sees; fails unless it ends with the last line and no error."""
    script = f"echo 0; until test -e go; do sleep 0.05; done; seq {lines // 2}; sleep 0.3; seq {lines // 2 + 1} {lines}"
    options = ("--log-opt", "max-size=20k", "--log-opt", f"max-file={max_file}")
    engine.ok("run", "-d", "--name", "fast", *options, "busybox", "sh", "-c", f"{script}; echo end")
    command = ["docker", "-H", engine.host, "logs", "-f", "fast"]
    with subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as docker:
        assert docker.stdout is not None
        first = docker.stdout.readline()
        engine.ok("exec", "fast", "touch", "go")
        rest, errors = docker.communicate(timeout=60)
    assert (docker.returncode, errors) == (0, b"")
    *numbers, end = (first + rest).split()
    assert end == b"end"
    return [int(number) for number in numbers]


@pytest.mark.parametrize(("lines", "max_file"), [(12_000, 50), (40_000, 200)])
def test_every_line_comes_once_and_in_order(engine: Kistd, lines: int, max_file: int) -> None:
    """There are files enough for all of it."""
    assert follow(engine, lines, max_file) == list(range(lines + 1))
    assert [int(line) for line in engine.ok("logs", "fast").split()[:-1]] == list(range(lines + 1))
    assert engine.ok("logs", "--tail", "5000", "fast").split()[0] == str(lines - 4998)


@pytest.mark.parametrize("max_file", [1, 3])
def test_where_files_are_deleted_the_lines_still_rise_and_end(engine: Kistd, max_file: int) -> None:
    numbers = follow(engine, 40_000, max_file)
    assert numbers == sorted(set(numbers))
    kept = [int(line) for line in engine.ok("logs", "fast").split()[:-1]]
    assert numbers[len(numbers) - len(kept) :] == kept
