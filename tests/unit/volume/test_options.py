"""Options of the local driver: what mount(2) is given."""

from __future__ import annotations

import pytest

from kist.kernel import const
from kist.model.errors import InvalidParameter, KistError
from kist.volume import options


def test_words_of_fstab_become_flags_and_the_rest_is_data() -> None:
    assert options.parse_flags("ro,nosuid,size=1m,noexec") == (
        const.MS_RDONLY | const.MS_NOSUID | const.MS_NOEXEC,
        "size=1m",
    )
    assert options.parse_flags("ro,rw,rbind") == (const.MS_BIND | const.MS_REC, "")
    assert options.parse_flags("") == (0, "")


@pytest.mark.parametrize(
    ("text", "size"), [("10G", 10 << 30), ("512m", 512 << 20), ("1.5k", 1536), ("7", 7), ("1 KiB", 1024), ("0", 0)]
)
def test_sizes(text: str, size: int) -> None:
    assert options.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1z", "1mm", "١m", "1e3", "9" * 100])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid size: '"):
        options.parse_size(text)


def resolve(name: str) -> str:
    return {"server": "10.0.0.9", "fe80::1": "fe80::1"}[name]


@pytest.mark.parametrize(
    ("words", "data"),
    [("addr=server,vers=4", "addr=10.0.0.9,vers=4"), ("addr=10.1.1.1", "addr=10.1.1.1"), ("vers=4", "vers=4")],
)
def test_the_server_of_nfs_is_resolved(words: str, data: str) -> None:
    call = options.mount_call({"type": "nfs", "device": ":/export", "o": words}, resolve)
    assert (call.device, call.data) == (":/export", data)


def test_the_server_of_cifs_is_in_the_device() -> None:
    call = options.mount_call({"type": "cifs", "device": "//server/a%20b", "o": "password=x,user=y"}, resolve)
    assert (call.device, call.data, call.told) == ("//10.0.0.9/a b", "password=x,user=y", "password=********,user=y")


def test_other_types_are_not_resolved() -> None:
    assert options.mount_call({"type": "ceph", "device": "a", "o": "addr=server"}, resolve).data == "addr=server"


def test_there_must_be_a_device() -> None:
    with pytest.raises(KistError, match="missing device in volume options"):
        options.mount_call({"type": "tmpfs", "device": ""})
