"""Where the group of a container is that asked for a parent of its own."""

from __future__ import annotations

import pytest

from kist.kernel.cgroup import Layout, below

V1 = Layout({"memory": "/sys/fs/cgroup/memory"}, "/sys/fs/cgroup/unified")
V2 = Layout({}, "/sys/fs/cgroup")


@pytest.mark.parametrize(
    ("layout", "parent", "systemd", "expected"),
    [
        (V1, "/team", False, "team/c"),
        (V1, "a/b/", False, "a/b/c"),
        (V2, "/team", False, "team/kist/c"),
        (V2, "team.slice", True, "team.slice/kist/c"),
        (V2, "a-b-c.slice", True, "a.slice/a-b.slice/a-b-c.slice/kist/c"),
        (V2, "a-b.slice", False, "a-b.slice/kist/c"),
        (V2, "/x.slice/a-b.slice", True, "x.slice/a-b.slice/kist/c"),
    ],
)
def test_a_group_below_another(layout: Layout, parent: str, systemd: bool, expected: str) -> None:
    assert below(layout, parent, "c", systemd=systemd) == expected
