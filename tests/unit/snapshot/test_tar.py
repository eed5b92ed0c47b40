"""Tars: what is packed comes out again as it was, whatever the names and contents; what is broken is told."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kist.container.extract import Rules, extract
from kist.snapshot import pack
from kist.snapshot.copy import held
from kist.snapshot.pack import Packer
from kist.snapshot.reader import members

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
_NAME = st.binary(min_size=1, max_size=120).filter(lambda name: b"/" not in name and b"\0" not in name).filter(
    lambda name: name not in (b".", b"..")
)  # fmt: skip
_CONTENT = st.binary(max_size=1500)
_TREE: st.SearchStrategy[dict[bytes, object]] = st.recursive(
    st.dictionaries(_NAME, _CONTENT, max_size=3),
    lambda inner: st.dictionaries(_NAME, st.one_of(_CONTENT, inner), max_size=3),
    max_leaves=8,
)


def build(directory: bytes, tree: dict[bytes, object]) -> None:
    for name, value in tree.items():
        here = directory + b"/" + name
        if isinstance(value, dict):
            os.mkdir(here)
            build(here, value)
        else:
            with open(here, "wb") as file:
                file.write(value)  # type: ignore[arg-type]


def seen(directory: bytes) -> dict[bytes, object]:
    found: dict[bytes, object] = {}
    for entry in os.scandir(directory):
        found[entry.name] = seen(entry.path) if entry.is_dir() else Path(os.fsdecode(entry.path)).read_bytes()
    return found


def packed(directory: str) -> bytes:
    out = io.BytesIO()
    packer = Packer(out.write)
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    packer.tree(top, "")
    os.close(top)
    packer.finish()
    return out.getvalue()


@settings(max_examples=60, deadline=None)
@given(_TREE)
def test_a_tree_goes_through(tree: dict[bytes, object]) -> None:
    with tempfile.TemporaryDirectory() as base:
        os.mkdir(f"{base}/from")
        os.mkdir(f"{base}/to")
        build(os.fsencode(f"{base}/from"), tree)
        data = packed(f"{base}/from")
        root = os.open(base, os.O_PATH | os.O_DIRECTORY)
        extract(root, "/to", io.BufferedReader(io.BytesIO(data)), Rules())
        assert seen(os.fsencode(f"{base}/to")) == tree
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:  # anybody else can read it too
            assert len(archive.getnames()) == data_names(tree)


def data_names(tree: dict[bytes, object]) -> int:
    return sum(1 + (data_names(value) if isinstance(value, dict) else 0) for value in tree.values())


_LETTERS = st.characters(exclude_characters="\0", categories=["L", "N", "P", "S", "Z"])
_FIELDS = st.fixed_dictionaries({
    "name": st.text(_LETTERS, min_size=1, max_size=300),
    "mode": st.integers(0, 0o7777), "uid": st.integers(0, 1 << 32), "gid": st.integers(0, 1 << 32),
    "mtime": st.integers(-(1 << 33), 1 << 40), "linkname": st.text("ab/é", max_size=200),
    "type": st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]),
})  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(_FIELDS, max_size=4), st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_headers_are_read_as_tarfile_reads_them(fields: list[dict[str, object]], style: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as archive:
        for one in fields:
            info = tarfile.TarInfo()
            for name, value in one.items():
                setattr(info, name, value)
            if not info.issym() and not info.islnk():
                info.linkname = ""
            archive.addfile(info)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        expected = [told(one) for one in archive]
    out.seek(0)
    assert [told(one) for one, _ in members(out)] == expected


def told(one: tarfile.TarInfo) -> tuple[object, ...]:
    return one.name, one.mode, one.uid, one.gid, one.mtime, one.linkname, one.type, one.size, one.pax_headers


def test_sparse_files_of_gnu_tar_are_whole(tmp_path: Path) -> None:
    import subprocess

    with (tmp_path / "sparse").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    for style in ("gnu", "pax"):
        made = subprocess.run(
            ["tar", "-C", tmp_path, "-S", f"--format={style}", "-c", "sparse"], stdout=subprocess.PIPE, check=True
        )
        ((member, pieces),) = [(one, list(data)) for one, data in members(io.BytesIO(made.stdout))]
        assert (member.name, member.size) == ("sparse", (1 << 20) + 3)
        content = bytearray(member.size)
        for offset, piece in pieces:
            content[offset : offset + len(piece)] = piece
        assert content == bytes(1 << 20) + b"end"
        assert sum(len(piece) for _, piece in pieces) < 1 << 20, "holes are not read"


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_broken_archives_are_refused_or_read_never_worse(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as base:
        Path(f"{base}/a").write_bytes(b"x" * 700)
        os.mkdir(f"{base}/d")
        whole = bytearray(packed(base))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        for _, content in members(io.BytesIO(bytes(whole[:cut]))):
            for _ in content:
                continue
    except (tarfile.TarError, ValueError, EOFError, OverflowError):
        pass


def test_huge_files_have_headers_that_hold_their_size(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(9 << 30)
    head: list[bytes] = []

    def stop(data: bytes) -> None:
        head.append(data)
        raise BrokenPipeError

    packer = Packer(stop)
    top = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(BrokenPipeError):
        packer.tree(top, "")
    os.close(top)
    with tarfile.open(fileobj=io.BytesIO(head[0])) as archive:
        member = archive.next()
        assert member is not None
        assert member.size == 9 << 30


def test_directories_that_go_while_they_are_packed_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text("x")
    listed = pack._listed

    def and_goes(top: int, inside: str) -> list[str]:
        found = listed(top, inside)
        if inside == "a":
            shutil.rmtree(tmp_path / "a")
        return found

    monkeypatch.setattr(pack, "_listed", and_goes)
    out = io.BytesIO()
    packer = pack.Packer(out.write)
    with held(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)) as top:
        packer.tree(top, "")
    packer.finish()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as packed:
        assert packed.getnames() == ["a", "b", "b/f"]
