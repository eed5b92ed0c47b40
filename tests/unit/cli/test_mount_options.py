"""What --mount makes of its line, beside docker's own keys."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.cli import mounts
from kist.cli.parse import UsageError

KEYS = sorted(mounts._KEYS)
FIELDS = st.one_of(
    st.builds(
        "{}={}".format,
        st.sampled_from(KEYS),
        st.sampled_from(["", "bind", "volume", "/a", "1", "true", "x", "keep", "disabled"]),
    ),
    st.sampled_from(["ro", "readonly", "bind-create-src", "volume-nocopy", "bogus", ""]),
)
OWNERS = {"BindOptions": "bind", "VolumeOptions": "volume", "ImageOptions": "image", "TmpfsOptions": "tmpfs"}


@given(st.lists(FIELDS, max_size=5).map(",".join))
def test_a_line_is_a_mount_or_is_refused(line: str) -> None:
    try:
        found = mounts.mount(line)
    except UsageError:
        return
    assert found["Type"]
    assert found["Target"]
    assert all(found["Type"] == kind for options, kind in OWNERS.items() if options in found)


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("idmap=keep", {"Kist": {"IDMap": f"keep={os.getuid()}:{os.getgid()}"}}),
        ("idmap=uids=0-1000-1#1-2000-5;gids=0-1-1", {"Kist": {"IDMap": "uids=0-1000-1#1-2000-5;gids=0-1-1"}}),
        ("bind-create-src", {"CreateMountpoint": True}),
        ("bind-create-src=0", {"CreateMountpoint": False}),
    ],
)
def test_options_of_binds(line: str, options: dict[str, Any]) -> None:
    assert mounts.mount(f"type=bind,src=/s,dst=/t,{line}")["BindOptions"] == options


def test_consistency_is_written_small() -> None:
    assert mounts.mount("type=bind,src=/s,dst=/t,consistency=Cached")["Consistency"] == "cached"


def test_mapped_ids_are_of_binds() -> None:
    with pytest.raises(UsageError, match="cannot mix 'bind-\\*' options with mount type 'volume'"):
        mounts.mount("type=volume,src=v,dst=/t,idmap=keep")
