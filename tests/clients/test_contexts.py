"""`kist context` beside `docker context` on the same store: the same output, errors and exit status."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from kist.cli.main import main as kist_main

KIST = [sys.executable, "-m", "kist.cli.main"]
DOCKER = ["docker"]
CLEARED = {"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_TLS", "DOCKER_CERT_PATH", "DOCKER_CONFIG",
           "KIST_HOST", "KIST_CONTEXT"}  # fmt: skip

# Carried out in this order by both commands, each with a directory of its own. Words before `docker` are environment;
# {D} is a directory with pem files. An import that fails leaves half a context
# behind in docker, and none in kist: so each has a name of its own, and is removed.
LINES = """
docker context ls
docker context ls -q
docker context list
docker context show
docker context show extra
docker context inspect
docker context inspect default
docker context inspect nosuch
docker context create
docker context create one two
docker context create x
docker context create .bad
docker context create ba/d
docker context create default
docker context create aa
docker context create aa
docker context create bb --docker host=tcp://127.0.0.1:1,skip-tls-verify=true --description "some text"
docker context create cc --docker host=ssh://user@nowhere.invalid
docker context create dd --docker host=bogus://1
docker context create ee --docker bogus=1
docker context create ee --docker novalue
docker context create ee --docker host=xyz
docker context create ee --docker host=ssh://u:p@h
docker context create ee --docker host=tcp://h:bad
docker context create ee --docker from=nosuch
docker context create ee --docker host=tcp://1.1.1.1:1,ca=/nosuch
docker context create ee --docker host=tcp://1.1.1.1:1,ca={D}/junk
docker context create ee --docker host=unix:///x,skip-tls-verify=maybe
docker context create ee --from bb --docker host=tcp://1.1.1.1:1
docker context create ee --from nosuch
docker context create ee --from bb
docker context create ff --from bb --description other
docker context create gg --docker host=tcp://127.0.0.1:1 --docker ca={D}/ca.pem,cert={D}/cert.pem,key={D}/key.pem
docker context create hh --docker from=gg
docker context create ii --from gg
docker context create a10 --docker host=unix:///nosuch/s
docker context create a9 --docker host=unix:///nosuch/s
docker context ls
docker context ls -q
docker context ls --format json
docker context ls --format "{{json .}}"
docker context ls --format "{{.Name}}|{{.Description}}|{{.DockerEndpoint}}|{{.Current}}|{{.Error}}"
docker context ls --format "table {{.Name}}\\t{{.Current}}"
docker context ls --format {{.Bogus}}
docker context ls extra
docker context ls --frob
docker context inspect bb
docker context inspect gg ii hh
docker context inspect bb nosuch
docker context inspect bb --format {{.Name}}
docker context inspect bb gg --format {{.Endpoints.docker.Host}}
docker context inspect bb gg --format json
docker context inspect gg --format "{{json .TLSMaterial}}"
docker context inspect default --format "{{json .Storage}}"
docker context inspect default --format {{.Nope}}
docker context inspect nosuch --format {{.Name}}
docker context use
docker context use aa bb
docker context use nosuch
docker context use x
docker context use a9
docker context show
docker context ls
docker ps
docker -c bb context show
docker -c nosuch context show
docker -c nosuch context ls
docker -c nosuch ps
docker -c ba/d ps
docker -c bb -H tcp://127.0.0.1:1 ps
docker -c bb -H tcp://127.0.0.1:1 context show
docker -c a10 ps
docker --context=a10 ps
docker -ca10 ps
docker -H unix:///nosuch/h context show
docker -H unix:///nosuch/h context ls
docker -H unix:///nosuch/h context inspect
docker -H unix:///nosuch/h ps
docker -H bogus://1 context ls
docker -H bogus://1 context inspect
DOCKER_HOST=unix:///nosuch/h docker ps
DOCKER_HOST=unix:///nosuch/h docker context show
DOCKER_HOST=unix:///nosuch/h docker context ls
DOCKER_HOST=unix:///nosuch/h docker context ls -q
DOCKER_HOST=unix:///nosuch/h docker context inspect
DOCKER_HOST=unix:///nosuch/h docker context use aa
DOCKER_HOST=unix:///nosuch/h docker context use default
DOCKER_HOST=unix:///nosuch/h docker context create jj
DOCKER_HOST=unix:///nosuch/h DOCKER_CONTEXT=bb docker ps
DOCKER_HOST=unix:///nosuch/h docker -c a10 ps
DOCKER_HOST=unix:///nosuch/h docker -c a10 context ls
DOCKER_HOST=unix:///nosuch/h docker -H unix:///nosuch/g ps
DOCKER_HOST=unix:///nosuch/h docker -c default ps
DOCKER_HOST=unix:///nosuch/h DOCKER_CONTEXT=default docker ps
DOCKER_CONTEXT=a10 docker ps
DOCKER_CONTEXT=a10 docker context show
DOCKER_CONTEXT=a10 docker -c a9 context show
DOCKER_CONTEXT=a10 docker context rm a10
DOCKER_CONTEXT=nosuch docker ps
DOCKER_CONTEXT=nosuch docker context ls
DOCKER_CONTEXT=nosuch docker -H unix:///nosuch/h ps
docker context use a9
docker context update
docker context update nosuch --description new
docker context update default
docker context update a9 --description new
docker context update a9 --docker host=unix:///nosuch/t
docker context update a9 --docker host=nonsense://
docker context update a9 --docker frob=1
docker context update a9 --docker from=nosuch
docker context update gg --docker host=tcp://127.0.0.1:2
docker context inspect a9 gg
docker ps
docker context export
docker context export nosuch
docker context export a9 {D}/a9.tar
docker context export a9 {D}/a9.tar
docker context export a9
docker context export ii {D}/ii.tar
docker context export a9 --frob
docker context import
docker context import new
docker context import new /nosuch
docker context import new {D}/junk
docker context import new {D}/a9.tar
docker context import new {D}/a9.tar
docker context import x {D}/a9.tar
docker context import default {D}/a9.tar
docker context import new2 {D}/ii.tar
docker context import new3 {D}/zip
docker context import bad1 {D}/evil1.tar
docker context rm -f bad1
docker context import bad2 {D}/evil2.tar
docker context rm -f bad2
docker context import bad3 {D}/evil3.tar
docker context rm -f bad3
docker context import bad4 {D}/evil4.tar
docker context rm -f bad4
docker context inspect new new2 new3
docker context rm
docker context rm default
docker context rm nosuch
docker context rm a9
docker -c bb context rm bb
docker context rm --frob aa
docker context rm bb nosuch cc
docker context remove dd
docker context rm -f nosuch
docker context rm -f a9
docker context show
docker context ls
docker -H tcp://127.0.0.1:1 -H tcp://127.0.0.1:2 ps
docker -H bogus://1 ps
docker -H tcp://x:y ps
docker -H /nosuch ps
docker -H http://127.0.0.1:1 ps
docker -H tcp://127.0.0.1:1 ps
docker -H 127.0.0.1:1 ps
docker -H :1 ps
docker -H tcp://:1 ps
docker -H ssh:// ps
docker -H ssh://h?b=c ps
docker -H ssh://h#f ps
docker -H ssh://u:p@h ps
docker -H ssh://h:x ps
docker --tls -H tcp://127.0.0.1:1 ps
docker --tlsverify -H tcp://127.0.0.1:1 ps
docker --tlsverify=false -H tcp://127.0.0.1:1 ps
docker --tlsverify --tlscacert /nosuch -H tcp://127.0.0.1:1 ps
docker --tlsverify --tlscacert {D}/ca.pem -H tcp://127.0.0.1:1 ps
docker --tlsverify --tlscacert {D}/ca.pem --tlscert {D}/cert.pem --tlskey {D}/key.pem -H tcp://127.0.0.1:1 ps
docker --tlsverify --tlscacert {D}/ca.pem -H tcp://127.0.0.1:1 context inspect
docker --tls --tlscacert {D}/ca.pem -H tcp://127.0.0.1:1 context inspect
docker --tlsverify --tlscacert {D}/ca.pem ps
DOCKER_TLS_VERIFY=1 docker -H tcp://127.0.0.1:1 ps
DOCKER_TLS=1 docker -H tcp://127.0.0.1:1 ps
DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/nosuch docker -H tcp://127.0.0.1:1 ps
DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH={D} docker -H tcp://127.0.0.1:1 ps
DOCKER_TLS_VERIFY= docker -H tcp://127.0.0.1:1 ps
docker --config /nosuch context show
docker -l bogus ps
docker --bogus ps
docker -X ps
docker -c
docker -H
docker --config
docker context
docker context ls --format
"""


def split(line: str) -> list[str]:
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line.replace("\\t", "\t"))]


Outcome = tuple[int, str, str]  # status, output, errors


def run(command: list[str], config: Path, words: list[str], **environment: str) -> Outcome:
    """As a process of its own, in the directory that holds its configuration."""
    done = subprocess.run([*command, *words], capture_output=True, stdin=subprocess.DEVNULL, timeout=30,
                          env=clean(config, environment), cwd=config.parent, check=False)  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def run_forked(_: list[str], config: Path, words: list[str], **environment: str) -> Outcome:
    """kist in a fork of this process: a whole interpreter for each of the many lines would take a minute."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            _become_kist(out.fileno(), err.fileno(), config, words, environment)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        err.seek(0)
        return status, out.read().decode(), err.read().decode()


