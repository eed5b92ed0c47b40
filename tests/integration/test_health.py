"""Health checks: probes on the real kernel, what is told of them, and what follows from them."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.conftest import Kistd

SECOND = 1_000_000_000
MILLISECOND = 1_000_000


def inspect(engine: Kistd, name: str = "box") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.ok("inspect", name))[0]
    return found


def health(engine: Kistd, name: str = "box") -> dict[str, Any]:
    found: dict[str, Any] = inspect(engine, name)["State"]["Health"]
    return found


def until(true: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def events(engine: Kistd, since: float, *words: str) -> list[str]:
    told = engine.ok("events", "--since", f"{since:.6f}", "--until", f"{time.time():.6f}", "--filter", "type=container",
                     "--format", "{{.Action}}", *words)  # fmt: skip
    return told.split("\n")[:-1]


def run(engine: Kistd, check: dict[str, Any], *, script: str = "exec sleep 100", name: str = "box", **more: Any) -> str:
    """A running container with a health check."""
    host = more.pop("HostConfig", {})
    body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "Healthcheck": check, "HostConfig": host, **more}
    code, made = engine.request("POST", f"/containers/create?name={name}", body)
    assert code == 201, made
    assert engine.request("POST", f"/containers/{name}/start")[0] == 204
    return str(made["Id"])


def test_healthy_then_unhealthy_then_healthy(engine: Kistd) -> None:
    began = time.time()
    run(engine, {"Test": ["CMD-SHELL", "echo seen; test -e /good"], "Interval": 150 * MILLISECOND, "Retries": 2},
        script="touch /good; exec sleep 100")  # fmt: skip
    until(lambda: health(engine)["Status"] == "healthy")
    assert engine.ok("ps", "--format", "{{.Status}}").endswith("(healthy)\n")
    assert engine.ok("ps", "-q", "--filter", "health=healthy") != ""
    assert engine.ok("ps", "-q", "--filter", "health=none") == ""
    engine.ok("exec", "box", "rm", "/good")
    until(lambda: health(engine)["Status"] == "unhealthy")
    assert engine.ok("ps", "--format", "{{.Status}}").endswith("(unhealthy)\n")
    assert health(engine)["FailingStreak"] >= 2
    engine.ok("exec", "box", "touch", "/good")
    until(lambda: health(engine)["Status"] == "healthy")
    found = health(engine)
    assert found["FailingStreak"] == 0
    last = found["Log"][-1]
    assert (last["ExitCode"], last["Output"]) == (0, "seen\n")
    assert last["Start"] < last["End"]
    until(lambda: len(health(engine)["Log"]) == 5)
    time.sleep(0.4)
    assert len(health(engine)["Log"]) == 5
    told = events(engine, began)
    statuses = [one for one in told if one.startswith("health_status")]
    assert statuses == ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]
    command = "/bin/sh -c echo seen; test -e /good"
    first = told.index("start")
    assert told[first + 1 : first + 5] == [f"exec_create: {command}", f"exec_start: {command}", "exec_die",
                                           "health_status: healthy"]  # fmt: skip
    engine.ok("kill", "box")
    until(lambda: not inspect(engine)["State"]["Running"])
    assert health(engine)["Status"] == "unhealthy", "what does not run is not healthy"
    engine.ok("start", "box")
    assert (health(engine)["Status"], len(health(engine)["Log"])) == ("starting", 5)


def test_before_the_first_probe(engine: Kistd) -> None:
    run(engine, {"Test": ["CMD", "true"]})
    assert engine.ok("ps", "--format", "{{.Status}}").endswith("(health: starting)\n")
    assert engine.ok("ps", "--filter", "health=starting", "--format", "{{.Names}}") == "box\n"
    assert health(engine) == {"Status": "starting", "FailingStreak": 0, "Log": []}


def test_failures_before_the_start_period_is_over_do_not_count(engine: Kistd) -> None:
    run(engine, {"Test": ["CMD", "false"], "Interval": 100 * MILLISECOND, "Retries": 1, "StartPeriod": SECOND,
                 "StartInterval": 200 * MILLISECOND})  # fmt: skip
    time.sleep(0.75)
    found = health(engine)
    assert (found["Status"], found["FailingStreak"]) == ("starting", 0)
    assert 2 <= len(found["Log"]) <= 4, "one at each start interval"
    until(lambda: health(engine)["Status"] == "unhealthy")


def test_the_shell_of_the_image_and_the_user_run_the_probe(engine: Kistd) -> None:
    run(engine, {"Test": ["CMD-SHELL", "id -un; pwd; echo $A"], "Interval": 100 * MILLISECOND}, User="daemon",
        WorkingDir="/tmp", Env=["A=b"], Shell=["/bin/busybox", "sh", "-c"])  # fmt: skip
    until(lambda: health(engine)["Log"])
    assert health(engine)["Log"][0]["Output"] == "daemon\n/tmp\nb\n"


def test_probes_that_cannot_run(engine: Kistd) -> None:
    run(engine, {"Test": ["CMD", "nosuch"], "Interval": 100 * MILLISECOND, "Retries": 1})
    until(lambda: health(engine)["Status"] == "unhealthy")
    last = health(engine)["Log"][-1]
    assert last["ExitCode"] == -1
    assert 'exec: "nosuch": executable file not found in $PATH' in last["Output"]
    container = run(engine, {"Test": ["CMD"], "Interval": 100 * MILLISECOND}, name="empty")
    until(lambda: health(engine, "empty")["Log"])
    assert health(engine, "empty")["Log"][0]["Output"] == f"healthcheck for container {container} has no command"


def test_output_is_limited_and_never_in_the_way(engine: Kistd) -> None:
    run(engine, {"Test": ["CMD-SHELL", "yes | head -c 3000000; printf '\\377' >&2"], "Interval": 100 * MILLISECOND})
    until(lambda: health(engine)["Log"])
    first = health(engine)["Log"][0]
    assert (first["ExitCode"], len(first["Output"])) == (0, 4096 + 3)
    assert first["Output"] == "y\n" * 2048 + "..."
    run(engine, {"Test": ["CMD-SHELL", "printf 'a\\377b' >&2"], "Interval": 100 * MILLISECOND}, name="binary")
    until(lambda: health(engine, "binary")["Log"])
    assert health(engine, "binary")["Log"][0]["Output"] == "a\N{REPLACEMENT CHARACTER}b"


def test_a_probe_that_takes_too_long_is_killed_with_all_it_started(engine: Kistd) -> None:
    run(engine, {"Test": ["CMD-SHELL", "echo begun; sleep 4711; true"], "Interval": 100 * MILLISECOND,
                 "Timeout": 300 * MILLISECOND, "Retries": 1})  # fmt: skip
    until(lambda: health(engine)["Status"] == "unhealthy")
    first = health(engine)["Log"][0]
    assert (first["ExitCode"], first["Output"]) == (-1, "Health check exceeded timeout (300ms): begun\n")
    engine.ok("pause", "box")  # no new probe from here on
    listed = engine.ok("top", "box")
    engine.ok("unpause", "box")
    assert listed.count("sleep 4711\n") <= 1, "only one that may be running right now"


def test_a_paused_container_is_not_asked(engine: Kistd) -> None:
    began = time.time()
    run(engine, {"Test": ["CMD", "true"], "Interval": 200 * MILLISECOND, "Timeout": 100 * MILLISECOND, "Retries": 1})
    until(lambda: health(engine)["Status"] == "healthy")
    engine.ok("pause", "box")
    paused = len(events(engine, began))
    assert engine.ok("ps", "--format", "{{.Status}}").endswith("(Paused)\n")
    time.sleep(0.7)
    assert len(events(engine, began)) - paused <= 1, "but for the end of the last probe"
    assert health(engine)["Status"] == "healthy"
    engine.ok("unpause", "box")
    seen = len(events(engine, began))
    until(lambda: len(events(engine, began)) > seen + 2)
    assert "health_status: unhealthy" not in events(engine, began)


def test_none_and_times_alone(engine: Kistd) -> None:
    engine.ok("run", "-d", "--name", "box", "--no-healthcheck", "busybox", "sleep", "100")
    assert "Health" not in inspect(engine)["State"]
    assert inspect(engine)["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    run(engine, {"Interval": 5 * SECOND}, name="settings")
    assert "Health" not in inspect(engine, "settings")["State"], "times alone are no check"


def image_with_check(engine: Kistd, check: dict[str, Any]) -> None:
    """busybox as `checked`, with a HEALTHCHECK."""
    _, archive = engine.request("GET", "/images/busybox/get")
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as source, tarfile.open(fileobj=made, mode="w") as target:

        def read(name: str) -> bytes:
            file = source.extractfile(name)
            assert file is not None
            return file.read()

        def write(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            target.addfile(member, io.BytesIO(data))

        (manifest,) = json.loads(read("manifest.json"))
        config = json.loads(read(manifest["Config"]))
        config["config"]["Healthcheck"] = check
        write("config.json", json.dumps(config).encode())
        for layer in manifest["Layers"]:
            write(layer, read(layer))
        told = {"Config": "config.json", "RepoTags": ["checked:latest"], "Layers": manifest["Layers"]}
        write("manifest.json", json.dumps([told]).encode())
    headers = {"Content-Type": "application/x-tar"}
    assert engine.request("POST", "/images/load", made.getvalue(), headers)[0] == 200


def test_the_check_of_an_image(engine: Kistd) -> None:
    image_with_check(engine, {"Test": ["CMD-SHELL", "exit 0"], "Interval": 100 * MILLISECOND, "Retries": 7})
    try:
        created = engine.docker("run", "-d", "--name", "box", "--health-timeout", "3s", "checked", "sleep", "100")
        assert (created.status, created.errors) == (0, "")
        until(lambda: health(engine)["Status"] == "healthy")
        merged = {"Test": ["CMD-SHELL", "exit 0"], "Interval": 100 * MILLISECOND, "Timeout": 3 * SECOND, "Retries": 7}
        assert inspect(engine)["Config"]["Healthcheck"] == merged
        engine.ok("run", "-d", "--name", "off", "--no-healthcheck", "checked", "sleep", "100")
        assert "Health" not in inspect(engine, "off")["State"]
        assert engine.ok("ps", "--filter", "health=none", "--format", "{{.Names}}") == "off\n"
    finally:
        engine.docker("rm", "-f", "box", "off")
        engine.ok("rmi", "checked")


def test_flags_of_the_stock_client(engine: Kistd) -> None:
    times = ("--health-interval", "1s", "--health-timeout", "2s", "--health-start-period", "3s")
    engine.ok("run", "-d", "--name", "box", "--health-cmd", "exit 0", *times, "--health-start-interval", "200ms",
              "--health-retries", "4", "busybox", "sleep", "100")  # fmt: skip
    assert inspect(engine)["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "exit 0"], "Interval": SECOND, "Timeout": 2 * SECOND, "Retries": 4,
        "StartPeriod": 3 * SECOND, "StartInterval": 200 * MILLISECOND,
    }  # fmt: skip
    until(lambda: health(engine)["Status"] == "healthy", 1.5)
    body = {"Image": "busybox", "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5}}
    assert engine.request("POST", "/containers/create", body) == (
        400, {"message": "Interval in Healthcheck cannot be less than 1ms"})  # fmt: skip


@pytest.mark.parametrize("place", ["annotation", "label"])
@pytest.mark.parametrize("action", ["none", "kill", "stop", "restart"])
def test_what_is_done_with_an_unhealthy_container(engine: Kistd, action: str, place: str) -> None:
    began = time.time()
    asked = {"kist.health-on-failure": action}
    more: dict[str, Any] = {"HostConfig": {"Annotations": asked}} if place == "annotation" else {"Labels": asked}
    run(engine, {"Test": ["CMD", "false"], "Interval": 150 * MILLISECOND, "Retries": 2},
        script="trap 'exit 7' TERM; while :; do sleep 0.05; done", **more)  # fmt: skip
    until(lambda: "health_status: unhealthy" in events(engine, began))
    if action == "restart":
        until(lambda: inspect(engine)["RestartCount"] >= 2 and inspect(engine)["State"]["Running"], 20)
        told = [one for one in events(engine, began) if not one.startswith("exec_")]
        assert told[2:8] == ["health_status: unhealthy", "kill", "die", "stop", "start", "restart"]
    elif action == "none":
        time.sleep(0.5)
        assert inspect(engine)["State"]["Running"]
    else:
        until(lambda: not inspect(engine)["State"]["Running"])
        assert inspect(engine)["State"]["ExitCode"] == {"kill": 137, "stop": 7}[action]


def test_killed_for_its_health_it_starts_again_by_its_policy(engine: Kistd) -> None:
    for action, running in (("kill", True), ("stop", False)):
        host = {"Annotations": {"kist.health-on-failure": action}, "RestartPolicy": {"Name": "unless-stopped"}}
        check = {"Test": ["CMD", "false"], "Interval": 100 * MILLISECOND, "Retries": 1}
        run(engine, check, name=action, HostConfig=host,
            script="trap 'exit 7' TERM; while :; do sleep 0.05; done")  # fmt: skip
        if running:
            until(lambda: inspect(engine, "kill")["RestartCount"] >= 2)
        else:
            until(lambda: inspect(engine, "stop")["State"]["Status"] == "exited")
            time.sleep(0.4)
            assert inspect(engine, "stop")["RestartCount"] == 0


def test_an_action_that_means_nothing_is_refused(engine: Kistd) -> None:
    check = {"Test": ["CMD", "true"]}
    for asked, given, told in (
        (
            "reboot",
            check,
            "invalid value for kist.health-on-failure (reboot): must be one of none, kill, restart, stop",
        ),
        ("kill", None, "kist.health-on-failure=kill needs a health check, and this container has none"),
    ):
        body = {"Image": "busybox", "Labels": {"kist.health-on-failure": asked}, "Healthcheck": given}
        assert engine.request("POST", "/containers/create", body) == (400, {"message": told})


def test_a_check_begins_anew_with_each_life(engine: Kistd) -> None:
    run(engine, {"Test": ["CMD", "true"], "Interval": 100 * MILLISECOND},
        script="while ! [ -e /go ]; do sleep 0.02; done; rm /go; exit 3",
        HostConfig={"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 1}})  # fmt: skip
    until(lambda: health(engine)["Status"] == "healthy")
    engine.ok("exec", "box", "touch", "/go")
    until(lambda: inspect(engine)["RestartCount"] == 1 and health(engine)["Status"] == "healthy")
    engine.ok("exec", "box", "touch", "/go")
    until(lambda: inspect(engine)["State"]["Status"] == "exited")


def test_probes_outlive_no_container(engine: Kistd) -> None:
    """A container that ends or is removed while a probe runs: it goes at once."""
    for words in (("kill", "box"), ("rm", "-f", "box")):
        run(engine, {"Test": ["CMD", "sleep", "50"], "Interval": 100 * MILLISECOND})
        time.sleep(0.4)
        assert len(inspect(engine)["ExecIDs"]) == 1
        before = time.monotonic()
        engine.ok(*words)
        assert engine.request("POST", "/kist/quiesce")[0] == 204
        assert time.monotonic() - before < 2
        engine.docker("rm", "-f", "box")


# --- kistd comes and goes ---


def test_the_next_kistd_goes_on_asking(own_engine: Kistd) -> None:
    engine = own_engine
    run(engine, {"Test": ["CMD-SHELL", "test -e /good"], "Interval": 150 * MILLISECOND, "Retries": 2},
        script="touch /good; exec sleep 100")  # fmt: skip
    until(lambda: health(engine)["Status"] == "healthy")
    engine.kill()
    engine.start()
    assert health(engine)["Status"] == "healthy", "nobody notices"
    engine.ok("exec", "box", "rm", "/good")
    until(lambda: health(engine)["Status"] == "unhealthy")
    assert engine.stop() == 0
    engine.start()
    assert health(engine)["Status"] == "unhealthy"
    assert len(health(engine)["Log"]) >= 2
    engine.ok("exec", "box", "touch", "/good")
    until(lambda: health(engine)["Status"] == "healthy")


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_probe_that_kistd_left_behind_is_ended_by_the_next(own_engine: Kistd, how: str) -> None:
    engine = own_engine
    run(engine, {"Test": ["CMD-SHELL", "test -e /second || { touch /second; sleep 4711; }"],
                 "Interval": 300 * MILLISECOND, "Timeout": 60 * SECOND})  # fmt: skip
    until(lambda: "sleep 4711\n" in engine.ok("top", "box"))
    before = time.monotonic()
    if how == "kill":
        engine.kill()
    else:
        assert engine.stop() == 0
        assert time.monotonic() - before < 5, "a running probe holds nothing up"
    engine.start()
    until(lambda: "sleep 4711\n" not in engine.ok("top", "box"))
    until(lambda: health(engine)["Status"] == "healthy")
