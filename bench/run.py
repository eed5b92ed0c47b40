"""The same work on several engines in turn (A B A B …), by the stock docker command and by plain HTTP.

`python bench/run.py [--rounds N] [--starts N] [--write] [NAME=SOCKET …]` starts a private kistd, and a private dockerd
where it is installed, takes further engines by name and socket (they need an image `busybox`), prints medians and
ratios, and with --write records them in docs/BENCHMARKS.md. Runs as root, on a quiet machine; both
engines are in mount and network namespaces of the benchmark's own.
"""

from __future__ import annotations

import argparse
import compileall
import datetime
import io
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import many
from engines import DOCKER, Engine, Unix, row, timed
from kist.daemon.purge import purge
from kist.kernel.rtnetlink import RouteSocket

ROOT = Path(__file__).resolve().parents[1]
PAUSE = 0.5  # seconds of quiet before a start, after which the kernel's slow paths show
ARCHIVE = Path("/var/tmp/kist-bench-busybox.tar")
SMALL_FILES = Path("/var/tmp/kist-bench-files")
IDLE = 100  # containers that idle while memory is taken


def api_life_cycle(engine: Engine, pause: float = 0) -> Callable[[], float | None]:
    """create, start, wait and remove on one kept connection; the seconds it took, without the pause before it."""
    connection = Unix(engine.socket)

    def call(method: str, path: str, body: object = None) -> bytes:
        data = json.dumps(body) if body is not None else None
        connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        answer = connection.getresponse()
        raw = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {raw!r}")
        return raw

    def once() -> float:
        time.sleep(pause)
        begin = time.perf_counter()
        made = json.loads(call("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"]}))["Id"]
        call("POST", f"/containers/{made}/start")
        call("POST", f"/containers/{made}/wait")
        call("DELETE", f"/containers/{made}")
        return time.perf_counter() - begin

    return once


def after_pause(work: Callable[[], object]) -> Callable[[], float]:
    def once() -> float:
        time.sleep(PAUSE)
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    return once


def at_once(engine: Engine, count: int, clients: int) -> None:
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda _: engine.run("run", "--rm", "busybox", "true"), range(count)))


def copy_in(engine: Engine) -> Callable[[], None]:
    """Three hundred small files into a directory that is not there yet. They stay: ext4 creates files slowly for a
    while after many were removed, and that would be measured.
    """
    numbers = itertools.count()
    return lambda: engine.run("cp", str(SMALL_FILES), f"idle:/tmp/copied{next(numbers)}")


def put_archive(engine: Engine) -> Callable[[], float]:
    """The engine's part of that alone: of the time above, the docker command takes most for itself."""
    connection = Unix(engine.socket)
    numbers = itertools.count()

    def once() -> float:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            archive.add(SMALL_FILES, f"put{next(numbers)}")
        begin = time.perf_counter()
        connection.request("PUT", "/containers/idle/archive?path=/tmp", packed.getvalue())
        answer = connection.getresponse()
        raw = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{answer.status} {raw!r}")
        return time.perf_counter() - begin

    return once


def make_small_files() -> None:
    shutil.rmtree(SMALL_FILES, ignore_errors=True)
    SMALL_FILES.mkdir()
    for number in range(300):
        (SMALL_FILES / f"file{number}").write_text(f"the content of file {number}\n")


LINES = ["sh", "-c", "yes 'hello world' | head -n 1000000"]
LONG_LINES = ["sh", "-c", f"yes {'0123456789' * 7} | head -c 200000000"]


class Benchmark(NamedTuple):
    name: str
    work: Callable[[], object]
    share: int = 1  # of the rounds: rounds divided by this
    target: float = 0.0  # of the other engine's time


