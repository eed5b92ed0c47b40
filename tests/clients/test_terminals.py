"""Streams and terminals through both commands, with kistd killed in the middle where that must not show."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.clients.terminal import COMMANDS, PROMPT, Terminal, command, environment
from tests.conftest import Kistd

DETACH = b"\x10\x11"
COUNT = 120_000

Open = Callable[..., Terminal]


@pytest.fixture(params=sorted(COMMANDS))
def cli(request: pytest.FixtureRequest) -> str:
    """Each test runs with the stock docker command and with kist."""
    return str(request.param)


@pytest.fixture
def terminals() -> Iterator[Open]:
    """Opens terminals, and closes them whatever happens."""
    opened: list[Terminal] = []

    def open_one(engine: Kistd, name: str, *words: str, rows: int = 24, columns: int = 80) -> Terminal:
        opened.append(Terminal(engine, command(name, engine, *words), rows, columns))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def spawn(engine: Kistd, name: str, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(name, engine, *words), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=environment(engine))  # fmt: skip


def run(engine: Kistd, name: str, *words: str, stdin: bytes | None = None) -> tuple[int, bytes, bytes]:
    """(status, standard output, standard error)."""
    done = subprocess.run(
        command(name, engine, *words),
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        env=environment(engine),
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def state(engine: Kistd, name: str) -> dict[str, object]:
    status, found = engine.request("GET", f"/containers/{name}/json")
    assert status == 200, found
    return dict(found["State"])


def restart(engine: Kistd) -> None:
    engine.kill()
    time.sleep(0.1)
    engine.start()


def numbers(data: bytes, prefix: bytes = b"n") -> list[int]:
    """The numbers of the lines that begin with `prefix`, each of which must be whole."""
    lines = [line for line in data.replace(b"\r", b"").split(b"\n") if line.startswith(prefix) and line[1:].isdigit()]
    return [int(line[1:]) for line in lines]


def loop(count: int = COUNT) -> str:
    """Counts in the shell: it is at it for a second or more, not a moment as seq is."""
    return f"i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo n$i; done"


# --- kistd is killed in the middle ---


@pytest.mark.parametrize("how", ["run", "exec"])
def test_a_terminal_loses_and_doubles_no_byte_while_kistd_is_killed(
    own_engine: Kistd, terminals: Open, cli: str, how: str
) -> None:
    if how == "run":
        one = terminals(own_engine, cli, "run", "-it", "--name", "box", "busybox", "sh")
    else:
        own_engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
        one = terminals(own_engine, cli, "exec", "-it", "box", "sh")
    one.until(PROMPT)
    one.type(f"{loop()}; echo fin''ished\n".encode())
    for mark in (COUNT // 100, COUNT // 4, COUNT // 2):
        one.until(b"n%d\r\n" % mark)
        restart(own_engine)
    seen = one.until(b"finished\r\n", 60)
    assert numbers(seen) == list(range(1, COUNT + 1))
    one.until(PROMPT, start=seen.index(b"finished\r\n"))
    one.resize(41, 133)
    deadline = time.monotonic() + 10
    while b"41 133\r\n" not in one.dialogue(b"stty size\n", b"\r\n/ # \x1b[6n"):
        assert time.monotonic() < deadline, one.seen[-500:]
    if how == "run":
        one.type(DETACH)
        assert one.wait() == 0
        assert one.restored
        assert state(own_engine, "box")["Running"] is True
        restart(own_engine)
        one = terminals(own_engine, cli, "attach", "box")
        one.dialogue(b"echo ag''ain\n", b"again\r\n")
        restart(own_engine)
    one.type(b"exit 7\n")
    assert one.wait() == 7
    if how == "run":
        assert state(own_engine, "box")["ExitCode"] == 7
        logged = own_engine.docker("logs", "box").out
        assert numbers(logged) == list(range(1, COUNT + 1))


@pytest.mark.parametrize("how", ["run", "exec"])
def test_megabytes_pass_whole_through_cat_while_kistd_is_killed(own_engine: Kistd, cli: str, how: str) -> None:
    data = os.urandom(1 << 20) * 8
    piece = 1 << 16
    words = ["run", "-i", "busybox"]
    if how == "exec":
        own_engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
        words = ["exec", "-i", "box"]
    client = spawn(own_engine, cli, *words, "sh", "-c", "cat; exit 3", stdin=subprocess.PIPE)
    fed, over = threading.Event(), threading.Event()

    def feed() -> None:
        """Never quite still, and not at its end before kistd is back."""
        assert client.stdin is not None
        for start in range(0, len(data), piece):
            client.stdin.write(data[start : start + piece])
            if start >= 1 << 20:
                fed.set()
            if not over.wait(0.02) and start >= len(data) - 16 * piece:
                over.wait(30)
        client.stdin.close()

    feeder = threading.Thread(target=feed)
    out, err = [], []
    assert client.stdout is not None and client.stderr is not None
    readers = [threading.Thread(target=lambda: out.append(client.stdout.read())),  # type: ignore[union-attr]
               threading.Thread(target=lambda: err.append(client.stderr.read()))]  # type: ignore[union-attr]  # fmt: skip
    for thread in (feeder, *readers):
        thread.start()
    assert fed.wait(10)
    restart(own_engine)
    restart(own_engine)
    over.set()
    for thread in (feeder, *readers):
        thread.join(30)
    assert client.wait(10) == 3, err
    assert err == [b""]
    assert hashlib.sha256(out[0]).digest() == hashlib.sha256(data).digest()
    client.stdout.close()
    client.stderr.close()


def test_stdout_and_stderr_stay_apart_and_whole_while_kistd_is_killed(own_engine: Kistd, cli: str) -> None:
    script = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo n$i; echo e$i >&2; done; exit 4"
    client = spawn(own_engine, cli, "run", "--name", "box", "busybox", "sh", "-c", script)
    found: dict[str, bytes] = {}
    assert client.stdout is not None and client.stderr is not None
    out, err = client.stdout, client.stderr
    first = out.readline()
    readers = [threading.Thread(target=lambda: found.update(out=first + out.read())),
               threading.Thread(target=lambda: found.update(err=err.read()))]  # fmt: skip
    for thread in readers:
        thread.start()
    for _ in range(2):
        restart(own_engine)
    for thread in readers:
        thread.join(30)
    assert client.wait(10) == 4
    assert numbers(found["out"], b"n") == list(range(1, 60_001)) and found["out"].count(b"\n") == 60_000
    assert numbers(found["err"], b"e") == list(range(1, 60_001)) and found["err"].count(b"\n") == 60_000
    logged = own_engine.docker("logs", "box")
    assert (logged.out, logged.err) == (found["out"], found["err"])
    out.close()
    err.close()


# --- the same dialogue with both commands ---

TRAP = "trap 'echo got INT; exit 11' INT; trap 'echo got TERM; exit 12' TERM; echo ready; while :; do sleep 0.05; done"
# name: (command before, with the command's own name for {C}; words; what to wait for and what then to type)
DIALOGUES: dict[str, tuple[list[str], list[str], list[tuple[bytes, bytes]]]] = {
    "a shell": ([], ["run", "--rm", "-it", "busybox", "sh"],
                [(PROMPT, b"stty size\n"), (b"24 80\r\n/ # \x1b[6n", b"echo $TERM; exit 3\n")]),
    "a terminal without stdin": ([], ["run", "--rm", "-t", "busybox", "sh", "-c", "tty; stty size; echo e >&2; exit 2"],
                                 []),
    "stdin without a terminal": ([], ["run", "--rm", "-i", "busybox", "cat"],
                                 [(b"", b"one\n"), (b"one\r\none\r\n", b"\x04")]),
    "neither": ([], ["run", "--rm", "busybox", "sh", "-c", "tty; echo e >&2; cat; exit 6"], []),
    "detached by the usual keys": ([], ["run", "-it", "--name", "{C}", "busybox", "sh"], [(PROMPT, b"echo a\n"),
                                   (b"a\r\n/ # \x1b[6n", DETACH)]),
    "detached by keys of one's own": ([], ["run", "-it", "--detach-keys", "ctrl-a,x,]", "--name", "{C}", "busybox",
                                           "sh"],
                                      [(PROMPT, b"echo "), (b"echo ", b"\x01x]")]),
    "half of the keys and then something else": ([], ["run", "--rm", "-it", "--detach-keys", "a,b,c", "busybox", "cat"],
                                                 [(b"", b"abx aabc\n\x04")]),
    "keys that do not exist": ([], ["run", "--rm", "-it", "--detach-keys", "ctrl-bogus", "busybox", "true"], []),
    "an exec with keys that do not exist": (["run", "-d", "--name", "{C}", "busybox", "sleep", "1000"],
                                            ["exec", "-it", "--detach-keys", "zz", "{C}", "true"], []),
    "interrupted by a key": ([], ["run", "--rm", "-it", "busybox", "sh", "-c", TRAP], [(b"ready\r\n", b"\x03")]),
    "interrupted without a terminal": ([], ["run", "--rm", "busybox", "sh", "-c", TRAP], [(b"ready\r\n", b"\x03")]),
    "a command that is not there": ([], ["run", "--rm", "-it", "busybox", "nosuch"], []),
    "a directory as the command": ([], ["run", "--rm", "-it", "busybox", "/etc"], []),
    "killed inside": ([], ["run", "--rm", "-it", "busybox", "sh", "-c", "kill -9 $$"], []),
    "attached and detached": (["run", "-dit", "--name", "{C}", "busybox", "cat"], ["attach", "{C}"],
                              [(b"", b"hello\n"), (b"hello\r\nhello\r\n", DETACH)]),
    "attached to the end": (["run", "-dit", "--name", "{C}", "busybox", "cat"], ["attach", "{C}"],
                            [(b"", b"hello\n"), (b"hello\r\nhello\r\n", b"\x04")]),
    "attached without stdin": (["run", "-dit", "--name", "{C}", "busybox", "sh", "-c", "sleep 1; echo over; exit 5"],
                               ["attach", "--no-stdin", "{C}"], []),
    "attached to pipes": (["run", "-di", "--name", "{C}", "busybox", "sh", "-c", "read a; echo $a; exit 8"],
                          ["attach", "{C}"], [(b"", b"one\n")]),
    "started again with pipes": (["create", "-i", "--name", "{C}", "busybox", "sh", "-c", "cat; exit 8"],
                                 ["start", "-ai", "{C}"], [(b"", b"one\n"), (b"one\r\none\r\n", b"\x04")]),
    "attached to pipes, interrupted": (["run", "-d", "--name", "{C}", "busybox", "sh", "-c", f"sleep 1; {TRAP}"],
                                       ["attach", "{C}"], [(b"ready\r\n", b"\x03")]),
    "started again with its terminal": (["create", "-it", "--name", "{C}", "busybox", "sh"], ["start", "-ai", "{C}"],
                                        [(PROMPT, b"exit 9\n")]),
    "started again, detached": (["create", "-it", "--name", "{C}", "busybox", "sh"],
                                ["start", "-ai", "--detach-keys", "ctrl-d,ctrl-d", "{C}"], [(PROMPT, b"\x04\x04")]),
    "started again with its output": (["create", "--name", "{C}", "busybox", "sh", "-c", "echo a; echo b >&2; exit 4"],
                                      ["start", "-a", "{C}"], []),
    "started, a command that is not there": (["create", "-it", "--name", "{C}", "busybox", "nosuch"],
                                             ["start", "-ai", "{C}"], []),
    "an exec": (["run", "-d", "--name", "{C}", "busybox", "sleep", "1000"], ["exec", "-it", "{C}", "sh"],
                [(PROMPT, b"stty size; tty\n"), (b"/dev/pts/0\r\n/ # \x1b[6n", b"exit 5\n")]),
    "an exec, detached": (["run", "-d", "--name", "{C}", "busybox", "sleep", "1000"], ["exec", "-it", "{C}", "sh"],
                          [(PROMPT, DETACH)]),
    "an exec, detached by keys of one's own": (["run", "-d", "--name", "{C}", "busybox", "sleep", "1000"],
                                               ["exec", "-it", "--detach-keys=x", "{C}", "sh"],
                                               [(PROMPT, b"a"), (b"\x1b[6na", b"x")]),
    "an exec of what is not there": (["run", "-d", "--name", "{C}", "busybox", "sleep", "1000"],
                                     ["exec", "-it", "{C}", "nosuch"], []),
    "an exec with stdin only": (["run", "-d", "--name", "{C}", "busybox", "sleep", "1000"],
                                ["exec", "-i", "{C}", "sh", "-c", "cat; exit 3"],
                                [(b"", b"x\n"), (b"x\r\nx\r\n", b"\x04")]),
    "an exec with a terminal only": (["run", "-d", "--name", "{C}", "busybox", "sleep", "1000"],
                                     ["exec", "-t", "{C}", "sh", "-c", "tty; stty size; exit 3"], []),
    "only stdout": ([], ["run", "--rm", "-a", "stdout", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"], []),
    "only stderr": ([], ["run", "--rm", "-a", "stderr", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"], []),
    "stdin and stdout": ([], ["run", "--rm", "-i", "-a", "stdin", "-a", "stdout", "busybox", "cat"],
                         [(b"", b"x\n"), (b"x\r\nx\r\n", b"\x04")]),
    "only stdin": ([], ["run", "--rm", "-i", "-a", "stdin", "busybox", "sh", "-c", "cat; exit 4"],
                   [(b"", b"x\n\x04")]),
    "a bogus stream": ([], ["run", "--rm", "-a", "bogus", "busybox", "true"], []),
    "followed": (["run", "-d", "--name", "{C}", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done"],
                 ["logs", "-f", "{C}"], []),
    "followed with a terminal": (["run", "-dt", "--name", "{C}", "busybox", "sh", "-c", "echo 1; sleep 0.5; echo 2"],
                                 ["logs", "-f", "{C}"], []),
}  # fmt: skip


def play(engine: Kistd, open_terminal: Open, dialogue: str) -> list[tuple[int, bytes, bool]]:
    """(exit status, bytes on the terminal, whether its modes were restored) of docker and of kist, side by side."""
    before, words, steps = DIALOGUES[dialogue]
    both = []
    for name in ("docker", "kist"):
        container = f"played-{name}"
        if before:
            engine.ok(*[word.replace("{C}", container) for word in before])
        both.append(open_terminal(engine, name, *[word.replace("{C}", container) for word in words]))
    for text, answer in steps:
        if not text:
            time.sleep(0.5)  # nothing tells that it is attached
        for one in both:
            if text:
                one.until(text)
            one.type(answer)
    return [(one.wait(), one.seen.replace(b"played-" + name, b"C"), one.restored)
            for one, name in zip(both, (b"docker", b"kist"), strict=True)]  # fmt: skip


def normal(data: bytes) -> bytes:
    """Without ids, and the name of the command that speaks."""
    data = re.sub(rb"\b[0-9a-f]{64}\b", b"ID", data)
    data = data.replace(b"\r/ # \x1b[J", b"")  # busybox draws its prompt anew when the size reaches it late
    data = re.sub(rb'time="[^"]*"', b"TIME", data)
    return re.sub(rb"\bkist\b(?=:| run| exec| start| attach)", b"docker", data)


@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_both_commands_leave_the_same_on_the_terminal(engine: Kistd, terminals: Open, dialogue: str) -> None:
    theirs, ours = play(engine, terminals, dialogue)
    assert normal(ours[1]) == normal(theirs[1])
    assert ours[0] == theirs[0]
    assert (ours[2], theirs[2]) == (True, True)


# --- signals ---


def ready(client: subprocess.Popen[bytes]) -> None:
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
@pytest.mark.parametrize("how", ["run", "attach"])
def test_signals_to_the_client_reach_the_container(engine: Kistd, cli: str, how: str, number: signal.Signals) -> None:
    words = ["run", "--name", "box", "busybox", "sh", "-c", TRAP]
    if how == "attach":
        engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", f"sleep 1; {TRAP}")
        words = ["attach", "box"]
    client = spawn(engine, cli, *words)
    ready(client)
    client.send_signal(number)
    out, err = client.communicate(timeout=10)
    assert (out, err) == (b"got %s\n" % number.name[3:].encode(), b"")
    assert client.returncode == (11 if number == signal.SIGINT else 12)


@pytest.mark.parametrize("how", ["run", "attach"])
def test_without_the_proxy_a_signal_ends_only_the_client(engine: Kistd, cli: str, how: str) -> None:
    words = ["run", "--sig-proxy=false", "--name", "box", "busybox", "sh", "-c", TRAP]
    if how == "attach":
        engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", f"sleep 1; {TRAP}")
        words = ["attach", "--sig-proxy=false", "box"]
    client = spawn(engine, cli, *words)
    ready(client)
    deadline = time.monotonic() + 10
    while client.poll() is None:  # docker wants to be told three times
        client.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert time.monotonic() < deadline
    out, _ = client.communicate()
    assert out == b"" and client.returncode != 0
    assert state(engine, "box")["Running"] is True


def test_start_passes_signals_on(engine: Kistd) -> None:
    """docker 28.2 ends at the first SIGINT here and leaves the container running, against its manual."""
    engine.ok("create", "--name", "box", "busybox", "sh", "-c", TRAP)
    client = spawn(engine, "kist", "start", "-a", "box")
    ready(client)
    client.send_signal(signal.SIGINT)
    out, _ = client.communicate(timeout=10)
    assert (client.returncode, out) == (11, b"got INT\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["TERM", "HUP"])
def test_a_client_that_is_killed_restores_its_terminal(
    engine: Kistd, terminals: Open, cli: str, number: signal.Signals
) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    one = terminals(engine, cli, "exec", "-it", "box", "sh")
    one.until(PROMPT)
    assert one.raw
    one.kill(number)
    status = one.wait()
    if cli == "kist":
        assert (status, one.restored) == (-number, True)
    else:  # docker's status is 0, and it restores after SIGTERM only
        assert one.restored or number == signal.SIGHUP


def test_a_killed_run_with_a_terminal_passes_the_signal_on_and_restores(
    engine: Kistd, terminals: Open, cli: str
) -> None:
    one = terminals(engine, cli, "run", "-it", "--name", "box", "busybox", "sh", "-c", TRAP)
    one.until(b"ready\r\n")
    one.kill(signal.SIGTERM)
    assert one.wait() == 12
    assert b"got TERM" in one.seen and one.restored


# --- streams ---


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (125, ["run", "--rm", "--memory", "1k", "busybox", "true"]),
        (126, ["run", "--rm", "busybox", "/etc/passwd"]),
        (127, ["run", "--rm", "busybox", "/no/such"]),
        (255, ["run", "--rm", "busybox", "sh", "-c", "exit 255"]),
        (0, ["run", "--rm", "busybox", "true"]),
    ],
)
def test_exit_codes_of_run(engine: Kistd, cli: str, expected: int, words: list[str]) -> None:
    assert run(engine, cli, *words)[0] == expected


@pytest.mark.parametrize(("number", "expected"), [("KILL", 137), ("TERM", 143), ("SEGV", 139)])
def test_a_container_that_dies_of_a_signal_gives_128_and_its_number(
    engine: Kistd, cli: str, number: str, expected: int
) -> None:
    script = f"(echo ready; exec sleep 100) & pid=$!; trap 'kill -{number} $pid; wait $pid; exit $?' USR1; wait $pid"
    client = spawn(engine, cli, "run", "--name", "box", "busybox", "sh", "-c", script)
    ready(client)
    if number == "KILL":  # the first process of its namespace dies of nothing else
        engine.request("POST", "/containers/box/kill?signal=KILL")
    else:
        engine.request("POST", "/containers/box/kill?signal=USR1")
    assert client.wait(10) == expected
    client.communicate()


def test_pipes_are_plain_and_binary_safe(engine: Kistd, cli: str) -> None:
    """`tar | kist run -i … | …`: bytes in, bytes out, an end in between, stderr apart."""
    data = bytes(range(256)) * 8192
    script = "cat; echo over >&2; sleep 0.2; printf '\\000\\377'; exit 3"
    status, out, err = run(engine, cli, "run", "--rm", "-i", "busybox", "sh", "-c", script, stdin=data)
    assert (status, err) == (3, b"over\n")
    assert out == data + b"\0\xff"


def test_a_reader_that_goes_away_ends_the_client(engine: Kistd, cli: str) -> None:
    client = spawn(engine, cli, "run", "--name", "box", "busybox", "yes")
    assert client.stdout is not None
    assert client.stdout.read(2) == b"y\n"
    client.stdout.close()
    assert client.wait(10) != 0
    client.communicate()


def test_a_second_client_sees_the_output_and_types_too(engine: Kistd, terminals: Open, cli: str) -> None:
    first = terminals(engine, cli, "run", "-it", "--name", "box", "busybox", "sh")
    first.until(PROMPT)
    second = terminals(engine, cli, "attach", "box")
    watcher = terminals(engine, cli, "attach", "--no-stdin", "box")
    time.sleep(0.5)
    second.dialogue(b"echo from''second\n", b"fromsecond\r\n")
    first.until(b"fromsecond\r\n")
    watcher.until(b"fromsecond\r")
    watcher.type(b"echo never''heard\n")
    first.dialogue(b"echo from''first\n", b"fromfirst\r\n")
    second.until(b"fromfirst\r\n")
    assert b"neverheard" not in first.seen
    second.type(DETACH)
    assert second.wait() == 1  # "read escape sequence"
    first.type(b"exit 6\n")
    assert (first.wait(), watcher.wait()) == (6, 6)


def test_stdin_ends_with_the_client_that_ran_it(engine: Kistd, cli: str) -> None:
    """StdinOnce: the client is killed, and the process reads an end."""
    client = spawn(engine, cli, "run", "-i", "--name", "box", "busybox", "sh", "-c", "echo ready; cat; exit 5",
                   stdin=subprocess.PIPE)  # fmt: skip
    ready(client)
    client.kill()
    client.communicate()
    status, answer = engine.request("POST", "/containers/box/wait")
    assert (status, answer) == (200, {"StatusCode": 5})


def test_stdin_of_a_detached_container_outlives_its_clients(engine: Kistd, cli: str) -> None:
    engine.ok("run", "-di", "--name", "box", "busybox", "sh", "-c", "while read line; do echo got $line; done")
    for word in (b"one", b"two"):
        client = spawn(engine, cli, "attach", "box", stdin=subprocess.PIPE)
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(word + b"\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"got %s\n" % word
        client.kill()
        client.communicate()
    assert state(engine, "box")["Running"] is True


def test_terminals_are_wanted_for_stdin(engine: Kistd, cli: str) -> None:
    for words in (["run", "-it", "busybox", "true"], ["run", "--rm", "-ti", "busybox", "true"]):
        status, out, err = run(engine, cli, *words)
        assert (status, out) == (1, b"")
        assert b"the input device is not a TTY" in err
    engine.ok("run", "-dit", "--name", "box", "busybox", "sh")
    status, _, err = run(engine, cli, "attach", "box")
    assert status == 1 and b"the input device is not a TTY" in err
    status, _, err = run(engine, cli, "exec", "-it", "box", "true")
    assert status == 1 and b"the input device is not a TTY" in err


def test_a_terminal_may_be_read_through_a_pipe(engine: Kistd, cli: str) -> None:
    """-t without -i: the terminal is inside, a pipe outside."""
    status, out, _ = run(engine, cli, "run", "--rm", "-t", "busybox", "sh", "-c", "tty; echo e >&2; exit 3")
    assert (status, out) == (3, b"/dev/pts/0\r\ne\r\n")


def test_keys_that_do_not_exist_are_refused_before_the_connection_is_taken(engine: Kistd) -> None:
    _, made = engine.request("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"], "Tty": True})
    path = f"/containers/{made['Id']}/attach?stream=1&stdout=1&detachKeys=ctrl-bogus"
    status, answer = engine.request("POST", path)
    assert (status, answer) == (400, {"message": "Invalid detach keys (ctrl-bogus) provided"})
