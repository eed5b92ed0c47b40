"""Volume drivers outside of the engine, by Docker's plug-in protocol, with a plug-in of the test's own."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Kistd, _end_engine, _make_engine, assert_no_leak, footprint
from tests.volume_plugin import VolumePlugin


@pytest.fixture(scope="module")
def with_plugins(busybox_archive: Path) -> Iterator[tuple[Kistd, str]]:
    """An engine and a directory with `run` for sockets and `etc` for specifications."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    base = tempfile.mkdtemp(prefix="kv", dir="/tmp")
    os.makedirs(f"{base}/run")
    os.makedirs(f"{base}/etc")
    engine = _make_engine(busybox_archive, "--plugin-socket-dir", f"{base}/run", "--plugin-spec-dir", f"{base}/etc")
    try:
        yield engine, base
    finally:
        _end_engine(engine)
        shutil.rmtree(base)


@pytest.fixture
def both(with_plugins: tuple[Kistd, str], request: pytest.FixtureRequest) -> Iterator[tuple[Kistd, VolumePlugin]]:
    """The engine and a plug-in, under a name of the test's own: the engine remembers those it has used."""
    engine, base = with_plugins
    before = footprint(engine)
    name = f"p{abs(hash(request.node.name)) % 10**8}"
    plugin = VolumePlugin(f"{base}/{name}", f"{base}/run/{name}.sock")
    plugin.name = name  # type: ignore[attr-defined]
    plugin.start()
    yield engine, plugin
    plugin.stop()
    plugin.replies, plugin.delay, plugin.status = {}, 0.0, 200
    plugin.start()
    engine.remove_all()
    for volume in engine.ok("volume", "ls", "-q").split():
        engine.request("DELETE", f"/volumes/{volume}?force=1")
    plugin.stop()
    os.unlink(plugin.socket)
    assert_no_leak(engine, before)


def name_of(plugin: VolumePlugin) -> str:
    return str(plugin.name)  # type: ignore[attr-defined]


