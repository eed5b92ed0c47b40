"""The same work on several engines in turn (A B A B …), by the stock docker command and by plain HTTP.

`python bench/run.py [--rounds N] [--write]` starts a private kistd, and a private dockerd where it is installed,
prints medians and ratios, and with --write records them in docs/BENCHMARKS.md. Runs as root.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCKER = shutil.which("docker") or "docker"


class Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("bench", timeout=120)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Engine:
    """A daemon on its own socket and roots. `pids` are the processes whose memory counts as the engine's."""

    def __init__(self, name: str, base: str, command: list[str]) -> None:
        self.name, self.socket = name, f"{base}/s"
        self.log = open(f"{base}/log", "wb")  # closed in stop
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)
        for _ in range(300):
            with contextlib.suppress(OSError):
                connection = Unix(self.socket)
                connection.request("GET", "/_ping")
                if connection.getresponse().read() == b"OK":
                    connection.close()
                    return
            time.sleep(0.1)
        raise SystemExit(f"{name} did not start: {Path(base, 'log').read_text()[-2000:]}")

    def docker(self, *words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        command = [DOCKER, "-H", f"unix://{self.socket}", *words]
        return subprocess.run(command, check=True, **options)  # type: ignore[call-overload, no-any-return]

    def run(self, *words: str) -> None:
        self.docker(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def descendants(self) -> list[int]:
        """The daemon and all its children, monitors and shims left out by name."""
        parents: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                    parents.setdefault(int(fields[1]), []).append(int(entry))
        found, pending = [], [self.process.pid]
        while pending:
            pid = pending.pop()
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if name not in ("kist-monitor", "containerd-shim"):
                found.append(pid)
                pending += parents.get(pid, [])
        return found

    def memory(self) -> float:
        """MiB of PSS of the engine's own processes."""
        return sum(pss(pid) for pid in self.descendants()) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


def pss(pid: int) -> int:
    """Kilobytes (proc_pid_smaps(5))."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def api_life_cycle(engine: Engine) -> Callable[[], None]:
    """create, start, wait and remove on one kept connection."""
    connection = Unix(engine.socket)

    def call(method: str, path: str, body: object = None) -> bytes:
        data = json.dumps(body) if body is not None else None
        connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        answer = connection.getresponse()
        raw = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {raw!r}")
        return raw

    def once() -> None:
        made = json.loads(call("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"]}))["Id"]
        call("POST", f"/containers/{made}/start")
        call("POST", f"/containers/{made}/wait")
        call("DELETE", f"/containers/{made}")

    return once


def at_once(engine: Engine, count: int, clients: int) -> None:
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda _: engine.run("run", "--rm", "busybox", "true"), range(count)))


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


LINES = ["sh", "-c", "yes 'hello world' | head -n 1000000"]
LONG_LINES = ["sh", "-c", f"yes {'0123456789' * 7} | head -c 200000000"]


def benchmarks(engine: Engine) -> Iterator[tuple[str, Callable[[], object], int]]:
    """(name, work, rounds divided by)."""
    engine.run("run", "-d", "--name", "idle", "busybox", "sleep", "100000")

    engine.run("run", "--name", "talker", "busybox", *LINES)
    yield "run --rm busybox true", lambda: engine.run("run", "--rm", "busybox", "true"), 1
    yield "run --rm --network none", lambda: engine.run("run", "--rm", "--network", "none", "busybox", "true"), 1
    yield "API create+start+wait+remove", api_life_cycle(engine), 1
    yield "exec true", lambda: engine.run("exec", "idle", "true"), 1
    yield "32 at once, 16 clients", lambda: at_once(engine, 32, 16), 5
    yield "1 M lines to an attached client", lambda: engine.run("run", "--rm", "busybox", *LINES), 5
    yield "1 M lines by logs", lambda: engine.run("logs", "talker"), 5
    yield "200 MB of lines to an attached client", lambda: engine.run("run", "--rm", "busybox", *LONG_LINES), 10


def flags(base: str) -> list[str]:
    """Roots, socket and pid file of its own; kistd and dockerd call them the same."""
    roots = ["--data-root", f"{base}/d", "--exec-root", f"{base}/e", "--pidfile", f"{base}/p"]
    return [*roots, "-H", f"unix://{base}/s"]


def start_engines(base: str) -> list[Engine]:
    engines = []
    kist = f"{base}/k"
    os.makedirs(kist)
    engines.append(Engine("kist", kist, [sys.executable, "-m", "kist.daemon.main", *flags(kist)]))
    connection = Unix(engines[0].socket)
    connection.request("POST", "/kist/images/bootstrap?distribution=busybox")
    connection.getresponse().read()
    if shutil.which("dockerd"):
        other = f"{base}/o"
        os.makedirs(other)
        engines.append(Engine("dockerd", other, ["dockerd", *flags(other)]))
        archive = engines[0].docker("save", "busybox", stdout=subprocess.PIPE).stdout
        engines[1].docker("load", input=archive, stdout=subprocess.DEVNULL)
    return engines


def measure(engines: list[Engine], rounds: int) -> list[tuple[str, list[float]]]:
    """Medians in seconds by engine."""
    suites = [list(benchmarks(engine)) for engine in engines]
    table = []
    for entries in zip(*suites, strict=True):
        name, _, divisor = entries[0]
        times: list[list[float]] = [[] for _ in engines]
        for number in range(max(2, rounds // divisor) + 1):
            for index, (_, work, _) in enumerate(entries):
                taken = timed(work)
                if number:  # the first round warms up
                    times[index].append(taken)
        table.append((name, [statistics.median(one) for one in times]))
        print(render_row(table[-1]), flush=True)
    return table


def render_row(row: tuple[str, list[float]]) -> str:
    name, values = row
    shown = " | ".join(f"{value * 1000:.1f} ms" for value in values)
    ratio = f"{values[0] / values[1]:.2f}" if len(values) > 1 else ""
    return f"| {name} | {shown} | {ratio} |"


def memory_rows(engines: list[Engine]) -> list[tuple[str, list[float]]]:
    return [("engine at rest, MiB PSS", [engine.memory() for engine in engines])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    base = tempfile.mkdtemp(prefix="kb", dir="/tmp")
    engines = start_engines(base)
    try:
        head = f"| | {' | '.join(engine.name for engine in engines)} | ratio |\n|---|{'---|' * (len(engines) + 1)}"
        print(head)
        table = measure(engines, options.rounds)
        memory = memory_rows(engines)
        rows = [render_row(row) for row in table]
        for name, values in memory:
            ratio = f"{values[0] / values[1]:.2f}" if len(values) > 1 else ""
            rows.append(f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} | {ratio} |")
            print(rows[-1])
        if options.write:
            write(head, rows)
    finally:
        for engine in engines:
            with contextlib.suppress(subprocess.CalledProcessError):
                engine.run("rm", "-f", "idle", "talker")
            engine.stop()
        shutil.rmtree(base, ignore_errors=True)


def write(head: str, rows: list[str]) -> None:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    facts = f"Linux {platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    text = f"# Benchmarks\n\nMedians of interleaved rounds, taken on {today} by `make bench`: {facts}.\n"
    text += "Ratios are kist's time over the other's.\n\n"
    (ROOT / "docs" / "BENCHMARKS.md").write_text(text + head + "\n" + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
