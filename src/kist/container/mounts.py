"""The mount points of a new container: collected from all that asks for them, each destination once, and resolved."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from kist.container import binds, sources
from kist.container.engine import Engine
from kist.model.config import ContainerConfig, HostConfig
from kist.model.container import MountPoint
from kist.model.errors import InvalidParameter
from kist.model.image import Image
from kist.model.mount import Mount
from kist.snapshot.copy import held
from kist.volume.filling import open_root


def collect(
    config: ContainerConfig, host: HostConfig, taken_over: list[MountPoint], data_root: str
) -> list[MountPoint]:
    """Binds, mounts, tmpfs and the image's volumes, each destination once. What is `taken_over` from other containers
    (--volumes-from) gives way to what is asked for, and comes before the image's. Raises InvalidParameter.
    """
    found: dict[str, MountPoint] = {}

    def add(point: MountPoint, asked: str) -> None:
        if point.destination in found:
            raise InvalidParameter(f"Duplicate mount point: {asked}")
        found[point.destination] = point

    for raw in host.binds or ():
        point = binds.parse_bind(raw, host.volume_driver)
        add(around_data_root(point, data_root, binds.propagation_of(point.mode)), point.destination)
    for request in host.mounts or ():
        propagation = request.bind_options.propagation if request.bind_options else ""
        add(around_data_root(binds.parse_mount(request), data_root, propagation), request.target)
    for target, words in (host.tmpfs or {}).items():
        binds.check_tmpfs_destination(target)
        options = tuple(word for word in words.split(",") if word)
        point = MountPoint(type="tmpfs", destination=binds.clean(target), options=options, mode=words)
        add(point, point.destination)
    found = {point.destination: point for point in taken_over} | found
    for target in config.volumes or {}:
        place = binds.clean(target)
        if place == "/":
            raise InvalidParameter("invalid volume specification: destination can't be '/'")
        if place not in found:
            found[place] = MountPoint(
                type="volume", destination=place, driver=host.volume_driver, anonymous=True, copy_up=True
            )
    return list(found.values())


def around_data_root(point: MountPoint, data_root: str, asked: str) -> MountPoint:
    """A bind of the data root, of something in it or of what it is in follows the host's mounts: what the engine
    unmounts must not live on in a container. `asked` is the propagation that was asked for. Raises InvalidParameter.
    """
    if point.type != "bind" or not (point.source.startswith(data_root) or data_root.startswith(point.source)):
        return point
    if not asked:
        return msgspec.structs.replace(point, propagation="rslave", follows_if_possible=True)
    if asked not in ("rslave", "rshared"):
        raise InvalidParameter(
            f'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is '
            f'within the daemon root, daemon root: "{data_root}", bind mount source: "{point.source}", '
            f'propagation: "{asked}"'
        )
    return point


async def resolve(engine: Engine, container_id: str, point: MountPoint, image: Image | None) -> MountPoint:
    """A volume's directory is its source, and a new one is filled from the image; of an image it is its directory.

    Raises KistError, NotFound.
    """
    if point.type == "image":
        mounted = engine.images.get(point.name)
        if not mounted.snapshot:
            raise InvalidParameter(f"image {point.name} has no layers: there is nothing to mount")
        return msgspec.structs.replace(point, image=mounted.id, source=engine.snapshotter.directory(mounted.snapshot))
    if point.type != "volume":
        return point
    volume = await engine.volumes.create(
        point.name, point.driver, point.driver_options, point.labels, taker=container_id
    )
    snapshot = image.snapshot if point.copy_up and image is not None else ""
    layers = engine.snapshotter.mounts(snapshot, read_only=True) if snapshot else ()
    await engine.volumes.fill(container_id, volume, layers, point)
    return msgspec.structs.replace(
        point, name=volume.name, driver=volume.driver, source=volume.mountpoint, driver_options=None, labels=None
    )


def check_images(engine: Engine, points: Sequence[MountPoint]) -> None:
    """The last thing before the container is recorded, from where on its images are in use: others may have removed
    them while volumes were filled. Raises NotFound.
    """
    for point in points:
        if point.image:
            engine.images.get(point.image)


def check_parts(engine: Engine, points: Sequence[MountPoint]) -> None:
    """That what is asked for of volumes and images is there. Raises NotFound, InvalidParameter."""
    layers = layers_of(engine, [point for point in points if point.subpath])
    for point in points:
        if not point.subpath:
            continue
        root = open_root((layers[point.destination],)) if point.image else sources.open_base(point.source)
        with held(root):
            os.close(sources.open_part(root, point.source, point.subpath))


def layers_of(engine: Engine, points: Sequence[MountPoint]) -> dict[str, Mount]:
    """By destination, how to mount the images that are mounted. Raises NotFound."""
    found = {}
    for point in points:
        if point.image:
            snapshot = engine.images.get(point.image).snapshot
            (found[point.destination],) = engine.snapshotter.mounts(snapshot, read_only=True)
    return found
