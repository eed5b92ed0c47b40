"""`docker logs -f` of a container that writes faster than its small log files last."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

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


@pytest.mark.parametrize(("in_the_way", "told"), [("new", "is not rotated"), ("packing", "is not compressed")])
def test_what_fails_is_told_once_and_loses_no_line(engine: Kistd, in_the_way: str, told: str) -> None:
    options = ("--log-opt", "max-size=1k", "--log-opt", "max-file=90", "--log-opt", "compress=true")
    script = "until test -e go; do sleep 0.05; done; for i in $(seq 30); do seq 20; sleep 0.02; done"
    ident = engine.ok("run", "-d", "--name", "box", *options, "busybox", "sh", "-c", script).strip()
    path = Path(f"{engine.ok('inspect', '-f', '{{.LogPath}}', 'box').strip()}.{in_the_way}")
    path.mkdir()
    engine.ok("exec", "box", "touch", "go")
    engine.ok("wait", "box")
    deadline = time.monotonic() + 10
    while not (lines := [one for one in engine.log().splitlines() if ident in one and told in one]):
        assert time.monotonic() < deadline, engine.log()
        time.sleep(0.05)
    assert len(lines) == 1
    assert engine.ok("logs", "box") == "".join(f"{number}\n" for number in range(1, 21)) * 30
    path.rmdir()
