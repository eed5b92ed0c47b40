"""What a process finds inside its container: the same in a container of kist as in one of dockerd.

A script (inside.sh) tells identity, signals, limits, mounts, devices, what is masked and what can be written,
namespaced settings, network and cgroup. It is run in both engines in many ways and compared line by line.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.conftest import Kistd

SCRIPT = Path(__file__).with_name("inside.sh")

# {T} is a directory of the host with the script in it. The control groups' paths only compare in a namespace.
WAYS = {
    "plain": "",
    "cgroupns": "--cgroupns private",
    "tty": "-t",
    "tty and stdin": "-i",
    "user": "-u daemon",
    "numbers": "-u 1234:5678 --group-add 20 --group-add wheel",
    "read-only": "--read-only",
    "read-only with tmpfs": "--read-only --tmpfs /run --tmpfs /tmp:rw,size=1m,mode=700,exec",
    "host network": "--network host",
    "no network": "--network none",
    "host pids": "--pid host",
    "host ipc": "--ipc host",
    "no ipc": "--ipc none",
    "shareable ipc": "--ipc shareable",
    "host uts": "--uts host",
    "capabilities": "--cap-add NET_ADMIN --cap-add SYS_ADMIN --cap-drop CHOWN --cap-drop net_raw",
    "no capabilities": "--cap-drop ALL --cap-add KILL",
    "user with capabilities": "-u daemon --cap-add NET_ADMIN",
    "no new privileges": "--security-opt no-new-privileges",
    "unconfined": "--security-opt seccomp=unconfined --security-opt systempaths=unconfined",
    "memory": "--memory 64m --memory-reservation 32m --memory-swap 128m --shm-size 1m",
    "cpu": "--cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --cpuset-mems 0",
    "quota": "--cpu-quota 50000 --cpu-period 100000 --pids-limit 50 --oom-score-adj 300",
    "limits": "--ulimit nofile=100:200 --ulimit core=0 --ulimit stack=1000000",
    "names": "-h box.example --domainname dom --add-host a:1.2.3.4 --add-host b:host-gateway --dns 9.9.9.9 "
    "--dns-search x.org --dns-option ndots:2",
    "variables": "-e A=1 -e B= -e PATH=/bin -e HOSTNAME=other -e HOME -w /var/empty/new",
    "sysctls": "--sysctl net.ipv4.ip_forward=0 --sysctl kernel.msgmax=4096 --sysctl net.core.somaxconn=77",
    "devices": "--device /dev/null:/dev/mine:rw --device /dev/loop-control --device-cgroup-rule 'c 9:* rm'",
    "volumes": "-v {T}:/data -v {T}:/deep/er/read:ro -v named:/vol --mount type=tmpfs,dst=/mem,tmpfs-size=4096",
    "volume at etc": "-v {T}/etc:/etc",
    "mounts": "-v {T}:/a:rprivate --mount type=bind,src={T},dst=/private,bind-propagation=rprivate,readonly",
    "tmpfs on a directory": "--tmpfs /etc/init.d --tmpfs /root:size=1m --mount type=tmpfs,dst=/bin/new,tmpfs-mode=711",
    "anonymous volume": "-v /vol",
    "init": "--init",
    "domain in the name": "-h box.example",
    "entrypoint": "--entrypoint /bin/sh",
}
SECTIONS = (
    "status", "session", "process", "limits", "environment", "id", "mounts", "propagation", "devices", "root", "masked",
    "masked-since-28", "readonly", "files", "sysctl", "ipv6", "network", "cgroup",
)  # fmt: skip


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="kist-inside", dir="/var/tmp"))
    found.chmod(0o755)
    for name in ("kist", "dockerd"):
        (found / name / "etc").mkdir(parents=True)
        shutil.copy(SCRIPT, found / name / "inside.sh")
        (found / name / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    yield found
    shutil.rmtree(found)


def ask(engine: Kistd, way: str, directory: Path) -> dict[str, list[str]]:
    flags = shlex.split(WAYS[way].replace("{T}", str(directory)))
    shell = [] if way == "entrypoint" else ["sh"]
    command = ["run", "--rm", "-v", f"{directory}:/p:ro", *flags, "busybox", *shell, "/p/inside.sh"]
    result = engine.docker(*command)
    assert result.status == 0, result.errors
    assert result.errors == "", result.errors
    found: dict[str, list[str]] = {}
    for block in result.text.replace("\r", "").split("== ")[1:]:
        name, *lines = block.splitlines()
        found[name] = [normal(name, line, directory) for line in lines]
    return found


def normal(section: str, line: str, directory: Path) -> str:
    """Without what is another's in every container: ids, addresses that follow the order of starts, host paths."""
    line = line.replace(str(directory), "{T}")
    line = re.sub(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "ID", line)
    line = re.sub(r"\b172\.17\.\d+\.\d+/16", "ADDRESS/16", line)
    line = re.sub(r"\b172\.17\.(?!0\.1\b)\d+\.\d+", "ADDRESS", line)
    line = re.sub(r"02:42:ac:11:\w\w:\w\w", "MAC", line)
    line = re.sub(r"^\d+: (\w+)@if\d+", r"N: \1", line)
    if section in ("mounts", "propagation"):
        line = re.sub(r"lowerdir.*", "LAYERS", line)
        line = re.sub(r" master:\d+", "", line)  # where the engine's own mount namespace hangs, not the container's
    return line


