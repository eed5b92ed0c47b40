"""Standard streams, terminals, logs and execs through the stock client and by hand."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time

from tests.conftest import Kistd, UnixConnection


def test_stdout_and_stderr_stay_apart_and_binary_safe(engine: Kistd) -> None:
    data = os.urandom(300_000)
    result = engine.docker("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo problem >&2", stdin=data)
    assert result.status == 0
    assert result.out == data
    assert result.err == b"problem\n"


def test_stdin_ends_when_the_client_closes_it(engine: Kistd) -> None:
    assert engine.docker("run", "--rm", "-i", "busybox", "wc", "-c", stdin=b"12345").text.strip() == "5"


def test_without_i_stdin_is_empty(engine: Kistd) -> None:
    assert engine.docker("run", "--rm", "busybox", "wc", "-c", stdin=b"12345").text.strip() == "0"


def test_a_large_output_arrives_whole(engine: Kistd) -> None:
    result = engine.docker("run", "--rm", "busybox", "sh", "-c", "yes 0123456789abcdef | head -c 30000000")
    assert len(result.out) == 30_000_000
    assert set(result.out.split(b"\n")[:-1]) == {b"0123456789abcdef"}


class Terminal:
    """A program on a pseudo terminal."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execvp(arguments[0], arguments)
        self.seen = b""

    def until(self, text: bytes, seconds: float = 10) -> bytes:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come, only {self.seen!r}"
            try:
                data = os.read(self.master, 65536)
            except OSError:
                data = b""
            assert data, f"ended before {text!r}: {self.seen!r}"
            self.seen += data
        return self.seen

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def wait(self) -> int:
        try:
            while os.read(self.master, 65536):
                continue
        except OSError:
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.master)
        return os.waitstatus_to_exitcode(status)


def test_a_terminal_runs_a_shell_with_its_size_and_exit_code(engine: Kistd) -> None:
    terminal = Terminal("docker", "-H", engine.host, "run", "--rm", "-it", "busybox", "sh")
    terminal.until(b"/ # ")
    terminal.type(b"tty; echo $((6*7)); exit 9\n")
    terminal.until(b"/dev/pts/0")
    terminal.until(b"42")
    assert terminal.wait() == 9


def test_a_terminal_follows_the_size_of_the_clients(engine: Kistd) -> None:
    terminal = Terminal("docker", "-H", engine.host, "run", "--rm", "-it", "busybox", "sh")
    terminal.until(b"/ # ")
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    os.kill(terminal.pid, signal.SIGWINCH)
    time.sleep(0.3)
    terminal.type(b"stty size\n")
    terminal.until(b"33 77")
    terminal.type(b"exit\n")
    assert terminal.wait() == 0


def test_detach_keys_leave_the_container_running(engine: Kistd) -> None:
    terminal = Terminal("docker", "-H", engine.host, "run", "-it", "--name", "stays", "busybox", "sh")
    terminal.until(b"/ # ")
    terminal.type(b"\x10\x11")
    assert terminal.wait() == 0
    assert json.loads(engine.ok("inspect", "stays"))[0]["State"]["Running"] is True
    again = Terminal("docker", "-H", engine.host, "attach", "stays")
    again.type(b"echo back\n")
    again.until(b"back")
    again.type(b"exit 5\n")
    assert again.wait() == 5


