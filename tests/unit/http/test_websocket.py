"""Frames of RFC 6455, with its own examples, and what must be refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.http.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Frames,
    ProtocolError,
    accept_head,
    frame,
    unmask,
)
from kist.model.errors import InvalidParameter

HANDSHAKE = {
    "upgrade": "websocket",
    "connection": "keep-alive, Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def masked(kind: int, payload: bytes, key: bytes = b"\x37\xfa\x21\x3d", *, last: bool = True) -> bytes:
    made = bytearray(frame(kind, payload))
    if not last:
        made[0] &= 0x7F
    made[1] |= 0x80
    head = len(made) - len(payload)
    return bytes(made[:head]) + key + unmask(payload, key)


def test_the_handshake_of_the_rfc() -> None:
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in accept_head(HANDSHAKE)
    assert b"Sec-WebSocket-Protocol: chat\r\n" in accept_head({**HANDSHAKE, "sec-websocket-protocol": "chat, other"})


@pytest.mark.parametrize(
    ("name", "value"),
    [("upgrade", "tcp"), ("connection", "close"), ("sec-websocket-version", "8"), ("sec-websocket-key", "short"),
     ("sec-websocket-key", "")],
)  # fmt: skip
def test_what_is_no_handshake(name: str, value: str) -> None:
    with pytest.raises(InvalidParameter):
        accept_head({**HANDSHAKE, name: value})


def test_the_frames_of_the_rfc() -> None:
    assert Frames().feed(bytes.fromhex("818537fa213d7f9f4d5158")) == [(TEXT, b"Hello")]
    assert frame(TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")
    assert frame(BINARY, bytes(256))[:4] == bytes.fromhex("827e0100")
    assert frame(BINARY, bytes(65536))[:10] == bytes.fromhex("827f0000000000010000")


@given(st.lists(st.binary(max_size=400), max_size=6), st.integers(1, 50), st.binary(min_size=4, max_size=4))
def test_what_is_cut_anywhere_comes_out_whole(payloads: list[bytes], step: int, key: bytes) -> None:
    data = b"".join(masked(BINARY, one, key) for one in payloads)
    frames, found = Frames(), []
    for at in range(0, len(data), step):
        found += frames.feed(data[at : at + step])
    assert b"".join(piece for _, piece in found) == b"".join(payloads)
    assert all(kind == BINARY for kind, _ in found)


def test_a_frame_comes_as_a_stream_and_a_ping_as_a_whole() -> None:
    frames = Frames()
    data = masked(BINARY, bytes(range(10)), b"abcd") + masked(PING, b"12", b"abcd")
    assert frames.feed(data[:9]) == [(BINARY, b"\0\1\2")]
    assert frames.feed(data[9:-1]) == [(BINARY, bytes(range(3, 10)))]
    assert frames.feed(data[-1:]) == [(PING, b"12")]


def test_a_message_in_pieces_with_a_ping_between() -> None:
    data = masked(TEXT, b"one", last=False) + masked(PING, b"?") + masked(CONTINUATION, b"two")
    assert Frames().feed(data) == [(TEXT, b"one"), (PING, b"?"), (CONTINUATION, b"two")]


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"not masked"),
        masked(3, b"unknown kind"),
        bytes((0xC1,)) + masked(TEXT, b"x")[1:],
        masked(CONTINUATION, b"of nothing"),
        masked(TEXT, b"a", last=False) + masked(TEXT, b"within"),
        masked(CLOSE, b"x" * 126),
        masked(PING, b"cut", last=False),
        bytes((0x82, 0xFF)) + (1 << 40).to_bytes(8, "big"),
    ],
)
def test_what_must_not_be(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Frames().feed(data)
