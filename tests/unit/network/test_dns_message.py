"""The wire format against dnspython, and against bytes that are no DNS at all."""

from __future__ import annotations

import ipaddress
import struct

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.network.dns import message
from kist.network.dns.message import Malformed, Query

LABEL = st.binary(min_size=1, max_size=63).filter(lambda label: b"." not in label and b"\\" not in label)
NAME = st.lists(LABEL, max_size=6).filter(lambda labels: sum(len(one) + 1 for one in labels) < 255)


def wire(labels: list[bytes]) -> bytes:
    return b"".join(bytes([len(one)]) + one for one in labels) + b"\0"


def ask(name: str, kind: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, kind, id=0x1234, **options).to_wire()  # type: ignore[arg-type]


def test_a_question_is_read() -> None:
    query = message.parse(ask("Box.MyNet", "AAAA"))
    assert (query.id, query.name, query.kind, query.family) == (0x1234, "box.mynet", message.AAAA, message.IN)
    assert (query.size, query.edns) == (512, -1)


@pytest.mark.parametrize(("size", "read"), [(0, 512), (512, 512), (1232, 1232), (65535, 65535)])
def test_the_size_that_a_client_takes_is_read(size: int, read: int) -> None:
    query = message.parse(ask("box", use_edns=0, payload=size, want_dnssec=True))
    assert (query.size, query.edns & 0x8000) == (read, 0x8000)


def test_dnspython_reads_the_answers() -> None:
    asked = dns.message.make_query("Box", "A", use_edns=0, payload=1400)
    records = [message.address_record(ipaddress.ip_address(one).packed) for one in ("172.18.0.2", "172.18.0.3")]
    answer = dns.message.from_wire(message.answer(message.parse(asked.to_wire()), records, 1400))
    assert asked.is_response(answer)
    (found,) = answer.answer
    assert (str(found.name), found.ttl, sorted(one.address for one in found)) == (
        "Box.", 600, ["172.18.0.2", "172.18.0.3"],
    )  # fmt: skip
    assert answer.flags & dns.flags.RA
    assert answer.flags & dns.flags.RD
    assert not answer.flags & (dns.flags.AA | dns.flags.TC)
    assert answer.edns == 0


def test_dnspython_reads_ipv6_and_pointers() -> None:
    address = ipaddress.ip_address("fd00::2")
    for kind, record, text in (
        ("AAAA", message.address_record(address.packed), "fd00::2"),
        ("PTR", message.pointer_record("box.mynet"), "box.mynet."),
    ):
        answer = dns.message.from_wire(message.answer(message.parse(ask("a.b", kind)), [record]))
        assert answer.answer[0][0].to_text() == text


@given(st.integers(0, 300), st.integers(512, 4096), st.booleans())
def test_an_answer_never_exceeds_its_limit_and_says_what_is_missing(count: int, limit: int, edns: bool) -> None:
    query = message.parse(ask("box", use_edns=0 if edns else -1))
    data = message.answer(query, [message.address_record(bytes([10, 0, *divmod(n, 250)])) for n in range(count)], limit)
    answer = dns.message.from_wire(data)
    assert len(data) <= limit
    shown = len(answer.answer[0]) if answer.answer else 0
    assert bool(answer.flags & dns.flags.TC) == (shown < count)
    assert shown == count or limit - len(data) < 16


def test_failures_keep_the_question() -> None:
    asked = dns.message.make_query("box", "A")
    query = message.parse(asked.to_wire())
    for code, text in ((message.SERVFAIL, "SERVFAIL"), (message.REFUSED, "REFUSED")):
        answer = dns.message.from_wire(message.failure(query, code))
        assert asked.is_response(answer)
        assert dns.rcode.to_text(answer.rcode()) == text


def read(data: bytes) -> Query | bytes:
    """The query, or what is said of bytes that are none."""
    try:
        return message.parse(data)
    except Malformed as problem:
        return problem.answer


@given(st.binary(max_size=600))
def test_any_bytes_are_a_query_or_malformed(data: bytes) -> None:
    found = read(data)
    if isinstance(found, Query):
        assert data[12 : 12 + len(found.question)] == found.question
        assert len(found.question) <= 259
    elif found:
        assert len(found) == 12
        assert dns.message.from_wire(found).rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP)


