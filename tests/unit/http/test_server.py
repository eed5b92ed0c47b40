"""The HTTP server on a real socket: one request at a time, no byte lost, no connection kept without its client."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kist.http.server import Connection, Hijacked, Request, Response
from kist.model.errors import InvalidParameter

UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b'4;x="y"\r\n\r\n\r\n\r\nB\r\nhello there\r\n0\r\nTrailer: x\r\n\r\n'
HELLO_BODY = b"\r\n\r\nhello there"


class Served:
    """A server whose handler echoes `METHOD path body`, and the connections it has."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.requests: list[Request] = []
        self.hijacked: list[Hijacked] = []
        self.go_on = asyncio.Event()
        self.running = self.most_running = 0
        self.path = ""

    async def handle(self, request: Request) -> Response | None:
        self.requests.append(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self._answer(request)
        except InvalidParameter as error:
            return Response(400, error.message.encode())
        finally:
            self.running -= 1

    async def _answer(self, request: Request) -> Response | None:
        if request.path == "/slow":
            await asyncio.sleep(0.05)
        if request.path == "/held":
            await self.go_on.wait()
        body = await request.read(1 << 20)
        if request.path == "/hijack":
            self.hijacked.append(await request.hijack(b"HTTP/1.1 101 UPGRADED\r\n\r\n"))
            self.go_on.set()
            return None
        return Response(200, b"%s %s %s\n" % (request.method.encode(), request.path.encode(), body))

    async def gone(self) -> None:
        async with asyncio.timeout(5):
            while self.connections:
                await asyncio.sleep(0.01)

    async def talk(self, *pieces: bytes) -> bytes:
        """The bodies of all answers to what is sent with pauses between, then the end."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write_eof()
        async with asyncio.timeout(5):
            got = await reader.read()
        writer.close()
        await writer.wait_closed()
        return b"".join(part.partition(b"\r\n\r\n")[2] for part in got.split(b"HTTP/1.1 "))


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served()
    served.path = str(tmp_path / "socket")
    server = await asyncio.get_running_loop().create_unix_server(
        lambda: Connection(served.handle, served.connections), served.path, backlog=1000
    )
    try:
        yield served
        await served.gone()
    finally:
        server.close()
        await server.wait_closed()


def run(tmp_path: Path, test: Callable[[Served], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            await test(served)

    asyncio.run(main())


def post(path: bytes, rest: bytes) -> bytes:
    return b"POST %s HTTP/1.1\r\n%s" % (path, rest)


FOUR = (
    post(b"/slow", b"Content-Length: 3\r\n\r\none")
    + post(b"/two", CHUNKED + HELLO)
    + post(b"/slow", b"\r\n")
    + post(b"/four", b"Connection: close\r\nContent-Length: 4\r\n\r\nfour")
)
FOUR_ANSWERS = b"POST /slow one\nPOST /two " + HELLO_BODY + b"\nPOST /slow \nPOST /four four\n"


def test_requests_in_one_segment_are_answered_one_after_the_other(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        assert await served.talk(FOUR + b"GET /never HTTP/1.1\r\n\r\n") == FOUR_ANSWERS
        assert served.most_running == 1
        assert [request.path for request in served.requests] == ["/slow", "/two", "/slow", "/four"]

    run(tmp_path, test)


def test_requests_may_be_cut_anywhere(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        cuts = [served.talk(FOUR[:cut], FOUR[cut:]) for cut in range(1, len(FOUR))]
        assert set(await asyncio.gather(*cuts)) == {FOUR_ANSWERS}
        bytewise = [FOUR[at : at + 1] for at in range(len(FOUR))]
        assert await served.talk(*bytewise) == FOUR_ANSWERS

    run(tmp_path, test)


@pytest.mark.parametrize(
    "head",
    [
        post(b"/hijack", b"\r\n"),
        post(b"/hijack", b"Content-Length: 2\r\n\r\n{}"),
        post(b"/hijack", CHUNKED + HELLO),
        post(b"/hijack", UPGRADE + b"\r\n"),
        post(b"/hijack", UPGRADE + b"Content-Length: 2\r\n\r\n{}"),
        post(b"/hijack", UPGRADE + CHUNKED),  # docker-modem's: there are no chunks, the stream is meant
        post(b"/slow", b"Content-Length: 2\r\n\r\n{}") + post(b"/hijack", b"\r\n"),
    ],
)
def test_who_takes_a_connection_gets_the_bytes_behind_the_request(tmp_path: Path, head: bytes) -> None:
    stream = b"POST / HTTP/1.1\r\n\r\n\x00\xff" + b"input\r\n\r\n" * 10

    async def test(served: Served) -> None:
        sent = head + stream
        for cut in (len(sent), len(head), len(head) - 1, len(head) + 1, 5):
            served.go_on.clear()
            reader, writer = await asyncio.open_unix_connection(served.path)
            writer.write(sent[:cut])
            await asyncio.sleep(0.01)
            writer.write(sent[cut:])
            writer.write_eof()
            await asyncio.wait_for(served.go_on.wait(), 5)
            taken = served.hijacked.pop()
            with socket.socket(fileno=taken.descriptor) as client:
                client.setblocking(True)
                rest = b""
                while piece := client.recv(1 << 16):
                    rest += piece
                assert taken.leftover + rest == stream
                client.sendall(b"output")
            assert (await reader.read()).endswith(b"HTTP/1.1 101 UPGRADED\r\n\r\noutput")
            writer.close()

    run(tmp_path, test)


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n",
        b"\r\n",
        b"-1\r\n",
        b"1_0\r\n",
        b"0x1\r\n",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"1" * 16,
        b"1;" + b"x" * 9000,
    ],
)
def test_chunks_that_are_none_are_refused(tmp_path: Path, chunks: bytes) -> None:
    async def test(served: Served) -> None:
        assert await served.talk(post(b"/x", CHUNKED + chunks + b"\r\n")) == b"400 Bad Request"

    run(tmp_path, test)


@pytest.mark.parametrize("coding", [b"bogus", b"gzip, chunked", b"chunked\r\nContent-Length: 3"])
def test_codings_that_are_not_known_are_refused(tmp_path: Path, coding: bytes) -> None:
    async def test(served: Served) -> None:
        head = b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n"
        assert await served.talk(post(b"/x", head)) == b"400 Bad Request"
        assert served.requests == []

    run(tmp_path, test)


@pytest.mark.parametrize("pieces", [1, 20])
def test_who_sends_all_and_shuts_its_writing_side_is_answered_and_then_let_go(tmp_path: Path, pieces: int) -> None:
    async def test(served: Served) -> None:
        sent = post(b"/slow", b"Content-Length: 3\r\n\r\none") * 2
        cuts = [sent[at : at + len(sent) // pieces] for at in range(0, len(sent), len(sent) // pieces)]
        assert await served.talk(*cuts) == b"POST /slow one\n" * 2
        await served.gone()

    run(tmp_path, test)


def test_a_second_request_that_is_cut_gets_to_know(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        sent = post(b"/slow", b"\r\n") + post(b"/cut", b"Content-Length: 3\r\n\r\no")
        assert await served.talk(sent) == b"POST /slow \nunexpected EOF"
        assert [request.path for request in served.requests] == ["/slow", "/cut"]

    run(tmp_path, test)


def test_a_client_that_left_while_it_was_served_leaves_no_connection(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, served.path)
            client.sendall(post(b"/held", b"\r\n"))
            while not served.running:
                await asyncio.sleep(0.01)
            client.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.05)
            served.go_on.set()
            await served.gone()
            assert client.recv(1 << 16).endswith(b"POST /held \n")

    run(tmp_path, test)


@pytest.mark.parametrize("protocol", [b"h2c", b"H2C", b"websocket"])
@pytest.mark.parametrize("body", [CHUNKED + HELLO, b"Content-Length: %d\r\n\r\n%s" % (len(HELLO_BODY), HELLO_BODY)])
def test_an_upgrade_that_is_not_known_changes_nothing(tmp_path: Path, protocol: bytes, body: bytes) -> None:
    """The JDK's HttpClient offers HTTP/2 with its first request, whatever that is."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + protocol + b"\r\nHTTP2-Settings: AAEAAEAA\r\n"

    async def test(served: Served) -> None:
        answer = b"POST /first %s\nPOST /second \n" % HELLO_BODY
        assert await served.talk(post(b"/first", offer + body) + post(b"/second", b"\r\n")) == answer
        assert "upgrade" not in served.requests[0].headers and not served.requests[0].upgrade

    run(tmp_path, test)


@pytest.mark.parametrize("protocol", [b"tcp", b"TCP"])
def test_a_request_to_leave_http_that_is_not_granted_ends_the_connection(tmp_path: Path, protocol: bytes) -> None:
    async def test(served: Served) -> None:
        head = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
        assert await served.talk(post(b"/first", head) + b"input") == b"POST /first \n"
        assert served.requests[0].upgrade

    run(tmp_path, test)


def test_an_answer_before_the_body_keeps_the_connection_when_the_body_comes(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        async def early(request: Request) -> Response | None:
            return Response(404, b"early\n") if request.path == "/early" else await Served.handle(served, request)

        served.handle = early  # type: ignore[method-assign]
        reader, writer = await asyncio.open_unix_connection(served.path)
        writer.write(post(b"/early", b"Content-Length: 2\r\n\r\n"))
        await writer.drain()
        assert (await reader.readuntil(b"early\n")).startswith(b"HTTP/1.1 404")
        writer.write(b"{}" + post(b"/next", b"\r\n"))
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"/next \n")).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()

    run(tmp_path, test)