# Not mounts: those of one depth come in any order. Not files: Docker 26 writes resolv.conf in another (moby 47041).
SHUFFLED = (("variables", "environment"),)  # the docker command sends several -e in any order
ORDERED = ("status", "process", "limits", "environment", "id", "devices", "sysctl")
Found = dict[str, list[str]]
_SINCE_26 = "Docker 26 leaves IPv6 on loopback and takes it only from links of IPv4 networks (CVE-2024-32473)"
_NUMBERS = "numbers of processes that the engine itself started on the way"
# Section, the lines that may differ, and why. All ways of starting share this list.
DIFFERENCES = (
    ("mounts", r"tmpfs /sys/fs/cgroup tmpfs r[ow],nosuid,nodev,noexec,relatime,mode=755 0 0",
     "runc 1.1.5 does not carry out the `ro` of the configuration on the tmpfs above the v1 hierarchies"),
    ("propagation", r"/sys/fs/cgroup r[ow],nosuid,nodev,noexec,relatime", "the same"),
    ("mounts", r"(systemd|cgroup) /sys/fs/cgroup/systemd cgroup ro,nosuid,nodev,noexec,relatime,name=systemd 0 0",
     "a name without meaning: runc calls the mount systemd where it makes it, cgroup where it binds it"),
    ("mounts", r"tmpfs /proc/interrupts tmpfs rw,nosuid,size=65536k,mode=755 0 0",
     "masked since Docker 28.2"),
    ("propagation", r"/proc/interrupts rw,nosuid", "the same"),
    ("root", r"/proc/interrupts .*", "the same"),
    ("masked-since-28", r"/proc/interrupts: .*", "the same"),
    ("ipv6", r"(all|default|lo): [01]|.* lo: .*|.*inet6 ::1/128 scope host.*|.*valid_lft.*", _SINCE_26),
    ("root", r"/tmp directory 1?7[07][07] 0 0",
     "runc 1.1.5 puts the mode of the covered directory over the one that was asked; runc 1.1.8 no more (runc 3916)"),
    ("mounts", r"tmpfs /root tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k(,mode=700)? 0 0", "the same"),
    ("status", r"Groups:\t0( 10)? ", "kist looks users up in the files that the container sees, a volume's too"),
    ("id", r"uid=0\(root\) gid=0 groups=0(,10)?", "the same"),
    ("ipv6", r"(N|\d+): .*(kist0|docker0|veth\w+): .*|.*inet6 fe80::.*", "the bridges, seen from the host's network"),
    ("network", r".*\b(kist0|docker0|veth\w+)\b.*|.*master kist0.*|.*valid_lft.*|.*link/ether.*", "the same"),
    ("status", r"(Tgid|PPid|NSpgid|NSsid):\t\d+", _NUMBERS),
    ("session", r"\d+ \d+ 0 20 0 1 0 0", _NUMBERS),
)  # fmt: skip
# Ways in which numbers of processes and bridges of the host may be seen at all.
_ONLY_IN = {_NUMBERS: {"host pids", "init"}, "the bridges, seen from the host's network": {"host network"}}


@pytest.fixture(scope="module")
def answers(kist: Kistd, dockerd: Kistd, directory: Path) -> dict[str, tuple[Found, Found]]:
    """Per way what the containers of kist and of dockerd told."""
    with ThreadPoolExecutor(4) as pool:
        asked = {
            way: [pool.submit(ask, one, way, directory / name) for one, name in ((kist, "kist"), (dockerd, "dockerd"))]
            for way in WAYS
        }
        return {way: (ours.result(), theirs.result()) for way, (ours, theirs) in asked.items()}


