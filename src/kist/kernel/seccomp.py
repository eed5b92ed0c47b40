"""Seccomp filters (seccomp(2)): from the rules of an OCI configuration to classic BPF, and loading them.

The program is a binary search over ranges of system call numbers, one section an architecture: a call costs about ten
instructions instead of hundreds. What a rule says about arguments is checked in the leaf of its call. The semantics
are libseccomp's as runc uses it: rules of a call are alternatives, a rule without arguments beats those with, an
unknown name is left out, and calls newer than every call the rules name answer ENOSYS, so that a program falls back.
Where arguments have 32 bits only the low halves count: who calls by int $0x80 from 64-bit code chooses the high ones.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from kist.kernel import syscalls
from kist.kernel.const import SECCOMP_SET_MODE_FILTER, SYS_SECCOMP
from kist.kernel.libc import syscall

# linux/seccomp.h
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}
OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
_KILL_PROCESS = 0x80000000
_X32_BIT = 0x40000000
# linux/audit.h, with the tables of numbers that arrive under each value, and what is added to them.
_ARCHES: dict[str, tuple[int, dict[str, int], int]] = {
    "SCMP_ARCH_X86_64": (0xC000003E, syscalls.X86_64, 0),
    "SCMP_ARCH_X32": (0xC000003E, syscalls.X32, _X32_BIT),
    "SCMP_ARCH_X86": (0x40000003, syscalls.X86, 0),
    "SCMP_ARCH_AARCH64": (0xC00000B7, syscalls.AARCH64, 0),
}
_NARROW = frozenset({"SCMP_ARCH_X86", "SCMP_ARCH_X32"})  # arguments of 32 bits
# linux/bpf_common.h
_LD_ABS, _JA, _JEQ, _JGT, _JGE, _RET, _AND = 0x20, 0x05, 0x15, 0x25, 0x35, 0x06, 0x54
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data

Code = list[tuple[int, int, int, int]]


class Argument(NamedTuple):
    """One comparison: argument `number` against `value`; MASKED_EQ masks with `value` and compares with `value_two`."""

    number: int  # 0 to 5
    operator: str  # one of OPERATORS
    value: int
    value_two: int = 0


class Rule(NamedTuple):
    names: Sequence[str]
    action: int  # SECCOMP_RET_* with its data
    arguments: Sequence[Argument] = ()


class _Leaf(NamedTuple):
    """What happens to one call: alternatives with arguments, then what holds otherwise."""

    conditional: tuple[tuple[tuple[Argument, ...], int], ...]
    otherwise: int
    narrow: bool = False  # compares 32 bits; said only where there is something to compare


def action(name: str, errno_return: int | None) -> int:
    """SECCOMP_RET_* of an OCI action; ERRNO and TRACE carry a number, EPERM unless said. Raises KeyError."""
    value = ACTIONS[name]
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        value |= (errno.EPERM if errno_return is None else errno_return) & 0xFFFF
    return value


def compile_filter(architectures: Iterable[str], default: int, rules: Sequence[Rule]) -> bytes:
    """The program (struct sock_filter after struct sock_filter). Calls of other architectures kill the process."""
    sections: dict[int, dict[int, _Leaf]] = {}
    limits: dict[int, list[tuple[int, int]]] = {}
    for name in architectures:
        if name not in _ARCHES:
            continue
        audit, table, offset = _ARCHES[name]
        leaves = _leaves(table, offset, default, rules, name in _NARROW)
        sections.setdefault(audit, {}).update(leaves)
        limits.setdefault(audit, []).append((offset, max(leaves, default=offset)))
    code: Code = [(_LD_ABS, 0, 0, _ARCH)]
    for audit, leaves in sections.items():
        section: Code = [(_LD_ABS, 0, 0, _NR), *_search(_intervals(leaves, limits[audit], default))]
        code += [(_JEQ, 1, 0, audit), (_JA, 0, 0, len(section)), *section]
    code.append((_RET, 0, 0, _KILL_PROCESS))
    if len(code) > 4096:
        raise ValueError(f"the seccomp filter has {len(code)} instructions; the kernel takes 4096")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _leaves(
    table: Mapping[str, int], offset: int, default: int, rules: Sequence[Rule], narrow: bool
) -> dict[int, _Leaf]:
    plain: dict[int, int] = {}
    conditional: dict[int, list[tuple[tuple[Argument, ...], int]]] = {}
    for rule in rules:
        if rule.action == default:
            continue
        for name in rule.names:
            if name not in table:
                continue
            number = table[name] + offset
            if rule.arguments:
                conditional.setdefault(number, []).append((tuple(rule.arguments), rule.action))
            else:
                plain.setdefault(number, rule.action)
    leaves = {number: _Leaf((), value) for number, value in plain.items()}
    for number, alternatives in conditional.items():
        if number not in plain:
            leaves[number] = _Leaf(tuple(alternatives), default, narrow)
    return leaves


def _intervals(leaves: dict[int, _Leaf], limits: list[tuple[int, int]], default: int) -> list[tuple[int, _Leaf]]:
    """(first number, leaf) in ascending order, equal neighbours merged; the first begins at 0."""
    denied, unknown = _Leaf((), default), _Leaf((), ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS)
    beyond = unknown if default & 0xFFFF0000 == ACTIONS["SCMP_ACT_ERRNO"] else denied
    points: dict[int, _Leaf] = {}
    for first, last in sorted(limits):
        points[first] = denied
        points[last + 1] = beyond
    points.setdefault(0, denied)
    for number, leaf in sorted(leaves.items()):
        points[number] = leaf
        if number + 1 not in leaves:
            points.setdefault(number + 1, denied)
    merged: list[tuple[int, _Leaf]] = []
    for number, leaf in sorted(points.items()):
        if not merged or merged[-1][1] != leaf:
            merged.append((number, leaf))
    return merged


def _search(points: Sequence[tuple[int, _Leaf]]) -> Code:
    if len(points) == 1:
        return _leaf(points[0][1])
    middle = (len(points) + 1) // 2
    low, high = _search(points[:middle]), _search(points[middle:])
    start = points[middle][0]
    if len(low) < 256:
        return [(_JGE, len(low), 0, start), *low, *high]
    return [(_JGE, 0, 1, start), (_JA, 0, 0, len(low)), *low, *high]


def _leaf(leaf: _Leaf) -> Code:
    code: Code = []
    for arguments, value in leaf.conditional:
        body: Code = [(_RET, 0, 0, value)]
        for argument in reversed(arguments):
            body = (_compare_narrow if leaf.narrow else _compare)(argument, len(body)) + body
        code += body
    return [*code, (_RET, 0, 0, leaf.otherwise)]


def _compare(argument: Argument, skip: int) -> Code:
    """Falls through when the comparison holds, else jumps over `skip` more instructions. 64 bits in two halves."""
    low, high = _ARGS + 8 * argument.number, _ARGS + 8 * argument.number + 4
    value_low, value_high = argument.value & 0xFFFFFFFF, argument.value >> 32 & 0xFFFFFFFF
    operator = argument.operator
    if operator == "MASKED_EQ":
        two_low, two_high = argument.value_two & 0xFFFFFFFF, argument.value_two >> 32 & 0xFFFFFFFF
        return [
            (_LD_ABS, 0, 0, high),
            (_AND, 0, 0, value_high),
            (_JEQ, 0, skip + 3, two_high),
            (_LD_ABS, 0, 0, low),
            (_AND, 0, 0, value_low),
            (_JEQ, 0, skip, two_low),
        ]
    if operator == "EQ":
        return [
            (_LD_ABS, 0, 0, high),
            (_JEQ, 0, skip + 2, value_high),
            (_LD_ABS, 0, 0, low),
            (_JEQ, 0, skip, value_low),
        ]
    if operator == "NE":
        return [
            (_LD_ABS, 0, 0, high),
            (_JEQ, 0, 2, value_high),
            (_LD_ABS, 0, 0, low),
            (_JEQ, skip, 0, value_low),
        ]
    if operator in ("GT", "GE"):
        last = _JGT if operator == "GT" else _JGE
        return [
            (_LD_ABS, 0, 0, high),
            (_JGT, 3, 0, value_high),
            (_JEQ, 0, skip + 2, value_high),
            (_LD_ABS, 0, 0, low),
            (last, 0, skip, value_low),
        ]
    last = _JGE if operator == "LT" else _JGT
    return [
        (_LD_ABS, 0, 0, high),
        (_JGT, skip + 3, 0, value_high),
        (_JEQ, 0, 2, value_high),
        (_LD_ABS, 0, 0, low),
        (last, skip, 0, value_low),
    ]


def _compare_narrow(argument: Argument, skip: int) -> Code:
    """The same for 32 bits."""
    value, operator = argument.value & 0xFFFFFFFF, argument.operator
    load: Code = [(_LD_ABS, 0, 0, _ARGS + 8 * argument.number)]
    if operator == "MASKED_EQ":
        return [*load, (_AND, 0, 0, value), (_JEQ, 0, skip, argument.value_two & 0xFFFFFFFF)]
    if operator in ("NE", "LT", "LE"):
        opposite = {"NE": _JEQ, "LT": _JGE, "LE": _JGT}[operator]
        return [*load, (opposite, skip, 0, value)]
    return [*load, ({"EQ": _JEQ, "GT": _JGT, "GE": _JGE}[operator], 0, skip, value)]


class sock_fprog(ctypes.Structure):
    """struct sock_fprog (linux/filter.h)."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def load(program: bytes, flags: int = 0) -> None:
    """Puts this thread under the filter, for good (seccomp(2)). Raises OSError."""
    header = sock_fprog(len(program) // 8, program)
    syscall(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(header), call="seccomp")
