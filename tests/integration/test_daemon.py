"""kistd as a daemon: its flags, daemon.json, SIGHUP, sockets, systemd's protocols, and several engines side by side."""

from __future__ import annotations

import contextlib
import grp
import io
import json
import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.conftest import ROOT, SLOWNESS, Kistd, UnixConnection, _make_engine, links

from kist.daemon.main import main as kistd_main
from kist.daemon.purge import purge
from kist.kernel.rtnetlink import RouteSocket
from kist.model.errors import InvalidParameter
from kist.settings.load import merge, parse_file, parse_flags
from kist.settings.options import BY_FLAG, BY_KEY, BY_SHORT, OPTIONS

KISTD = [sys.executable, "-m", "kist.daemon.main"]


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


def validate(*flags: str, file: object = None) -> Outcome:
    """`kistd --validate` with these flags and this daemon.json: its status and what it says, without a process."""
    with tempfile.NamedTemporaryFile("wb", suffix=".json") as config:
        config.write(file if isinstance(file, bytes) else json.dumps({} if file is None else file).encode())
        config.flush()
        out, err = io.StringIO(), io.StringIO()
        arguments = ["kistd", "--validate", "--config-file", config.name, *flags]
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr(sys, "argv", arguments)
            try:
                kistd_main()
                status = 0
            except SystemExit as end:
                status = int(str(end.code))
        return Outcome(status, out.getvalue(), err.getvalue().strip().replace(config.name, "FILE"))


# --- the table against dockerd's list ---


def _words(text: str) -> list[str]:
    return text.split()


# `dockerd --help` of 28.5, and what 20.10 had beside it.
DOCKERD = _words("""
add-runtime allow-direct-routing authorization-plugin bip bip6 bridge bridge-accept-fwmark cdi-spec-dir
cgroup-parent config-file containerd containerd-namespace containerd-plugins-namespace cpu-rt-period cpu-rt-runtime
cri-containerd data-root debug default-address-pool default-cgroupns-mode default-gateway default-gateway-v6
default-ipc-mode default-network-opt default-runtime default-shm-size default-ulimit dns dns-opt dns-search exec-opt
exec-root experimental feature firewall-backend fixed-cidr fixed-cidr-v6 group host host-gateway-ip http-proxy
https-proxy icc init init-path insecure-registry ip ip-forward ip-forward-no-drop ip-masq ip6tables iptables ipv6 label
live-restore log-driver log-format log-level log-opt max-concurrent-downloads max-concurrent-uploads
max-download-attempts metrics-addr mtu network-control-plane-mtu no-new-privileges no-proxy node-generic-resource
pidfile raw-logs registry-mirror rootless seccomp-profile selinux-enabled shutdown-timeout storage-driver storage-opt
swarm-default-advertise-addr tls tlscacert tlscert tlskey tlsverify userland-proxy userland-proxy-path userns-remap
validate allow-nondistributable-artifacts api-cors-header oom-score-adjust""")

# Keys of daemon.json that dockerd reads (daemon/config of 28.5).
KEYS = _words("""
authorization-plugins exec-opts storage-driver storage-opts labels network-diagnostic-port pidfile raw-logs
data-root exec-root group api-cors-header proxies http-proxy https-proxy no-proxy live-restore max-concurrent-downloads
max-concurrent-uploads max-download-attempts shutdown-timeout debug hosts log-level log-format tls tlsverify tlscacert
tlscert tlskey swarm-default-advertise-addr swarm-raft-heartbeat-tick swarm-raft-election-tick metrics-addr dns dns-opts
dns-search host-gateway-ip host-gateway-ips log-driver log-opts bridge fixed-cidr bip bip6 mtu default-gateway
default-gateway-v6 fixed-cidr-v6 ipv6 ip ip-forward ip-forward-no-drop ip-masq icc iptables ip6tables userland-proxy
userland-proxy-path allow-direct-routing bridge-accept-fwmark default-address-pools network-control-plane-mtu
default-network-opts firewall-backend allow-nondistributable-artifacts insecure-registries registry-mirrors experimental
node-generic-resources containerd features builder containerd-namespace containerd-plugin-namespace default-runtime
cdi-spec-dirs runtimes cgroup-parent selinux-enabled userns-remap default-ulimits cpu-rt-period cpu-rt-runtime init
init-path seccomp-profile default-shm-size no-new-privileges default-ipc-mode default-cgroupns-mode
deprecated-key-path""")


def test_the_table_has_every_flag_and_key_of_dockerd() -> None:
    assert set(DOCKERD) - set(BY_FLAG) == set()
    assert set(KEYS) - set(BY_KEY) == set()
    assert {"D", "G", "H", "b", "l", "p", "s"} <= set(BY_SHORT)


