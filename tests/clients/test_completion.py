"""Completion of the kist command: what `kist __complete` offers, and what bash, zsh and fish make of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Kistd


@pytest.fixture(scope="module")
def shell_home(shared_engine: Kistd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a `kist` that speaks to the engine, and a running and a stopped container there."""
    home = tmp_path_factory.mktemp("shell")
    kist = home / "bin" / "kist"
    kist.parent.mkdir()
    kist.write_text(f'#!/bin/sh\nexec {sys.executable} -m kist.cli.main "$@"\n')
    kist.chmod(0o755)
    (home / "somefile.tar").touch()
    shared_engine.ok("run", "-d", "--name", "tabrun", "busybox", "sleep", "1000")
    shared_engine.ok("create", "--name", "tabstopped", "busybox", "true")
    shared_engine.ok("volume", "create", "tabvolume")
    shared_engine.ok("network", "create", "tabnet")
    shared_engine.ok("create", "--name", "zmember", "--network", "tabnet", "busybox", "true")
    yield home
    shared_engine.ok("rm", "-f", "tabrun", "tabstopped", "zmember")
    shared_engine.ok("network", "rm", "tabnet")
    shared_engine.ok("volume", "rm", "tabvolume")


def environment(engine: Kistd, home: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{home}/bin:{os.environ['PATH']}", "KIST_HOST": engine.host, "HOME": str(home),
            "DOCKER_CONFIG": f"{home}/docker"}  # fmt: skip


def asked(engine: Kistd, home: Path, *words: str) -> tuple[list[str], str]:
    """(values, directive) that `kist __complete` answers."""
    done = subprocess.run(["kist", "__complete", *words], capture_output=True, text=True, timeout=30,
                          env=environment(engine, home), check=True)  # fmt: skip
    *lines, directive = done.stdout.splitlines()
    assert not done.stderr
    return [line.partition("\t")[0] for line in lines], directive


