"""Writes src/kist/kernel/syscalls.py from the C headers of linux-libc-dev: `python scripts/generate_syscalls.py`."""

from __future__ import annotations

import re
from pathlib import Path

HEADERS = Path("/usr/include/x86_64-linux-gnu/asm")
# Newer than Debian 12's headers; since 424 a call has one number on every architecture.
NEW = {
    "cachestat": 451, "fchmodat2": 452, "map_shadow_stack": 453, "futex_wake": 454, "futex_wait": 455,
    "futex_requeue": 456, "statmount": 457, "listmount": 458, "lsm_get_self_attr": 459, "lsm_set_self_attr": 460,
    "lsm_list_modules": 461, "mseal": 462, "setxattrat": 463, "getxattrat": 464, "listxattrat": 465,
    "removexattrat": 466, "open_tree_attr": 467, "file_getattr": 468, "file_setattr": 469,
}  # fmt: skip
# asm-generic numbers that a 64-bit architecture gives another name.
GENERIC = {
    25: "fcntl", 38: "renameat", 39: "umount2", 43: "statfs", 44: "fstatfs", 45: "truncate", 46: "ftruncate",
    62: "lseek", 71: "sendfile", 79: "newfstatat", 80: "fstat", 222: "mmap", 223: "fadvise64",
}  # fmt: skip


def table(path: Path) -> dict[str, int]:
    found = re.findall(r"#define __NR_(\w+)\s+\(?(?:__X32_SYSCALL_BIT \+ )?(\d+)\)?", path.read_text())
    return {name: int(number) for name, number in found} | NEW


def generic(path: Path) -> dict[str, int]:
    found = re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", path.read_text())
    numbers = {name: int(number) for name, number in found if name not in ("syscalls", "arch_specific_syscall")}
    numbers = {name: number for name, number in numbers.items() if number not in GENERIC}
    numbers.pop("riscv_flush_icache", None)
    return numbers | {name: number for number, name in GENERIC.items()} | NEW


def render(name: str, numbers: dict[str, int]) -> str:
    words = [f"{call}={number}" for call, number in sorted(numbers.items(), key=lambda item: item[1])]
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) > 108:
            lines.append(line)
            line = ""
        line += word + " "
    lines.append(line)
    text = "\n".join(f'    "{one}"' for one in lines)
    return f"{name} = _table(\n{text}\n)\n"


def main() -> None:
    out = '''"""Numbers of system calls by name, for each calling convention that a filter may meet.

Made by scripts/generate_syscalls.py from the kernel's headers; not edited by hand. X32 counts without its bit 30.
"""

from __future__ import annotations


def _table(text: str) -> dict[str, int]:
    return {name: int(number) for name, _, number in (word.partition("=") for word in text.split())}


'''
    out += render("X86_64", table(HEADERS / "unistd_64.h") | {"uretprobe": 335}) + "\n"
    out += render("X86", table(HEADERS / "unistd_32.h")) + "\n"
    out += render("X32", table(HEADERS / "unistd_x32.h")) + "\n"
    out += render("AARCH64", generic(Path("/usr/include/asm-generic/unistd.h")))
    Path("src/kist/kernel/syscalls.py").write_text(out)


if __name__ == "__main__":
    main()