def test_signals_are_passed_on(engine: Kistd) -> None:
    process = subprocess.Popen(
        ["docker", "-H", engine.host, "run", "--rm", "busybox", "sh", "-c",
         "trap 'echo caught; exit 3' TERM; echo ready; while true; do sleep 0.1; done"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    out, _ = process.communicate(timeout=20)
    assert out == b"caught\n"
    assert process.returncode == 3


def test_logs_tail_since_timestamps_and_streams(engine: Kistd) -> None:
    engine.docker("run", "--name", "talker", "busybox", "sh", "-c", "seq 5; echo bad >&2; printf partial")
    result = engine.docker("logs", "talker")
    assert result.out == b"1\n2\n3\n4\n5\npartial"
    assert result.err == b"bad\n"
    assert engine.docker("logs", "--tail", "2", "talker").out == b"partial"
    assert engine.docker("logs", "--tail", "0", "talker").out == b""
    stamped = engine.docker("logs", "-t", "talker").text.splitlines()[0]
    stamp, _, text = stamped.partition(" ")
    assert text == "1" and len(stamp) == len("2026-01-01T00:00:00.000000000Z")
    assert engine.docker("logs", "--since", "1h", "talker").out == result.out
    assert engine.docker("logs", "--until", "2001-01-01T00:00:00Z", "talker").out == b""


def test_logs_follow_to_the_end(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "slow", "busybox", "sh", "-c", "for i in 1 2 3 4; do echo $i; sleep 0.2; done")
    assert engine.docker("logs", "-f", "slow", timeout=20).out == b"1\n2\n3\n4\n"


def test_exec_runs_beside_the_first_process(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "host", "-e", "FROM=container", "busybox", "sleep", "100")
    assert engine.ok("exec", "-e", "A=b", "-w", "/etc", "host", "sh", "-c", "echo $FROM $A; pwd").split() == [
        "container",
        "b",
        "/etc",
    ]
    assert engine.docker("exec", "host", "sh", "-c", "exit 6").status == 6
    assert engine.docker("exec", "-i", "host", "cat", stdin=b"through").out == b"through"
    assert engine.ok("exec", "-u", "daemon", "host", "id", "-un").strip() == "daemon"
    missing = engine.docker("exec", "host", "nosuch")
    assert missing.status == 127
    assert 'exec: "nosuch": executable file not found in $PATH' in missing.text + missing.errors
    engine.ok("exec", "-d", "host", "sleep", "50")
    assert "sleep 50" in engine.ok("top", "host")
    own = int([line for line in open_status() if line.startswith("CapPrm")][0].split()[1], 16)
    assert int(engine.ok("exec", "--privileged", "host", "grep", "CapEff", "/proc/self/status").split()[1], 16) == own


def open_status() -> list[str]:
    with open("/proc/self/status") as file:
        return file.readlines()


def test_exec_has_a_terminal_when_asked(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "host", "busybox", "sleep", "100")
    terminal = Terminal("docker", "-H", engine.host, "exec", "-it", "host", "sh")
    terminal.until(b"/ # ")
    terminal.type(b"tty; exit 4\n")
    terminal.until(b"/dev/pts/0")
    assert terminal.wait() == 4


def test_attach_answers_as_dockerd_byte_for_byte(engine: Kistd) -> None:
    _, made = engine.request("POST", "/containers/create", {"Image": "busybox", "Cmd": ["echo", "hello"]})
    for version, kind in (("1.41", "raw"), ("1.51", "multiplexed")):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(engine.socket)
        request = f"POST /v{version}/containers/{made['Id']}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\n"
        connection.sendall(f"{request}Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
        head = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.{kind}-stream\r\n"
        expected = f"{head}Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
        got = b""
        while len(got) < len(expected):
            got += connection.recv(len(expected) - len(got))
        assert got == expected
        if version == "1.51":
            engine.request("POST", f"/containers/{made['Id']}/start")
            frame = b""
            while chunk := connection.recv(100):
                frame += chunk
            assert frame == b"\x01\0\0\0\0\0\0\x06hello\n"
        connection.close()


def test_wait_sends_its_head_at_once(engine: Kistd) -> None:
    _, made = engine.request(
        "POST", "/containers/create", {"Image": "busybox", "Cmd": ["sh", "-c", "sleep 0.3; exit 8"]}
    )
    connection = UnixConnection(engine.socket)
    connection.request("POST", f"/containers/{made['Id']}/wait?condition=next-exit")
    answer = connection.getresponse()  # returns with the head, before anything was started
    assert answer.status == 200
    engine.request("POST", f"/containers/{made['Id']}/start")
    assert json.loads(answer.read()) == {"StatusCode": 8}
    connection.close()


def test_a_client_that_stops_reading_does_not_stop_the_container(engine: Kistd) -> None:
    _, made = engine.request("POST", "/containers/create",
                             {"Image": "busybox", "Cmd": ["sh", "-c", "yes | head -c 20000000; echo x"]})  # fmt: skip
    stalled = socket.socket(socket.AF_UNIX)
    stalled.connect(engine.socket)
    path = f"/containers/{made['Id']}/attach?stream=1&stdout=1"
    stalled.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
    stalled.recv(200)
    engine.request("POST", f"/containers/{made['Id']}/start")
    status, answer = engine.request("POST", f"/containers/{made['Id']}/wait")
    assert (status, answer) == (200, {"StatusCode": 0})
    total = 0
    stalled.settimeout(20)
    while chunk := stalled.recv(1 << 20):
        total += len(chunk)
    stalled.close()
    assert total > 20_000_000  # and it still gets every byte, with the frames' headers