@pytest.mark.parametrize(
    ("words", "some", "none", "directive"),
    [
        (["st"], ["start", "stop", "stats"], ["ps", "rm"], ":4"),
        (["container", "r"], ["rename", "restart", "rm", "run"], ["stop"], ":4"),
        (["image", ""], ["ls", "inspect", "bootstrap"], ["ps"], ":4"),
        (["completion", ""], ["bash", "zsh", "fish"], [], ":4"),
        (["ps", "--f"], ["--filter", "--format"], ["--all"], ":4"),
        (["ps", "-"], ["--all", "-a", "-q", "--quiet"], [], ":4"),
        (["ps", "--filter", ""], ["status=", "name=", "health="], ["dangling="], ":2"),
        (["ps", "--filter", "status=r"], ["status=running", "status=restarting"], ["status=exited"], ":4"),
        (["ps", "--filter", "ancestor="], ["ancestor=busybox:latest"], [], ":4"),
        (["ps", "--filter=health="], ["health=healthy"], [], ":4"),
        (["ps", "--format", ""], ["json", "table", "raw"], [], ":4"),
        (["stop", ""], ["tabrun"], ["tabstopped"], ":4"),
        (["rm", ""], ["tabstopped"], ["tabrun"], ":4"),
        (["rm", "-vf", ""], ["tabrun", "tabstopped"], [], ":4"),
        (["container", "rm", "--force", ""], ["tabrun", "tabstopped"], [], ":4"),
        (["image", "bootstrap", ""], ["busybox", "debian"], ["busybox:latest"], ":4"),
        (["start", ""], ["tabstopped"], ["tabrun"], ":4"),
        (["logs", "tab"], ["tabrun", "tabstopped"], [], ":4"),
        (["stop", "tabrun", ""], [], ["tabrun"], ":4"),
        (["logs", "tabrun", ""], [], ["tabrun", "tabstopped"], ":4"),
        (["inspect", "tab"], ["tabrun", "tabstopped", "tabvolume"], [], ":4"),
        (["inspect", "--type", ""], ["container", "image", "network", "volume"], [], ":4"),
        (["rmi", ""], ["busybox:latest"], [], ":4"),
        (["run", "--pull", ""], ["always", "missing", "never"], [], ":4"),
        (["run", "--pull=a"], ["always"], ["never"], ":4"),
        (["run", "-it", "--restart", "o"], ["on-failure"], ["no"], ":4"),
        (["run", "--log-driver", ""], ["json-file", "none"], [], ":4"),
        (["run", "--network", ""], ["bridge", "host", "none"], [], ":4"),
        (["run", "--cap-add", "CAP_SYS_A"], ["CAP_SYS_ADMIN"], ["CAP_KILL"], ":4"),
        (["kill", "-s", "US"], ["USR1", "USR2"], ["TERM"], ":4"),
        (["run", "--runtime", ""], ["kist"], [], ":4"),
        (["run", "--ulimit", "no"], ["nofile="], [], ":2"),
        (["run", ""], ["busybox:latest"], [], ":4"),
        (["run", "--rm", "busybox", "--p"], [], ["--pull"], ":4"),
        (["volume", "rm", ""], ["tabvolume"], [], ":4"),
        (["volume", "create", ""], [], ["tabvolume"], ":4"),
        (["volume", "create", "--opt", ""], ["device=", "o=", "size=", "type="], [], ":2"),
        (["volume", "snapshot", ""], ["tabvolume"], [], ":4"),
        (["volume", "clone", "tabvolume", ""], [], ["tabvolume"], ":4"),
        (["volume", "import", "new", ""], [], ["tabvolume"], ":0"),
        (["network", "inspect", ""], ["bridge", "host", "none"], [], ":4"),
        (["network", "rm", "tab"], ["tabnet"], ["tabvolume"], ":4"),
        (["network", "rm", "tabnet", ""], ["bridge"], ["tabnet"], ":4"),
        (["network", "create", ""], [], ["tabnet"], ":4"),
        (["network", "create", "--config-from", ""], ["tabnet"], [], ":4"),
        (["network", "create", "-d", ""], ["bridge"], [], ":4"),
        (["network", "create", "-o", "com.docker.network.bridge.n"], ["com.docker.network.bridge.name="], [], ":2"),
        (["network", "connect", "tab"], ["tabnet"], ["tabrun"], ":4"),
        (["network", "connect", "tabnet", ""], ["tabrun", "tabstopped"], ["zmember"], ":4"),
        (["network", "connect", "tabnet", "tabrun", ""], [], ["tabrun", "tabnet"], ":4"),
        (["network", "connect", "--link", ""], ["tabrun:"], [], ":2"),
        (["network", "disconnect", "tabnet", ""], ["zmember"], ["tabrun", "tabstopped"], ":4"),
        (["network", "disconnect", "-f", "nosuch", ""], [], ["zmember"], ":4"),
        (["run", "--net", "tab"], ["tabnet"], [], ":4"),
        (["--context", ""], ["default"], [], ":4"),
        (["load", "-i", ""], [], [], ":0"),
        (["nosuch", ""], [], ["ps"], ":4"),
    ],
)
def test_what_a_word_may_become(
    shared_engine: Kistd, shell_home: Path, words: list[str], some: list[str], none: list[str], directive: str
) -> None:
    found, said = asked(shared_engine, shell_home, *words)
    assert set(some) <= set(found), found
    assert not set(none) & set(found), found
    assert said == directive