def unlike(ours: Found, theirs: Found, section: str, ordered: bool = True) -> list[str]:
    """Lines that only one of the two has; all of them where the order matters and is another."""
    counted = Counter(ours[section])
    counted.subtract(theirs[section])
    found = [line for line, count in counted.items() if count]
    if section in ORDERED and ordered:
        left, right = ([line for line in one[section] if line not in found] for one in (ours, theirs))
        return found if left == right else [*left, *right]
    return found


def reason(way: str, section: str, line: str) -> str:
    for where, pattern, why in DIFFERENCES:
        if where == section and re.fullmatch(pattern, line) and way in _ONLY_IN.get(why, WAYS):
            return why
    return ""


@pytest.mark.parametrize("way", WAYS)
def test_containers_look_alike_from_inside(answers: dict[str, tuple[Found, Found]], way: str) -> None:
    ours, theirs = answers[way]
    assert tuple(ours) == tuple(theirs) == (*SECTIONS, "end")
    different = [
        f"{section}: {'+' if line in ours[section] else '-'} {line}"
        for section in SECTIONS
        for line in unlike(ours, theirs, section, (way, section) not in SHUFFLED)
        if not reason(way, section, line)
    ]
    assert not different, "\n".join(different)


def test_every_difference_of_the_list_is_seen(answers: dict[str, tuple[Found, Found]]) -> None:
    for section, pattern, why in DIFFERENCES:
        assert any(
            re.fullmatch(pattern, line) for ours, theirs in answers.values() for line in unlike(ours, theirs, section)
        ), (section, pattern, why)


def test_the_script_tells_enough(answers: dict[str, tuple[Found, Found]]) -> None:
    """Sections must not be equal because they are empty, and what the flags ask for must be seen."""
    for way, (ours, _) in answers.items():
        for section in SECTIONS:
            assert ours[section] or (section, way) == ("environment", "none"), (way, section)
    assert "CapEff:\t0000000000000020" in answers["no capabilities"][0]["status"]
    assert "NoNewPrivs:\t1" in answers["no new privileges"][0]["status"]
    assert "Seccomp:\t0" in answers["unconfined"][0]["status"]
    assert "memory/memory.limit_in_bytes: 67108864" in answers["memory"][0]["cgroup"]
    assert "cpu/cpu.cfs_quota_us: 50000" in answers["cpu"][0]["cgroup"]
    assert "oom_score_adj: 300" in answers["quota"][0]["process"]
    assert not any("can be written" in line and "/etc/x" in line for line in answers["read-only"][0]["readonly"])


def test_descriptors(kist: Kistd, dockerd: Kistd) -> None:
    """Asked without a shell, which would open its own. The fourth is the directory that is listed."""
    for flags in ([], ["-i"], ["-t"], ["--init"]):
        told = []
        for engine in (kist, dockerd):
            numbers = engine.ok("run", "--rm", *flags, "busybox", "ls", "-1", "/proc/self/fd").split()
            listed = engine.ok("run", "--rm", *flags, "busybox", "ls", "-l", "/proc/self/fd")
            lines = re.findall(r"^(\S+) .* ([012] -> \S+)", listed, re.M)
            told.append((numbers, [(mode, re.sub(r"\[\d+\]", "[N]", target)) for mode, target in lines]))
        assert told[0] == told[1], flags
        assert told[0][0] == ["0", "1", "2", "3"]
        assert len(told[0][1]) == 3


@pytest.mark.parametrize("flag", ["--privileged", "--cap-add=ALL"])
def test_what_dockerd_cannot_do_here(kist: Kistd, dockerd: Kistd, flag: str) -> None:
    """dockerd takes a container down whose capabilities it lacks itself; kist grants what it has, with a warning."""
    status = Path("/proc/self/status").read_text()
    own = int(next(line for line in status.splitlines() if line.startswith("CapPrm:")).split()[1], 16)
    if own & 1 << 24:  # CAP_SYS_RESOURCE
        pytest.skip("this machine has all capabilities: nothing is refused")
    refused = dockerd.docker("run", "--rm", flag, "busybox", "true")
    assert refused.status == 125
    assert "unable to apply caps: operation not permitted" in refused.errors
    granted = kist.docker("run", "--rm", flag, "busybox", "true")
    assert granted.status == 0
    assert "CAP_SYS_RESOURCE" in granted.errors
