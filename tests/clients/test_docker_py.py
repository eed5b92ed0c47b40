"""docker-py against kistd, unchanged."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import docker
import pytest
from tests.conftest import Kistd

# docker-py leaves the sockets of its streams to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@pytest.fixture
def client(engine: Kistd) -> Iterator[Any]:
    client = docker.DockerClient(base_url=engine.host)
    yield client
    client.close()
    gc.collect()


def test_run_gives_the_output(client: Any) -> None:
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"


def test_run_raises_what_it_should(client: Any) -> None:
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    assert caught.value.exit_status == 3
    assert b"bad" in caught.value.stderr
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("nosuch")
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("nosuch")


def test_a_detached_container_has_logs_execs_and_an_end(client: Any) -> None:
    container = client.containers.run("busybox", ["sh", "-c", "echo one; sleep 60"], detach=True, name="py")
    assert container.exec_run("echo inside") == (0, b"inside\n")
    assert container.exec_run(["sh", "-c", "exit 7"]).exit_code == 7
    out, errors = container.exec_run(["sh", "-c", "echo a; echo b >&2"], demux=True).output
    assert (out, errors) == (b"a\n", b"b\n")
    assert container.logs() == b"one\n"
    assert list(container.logs(stream=True, follow=False)) == [b"one\n"]
    container.reload()
    assert container.status == "running"
    assert container.top()["Titles"][0] == "UID"
    container.rename("py2")
    container.stop(timeout=0)
    assert container.wait()["StatusCode"] == 137
    container.remove()


def test_attach_streams_frames(client: Any) -> None:
    container = client.containers.create("busybox", ["sh", "-c", "echo out; echo err >&2"])
    stream = container.attach(stream=True, demux=True)
    container.start()
    found = list(stream)
    assert b"".join(out for out, _ in found if out) == b"out\n"
    assert b"".join(err for _, err in found if err) == b"err\n"
    container.remove()


def test_an_attached_socket_carries_input(client: Any) -> None:
    container = client.containers.create("busybox", ["cat"], stdin_open=True)
    attached = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    attached._sock.sendall(b"through\n")
    attached._sock.shutdown(1)
    data = b""
    while chunk := attached._sock.recv(100):
        data += chunk
        if data.endswith(b"through\n"):
            break
    assert data.endswith(b"through\n")
    attached.close()
    container.remove(force=True)


def test_images_volumes_and_events(client: Any) -> None:
    image = client.images.get("busybox")
    assert "busybox:latest" in image.tags
    assert image.tag("copy", tag="one")
    client.images.remove("copy:one")
    volume = client.volumes.create("pyvolume", labels={"a": "b"})
    assert volume.attrs["Labels"] == {"a": "b"}
    assert (
        client.containers.run(
            "busybox", ["sh", "-c", "echo x > /v/f"], volumes={"pyvolume": {"bind": "/v"}}, remove=True
        )
        == b""
    )
    volume.remove()
    assert client.ping()
    assert client.info()["OSType"] == "linux"
    assert client.version()["ApiVersion"] == "1.51"
    assert client.df()["Images"]


def test_saved_images_load_again(client: Any) -> None:
    data = b"".join(client.images.get("busybox").save(named=True))
    assert client.images.load(data)[0].tags == ["busybox:latest"]


def test_the_output_of_a_terminal_is_in_frames_when_the_start_does_not_ask_for_one(client: Any) -> None:
    container = client.containers.run("busybox", ["sleep", "60"], detach=True)
    api = client.api
    exec_id = api.exec_create(container.id, ["sh", "-c", "test -t 1 && echo seen"], tty=True)
    assert api.exec_start(exec_id) == b"seen\r\n"
    exec_id = api.exec_create(container.id, ["sh", "-c", "test -t 1 && echo seen"], tty=True)
    assert api.exec_start(exec_id, tty=True) == b"seen\r\n"
    container.remove(force=True)


def test_the_exit_code_is_there_when_a_kill_returns(client: Any) -> None:
    for _ in range(5):
        container = client.containers.run("busybox", ["sleep", "60"], detach=True)
        container.kill()
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 137 and container.status == "exited"
        container.remove()


def test_what_is_no_archive_is_told_as_docker_py_expects(client: Any) -> None:
    with pytest.raises(docker.errors.ImageLoadError):
        client.images.load(b"abc")
