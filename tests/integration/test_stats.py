"""What containers use: by the API, by docker and by kist, with a container that is known to use something."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.conftest import Kistd

EMPTY_CPU = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


def stats(engine: Kistd, name: str, query: str = "stream=0") -> dict[str, Any]:
    status, answer = engine.request("GET", f"/containers/{name}/stats?{query}")
    assert status == 200, answer
    found: dict[str, Any] = answer
    return found


def kist(engine: Kistd, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kist.cli.main", "-H", engine.host, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_processor_time_and_memory_and_processes(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "busy", "-m", "64m", "--pids-limit", "50", "busybox", "sh", "-c",
              "dd if=/dev/zero of=/dev/shm/x bs=1M count=8; while :; do :; done")  # fmt: skip
    time.sleep(0.3)
    found = stats(engine, "busy")
    assert found["name"] == "/busy"
    used = found["cpu_stats"]["cpu_usage"]["total_usage"] - found["precpu_stats"]["cpu_usage"]["total_usage"]
    machine = found["cpu_stats"]["system_cpu_usage"] - found["precpu_stats"]["system_cpu_usage"]
    assert 0 < used <= 1.2 * machine
    assert used / machine * found["cpu_stats"]["online_cpus"] > 0.1, "a loop uses a good part of a processor"
    assert (8 << 20) < found["memory_stats"]["usage"] < (64 << 20)
    assert found["memory_stats"]["limit"] == 64 << 20
    assert found["pids_stats"] == {"current": 1, "limit": 50}
    assert found["preread"] < found["read"]


def test_traffic_is_told_by_interface(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "net", "busybox", "sleep", "60")
    before = stats(engine, "net", "stream=0&one-shot=1")["networks"]["eth0"]
    gateway = engine.request("GET", "/containers/net/json")[1]["NetworkSettings"]["Gateway"]
    engine.ok("exec", "net", "ping", "-c", "3", "-i", "0.1", "-s", "1000", gateway)
    after = stats(engine, "net", "stream=0&one-shot=1")["networks"]["eth0"]
    assert after["tx_bytes"] - before["tx_bytes"] >= 3000
    assert after["tx_packets"] - before["tx_packets"] >= 3
    engine.ok("run", "-d", "--name", "host", "--network", "host", "busybox", "sleep", "60")
    assert "networks" not in stats(engine, "host", "stream=0&one-shot=1")
    engine.ok("run", "-d", "--name", "none", "--network", "none", "busybox", "sleep", "60")
    assert "networks" not in stats(engine, "none", "stream=0&one-shot=1")


def test_one_shot_does_not_wait_and_has_nothing_before(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "60")
    begin = time.monotonic()
    found = stats(engine, "box", "stream=0&one-shot=1")
    assert time.monotonic() - begin < 0.9
    assert found["precpu_stats"] == EMPTY_CPU
    assert found["preread"] == "0001-01-01T00:00:00Z"
    assert engine.request("GET", "/containers/box/stats?one-shot=1") == (
        400, {"message": "cannot have stream=true and one-shot=true"})  # fmt: skip
    assert engine.request("GET", "/v1.40/containers/box/stats?stream=0&one-shot=1")[1]["precpu_stats"] != EMPTY_CPU


def test_a_container_that_does_not_run_uses_nothing(engine: Kistd) -> None:
    made = engine.ok("create", "--name", "box", "busybox").strip()
    for query in ("stream=0", "stream=0&one-shot=1"):
        found = stats(engine, "box", query)
        assert (found["id"], found["name"], found["read"]) == (made, "/box", "0001-01-01T00:00:00Z")
        assert found["cpu_stats"] == found["precpu_stats"] == EMPTY_CPU
        assert found["memory_stats"] == found["pids_stats"] == {}
        assert set(found["blkio_stats"].values()) == {None}
        assert "networks" not in found
    assert engine.request("GET", "/containers/none/stats")[0] == 404


class Stream:
    """A client of the stream, line by line."""

    def __init__(self, engine: Kistd, name: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(engine.socket)
        self.socket.sendall(f"GET /containers/{name}/stats HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.file = self.socket.makefile("rb")

    def sample(self) -> dict[str, Any]:
        while (line := self.file.readline()) not in (b"", b"0\r\n"):
            if line.startswith(b"{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise EOFError

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def test_clients_share_one_sampler_which_stops_with_the_last(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "60")
    clients = [Stream(engine, "box") for _ in range(3)]
    first = [one.sample()["read"] for one in clients]
    second = [one.sample() for one in clients]
    assert len({one["read"] for one in second}) == 1, "the same sample for all"
    assert first[0] == second[0]["preread"]
    for one in clients:
        one.close()
    assert engine.process is not None
    time.sleep(1.2)
    before = _switches(engine.process.pid)
    time.sleep(2.2)
    assert _switches(engine.process.pid) - before < 2, "nobody listens, nothing is read"


def _switches(pid: int) -> int:
    """Bytes that kistd read from files, in reads (proc_pid_io(5))."""
    return int(Path(f"/proc/{pid}/io").read_text().split("syscr: ")[1].split()[0])


def test_the_stream_goes_on_over_a_stop_and_ends_with_the_removal(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "60")
    client = Stream(engine, "box")
    assert client.sample()["pids_stats"]["current"] == 1
    engine.ok("kill", "box")
    deadline = time.monotonic() + 5
    while client.sample()["pids_stats"] and time.monotonic() < deadline:
        pass
    assert client.sample()["memory_stats"] == {}
    engine.ok("rm", "box")
    try:
        while True:
            client.sample()
    except EOFError:
        pass
    client.close()


def test_a_client_that_does_not_read_holds_up_no_other(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "60")
    stalled, reader = Stream(engine, "box"), Stream(engine, "box")
    begin = time.monotonic()
    for _ in range(3):
        reader.sample()
    assert time.monotonic() - begin < 3.5
    stalled.close()
    reader.close()


def test_the_tables_of_docker_and_kist(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "60")
    engine.ok("create", "--name", "idle", "busybox")
    shape = r"[0-9a-f]{12}\|box\|[0-9.]+%\|[0-9.]+[KM]?i?B / [0-9.]+GiB\|[0-9.]+%\|[0-9.]+k?B / [0-9.]+k?B\|[0-9.]+[kM]?B / [0-9.]+[kM]?B\|1"  # noqa: E501
    columns = "{{.ID}}|{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.MemPerc}}|{{.NetIO}}|{{.BlockIO}}|{{.PIDs}}"

    def by_kist(*words: str) -> str:
        return kist(engine, *words).stdout

    for run in (engine.ok, by_kist):
        assert re.fullmatch(shape, run("stats", "--no-stream", "--format", columns, "box").strip())
        assert re.fullmatch(shape, run("stats", "--no-stream", "--format", columns).strip())
        both = run("stats", "--no-stream", "--all", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}")
        assert "idle 0B / 0B 0" in both
        assert "box" in both
    table = kist(engine, "stats", "--no-stream", "box").stdout.splitlines()
    expected = engine.ok("stats", "--no-stream", "box").splitlines()
    assert table[0].split() == expected[0].split()
    assert len(kist(engine, "stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}").stdout.strip()) == 64


def test_a_container_that_is_not_there(engine: Kistd) -> None:
    result = kist(engine, "stats", "--no-stream", "none")
    told = engine.docker("stats", "--no-stream", "none")
    assert (result.returncode, result.stderr) == (1, "Error response from daemon: No such container: none\n")
    assert told.status == 1
    assert told.errors == result.stderr


def test_the_picture_is_painted_over_itself(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "60")
    command = [sys.executable, "-m", "kist.cli.main", "-H", engine.host, "stats", "--format", "{{.Name}}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        engine.ok("run", "-d", "--name", "late", "busybox", "sleep", "60")
        deadline = time.monotonic() + 10
        while not any("late" in line for line in lines) and time.monotonic() < deadline:
            lines.append(process.stdout.readline())
        process.terminate()
    assert lines[0] == "\033[Hbox \033[K\n"
    assert any("late" in line for line in lines)


def test_fifty_at_once_take_one_interval(engine: Kistd) -> None:
    names = [f"c{number}" for number in range(50)]
    for name in names:
        engine.request("POST", f"/containers/create?name={name}",
                       {"Image": "busybox", "Cmd": ["sleep", "60"], "HostConfig": {"NetworkMode": "none"}})  # fmt: skip
        assert engine.request("POST", f"/containers/{name}/start")[0] == 204
    results: dict[str, dict[str, Any]] = {}
    threads = [threading.Thread(target=lambda name=name: results.update({name: stats(engine, name)})) for name in names]
    begin = time.monotonic()
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert time.monotonic() - begin < 4  # one second and what a busy machine needs; measured by bench/
    assert len(results) == 50
    assert all(one["pids_stats"]["current"] == 1 for one in results.values())
