"""Many containers at once, and what is asked of running ones: `ps`, `stats`, `update`, `pause`, a crowd of starts.

Each scenario makes what it needs on every engine, takes its times in turns and removes all again, so that nothing of it
is there when the next begins.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from engines import Engine, Unix, row, timed

LISTED, WATCHED, CROWD, CLIENTS = 500, 50, 200, 16
INTERVAL = 1.0  # seconds between two samples of stats
Work = Callable[[], object]


class Api:
    """Requests on one kept connection."""

    def __init__(self, engine: Engine) -> None:
        self._connection = Unix(engine.socket)

    def __call__(self, method: str, path: str, body: object = None) -> bytes:
        data = json.dumps(body) if body is not None else None
        self._connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        answer = self._connection.getresponse()
        raw = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {raw!r}")
        return raw

    def create(self, name: str) -> None:
        asked = {"Image": "busybox", "Cmd": ["sleep", "100000"], "HostConfig": {"NetworkMode": "none"}}
        self("POST", f"/containers/create?name={name}", asked)

    def run(self, name: str) -> None:
        self.create(name)
        self("POST", f"/containers/{name}/start")

    def remove(self, name: str) -> None:
        self("DELETE", f"/containers/{name}?force=1")


def _in_turns(engines: list[Engine], works: list[Work], rounds: int) -> list[float]:
    times: list[list[float]] = [[] for _ in engines]
    for number in range(rounds + 1):
        for index, work in enumerate(works):
            taken = timed(work)
            if number:  # the first round warms up
                times[index].append(taken)
    return [statistics.median(one) for one in times]


def _row(name: str, medians: list[float], target: float = 0.0) -> str:
    return row(name, [f"{value * 1000:.1f} ms" for value in medians], medians, target)


def listing(engines: list[Engine], rounds: int) -> Iterator[str]:
    for engine in engines:
        api = Api(engine)
        for number in range(LISTED):
            api.create(f"listed{number}")
    works = [_command(engine, "ps", "-a") for engine in engines]
    yield _row(f"ps -a with {LISTED} containers", _in_turns(engines, works, rounds), 1.0)
    for engine in engines:
        api = Api(engine)
        for number in range(LISTED):
            api.remove(f"listed{number}")


def watching(engines: list[Engine], rounds: int) -> Iterator[str]:
    for engine in engines:
        api = Api(engine)
        for number in range(WATCHED):
            api.run(f"watched{number}")
    works = [_command(engine, "stats", "--no-stream") for engine in engines]
    medians = _in_turns(engines, works, max(3, rounds // 5))
    yield _row(f"stats --no-stream of {WATCHED} (a sample a {INTERVAL:.0f} s)", medians)
    for path, body in (("update", {"Memory": 64 << 20, "MemorySwap": 64 << 20}), ("pause", None)):
        yield _row(
            f"API {path} (at most 10 ms)", _in_turns(engines, [_verb(one, path, body) for one in engines], rounds)
        )
    for engine in engines:
        api = Api(engine)
        for number in range(WATCHED):
            api.remove(f"watched{number}")


def _command(engine: Engine, *words: str) -> Work:
    return lambda: engine.run(*words)


def _verb(engine: Engine, verb: str, body: object) -> Work:
    """Seconds of one request; what it did is taken back outside of the time."""
    api = Api(engine)

    def once() -> float:
        begin = time.perf_counter()
        api("POST", f"/containers/watched0/{verb}", body)
        taken = time.perf_counter() - begin
        if verb == "pause":
            api("POST", "/containers/watched0/unpause")
        return taken

    return once


def crowding(engines: list[Engine], rounds: int) -> Iterator[str]:
    """Starts by many clients; and the daemon's memory before them and after all are gone again."""
    before = [engine.memory()[0] if engine.process else 0.0 for engine in engines]
    times: list[list[float]] = [[] for _ in engines]
    for _ in range(max(2, rounds // 10)):
        for index, engine in enumerate(engines):
            times[index].append(timed(partial(_each, engine, Api.run)))
            _each(engine, Api.remove)
    yield _row(f"{CROWD} started by {CLIENTS} clients", [statistics.median(one) for one in times], 0.2)
    time.sleep(10)
    after = [engine.memory()[0] if engine.process else 0.0 for engine in engines]
    growth = [two / one if one else 0.0 for one, two in zip(before, after, strict=True)]
    shown = [f"{one:.1f} → {two:.1f}" for one, two in zip(before, after, strict=True)]
    yield row("engine before and after, MiB PSS (at most 1.1 times)", shown, growth, 0.0)


def _each(engine: Engine, act: Callable[[Api, str], None]) -> None:
    def some(client: int) -> None:
        api = Api(engine)
        for number in range(client, CROWD, CLIENTS):
            act(api, f"crowd{number}")

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(some, range(CLIENTS)))


SCENARIOS = {"listing": listing, "watching": watching, "crowding": crowding}
