"""Fifty containers churn while kistd, the zygote and monitors are killed at random; `make soak` runs it.

Nothing may be lost: not a container, not an exit code, not a line of a log. Only a container whose monitor was killed
ends early, with 137 and whole lines. Nothing may be left over. KIST_SOAK_SECONDS bounds it, KIST_SOAK_SEED repeats it.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Kistd, assert_no_leak, footprint

from kist.kernel import cgroup

SECONDS = float(os.environ.get("KIST_SOAK_SECONDS", "150"))
SEED = int(os.environ.get("KIST_SOAK_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
WORKERS = 50
_PATIENCE = 60.0  # seconds for anything that a container or the engine owes


class Gave(AssertionError):
    """A worker found that something was lost."""


class Soak:
    """What workers and the killer share."""

    def __init__(self, engine: Kistd) -> None:
        self.engine = engine
        self.up = threading.Event()
        self.up.set()
        self.over = threading.Event()
        self.struck: set[str] = set()  # containers whose monitor was killed, or may have been
        self.counts: collections.Counter[str] = collections.Counter()
        self.problems: list[str] = []

    def ask(self, method: str, path: str, body: Any = None, *, once: bool = False) -> tuple[int, Any]:
        """Asks until there is an answer: kistd may come again meanwhile. `once`: (0, None) without one."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            self.up.wait(_PATIENCE)
            try:
                return self.engine.request(method, path, body)
            except (OSError, ValueError) as error:
                self.counts[f"broken off: {type(error).__name__}"] += 1
                if once:
                    return 0, None
                time.sleep(0.02)
            except Exception as error:  # what http.client raises for an answer that ends early
                if type(error).__module__ != "http.client":
                    raise
                self.counts[f"broken off: {type(error).__name__}"] += 1
                if once:
                    return 0, None
        raise Gave(f"{method} {path}: no answer within {_PATIENCE:.0f} s")