@given(st.integers(0, 0xFFFF), st.binary(max_size=300), st.tuples(*[st.integers(0, 3)] * 3))
def test_any_bytes_behind_a_good_header_are_a_query_or_malformed(
    number: int, body: bytes, counts: tuple[int, int, int]
) -> None:
    found = read(struct.pack(">HHHHHH", number, 0x0100, 1, *counts) + body)
    if isinstance(found, Query):
        assert len(message.answer(found, (), 512)) <= 512
    else:
        assert dns.message.from_wire(found).rcode() == dns.rcode.FORMERR


@given(NAME, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_every_good_name_comes_through(labels: list[bytes], number: int, kind: int, family: int) -> None:
    question = wire(labels) + struct.pack(">HH", kind, family)
    query = message.parse(struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + question)
    assert (query.id, query.kind, query.family, query.question) == (number, kind, family, question)
    assert query.name == b".".join(labels).decode("utf-8", "surrogateescape").lower()


@pytest.mark.parametrize(
    "question",
    [
        b"\xc0\x0c\0\1\0\1",  # a name that is where it is
        b"\3box\xc0\x0c\0\1\0\1",
        b"\x40" + b"a" * 64 + b"\0\0\1\0\1",
        b"\x3f" + b"a" * 20,
        wire([b"a" * 63] * 4) + b"\0\1\0\1",
        b"\3box\0\0\1\0",
        b"",
    ],
)
def test_names_that_loop_or_have_no_end_are_malformed(question: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        message.parse(struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + question)
    answer = dns.message.from_wire(caught.value.answer)
    assert (answer.id, answer.rcode()) == (7, dns.rcode.FORMERR)


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (2, 0, 0, 0), (1, 2, 0, 0), (1, 0, 2, 0), (1, 0, 0, 3), (1, 0, 0, 1)])
def test_counts_that_no_query_has_are_malformed(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(Malformed):
        message.parse(struct.pack(">HHHHHH", 7, 0, *counts) + b"\3box\0\0\1\0\1")


def test_two_sizes_are_malformed() -> None:
    option = b"\0" + struct.pack(">HHIH", message.OPT, 4096, 0, 0)
    with pytest.raises(Malformed):
        message.parse(struct.pack(">HHHHHH", 7, 0, 1, 0, 0, 2) + b"\3box\0\0\1\0\1" + option * 2)


def test_answers_are_not_answered_and_other_operations_are_not_implemented() -> None:
    with pytest.raises(Malformed) as caught:
        message.parse(dns.message.make_response(dns.message.make_query("a", "A")).to_wire())
    assert caught.value.answer == b""
    update = dns.message.make_query("a", "A")
    update.set_opcode(dns.opcode.NOTIFY)
    with pytest.raises(Malformed) as caught:
        message.parse(update.to_wire())
    assert dns.message.from_wire(caught.value.answer).rcode() == dns.rcode.NOTIMP


@pytest.mark.parametrize("name", ["a" * 64, "a..b", "", ".".join(["a" * 60] * 5)])
def test_names_that_dns_has_no_place_for_are_refused(name: str) -> None:
    with pytest.raises(ValueError):
        message.pointer_record(name)


def test_only_the_answer_to_a_question_is_taken_for_one() -> None:
    asked = dns.message.make_query("example.com", "A", id=9)
    query = message.parse(asked.to_wire())
    good = dns.message.make_response(asked).to_wire()
    assert message.is_answer(good, 9, query)
    assert message.is_answer(good.replace(b"example", b"EXAMple"), 9, query)
    assert not message.is_answer(good, 10, query)
    assert not message.is_answer(asked.to_wire(), 9, query)
    assert not message.is_answer(good.replace(b"example", b"eXbmple"), 9, query)
    other = dns.message.make_response(dns.message.make_query("example.com", "AAAA", id=9)).to_wire()
    assert not message.is_answer(other, 9, query)
    assert message.is_answer(struct.pack(">HHHHHH", 9, 0x8001, 0, 0, 0, 0), 9, query)  # FORMERR, and no more
    assert not message.is_answer(struct.pack(">HHHHHH", 9, 0x8000, 0, 0, 0, 0), 9, query)


@given(st.binary(max_size=80))
def test_no_bytes_from_upstream_raise(data: bytes) -> None:
    query = message.parse(ask("example.com"))
    if message.is_answer(data, 0x1234, query):
        message.code_of(data)


def test_another_id_is_all_that_changes() -> None:
    data = ask("example.com")
    changed = message.with_id(data, 0xBEEF)
    assert (message.id_of(changed), changed[2:]) == (0xBEEF, data[2:])
