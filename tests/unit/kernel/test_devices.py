"""Device rules as eBPF: the program, run on an interpreter of the few instructions it has, says what the rules say."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from kist.kernel.devices import DeviceRule, compile_rules, encode

KINDS = {"b": 1, "c": 2}
ACCESS = {"m": 1, "r": 2, "w": 4}
numbers = st.none() | st.integers(0, 3)
rules = st.lists(
    st.builds(
        DeviceRule,
        allow=st.booleans(),
        kind=st.sampled_from("abc"),
        major=numbers,
        minor=numbers,
        access=st.sets(st.sampled_from("rwm"), min_size=1).map(lambda letters: "".join(sorted(letters))),
    ),
    max_size=12,
)


def said(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """Runs a program as the kernel would."""
    wanted = sum(ACCESS[letter] for letter in set(access)) << 16 | KINDS[kind]
    context = struct.pack("=III", wanted, major, minor)
    registers = [0] * 11
    at = 0
    while True:
        code, both, offset, value = struct.unpack_from("=BBhi", program, 8 * at)
        into, source = both & 15, both >> 4
        at += 1
        if code == 0x61:
            assert source == 1
            registers[into] = struct.unpack_from("=I", context, offset)[0]
        elif code == 0xBC:
            registers[into] = registers[source]
        elif code == 0xB4:
            registers[into] = value
        elif code == 0x54:
            registers[into] &= value
        elif code == 0x74:
            registers[into] >>= value
        elif code == 0x56:
            at += offset if registers[into] != value else 0
        elif code == 0x16:
            at += offset if registers[into] == value else 0
        elif code == 0x95:
            return bool(registers[0])
        else:
            raise AssertionError(f"opcode {code:#x}")


def meant(given_rules: list[DeviceRule], kind: str, major: int, minor: int, access: str) -> bool:
    """Of every access the last rule that speaks of it."""
    allowed: set[str] = set()
    for rule in given_rules:
        if rule.kind in ("a", kind) and rule.major in (None, major) and rule.minor in (None, minor):
            allowed = allowed | set(rule.access) if rule.allow else allowed - set(rule.access)
    return set(access) <= allowed


@given(
    rules,
    st.sampled_from("bc"),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sets(st.sampled_from("rwm"), min_size=1).map("".join),
)
def test_the_program_says_what_the_rules_say(
    given_rules: list[DeviceRule], kind: str, major: int, minor: int, access: str
) -> None:
    program = encode(compile_rules(given_rules))
    assert said(program, kind, major, minor, access) == meant(given_rules, kind, major, minor, access)


def test_read_and_write_that_two_rules_allow_are_allowed_together() -> None:
    program = encode(compile_rules([DeviceRule(True, "c", 1, 3, "r"), DeviceRule(True, "c", 1, 3, "w")]))
    assert said(program, "c", 1, 3, "rw")
    assert not said(program, "c", 1, 3, "rwm")
    assert not said(program, "c", 1, 5, "r")
