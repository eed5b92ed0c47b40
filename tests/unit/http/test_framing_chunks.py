"""Bodies in chunks, however they are cut on their way."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.http.framing import Chunked

_SIZES = st.sampled_from(["%x", "%X", "%04x", "%x;name=value", "%x "])


def _fed(body: Chunked, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """What the body was, and what came behind it."""
    found, behind = b"", b""
    for piece in pieces:
        at = 0
        while at < len(piece) and not body.complete:
            taken, at = body.take(piece, at)
            found += taken
        behind += piece[at:]
    return found, behind


@given(
    st.lists(st.tuples(_SIZES, st.binary(min_size=1, max_size=40)), max_size=8),
    st.lists(st.integers(0, 400), max_size=12),
    st.booleans(),
)
def test_a_body_is_the_same_wherever_it_is_cut(chunks: list[tuple[str, bytes]], cuts: list[int], trailer: bool) -> None:
    raw = b"".join(size.encode() % len(data) + b"\r\n" + data + b"\r\n" for size, data in chunks)
    raw += b"0\r\n" + (b"Name: value\r\n" if trailer else b"") + b"\r\n" + b"GET / HTTP/1.1\r\n"
    places = sorted({0, *(cut for cut in cuts if cut < len(raw)), len(raw)})
    pieces = [raw[begin:end] for begin, end in itertools.pairwise(places)]
    body = Chunked()
    found, behind = _fed(body, pieces)
    assert body.complete
    assert found == b"".join(data for _, data in chunks)
    assert behind == b"GET / HTTP/1.1\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"3\r\nabc\r\n5\r\nhelloX\r\n",
        b"3\r\nabc\r\nno size\r\n",
        b"3\nabc\r\n",
        b"-1\r\nabc\r\n",
        b"fffffffffffffffff\r\n",
    ],
)
def test_what_is_no_chunk_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):
        _fed(Chunked(), [raw])
