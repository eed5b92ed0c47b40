"""kistd started by the command, and stopped by it, in a world of its own: /run, /var/lib and /var/log are private."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KIST = f"{sys.executable} -m kist.cli.main"
PROLOGUE = """
set -eu
for directory in /run /var/lib /var/log; do mount -t tmpfs none $directory; done
ip link set lo up
kist() { %s "$@"; }
started() { grep -c starting "$1" || true; }
daemons() {
  n=0
  for one in /proc/[0-9]*; do
    tr '\\0' ' ' 2>/dev/null <$one/cmdline | grep -q '^[^ ]* -I -m kist.daemon.main $' || continue
    [ "$(readlink $one/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" ] && n=$((n+1))
  done
  echo $n
}
"""


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


def world(script: str, tmp_path: Path, **environment: str) -> str:
    """What the script says in private mount and network namespaces; a kistd that it started is always ended."""
    purge = "from kist.daemon.purge import purge; purge('/var/lib/kist', '/run/kist')"
    epilogue = f'trap "{KIST} daemon stop >/dev/null 2>&1 || true; {sys.executable} -c \\"{purge}\\"" EXIT\n'
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "KIST_"))}
    done = subprocess.run(
        ["unshare", "--mount", "--net", "bash", "-c", PROLOGUE % KIST + epilogue + script],
        capture_output=True, text=True, timeout=90, check=False, cwd=tmp_path,
        env={**clean, "HOME": str(tmp_path), **environment},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_first_command_starts_it_says_so_once_and_stop_ends_it(tmp_path: Path) -> None:
    said = world(
        """
        exec 9>lock; flock 9                 # a daemon that kept this descriptor would keep the lock
        kist ps -q 2>one; kist ps -q 2>two
        started one; started two; daemons
        exec 9>&-; flock -n lock echo free
        kist daemon stop; daemons
        kist daemon stop 2>three || echo "failed: $(cat three)"
        test ! -e /run/kist.sock && echo gone
        """,
        tmp_path,
    )
    none = "failed: no kistd is running (there is no live process in /run/kist.pid)"
    assert said.splitlines() == ["1", "0", "1", "free", "0", none, "gone"]


def test_run_starts_it_as_every_command_does(tmp_path: Path) -> None:
    said = world(
        """
        kist run --rm nothing true 2>one || echo status $?
        started one; grep -c 'Unable to find image' one; daemons
        kist daemon stop
        export KIST_NO_AUTOSTART=1; kist run nothing true 2>&1 || echo status $?; unset KIST_NO_AUTOSTART
        mkdir -p /run/kist.sock/full
        kist run nothing true 2>two || echo status $?
        grep -o 'kistd ended at once with status 1' two; rm -r /run/kist.sock
        """,
        tmp_path,
    )
    told = "kist: Cannot connect to the Docker daemon at unix:///run/kist.sock. Is the docker daemon running?"
    usage = "Run 'kist run --help' for more information"
    assert said.splitlines() == [
        "status 125", "1", "1", "1", told, "", usage, "status 125", "status 125", "kistd ended at once with status 1",
    ]  # fmt: skip


def test_many_commands_at_once_start_one(tmp_path: Path) -> None:
    said = world(
        """
        for i in 1 2 3 4 5 6; do kist ps -q >out$i 2>&1 & jobs="${jobs:-} $!"; done
        for job in $jobs; do wait $job; done
        cat out* | grep -c starting; daemons; cat out* | grep -vc starting || true
        """,
        tmp_path,
    )
    assert said.splitlines() == ["1", "1", "0"]


def test_none_is_started_for_a_daemon_that_was_named(tmp_path: Path) -> None:
    said = world(
        """
        say() { "$@" 2>&1 | sed 's/. Is the.*//'; }
        say kist -H unix:///run/kist.sock ps
        export KIST_HOST=unix:///run/kist.sock; say kist ps; unset KIST_HOST
        export DOCKER_HOST=unix:///run/kist.sock; say kist ps; unset DOCKER_HOST
        kist context create here --docker host=unix:///run/kist.sock 2>/dev/null
        say kist -c here ps
        export KIST_CONTEXT=here; say kist ps; unset KIST_CONTEXT
        export DOCKER_CONTEXT=here; say kist ps; unset DOCKER_CONTEXT
        kist context use here 2>/dev/null; say kist ps
        kist context use default >/dev/null 2>&1
        export KIST_NO_AUTOSTART=1; say kist ps; unset KIST_NO_AUTOSTART
        daemons
        """,
        tmp_path,
    )
    told = "Cannot connect to the Docker daemon at unix:///run/kist.sock"
    assert said.splitlines() == [*[told] * 3, "here", *[told] * 3, "here", told, told, "0"]


def test_stop_ends_nothing_but_kistd(tmp_path: Path) -> None:
    said = world(
        """
        kist ps -q 2>/dev/null; pid=$(cat /run/kist.pid)
        sleep 60 & echo $! >/run/kist.pid    # what a crash leaves, once the number was given away again
        kist daemon stop 2>&1 | sed "s/$!/N/"; kill -0 $! && echo lives; daemons
        kill $!; echo bogus >/run/kist.pid; kist daemon stop 2>&1 || echo status $?
        echo $pid >/run/kist.pid; rm /run/kist.sock    # as where somebody else listens for it
        kist daemon stop; daemons
        """,
        tmp_path,
    )
    other = "no kistd is running (process N, which /run/kist.pid names, is another program)"
    none = "no kistd is running (there is no live process in /run/kist.pid)"
    assert said.splitlines() == [other, "lives", "1", none, "status 1", "0"]


def test_one_that_cannot_start_is_told_at_once(tmp_path: Path) -> None:
    said = world(
        """
        mkdir -p /run/kist.sock/full         # the socket cannot be made
        SECONDS=0; kist ps 2>&1 || echo status $?; test $SECONDS -lt 8 && echo soon
        rm -r /run/kist.sock
        """,
        tmp_path,
    )
    lines = said.splitlines()
    assert lines[0].startswith("kist: no daemon is running")
    assert lines[1].startswith("kistd ended at once with status 1: see /var/log/kist.log")
    assert lines[2:] == ["status 1", "soon"]
