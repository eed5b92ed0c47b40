"""Users and groups from a container's files, by moby's rules and in its words."""

from __future__ import annotations

import pytest

from kist.monitor.users import Identity, UnknownUser, resolve

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann:/home/ann:/bin/sh\nbroken\n"
GROUP = b"root:x:0:\nwheel:x:10:root,ann\nann:x:1001:\nextra:x:77:\n"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", Identity(0, 0, [0, 10], "/root")),
        ("root", Identity(0, 0, [0, 10], "/root")),
        ("ann", Identity(1000, 1001, [1001, 10], "/home/ann")),
        ("1000", Identity(1000, 1001, [1001, 10], "/home/ann")),
        ("ann:extra", Identity(1000, 77, [77], "/home/ann")),
        ("4242", Identity(4242, 0, [0], "/")),
        ("4242:4343", Identity(4242, 4343, [4343], "/")),
    ],
)
def test_specifications(spec: str, expected: Identity) -> None:
    assert resolve(spec, [], PASSWD, GROUP) == expected


def test_additional_groups_by_name_and_number() -> None:
    assert resolve("ann", ["extra", "5"], PASSWD, GROUP).groups == [1001, 10, 77, 5]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("ann:nobody", "unable to find group nobody: no matching entries in group file"),
        ("99999999999", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_unknown_names_are_told(spec: str, message: str) -> None:
    with pytest.raises(UnknownUser, match=message):
        resolve(spec, [], PASSWD, GROUP)


def test_an_image_without_files_has_root() -> None:
    assert resolve("", [], b"", b"") == Identity(0, 0, [0], "/")