def test_the_table_has_what_the_dockerd_on_this_machine_lists() -> None:
    if shutil.which("dockerd") is None:
        pytest.skip("no dockerd here")
    text = subprocess.run(["dockerd", "--help"], capture_output=True, text=True, check=True).stdout
    listed = set(re.findall(r"^ {2,6}(?:-\w, )?--([a-z0-9-]+)", text, re.MULTILINE))
    assert len(listed) > 60
    assert listed - set(BY_FLAG) == {"help", "version"}


VALUES = {"flag": "true", "string": "x", "int": "7", "list": "x", "map": "a=b", "ip": "10.0.0.9", "ips": "10.0.0.9"}


@pytest.mark.parametrize("name", sorted(option.name for option in OPTIONS if option.refused and option.flag))
def test_a_flag_that_is_not_supported_is_refused_by_name(name: str) -> None:
    option = BY_FLAG[name]
    value = "false" if option.kind == "flag" and option.harmless is True else VALUES[option.kind]
    shown = f"--{name}=false" if option.harmless is True else f"--{name}"
    with pytest.raises(InvalidParameter, match=re.escape(f"{shown} is not supported: {option.refused}")):
        merge(parse_flags([f"--{name}={value}"]), {}, "/x")


@pytest.mark.parametrize("key", sorted(key for key, option in BY_KEY.items() if option.refused))
def test_a_key_that_is_not_supported_is_refused_by_name_whatever_its_value(key: str) -> None:
    option = BY_KEY[key]
    for value in ({"x": {"y": 1}}, ["x"], "x", 77):
        with pytest.raises(InvalidParameter, match=f"{re.escape(key if not option.flag else option.name)}.* is not"):
            merge({}, parse_file(json.dumps({key: value}), "/x"), "/x")


def test_a_refused_flag_ends_kistd_with_status_1_and_one_line() -> None:
    done = subprocess.run([*KISTD, "--userns-remap", "default"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "--userns-remap is not supported: a remapped root for all containers comes with a later version\n"
    )


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--bogus"], "unknown flag: --bogus\nSee 'kistd --help'."),
        (["-z"], "unknown shorthand flag: 'z' in -z\nSee 'kistd --help'."),
        (["--mtu"], "flag needs an argument: --mtu\nSee 'kistd --help'."),
        (["--mtu", "x"], 'invalid argument "x" for "--mtu" flag: a whole number is expected\nSee \'kistd --help\'.'),
        (["--mtu", "-1"], "invalid value -1 for --mtu: at least 0 is expected"),
        (["-D=maybe"], 'invalid argument "maybe" for "-D, --debug" flag: true or false is expected\n'
                       "See 'kistd --help'."),
        (["extra"], '"kistd" accepts no arguments, got "extra".\nSee \'kistd --help\'.'),
        (["--label", "foo"], "bad attribute format: foo"),
        (["--label", "a=1", "--label", "a=2"], "conflict labels for a=2 and a=1"),
        (["--log-level", "loud"], "invalid logging level: loud"),
        (["--default-ipc-mode", "x"], 'default IPC mode setting (x) is invalid; use "shareable" or "private"'),
        (["--default-cgroupns-mode", "x"], 'default cgroup namespace mode (x) is invalid; use "host" or "private"'),
        (["-H", "bad://x"], "Invalid bind address format: bad://x: use unix://, tcp:// or fd://"),
        (["-b", "br0", "--bip", "10.1.1.1/24"],
         "You specified -b & --bip, mutually exclusive options. Please specify only one"),
        (["--bip", "10.1.1.1"], "invalid value '10.1.1.1' for --bip: a prefix length is missing"),
        (["--bip", "10.1.1.300/24"], "invalid value '10.1.1.300/24' for --bip:"),
        (["--exec-opt", "native.cgroupdriver=systemd"],
         "--exec-opt native.cgroupdriver=systemd is not supported: this engine manages cgroups itself"),
        (["--feature", "containerd-snapshotter"],
         "--feature containerd-snapshotter is not supported: kist has no feature of that name to switch on"),
        (["--oom-score-adjust=-500"], "--oom-score-adjust is not supported: it was removed from Docker: use "
                                      "OOMScoreAdjust= in the unit that starts kistd"),
    ],
)  # fmt: skip
def test_a_wrong_flag_is_told_in_dockerds_words(flags: list[str], text: str) -> None:
    done = validate(*flags)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(text), done.err


