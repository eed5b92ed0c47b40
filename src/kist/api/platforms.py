"""The `platform` parameter of image endpoints: an OCI platform as JSON, checked and held against an image."""

from __future__ import annotations

import msgspec

from kist.model.errors import InvalidParameter, NotFound
from kist.model.image import Image, ImageConfig


class Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: list[str] | None = msgspec.field(default=None, name="os.features")
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def parse_platform(text: str) -> Platform:
    """Raises InvalidParameter with Docker's texts."""
    try:
        found = msgspec.json.decode(text, type=Platform)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidParameter(f"failed to parse platform: {error}") from error
    optional = bool(found.variant or found.os_version or found.os_features)
    if not found.os and not found.architecture and optional:
        raise InvalidParameter("optional platform fields provided, but OS and Architecture are missing")
    if not found.os or not found.architecture:
        raise InvalidParameter("both OS and Architecture must be provided")
    return found


def one_platform(texts: list[str]) -> Platform | None:
    """Raises InvalidParameter for more than one."""
    if len(texts) > 1:
        raise InvalidParameter("multiple platform parameters not supported")
    return parse_platform(texts[0]) if texts else None


def matches(config: ImageConfig, platform: Platform) -> bool:
    variant = not platform.variant or not config.variant or platform.variant == config.variant
    return platform.os == config.os and platform.architecture == config.architecture and variant


def check_platform(image: Image, name: str, platform: Platform | None) -> None:
    """Raises NotFound with Docker's text when the image is one for other machines."""
    if platform is not None and not matches(image.config, platform):
        have = Platform(image.config.architecture, image.config.os, variant=image.config.variant)
        raise NotFound(
            f"image with reference {name} was found but its platform ({have}) does not match the specified platform "
            f"({platform})"
        )
