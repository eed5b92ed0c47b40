"""The seccomp compiler, by running its programs on an interpreter of classic BPF."""

from __future__ import annotations

import errno
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import SHARED

from kist.kernel import seccomp, syscalls
from kist.kernel.seccomp import Argument, Rule
from kist.runtime import profile
from kist.runtime.seccomp import default_program, user_program

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS


def execute(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel's interpreter answers (linux/filter.h), for one call."""
    values = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *[value & (1 << 64) - 1 for value in values])
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator, at = 0, 0
    for _ in range(len(code) + 1):
        operation, yes, no, constant = code[at]
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, constant)[0]
        elif operation == 0x54:
            accumulator &= constant
        elif operation == 0x05:
            at += constant
        elif operation == 0x06:
            return int(constant)
        else:
            holds = {0x15: accumulator == constant, 0x25: accumulator > constant, 0x35: accumulator >= constant}[
                operation
            ]
            at += yes if holds else no
    raise AssertionError("the program does not end")


def compile_one(operator: str, value: int, value_two: int = 0) -> bytes:
    rule = Rule(["read"], ALLOW, [Argument(0, operator, value, value_two)])
    return seccomp.compile_filter(["SCMP_ARCH_X86_64"], EPERM, [rule])


@given(
    st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), st.sampled_from(["EQ", "NE", "LT", "LE", "GT", "GE"])
)
def test_comparisons_of_64_bits_are_right(value: int, argument: int, operator: str) -> None:
    holds = {
        "EQ": argument == value, "NE": argument != value, "LT": argument < value, "LE": argument <= value,
        "GT": argument > value, "GE": argument >= value,
    }[operator]  # fmt: skip
    assert execute(compile_one(operator, value), X86_64, 0, argument) == (ALLOW if holds else EPERM)


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_neighbours_of_a_value_are_told_apart(value: int, mask: int) -> None:
    for argument in {value, (value + 1) & (1 << 64) - 1, (value - 1) & (1 << 64) - 1, value ^ 1 << 32}:
        assert (execute(compile_one("GT", value), X86_64, 0, argument) == ALLOW) == (argument > value)
        assert (execute(compile_one("MASKED_EQ", mask, value & mask), X86_64, 0, argument) == ALLOW) == (
            argument & mask == value & mask
        )


@given(
    st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1), st.sampled_from(["EQ", "NE", "LT", "LE", "GT", "GE"])
)
def test_where_arguments_have_32_bits_the_high_half_decides_nothing(value: int, argument: int, operator: str) -> None:
    """int $0x80 from 64-bit code leaves the caller's high halves where the filter sees them and the kernel does not."""
    for rule in (Argument(0, operator, value), Argument(0, "MASKED_EQ", value, value & 0xFF00FF)):
        program = seccomp.compile_filter(["SCMP_ARCH_X86"], EPERM, [Rule(["read"], ALLOW, [rule])])
        for low in (argument & 0xFFFFFFFF, value, value ^ 1):
            plain = execute(program, I386, syscalls.X86["read"], low)
            assert execute(program, I386, syscalls.X86["read"], low | argument >> 32 << 32) == plain
            if rule.operator == "MASKED_EQ":
                assert (plain == ALLOW) == (low & value == value & 0xFF00FF)
            else:
                order = {"EQ": low == value, "NE": low != value, "LT": low < value, "LE": low <= value,
                         "GT": low > value, "GE": low >= value}  # fmt: skip
                assert (plain == ALLOW) == order[operator]


@given(st.sets(st.sampled_from(sorted(syscalls.X86_64))))
def test_exactly_the_named_calls_are_allowed(names: set[str]) -> None:
    program = seccomp.compile_filter(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], EPERM, [Rule(sorted(names), ALLOW)])
    highest = max((syscalls.X86_64[name] for name in names), default=0)
    for name, number in syscalls.X86_64.items():
        expected = ALLOW if name in names else EPERM if number <= highest else ENOSYS
        assert execute(program, X86_64, number) == expected, name
    for name in names & set(syscalls.X86):
        assert execute(program, I386, syscalls.X86[name]) == ALLOW


def test_another_architecture_kills() -> None:
    assert execute(compile_one("EQ", 1), AARCH64, 0, 1) == KILL


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_default_profile_decides_as_published(machine: str) -> None:
    """Every call of every table, for several capability sets, against the rules of Docker's file read naively."""
    reference = SHARED / "reference" / "seccomp-default.json"
    if not reference.exists():
        pytest.skip("the published profile is not on this machine")
    published = json.loads(reference.read_text())
    arch, table = (X86_64, syscalls.X86_64) if machine == "x86_64" else (AARCH64, syscalls.AARCH64)
    arches = set(profile.GO_NAMES[machine])
    for capabilities in (
        frozenset(),
        frozenset({"CAP_SYS_ADMIN", "CAP_SYSLOG"}),
        frozenset({"CAP_SYS_PTRACE", "CAP_BPF"}),
    ):
        program = default_program(frozenset(capabilities), machine)
        for name, number in table.items():
            expected = naive(published, name, capabilities, arches)
            if expected is not None:
                assert execute(program, arch, number) == expected, (name, capabilities)


def naive(published: dict[str, object], name: str, capabilities: frozenset[str], arches: set[str]) -> int | None:
    """None where arguments decide."""
    answer = EPERM
    rules = published["syscalls"]
    assert isinstance(rules, list)
    for rule in rules:
        includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
        applies = (
            set(includes.get("caps", [])) <= capabilities
            and (not includes.get("arches") or arches & set(includes["arches"]))
            and not (capabilities & set(excludes.get("caps", [])))
            and not (arches & set(excludes.get("arches", [])))
        )
        if name not in rule["names"] or not applies:
            continue
        if rule.get("args"):
            return None
        answer = ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else 0x50000 | rule["errnoRet"]
        if answer == ALLOW:
            break
    newest_without_capabilities = 466  # calls after the last one that the resolved profile names answer ENOSYS
    return answer if syscalls.X86_64.get(name, 0) <= newest_without_capabilities else None


def test_the_published_file_compiles_to_the_same_decisions() -> None:
    reference = SHARED / "reference" / "seccomp-default.json"
    if not reference.exists():
        pytest.skip("the published profile is not on this machine")
    mine = default_program(frozenset(), "x86_64")
    theirs, flags = user_program(reference.read_text(), frozenset(), "x86_64")
    assert flags == 0
    for number in range(600):
        for argument in (0, 1, 8, 38, 39, 0x20000, 0x10000000, 0xFFFFFFFF):
            assert execute(mine, X86_64, number, argument) == execute(theirs, X86_64, number, argument), number


def test_clone_with_namespaces_is_refused_and_clone3_is_unknown() -> None:
    program = default_program(frozenset(), "x86_64")
    assert execute(program, X86_64, syscalls.X86_64["clone"], 0x11) == ALLOW
    assert execute(program, X86_64, syscalls.X86_64["clone"], 0x10000011) == EPERM
    assert execute(program, X86_64, syscalls.X86_64["clone3"]) == ENOSYS
    assert execute(program, X86_64, 5000) == ENOSYS
