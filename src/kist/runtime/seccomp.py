"""Which seccomp filter a container gets: the default profile, a profile of the user's, or none; compiled once."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import msgspec

from kist.kernel import seccomp
from kist.kernel.seccomp import Argument, Rule
from kist.model.errors import InvalidParameter
from kist.runtime import oci, profile


@functools.lru_cache(maxsize=64)
def default_program(capabilities: frozenset[str], machine: str = os.uname().machine) -> bytes:
    """The default profile for a capability set, as classic BPF."""
    names = profile.GO_NAMES.get(machine)
    if names is None:
        raise InvalidParameter(
            f"there is no default seccomp profile for {machine}: use --security-opt seccomp=unconfined"
        )
    rules = [
        Rule(rule.names, seccomp.action(rule.action, rule.errno_return), rule.arguments)
        for rule in profile.RULES
        if (not rule.capability or rule.capability in capabilities)
        and (not rule.without or rule.without not in capabilities)
        and (not rule.architectures or set(rule.architectures) & set(names))
    ]
    default = seccomp.action(profile.DEFAULT_ACTION, profile.DEFAULT_ERRNO)
    return seccomp.compile_filter(profile.ARCHITECTURES[machine], default, rules)


class _Arg(msgspec.Struct, frozen=True):
    index: int
    op: str
    value: int
    valueTwo: int = 0


class _Condition(msgspec.Struct, frozen=True):
    caps: list[str] = []
    arches: list[str] = []
    minKernel: str = ""


class _Syscall(msgspec.Struct, frozen=True):
    action: str
    names: list[str] = []
    name: str = ""
    errnoRet: int | None = None
    args: list[_Arg] | None = None
    includes: _Condition = _Condition()
    excludes: _Condition = _Condition()


class _ArchMap(msgspec.Struct, frozen=True):
    architecture: str
    subArchitectures: list[str] | None = None


class _Profile(msgspec.Struct, frozen=True):
    defaultAction: str
    defaultErrnoRet: int | None = None
    architectures: list[str] | None = None
    archMap: list[_ArchMap] | None = None
    flags: list[str] | None = None
    syscalls: list[_Syscall] | None = None


def default_configuration(capabilities: frozenset[str], machine: str = os.uname().machine) -> oci.Seccomp:
    """The default profile as linux.seccomp, for a runtime that compiles it itself."""
    names = set(profile.GO_NAMES.get(machine, ()))
    calls = [
        oci_rule(rule.names, rule.action, rule.errno_return, rule.arguments)
        for rule in profile.RULES
        if (not rule.capability or rule.capability in capabilities)
        and (not rule.without or rule.without not in capabilities)
        and (not rule.architectures or set(rule.architectures) & names)
    ]
    return oci.Seccomp(
        profile.DEFAULT_ACTION, profile.DEFAULT_ERRNO, profile.ARCHITECTURES.get(machine, ()), syscalls=tuple(calls)
    )


def oci_rule(
    names: Sequence[str], action: str, errno_return: int | None, arguments: Sequence[Argument]
) -> dict[str, Any]:
    """One entry of linux.seccomp.syscalls."""
    found: dict[str, Any] = {"names": list(names), "action": action}
    if errno_return is not None:
        found["errnoRet"] = errno_return
    if arguments:
        found["args"] = [
            {"index": one.number, "value": one.value, "valueTwo": one.value_two, "op": f"SCMP_CMP_{one.operator}"}
            for one in arguments
        ]
    return found


def user_configuration(text: str, capabilities: frozenset[str], machine: str = os.uname().machine) -> oci.Seccomp:
    """A profile of the user's in the same form. Raises InvalidParameter that says what is wrong in it."""
    user_program(text, capabilities, machine)
    found = msgspec.json.decode(text, type=_Profile)
    calls = []
    for call in found.syscalls or ():
        if _applies(call, capabilities, machine):
            arguments = [Argument(one.index, one.op.removeprefix("SCMP_CMP_"), one.value, one.valueTwo)
                         for one in call.args or ()]  # fmt: skip
            calls.append(oci_rule(call.names or [call.name], call.action, call.errnoRet, arguments))
    return oci.Seccomp(
        found.defaultAction,
        found.defaultErrnoRet,
        tuple(_architectures(found, machine)),
        tuple(found.flags or ()),
        tuple(calls),
    )


def _architectures(found: _Profile, machine: str) -> list[str]:
    native = profile.ARCHITECTURES.get(machine, ())
    if found.archMap:
        ours = [entry for entry in found.archMap if entry.architecture == (native or ("",))[0]]
        return [name for entry in ours for name in (entry.architecture, *(entry.subArchitectures or ()))]
    return found.architectures or list(native)


def user_program(text: str, capabilities: frozenset[str], machine: str = os.uname().machine) -> tuple[bytes, int]:
    """A profile in Docker's JSON format as (program, flags). Raises InvalidParameter that says what is wrong in it."""
    try:
        found = msgspec.json.decode(text, type=_Profile)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from error
    architectures = _architectures(found, machine)
    try:
        rules = [_rule(call) for call in found.syscalls or () if _applies(call, capabilities, machine)]
        default = seccomp.action(found.defaultAction, found.defaultErrnoRet)
        flags = sum({seccomp.FLAGS[name] for name in found.flags or ()})
    except KeyError as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: unknown word {error}") from error
    try:
        return seccomp.compile_filter(architectures, default, rules), flags
    except ValueError as error:
        raise InvalidParameter(str(error)) from error


def _applies(call: _Syscall, capabilities: frozenset[str], machine: str) -> bool:
    names = set(profile.GO_NAMES.get(machine, ()))
    if call.includes.caps and not capabilities.issuperset(call.includes.caps):
        return False
    if call.includes.arches and not names & set(call.includes.arches):
        return False
    if call.includes.minKernel and _version(os.uname().release) < _version(call.includes.minKernel):
        return False
    return not (
        (call.excludes.caps and capabilities & set(call.excludes.caps))
        or (call.excludes.arches and names & set(call.excludes.arches))
    )


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = "".join(letter for letter in rest.split(".")[0].split("-")[0] if letter.isdigit())
    return int(major), int(minor or 0)


def _rule(call: _Syscall) -> Rule:
    arguments = []
    for one in call.args or ():
        operator = one.op.removeprefix("SCMP_CMP_")
        if operator not in seccomp.OPERATORS or not 0 <= one.index <= 5:
            raise KeyError(one.op)
        arguments.append(Argument(one.index, operator, one.value, one.valueTwo))
    names: Any = call.names or [call.name]
    return Rule(names, seccomp.action(call.action, call.errnoRet), arguments)
