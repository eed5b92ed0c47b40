"""What a sceptical reading of the code found, against a running engine."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conftest import Kistd


def _follow(engine: Kistd, name: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(engine.socket)
    client.sendall(f"GET /containers/{name}/logs?stdout=1&follow=1&tail=5 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


def test_more_follow_a_log_than_the_kernel_has_inotify_instances(own_engine: Kistd) -> None:
    own_engine.docker("run", "-di", "--name", "talker", "busybox", "sh", "-c", "echo first; read x; echo last")
    assert own_engine.process is not None
    descriptors = f"/proc/{own_engine.process.pid}/fd"
    before = len(os.listdir(descriptors))
    clients = [_follow(own_engine, "talker") for _ in range(200)]
    time.sleep(1)
    own_engine.docker("attach", "talker", stdin=b"go\n")
    for client in clients:
        got = b""
        while not got.endswith(b"0\r\n\r\n"):
            data = client.recv(1 << 16)
            assert data, got
            got += data
        assert b"first\n" in got and b"last\n" in got
        client.close()
    time.sleep(0.5)
    assert len(os.listdir(descriptors)) <= before + 2


def test_restarts_at_once_are_all_granted_and_one_that_is_refused_harms_nobody(engine: Kistd) -> None:
    engine.docker(
        "run", "-d", "--rm", "--name", "often", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"
    )
    with ThreadPoolExecutor(6) as pool:
        slow = pool.submit(engine.request, "POST", "/containers/often/restart?t=1")
        time.sleep(0.2)
        assert engine.request("POST", "/containers/often/restart?t=0&signal=BOGUS")[0] == 400
        assert slow.result()[0] == 204
        answers = list(pool.map(lambda _: engine.request("POST", "/containers/often/restart?t=0")[0], range(6)))
    assert answers == [204] * 6
    engine.docker("rm", "-f", "often")


def test_paused_containers_are_removed_whoever_else_kills_them(engine: Kistd) -> None:
    def life(number: int) -> list[int]:
        found = []
        for turn in range(6):
            name = f"cold{number}-{turn}"
            engine.docker("run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "1000")
            engine.request("POST", f"/containers/{name}/pause")
            killer = threading.Thread(target=engine.request, args=("POST", f"/containers/{name}/kill"))
            killer.start()
            found.append(engine.request("DELETE", f"/containers/{name}?force=1")[0])
            killer.join()
        return found

    with ThreadPoolExecutor(3) as pool:
        assert {status for answers in pool.map(life, range(3)) for status in answers} == {204}


def test_an_image_may_name_a_signal_that_there_is_none_of(engine: Kistd) -> None:
    engine.docker("run", "-d", "--name", "strange", "--stop-signal", "77", "busybox", "sleep", "1000")
    status, answer = engine.request("POST", "/commit?container=strange&repo=strange&changes=STOPSIGNAL%20bogus")
    assert (status, answer) == (400, {"message": "invalid signal: bogus"})
    assert engine.request("POST", "/containers/strange/stop?t=1")[0] == 204
    engine.docker("rm", "strange")


def test_a_prune_counts_what_really_went(engine: Kistd) -> None:
    engine.request("POST", "/images/prune")  # what other tests have left without a name
    engine.docker("run", "--name", "base", "busybox", "true")
    engine.docker("commit", "base")
    status, answer = engine.request("POST", "/images/prune")
    assert status == 200 and len(answer["ImagesDeleted"]) == 1 and answer["SpaceReclaimed"] == 0
    engine.docker("rm", "base")
    engine.docker("run", "--name", "more", "busybox", "sh", "-c", "head -c 5000 /dev/zero >/file")
    engine.docker("commit", "more")
    status, answer = engine.request("POST", "/images/prune")
    assert status == 200 and answer["SpaceReclaimed"] == 5000
    engine.docker("rm", "more")


def test_files_that_do_not_say_how_long_they_are_are_copied(engine: Kistd, tmp_path: Path) -> None:
    engine.docker("run", "-d", "--name", "live", "busybox", "sleep", "1000")
    engine.docker("cp", "live:/proc/version", str(tmp_path / "version"))
    assert (tmp_path / "version").read_text() == Path("/proc/version").read_text()
    engine.docker("cp", "live:/proc/kmsg", str(tmp_path / "kmsg"))
    engine.docker("rm", "-f", "live")


def test_nobody_has_no_name(engine: Kistd) -> None:
    body = json.dumps({"Image": "busybox", "HostConfig": {"IpcMode": "container:"}}).encode()
    made = engine.request("POST", "/containers/create?name=lonely", body, {"Content-Type": "application/json"})
    told = made if made[0] != 201 else engine.request("POST", "/containers/lonely/start")
    assert told[0] == 400 and 'invalid name or ID supplied: ""' in told[1]["message"]
    engine.request("DELETE", "/containers/lonely?force=1")


def test_readers_of_a_long_log_keep_nobody_waiting(engine: Kistd) -> None:
    """They took the whole event loop: nobody else was answered before the log was read."""
    engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", "seq 400000; echo LAST")
    engine.ok("wait", "box")

    def read(path: str) -> None:
        assert b"LAST" in engine.request(path.partition(" ")[0], path.partition(" ")[2])[1]

    paths = ["GET /containers/box/logs?stdout=1"] * 2 + ["GET /containers/box/logs?stdout=1&timestamps=1"]
    with ThreadPoolExecutor(3) as pool:
        begin = time.monotonic()
        readers = [pool.submit(read, path) for path in paths]
        waits = []
        while not all(reader.done() for reader in readers):
            asked = time.monotonic()
            engine.request("GET", "/_ping")
            waits.append(time.monotonic() - asked)
        whole = time.monotonic() - begin
        for reader in readers:
            reader.result()
    assert len(waits) > 10, (waits, whole)
    assert max(waits) < whole / 4, (waits, whole)