def _become_kist(out: int, err: int, config: Path, words: list[str], environment: dict[str, str]) -> NoReturn:
    status = 99
    try:
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        os.chdir(config.parent)
        os.environ.clear()
        os.environ.update(clean(config, environment))
        with open(1, "w", closefd=False) as sys.stdout, open(2, "w", closefd=False) as sys.stderr:
            sys.argv = ["kist", *words]
            try:
                kist_main()
            except SystemExit as leaving:
                status = int(leaving.code or 0)
    finally:
        os._exit(status)


def clean(config: Path, environment: dict[str, str]) -> dict[str, str]:
    """The environment of a command, without what this process was told of daemons."""
    kept = {key: value for key, value in os.environ.items() if key not in CLEARED}
    return {**kept, "DOCKER_CONFIG": str(config), "KIST_NO_AUTOSTART": "1", **environment}


def normal(text: str, config: Path) -> str:
    """Without the names of the two commands and of their directories and sockets."""
    text = text.replace(str(config.parent), "BASE").replace("unix:///run/kist.sock", "unix:///var/run/docker.sock")
    text = re.sub(r"\bkist\b(?= context|:| ps|')|(?<=')kist(?= )|(?<=Usage:  )kist|(?<=command: )kist", "docker", text)
    return re.sub(r" +", " ", text)


