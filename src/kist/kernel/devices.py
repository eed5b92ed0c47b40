"""Which devices a cgroup of v2 may use: rules compiled to eBPF (BPF_PROG_TYPE_CGROUP_DEVICE), loaded and attached.

The v2 tree has no devices controller; a program that the kernel asks at every open(2) and mknod(2) of a device takes
its place (Documentation/admin-guide/cgroup-v2.rst). It reads struct bpf_cgroup_dev_ctx: kind and access wanted, major,
minor. As in v1 the last rule that speaks of an access decides it, so the program goes through them backwards and
crosses off what was granted.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

from kist.kernel.const import SYS_BPF
from kist.kernel.libc import syscall

# linux/bpf.h
_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE, _ATTACH_DEVICE, _ALLOW_MULTI = 15, 6, 2
_KINDS = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_EVERYTHING = 7
# Opcodes (Documentation/bpf/standardization/instruction-set.rst): class, operation, source.
_LOAD_WORD, _MOVE_REGISTER, _MOVE, _AND, _SHIFT_RIGHT = 0x61, 0xBC, 0xB4, 0x54, 0x74
_JUMP_UNEQUAL, _JUMP_EQUAL, _EXIT = 0x56, 0x16, 0x95
_RESULT, _CONTEXT, _WANTED, _KIND, _MAJOR, _MINOR, _SCRATCH = 0, 1, 2, 3, 4, 5, 6
_LOG_SIZE = 1 << 16


class DeviceRule(NamedTuple):
    """`kind` b, c or a (both); a number of None is every one; `access` letters of `rwm`."""

    allow: bool
    kind: str
    major: int | None
    minor: int | None
    access: str


class Instruction(NamedTuple):
    """struct bpf_insn."""

    code: int
    destination: int = 0
    source: int = 0
    offset: int = 0
    value: int = 0


def compile_rules(rules: Sequence[DeviceRule]) -> list[Instruction]:
    """A program that returns 1 for what the rules allow, 0 for what they do not; what none speaks of is not allowed."""
    found = [
        Instruction(_LOAD_WORD, _WANTED, _CONTEXT, 0),
        Instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
        Instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8),
        Instruction(_MOVE_REGISTER, _KIND, _WANTED),
        Instruction(_AND, _KIND, value=0xFFFF),
        Instruction(_SHIFT_RIGHT, _WANTED, value=16),
    ]
    for rule in reversed(rules):
        found += _of_rule(rule)
    return [*found, *_answer(0)]


def _answer(result: int) -> list[Instruction]:
    return [Instruction(_MOVE, _RESULT, value=result), Instruction(_EXIT)]


def _of_rule(rule: DeviceRule) -> list[Instruction]:
    """Skipped unless the device is the rule's."""
    bits = sum(_ACCESS[letter] for letter in set(rule.access))
    if rule.allow:
        body = [Instruction(_AND, _WANTED, value=_EVERYTHING & ~bits), Instruction(_JUMP_UNEQUAL, _WANTED, offset=2)]
        body += _answer(1)
    else:
        body = [
            Instruction(_MOVE_REGISTER, _SCRATCH, _WANTED),
            Instruction(_AND, _SCRATCH, value=bits),
            Instruction(_JUMP_EQUAL, _SCRATCH, offset=2),
            *_answer(0),
        ]
    wanted = [(_KIND, _KINDS.get(rule.kind)), (_MAJOR, rule.major), (_MINOR, rule.minor)]
    for register, value in reversed(wanted):
        if value is not None:
            body.insert(0, Instruction(_JUMP_UNEQUAL, register, offset=len(body), value=value))
    return body


def encode(program: Sequence[Instruction]) -> bytes:
    return b"".join(
        struct.pack("=BBhi", one.code, one.destination | one.source << 4, one.offset, one.value) for one in program
    )


def attach(directory: str, rules: Sequence[DeviceRule]) -> None:
    """Puts the rules on a group of the v2 tree; they go with it. Raises OSError."""
    program = _load(encode(compile_rules(rules)))
    try:
        group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            attributes = struct.pack("=IIII", group, program, _ATTACH_DEVICE, _ALLOW_MULTI)
            syscall(SYS_BPF, _PROG_ATTACH, attributes, len(attributes), call="bpf attach", path=directory)
        finally:
            os.close(group)
    finally:
        os.close(program)


def _load(code: bytes) -> int:
    """A descriptor of the program. Raises OSError, with what the verifier said."""
    instructions, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"Apache-2.0")
    log = ctypes.create_string_buffer(_LOG_SIZE)
    # union bpf_attr: type, count, code, licence; log level, its size and buffer, kernel version, flags, name
    attributes = struct.pack(
        "=IIQQIIQII16s",
        *(_TYPE_CGROUP_DEVICE, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(licence)),
        *(0, 0, 0, 0, 0, b"kist_devices"),
    )
    try:
        return syscall(SYS_BPF, _PROG_LOAD, attributes, len(attributes), call="bpf load")
    except OSError as error:
        logged = struct.pack("=IIQ", 1, _LOG_SIZE, ctypes.addressof(log))
        attributes = attributes[:24] + logged + attributes[24 + len(logged) :]
        try:  # once more, for the reason
            return syscall(SYS_BPF, _PROG_LOAD, attributes, len(attributes), call="bpf load")
        except OSError:
            told = log.value.decode("ascii", "replace").strip()
            raise OSError(error.errno, f"{error.strerror}{f' ({told})' if told else ''}", "bpf load") from error