class Worker:
    """One life after the other: each prints its lines, exits with its code, is looked at and removed."""

    def __init__(self, soak: Soak, number: int) -> None:
        self._soak, self._number = soak, number
        self._chance = random.Random(SEED + number)

    def run(self) -> None:
        life = 0
        try:
            while not self._soak.over.is_set():
                life += 1
                self._live(f"w{self._number}-{life}")
                self._soak.counts["lives"] += 1
        except BaseException as error:
            self._soak.problems.append(f"w{self._number}-{life}: {type(error).__name__}: {error}")
            self._soak.over.set()

    def _live(self, name: str) -> None:
        lines, code = self._chance.randrange(1, 60), self._chance.randrange(0, 100)
        pause = self._chance.choice((0, 1000, 20000))
        script = f"i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo {name} $i; usleep {pause}; done; exit {code}"
        self._create(name, script)
        self._start(name)
        state = self._ended(name)
        self._check(name, state, lines, code)
        self._remove(name)

    def _create(self, name: str, script: str) -> None:
        body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": self._network()}}
        while True:
            status, answer = self._soak.ask("POST", f"/containers/create?name={name}", body)
            if status in (201, 409):  # made by a request whose answer was lost
                return
            if status < 500:
                raise Gave(f"create: {status} {answer}")

    def _network(self) -> str:
        return self._chance.choice(("none", "none", "bridge"))

    def _start(self, name: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            status, answer = self._soak.ask("POST", f"/containers/{name}/start", once=True)
            if status in (204, 304):
                return
            state = self._inspect(name)["State"]
            if state["StartedAt"] > "0002":
                return  # it ran, or runs: the answer was lost, and a second start would make it run again
            if 0 < status < 500 or time.monotonic() > deadline:
                raise Gave(f"start: {status} {answer}")
            self._soak.counts["starts that failed"] += 1

    def _inspect(self, name: str) -> Any:
        status, answer = self._soak.ask("GET", f"/containers/{name}/json")
        if status != 200:
            raise Gave(f"the container is lost: {status} {answer}")
        return answer

    def _ended(self, name: str) -> Any:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            state = self._inspect(name)["State"]
            if not state["Running"] and state["StartedAt"] > "0002":
                return state
            if state["Status"] == "created":  # the start was cut off before anything ran: 204 was never said
                self._start(name)
            time.sleep(self._chance.uniform(0.02, 0.2))
        raise Gave(f"it does not end: {self._inspect(name)['State']}")

    def _check(self, name: str, state: Any, lines: int, code: int) -> None:
        status, raw = self._soak.ask("GET", f"/containers/{name}/logs?stdout=1&tail=all")
        if status != 200:
            raise Gave(f"logs: {status} {raw}")
        found = [frame.decode() for frame in _frames(raw if isinstance(raw, bytes) else b"")]
        expected = [f"{name} {number}\n" for number in range(1, lines + 1)]
        if state["ExitCode"] == code and found == expected:
            return
        if name in self._soak.struck and state["ExitCode"] == 137 and found == expected[: len(found)]:
            self._soak.counts["ended with their monitor"] += 1
            return
        struck = "struck" if name in self._soak.struck else "not struck"
        raise Gave(f"{struck}, exit code {state['ExitCode']} for {code}, {len(found)} lines for {lines}: {found[-2:]}")

    def _remove(self, name: str) -> None:
        while True:
            status, answer = self._soak.ask("DELETE", f"/containers/{name}?v=1")
            if status in (204, 404):
                return
            if status < 500 and status != 409:
                raise Gave(f"remove: {status} {answer}")
            time.sleep(0.05)


def _frames(raw: bytes) -> list[bytes]:
    found = []
    while raw:
        size = int.from_bytes(raw[4:8], "big")
        found.append(raw[8 : 8 + size])
        raw = raw[8 + size :]
    return found


class Killer:
    def __init__(self, soak: Soak) -> None:
        self._soak, self._chance = soak, random.Random(SEED)

    def run(self) -> None:
        while not self._soak.over.wait(self._chance.uniform(0.2, 1.5)):
            strike = self._chance.choice((self._kistd, self._zygote, self._monitor, self._monitor))
            try:
                strike()
            except (OSError, ValueError, IndexError):  # what was to be killed is gone already
                continue
            except BaseException as error:
                self._soak.problems.append(f"the engine: {type(error).__name__}: {error}")
                self._soak.over.set()
                return

    def _kistd(self) -> None:
        self._soak.up.clear()
        self._soak.engine.kill()
        time.sleep(self._chance.choice((0, 0.1, 0.5)))
        self._soak.engine.start()
        self._soak.up.set()
        self._soak.counts["kistd killed"] += 1

    def _zygote(self) -> None:
        assert self._soak.engine.process is not None
        parent = self._soak.engine.process.pid
        for pid in cgroup.pids(cgroup.detect(), f"kist/{self._soak.engine.id}/engine"):
            if _parent(pid) == parent:
                os.kill(pid, signal.SIGKILL)
                self._soak.counts["zygote killed"] += 1
                return

    def _monitor(self) -> None:
        """That of a running container: the parent of its first process."""
        status, listed = self._soak.engine.request("GET", "/containers/json")
        if status != 200 or not listed:
            return
        chosen = self._chance.choice(listed)
        name = chosen["Names"][0].removeprefix("/")
        self._soak.struck.add(name)
        _, shown = self._soak.engine.request("GET", f"/containers/{name}/json")
        monitor = _parent(int(shown["State"]["Pid"]))
        if "kist-monitor" not in Path(f"/proc/{monitor}/comm").read_text():
            return
        os.kill(monitor, signal.SIGKILL)
        self._soak.counts["monitors killed"] += 1


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[1])


@pytest.mark.timeout(SECONDS + 240)
def test_nothing_is_lost_and_nothing_left_over(own_engine: Kistd, capsys: pytest.CaptureFixture[str]) -> None:
    soak = Soak(own_engine)
    before = footprint(own_engine)
    threads = [threading.Thread(target=Worker(soak, number).run) for number in range(WORKERS)]
    threads.append(threading.Thread(target=Killer(soak).run))
    for thread in threads:
        thread.start()
    soak.over.wait(SECONDS)
    soak.over.set()
    for thread in threads:
        thread.join(_PATIENCE * 3)
    soak.up.set()
    with capsys.disabled():
        told = ", ".join(f"{count} {what}" for what, count in sorted(soak.counts.items()))
        print(f"\nseed {SEED}: {told}")
    if soak.problems:
        pytest.fail(f"seed {SEED}: {soak.problems}\n{own_engine.log()[-5000:]}", pytrace=False)
    assert soak.counts["lives"] > SECONDS
    with contextlib.suppress(OSError):
        own_engine.remove_all()
    assert_no_leak(own_engine, before, descriptors=False)
    assert "Traceback" not in own_engine.log(), own_engine.log()[-3000:]
