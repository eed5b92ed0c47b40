"""Where a request ends: its head, and a body by length or in chunks (RFC 9112, 5 to 7).

httptools does not tell how many bytes it took, and with an Upgrade it forgets the body. So it reads heads alone, each
fed to its last byte and not beyond. All here take bytes from a position on and say how far they got.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import httptools

_END = b"\r\n\r\n"  # of a head; the parser refuses bare line feeds
_UPGRADES = {"GET": ("tcp", "websocket")}
_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?")
_SIZE_LINE = re.compile(rb"([0-9a-fA-F]{1,15})\r\n")  # as nearly every client writes it
_MAX_LINE = 1 << 13  # bytes of a chunk's size with its extensions, or of one trailer


class Head:
    """A request line and its headers as they arrive. What it says of them holds once it is `complete`."""

    def __init__(self) -> None:
        self.size = 0
        self.begun = self.complete = False
        self.method = self.target = ""
        self.headers: dict[str, str] = {}
        self.keep_alive = self.upgrade = False
        self._url = self._tail = b""
        self._parser = httptools.HttpRequestParser(self)

    def take(self, data: bytes, at: int) -> int:
        """Raises httptools.HttpParserError, and ValueError for what is not HTTP/1."""
        found = (self._tail + data[at:]).find(_END)
        end = len(data) if found < 0 else at + found + len(_END) - len(self._tail)
        piece = data[at:end]
        self.size += len(piece)
        self._tail = (self._tail + piece)[1 - len(_END) :]
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            pass  # behind the head, and there the piece ends
        if self.complete:
            self._conclude()
        return end

    def _conclude(self) -> None:
        """An Upgrade but to `tcp`, or by GET to `websocket`, is as if it were not there (RFC 9110, 7.8)."""
        parser = self._parser
        del self._parser  # it holds this object
        if parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("not HTTP/1")
        self.method = parser.get_method().decode("ascii")
        if self.headers.get("upgrade", "").lower() not in _UPGRADES.get(self.method, ("tcp",)):
            self.headers.pop("upgrade", None)
        self.target = self._url.decode("latin-1")
        self.upgrade = parser.should_upgrade() and "upgrade" in self.headers

    # --- httptools' calls ---

    def on_message_begin(self) -> None:
        self.begun = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in ("transfer-encoding", "content-length") and key in self.headers:
            text = f"{self.headers[key]}, {text}"  # which is refused where it is used
        self.headers[key] = text

    def on_headers_complete(self) -> None:
        self.complete = True
        self.keep_alive = self._parser.should_keep_alive()  # behind a message without a body it is forgotten


class Sized:
    """A body whose length was said."""

    def __init__(self, size: int) -> None:
        self._left = size

    @property
    def complete(self) -> bool:
        return self._left == 0

    def take(self, data: bytes, at: int) -> tuple[bytes, int]:
        """A piece of the body, and where the next begins."""
        piece = data[at : at + self._left]
        self._left -= len(piece)
        return piece, at + len(piece)


class Chunked:
    """A body in chunks (RFC 9112, 7.1); extensions and trailers are of no interest."""

    def __init__(self) -> None:
        self.complete = False
        self._left = 0  # bytes of the chunk at hand
        self._line = b""
        self._read = self._size

    def take(self, data: bytes, at: int) -> tuple[bytes, int]:
        """A piece of the body, empty for what is around it, and where the next begins. Raises ValueError."""
        if self._left:
            piece = data[at : at + self._left]
            self._left -= len(piece)
            return piece, at + len(piece)
        if not self._line and self._read == self._size:
            whole, end = _whole_chunks(data, at)
            if whole:
                return b"".join(whole), end
        end = data.find(b"\n", at) + 1 or len(data)
        self._line += data[at:end]
        if len(self._line) > _MAX_LINE:
            raise ValueError("a line between chunks is too long")
        if self._line.endswith(b"\n"):
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n"):
                raise ValueError("a line between chunks ends without CR")
            self._read(line[:-2])
        return b"", end

    def _size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise ValueError(f"not the size of a chunk: {line!r}")
        self._left = int(match[1], 16)
        self._read = self._behind_data if self._left else self._trailer

    def _behind_data(self, line: bytes) -> None:
        if line:
            raise ValueError("a chunk is longer than its size")
        self._read = self._size

    def _trailer(self, line: bytes) -> None:
        self.complete = not line


def _whole_chunks(data: bytes, at: int) -> tuple[list[bytes], int]:
    """Contents of the chunks that are all there, and where the rest begins: clients write thousands of small ones."""
    found = []
    while match := _SIZE_LINE.match(data, at):
        begin = match.end()
        end = begin + int(match[1], 16)
        if begin == end or data[end : end + 2] != b"\r\n":  # the last, or not all of it, or wrong: line by line
            break
        found.append(data[begin:end])
        at = end + 2
    return found, at


def body(headers: Mapping[str, str], *, upgrade: bool) -> Sized | Chunked:
    """Raises ValueError for a coding that is not known.

    A client that upgrades may announce chunks (docker-modem does) and mean the stream that comes after the answer.
    """
    coding = headers.get("transfer-encoding", "")
    if upgrade or not coding:
        return Sized(int(headers.get("content-length", "0")))
    if coding.lower() != "chunked":
        raise ValueError(f"unsupported transfer encoding: {coding}")
    return Chunked()
