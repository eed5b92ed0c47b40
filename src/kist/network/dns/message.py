"""DNS messages (RFC 1035, EDNS of RFC 6891), as far as a forwarding server needs them: questions are read, answers of
three types written, everything else is passed on as the bytes it is.

Neither of PyPI's codecs is used: dnspython takes 4.5 MB, 100 ms to import and 75 µs for an answer, dnslib 0.9 MB, 10 ms
and 37 µs (Python 3.11); the name server as a whole takes 0.2 MB and 7 µs for an answer. Names are read without
following compression, which a first question cannot have, and skipped without following it elsewhere: nothing in here
can loop.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

A, PTR, MX, AAAA, OPT, ANY = 1, 12, 15, 28, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
TTL = 600  # seconds, as Docker's
MINIMUM = 512  # bytes that every client takes by UDP
MAXIMUM = 0xFFFF
READ = 4096  # bytes that are read of a query by UDP
_QR, _OPCODE, _TC, _RD, _RA, _CD = 0x8000, 0x7800, 0x0200, 0x0100, 0x0080, 0x0010
_ECHOED = 0x03B0  # TC, RD, RA, AD, CD: what says that a query is none leaves these as they were, as dockerd does
_DO = 0x8000  # of the flags in an OPT record
_HEADER = struct.Struct(">HHHHHH")
_FIXED = struct.Struct(">HHIH")  # of a record behind its name
_MOST = (1, 1, 2)  # records that a query may bring: answer, authority, additional


class Malformed(Exception):
    """Not a query that can be answered in the ordinary way; `answer` is what is said instead, b"" for nothing."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__(answer)
        self.answer = answer


class Query(NamedTuple):
    id: int
    flags: int
    name: str  # lower case, labels joined by dots, none at the end; a dot within a label is `\\.`
    kind: int
    family: int  # IN
    question: bytes  # as it came
    size: int  # of the largest answer that the client takes by UDP
    edns: int  # flags of its OPT record, -1 without one


def parse(data: bytes) -> Query:
    """Raises Malformed, whatever the bytes are."""
    if len(data) < _HEADER.size:
        raise Malformed
    number, flags, questions, *others = _HEADER.unpack_from(data)
    if flags & _QR:
        raise Malformed
    if flags & _OPCODE:
        raise Malformed(_HEADER.pack(number, _QR | flags & (_OPCODE | _ECHOED) | NOTIMP, 0, 0, 0, 0))
    try:
        if questions != 1 or any(count > most for count, most in zip(others, _MOST, strict=True)):
            raise ValueError("counts")
        labels, end = _labels(data, _HEADER.size)
        kind, family = struct.unpack_from(">HH", data, end)
        end += 4
        size, edns = _options(data, end, sum(others))
    except (ValueError, IndexError, struct.error) as error:
        raise Malformed(_HEADER.pack(number, _QR | flags & _ECHOED | FORMERR, 0, 0, 0, 0)) from error
    name = b".".join(labels).decode("utf-8", "surrogateescape").lower()
    return Query(number, flags, name, kind, family, data[_HEADER.size : end], size, edns)


def _labels(data: bytes, offset: int) -> tuple[list[bytes], int]:
    """A name that is not compressed, and where it ends. Raises ValueError, IndexError."""
    labels: list[bytes] = []
    start = offset
    while length := data[offset]:
        offset += 1
        label = data[offset : offset + length]
        offset += length
        if length > 63 or len(label) < length or offset - start > 254:
            raise ValueError("name")
        labels.append(label.replace(b".", b"\\.") if b"." in label else label)
    return labels, offset + 1


def _skip_name(data: bytes, offset: int) -> int:
    while length := data[offset]:
        if length >= 0xC0:  # a pointer: the name goes on elsewhere, and here it is over
            return offset + 2
        if length > 63:
            raise ValueError("label")
        offset += 1 + length
    return offset + 1


def _options(data: bytes, offset: int, records: int) -> tuple[int, int]:
    """(size, flags) of the OPT record, if there is one. Raises ValueError, IndexError, struct.error."""
    found = MINIMUM, -1
    for _ in range(records):
        start = offset
        offset = _skip_name(data, offset)
        kind, size, extended, length = _FIXED.unpack_from(data, offset)
        offset += _FIXED.size + length
        if offset > len(data):
            raise ValueError("record")
        if kind == OPT:
            if data[start] or found[1] >= 0:
                raise ValueError("OPT")
            found = max(size, MINIMUM), extended & 0xFFFF
    return found


# --- answers ---


def address_record(address: bytes) -> bytes:
    """A record A or AAAA of the name that was asked for; `address` as the network has it, 4 or 16 bytes."""
    return b"\xc0\x0c" + _FIXED.pack(A if len(address) == 4 else AAAA, IN, TTL, len(address)) + address


def pointer_record(name: str) -> bytes:
    """A record PTR. Raises ValueError when a label or the whole is too long for DNS."""
    data = b""
    for label in name.encode("utf-8", "surrogateescape").split(b"."):
        if not 0 < len(label) < 64:
            raise ValueError(name)
        data += bytes([len(label)]) + label
    if len(data) > 254:
        raise ValueError(name)
    return b"\xc0\x0c" + _FIXED.pack(PTR, IN, TTL, len(data) + 1) + data + b"\0"


def answer(query: Query, records: Sequence[bytes] = (), limit: int = MAXIMUM) -> bytes:
    """What the client hears, of at most `limit` bytes: records that do not fit are left out, and that is said (TC)."""
    flags = _QR | _RA | query.flags & (_RD | _CD)
    extra = b""
    if query.edns >= 0:
        extra = b"\0" + _FIXED.pack(OPT, READ, query.edns & _DO, 0)
    room = limit - _HEADER.size - len(query.question) - len(extra)
    fitting: list[bytes] = []
    for record in records:
        room -= len(record)
        if room < 0:
            flags |= _TC
            break
        fitting.append(record)
    head = _HEADER.pack(query.id, flags, 1, len(fitting), 0, 1 if extra else 0)
    return b"".join([head, query.question, *fitting, extra])


def failure(query: Query, code: int) -> bytes:
    """SERVFAIL, REFUSED: as Docker has them, without RA."""
    flags = _QR | query.flags & (_RD | _CD) | code
    return _HEADER.pack(query.id, flags, 1, 0, 0, 0) + query.question


# --- what goes upstream and comes back ---


def with_id(data: bytes, number: int) -> bytes:
    return number.to_bytes(2, "big") + data[2:]


def id_of(data: bytes) -> int:
    return int.from_bytes(data[:2], "big")


def code_of(data: bytes) -> int:
    return data[3] & 0xF


def is_answer(data: bytes, number: int, query: Query) -> bool:
    """Whether it answers this question under this id. A server that understood nothing may leave the question out."""
    if len(data) < _HEADER.size:
        return False
    found, flags, questions, *_ = _HEADER.unpack_from(data)
    if found != number or not flags & _QR or flags & _OPCODE:
        return False
    if not questions:
        return bool(flags & 0xF)
    asked = query.question
    came = data[_HEADER.size : _HEADER.size + len(asked)]
    # Lengths of labels are below the letters' codes: lower() touches only letters.
    return bool(questions == 1) and came[-4:] == asked[-4:] and came[:-4].lower() == asked[:-4].lower()
