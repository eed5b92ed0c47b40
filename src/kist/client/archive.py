"""Contexts as one file: `meta.json` and `tls/<endpoint>/<file>` in a tar archive; zip archives are read too."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from kist.client.contexts import Meta, TlsData, parse_meta
from kist.model.errors import KistError

_LIMIT = 10 << 20  # bytes, as Docker's maxAllowedFileSizeToImport


def pack(meta: Meta, tls: TlsData) -> bytes:
    """The archive, byte for byte the same for the same context."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        text = json.dumps(meta, separators=(",", ":"), ensure_ascii=False).encode()
        _add(archive, "meta.json", text, 0o644)
        _add(archive, "tls", None, 0o700)
        for endpoint, files in sorted(tls.items()):
            _add(archive, f"tls/{endpoint}", None, 0o700)
            for name, content in sorted(files.items()):
                _add(archive, f"tls/{endpoint}/{name}", content, 0o600)
    return packed.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes | None, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.mode = mode
    if content is None:
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    else:
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def unpack(data: bytes, name: str) -> tuple[Meta, TlsData]:
    """A context under its new name. Raises KistError; nothing of a wrong archive is used."""
    if len(data) > _LIMIT:
        raise KistError(f"read exceeds the defined limit of {_LIMIT} bytes")
    meta: Meta | None = None
    tls: TlsData = {}
    for path, content in _zipped(data) if data.startswith(b"PK\x03\x04") else _tarred(data):
        if path == "meta.json":
            meta = {**parse_meta(content, path), "Name": name}
        elif path.startswith("tls/") and "\\" not in path:
            endpoint, _, file = path.removeprefix("tls/").partition("/")
            if not endpoint or not file or "/" in file or {endpoint, file} & {".", ".."}:
                raise KistError("archive format is invalid")
            tls.setdefault(endpoint, {})[file] = content
        else:
            raise KistError(f"{path}: unexpected context file")
    if meta is None:
        raise KistError("invalid context: no metadata found")
    return meta, tls


def _tarred(data: bytes) -> Iterator[tuple[str, bytes]]:
    padded = data + bytes(-len(data) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)  # docker leaves the end out
    try:
        with tarfile.open(fileobj=io.BytesIO(padded), mode="r:") as archive:
            for member in archive:
                if member.isfile():
                    opened = archive.extractfile(member)
                    assert opened is not None  # it is a file
                    yield member.name, opened.read()
    except tarfile.TarError as error:
        raise KistError("archive/tar: invalid tar header") from error


def _zipped(data: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                if member.is_dir():
                    continue
                with archive.open(member) as opened:
                    content = opened.read(_LIMIT + 1)
                if len(content) > _LIMIT:
                    raise KistError(f"read exceeds the defined limit of {_LIMIT} bytes")
                yield member.filename, content
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise KistError(f"zip: {error}") from error
