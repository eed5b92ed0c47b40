"""The same command line to `kist` and to `docker`, both against kistd: the same output, errors and exit status."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Kistd

# {C} is a running container, {S} a stopped one, {T} a directory; each command line is given to both commands.
SAME = """
ps
ps -a
ps -q
ps -aq --no-trunc
ps -a --format {{.Names}}
ps -a --format json
ps -a --format "table {{.ID}}\\t{{.Status}}"
ps -n 1
ps -l
ps --filter name={C}
ps -a --filter status=exited
ps -a --filter exited=3
ps --filter label=nothing
ps -a --filter nonsense=1
ps --filter noequals
ps --filter=
images -f noequals
volume ls --filter noequals
network ls -f noequals
events --filter noequals
system prune -f --filter noequals
container prune --filter noequals
ps -a --filter status=bad
ps -as
stats --no-stream {S}
stats --no-stream --no-trunc --format json {S}
stats --no-stream nosuch
system df -v
system prune
system prune -f --filter label=nosuch
system prune --volumes --filter until=1h
system prune -a --filter label=nosuch --filter label!=other
container prune
container prune -f --filter label=nosuch
image prune
image prune -f --filter label=nosuch
image prune -a
network prune
network prune -f
network prune -f --filter bogus=1
volume prune
volume prune -a
volume prune -f --filter label=nosuch
volume prune -a --filter all=1
container ls -a
images
images -q
images --no-trunc
images --digests
images busybox
images nosuch
images --format "{{.Repository}}:{{.Tag}}"
images --filter dangling=true
images --filter reference=busy*
image ls
history busybox
history --no-trunc busybox
history -q busybox
history nosuch
image inspect busybox --format {{.Os}}
image inspect nosuch
inspect {C}
inspect {S} --format {{.State.ExitCode}}
inspect {C} --format "{{json .Config.Cmd}}"
inspect {C} --format "{{range .Mounts}}{{.Source}}{{end}}|{{.Name}}"
inspect --type image busybox --format {{.Id}}
inspect --type container busybox
inspect nosuch
inspect {C} nosuch --format {{.Name}}
container inspect nosuch
logs {S}
logs --tail 1 {S}
logs -n 2 {S}
logs nosuch
logs
top {C}
top {C} -o pid,comm
top {S}
top nosuch
exec {C} echo hi
exec {C} sh -c "echo out; echo err >&2; exit 4"
exec -e A=b {C} env
exec -w /etc {C} pwd
exec -u daemon {C} id -u
exec {C} nosuch
exec {S} true
exec nosuch true
exec {C}
exec -it {C} true
run --rm busybox echo hi
run --rm busybox sh -c "exit 5"
run --rm busybox nosuch
run --rm busybox /etc
run --rm -e A=1 -e B busybox env
run --rm -h box busybox hostname
run --rm -w /tmp busybox pwd
run --rm -u 5:6 busybox id
run --rm --entrypoint echo busybox a b
run --rm --read-only busybox touch /x
run --rm -v {T}:/t busybox ls /t
run --rm -v {T}:/t:ro busybox touch /t/x
run --rm --mount type=bind,src={T},dst=/t busybox ls /t
run --rm --mount type=bind,src=/nosuch/x,dst=/t busybox ls /t
run --rm --mount type=bind,source=/tmp busybox true
run --rm --mount bogus busybox true
run --rm --mount type=volume,dst=/t,volume-opt=type=tmpfs busybox true
run --rm --mount type=volume,dst=/t,bind-recursive=disabled busybox true
run --rm --mount type=bind,src={T},dst=/t,volume-nocopy busybox true
run --rm --mount type=bind,src={T},dst=/t,bind-nonrecursive busybox ls /t
run --rm --mount type=bind,src={T},dst=/t,ro,bind-recursive=readonly busybox true
run --rm --mount type=bind,src={T},dst=/t,bind-recursive=writable busybox true
run --rm --mount type=image,src=busybox,dst=/t,image-subpath=bin busybox true
run --rm --mount type=tmpfs,dst=/t,tmpfs-mode=-1 busybox true
run --rm --tmpfs /t:size=1m busybox df -k /t
run --rm --network none busybox ls /sys/class/net
run --rm --cap-drop ALL busybox grep CapEff /proc/self/status
run --rm --cap-add BOGUS busybox true
run --rm --security-opt bogus busybox true
run --rm --memory 1m busybox true
run --rm --memory zz busybox true
run --rm --cpus x busybox true
run --rm --blkio-weight-device /dev/vda busybox true
run --rm --blkio-weight-device /dev/vda:5 busybox true
run --rm --device-read-bps /dev/vda:x busybox true
run --rm --device-read-bps /dev/nosuch:1mb busybox true
run --rm --device-write-iops /dev/vda:-1 busybox true
run --rm --device-read-iops vda:5 busybox true
run --rm --cpu-rt-period x busybox true
run --rm --kernel-memory x busybox true
run --rm --link a:b:c busybox true
run --rm --link nosuch busybox true
run --rm --link {C}:db busybox grep -cw db /etc/hosts
run --rm --volumes-from nosuch busybox true
run --rm --volumes-from {C}:bogus busybox true
run --rm --ip 10.1.2.3 busybox true
run --rm --ip6 fd00::1 busybox true
run --rm --network-alias x busybox true
run --rm --gpus all busybox true
run --rm --gpus count=x busybox true
run --rm --gpus "driver=a,driver=b" busybox true
run --rm --device vendor.com/class=x busybox true
run --rm --device x busybox true
run --rm --device /dev/null:/x:bogus busybox true
run --rm --device a:b:c:d busybox true
run --rm --device-cgroup-rule bogus busybox true
run --rm --storage-opt bogus busybox true
run --rm --storage-opt size=1g busybox true
run --rm --isolation hyperv busybox true
run --rm --add-host x busybox true
run --rm --add-host x=1.2.3 busybox true
run --rm --add-host x=1.2.3.4 busybox grep x$ /etc/hosts
run --rm --dns x busybox true
run --rm --dns-search bad_name busybox true
run --rm --sysctl x busybox true
run --rm --ulimit nofile busybox true
run --rm --ulimit nofile=2:1 busybox true
run --rm --expose 90-80 busybox true
run --rm --expose 99999 busybox true
run --rm --cgroupns x busybox true
run --rm --ipc bogus busybox true
run --rm --ipc container:{C} busybox true
run --rm --pid bogus busybox true
run --rm --pid container:{S} busybox true
run --rm --uts bogus busybox true
run --rm --userns bogus busybox true
run --rm --mac-address bogus busybox true
run --rm --mac-address 02:42:00:00:00:77 busybox cat /sys/class/net/eth0/address
run --rm --memory-swappiness 200 busybox true
run --rm --shm-size -1 busybox true
run --rm --cpus 0.0000000001 busybox true
run --rm --cpus 99 busybox true
run --rm --label =x busybox true
run --rm --env =x busybox true
run --rm --blkio-weight 99999 busybox true
run --rm --cpu-count 5 busybox true
run --rm --group-add 4711 busybox id
run --rm --cidfile /nosuch/dir/x busybox true
run --rm --annotation a=b --isolation default --platform linux/amd64 busybox true
create --pull bogus busybox true
create --device x busybox true
create --volumes-from nosuch busybox true
run --rm --restart always busybox true
run --restart :3 busybox true
run --restart on-failure:x busybox true
run --restart always:2 busybox true
run --restart bogus busybox true
run --rm --restart no busybox true
create --rm --restart unless-stopped busybox true
run --no-healthcheck --health-cmd x busybox true
run --health-interval 5 busybox true
run --health-interval 5x busybox true
run --health-interval=-1s busybox true
run --health-retries=-2 busybox true
run --health-retries x busybox true
run --health-timeout 1us busybox true
run --health-start-period zz busybox true
run --rm --no-healthcheck busybox true
run --rm --health-cmd "exit 0" --health-interval 1s --health-timeout 1m1s --health-retries 2 busybox true
run --rm --health-cmd "exit 0" --health-start-interval 500ms --health-start-period 1.5h busybox true
update --restart on-failure:2 {C}
inspect {C} --format "{{json .HostConfig.RestartPolicy}} {{.RestartCount}} {{json .State.Health}}"
update --restart bogus {C}
update --restart no:1 {C}
update --restart no {C}
ps --filter health=none
ps --filter health=bogus
run --rm --pids-limit 20 busybox cat /sys/fs/cgroup/pids/pids.max
run --rm --ulimit nofile=50:60 busybox sh -c "ulimit -n"
run --rm --ulimit bogus=1 busybox true
run --rm --ulimit nofile=x busybox true
run --rm -p zz busybox true
run --rm -p 1.2.3:80:80 busybox true
run --rm --name bad/name busybox true
run --rm --name {C} busybox true
run --rm --user nosuch busybox true
run --rm --env-file /nosuch busybox true
run --rm --sysctl net.ipv4.ip_forward=0 busybox cat /proc/sys/net/ipv4/ip_forward
run --rm --init busybox true
run --rm --stop-signal BOGUS busybox true
run --rm --workdir relative busybox true
run --rm nosuch true
run --rm UPPER true
run --rm --pull bogus busybox true
run --rm --network bridge --network none busybox true
run --rm --network bridge --network nosuch busybox true
run --rm --network name=none busybox true
run --rm --dns bad busybox true
inspect -s {S} -f "{{.SizeRw}}"
run --bogus
run
run --rm -it busybox true
create
rm nosuch
rm {C}
rm -f nosuch
rm
diff {C}
diff {S}
diff nosuch
export nosuch
cp {C}:/etc/hostname -
cp {C}:/none /tmp
cp {C}:/etc/passwd {T}/none/x
cp {T} {C}:/tmp/in
cp {T}/file {C}:/tmp/copied
cp /none {C}:/tmp
cp {T}/ {C}:/tmp/slash
cp -L {T} {C}:/tmp/followed
cp {C}:/x {C}:/y
cp {T} {T}
cp {T}
cp - {C}:/etc/passwd
cp "" {C}:/x
commit nosuch
commit {S} UPPER
commit -c "RUN x" {S}
commit
pause {S}
pause nosuch
pause
unpause {C}
unpause nosuch
unpause --bogus
kill {S}
kill -s BOGUS {C}
kill nosuch
stop nosuch
stop -t x {C}
start nosuch
start {C}
restart nosuch
wait {S}
wait nosuch
rename {S} {C}
rename {S}
rename nosuch other
port {C}
port {C} 80
port nosuch
attach {S}
attach nosuch
tag busybox
tag nosuch a
tag busybox UPPER
rmi nosuch
rmi
load -i /nosuch
save nosuch
save
import /nosuch
volume ls
volume ls -q
volume create bad/name
volume inspect nosuch
volume rm nosuch
volume frob
network ls
network ls -q --no-trunc
network ls --filter driver=host --format {{.Name}}
network inspect bridge
network inspect nosuch
system df
system df --format {{.Type}}
version --format {{.Server.Version}}
info --format {{.OSType}}
events --since 2001-01-01T00:00:00Z --until 2001-01-02T00:00:00Z
frob
ps --bogus
ps extra
inspect
images a b
"""
MORE = (Path(__file__).parent / "commands.txt").read_text()
LINES = [line for line in (SAME + MORE).splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def prepared(shared_engine: Kistd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What stands for the places in the lines; the engine is left as empty as it was."""
    directory = tmp_path_factory.mktemp("t")
    (directory / "file").write_text("x")
    shared_engine.ok(
        "run", "-d", "--name", "diffrun", "-l", "x=1", "-l", "com.foo.bar_baz=2", "busybox", "sleep", "1000"
    )
    shared_engine.docker("run", "--name", "diffstop", "busybox", "sh", "-c", "seq 3; echo bad >&2; exit 3")
    shared_engine.ok("volume", "create", "--label", "q=r", "diffvolume")
    shared_engine.ok("network", "create", "--subnet", "10.211.0.0/24", "--label", "n=1", "diffnet")
    shared_engine.ok("run", "-d", "--name", "diffmember", "--network", "diffnet", "busybox", "sleep", "1000")
    yield {
        "{V}": "diffvolume", "{C}": "diffrun", "{S}": "diffstop", "{N}": "diffnet", "{M}": "diffmember",
        "{T}": str(directory),
    }  # fmt: skip
    shared_engine.remove_all()
    shared_engine.docker("network", "rm", "diffnet")
    shared_engine.docker("volume", "rm", "diffvolume")
    shared_engine.docker("image", "prune", "-f")


