"""What -v, --mount and idmap= say: whatever the text is, it is a mount point or a refusal that names it."""

from __future__ import annotations

import itertools
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.container import binds, mounts, sources
from kist.model import idmap
from kist.model.config import BindOptions, ContainerConfig, HostConfig, KistBindOptions, MountRequest
from kist.model.container import MountPoint
from kist.model.errors import InvalidParameter, KistError

WORDS = st.sampled_from([
    *("", "/", "/a", "/a/../b", "//c", "name", "..", ".", "ro", "rw", "z", "Z", "rslave", "shared", "nocopy", "copy"),
    *("cached", "bogus", "ro,z", "ro,rw", "z,Z", "rslave,ro", "private,slave", "nocopy,ro", ",", "ro,"),
])  # fmt: skip
TEXTS = st.one_of(st.lists(WORDS, max_size=5).map(":".join), st.text(max_size=20))


@given(TEXTS)
def test_a_bind_is_a_sound_mount_point_or_is_refused(text: str) -> None:
    try:
        point = binds.parse_bind(text)
    except InvalidParameter:
        return
    assert point.destination.startswith("/")
    assert point.destination != "/"
    assert posixpath.normpath(point.destination) == point.destination
    assert (point.type == "bind") == point.source.startswith("/")
    words = point.mode.split(",")
    assert point.rw == ("ro" not in words)
    if point.type == "bind":
        assert not {"copy", "nocopy"} & set(words), "only a volume is filled"
        assert point.propagation in binds.PROPAGATIONS
        assert point.makes_source
    else:
        assert not set(words) & binds.PROPAGATIONS
        assert point.anonymous == (not point.name)


@given(st.lists(WORDS, max_size=4).map(",".join))
def test_a_mode_has_each_kind_of_word_once(mode: str) -> None:
    words = mode.split(",") if mode else []
    known = [word for word in words if any(word in kind for kind in binds._MODE_CLASSES)]
    classes = [next(number for number, kind in enumerate(binds._MODE_CLASSES) if word in kind) for word in known]
    assert binds.valid_mode(mode) == (known == words and len(classes) == len(set(classes)))