def kind(text: str) -> str:
    """What an error is about, without reasons that parsers of JSON, tar and TLS word in their own way."""
    text = text.partition("\n\nUsage:")[0]
    text = re.sub(r"(parsing \S+|WARNING: Error parsing config file \S+): .*", r"\1", text)
    text = re.sub(r"(archive/tar|zip): .*", r"\1", text)
    return re.sub(
        r"(unexpected context|invalid context|archive format|parsing meta.json|invalid (character|output path)).*",
        "bad archive",
        text,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and archives, as a template of each command's directory."""
    base = tmp_path_factory.mktemp("files")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", base / "key.pem", "-out", base / "cert.pem", "-days", "2", "-subj", "/CN=x"],
                   check=True, capture_output=True)  # fmt: skip
    shutil.copy(base / "cert.pem", base / "ca.pem")
    (base / "junk").write_text("this is neither an archive nor a certificate\n" * 30)
    meta = b'{"Name":"old","Metadata":{"Description":"d","more":[1]},"Endpoints":{"docker":{"Host":"tcp://1.1.1.1:1"}}}'
    for name, members in {
        "evil1": {"meta.json": meta, "../escaped": b"x"},
        "evil2": {"meta.json": meta, "tls/docker/a/b": b"x"},
        "evil3": {"tls/docker/ca.pem": b"x"},
        "evil4": {"meta.json": b"{nonsense"},
    }.items():
        with tarfile.open(base / f"{name}.tar", "w") as archive:
            for path, content in members.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

    with zipfile.ZipFile(base / "zip", "w") as packed:
        packed.writestr("meta.json", meta)
        packed.writestr("tls/docker/ca.pem", (base / "ca.pem").read_bytes())
    return base


def test_both_commands_do_the_same(files: Path, tmp_path: Path) -> None:
    """One long session, so that each line meets the state that the lines before it have made."""
    configs = {}
    for name in ("theirs", "ours"):
        shutil.copytree(files, tmp_path / name / "d")
        configs[name] = tmp_path / name / "config"

    wrong = []
    for line in LINES.strip().splitlines():
        theirs = carry_out(run, DOCKER, configs["theirs"], line)
        ours = carry_out(run_forked, KIST, configs["ours"], line)
        if ours != theirs:
            wrong.append(f"{line}\n  docker: {theirs}\n  kist:   {ours}")
    assert not wrong, "\n".join(wrong)
    assert tree(configs["ours"]) == tree(configs["theirs"])
    assert not (tmp_path / "ours" / "escaped").exists()


def carry_out(how: Callable[..., Outcome], command: list[str], config: Path, line: str) -> Outcome:
    words = split(line.replace("{D}", str(config.parent / "d")))
    at = words.index("docker")
    status, out, err = how(command, config, words[at + 1 :], **dict(word.split("=", 1) for word in words[:at]))
    return status, normal(out, config), kind(normal(err, config))


