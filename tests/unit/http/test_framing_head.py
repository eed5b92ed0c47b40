"""What a head says of its connection, with a body and without one."""

from __future__ import annotations

import pytest

from kist.http.framing import Head


@pytest.mark.parametrize(
    "length", ["", "Content-Length: 0\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"]
)
@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        ("1.1", "", True), ("1.1", "Connection: close\r\n", False), ("1.1", "Connection: keep-alive\r\n", True),
        ("1.0", "", False), ("1.0", "Connection: keep-alive\r\n", True),
    ],
)  # fmt: skip
def test_whether_the_connection_is_kept(length: str, version: str, connection: str, kept: bool) -> None:
    head = Head()
    data = f"POST / HTTP/{version}\r\nHost: x\r\n{connection}{length}\r\n".encode()
    assert head.take(data, 0) == len(data)
    assert (head.complete, head.keep_alive) == (True, kept)