@pytest.mark.parametrize(
    "flags",
    [
        ["--raw-logs"], ["--live-restore"], ["--userland-proxy=false"], ["--ip6tables=true"], ["--feature", "x=false"],
        ["--exec-opt", "native.cgroupdriver=cgroupfs"], ["--max-concurrent-downloads", "3"], ["-Dl", "warn"],
        ["--firewall-backend", "nftables"], ["--shutdown-timeout", "-1"], ["--storage-driver=vfs"],
    ],
)  # fmt: skip
def test_what_is_so_anyway_may_be_named(flags: list[str]) -> None:
    assert (validate(*flags).status, validate(*flags).out) == (0, "configuration OK\n")


CONFLICTS = [
    ({"labels": ["a=1"], "debug": True, "bip": "10.1.0.1/24"},
     ["--label", "b=2", "--debug=false", "--bip", "10.2.0.1/24"],
     "the following directives are specified both as a flag and in the configuration file: bip: (from flag: "
     "10.2.0.1/24, from file: 10.1.0.1/24), debug: (from flag: false, from file: true), labels: (from flag: [b=2], "
     "from file: [a=1])"),
    ({"log-opts": {"max-file": "3"}}, ["--log-opt", "max-size=1m"],
     "the following directives are specified both as a flag and in the configuration file: log-opts: (from flag: "
     "map[max-size:1m], from file: map[max-file:3])"),
    ({"hosts": ["unix:///a"]}, ["-H", "unix:///b"],
     "the following directives are specified both as a flag and in the configuration file: hosts: (from flag: "
     "[unix:///b], from file: [unix:///a])"),
    ({"nope": 1, "zzz": 2}, [], "the following directives don't match any configuration option: nope, zzz"),
    ({"debug": "x"}, [], "json: cannot unmarshal string into Go struct field Config.debug of type bool"),
    ({"mtu": "9000"}, [], "json: cannot unmarshal string into Go struct field Config.mtu of type int"),
    ({"log-opts": {"max-file": 3}}, [], "json: cannot unmarshal number into Go struct field Config.log-opts of type "
                                        "string"),
    ({"labels": [1]}, [], "json: cannot unmarshal number into Go struct field Config.labels of type string"),
    ({"host-gateway-ip": "10.0.0.1", "host-gateway-ips": ["10.0.0.2"]}, [], "host-gateway-ips names again"),
    (b'{"debug":', [], "Expecting value"),
    (b"[]", [], "an object is expected"),
    (b'{"labels": ["\xff"]}', [], "it is not UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "flags", "text"), CONFLICTS)
def test_a_wrong_file_is_told_in_dockerds_words(file: object, flags: list[str], text: str) -> None:
    done = validate(*flags, file=file)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"unable to configure the Docker daemon with file FILE: {text}"), done.err


def test_a_file_that_is_not_there_is_an_error_only_when_it_was_named() -> None:
    done = subprocess.run([*KISTD, "--validate", "--config-file", "/nowhere.json"], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "unable to configure the Docker daemon with file /nowhere.json: open /nowhere.json: no such file or directory\n"
    )


def test_a_byte_order_mark_is_skipped() -> None:
    assert validate(file=b'\xef\xbb\xbf{"debug": true}').status == 0


def test_help_that_nobody_reads_to_its_end() -> None:
    done = subprocess.run(
        ["sh", "-c", f"{' '.join(KISTD)} --help | head -c 1"], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("\n", "")


def test_help_names_what_is_not_supported() -> None:
    text = subprocess.run([*KISTD, "--help"], capture_output=True, text=True, check=True).stdout
    for name in DOCKERD:
        if not BY_FLAG[name].hidden:
            line = next(line for line in text.splitlines() if f"--{name} " in f"{line} ")
            assert ("not supported" in line) == bool(BY_FLAG[name].refused), line


def test_help_says_which_value_is_refused_and_writes_lists_as_they_are_given() -> None:
    text = subprocess.run([*KISTD, "--help"], capture_output=True, text=True, check=True).stdout
    assert "(default /etc/cdi,/var/run/cdi)" in text
    for told in (
        "still running (false is not supported: containers of kist always outlive the daemon)",
        "rootless mode (not supported: running without root",
        "(values other than 3 are not supported: pull and push",
    ):
        assert told in text


# --- starting: what is refused, and that nothing is left of it ---


@pytest.fixture
def base() -> Iterator[str]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    path = tempfile.mkdtemp(prefix="kd", dir="/tmp")
    yield path
    if os.path.exists(f"{path}/d/kist.db"):
        purge(f"{path}/d", f"{path}/e")
    shutil.rmtree(path)


def refused(base: str, *flags: str, environment: dict[str, str] | None = None) -> str:
    """The last line of a kistd that does not start."""
    before = set(links())
    Path(f"{base}/c.json").write_text("{}")
    done = subprocess.run(
        [*KISTD, "--data-root", f"{base}/d", "--exec-root", f"{base}/e", "-H", f"unix://{base}/s", "--pidfile",
         f"{base}/p", "--config-file", f"{base}/c.json", *flags],
        capture_output=True, text=True, timeout=20, check=False, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert not os.path.exists(f"{base}/s") and not os.path.exists(f"{base}/p")
    assert set(links()) <= before, "a bridge was left"
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--log-opt", "foo=1"],
         "failed to start daemon: failed to set log opts: unknown log opt 'foo' for json-file log driver"),
        (["--log-driver", "nope"],
         "failed to start daemon: failed to set log opts: logger: no log driver named 'nope' is registered"),
        (["--seccomp-profile", "/nope"],
         "failed to start daemon: opening seccomp profile (/nope) failed: open /nope: no such file or directory"),
        (["--group", "nope"], "failed to start daemon: failed to load listeners: group nope not found"),
        (["--storage-driver", "zfs"],
         "failed to start daemon: unknown storage driver 'zfs': use one of overlay, vfs"),
        (["--init-path", "/nope"],
         "failed to start daemon: --init-path /nope: there is no such file that can be executed"),
        (["--bridge", "nobr0"], "failed to start daemon: bridge nobr0 does not exist: --bridge wants one that is "
                                "there"),
        (["--bip", "10.99.1.1/24", "--fixed-cidr", "10.98.0.0/24"],
         "failed to start daemon: --fixed-cidr 10.98.0.0/24 is not a part of 10.99.1.0/24, the subnet of the default "
         "bridge"),
        (["--bip", "10.99.1.1/24", "--default-gateway", "10.98.0.1"],
         "failed to start daemon: --default-gateway 10.98.0.1 is not in 10.99.1.0/24, the subnet of the bridge"),
        (["-H", "unix:///etc/passwd"], "failed to start daemon: cannot listen on unix:///etc/passwd: a file that is no "
                                       "socket is there already"),
        (["-H", "tcp://192.0.2.1:2375"], "failed to start daemon: cannot listen on tcp://192.0.2.1:2375: Cannot assign "
                                         "requested address"),
        (["-H", "fd://"], "failed to start daemon: no sockets found via socket activation: make sure the service was "
                          "started by systemd"),
    ],
)  # fmt: skip
def test_a_start_that_cannot_be_is_refused_and_leaves_nothing(base: str, flags: list[str], text: str) -> None:
    assert refused(base, *flags) == text
    assert Path("/etc/passwd").stat().st_size > 0


