"""Options of an overlay as mount(2) takes them on older kernels."""

from __future__ import annotations

from kist.kernel import overlay


def test_directories_are_named_from_what_they_have_in_common() -> None:
    options = ["lowerdir=/r/s/2/fs:/r/s/1/fs:/r/s/init", "upperdir=/r/s/3/fs", "workdir=/r/s/3/work", "metacopy=on"]
    assert overlay.relative(options) == (
        "/r/s",
        ["lowerdir=2/fs:1/fs:init", "upperdir=3/fs", "workdir=3/work", "metacopy=on"],
    )


def test_one_directory_alone_keeps_its_name_and_flags_stay() -> None:
    assert overlay.relative(["lowerdir=/r/a", "userxattr"]) == ("/r", ["lowerdir=a", "userxattr"])


def test_five_hundred_layers_fit_into_a_page() -> None:
    layers = ":".join(f"/var/lib/kist/snapshots/{number}/fs" for number in range(500))
    _, words = overlay.relative([f"lowerdir={layers}"])
    assert len(",".join(words)) < 4096
