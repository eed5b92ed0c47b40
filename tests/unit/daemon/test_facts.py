"""What the engine believes it can limit, on trees that have one thing and lack another."""

from __future__ import annotations

from pathlib import Path

import pytest

from kist.daemon import facts
from kist.kernel.cgroup import Layout

FILES = {
    "memory": ("memory.swap.max", "memory.low"),
    "cpu": ("cpu.max", "cpu.weight"),
    "cpuset": ("cpuset.cpus",),
    "io": ("io.max", "io.bfq.weight"),
    "pids": ("pids.max",),
}
ALL = {"memory", "swap", "reservation", "pids", "cpu_shares", "cpu_quota", "cpuset", "blkio_weight", "blkio_throttle"}


def tree(root: Path, controllers: list[str], without: str = "") -> Layout:
    """A v2 tree as the kernel would show it to the group that is looked at."""
    probe = root / "kist" / "probe"
    probe.mkdir(parents=True)
    for directory in (root, root / "kist", probe):
        (directory / "cgroup.controllers").write_text(" ".join(controllers) + "\n")
        (directory / "cgroup.subtree_control").write_text("")
    for name in (name for one in controllers for name in FILES[one] if name != without):
        (probe / name).write_text("")
    return Layout({}, str(root))


def can(layout: Layout) -> set[str]:
    return {name for name, true in facts.v2_limits(layout, "kist").items() if true}


def test_everything_is_there(tmp_path: Path) -> None:
    assert can(tree(tmp_path, list(FILES))) == ALL


@pytest.mark.parametrize(
    ("missing", "lost"),
    [
        ("memory", {"memory", "swap", "reservation"}),
        ("cpu", {"cpu_shares", "cpu_quota"}),
        ("cpuset", {"cpuset"}),
        ("io", {"blkio_weight", "blkio_throttle"}),
        ("pids", {"pids"}),
    ],
)
def test_a_controller_that_is_not_handed_down(tmp_path: Path, missing: str, lost: set[str]) -> None:
    assert can(tree(tmp_path, [name for name in FILES if name != missing])) == ALL - lost


@pytest.mark.parametrize(
    ("without", "lost"),
    [("memory.swap.max", "swap"), ("cpu.max", "cpu_quota"), ("io.max", "blkio_throttle"),
     ("io.bfq.weight", "blkio_weight")],
)  # fmt: skip
def test_a_kernel_that_leaves_a_part_of_a_controller_out(tmp_path: Path, without: str, lost: str) -> None:
    assert can(tree(tmp_path, list(FILES), without)) == ALL - {lost}


def test_v1_looks_at_every_hierarchy(tmp_path: Path) -> None:
    for controller, name in (("memory", "memory.swappiness"), ("cpu", "cpu.cfs_quota_us"), ("cpuset", "cpuset.cpus")):
        (tmp_path / controller).mkdir()
        (tmp_path / controller / name).write_text("")
    layout = Layout({name: str(tmp_path / name) for name in ("memory", "cpu", "cpuset")}, "")
    found = {name for name, true in facts.v1_limits(layout).items() if true}
    assert found == {"memory", "swappiness", "reservation", "cpu_shares", "cpu_quota", "cpuset"}