# --- effects ---


@contextlib.contextmanager
def running(base: str, *flags: str, config: dict[str, Any] | None = None) -> Iterator[Kistd]:
    engine = Kistd(base, *flags)
    Path(f"{base}/c.json").write_text(json.dumps(config or {}))
    engine.start()
    try:
        yield engine
    finally:
        if engine.process is not None and engine.process.poll() is None:
            engine.remove_all()
            assert engine.stop() == 0, engine.log()
        purge(f"{base}/d", f"{base}/e")


def load_busybox(engine: Kistd, archive: Path) -> None:
    status, answer = engine.request("POST", "/images/load", archive.read_bytes(), {"Content-Type": "application/x-tar"})
    assert status == 200, answer


def test_settings_have_their_effects_on_info_and_containers(base: str, busybox_archive: Path) -> None:
    profile = Path(f"{base}/seccomp.json")
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}))  # fmt: skip
    config = {
        "labels": ["rack=7"], "experimental": True, "bip": "10.213.4.1/24", "fixed-cidr": "10.213.4.64/28", "mtu": 1400,
        "dns": ["10.9.9.9"], "dns-search": ["example.test"], "dns-opts": ["ndots:3"], "log-opts": {"max-size": "10k"},
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 512, "Hard": 600}}, "default-shm-size": "32m",
        "no-new-privileges": True, "init": True, "default-ipc-mode": "shareable", "seccomp-profile": str(profile),
        "cgroup-parent": f"kd-{os.path.basename(base)}", "host-gateway-ip": "10.1.2.3", "icc": False,
        "storage-driver": "vfs", "default-cgroupns-mode": "private", "log-format": "json", "debug": True,
    }  # fmt: skip
    with running(base, config=config) as engine:
        load_busybox(engine, busybox_archive)
        info = engine.request("GET", "/info")[1]
        assert (info["Labels"], info["ExperimentalBuild"], info["Driver"]) == (["rack=7"], True, "vfs")
        assert info["SecurityOptions"] == [f"name=seccomp,profile={profile}", "name=cgroupns", "name=no-new-privileges"]
        assert engine.request("GET", "/version")[1]["Experimental"] is True
        connection = UnixConnection(engine.socket)
        connection.request("GET", "/_ping")
        assert connection.getresponse().getheader("Docker-Experimental") == "true"
        connection.close()
        engine.ok("run", "-d", "--name", "effects", "--add-host", "up:host-gateway", "busybox", "sleep", "100")
        found = json.loads(engine.ok("inspect", "effects"))[0]
        assert found["NetworkSettings"]["IPAddress"].startswith("10.213.4.")
        assert 64 <= int(found["NetworkSettings"]["IPAddress"].split(".")[3]) < 80
        assert found["HostConfig"]["ShmSize"] == 32 << 20
        assert found["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10k"}}
        assert found["HostConfig"]["IpcMode"] == "shareable"
        # The daemon's own seccomp profile holds for the first process and for execs alike.
        seen = engine.ok("exec", "effects", "sh", "-c",
                         "cat /etc/resolv.conf /etc/hosts /sys/class/net/eth0/mtu /proc/1/comm; ulimit -Sn; ulimit -Hn;"
                         "grep NoNewPrivs /proc/self/status; mkdir /x 2>&1; true")  # fmt: skip
        for wanted in ("nameserver 10.9.9.9", "search example.test", "options ndots:3", "10.1.2.3\tup", "1400\n",
                       "init\n", "512\n", "600\n", "NoNewPrivs:\t1", "Operation not supported"):  # fmt: skip
            assert wanted in seen, (wanted, seen)
        pid = found["State"]["Pid"]
        place = re.compile(rf"/kd-{os.path.basename(base)}(/kist)?/{found['Id']}$", re.MULTILINE)  # on v2 one between
        assert place.search(Path(f"/proc/{pid}/cgroup").read_text())
        assert all(json.loads(line)["msg"] for line in engine.log().splitlines())
    for tree in Path("/sys/fs/cgroup").glob("*"):
        with contextlib.suppress(OSError):
            os.rmdir(tree / f"kd-{os.path.basename(base)}")