def test_without_a_daemon_nothing_is_offered_and_nothing_started(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kist.cli.main", "__complete", "-H", f"unix://{tmp_path}/s", "stop", ""],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, ":4\n", "")


def test_every_option_of_docker_that_completes_the_same(shared_engine: Kistd, shell_home: Path) -> None:
    """The same candidates as the stock command's, where both know the values."""
    for words in (["run", "--pull", ""], ["run", "--restart", ""], ["run", "--network", ""], ["run", "--ipc", ""],
                  ["start", ""], ["pause", ""], ["rmi", ""], ["volume", "inspect", ""], ["run", "--userns", ""],
                  ["run", "--attach", ""], ["network", "inspect", ""], ["exec", ""], ["port", ""],
                  ["network", "connect", ""], ["network", "connect", "tabnet", ""], ["network", "rm", ""],
                  ["network", "disconnect", "tabnet", ""], ["network", "create", ""]):  # fmt: skip
        theirs = shared_engine.docker("__complete", *words).text.splitlines()
        ours, directive = asked(shared_engine, shell_home, *words)
        assert sorted(ours) == sorted(line.partition("\t")[0] for line in theirs[:-1]), words
        assert directive == theirs[-1] or words[1] == "--ipc", words  # no space after `container:`


BASH = """
source <(kist completion bash)
complete -p kist
try() {
    COMP_WORDS=("${@:2}") COMP_LINE=$1 COMP_POINT=${#1} COMP_CWORD=$(($# - 2))
    compopt() { :; }
    _kist_complete
    echo "${COMPREPLY[@]}"
}
try 'kist stop ' kist stop ''
try 'kist run --pull=a' kist run --pull = a
try 'kist run --pull=' kist run --pull =
try 'kist ps --filter status=ru' kist ps --filter status = ru
try 'kist rmi busybox:la' kist rmi busybox : la
try 'kist volume ins' kist volume ins
"""


def test_bash(shared_engine: Kistd, shell_home: Path) -> None:
    done = subprocess.run(["bash", "--norc", "-c", BASH], capture_output=True, text=True, timeout=60,
                          env=environment(shared_engine, shell_home), check=True)  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "complete -F _kist_complete kist", "tabrun", "always", "always missing never", "running", "latest", "inspect",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("kist stop ", "tabrun"),
        ("kist run --pull=a", "always"),
        ("kist rmi busy", "busybox:latest"),
        ("kist ps --filter status=ru", "status=running"),
        ("kist volume insp", "inspect"),
        ("kist load -i some", "somefile.tar"),
    ],
)
def test_fish(shared_engine: Kistd, shell_home: Path, typed: str, completed: str) -> None:
    script = f"kist completion fish | source; complete -C {typed!r}"
    done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, timeout=60,
                          cwd=shell_home, env=environment(shared_engine, shell_home), check=True)  # fmt: skip
    found = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert [one for one in found if one.endswith(completed)], (found, done.stderr)
    assert len(found) == 1


TYPED = [
    ("bash", "kist stop \t", "kist stop tabrun"),
    ("bash", "kist run --pull=al\t", "kist run --pull=always"),
    ("bash", "kist rmi busybox:l\t", "kist rmi busybox:latest"),
    ("bash", "kist load -i some\t", "kist load -i somefile.tar"),
    ("zsh", "kist stop \t", "kist stop tabrun"),
    ("zsh", "kist run --pull=al\t", "kist run --pull=always"),
    ("zsh", "kist rmi busybox:l\t", "kist rmi busybox:latest"),
    ("zsh", "kist ps --filter status=ru\t", "kist ps --filter status=running"),
    ("zsh", "kist load -i some\t", "kist load -i somefile.tar"),
]


@pytest.mark.parametrize(("shell", "typed", "completed"), TYPED)
def test_tab_on_a_terminal(shared_engine: Kistd, shell_home: Path, shell: str, typed: str, completed: str) -> None:
    setup = {
        "bash": "PS1='> '; bind 'set enable-bracketed-paste off'; source <(kist completion bash); echo rea''dy\n",
        "zsh": "PS1='> '; unset zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; "
               "source <(kist completion zsh); echo rea''dy\n",
    }  # fmt: skip
    command = {"bash": ["bash", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
    seen = _type(command, setup[shell], typed, completed, shell_home, environment(shared_engine, shell_home))
    assert completed in seen, seen


def _type(command: list[str], setup: str, typed: str, wanted: str, home: Path, variables: dict[str, str]) -> str:
    """What the terminal shows after the keys, without control sequences; ends as soon as it is what is wanted."""
    import pty
    import re
    import select
    import time

    child, terminal = pty.fork()
    if child == 0:
        os.chdir(home)
        os.execvpe(command[0], command, {**variables, "TERM": "dumb"})
    try:
        seen = ""

        def read_until(text: str) -> None:
            nonlocal seen
            seen, deadline = "", time.monotonic() + 30
            while text not in seen and time.monotonic() < deadline:
                if select.select([terminal], [], [], 0.2)[0]:
                    seen += os.read(terminal, 65536).decode("utf-8", "replace")
                    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\x07", "", seen)
                    while "\b" in seen:
                        seen = re.sub(r"[^\b]?\b", "", seen, count=1)

        os.write(terminal, setup.encode())
        read_until("ready")
        os.write(terminal, typed.encode())
        read_until(wanted)
        return seen
    finally:
        os.close(terminal)
        os.kill(child, 9)
        os.waitpid(child, 0)
