"""Every system call number, made inside a container of each engine: the same errno, the same signal.

A program of 150 bytes makes one call, all its arguments -1 unless said, and leaves with the errno as its status. What
differs between the two engines is what changed in Docker's profile between 20.10 and 28; each such call is named, and
all of kist's answers are held against the published profile of Docker 28 besides.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.conftest import SHARED, Kistd

from kist.kernel import syscalls
from kist.runtime.security import DEFAULT_CAPABILITIES

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program is x86_64 machine code")

# --- the program ---

# Reads argv[1] to argv[7] as decimal numbers into eight slots of -1, then sets a timer of 0.3 s to end what blocks.
_READ_ARGUMENTS = """
    4c8d642410       lea 16(%rsp),%r12          # argv[1]
    4883ec40         sub $64,%rsp
    31c9             xor %ecx,%ecx
    48c704ccffffffff movq $-1,(%rsp,%rcx,8)     # fill:
    ffc1             inc %ecx
    83f908           cmp $8,%ecx
    72f1             jb fill
    31c9             xor %ecx,%ecx
    498b34cc         mov (%r12,%rcx,8),%rsi     # next:
    4885f6           test %rsi,%rsi
    741f             jz ready
    31c0             xor %eax,%eax
    0fb616           movzbl (%rsi),%edx         # digit:
    83ea30           sub $48,%edx
    720d             jb store
    488d0480         lea (%rax,%rax,4),%rax
    488d0442         lea (%rdx,%rax,2),%rax
    48ffc6           inc %rsi
    ebeb             jmp digit
    488904cc         mov %rax,(%rsp,%rcx,8)     # store:
    ffc1             inc %ecx
    ebd8             jmp next
    b826000000       mov $38,%eax               # ready: setitimer(ITIMER_REAL, timer, NULL)
    31ff             xor %edi,%edi
    488d35{timer}    lea timer(%rip),%rsi
    31d2             xor %edx,%edx
    0f05             syscall
"""
_CALL = {
    "syscall": "58 5f 5e 5a 415a 4158 4159 0f05",  # pop rax, rdi, rsi, rdx, r10, r8, r9; syscall
    "int80": "58 5b 59 5a 5e 5f 5d cd80",  # pop rax, rbx, rcx, rdx, rsi, rdi, rbp; int $0x80
}
_LEAVE = """
    bffe000000       mov $254,%edi
    3d01f0ffff       cmp $-4095,%eax
    7204             jb leave
    89c7             mov %eax,%edi
    f7df             neg %edi
    b8e7000000       mov $231,%eax              # leave: exit_group
    0f05             syscall