def test_what_kistd_has_for_itself_is_not_handed_to_containers(base: str, busybox_archive: Path) -> None:
    """Its many descriptors and its place in the OOM killer's list (OOMScoreAdjust= of the unit)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    score = Path("/proc/self/oom_score_adj")
    before = score.read_text()
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, hard))
    score.write_text("100")
    try:
        with running(base, "--bridge", "none") as engine:
            assert engine.process is not None
            own = Path(f"/proc/{engine.process.pid}/limits").read_text()
            assert re.search(rf"Max open files +{hard} +{hard} ", own), own
            load_busybox(engine, busybox_archive)
            engine.ok("run", "-d", "--name", "plain", "busybox", "sleep", "100")
            for words in (["exec", "plain"], ["run", "--rm", "busybox"]):
                seen = engine.ok(*words, "sh", "-c", "ulimit -Sn; cat /proc/self/oom_score_adj")
                assert seen == "1000\n0\n", (words, seen)
            _, found = engine.request("GET", "/containers/plain/json")
            assert found["HostConfig"]["NetworkMode"] == "none"  # there is no other with --bridge=none
    finally:
        score.write_text(before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_ip_forward_and_iptables_the_host_is_left_alone(base: str) -> None:
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    before = forward.read_text()
    forward.write_text("0")
    try:
        with running(base, "--ip-forward=false", "--iptables=false") as engine:
            assert forward.read_text().strip() == "0"
            listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
            assert f"kist_{engine.id}" not in listed
            assert engine.request("GET", "/info")[1]["IPv4Forwarding"] is False
    finally:
        forward.write_text(before)


# --- SIGHUP ---


def events_since(engine: Kistd, start: float) -> list[dict[str, Any]]:
    _, raw = engine.request("GET", f"/events?since={start}&until={time.time():.6f}&filters="
                                   '{"type":["daemon"]}'.replace('"', "%22"))  # fmt: skip
    return [raw] if isinstance(raw, dict) else [json.loads(line) for line in raw.splitlines()]


def reload(engine: Kistd, config: dict[str, Any] | bytes) -> None:
    """Writes daemon.json, sends SIGHUP and waits until the log tells what became of it."""
    assert engine.process is not None
    Path(f"{engine.base}/c.json").write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
    before = len(engine.log())
    engine.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 5
    while not re.search("configuration (reloaded|was not reloaded)", engine.log()[before:]):
        assert time.monotonic() < deadline, engine.log()
        time.sleep(0.01)


def test_a_reload_takes_effect_and_is_told(base: str) -> None:
    with running(base, "--bridge", "none", config={"labels": ["a=1"]}) as engine:
        start = time.time()
        reload(engine, {"labels": ["b=2"], "debug": True, "default-shm-size": "16m", "shutdown-timeout": 3})
        info = engine.request("GET", "/info")[1]
        assert (info["Labels"], info["Debug"]) == (["b=2"], True)
        (event,) = events_since(engine, start)
        attributes = event["Actor"]["Attributes"]
        assert (event["Type"], event["Action"], event["Actor"]["ID"]) == ("daemon", "reload", info["ID"])
        assert attributes["name"] == info["Name"]
        assert (attributes["labels"], attributes["debug"]) == ('["b=2"]', "true")
        assert attributes["default-shm-size"] == str(16 << 20)
        assert (attributes["shutdown-timeout"], attributes["live-restore"]) == ("3", "true")
        assert {"max-concurrent-downloads", "registry-mirrors", "insecure-registries", "features"} <= set(attributes)


def test_a_reload_reaches_new_containers(own_engine: Kistd) -> None:
    reload(own_engine, {"default-shm-size": "16m"})
    own_engine.ok("create", "--name", "later", "busybox")
    assert json.loads(own_engine.ok("inspect", "later"))[0]["HostConfig"]["ShmSize"] == 16 << 20


def test_a_wrong_reload_changes_nothing_and_a_restart_only_key_is_named(base: str) -> None:
    with running(base, "--bridge", "none", "--label", "flag=1") as engine:
        start = time.time()
        for wrong in (b"{", b'{"nope": 1}', b'{"labels": ["x=1"]}', b'{"debug": "yes"}', b'{"userns-remap": "x"}'):
            reload(engine, wrong)
        os.unlink(f"{base}/c.json")
        before = len(engine.log())
        assert engine.process is not None
        engine.process.send_signal(signal.SIGHUP)
        while "was not reloaded" not in engine.log()[before:]:
            time.sleep(0.01)
        info = engine.request("GET", "/info")[1]
        assert (info["Labels"], info["Debug"], events_since(engine, start)) == (["flag=1"], False, [])
        reload(engine, {"data-root": "/elsewhere", "debug": True})
        assert "the following directives are specified both" in engine.log()
        assert engine.request("GET", "/info")[1]["DockerRootDir"] == f"{base}/d"


def test_a_new_value_that_needs_a_restart_is_named(base: str) -> None:
    with running(base, "--bridge", "none") as engine:
        reload(engine, {"mtu": 9000, "dns": ["10.1.1.1"], "debug": True})
        assert "a new value needs a restart of kistd: dns, mtu" in engine.log()
        assert "configuration reloaded: debug" in engine.log()


# --- sockets ---


def test_the_socket_has_mode_0660_and_the_group(base: str) -> None:
    group = next(one for one in grp.getgrall() if one.gr_gid not in (0,))
    for given, gid in ((group.gr_name, group.gr_gid), ("4242", 4242)):
        with running(base, "--bridge", "none", "--group", given) as engine:
            status = os.stat(engine.socket)
            assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o660, 0, gid)


def test_every_host_is_served_and_its_socket_removed_at_the_end(base: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running(base, "--bridge", "none", "-H", f"unix://{base}/two/s", "-H", f"tcp://127.0.0.1:{port}") as engine:
        for host in (engine.host, f"unix://{base}/two/s", f"tcp://127.0.0.1:{port}"):
            done = subprocess.run(["docker", "-H", host, "version"], capture_output=True, check=False)
            assert done.returncode == 0, (host, done.stderr)
        assert f"API listen on unix://{base}/s, unix://{base}/two/s, tcp://127.0.0.1:{port}" in engine.log()
        assert Path(f"{base}/p").read_text() == str(engine.process.pid if engine.process else 0)
    assert not any(os.path.exists(f"{base}/{name}") for name in ("s", "two/s", "p"))


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(base: str) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(f"{base}/s")
    stale.close()
    with running(base, "--bridge", "none") as engine:
        done = subprocess.run([*KISTD, "--data-root", f"{base}/d2", "--exec-root", f"{base}/e2", "-H", engine.host,
                               "--pidfile", f"{base}/p2", "--config-file", f"{base}/c.json"],
                              capture_output=True, text=True, timeout=20, check=False)  # fmt: skip
        assert done.returncode == 1
        assert f"cannot listen on unix://{base}/s: another process serves it" in done.stderr
        assert engine.request("GET", "/_ping")[0] == 200


ACTIVATOR = """
import os, sys
descriptors = [os.dup2(int(one), 200 + number) for number, one in enumerate(os.environ["DESCRIPTORS"].split(","))]
for number, one in enumerate(descriptors):
    os.dup2(one, 3 + number)
    os.close(one)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "kist.daemon.main", *sys.argv[1:]])