def mount(**given_: object) -> MountRequest:
    return MountRequest(**{"type": "bind", "source": "/s", "target": "/t", **given_})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (mount(bind_options=BindOptions(read_only_non_recursive=True)), "!ReadOnly && BindOptions.ReadOnlyNonRecurs"),
        (mount(bind_options=BindOptions(read_only_force_recursive=True)), "!ReadOnly && BindOptions.ReadOnlyForceRec"),
        (
            mount(
                read_only=True,
                bind_options=BindOptions(read_only_force_recursive=True, read_only_non_recursive=True),
            ),
            "mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive",
        ),
        (
            mount(bind_options=BindOptions(kist=KistBindOptions("uids=1-2"))),
            "invalid mount config for type \"bind\": invalid idmap 'uids=1-2': '1-2' is not of the form 1000-0-1",
        ),
    ],
)
def test_options_that_contradict_each_other(asked: MountRequest, told: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        binds.validate_mount(asked, exists=lambda path: True)
    assert told in caught.value.message


def test_a_source_below_a_file_is_told_as_dockerd_does() -> None:
    with pytest.raises(InvalidParameter, match="stat /etc/passwd/x: not a directory"):
        binds.validate_mount(mount(source="/etc/passwd/x"))


def collected(host: HostConfig, taken: list[MountPoint] | None = None) -> list[MountPoint]:
    return mounts.collect(ContainerConfig(), host, taken or [], "/data/root")


def test_a_destination_twice_is_told_as_it_was_asked_for() -> None:
    with pytest.raises(InvalidParameter, match=r"^Duplicate mount point: /t$"):
        collected(HostConfig(binds=["/a:/t", "/b:/t/"]))
    with pytest.raises(InvalidParameter, match=r"^Duplicate mount point: /t/\.\./t$"):
        collected(HostConfig(binds=["/a:/t"], mounts=[mount(target="/t/../t")]))


@pytest.mark.parametrize("source", ["/data/root/x", "/data/root", "/data", "/", "/data/root2"])
def test_what_is_around_the_data_root_follows_the_host(source: str) -> None:
    (point,) = collected(HostConfig(binds=[f"{source}:/t"]))
    assert (point.propagation, point.follows_if_possible) == ("rslave", True)
    (point,) = collected(HostConfig(binds=[f"{source}:/t:rshared"]))
    assert (point.propagation, point.follows_if_possible) == ("rshared", False)
    with pytest.raises(InvalidParameter, match='must use either propagation mode "rslave" or "rshared"'):
        collected(HostConfig(mounts=[mount(source=source, bind_options=BindOptions(propagation="private"))]))


def test_elsewhere_mounts_stay_apart() -> None:
    (point,) = collected(HostConfig(binds=["/srv:/t"]))
    assert point.propagation == "rprivate"


MOUNTINFO = """\
20 1 254:0 / / rw - ext4 /dev/vda rw
30 20 0:50 / /a rw shared:7 - tmpfs t rw
31 30 0:51 / /a/b\\040c rw master:7 - tmpfs t rw
32 20 0:52 / /ab rw - tmpfs t rw
33 20 0:53 / /twice rw - tmpfs t rw
34 20 0:54 / /twice rw shared:9 master:3 - tmpfs t rw
"""


@pytest.mark.parametrize(
    ("source", "place", "tags"),
    [
        *(("/a", "/a", ["shared:7"]), ("/a/x", "/a", ["shared:7"]), ("/a/b c/d", "/a/b c", ["master:7"])),
        *(("/ab", "/ab", []), ("/abc", "/", []), ("/", "/", []), ("/twice/x", "/twice", ["shared:9", "master:3"])),
    ],
)
def test_the_mount_of_a_path(source: str, place: str, tags: list[str]) -> None:
    assert sources.mount_of(source, MOUNTINFO) == (place, tags)


@pytest.mark.parametrize(
    ("propagation", "source", "told"),
    [
        ("shared", "/a", ""),
        ("shared", "/a/b c", "path /a/b c is mounted on /a/b c but it is not a shared mount"),
        ("rslave", "/a/b c", ""),
        ("slave", "/ab", "path /ab is mounted on /ab but it is not a shared or slave mount"),
        ("rprivate", "/ab", ""),
    ],
)
def test_propagation_needs_a_mount_that_is_reached(propagation: str, source: str, told: str) -> None:
    point = MountPoint(type="bind", source=source, destination="/t", propagation=propagation)
    if not told:
        sources.check_propagation(point, lambda: MOUNTINFO)
        return
    with pytest.raises(KistError) as caught:
        sources.check_propagation(point, lambda: MOUNTINFO)
    assert caught.value.message == told


# --- mapped ids ---

IDS = st.integers(0, 1 << 33)
RANGES = st.lists(st.tuples(IDS, IDS, st.integers(0, 70000)), min_size=1, max_size=5)


def written(ranges: list[tuple[int, int, int]]) -> str:
    return "#".join(f"{first}-{shown}-{count}" for first, shown, count in ranges)


@given(RANGES, RANGES)
def test_what_is_taken_as_a_map_the_kernel_takes(
    uids: list[tuple[int, int, int]], gids: list[tuple[int, int, int]]
) -> None:
    try:
        found = idmap.parse(f"uids={written(uids)};gids={written(gids)}")
    except InvalidParameter:
        return
    assert found == idmap.IDMap(tuple(uids), tuple(gids))
    for ranges in (uids, gids):
        for side in (0, 1):
            spans = sorted((one[side], one[side] + one[2]) for one in ranges)
            assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
            assert spans[0][0] >= 0
            assert spans[-1][1] <= (1 << 32) - 1
        assert all(count > 0 for _, _, count in ranges)


@given(st.text(alphabet="uidsgidskeep=;#-@:0123456789 ²", max_size=30))
def test_no_text_of_a_map_is_an_accident(text: str) -> None:
    try:
        found = idmap.parse(text)
    except InvalidParameter:
        return
    assert (found.keep is not None) != bool(found.uids and found.gids)


def test_whose_files_are_kept() -> None:
    assert idmap.parse("keep=1000:100") == idmap.IDMap(keep=(1000, 100))
    for text in ("keep", "keep=", "keep=1", "keep=a:b", "keep=1:4294967295", "keep=-1:0"):
        with pytest.raises(InvalidParameter, match="keep needs a user and a group"):
            idmap.parse(text)
    with pytest.raises(InvalidParameter, match="relative to a user namespace"):
        idmap.parse("uids=@1-0-1;gids=0-0-1")
