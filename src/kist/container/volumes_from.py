"""`--volumes-from`: the mounts of other containers, taken over as they are."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kist.container import binds
from kist.container.index import Index
from kist.model.container import MountPoint
from kist.model.errors import InvalidParameter, NotFound

_NOT_HERE = binds.PROPAGATIONS | {"copy", "nocopy"}


def parse(text: str) -> tuple[str, bool]:
    """`CONTAINER[:MODE]` as the container and whether it may be written to. Raises InvalidParameter with Docker's
    texts.
    """
    if not text:
        raise InvalidParameter("volumes-from specification cannot be an empty string")
    name, _, mode = text.partition(":")
    words = mode.split(",") if mode else []
    if not binds.valid_mode(mode) or _NOT_HERE & set(words):
        raise InvalidParameter(f"invalid mode: {mode}")
    return name, "ro" not in words


def points(index: Index, asked: Sequence[str]) -> list[MountPoint]:
    """The mount points, each destination once: that of the container named last. Nothing is copied into them.

    Tmpfs of --tmpfs is no volume and stays with its container.
    """
    found: dict[str, MountPoint] = {}
    for text in asked:
        name, writable = parse(text)
        try:
            record = index.find(name).record
        except NotFound as error:  # to a client "not found" says that the image is missing
            raise InvalidParameter(error.message) from error
        for point in record.mounts:
            if point.type == "tmpfs" and point.destination in {
                binds.clean(target) for target in record.host_config.tmpfs or ()
            }:
                continue
            taken = msgspec.structs.replace(
                point, rw=point.rw and writable, mode="", copy_up=False, makes_source=point.type == "bind"
            )
            found.pop(point.destination, None)
            found[point.destination] = taken
    return list(found.values())
