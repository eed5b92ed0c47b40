"""The daemons under measurement: how they are started, spoken to and weighed, and a row of the table."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

DOCKER = shutil.which("docker") or "docker"
OF_A_CONTAINER = ("kist-monitor", "containerd-shim")


class Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("bench", timeout=120)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Engine:
    """A daemon on its own socket and roots. Without a command it is somebody else's, and its memory is not taken."""

    def __init__(self, name: str, path: str, command: list[str] | None = None, log: str = os.devnull) -> None:
        self.name, self.socket = name, path
        self.process: subprocess.Popen[bytes] | None = None
        self.log = open(log, "wb")  # closed in stop
        if command is not None:
            self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)
        for _ in range(300):
            with contextlib.suppress(OSError):
                connection = Unix(self.socket)
                connection.request("GET", "/_ping")
                if connection.getresponse().read() == b"OK":
                    connection.close()
                    return
            time.sleep(0.1)
        raise SystemExit(f"{name} does not answer on {path}; its log is {log}")

    def docker(self, *words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        command = [DOCKER, "-H", f"unix://{self.socket}", *words]
        return subprocess.run(command, check=True, **options)  # type: ignore[call-overload, no-any-return]

    def run(self, *words: str) -> None:
        self.docker(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def processes(self) -> dict[int, str]:
        """The daemon and all its descendants with their names, containers' own processes left out."""
        parents: dict[int, list[int]] = {}
        names: dict[int, str] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    fields = Path(f"/proc/{entry}/stat").read_text()
                    names[int(entry)] = fields[fields.index("(") + 1 : fields.rindex(")")]
                    parents.setdefault(int(fields.rpartition(")")[2].split()[1]), []).append(int(entry))
        assert self.process is not None
        found: dict[int, str] = {}
        pending = [self.process.pid, *self._shims(names)]
        while pending:
            pid = pending.pop()
            found[pid] = names.get(pid, "")
            if found[pid] not in OF_A_CONTAINER:
                pending += parents.get(pid, [])
        return found

    def _shims(self, names: dict[int, str]) -> list[int]:
        """containerd's shims leave the tree; their command line names this engine's roots."""
        base = os.path.dirname(self.socket).encode()
        found = []
        for pid, name in names.items():
            if name == "containerd-shim":
                with contextlib.suppress(OSError):
                    if base in Path(f"/proc/{pid}/cmdline").read_bytes():
                        found.append(pid)
        return found

    def memory(self) -> tuple[float, float]:
        """MiB of PSS: of the engine's own processes, and of what stands beside each container."""
        processes = self.processes()
        own = sum(pss(pid) for pid, name in processes.items() if name not in OF_A_CONTAINER)
        beside = [pss(pid) for pid, name in processes.items() if name in OF_A_CONTAINER]
        return own / 1024, statistics.mean(beside) / 1024 if beside else 0.0

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
        self.log.close()


def pss(pid: int) -> int:
    """Kilobytes (proc_pid_smaps(5))."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def timed(work: Callable[[], object]) -> float:
    """Seconds; work that returns a number has taken its own time."""
    begin = time.perf_counter()
    own = work()
    return own if isinstance(own, float) else time.perf_counter() - begin


def row(name: str, shown: list[str], values: list[float], target: float) -> str:
    """`values`: kist's first; the ratio is to the second engine's."""
    ratio = f"{values[0] / values[1]:.3f}" if len(values) > 1 and values[1] else ""
    return f"| {name} | {' | '.join(shown)} | {ratio} | {target or ''} |"