def test_small_pieces_behind_an_early_answer_are_taken(tmp_path: Path) -> None:
    """The piece that fills the buffer is small, so that reading pauses twice."""

    async def test(served: Served) -> None:
        async def early(request: Request) -> Response | None:
            while request._waiting <= 1 << 18:
                await asyncio.sleep(0)
            return Response(404, b"early\n")

        served.handle = early  # type: ignore[method-assign]
        reader, writer = await asyncio.open_unix_connection(served.path)
        writer.write(post(b"/x", b"Content-Length: %d\r\n\r\n" % (4 << 20)))
        for size in (*[1 << 16] * 3, (1 << 16) - 1000, 5000):
            writer.write(b"x" * size)
            await writer.drain()
            await asyncio.sleep(0.02)
        async with asyncio.timeout(1):
            await reader.readuntil(b"early\n")
            writer.write(b"x" * ((4 << 20) - (1 << 18) - 4000))
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    run(tmp_path, test)


async def _send_for_ever(client: socket.socket, piece: bytes) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(client, piece)


def test_who_reads_no_answers_gets_no_more_of_them(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            await loop.sock_connect(client, served.path)
            piece = post(b"/" + b"x" * 8000, b"\r\n") * 8
            sending = loop.create_task(_send_for_ever(client, piece))
            await asyncio.sleep(1)
            assert not sending.done()
            sending.cancel()
            assert len(served.requests) < 200

    run(tmp_path, test)


def test_a_connection_that_cannot_be_taken_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> int:
        raise OSError(24, "Too many open files")

    async def test(served: Served) -> None:
        monkeypatch.setattr("kist.http.server.os.dup", full)
        assert await served.talk(post(b"/hijack", UPGRADE + b"\r\n")) == b""

    run(tmp_path, test)


def test_two_codings_and_two_lengths_are_refused(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        for headers in (
            b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
            b"Content-Length: 1\r\nContent-Length: 2",
        ):
            reader, writer = await asyncio.open_unix_connection(served.path)
            writer.write(post(b"/x", headers + b"\r\n\r\n"))
            async with asyncio.timeout(5):
                assert (await reader.read()).startswith(b"HTTP/1.1 400")
            writer.close()
            await writer.wait_closed()

    run(tmp_path, test)


def test_a_body_behind_its_head_does_not_wait(tmp_path: Path) -> None:
    """Python's clients write the two apart; small pieces gather only where there are many."""

    async def test(served: Served) -> None:
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_unix_connection(served.path)
        times = []
        for number in range(50):
            writer.write(post(b"/x", b"Content-Length: 2\r\n\r\n"))
            while len(served.requests) == number:
                await asyncio.sleep(0)
            begin = loop.time()
            writer.write(b"{}")
            await reader.readuntil(b"{}\n")
            times.append(loop.time() - begin)
        assert sorted(times)[len(times) // 2] < 0.003
        writer.close()
        await writer.wait_closed()

    run(tmp_path, test)