def tree(config: Path) -> dict[str, tuple[int, object]]:
    """Every file of a store with its mode and content; the default socket is each command's own."""
    found: dict[str, tuple[int, object]] = {}
    for path in sorted(config.rglob("*")):
        name, mode = str(path.relative_to(config)), path.stat().st_mode
        if path.is_dir():
            empty = not any(one.is_file() for one in path.rglob("*"))
            found |= {} if empty else {name: (mode, None)}
        elif path.suffix == ".json":
            content = path.read_text().replace("/run/kist.sock", "/var/run/docker.sock")
            found[name] = (mode, json.loads(content))
        else:
            found[name] = (mode, path.read_bytes())
    return found


@pytest.mark.parametrize(("writer", "reader"), [(KIST, DOCKER), (DOCKER, KIST)], ids=["kist-docker", "docker-kist"])
def test_what_one_command_makes_the_other_uses(
    writer: list[str], reader: list[str], files: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    pem = ",".join(f"{name}={files}/{name}.pem" for name in ("ca", "cert", "key"))
    assert run(writer, config, ["context", "create", "shared", "--docker", f"host=tcp://127.0.0.1:1,{pem}"])[0] == 0
    assert run(writer, config, ["context", "use", "shared"])[0] == 0
    assert run(reader, config, ["context", "show"])[1] == "shared\n"
    assert "tcp://127.0.0.1:1" in run(reader, config, ["ps"])[2]
    shown = run(reader, config, ["context", "inspect", "shared", "--format", "{{json .TLSMaterial}}"])
    assert shown[1] == '{"docker":["ca.pem","cert.pem","key.pem"]}\n'
    assert run(writer, config, ["context", "export", "shared", f"{tmp_path}/x.tar"])[0] == 0
    assert run(reader, config, ["context", "import", "again", f"{tmp_path}/x.tar"])[0] == 0
    store = config / "contexts/tls"
    contents = sorted(path.read_bytes() for path in store.rglob("*.pem"))
    assert contents == sorted([*((files / f"{name}.pem").read_bytes() for name in ("ca", "cert", "key"))] * 2)
    assert run(reader, config, ["context", "rm", "-f", "shared", "again"])[0] == 0
    assert not list(store.rglob("*.pem"))


def test_kists_own_variables_come_before_dockers(tmp_path: Path) -> None:
    config = tmp_path / "config"
    for name in ("k1", "d1"):
        assert run(KIST, config, ["context", "create", name, "--docker", f"host=unix:///nosuch/{name}"])[0] == 0

    def reached(*words: str, **environment: str) -> str:
        status, _, errors = run(KIST, config, [*words, "ps"], **environment)
        assert status == 1
        found = re.search(r"unix:///nosuch/(\w+)", errors)
        assert found is not None, errors
        return found[1]

    assert reached(DOCKER_HOST="unix:///nosuch/dh") == "dh"
    assert reached(DOCKER_HOST="unix:///nosuch/dh", KIST_HOST="unix:///nosuch/kh") == "kh"
    assert reached(DOCKER_HOST="unix:///nosuch/dh", KIST_CONTEXT="k1") == "k1"
    assert reached(DOCKER_CONTEXT="d1", KIST_CONTEXT="k1") == "k1"
    assert reached(DOCKER_CONTEXT="d1") == "d1"
    assert reached(KIST_HOST="unix:///nosuch/kh", KIST_CONTEXT="k1") == "kh"
    assert reached("-c", "d1", KIST_HOST="unix:///nosuch/kh", KIST_CONTEXT="k1") == "d1"
    warned = run(KIST, config, ["context", "use", "d1"], KIST_HOST="unix:///nosuch/kh")
    assert "KIST_HOST environment variable overrides the active context" in warned[2]
    assert reached() == "d1"


def test_a_configuration_keeps_what_others_wrote(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.mkdir()
    kept = {"auths": {"r.example": {"auth": "dTpw"}}, "zeta": {"b": 1, "a": [1.5, None]}, "psFormat": "table {{.ID}}"}
    (config / "real.json").write_text(json.dumps(kept))
    (config / "real.json").chmod(0o640)
    (config / "config.json").symlink_to("real.json")
    assert run(KIST, config, ["context", "create", "one", "--docker", "host=unix:///x"])[0] == 0
    assert run(KIST, config, ["context", "use", "one"])[0] == 0
    assert json.loads((config / "real.json").read_text()) == {**kept, "currentContext": "one"}
    assert (config / "config.json").is_symlink() and (config / "real.json").stat().st_mode & 0o777 == 0o640
    assert run(KIST, config, ["context", "use", "default"])[0] == 0
    assert json.loads((config / "real.json").read_text()) == kept
    (config / "real.json").write_text("{broken")
    status, _, errors = run(KIST, config, ["context", "use", "one"])
    assert status == 1 and "left as it is" in errors
    assert (config / "real.json").read_text() == "{broken"