def benchmarks(engine: Engine) -> Iterator[Benchmark]:
    engine.run("run", "-d", "--name", "idle", "busybox", "sleep", "100000")
    engine.run("run", "--name", "talker", "busybox", *LINES)
    run = ("run", "--rm", "busybox", "true")
    yield Benchmark("run --rm busybox true", lambda: engine.run(*run), 1, 0.25)
    yield Benchmark(f"the same, {PAUSE} s apart", after_pause(lambda: engine.run(*run)), 2, 0.25)
    yield Benchmark("run --rm --network none", lambda: engine.run("run", "--rm", "--network", "none", *run[2:]))
    yield Benchmark("API create+start+wait+remove", api_life_cycle(engine), 1, 0.08)
    yield Benchmark(f"the same, {PAUSE} s apart", api_life_cycle(engine, PAUSE), 2, 0.08)
    yield Benchmark("32 at once, 16 clients", lambda: at_once(engine, 32, 16), 4, 0.15)
    yield Benchmark("exec true", lambda: engine.run("exec", "idle", "true"), 1, 0.5)
    yield Benchmark("cp of 300 small files in", copy_in(engine), 1, 0.5)
    yield Benchmark("the same as an archive, by the API", put_archive(engine), 1, 0.5)
    yield Benchmark("1 M lines to an attached client", lambda: engine.run("run", "--rm", "busybox", *LINES), 5, 0.3)
    yield Benchmark("1 M lines by logs", lambda: engine.run("logs", "talker"), 5, 0.2)
    long_lines = ("run", "--rm", "busybox", *LONG_LINES)
    yield Benchmark("200 MB of lines to an attached client", lambda: engine.run(*long_lines), 7, 0.3)


