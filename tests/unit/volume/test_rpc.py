"""Calls to plug-ins that answer in every way a program can."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.clients.test_tls import make_certificates

from kist.model.errors import KistError
from kist.volume.plugins import Plugin, Plugins
from kist.volume.rpc import Address, Tls, Unreachable, call

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(data: bytes, *, pause: float = 0.0, seen: list[bytes] | None = None) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head)
        try:
            await asyncio.sleep(pause)
            writer.write(data)
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise

    return handle


def ask(tmp_path: Path, handler: Handler, *, seconds: float = 5.0, patience: float = 0.0) -> bytes:
    async def work() -> bytes:
        socket = str(tmp_path / "s")
        async with await asyncio.start_unix_server(handler, socket):
            return await call(
                Address(f"unix://{socket}"), "VolumeDriver.Get", {"Name": "x"}, seconds, patience=patience
            )

    return asyncio.run(work())


def response(body: bytes, head: str = "200 OK", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {head}", f"Content-Length: {len(body)}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_the_request_is_as_docker_sends_it(tmp_path: Path) -> None:
    seen: list[bytes] = []
    assert ask(tmp_path, answering(response(b"{}"), seen=seen)) == b"{}"
    lines = seen[0].decode().split("\r\n")
    assert lines[0] == "POST /VolumeDriver.Get HTTP/1.1"
    assert "Accept: application/vnd.docker.plugins.v1.2+json" in lines
    assert "Content-Length: 12" in lines


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
    ],
    ids=["chunks", "1.0", "close"],
)
def test_every_way_to_end_a_body(tmp_path: Path, data: bytes) -> None:
    assert ask(tmp_path, answering(data)) == b"{}"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (response(b'{"Err":"full"}', "500 Oops"), "VolumeDriver.Get: full"),
        (response(b"plain words", "404 Not Found"), "VolumeDriver.Get: plain words"),
        (response(b"\xff\xfe", "500 Oops"), "VolumeDriver.Get: \ufffd\ufffd"),
    ],
)
def test_what_is_not_200(tmp_path: Path, data: bytes, told: str) -> None:
    with pytest.raises(KistError) as raised:
        ask(tmp_path, answering(data))
    assert (type(raised.value), raised.value.message) == (KistError, told)


@pytest.mark.parametrize(
    "data",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"SSH-2.0-OpenSSH\r\n", response(bytes(17 << 20))],
    ids=["nothing", "half", "no HTTP", "too much"],
)
def test_what_is_no_answer(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Unreachable, match=r'^Post "http://plugin\.moby\.localhost/VolumeDriver\.Get": '):
        ask(tmp_path, answering(data))


def test_one_that_is_too_slow(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="context deadline exceeded"):
        ask(tmp_path, answering(response(b"{}"), pause=5), seconds=0.1)


def test_one_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    async def work() -> bytes:
        socket = str(tmp_path / "s")
        asked = asyncio.create_task(call(Address(f"unix://{socket}"), "X.Y", None, 5.0, patience=10.0))
        await asyncio.sleep(0.3)
        async with await asyncio.start_unix_server(answering(response(b"{}")), socket):
            return await asked

    assert asyncio.run(work()) == b"{}"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_plug_in_behind_tls(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    make_certificates(good, True)
    make_certificates(bad, True)

    async def work(tls: Tls | None) -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(good / "server-cert.pem", good / "server-key.pem")
        server = await asyncio.start_server(answering(response(b"{}")), "127.0.0.1", 0, ssl=context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await call(Address(f"https://127.0.0.1:{port}", tls), "X.Y", None, 5.0, patience=0.0)

    assert asyncio.run(work(None)) == b"{}"
    assert asyncio.run(work(Tls(ca=str(good / "ca.pem")))) == b"{}"
    with pytest.raises(Unreachable, match="certificate verify failed"):
        asyncio.run(work(Tls(ca=str(bad / "ca.pem"))))
    with pytest.raises(Unreachable):
        asyncio.run(work(Tls(ca=str(tmp_path / "none"))))


def test_scope_and_lists(tmp_path: Path) -> None:
    async def work(data: bytes) -> tuple[str, int]:
        socket = str(tmp_path / "s")
        async with await asyncio.start_unix_server(answering(data), socket):
            plugin = Plugin("x", Address(f"unix://{socket}"))
            return await plugin.scope(), len(await plugin.list())

    body = b'{"Capabilities":{"Scope":"Global"},"Volumes":[{"Name":"a","Status":{"k":[1]}}],"Other":1}'
    assert asyncio.run(work(response(body))) == ("global", 1)
    assert asyncio.run(work(response(b'{"Capabilities":{"Scope":"galaxy"}}'))) == ("local", 0)
    assert asyncio.run(work(response(b'{"Capabilities":null,"Volumes":null,"Err":null}'))) == ("local", 0)


def test_a_directory_that_is_not_there_has_no_plug_ins(tmp_path: Path) -> None:
    plugins = Plugins(str(tmp_path / "none"), (str(tmp_path / "neither"),))
    assert asyncio.run(plugins.all()) == []
    with pytest.raises(KistError, match='error looking up volume plugin x: plugin "x" not found'):
        asyncio.run(plugins.get("x"))
