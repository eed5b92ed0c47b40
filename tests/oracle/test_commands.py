"""The same docker command lines put to kistd and to dockerd: the same output, the same errors, the same exit status.

The lines are in commands.txt, in blocks that keep state. Both engines are spoken to at version 1.41, dockerd's newest.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.conftest import Kistd

LINES = Path(__file__).with_name("commands.txt").read_text().splitlines()
_PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
}


def _blocks() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in LINES:
        if line.startswith("["):
            found[line.strip("[]")] = current = []
        elif line and not line.startswith("#"):
            current.append(line)
    return found


BLOCKS = _blocks()


class Answer(NamedTuple):
    status: int
    out: str
    errors: str


def make_directory() -> Path:
    found = Path(tempfile.mkdtemp(prefix="kist-commands", dir="/var/tmp"))
    found.chmod(0o755)
    for name in ("kist", "dockerd"):
        place = found / name
        place.mkdir()
        (place / "file").write_text("content\n")
        (place / "env").write_text("# comment\nFROM_FILE=yes\nEMPTY=\nNOTSET_EITHER\n  SPACES=a b \n")
        (place / "badenv").write_text("bad name=1\n")
        (place / "labels").write_text("from.file=1\n# comment\nbare\n")
        (place / "seccomp.json").write_text(json.dumps(_PROFILE))
        with tarfile.open(place / "root.tar", "w") as archive:
            member = tarfile.TarInfo("hello")
            member.size, member.mtime = 5, 1
            archive.addfile(member, io.BytesIO(b"hello"))
    return found


def run(engine: Kistd, line: str, place: Path) -> Answer:
    line, _, typed = line.replace("{T}", str(place)).partition(" <<< ")
    words = shlex.split(line.replace("\\t", "\t"), posix=True)
    given = f"{typed}\n".encode() if typed else None
    try:
        done = engine.docker(*words, stdin=given, timeout=15, DOCKER_API_VERSION="1.41", NOTSET="")
    except subprocess.TimeoutExpired:
        return Answer(-1, "", "does not end")
    return Answer(done.status, normal(done.text, engine, place), normal(done.errors, engine, place))


def normal(text: str, engine: Kistd, place: Path) -> str:
    """Without what is another's each time: ids, ages, addresses, where things are."""
    text = text.replace(str(place), "{T}").replace(engine.base, "{ROOT}").replace("\r", "")
    text = re.sub(r"\b[0-9a-f]{64}\b", "ID64", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "ID12", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    text = re.sub(r"(About an? \w+|Less than a second|\d+ (seconds?|minutes?|hours?|days?|weeks?))( ago)?", "AGE", text)
    text = re.sub(r"AGE +", "AGE ", text)
    text = re.sub(r"172\.17\.0\.(?!1\b)\d+", "ADDRESS", text)
    return re.sub(r" +", " ", text)


def ask(engine: Kistd, name: str, place: Path) -> dict[str, list[Answer]]:
    found = {}
    for block, lines in BLOCKS.items():
        for one in engine.request("GET", "/containers/json?all=1")[1]:
            engine.request("DELETE", f"/containers/{one['Id']}?force=1&v=1")
        found[block] = [run(engine, line, place) for line in lines]
    return found


@pytest.fixture(scope="module")
def answers(kist: Kistd, dockerd: Kistd) -> Iterator[dict[str, list[tuple[Answer, Answer]]]]:
    import shutil, time

    directory = make_directory()
    t = time.time()
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(ask, kist, "kist", directory / "kist")
        theirs = pool.submit(ask, dockerd, "dockerd", directory / "dockerd")
        yield {block: list(zip(ours.result()[block], theirs.result()[block], strict=True)) for block in BLOCKS}
    print(time.time() - t)
    shutil.rmtree(directory)


def test_dump(answers) -> None:
    n = 0
    for block, pairs in answers.items():
        print("[%s]" % block)
        for line, (ours, theirs) in zip(BLOCKS[block], pairs):
            if ours != theirs:
                n += 1
                print("$", line[:150])
                for a, b, w in zip(ours, theirs, ("rc", "out", "err")):
                    if a != b:
                        print("   K %s: %s" % (w, repr(a)[:260]))
                        print("   D %s: %s" % (w, repr(b)[:260]))
    print(n, sum(map(len, BLOCKS.values())))