def until_unmounted(plugin: VolumePlugin, name: str) -> None:
    deadline = time.monotonic() + 5
    while plugin.mounted.get(name):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_volume_of_a_plug_in_from_create_to_remove(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    driver = name_of(plugin)
    engine.ok("volume", "create", "-d", driver, "-o", "a=b", "--label", "x=y", "vol")
    assert plugin.of("VolumeDriver.Create") == [{"Name": "vol", "Opts": {"a": "b"}}]
    assert engine.ok("volume", "ls", "--format", "{{.Driver}} {{.Name}} {{.Scope}}") == f"{driver} vol global\n"
    (found,) = json.loads(engine.ok("volume", "inspect", "vol"))
    assert found == {
        "CreatedAt": "2026-01-02T03:04:05Z", "Driver": driver, "Labels": {"x": "y"}, "Mountpoint": "", "Name": "vol",
        "Options": {"a": "b"}, "Scope": "global", "Status": {"state": "fine", "n": 3},
    }  # fmt: skip
    assert driver in json.loads(engine.ok("info", "-f", "{{json .Plugins.Volume}}"))
    engine.ok("run", "-d", "--name", "one", "-v", "vol:/x", "busybox", "sh", "-c", "echo hi > /x/file; sleep 1000")
    (mounted,) = plugin.of("VolumeDriver.Mount")
    assert len(mounted["ID"]) == 64
    (point,) = json.loads(engine.ok("inspect", "one", "-f", "{{json .Mounts}}"))
    assert (point["Driver"], point["Source"], point["Name"]) == (driver, f"{plugin.root}/vol", "vol")
    engine.ok("rm", "-f", "one")
    until_unmounted(plugin, "vol")
    assert plugin.of("VolumeDriver.Unmount") == [mounted]
    assert Path(f"{plugin.root}/vol/file").read_text() == "hi\n"
    engine.ok("volume", "rm", "vol")
    assert plugin.volumes == {}
    assert engine.ok("volume", "ls", "-q") == ""


def test_run_with_a_volume_driver(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    driver = name_of(plugin)
    run = ("run", "--rm", "--volume-driver", driver, "-v", "vol:/x", "-v", "/anonymous", "busybox")
    engine.ok(*run, "touch", "/x/file")
    assert engine.ok(*run, "ls", "/x") == "file\n"
    assert list(plugin.volumes) == ["vol"], "the anonymous one went with its container"
    assert len(plugin.of("VolumeDriver.Mount")) == 4
    until_unmounted(plugin, "vol")


def test_a_volume_that_only_the_plug_in_knows(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    plugin.volumes["theirs"] = {}
    os.makedirs(f"{plugin.root}/theirs")
    Path(f"{plugin.root}/theirs/file").write_text("there")
    assert engine.ok("volume", "ls", "-q") == "theirs\n"
    assert engine.ok("run", "--rm", "-v", "theirs:/x", "busybox", "cat", "/x/file") == "there"
    assert plugin.of("VolumeDriver.Create") == []
    engine.ok("volume", "rm", "theirs")
    assert plugin.volumes == {}


def test_what_the_image_has_is_copied_into_it(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    engine.ok("create", "--volume-driver", name_of(plugin), "-v", "vol:/etc", "busybox", "true")
    assert Path(f"{plugin.root}/vol/passwd").exists()
    until_unmounted(plugin, "vol")


def test_the_errors_of_a_plug_in_are_told_as_docker_does(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    driver = name_of(plugin)
    body = {"Name": "vol", "Driver": driver}
    plugin.replies["VolumeDriver.Create"] = {"Err": "no space"}
    assert engine.request("POST", "/volumes/create", body) == (500, {"message": "create vol: no space"})
    assert engine.ok("volume", "ls", "-q") == ""
    del plugin.replies["VolumeDriver.Create"]
    engine.ok("volume", "create", "-d", driver, "vol")
    conflict = f"create vol: driver '{driver}' already has volume 'vol': volume name must be unique"
    assert engine.request("POST", "/volumes/create", {"Name": "vol", "Driver": "local"}) == (409, {"message": conflict})
    plugin.replies["VolumeDriver.Mount"] = {"Err": "no path"}
    result = engine.docker("run", "--rm", "-v", "vol:/x", "busybox", "true")
    assert "error while mounting volume '': no path" in result.errors
    plugin.replies["VolumeDriver.Mount"] = {"Mountpoint": "relative"}
    result = engine.docker("run", "--rm", "-v", "vol:/x", "busybox", "true")
    assert "gave no absolute path" in result.errors
    plugin.replies["VolumeDriver.Remove"] = {"Err": "busy"}
    assert engine.request("DELETE", "/volumes/vol") == (500, {"message": "remove vol: busy"})
    assert engine.ok("volume", "ls", "-q") == "vol\n"


def test_a_status_that_is_not_200(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    driver = name_of(plugin)
    engine.ok("volume", "create", "-d", driver, "first")
    plugin.replies["VolumeDriver.Create"] = {"Err": "broken"}
    plugin.status = 500
    _, answer = engine.request("POST", "/volumes/create", {"Name": "vol", "Driver": driver})
    assert answer == {"message": "create vol: VolumeDriver.Create: broken"}


LIES = {
    "garbage": b"<html>",
    "wrong types": {"Volume": 5, "Volumes": "x", "Mountpoint": []},
    "nothing": b"",
    "break off": ConnectionResetError(),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_plug_in_that_answers_nonsense_fails_alone(both: tuple[Kistd, VolumePlugin], lie: str) -> None:
    engine, plugin = both
    engine.ok("volume", "create", "-d", name_of(plugin), "vol")
    engine.ok("volume", "create", "own")
    plugin.replies["VolumeDriver.List"] = LIES[lie] if lie != "break off" else b"{"
    status, answer = engine.request("GET", "/volumes")
    assert (status, sorted(one["Name"] for one in answer["Volumes"])) == (200, ["own", "vol"])
    (warning,) = answer["Warnings"]
    assert warning.startswith(f"list {name_of(plugin)}: ")
    assert engine.request("GET", "/volumes/own")[0] == 200


def test_a_plug_in_that_is_no_volume_driver(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    plugin.replies["Plugin.Activate"] = {"Implements": ["NetworkDriver"]}
    driver = name_of(plugin)
    text = (
        f"create vol: error looking up volume plugin {driver}: legacy plugin: "
        f"Plugin does not implement the requested driver"
    )
    assert engine.request("POST", "/volumes/create", {"Name": "vol", "Driver": driver}) == (500, {"message": text})


def test_a_slow_plug_in_holds_up_nobody_else(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    plugin.delay = 1.0
    pid = os.fork()
    if pid == 0:
        try:
            engine.ok("volume", "create", "-d", name_of(plugin), "vol")
            os._exit(0)
        finally:
            os._exit(1)
    longest = 0.0
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        begin = time.monotonic()
        assert engine.request("GET", "/_ping")[0] == 200
        longest = max(longest, time.monotonic() - begin)
        time.sleep(0.05)
    assert longest < 0.9
    assert list(plugin.volumes) == ["vol"]


def test_a_dead_plug_in_does_not_keep_a_container_from_ending(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    engine.ok(
        "run", "-d", "--name", "one", "--volume-driver", name_of(plugin), "-v", "vol:/x", "busybox", "sleep", "99"
    )
    plugin.stop()
    begin = time.monotonic()
    engine.ok("kill", "one")
    engine.ok("rm", "one")
    assert time.monotonic() - begin < 5
    plugin.start()
    until_unmounted(plugin, "vol")  # it was waited for


def test_one_that_is_gone_is_told_after_it_was_waited_for(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    plugin.stop()
    driver = name_of(plugin)
    begin = time.monotonic()
    _, answer = engine.request("POST", "/volumes/create", {"Name": "vol", "Driver": driver})
    assert answer == {
        "message": f"create vol: error looking up volume plugin {driver}: legacy plugin: Post "
        f'"http://plugin.moby.localhost/Plugin.Activate": dial unix {plugin.socket}: connect: connection refused'
    }
    assert 14 < time.monotonic() - begin < 25


def test_specifications(with_plugins: tuple[Kistd, str]) -> None:
    engine, base = with_plugins
    plugin = VolumePlugin(f"{base}/tcp")
    plugin.start()
    Path(f"{base}/etc/plain.spec").write_text(f"tcp://127.0.0.1:{plugin.port}\n")
    os.makedirs(f"{base}/etc/other", exist_ok=True)
    Path(f"{base}/etc/other/other.json").write_text(
        json.dumps({"Name": "other", "Addr": f"http://127.0.0.1:{plugin.port}"})
    )
    Path(f"{base}/etc/bad.spec").write_text("nonsense")
    Path(f"{base}/etc/worse.json").write_text("{")
    try:
        for driver in ("plain", "other"):
            engine.ok("volume", "create", "-d", driver, f"of-{driver}")
            engine.ok("volume", "rm", f"of-{driver}")
        _, answer = engine.request("POST", "/volumes/create", {"Name": "vol", "Driver": "bad"})
        assert answer["message"] == "create vol: error looking up volume plugin bad: legacy plugin: Unknown protocol"
        assert engine.request("POST", "/volumes/create", {"Name": "vol", "Driver": "worse"})[0] == 500
        for driver in ("../etc/plain", "plain/../plain", "no such"):
            assert engine.request("POST", "/volumes/create", {"Name": "vol", "Driver": driver})[0] == 404
    finally:
        plugin.stop()
        shutil.rmtree(f"{base}/etc")
        os.makedirs(f"{base}/etc")


def test_after_a_crash_the_plug_in_hears_what_nobody_uses_any_more(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    for name in ("used", "left"):
        engine.ok(
            *("run", "-d", "--name", name, "--volume-driver", name_of(plugin), "-v", f"{name}:/x"),
            *("busybox", "sleep", "1000"),
        )
    pid = int(engine.ok("inspect", "left", "-f", "{{.State.Pid}}"))
    engine.kill()
    os.kill(pid, 9)
    engine.start()
    until_unmounted(plugin, "left")
    assert len(plugin.mounted["used"]) == 1
    engine.ok("rm", "-f", "used")
    until_unmounted(plugin, "used")


def test_a_volume_that_the_plug_in_has_lost(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    driver = name_of(plugin)
    engine.ok("volume", "create", "-d", driver, "vol")
    engine.ok("create", "--name", "one", "-v", "vol:/x", "busybox", "true")
    plugin.volumes.clear()
    status, answer = engine.request("POST", "/volumes/create", {"Name": "vol", "Driver": driver})
    assert (status, answer["message"].partition(" -- ")[0]) == (
        409,
        f"create vol: found references to volume 'vol' in driver '{driver}' but the volume was not found in the driver",
    )
    engine.ok("rm", "one")
    assert engine.request("GET", "/volumes/vol") == (404, {"message": "get vol: no such volume"})
    engine.ok("volume", "create", "-d", driver, "vol")
    assert list(plugin.volumes) == ["vol"]


def test_a_name_that_leads_elsewhere_is_only_a_name(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    place = Path(f"{engine.base}/d/elsewhere")
    place.mkdir()
    (place / "pending").write_text("mine")
    try:
        body = {"Name": "../elsewhere", "Driver": name_of(plugin)}
        assert engine.request("POST", "/volumes/create", body)[0] == 201
        asked = {"Image": "busybox", "HostConfig": {"Mounts": [
            {"Type": "volume", "Source": "../elsewhere", "Target": "/x", "VolumeOptions": {"NoCopy": True}},
        ]}}  # fmt: skip
        assert engine.request("POST", "/containers/create?name=box", asked)[0] == 201
        engine.ok("rm", "-v", "box")
        assert engine.request("DELETE", "/volumes/..%2Felsewhere?force=1")[0] == 204
        assert (place / "pending").read_text() == "mine"
    finally:
        shutil.rmtree(place)
        shutil.rmtree(f"{plugin.root}/../elsewhere", ignore_errors=True)


def test_a_name_with_a_slash_is_exported_and_cloned(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    assert engine.request("POST", "/volumes/create", {"Name": "team/vol", "Driver": name_of(plugin)})[0] == 201
    Path(f"{plugin.root}/team/vol/file").write_text("here")
    status, archive = engine.request("GET", "/kist/volumes/team/vol/export")
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        assert (status, found.getnames()) == (200, [".", "./file"])
    assert engine.request("POST", "/kist/volumes/team%2Fvol/clone?to=copy")[0] == 201
    assert Path(f"{engine.base}/d/volumes/copy/_data/file").read_text() == "here"
    engine.ok("volume", "rm", "copy", "team/vol")


def test_every_mount_is_undone(both: tuple[Kistd, VolumePlugin]) -> None:
    engine, plugin = both
    engine.ok("volume", "create", "-d", name_of(plugin), "vol")

    def work(number: int) -> None:
        for life in range(4):
            name = f"user{number}-{life}"
            asked = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Binds": ["vol:/x", "vol:/y"]}}
            engine.request("POST", f"/containers/create?name={name}", asked)
            engine.request("POST", f"/containers/{name}/start")
            engine.request("POST", f"/containers/{name}/restart?t=0")
            engine.request("DELETE", f"/containers/{name}?force=1")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    until_unmounted(plugin, "vol")
    ids = [sorted(one["ID"] for one in plugin.of(f"VolumeDriver.{method}")) for method in ("Mount", "Unmount")]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 4 * 4 * 2 * 2
    assert len(set(ids[0])) == 4 * 4 * 2
