"""The same docker command lines put to kistd and to dockerd: the same output, the same errors, the same exit status.

The lines are in commands.txt, in blocks that keep state. Both engines are spoken to at version 1.41, dockerd's newest.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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


# What reads otherwise in 28 than in 20.10 everywhere it occurs; both engines' texts are brought to one form.
_SINCE = (
    # containerd's and runc's own words around a failed start; kist runs neither, and leaves gRPC's code out
    (r"(failed to create task for container: )?failed to create shim task: OCI runtime create failed: "
     r"(runc create failed: )?", "RUNTIME: "),
    (r"(unable to start container process: )error during container init: ", r"\1"),
    (r"(failed to create task for container: )?(?=failed to initialize logging driver)", ""),  # since 23.0
    (r": unknown$", ""),
    (r"failed to set up container networking: (?=driver failed)", ""),  # since 28.0
    # errors begin with a small letter since 24 to 28 (moby 45032 and many more)
    (r"(daemon: )([A-Z])(?=[a-z])", lambda found: found[1] + found[2].lower()),
    (r"(cannot kill container: \w+: )([A-Z])", lambda found: found[1] + found[2].lower()),
    (r"^(PID +COMMAND\n)\d+", r"\1N"),
)  # fmt: skip

_PULL = "neither can reach a registry here; kist does not pull yet"
_PORTS = "kist publishes on IPv4 only (docs/ARCHITECTURE.md)"
_WORDS_28 = "another text in 28, which kist has"
_DIRECTORY = "runc 1.2 and later tell a directory from a file without permission (its Go library looks for EISDIR)"
_EXEC_CODE = "later dockerds give an exec whose program is not found 127, as a container"
_DIGESTS = "kist keeps the manifests of loaded images, so they have digests, as in Docker's containerd image store"
_ARCHIVE = "a damaged archive, in the words of another reader"
# Lines whose answers differ, and why. A line that no longer differs must leave this list.
DIFFERENCES = {
    "run --rm -v {T}/file/below:/x busybox true": _WORDS_28,
    "run --rm -v {T}:/etc/passwd busybox true": _WORDS_28 + " and runc tells its descriptors and flags",
    "run --rm -v formed3:/etc/passwd busybox true": "dockerd tells where the root is mounted, here it is nowhere",
    "run --rm busybox /etc": _DIRECTORY,
    "exec box /etc": _DIRECTORY,
    "run --rm nosuchimage true": _PULL,
    "run --rm --runtime bogus busybox true": _WORDS_28,
    "run --rm --kernel-memory 100 busybox true": "a warning since 23.0",
    "port web": _PORTS,
    "port web 81/udp": _PORTS,
    'ps --filter name=web --format "{{.Ports}}"': _PORTS,
    "run --rm --name elsewhere -p 1.2.3.4:18090:80 busybox true": _WORDS_28,
    "rm frozen": _WORDS_28,
    "run --rm -v unknown:/u busybox true": "a password in the options is not told since 23.0",
    "kill -s BOGUS life": _WORDS_28 + " (`cannot kill container` stands before it)",
    "kill --signal=0 life": _WORDS_28 + " (`cannot kill container` stands before it)",
    "rm life": _WORDS_28,
    "container rm loop": _WORDS_28,
    "run --rm --network container:loops busybox true": _WORDS_28,
    "update --restart bogus loop": _WORDS_28,
    "update --restart on-failure:-5 loop": _WORDS_28,
    'inspect slow --format "{{.State.Health.Status}} {{(index .State.Health.Log 0).ExitCode}} '
    '{{json (index .State.Health.Log 0).Output}}"': "what a probe printed before its timeout is told since 24.0",
    "ps -a --filter health=bogus": "Docker 28 lists the values there are",
    "run --restart bogus busybox true": _WORDS_28,
    "run --restart always:3 busybox true": _WORDS_28,
    "ps -a --filter before=nosuch": _WORDS_28,
    "inspect --type image one": _WORDS_28,
    "image inspect nosuch": _WORDS_28,
    'container inspect one --format "{{.HostConfig.NetworkMode}} {{.HostConfig.IpcMode}} {{.HostConfig.ShmSize}} '
    '{{.HostConfig.LogConfig}}"': "`default` is kept as `bridge` since 26.0 (moby 47431)",
    "exec box nosuch": _EXEC_CODE,
    "exec -w /nosuch box pwd": _EXEC_CODE,
    "exec -w relative box pwd": "runc says this before it starts anything; kist when it changes to the directory",
    "attach reader <<< hello": "20.10 loses what a container prints after its client has closed the input",
    "start -ai reader <<< again": "20.10 loses what a container prints after its client has closed the input",
    "images --digests": _DIGESTS,
    'image inspect copy:one --format "{{json .RepoTags}} {{json .RepoDigests}} {{.Os}} {{.Architecture}} '
    '{{json .Config.Cmd}} {{json .Config.Env}} {{.RootFS.Type}}"': _DIGESTS,
    "load -i {T}/file": _ARCHIVE,
    "import {T}/file x": _ARCHIVE,
    "logs nobody": "dockerd connects to the log server to read what it keeps itself",
    "run --rm --log-opt max-size=-1 busybox echo x": "a log without end must be asked for, which is how (moby 40207)",
    "ps --filter exited=x": _WORDS_28,
    "ps -a --filter status=bogus": "Docker 28 lists the states there are",
    "events --since 1h --until -1s --filter container=some --filter event=die --format "
    '"{{json .Actor.Attributes}} {{.From}} {{.ID}}"': "`execDuration` came with 24.0 (moby 45488)",
}
# What comes in the order of a Go map: names of one image with digests (in docker), mounts (in dockerd).
# Differences that depend on how fast dockerd is.
SOMETIMES = ("attach reader <<< hello", "start -ai reader <<< again")
UNORDERED = (
    'images --format "{{.Repository}}:{{.Tag}}"',
    'inspect source --format "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.Mode}} {{.RW}} '
    '{{.Propagation}};{{end}}"',
    'volume prune -f --filter "label!=x"',
    'volume ls --format "{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}}"',
)


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
    text = re.sub(r"[A-Z][a-z]{2} +\d+ \d\d:\d\d", "DATE", text)
    for pattern, replacement in _SINCE:
        text = re.sub(pattern, replacement, text, flags=re.M)
    text = re.sub(r"172\.17\.0\.(?!1\b)\d+", "ADDRESS", text)
    return re.sub(r" +", " ", text)


def ask(engine: Kistd, place: Path) -> dict[str, list[Answer]]:
    found = {}
    with ThreadPoolExecutor(4) as background:
        for block, lines in BLOCKS.items():
            for one in engine.request("GET", "/containers/json?all=1")[1]:
                engine.request("DELETE", f"/containers/{one['Id']}?force=1&v=1")
            asked: list[Answer | Future[Answer]] = []
            for line in lines:
                if line.endswith(" &"):
                    asked.append(background.submit(run, engine, line.removesuffix(" &"), place))
                else:
                    asked.append(run(engine, line, place))
            found[block] = [one.result() if isinstance(one, Future) else one for one in asked]
    return found


@pytest.fixture(scope="module")
def answers(kist: Kistd, dockerd: Kistd) -> Iterator[dict[str, list[tuple[Answer, Answer]]]]:
    """Per block what kist and dockerd answered to each line."""
    directory = make_directory()
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, one, directory / name) for one, name in ((kist, "kist"), (dockerd, "dockerd"))]
        ours, theirs = (one.result() for one in asked)
    yield {block: list(zip(ours[block], theirs[block], strict=True)) for block in BLOCKS}
    shutil.rmtree(directory)


def parts(text: str) -> list[str]:
    return sorted(re.split(r"[;,\s]", text))


@pytest.mark.timeout(580)
@pytest.mark.parametrize("block", BLOCKS)
def test_commands_answer_alike(answers: dict[str, list[tuple[Answer, Answer]]], block: str) -> None:
    unlike = []
    for line, (ours, theirs) in zip(BLOCKS[block], answers[block], strict=True):
        same = ours == theirs
        if line in UNORDERED:
            same = ours.status == theirs.status and parts(ours.out) == parts(theirs.out)
        if same != (line not in DIFFERENCES) and not (same and line in SOMETIMES):
            unlike.append(f"{line}: {'no longer differs' if same else ''}\n  kist    {ours}\n  dockerd {theirs}")
    assert not unlike, "\n".join(unlike)


def test_the_list_is_about_these_lines() -> None:
    lines = {line for block in BLOCKS.values() for line in block}
    assert len(lines) >= 700
    assert set(DIFFERENCES) <= lines
