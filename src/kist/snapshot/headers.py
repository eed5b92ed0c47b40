"""Headers of a tar that nobody vouches for: tarfile's own, with bounds, and without what makes it slow or forgiving.

tarfile reads a pax header or a long name of any size into memory, follows one upon the other by recursion, searches
them with expressions that take the square of their length (CVE-2024-6232), and takes a broken header for the end.
"""

from __future__ import annotations

import tarfile
from typing import Any

_MOST = 1 << 20  # bytes of a pax header or a long name, as in Go's archive/tar
_MOST_IN_A_ROW = 16  # of them before one member
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_BROKEN: tuple[type[Exception], ...] = (
    tarfile.InvalidHeaderError,  # type: ignore[attr-defined]  # it is there
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
)


class Header(tarfile.TarInfo):
    """For `tarinfo=` of tarfile.open. Raises ReadError, ValueError."""

    @classmethod
    def fromtarfile(cls, archive: Any) -> Any:
        try:
            return super().fromtarfile(archive)
        except _BROKEN as error:
            raise tarfile.ReadError(str(error)) from error

    def _proc_member(self, archive: Any) -> Any:
        if self.type not in _LONG + _PAX:
            archive.special = 0
            return super()._proc_member(archive)  # type: ignore[misc]
        archive.special = getattr(archive, "special", 0) + 1
        if not 0 <= self.size <= _MOST or archive.special > _MOST_IN_A_ROW:
            raise tarfile.ReadError("header field too long")
        return super()._proc_member(archive)  # type: ignore[misc]

    def _proc_pax(self, archive: Any) -> Any:
        data = archive.fileobj.read(self._block(self.size))[: self.size]  # type: ignore[attr-defined]
        records = _records(data)
        if self.type == tarfile.XGLTYPE:
            archive.pax_headers.update(records)
        headers = {**archive.pax_headers, **dict(records)}
        member = self.fromtarfile(archive)
        _make_sparse(member, headers, records, archive)
        if self.type != tarfile.XGLTYPE:
            member._apply_pax_info(headers, archive.encoding, archive.errors)
            member.offset = self.offset
            if member.size < 0:
                raise tarfile.ReadError("negative size")
            if "size" in headers:
                archive.offset = member.offset_data
                if member.isreg() or member.type not in tarfile.SUPPORTED_TYPES:
                    archive.offset += member._block(member.size)
        return member


def _records(data: bytes) -> list[tuple[str, str]]:
    """`LENGTH KEY=VALUE\\n` over and over (pax(1)); a key may come twice. Raises ReadError."""
    found = []
    at = 0
    while at < len(data):
        digits, _, _ = data[at : at + 8].partition(b" ")
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not (key and equals) or end > len(data) or data[end - 1 : end] != b"\n":
            raise tarfile.ReadError("invalid pax header")
        found.append((key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")))
        at = end
    return found


def _make_sparse(member: Any, headers: dict[str, str], records: list[tuple[str, str]], archive: Any) -> None:
    """GNU's three ways to say where the holes are."""
    if "GNU.sparse.map" in headers:
        numbers = [int(number) for number in headers["GNU.sparse.map"].split(",")]
        member.sparse = list(zip(numbers[::2], numbers[1::2], strict=False))
    elif "GNU.sparse.size" in headers:
        places, sizes = ([int(value) for key, value in records if key == f"GNU.sparse.{name}"]
                         for name in ("offset", "numbytes"))  # fmt: skip
        member.sparse = list(zip(places, sizes, strict=False))
    elif headers.get("GNU.sparse.major") == "1" and headers.get("GNU.sparse.minor") == "0":
        member._proc_gnusparse_10(member, headers, archive)
