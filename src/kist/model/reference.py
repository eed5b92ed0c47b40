"""Image references as people write them (distribution's reference grammar, Docker's short forms)."""

from __future__ import annotations

import re

import msgspec

from kist.model.digest import Digest
from kist.model.errors import InvalidParameter

DEFAULT_DOMAIN = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"^(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?$")
_PATH = re.compile(rf"^{_COMPONENT}(?:/{_COMPONENT})*$")
_TAG = re.compile(r"^\w[\w.-]{0,127}$", re.ASCII)
_HEX = frozenset("0123456789abcdef")


class Reference(msgspec.Struct, frozen=True):
    """`domain/path[:tag][@digest]`. `familiar` is the short form that Docker prints: `busybox:latest`."""

    domain: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises InvalidParameter with Docker's text. No tag is added; see `tagged`."""
        if len(text) == 64 and _HEX.issuperset(text):
            raise InvalidParameter(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
        rest, _, digest = text.partition("@")
        name, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            name, tag = rest, ""
        elif not _TAG.match(tag):
            raise InvalidParameter(f"invalid reference format: {text!r}" if not name else "invalid reference format")
        if "@" in text and not digest:
            raise InvalidParameter("invalid reference format")
        domain, path = _split_domain(name)
        if path != path.lower() and _PATH.match(path.lower()):
            raise InvalidParameter(f"invalid reference format: repository name ({path}) must be lowercase")
        if not _PATH.match(path) or not _DOMAIN.match(domain):
            raise InvalidParameter("invalid reference format")
        if len(domain) + 1 + len(path) > 255:
            raise InvalidParameter("repository name must not be more than 255 characters")
        try:
            parsed = Digest.parse(digest) if digest else None
        except InvalidParameter as error:
            raise InvalidParameter("invalid reference format") from error
        return cls(domain, path, tag, parsed)

    @property
    def name(self) -> str:
        """`docker.io/library/busybox`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        return _familiar_name(self.domain, self.path)

    @property
    def familiar(self) -> str:
        text = self.familiar_name
        if self.tag:
            text += f":{self.tag}"
        return f"{text}@{self.digest}" if self.digest else text

    def with_tag(self, tag: str) -> Reference:
        """Raises InvalidParameter with Docker's text."""
        if not _TAG.match(tag):
            raise InvalidParameter("invalid tag format")
        return msgspec.structs.replace(self, tag=tag)

    def tagged(self) -> Reference:
        """With `latest` where neither tag nor digest was said."""
        return self if self.tag or self.digest else msgspec.structs.replace(self, tag="latest")


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or (not set(".:") & set(first) and first != "localhost" and first == first.lower()):
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = first, rest
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return domain, path


def _familiar_name(domain: str, path: str) -> str:
    if domain != DEFAULT_DOMAIN:
        return f"{domain}/{path}"
    return path.removeprefix("library/") if path.count("/") == 1 else path
