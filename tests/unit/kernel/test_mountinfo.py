"""Mount points as the kernel writes them."""

from __future__ import annotations

from kist.kernel import mountinfo

TEXT = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:35 / /var/with\\040space rw - tmpfs tmpfs rw
41 22 0:36 / /var/with\\040space rw - tmpfs tmpfs rw
"""


def test_names_are_decoded_and_covered_mounts_stand_twice() -> None:
    assert mountinfo.points(TEXT) == ["/", "/var/with space", "/var/with space"]


def test_of_this_process() -> None:
    assert mountinfo.count("/proc") >= 1
    assert "/proc" in mountinfo.below("/proc")