"""


def activated(base: str, names: list[str], host: str, fd_names: str = "") -> subprocess.Popen[bytes]:
    """kistd started as systemd starts it: sockets from descriptor 3 on, and a socket for its notifications."""
    sockets = []
    for name in names:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{base}/{name}")
        listener.listen(16)
        sockets.append(listener)

    Path(f"{base}/c.json").write_text("{}")
    passed = [one.fileno() for one in sockets]
    environment = {**os.environ, "LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": fd_names}
    with open(f"{base}/log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATOR, "--data-root", f"{base}/d", "--exec-root", f"{base}/e", "-H", host,
             "--pidfile", f"{base}/p", "--config-file", f"{base}/c.json", "--bridge", "none"],
            pass_fds=passed, stderr=log,
            env={**environment, "NOTIFY_SOCKET": f"{base}/notify", "DESCRIPTORS": ",".join(map(str, passed))},
        )  # fmt: skip
    for one in sockets:
        one.close()
    return process


def test_socket_activation_and_notifications_as_systemd_has_them(base: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.bind(f"{base}/notify")
        notifications.settimeout(15)
        process = activated(base, ["one", "two"], "fd://")
        try:
            assert notifications.recv(4096) == b"READY=1"
            for name in ("one", "two"):
                connection = UnixConnection(f"{base}/{name}")
                connection.request("GET", "/_ping")
                assert connection.getresponse().read() == b"OK"
                connection.close()
            process.send_signal(signal.SIGTERM)
            assert notifications.recv(4096) == b"STOPPING=1"
            assert process.wait(10) == 0
            assert os.path.exists(f"{base}/one"), "systemd's socket is systemd's to remove"
        finally:
            process.kill()
            process.wait()
            purge(f"{base}/d", f"{base}/e")


@pytest.mark.parametrize(("host", "served", "other"), [("fd://4", "two", "one"), ("fd://api", "one", "two")])
def test_one_of_the_passed_sockets_is_chosen_by_number_or_name(base: str, host: str, served: str, other: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.bind(f"{base}/notify")
        notifications.settimeout(15)
        process = activated(base, ["one", "two"], host, "api:other")
        try:
            assert notifications.recv(4096) == b"READY=1"
            connection = UnixConnection(f"{base}/{served}")
            connection.request("GET", "/_ping")
            assert connection.getresponse().read() == b"OK"
            connection.close()
            with socket.socket(socket.AF_UNIX) as silent:
                silent.settimeout(0.3)
                silent.connect(f"{base}/{other}")
                silent.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
                with pytest.raises(TimeoutError):
                    silent.recv(1)
        finally:
            process.terminate()
            process.wait(10)
            purge(f"{base}/d", f"{base}/e")


def test_a_stop_does_not_wait_for_streams_without_an_end(base: str) -> None:
    with running(base, "--bridge", "none") as engine:
        listener = UnixConnection(engine.socket)
        listener.request("GET", "/events")
        listener.getresponse()
        start = time.monotonic()
        assert engine.stop() == 0
        assert time.monotonic() - start < 2
        listener.close()


# --- several engines ---


def test_a_second_engine_on_the_same_roots_is_refused_with_a_clear_text(base: str) -> None:
    with running(base, "--bridge", "none") as engine:
        for roots, held in ((["d", "e2"], "d"), (["d2", "e"], "e")):
            done = subprocess.run(
                [*KISTD, "--data-root", f"{base}/{roots[0]}", "--exec-root", f"{base}/{roots[1]}", "-H",
                 f"unix://{base}/s2", "--pidfile", f"{base}/p2", "--config-file", f"{base}/c.json"],
                capture_output=True, text=True, timeout=20, check=False)  # fmt: skip
            assert done.returncode == 1
            assert done.stderr.strip() == (
                f"failed to start daemon: {base}/{held} is in use by another kistd: give each its own --data-root and "
                f"--exec-root"
            )
        assert not os.path.exists(f"{base}/s2") and not os.path.exists(f"{base}/p2")
        assert engine.request("GET", "/_ping")[0] == 200


def test_a_living_process_in_the_pid_file_is_respected_and_a_dead_one_is_not(base: str) -> None:
    Path(f"{base}/p3").write_text(str(os.getpid()))
    text = refused(base, "--pidfile", f"{base}/p3")
    assert text == (
        f"failed to start daemon: process with PID {os.getpid()} is still running: end it, or delete {base}/p3 if that "
        f"is another program"
    )
    assert Path(f"{base}/p3").read_text() == str(os.getpid())
    for stale in ("4194303", "rubbish", ""):
        Path(f"{base}/p3").write_text(stale)
        with running(base, "--bridge", "none", "--pidfile", f"{base}/p3") as engine:
            assert engine.process is not None
            assert Path(f"{base}/p3").read_text() == str(engine.process.pid)


def test_engines_started_at_the_same_moment_share_nothing(busybox_archive: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    bases = [tempfile.mkdtemp(prefix="kd", dir="/tmp") for _ in range(3)]
    engines = [Kistd(one) for one in bases]
    starters = []
    for engine in engines:
        Path(f"{engine.base}/c.json").write_text("{}")
        with open(f"{engine.base}/log", "ab") as log:
            engine.process = subprocess.Popen(
                [*KISTD, "--data-root", f"{engine.base}/d", "--exec-root", f"{engine.base}/e", "-H", engine.host,
                 "--pidfile", f"{engine.base}/p", "--config-file", f"{engine.base}/c.json"], stderr=log)  # fmt: skip
        starters.append(engine)
    try:
        for engine in engines:
            deadline = time.monotonic() + 15 * SLOWNESS
            while True:
                with contextlib.suppress(OSError):
                    if engine.request("GET", "/_ping")[0] == 200:
                        break
                assert time.monotonic() < deadline, engine.log()
                time.sleep(0.02)
        bridges = [engine.request("GET", "/networks/bridge")[1] for engine in engines]
        subnets = [one["IPAM"]["Config"][0]["Subnet"] for one in bridges]
        names = [one["Options"]["com.docker.network.bridge.name"] for one in bridges]
        assert len(set(subnets)) == 3 and len(set(names)) == 3, (subnets, names)
        with RouteSocket() as route:
            aliases = route.aliases()
        assert [aliases[name] for name in names] == [f"kist {engine.id}" for engine in engines]
        first, second, third = engines
        for engine in (first, second):
            load_busybox(engine, busybox_archive)
            engine.ok("run", "-d", "--name", "same", "-p", "0:80", "busybox", "sleep", "100")
        third.kill()
        third.start()  # recovers only what is its own
        assert first.stop() == 0
        assert second.ok("exec", "same", "echo", "alive") == "alive\n"
        first.start()
        assert first.ok("exec", "same", "echo", "alive") == "alive\n"
        second.remove_all()
        assert first.ok("exec", "same", "echo", "alive") == "alive\n"
    finally:
        for engine in engines:
            if engine.process is not None and engine.process.poll() is None:
                engine.remove_all()
                engine.stop()
            engine.clean_host()
            shutil.rmtree(engine.base)


def test_a_bridge_that_another_engine_has_taken_meanwhile_is_left_to_it(base: str) -> None:
    other = tempfile.mkdtemp(prefix="kd", dir="/tmp")
    try:
        with running(base) as engine:
            name = engine.request("GET", "/networks/bridge")[1]["Options"]["com.docker.network.bridge.name"]
            engine.stop()
            with RouteSocket() as route:  # as after a reboot: the interface is gone, the record is not
                route.delete_link(route.links()[name])
                route.create_bridge(name, "02:00:00:00:00:07", 1500, "kist 00000000")
            engine.start()
            mine = engine.request("GET", "/networks/bridge")[1]["Options"]["com.docker.network.bridge.name"]
            assert mine == f"kist-{engine.id}"
            with RouteSocket() as route:
                route.delete_link(route.links()[name])
    finally:
        shutil.rmtree(other)


# --- packaging ---


def test_the_units_are_what_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    for name in ("kist.service", "kist.socket"):
        text = (ROOT / "packaging" / name).read_text().replace("/usr/local/bin/kistd", "/bin/true")
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "kist.service"), str(tmp_path / "kist.socket")],
        capture_output=True, text=True, check=False, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if "kist" in line]
    assert done.returncode == 0 and not complaints, done.stderr


def test_the_service_runs_kistd_with_flags_it_knows() -> None:
    text = (ROOT / "packaging" / "kist.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    done = validate(*line.split()[1:])
    assert done.status == 0, done.err
    for wanted in ("Type=notify", "KillMode=process", "Delegate=yes", "kill -s HUP $MAINPID"):
        assert wanted in text
    assert "SocketMode=0660" in (ROOT / "packaging" / "kist.socket").read_text()


def test_make_engine_is_private(busybox_archive: Path) -> None:
    """The helper of all other tests: nothing of the machine's own engine is named by it."""
    engine = _make_engine(busybox_archive, "--bridge", "none")
    try:
        info = engine.request("GET", "/info")[1]
        assert info["DockerRootDir"].startswith("/tmp/")
    finally:
        engine.stop()
        engine.clean_host()
        shutil.rmtree(engine.base)
