"""Content digests (OCI image specification, descriptor.md#digests)."""

from __future__ import annotations

import hashlib

from kist.model.errors import InvalidParameter

_HEX = frozenset("0123456789abcdef")


class Digest(str):
    """`sha256:<64 lower-case hex digits>`, checked once, when it is made."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Raises InvalidParameter unless text is a well-formed sha256 digest (the only algorithm Docker writes)."""
        algorithm, _, encoded = text.partition(":")
        if algorithm != "sha256" or len(encoded) != 64 or not _HEX.issuperset(encoded):
            raise InvalidParameter(f"invalid checksum digest format: {text!r}")
        return cls(text)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @classmethod
    def from_hex(cls, encoded: str) -> Digest:
        return cls.parse("sha256:" + encoded)

    @property
    def hex(self) -> str:
        return self[7:]

    @property
    def short(self) -> str:
        """The twelve digits that people see."""
        return self[7:19]


def plain(value: object) -> str:
    """For JSON encoders that know no subclasses of str (`enc_hook`). Raises NotImplementedError for anything else."""
    if isinstance(value, Digest):
        return str(value)
    raise NotImplementedError(type(value).__name__)
