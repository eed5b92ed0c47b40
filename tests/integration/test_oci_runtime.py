"""`kist-runtime` beside runc: the same bundles, the same calls, the same answers; and what only one of them has."""

from __future__ import annotations

import array
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4
from tests.conftest import SHARED

from kist.kernel import cgroup

KIST = shutil.which("kist-runtime", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or ""
RUNC = shutil.which("runc") or ""
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not RUNC, reason="runc is the oracle here: make packages"),
]
RUNTIMES = ("kist", "runc")
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="session")
def rootfs(busybox_archive: Path) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="kr", dir="/tmp"))
    directory.chmod(0o755)
    with tarfile.open(busybox_archive) as archive:
        for name in json.load(archive.extractfile("manifest.json") or sys.stdin)[0]["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(name)) as layer:
                layer.extractall(directory)
    yield directory
    shutil.rmtree(directory)


class Runtime:
    """One of the two, with a root of its own."""

    def __init__(self, kind: str, base: Path, rootfs: Path) -> None:
        self.kind, self.base, self.rootfs = kind, base, rootfs
        self.binary = KIST if kind == "kist" else RUNC
        self.root = str(base / "root")
        self.bundles = 0

    def __call__(self, *words: str, stdin: bytes | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
        """What it prints goes through files: a container that lives on would keep pipes open."""
        out, err = self.base / "out", self.base / "err"
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            done = subprocess.run(
                [self.binary, "--root", self.root, *words],
                input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
                stdout=stdout, stderr=stderr, timeout=60, check=False, **more,
            )  # fmt: skip
        told = err.read_text().replace('\\"', '"')  # as the log quotes it
        return subprocess.CompletedProcess(done.args, done.returncode, out.read_text(), told)

    def ok(self, *words: str, **more: Any) -> str:
        done = self(*words, **more)
        assert done.returncode == 0, f"{self.kind} {words}: {done.returncode} {done.stderr}"
        return str(done.stdout)

    def bundle(self, *arguments: str, change: Change | None = None) -> str:
        """A bundle of runc's own template without a terminal, and with what `change` does to it."""
        directory = self.base / f"b{self.bundles}"
        self.bundles += 1
        directory.mkdir()
        subprocess.run([RUNC, "spec", "--bundle", str(directory)], check=True)
        config = json.loads((directory / "config.json").read_text())
        config["process"] |= {"terminal": False, "args": list(arguments)}
        config["root"] = {"path": str(self.rootfs), "readonly": True}
        config["linux"]["cgroupsPath"] = f"/kist-oci-{self.kind}-{os.getpid()}-{self.bundles}"
        if change is not None:
            change(config)
        (directory / "config.json").write_text(json.dumps(config))
        return str(directory)

    def run(self, *arguments: str, change: Change | None = None) -> subprocess.CompletedProcess[str]:
        return self("run", "--bundle", self.bundle(*arguments, change=change), "c")

    def state(self, name: str = "c") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("state", name))
        return found

    def wait_for(self, status: str, name: str = "c") -> None:
        deadline = time.monotonic() + 10
        while self.state(name)["status"] != status:
            assert time.monotonic() < deadline, self.state(name)
            time.sleep(0.02)


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that a remapped user finds his way through."""
    directory = Path(tempfile.mkdtemp(prefix="ko", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest, base: Path, rootfs: Path) -> Iterator[Runtime]:
    """Each test goes through both; afterwards nothing of it is left."""
    yield from _runtime(request.param, base, rootfs)


@pytest.fixture
def kist(base: Path, rootfs: Path) -> Iterator[Runtime]:
    yield from _runtime("kist", base, rootfs)


def _runtime(kind: str, base: Path, rootfs: Path) -> Iterator[Runtime]:
    mounts = Path("/proc/self/mountinfo").read_text()
    one = Runtime(kind, base, rootfs)
    yield one
    if os.path.isdir(one.root):
        for name in os.listdir(one.root):
            one("delete", "--force", name)
        assert os.listdir(one.root) == []
    left = [path for root in cgroup.detect().roots for path in Path(root).glob(f"kist-oci-{kind}-{os.getpid()}-*")]
    assert left == []
    assert Path("/proc/self/mountinfo").read_text() == mounts


# --- life ---


def test_run_gives_the_programs_output_and_exit_code(runtime: Runtime) -> None:
    done = runtime.run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert runtime.ok("list", "-q") == ""


def test_a_container_is_created_started_killed_and_deleted(runtime: Runtime) -> None:
    pid_file = runtime.base / "pid"
    runtime.ok("create", "--bundle", runtime.bundle("sleep", "100"), "--pid-file", str(pid_file), "c")
    state = runtime.state()
    assert state["status"] == "created"
    assert state["pid"] == int(pid_file.read_text())
    runtime.ok("start", "c")
    assert runtime.state()["status"] == "running"
    assert Path(f"/proc/{state['pid']}/comm").read_text() == "sleep\n"
    again = runtime("start", "c")
    assert (again.returncode, "cannot start an already running container" in again.stderr) == (1, True)
    refused = runtime("delete", "c")
    assert (refused.returncode, "cannot delete container c that is not stopped: running" in refused.stderr) == (1, True)
    runtime.ok("kill", "c", "KILL")
    runtime.wait_for("stopped")
    assert runtime.state()["pid"] == 0
    dead = runtime("kill", "c", "TERM")
    assert (dead.returncode, "container not running" in dead.stderr) == (1, True)
    runtime.ok("delete", "c")
    gone = runtime("state", "c")
    assert (gone.returncode, "container does not exist" in gone.stderr) == (1, True)


def test_a_created_container_is_deleted_without_force(runtime: Runtime) -> None:
    runtime.ok("create", "--bundle", runtime.bundle("sleep", "100"), "c")
    runtime.ok("delete", "c")
    assert runtime("delete", "c").returncode == 1
    runtime.ok("delete", "--force", "c")


def test_states_have_the_same_fields(base: Path, rootfs: Path) -> None:
    """And kist's are as the specification's schema wants them."""
    shown = {}
    for kind in RUNTIMES:
        (base / kind).mkdir()
        one = Runtime(kind, base / kind, rootfs)
        one.ok("create", "--bundle", one.bundle("sleep", "9", change=lambda c: c.update(annotations={"a": "b"})), "c")
        shown[kind] = one.state(), json.loads(one.ok("list", "--format", "json")), one.ok("list").split("\n")[0]
        one.ok("delete", "--force", "c")
    assert shown["kist"][0].keys() == shown["runc"][0].keys()
    assert shown["kist"][1][0].keys() == shown["runc"][1][0].keys()
    assert shown["kist"][2].split() == shown["runc"][2].split()
    validate("state-schema.json", shown["kist"][0])


def test_the_same_ids_are_refused(runtime: Runtime) -> None:
    bundle = runtime.bundle("true")
    for name in ("a/b", "..", "a b", "a\n"):
        done = runtime("run", "--bundle", bundle, name)
        assert done.returncode == 1, name
    runtime.ok("create", "--bundle", bundle, "c")
    done = runtime("create", "--bundle", bundle, "c")
    assert (done.returncode, "container with given ID already exists" in done.stderr) == (1, True)


def test_pause_and_resume(runtime: Runtime) -> None:
    runtime.ok("run", "--detach", "--bundle", runtime.bundle("sleep", "100"), "c")
    runtime.ok("pause", "c")
    assert runtime.state()["status"] == "paused"
    done = runtime("exec", "c", "true")
    assert (done.returncode, "cannot exec in a paused container" in done.stderr) == (255, True)
    runtime.ok("resume", "c")
    assert runtime.state()["status"] == "running"
    assert "container not paused" in runtime("resume", "c").stderr
    runtime.ok("pause", "c")
    runtime.ok("delete", "--force", "c")


def test_signals_of_the_foreground_reach_the_program(runtime: Runtime) -> None:
    bundle = runtime.bundle("sh", "-c", "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.1; done")
    words = [runtime.binary, "--root", runtime.root, "run", "--bundle", bundle, "c"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.read() == b"got\n"
        assert process.wait(20) == 5


# --- what a container is ---


def configured(config: dict[str, Any]) -> None:
    config["process"] |= {
        "user": {"uid": 1000, "gid": 1001, "additionalGids": [10, 20], "umask": 0o27},
        "cwd": "/tmp",
        "env": ["PATH=/bin", "A=b c"],
        "oomScoreAdj": 77,
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 5, "hard": 6}],
    }
    config["hostname"] = "h"
    config["root"]["readonly"] = False
    config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "77"}
    config["linux"]["resources"] |= {"memory": {"limit": 64 << 20}, "pids": {"limit": 33}, "cpu": {"shares": 512}}
    config["mounts"] += [
        {"destination": "/t", "type": "tmpfs", "source": "t", "options": ["size=1m", "mode=1700", "noexec"]},
        {"destination": "/b/etc", "type": "bind", "source": "/usr/share", "options": ["rbind", "ro", "nosuid"]},
    ]


LOOK = """id; umask; pwd; cd /; cat /proc/self/oom_score_adj; hostname; ulimit -c
grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status
cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni; env | sort
cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.shares
cat /sys/fs/cgroup/devices/devices.list
ls -l /dev | awk '{print $1,$3,$4,$5,$6,$NF}' | sort; ls -ld /b /b/etc /dev/shm | awk '{print $1,$3,$4,$NF}'
sed 's/^[0-9]* [0-9]* //' /proc/self/mountinfo | awk '{print $3,$4}' | sed 's/relatime//' | sort | uniq |
  grep -v /sys/fs/cgroup
ls /proc/self/fd; cat /proc/1/cgroup | sed 's/.*://; s/oci-[a-z]*-/oci-/' | sort | uniq | head -1
grep lo: /proc/net/dev | wc -l
touch /proc/sys/x 2>&1; cat /proc/timer_list | wc -c; awk '$2=="00000000"' /proc/net/route
"""


def test_a_program_finds_the_same(base: Path, rootfs: Path) -> None:
    """Identity, limits, capabilities, devices, mounts, kernel parameters, name space: seen from inside."""
    seen = {}
    for kind in RUNTIMES:
        (base / kind).mkdir()
        one = Runtime(kind, base / kind, rootfs)
        done = one.run("sh", "-c", LOOK, change=configured)
        assert done.returncode == 0, done.stderr
        seen[kind] = done.stdout.splitlines()
    difference = (
        [line for line in seen["kist"] if line not in seen["runc"]],
        [line for line in seen["runc"] if line not in seen["kist"]],
    )
    assert difference == ([], [])


def test_seccomp_of_the_configuration_holds(runtime: Runtime) -> None:
    def filtered(config: dict[str, Any]) -> None:
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"] if os.uname().machine == "x86_64" else ["SCMP_ARCH_AARCH64"],
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
        }

    done = runtime.run("mkdir", "/dev/x", change=filtered)
    assert done.returncode == 1
    assert "not supported" in done.stderr.lower()


def test_user_namespaces(runtime: Runtime) -> None:
    def mapped(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "user"})
        maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        config["linux"] |= {"uidMappings": maps, "gidMappings": maps}
        config["mounts"] = [one for one in config["mounts"] if one["type"] not in ("cgroup", "mqueue")]
        config["linux"].pop("sysctl", None)

    done = runtime.run("sh", "-c", "id -u; cat /proc/self/uid_map", change=mapped)
    assert (done.returncode, done.stdout.split()) == (0, ["0", "0", "100000", "65536"]), done.stderr


def test_tmpcopyup_begins_with_what_is_there(runtime: Runtime) -> None:
    def covered(config: dict[str, Any]) -> None:
        config["mounts"].append({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]})

    plain = runtime.run("sh", "-c", "ls -lR /etc | cut -c1-30")
    done = runtime.run("sh", "-c", "ls -lR /etc | cut -c1-30; echo x > /etc/new", change=covered)
    assert done.returncode == 0, done.stderr
    drop = re.compile("^total.*\n", re.MULTILINE)
    assert drop.sub("", done.stdout) == drop.sub("", plain.stdout)
    assert not (runtime.rootfs / "etc" / "new").exists()


# --- what goes wrong ---


def broken(**paths: Any) -> Change:
    """Changes at places like `process__cwd`."""

    def change(config: dict[str, Any]) -> None:
        for place, value in paths.items():
            *parents, last = place.split("__")
            found = config
            for word in parents:
                found = found.setdefault(word, {})
            found[last] = value

    return change


@pytest.mark.parametrize(
    ("arguments", "change", "words"),
    [
        (("nonsense",), None, 'exec: "nonsense": executable file not found in $PATH'),
        (("/etc",), None, 'exec: "/etc": '),
        (("/etc/passwd",), None, 'exec: "/etc/passwd": permission denied'),
        (("/no/such",), None, "no such file or directory"),
        (("true",), broken(process__cwd="relative"), "Cwd must be an absolute path"),
        (("true",), broken(root__path="/no/such/root"), "/no/such/root"),
        (("true",), broken(linux__sysctl={"kernel.hostname": "x"}), 'sysctl "kernel.hostname"'),
        (("true",), broken(linux__sysctl={"vm.swappiness": "1"}), "is not in a separate kernel namespace"),
        (("true",), broken(linux__namespaces=[{"type": "mount"}, {"type": "mount"}]), "duplicated ns"),
        (("true",), broken(process__rlimits=[{"type": "RLIMIT_X", "soft": 1, "hard": 1}]), "RLIMIT_X"),
        ((), None, "args must not be empty"),
    ],
)
def test_failures_have_the_same_words(
    runtime: Runtime, arguments: tuple[str, ...], change: Change | None, words: str
) -> None:
    done = runtime.run(*arguments, change=change)
    assert done.returncode == 1
    assert words in done.stderr
    assert runtime.ok("list", "-q") == ""


def test_the_log_is_json_where_asked(runtime: Runtime) -> None:
    log = runtime.base / "log"
    done = runtime("--log", str(log), "--log-format", "json", "state", "nope")
    line = json.loads(log.read_text())
    assert done.returncode == 1
    assert line.keys() == {"level", "msg", "time"}
    assert (line["level"], line["msg"]) == ("error", "container does not exist")
    assert done.stderr == "container does not exist\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--systemd-cgroup", "list"), "--systemd-cgroup is not supported"),
        (("--cgroup-manager", "systemd", "list"), "cgroupfs is the only one"),
        (("--rootless", "true", "list"), "--rootless is not supported"),
        (("create", "--no-pivot", "c"), "--no-pivot is not supported"),
        (("checkpoint", "c"), "checkpoint is not supported"),
        (("nonsense",), "no such command: nonsense"),
        (("kill", "--nonsense"), "flag provided but not defined: -nonsense"),
        (("create",), '"create" requires exactly 1 argument(s)'),
        (("create", "--bundle", "/no/such", "c"), "JSON specification file config.json not found"),
    ],
)
def test_refusals_name_their_reason(kist: Runtime, words: tuple[str, ...], told: str) -> None:
    done = kist(*words)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (broken(process__apparmorProfile="x"), "process.apparmorProfile"),
        (broken(process__selinuxLabel="x"), "process.selinuxLabel"),
        (broken(linux__intelRdt={"closID": "x"}), "linux.intelRdt"),
        (broken(linux__resources__network={"classID": 1}), "linux.resources.network"),
        (broken(linux__cgroupsPath="system.slice:a:b"), "one of systemd"),
        (broken(linux__cgroupsPath="/a/../../b"), "not a group of the container's own"),
        (broken(linux__namespaces=[{"type": "pid"}]), "mount namespace of its own"),
        (broken(linux__namespaces=[{"type": "mount"}, {"type": "time"}]), '"time" is not supported'),
        (broken(mounts=[{"destination": "/x", "type": "bind", "source": "/", "options": ["idmap"]}]), "option idmap"),
        (broken(process=7), "config.json is not a configuration"),
        (broken(process__capabilities={"bounding": ["CAP_X"]}), "CAP_X is not a capability"),
        (broken(linux__seccomp={"defaultAction": "SCMP_ACT_NONSENSE"}), "SCMP_ACT_NONSENSE"),
    ],
)
def test_what_is_not_carried_out_is_refused_by_name(kist: Runtime, change: Change, told: str) -> None:
    done = kist.run("true", change=change)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert kist.ok("list", "-q") == ""


# --- exec ---


def test_exec(runtime: Runtime) -> None:
    runtime.ok("run", "--detach", "--bundle", runtime.bundle("sleep", "100"), "c")
    done = runtime(
        "exec", "--env", "A=b", "--cwd", "/tmp", "--user", "7:8", "c", "sh", "-c", "id -u; id -g; pwd; echo $A; exit 9"
    )
    assert (done.returncode, done.stdout.split()) == (9, ["7", "8", "/tmp", "b"]), done.stderr
    process = {"args": ["sh", "-c", "echo $X"], "cwd": "/", "env": ["PATH=/bin", "X=y"]}
    (runtime.base / "p.json").write_text(json.dumps(process))
    assert runtime.ok("exec", "--process", str(runtime.base / "p.json"), "c") == "y\n"
    failed = runtime("exec", "c", "nonsense")
    assert (failed.returncode, "executable file not found in $PATH" in failed.stderr) == (255, True)
    runtime.ok("exec", "--detach", "--pid-file", str(runtime.base / "pid"), "c", "sleep", "100")
    pid = int((runtime.base / "pid").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":  # of runc's the pid is told before it becomes that
        assert time.monotonic() < deadline
        time.sleep(0.01)
    group = runtime.bundles
    assert f"kist-oci-{runtime.kind}-{os.getpid()}-{group}" in Path(f"/proc/{pid}/cgroup").read_text()
    assert pid in json.loads(runtime.ok("ps", "--format", "json", "c"))
    table = runtime.ok("ps", "c").splitlines()
    assert table[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert len(table) == 3
    runtime.ok("kill", "c", "9")
    runtime.wait_for("stopped")
    late = runtime("exec", "c", "true")
    assert (late.returncode, "cannot exec in a stopped container" in late.stderr) == (255, True)


def test_a_terminal_goes_over_the_console_socket(runtime: Runtime) -> None:
    path = str(runtime.base / "console")
    bundle = runtime.bundle(
        "sh",
        "-c",
        "tty; stty size",
        change=broken(process__terminal=True, process__consoleSize={"height": 33, "width": 77}),
    )
    refused = runtime("create", "--bundle", bundle, "c")
    assert (refused.returncode, "without setting console socket" in refused.stderr) == (1, True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(20)
        runtime.ok("create", "--bundle", bundle, "--console-socket", path, "c")
        master = _receive(listener)
        runtime.ok("start", "c")
        assert _read_all(master).replace("\r", "") == "/dev/pts/0\n33 77\n"
        runtime.wait_for("stopped")
        runtime.ok("delete", "c")
        runtime.ok("run", "--detach", "--bundle", runtime.bundle("sleep", "100"), "c")
        runtime.ok("exec", "--tty", "--detach", "--console-socket", path, "c", "tty")
        assert _read_all(_receive(listener)) == "/dev/pts/0\r\n"


def _receive(listener: socket.socket) -> int:
    connection, _ = listener.accept()
    with connection:
        _, ancillary, _, _ = connection.recvmsg(100, socket.CMSG_SPACE(4))
    descriptors = array.array("i")
    descriptors.frombytes(ancillary[0][2])
    return descriptors[0]


def _read_all(master: int) -> str:
    data = b""
    try:
        while chunk := os.read(master, 4096):
            data += chunk
    except OSError:
        pass  # the other side is closed
    os.close(master)
    return data.decode()


def test_descriptors_are_passed_on_when_asked(runtime: Runtime) -> None:
    read, write = os.pipe()
    for target, source in ((3, read), (4, write)):
        if source != target:
            os.set_inheritable(source, True)
    bundle = runtime.bundle("sh", "-c", "echo through >&3; ls /proc/self/fd | wc -l")
    words = [runtime.binary, "--root", runtime.root, "run", "--preserve-fds", "1", "--bundle", bundle, "c"]
    code = f"import os; os.dup2({write}, 3); os.execv({runtime.binary!r}, {words!r})"
    done = subprocess.run([sys.executable, "-c", code], close_fds=False, capture_output=True, timeout=60, check=False)
    os.close(write)
    assert done.returncode == 0, done.stderr
    assert os.read(read, 100) == b"through\n"
    os.close(read)


# --- hooks ---


def hook(kind: str, runtime: Runtime, *, inside: bool = False, status: int = 0) -> dict[str, Any]:
    """Notes its kind, its state and where it runs."""
    where = "/hooks" if inside else str(runtime.base / "hooks")
    script = f'read -r s; echo "{kind} $s $E $(readlink /proc/self/ns/mnt)" >> {where}/log; exit {status}'
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["E=e", "PATH=/bin:/usr/bin"], "timeout": 10}


def test_hooks_run_in_their_order_and_place(runtime: Runtime) -> None:
    (runtime.base / "hooks").mkdir()
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

    def hooked(config: dict[str, Any]) -> None:
        config["hooks"] = {kind: [hook(kind, runtime, inside=kind == "startContainer")] for kind in kinds}
        config["mounts"].append({"destination": "/hooks", "type": "bind", "source": str(runtime.base / "hooks"),
                                 "options": ["bind"]})  # fmt: skip
        config["annotations"] = {"a": "b"}

    done = runtime.run("readlink", "/proc/self/ns/mnt", change=hooked)
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ") for line in (runtime.base / "hooks" / "log").read_text().splitlines()]
    order = [line[0] for line in lines]
    if runtime.kind == "kist":  # runc runs poststart before the program is let go
        assert order == list(kinds)
    assert sorted(order) == sorted(kinds)
    own, ours = done.stdout.strip(), os.readlink("/proc/self/ns/mnt")
    for kind, text, env, namespace in lines:
        state = json.loads(text)
        assert (state["id"], state["annotations"], env) == ("c", {"a": "b"}, "e")
        assert namespace == (own if kind in ("createContainer", "startContainer") else ours), kind
        wanted = {"startContainer": "created", "poststart": "running", "poststop": "stopped"}.get(kind, "creating")
        if runtime.kind == "kist":
            assert state["status"] == wanted


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_ends_the_create(runtime: Runtime, kind: str) -> None:
    (runtime.base / "hooks").mkdir()
    done = runtime.run("true", change=broken(hooks={kind: [hook(kind, runtime, status=3)]}))
    assert done.returncode == 1
    assert "exit status 3" in done.stderr
    assert runtime.ok("list", "-q") == ""


def test_a_hook_has_its_time(kist: Runtime) -> None:
    slow = {"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}
    done = kist.run("true", change=broken(hooks={"createRuntime": [slow]}))
    assert done.returncode == 1
    assert "longer than 1 s" in done.stderr


def test_a_failure_after_start_is_told_by_start(kist: Runtime) -> None:
    """runc loses it."""
    (kist.base / "hooks").mkdir()
    bundle = kist.bundle("true", change=broken(hooks={"startContainer": [hook("startContainer", kist, status=4)]}))
    kist.ok("create", "--bundle", bundle, "c")
    done = kist("start", "c")
    assert (done.returncode, "error running hook #0" in done.stderr) == (1, True)
    kist.wait_for("stopped")


# --- limits ---


def test_update_changes_limits(runtime: Runtime) -> None:
    runtime.ok("run", "--detach", "--bundle", runtime.bundle("sleep", "100"), "c")
    name = f"kist-oci-{runtime.kind}-{os.getpid()}-{runtime.bundles}"
    layout = cgroup.detect()
    file = "memory.max" if layout.is_v2 else "memory.limit_in_bytes"
    pids = f"{layout.path('pids', name)}/pids.max"
    runtime.ok("update", "--memory", str(32 << 20), "--pids-limit", "17", "c")
    assert cgroup.read(f"{layout.path('memory', name)}/{file}") == str(32 << 20)
    assert cgroup.read(pids) == "17"
    runtime.ok("update", "--resources", "-", "c", stdin=b'{"pids": {"limit": 19}}')
    assert cgroup.read(pids) == "19"


def test_events_count(base: Path, rootfs: Path) -> None:
    """One sample of each, with the same fields of processors, memory and processes."""
    seen = {}
    for kind in RUNTIMES:
        (base / kind).mkdir()
        one = Runtime(kind, base / kind, rootfs)
        one.ok("run", "--detach", "--bundle", one.bundle("sh", "-c", "cat /bin/busybox > /dev/null; sleep 100"), "c")
        seen[kind] = json.loads(one.ok("events", "--stats", "c"))
        one.ok("delete", "--force", "c")
    ours, theirs = seen["kist"], seen["runc"]
    assert (ours["type"], ours["id"]) == ("stats", "c")
    assert ours["data"].keys() == theirs["data"].keys()
    assert ours["data"]["cpu"]["usage"]["total"] > 0
    assert ours["data"]["memory"]["usage"]["usage"] > 0
    assert ours["data"]["memory"]["raw"].keys() <= theirs["data"]["memory"]["raw"].keys()
    assert ours["data"]["pids"]["current"] in (1, 2)


# --- the specification's own files ---


def validate(name: str, data: Any) -> None:
    directory = SHARED / "reference" / "oci-runtime"
    if not directory.is_dir():
        pytest.skip("the specification's schema is not here")
    files = {path.name: json.loads(path.read_text()) for path in directory.glob("*.json")}
    registry: Registry[Any] = Registry().with_resources(
        (key, Resource.from_contents(value, default_specification=DRAFT4)) for key, value in files.items()
    )
    jsonschema.Draft4Validator(files[name], registry=registry).validate(data)


def test_spec_and_features_are_as_the_schemas_want_them(kist: Runtime) -> None:
    kist.ok("spec", "--bundle", str(kist.base))
    validate("config-schema.json", json.loads((kist.base / "config.json").read_text()))
    assert "Remove it first" in kist("spec", "--bundle", str(kist.base)).stderr
    validate("features-schema.json", json.loads(kist.ok("features")))
    assert re.fullmatch(r"kist-runtime version \S+\nspec: 1\.\d\.\d\n", kist.ok("--version"))


def test_what_enters_a_container_is_no_writable_file_of_the_host(kist: Runtime) -> None:
    """CVE-2019-5736: the interpreter is a sealed copy, and while init waits nobody inside sees even that."""
    kist.ok("create", "--bundle", kist.bundle("sleep", "100"), "c")
    exe = os.readlink(f"/proc/{kist.state()['pid']}/exe")
    assert exe.startswith("/memfd:")