def split(line: str) -> list[str]:
    """Words as a shell has them, with double quotes only."""
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line.replace("\\t", "\t"))]


def run(command: list[str], engine: Kistd, words: list[str], version: str = "1.50") -> tuple[int, str, str]:
    environment = {**os.environ, "DOCKER_CONFIG": f"{engine.base}/docker-config", "DOCKER_API_VERSION": version}
    environment.pop("DOCKER_HOST", None)
    done = subprocess.run(
        [*command, "-H", engine.host, *words],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env=environment,
        check=False,
    )
    return done.returncode, normal(done.stdout), normal(done.stderr)


def normal(data: bytes) -> str:
    """Without what differs from run to run: the command's name, ages, ids of containers made on the way."""
    text = data.decode("utf-8", "replace")
    text = re.sub(r"\bkist\b(?= run|:| ps|')", "docker", text)
    text = re.sub(r"'kist ", "'docker ", text)
    text = re.sub(r"\tkist ", "\tdocker ", text)
    text = re.sub(r"Usage:  kist", "Usage:  docker", text)
    text = re.sub(r"unknown command: kist", "unknown command: docker", text)
    text = re.sub(r"(About an? \w+|Less than a second|\d+ (seconds?|minutes?|hours?))( ago)?", "AGE", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "ID64", text)
    text = re.sub(r"HOSTNAME=[0-9a-f]{12}", "HOSTNAME=ID12", text)
    text = text.replace("SRun '", "Run '")  # a slip in the stock command's own text
    text = re.sub(r"AGE +", "AGE ", text)
    text = re.sub(r"(?m)^(\S+ +\d+ +\d+ +)\d+( +\d\d:\d\d)", r"\1C\2", text)  # top's share of the processor
    return re.sub(r" +", " ", text)


@pytest.mark.parametrize("line", LINES)
def test_both_commands_answer_alike(shared_engine: Kistd, prepared: dict[str, str], line: str) -> None:
    for place, value in prepared.items():
        line = line.replace(place, value)
    words = split(line)
    theirs = run(["docker"], shared_engine, words)
    ours = run([sys.executable, "-m", "kist.cli.main"], shared_engine, words)
    assert ours[0] == theirs[0], f"exit status; docker said {theirs[1:]}, kist {ours[1:]}"
    assert ours[1] == theirs[1]
    assert ours[2] == theirs[2]


def test_there_are_at_least_five_hundred() -> None:
    assert len(LINES) >= 500
