"""aiodocker against kistd, unchanged: another HTTP client with other habits (websocket, streams that are kept open)."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Awaitable, Callable
from typing import Any

import aiodocker
import pytest
from tests.conftest import Kistd

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def with_docker(engine: Kistd, work: Callable[[aiodocker.Docker], Awaitable[None]]) -> None:
    async def run() -> None:
        async with aiodocker.Docker(url=engine.host) as docker:
            await asyncio.wait_for(work(docker), 60)

    asyncio.run(run())


def config(*command: str, **more: Any) -> dict[str, Any]:
    return {"Image": "busybox", "Cmd": list(command), **more}


def test_a_container_from_its_creation_to_its_removal(engine: Kistd) -> None:
    async def work(docker: aiodocker.Docker) -> None:
        container = await docker.containers.create(config("sh", "-c", "echo out; echo err >&2; exit 3"), name="aio")
        await container.start()
        assert (await container.wait())["StatusCode"] == 3
        assert await container.log(stdout=True) == ["out\n"]
        assert await container.log(stderr=True) == ["err\n"]
        shown = await container.show()
        assert (shown["State"]["Status"], shown["Name"]) == ("exited", "/aio")
        listed = await docker.containers.list(all=True, filters={"name": ["aio"]})
        assert [one.id for one in listed] == [container.id]
        await container.delete()
        with pytest.raises(aiodocker.DockerError) as caught:
            await container.show()
        assert caught.value.status == 404

    with_docker(engine, work)


def test_attach_carries_input_and_output(engine: Kistd) -> None:
    async def work(docker: aiodocker.Docker) -> None:
        container = await docker.containers.create(
            config("cat", OpenStdin=True, StdinOnce=True, AttachStdin=True, AttachStdout=True)
        )
        async with container.attach(stdin=True, stdout=True) as stream:
            await container.start()
            await stream.write_in(b"hello\n")
            message = await stream.read_out()
            assert message is not None and (message.stream, message.data) == (1, b"hello\n")
        await container.kill()
        await container.delete()

    with_docker(engine, work)


def test_execs_with_and_without_a_terminal(engine: Kistd) -> None:
    async def work(docker: aiodocker.Docker) -> None:
        container = await docker.containers.run(config("sleep", "60"))
        for tty, expected in ((False, b"word\n"), (True, b"word\r\n")):
            execution = await container.exec(["sh", "-c", "read x; echo $x; exit 5"], stdin=True, tty=tty)
            found = b""
            async with execution.start() as stream:
                await stream.write_in(b"word\n")
                while (message := await stream.read_out()) is not None:
                    found += message.data
            assert found.endswith(expected)
            assert (await execution.inspect())["ExitCode"] == 5
        await container.delete(force=True)

    with_docker(engine, work)


def test_logs_are_followed_to_the_end(engine: Kistd) -> None:
    async def work(docker: aiodocker.Docker) -> None:
        container = await docker.containers.run(config("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"))
        assert [line async for line in container.log(stdout=True, follow=True)] == ["1\n", "2\n", "3\n"]
        await container.delete()

    with_docker(engine, work)


def test_events_of_a_container_arrive_in_their_order(engine: Kistd) -> None:
    async def work(docker: aiodocker.Docker) -> None:
        subscriber = docker.events.subscribe()
        listening = asyncio.create_task(subscriber.get())
        while not listening.done():  # its request is on the way: wait until it hears anything at all
            await docker.images.tag("busybox", "aio/heard")
            await asyncio.wait([listening], timeout=0.05)
        container = await docker.containers.run(config("true"))
        await container.wait()
        await container.delete()
        seen = []
        while "destroy" not in seen:
            event = await subscriber.get()
            if event is not None and event["Type"] == "container" and event["Actor"]["ID"] == container.id:
                seen.append(event["Action"])
        assert seen == ["create", "start", "die", "destroy"]
        await docker.images.delete("aio/heard")

    with_docker(engine, work)


def test_images_and_volumes(engine: Kistd) -> None:
    async def work(docker: aiodocker.Docker) -> None:
        await docker.images.tag("busybox", "aio/box", tag="one")
        assert "aio/box:one" in (await docker.images.inspect("aio/box:one"))["RepoTags"]
        saved = b""
        async with docker.images.export_image("aio/box:one") as response:
            while chunk := await response.read(1 << 16):
                saved += chunk
        with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
            assert "manifest.json" in archive.getnames()
        await docker.images.delete("aio/box:one")
        volume = await docker.volumes.create({"Name": "aio", "Labels": {"a": "b"}})
        assert (await volume.show())["Labels"] == {"a": "b"}
        await volume.delete()

    with_docker(engine, work)
