"""Device rules of the v2 tree on the real kernel: what the program refuses is refused to a process of the group."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator

import pytest

from kist.kernel import cgroup, devices
from kist.kernel.devices import DeviceRule

DEFAULT = [
    DeviceRule(False, "a", None, None, "rwm"),
    DeviceRule(True, "c", None, None, "m"),
    DeviceRule(True, "b", None, None, "m"),
    DeviceRule(True, "c", 1, 3, "rwm"),
    DeviceRule(True, "c", 1, 5, "r"),
]


@pytest.fixture
def group() -> Iterator[str]:
    tree = cgroup.detect().unified
    if not tree:
        pytest.skip("no v2 tree")
    directory = f"{tree}/kist-test-{secrets.token_hex(4)}"
    os.mkdir(directory)
    yield directory
    os.rmdir(directory)


def tried(group: str, attempt: str, flags: int, node: tuple[int, int] | None = None) -> str:
    """What a process of the group gets from open(2), or from mknod(2) of a node."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            cgroup.write(f"{group}/cgroup.procs", "0")
            if node is None:
                os.close(os.open(attempt, flags))
            else:
                os.mknod(attempt, stat.S_IFCHR | 0o600, os.makedev(*node))
                os.unlink(attempt)
            os.write(write, b"yes")
        except OSError as error:
            os.write(write, os.strerror(error.errno or 0).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    said = os.read(read, 100).decode()
    os.close(read)
    return said


def test_the_kernel_follows_the_rules(group: str) -> None:
    assert tried(group, "/dev/full", os.O_RDWR) == "yes"
    devices.attach(group, DEFAULT)
    assert tried(group, "/dev/null", os.O_RDWR) == "yes"
    assert tried(group, "/dev/zero", os.O_RDONLY) == "yes"
    assert tried(group, "/dev/zero", os.O_RDWR) == "Operation not permitted"
    assert tried(group, "/dev/full", os.O_RDONLY) == "Operation not permitted"
    assert tried(group, "/dev/made-by-a-test", 0, (1, 7)) == "yes"


def test_a_second_program_narrows_only(group: str) -> None:
    devices.attach(group, DEFAULT)
    devices.attach(group, [DeviceRule(True, "a", None, None, "rwm")])
    assert tried(group, "/dev/full", os.O_RDONLY) == "Operation not permitted"