def flags(base: str) -> list[str]:
    """Roots, socket and pid file of its own; kistd and dockerd call them the same. The runtime's directory is a tmpfs,
    as /run is, where both have it by default.
    """
    runtime = f"{base}/e"
    if os.environ.get("KIST_BENCH_ISOLATED") and not os.path.ismount(runtime):
        os.makedirs(runtime, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=711", "none", runtime], check=True)
    roots = ["--data-root", f"{base}/d", "--exec-root", runtime, "--pidfile", f"{base}/p"]
    return [*roots, "-H", f"unix://{base}/s"]


def start_engines(base: str, others: list[str], engines: list[Engine]) -> None:
    """Adds to `engines`, so that those that came up are known when one does not."""
    kist = f"{base}/k"
    os.makedirs(kist)
    command = [sys.executable, "-m", "kist.daemon.main", *flags(kist)]
    engines.append(Engine("kist", f"{kist}/s", command, f"{kist}/log"))
    if shutil.which("dockerd"):
        directory = f"{base}/o"
        os.makedirs(directory)
        engines.append(Engine("dockerd", f"{directory}/s", ["dockerd", *flags(directory)], f"{directory}/log"))
    for engine in engines:
        engine.docker("load", "-i", str(ARCHIVE), stdout=subprocess.DEVNULL)
    engines += [Engine(name, path) for name, _, path in (one.partition("=") for one in others)]


def measure(engines: list[Engine], rounds: int) -> Iterator[str]:
    """Rows of the table, as soon as each is known."""
    suites = [list(benchmarks(engine)) for engine in engines]
    for entries in zip(*suites, strict=True):
        times: list[list[float]] = [[] for _ in engines]
        for number in range(max(3, rounds // entries[0].share) + 1):
            for index, entry in enumerate(entries):
                taken = timed(entry.work)
                if number:  # the first round warms up
                    times[index].append(taken)
        medians = [statistics.median(one) for one in times]
        yield row(entries[0].name, [f"{value * 1000:.1f} ms" for value in medians], medians, entries[0].target)


def scenarios(engines: list[Engine], rounds: int, chosen: list[str] | None) -> Iterator[str]:
    for name in chosen or many.SCENARIOS:
        yield from many.SCENARIOS[name](engines, rounds)


def memory(engines: list[Engine], starts: int) -> Iterator[str]:
    """With a hundred idle containers, after many starts and a minute of rest: growth of the daemon is in it."""
    engines = [engine for engine in engines if engine.process is not None]
    for engine in engines:
        once = api_life_cycle(engine)
        for _ in range(starts):
            once()
        for number in range(IDLE):
            engine.run("run", "-d", "--name", f"idle{number}", "busybox", "sleep", "100000")
    time.sleep(60)
    found = [engine.memory() for engine in engines]
    own, beside = [one[0] for one in found], [one[1] for one in found]
    context = f"{IDLE} containers, {starts} starts before, MiB PSS"
    yield row(f"engine with {context}", [f"{value:.1f}" for value in own], own, 0.4)
    yield row("each idle container's monitor, MiB PSS", [f"{value:.2f}" for value in beside], beside, 0.6)


def whole_process(engine: Engine, rounds: int) -> str:
    """`kist run` from the first byte of the interpreter to the last of the container."""
    command = shutil.which("kist", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}") or "kist"
    words = [command, "-H", f"unix://{engine.socket}", "run", "--rm", "busybox", "true"]
    times = [timed(lambda: subprocess.run(words, check=True)) for _ in range(rounds + 1)][1:]
    return f"`kist run --rm busybox true` as a whole process: {statistics.median(times) * 1000:.1f} ms (at most 60)."


def clean(engine: Engine) -> None:
    names = ["idle", "talker", *(f"idle{number}" for number in range(IDLE))]
    command = [DOCKER, "-H", f"unix://{engine.socket}", "rm", "-f", *names]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def make_image() -> None:
    """Of the distribution's own package, for which the network must be there still."""
    if ARCHIVE.exists():
        return
    with tempfile.TemporaryDirectory(prefix="kb", dir="/tmp") as base:
        command = [sys.executable, "-m", "kist.daemon.main", *flags(base), "--bridge", "none"]
        engine = Engine("kist", f"{base}/s", command, f"{base}/log")
        connection = Unix(engine.socket)
        connection.request("POST", "/kist/images/bootstrap?distribution=busybox")
        connection.getresponse().read()
        engine.docker("save", "-o", str(ARCHIVE), "busybox")
        engine.stop()
        purge(f"{base}/d", f"{base}/e")


def isolate() -> None:
    """Starts this program again where neither engine's bridges, rules and directories are anybody else's."""
    if os.environ.get("KIST_BENCH_ISOLATED"):
        for directory in ("/etc/docker", "/run/docker", "/var/lib/docker"):
            os.makedirs(directory, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
        with RouteSocket() as route:
            route.raise_loopback()
        return
    command = ["unshare", "--mount", "--net", "--propagation", "private", sys.executable, *sys.argv]
    compileall.compile_dir(ROOT / "src", quiet=1)  # as an installation is
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    os.execvpe(command[0], command, {**plain, "KIST_BENCH_ISOLATED": "1"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--starts", type=int, default=1000, help="starts before memory is taken")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument(
        "--scenario",
        action="append",
        choices=sorted(many.SCENARIOS),
        help="of bench/many.py: this one alone (may be repeated)",
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("engines", nargs="*", metavar="NAME=SOCKET")
    options = parser.parse_args()
    if not os.environ.get("KIST_BENCH_ISOLATED"):
        make_image()
    isolate()
    base = tempfile.mkdtemp(prefix="kb", dir="/tmp")
    engines: list[Engine] = []
    try:
        make_small_files()
        start_engines(base, options.engines, engines)
        names = " | ".join(engine.name for engine in engines)
        lines = [f"| | {names} | ratio | target |", f"|---|{'---|' * (len(engines) + 2)}"]
        print("\n".join(lines))
        for line in () if options.scenario else measure(engines, options.rounds):
            print(line, flush=True)
            lines.append(line)
        for line in scenarios(engines, options.rounds, options.scenario):
            print(line, flush=True)
            lines.append(line)
        if options.scenario:
            return
        for line in () if options.no_memory else memory(engines, options.starts):
            print(line, flush=True)
            lines.append(line)
        whole = whole_process(engines[0], options.rounds)
        print(whole)
        if options.write:
            write("\n".join([*lines, "", whole]))
    finally:
        for engine in engines:
            clean(engine)
            engine.stop()
        purge(f"{base}/k/d", f"{base}/k/e")
        for runtime in (f"{base}/k/e", f"{base}/o/e"):
            subprocess.run(["umount", "--lazy", runtime], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(base, ignore_errors=True)


def write(table: str) -> None:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    facts = f"Linux {platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    text = f"# Benchmarks\n\nMedians of interleaved rounds, taken on {today} by `make bench`: {facts}.\n"
    text += "The ratio is kist's number over dockerd's, the target what it must not exceed. "
    text += "The runtime directories of both are on a tmpfs, as /run is. "
    text += "Of a cp the docker command takes about 55 ms for itself, whatever the engine.\n\n"
    (ROOT / "docs" / "BENCHMARKS.md").write_text(f"{text}{table}\n")


if __name__ == "__main__":
    main()