"""
_AFTER_LEA = 4  # bytes of _READ_ARGUMENTS behind the instruction that knows where the timer is
_TIMER = struct.pack("=4q", 0, 0, 0, 300_000)  # struct itimerval


def _machine_code(listing: str) -> bytes:
    return b"".join(bytes.fromhex(line.split()[0]) for line in listing.strip().splitlines())


def program(way: str) -> bytes:
    """A static executable (elf(5)): one header, one segment, the code, the timer."""
    call, leave = bytes.fromhex(_CALL[way]), _machine_code(_LEAVE)
    distance = _AFTER_LEA + len(call) + len(leave)
    begin = _machine_code(_READ_ARGUMENTS.replace("{timer}", struct.pack("<i", distance).hex()))
    code = begin + call + leave + _TIMER
    address, headers = 0x400000, 64 + 56
    size = headers + len(code)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<16sHHIQQQIHHHHHH", identity, 2, 62, 1, address + headers, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, address, address, size, size, 0x1000)
    return header + segment + code


# --- the calls ---


class Call(NamedTuple):
    """`way` is the program, `number` as it is put into the register."""

    way: str
    number: int
    arguments: tuple[int, ...] = ()

    def __str__(self) -> str:
        table, offset = _table(self)
        name = next((one for one, number in table.items() if number == self.number - offset), "?")
        words = ",".join(hex(one) for one in self.arguments)
        kind = "int80" if self.way == "int80" else "x32" if offset else "x86_64"
        return f"{kind}:{self.number - offset}:{name}({words})"


_X32 = 0x40000000
_SIGCHLD = 17
_NEW = {"ns": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
        "pid": 0x20000000, "net": 0x40000000}  # fmt: skip


def _table(call: Call) -> tuple[dict[str, int], int]:
    """Numbers by name, and what is added to them."""
    if call.way == "int80":
        return syscalls.X86, 0
    return (syscalls.X32, _X32) if call.number & _X32 else (syscalls.X86_64, 0)


def _calls() -> list[Call]:
    numbers = [*range(480), 500, *range(512, 548), 600, 1000]
    nobody = (0x7FFFFFF, 0)  # what kill(-1, -1) answers depends on who else is there
    found = [Call("syscall", number, nobody if number == 62 else ()) for number in numbers]
    found += [Call("syscall", _X32 + number) for number in numbers]
    # sigsuspend(-1) of i386 would block the timer's signal with all others
    special = {37: nobody, 72: (0, 0, 0)}
    found += [Call("int80", number, special.get(number, ())) for number in numbers]
    found += [Call("syscall", 56, (flag | _SIGCHLD, 0)) for flag in (0, *_NEW.values())]  # clone
    found += [Call("syscall", 272, (flag,)) for flag in (0, *_NEW.values())]  # unshare
    found += [Call("int80", 120, (flag | _SIGCHLD, 0)) for flag in (0, *_NEW.values())]
    found += [Call("syscall", 41, (family, 1, 0)) for family in (*range(48), 1 << 32 | 40)]  # socket
    found += [Call("int80", 359, (family, 1, 0)) for family in (2, 38, 39, 40, 41)]
    persona = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 0x40000, 1 << 32)
    found += [Call("syscall", 135, (one,)) for one in persona]
    found += [Call("int80", 136, (one,)) for one in persona[:-1]]
    found += [Call("syscall", 101, (0,)), Call("syscall", 425, (1,)), Call("syscall", 323, (0,))]
    found += [Call("syscall", 435, (0, 0)), Call("syscall", 321, (0, 0, 0)), Call("syscall", 248, (0, 0, 0, 0, 0))]
    return found


CALLS = _calls()
_OUTCOMES = {254: "done", 255: "exited", 128 + 14: "blocked", 126: "not executed", 127: "not executed"}


def outcome(status: int) -> str:
    """What a status of the shell says about the call."""
    if status in _OUTCOMES:
        return _OUTCOMES[status]
    if status in errno.errorcode:
        return errno.errorcode[status]
    return f"signal {status - 128}" if status > 128 else "done"


# --- asking ---

PROFILES = {
    "default": (),
    "sys_admin": ("--cap-add", "SYS_ADMIN"),
    "unconfined": ("--security-opt", "seccomp=unconfined"),
    "unconfined sys_admin": ("--security-opt", "seccomp=unconfined", "--cap-add", "SYS_ADMIN"),
}
Answers = dict[Call, str]


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kist-seccomp", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        for way in _CALL:
            (directory / way).write_bytes(program(way))
            (directory / way).chmod(0o755)
        lines = [f"/p/{call.way} {' '.join(map(str, call[1:2] + call.arguments))}; echo $?" for call in CALLS]
        (directory / "all").write_text("\n".join(lines) + "\n")
        yield directory


def ask(engine: Kistd, profile: str, programs: Path) -> Answers:
    command = ["run", "--rm", "-v", f"{programs}:/p:ro", *PROFILES[profile], "busybox", "sh", "/p/all"]
    result = engine.docker(*command, timeout=100)
    assert result.status == 0, result.errors
    statuses = [int(line) for line in result.text.split()]
    assert len(statuses) == len(CALLS)
    return {call: outcome(status) for call, status in zip(CALLS, statuses, strict=True)}


@pytest.fixture(scope="module")
def answers(kist: Kistd, dockerd: Kistd, programs: Path) -> dict[str, tuple[Answers, Answers]]:
    """Per profile what kist's and what dockerd's container said."""

    def both(profile: str) -> tuple[Answers, Answers]:
        with ThreadPoolExecutor(2) as pool:
            ours, theirs = (pool.submit(ask, engine, profile, programs) for engine in (kist, dockerd))
            return ours.result(), theirs.result()

    return {profile: both(profile) for profile in PROFILES}


# --- comparing ---

_SINCE_23 = "allowed since Docker 23.0 (moby 43490, 42083)"
_SINCE_25 = "allowed since Docker 25.0 (moby 45766, 45837)"
_NO_URING = "refused since Docker 25.0 (moby 46762)"
_NEWER = (
    "runc 1.1.5 with libseccomp 2.5.4 does not know the call, whose number is above all of 20.10's profile: ENOSYS, "
    "and EPERM as x32, whose numbers end at 547. Docker 28's profile names it, or ends above it"
)
_NEWER_CALLS = (
    "set_mempolicy_home_node", "cachestat", "fchmodat2", "map_shadow_stack", "futex_wake", "futex_wait",
    "futex_requeue", "statmount", "listmount", "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules", "mseal",
    "setxattrat", "getxattrat", "listxattrat", "removexattrat",
)  # fmt: skip
# uretprobe and uprobe, which the kernel puts before no filter since 6.14 (kernel/seccomp.c)
_NEVER_FILTERED = {Call("syscall", 335), Call("syscall", 336)}
# What changed in the default profile between Docker 20.10.24 and 28, by call, whatever the way it is made.
CHANGES = {
    "pkey_mprotect": _SINCE_23,
    "pkey_alloc": _SINCE_23,
    "pkey_free": _SINCE_23,
    "process_vm_readv": _SINCE_23,
    "process_vm_writev": _SINCE_23,
    "name_to_handle_at": _SINCE_25,
    "io_uring_setup": _NO_URING,
    "io_uring_enter": _NO_URING,
    "io_uring_register": _NO_URING,
    "socket": "AF_VSOCK is refused since Docker 23.0 (it was taken out of 20.10 again), AF_ALG in 28.5",
    **dict.fromkeys(_NEWER_CALLS, _NEWER),
}


def name_of(call: Call) -> str:
    table, offset = _table(call)
    return next((name for name, number in table.items() if number == call.number - offset), "")


@pytest.mark.parametrize("profile", PROFILES)
def test_calls_answer_alike(answers: dict[str, tuple[Answers, Answers]], profile: str) -> None:
    ours, theirs = answers[profile]
    known = {} if profile.startswith("unconfined") else CHANGES
    for call in CALLS:
        assert ours[call] == theirs[call] or name_of(call) in known, f"{call}: {ours[call]}, dockerd {theirs[call]}"
    assert "not executed" not in ours.values()


def test_the_list_of_changes_is_not_too_long(answers: dict[str, tuple[Answers, Answers]]) -> None:
    pairs = [(ours[call], theirs[call], call) for ours, theirs in answers.values() for call in CALLS]
    assert {name_of(call) for mine, other, call in pairs if mine != other} == set(CHANGES)


def test_the_probe_sees_what_it_should(answers: dict[str, tuple[Answers, Answers]]) -> None:
    """Without this all of the above would pass with a program that does nothing."""
    for way in answers["default"]:
        assert way[Call("syscall", 39)] == "done"  # getpid
        assert way[Call("syscall", 3)] == "EBADF"  # close
        assert way[Call("syscall", 34)] == "blocked"  # pause
        assert way[Call("syscall", 60)] == "exited"
        assert way[Call("syscall", 15)] == "signal 11"  # rt_sigreturn
        assert way[Call("syscall", 250)] == "EPERM"  # keyctl
        assert way[Call("syscall", 435)] == "ENOSYS"  # clone3
        assert way[Call("int80", 29)] == "blocked"
        assert way[Call("syscall", 56, (0x10000011, 0))] == "EPERM"  # clone(CLONE_NEWUSER)
    for way in answers["unconfined sys_admin"]:
        assert way[Call("syscall", 272, (0x20000,))] == "done"  # unshare(CLONE_NEWNS)


@pytest.mark.parametrize("profile", ["default", "sys_admin"])
def test_the_published_profile_is_what_holds(answers: dict[str, tuple[Answers, Answers]], profile: str) -> None:
    """What Docker 28 refuses is refused with its errno; all else answers as it does without a filter."""
    reference = SHARED / "reference" / "seccomp-default.json"
    if not reference.exists():
        pytest.skip("the published profile is not on this machine")
    granted = {*DEFAULT_CAPABILITIES, *(["CAP_SYS_ADMIN"] if profile == "sys_admin" else [])}
    rules = [rule for rule in json.loads(reference.read_text())["syscalls"] if applies(rule, granted)]
    open_ = answers["unconfined sys_admin" if profile == "sys_admin" else "unconfined"][0]
    for call in CALLS:
        refused = "" if call in _NEVER_FILTERED else refusal(rules, call)
        expected = refused or open_[call]
        assert answers[profile][0][call] == expected, call


def applies(rule: dict[str, Any], granted: set[str]) -> bool:
    arches = {"amd64", "x86", "x32"}
    includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
    return (
        granted.issuperset(includes.get("caps", ()))
        and (not includes.get("arches") or bool(arches & set(includes["arches"])))
        and not granted & set(excludes.get("caps", ()))
        and not arches & set(excludes.get("arches", ()))
    )


def refusal(rules: list[dict[str, Any]], call: Call) -> str:
    """What the profile answers instead of the kernel, "" when it lets the call through."""
    table, offset = _table(call)
    name, number = name_of(call), call.number - offset
    if number > max(table[one] for rule in rules for one in rule["names"] if one in table):
        return "ENOSYS"
    width = 64 if table is syscalls.X86_64 else 32
    values = [one & (1 << width) - 1 for one in (*call.arguments, *[-1] * 6)]
    answers = [
        rule for rule in rules if name in rule["names"] and all(holds(one, values) for one in rule.get("args", ()))
    ]
    if any(rule["action"] == "SCMP_ACT_ALLOW" for rule in answers):
        return ""
    return errno.errorcode[answers[0]["errnoRet"]] if answers else "EPERM"


def holds(argument: dict[str, Any], values: list[int]) -> bool:
    value, wanted, two = values[argument["index"]], int(argument["value"]), int(argument.get("valueTwo", 0))
    comparisons: dict[str, bool] = {
        "SCMP_CMP_LT": value < wanted,
        "SCMP_CMP_EQ": value == wanted,
        "SCMP_CMP_GT": value > wanted,
        "SCMP_CMP_MASKED_EQ": value & wanted == two,
    }
    return comparisons[str(argument["op"])]
