"""`diff` and `export`: what a container changed, and its whole root, running or not."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from tests.conftest import Kistd

CHANGE = (
    "mkdir -p /new/deep; echo x >/new/deep/f; rm /bin/arp; rm -rf /var/spool; chmod 711 /root; touch /etc/passwd; "
    "rm -rf /home && mkdir /home && echo y >/home/z; ln -s f /new/l"
)


def changed(engine: Kistd, name: str) -> list[tuple[str, int]]:
    status, found = engine.request("GET", f"/containers/{name}/changes")
    assert status == 200
    return [(one["Path"], one["Kind"]) for one in found or ()]


def test_nothing_changed(engine: Kistd) -> None:
    engine.ok("create", "--name", "box", "busybox", "true")
    assert engine.request("GET", "/containers/box/changes") == (200, None)
    assert engine.request("GET", "/containers/none/changes")[0] == 404


@pytest.mark.parametrize("running", [True, False])
def test_every_kind_of_change(engine: Kistd, running: bool) -> None:
    engine.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", f"{CHANGE}; touch /done; {'sleep 1000' * running}")
    if running:
        engine.ok("exec", "box", "sh", "-c", "until [ -e /done ]; do sleep 0.02; done")
    else:
        engine.ok("wait", "box")
    found = dict(changed(engine, "box"))
    expected = {"/new": 1, "/new/deep": 1, "/new/deep/f": 1, "/new/l": 1, "/bin": 0, "/bin/arp": 2, "/done": 1,
                "/root": 0, "/etc": 0, "/etc/passwd": 0, "/home/z": 1}  # fmt: skip
    assert {path: found.get(path) for path in expected} == expected
    assert found.get("/home") in (0, 1)
    assert set(found) - set(expected) <= {"/home", "/var", "/var/spool"}
    assert list(found) == sorted(found, key=lambda path: path.split("/"))
    lines = engine.ok("diff", "box").splitlines()
    assert "A /new/deep/f" in lines
    assert "D /bin/arp" in lines
    assert "C /etc/passwd" in lines


def test_export_has_the_root_and_no_mounts(engine: Kistd, tmp_path: Path) -> None:
    (tmp_path / "host").write_text("x")
    engine.ok("run", "-d", "--name", "box", "-v", f"{tmp_path}:/b", "-v", "/v", "busybox", "sh", "-c",
              "echo own >/own; rm /bin/arp; echo v >/v/f; sleep 1000")  # fmt: skip
    engine.ok("exec", "box", "sh", "-c", "until [ -e /v/f ]; do sleep 0.02; done")
    for running in (True, False):
        with tarfile.open(fileobj=io.BytesIO(engine.docker("export", "box").out)) as archive:
            names = archive.getnames()
            own = archive.extractfile("own")
            assert own is not None
            assert own.read() == b"own\n"
        assert {"bin/sh", "etc/passwd", "b", "v", "proc", ".dockerenv"} <= set(names)
        assert not any(name.startswith(("b/", "v/", "proc/")) or name in (".", "bin/arp") for name in names)
        if running:
            engine.ok("kill", "box")
            engine.ok("wait", "box")
    engine.ok("rm", "-v", "box")


def test_an_export_becomes_an_image(engine: Kistd) -> None:
    engine.ok("run", "--name", "box", "busybox", "sh", "-c", "echo own >/own")
    exported = engine.docker("export", "box").out
    engine.ok("import", "-c", "CMD cat /own", "-", "exported", stdin=exported)
    assert engine.ok("run", "--rm", "exported") == "own\n"
    engine.ok("rmi", "exported")


def test_the_same_files_give_the_same_bytes(engine: Kistd) -> None:
    engine.ok("run", "--name", "box", "busybox", "sh", "-c", "echo own >/own")
    assert engine.docker("export", "box").out == engine.docker("export", "box").out
