"""`commit`: an image from what a container changed."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from kist.container import pausing
from kist.container.engine import Engine
from kist.container.machine import Machine
from kist.container.merge import fill
from kist.container.signals import check_signal
from kist.container.threads import in_thread
from kist.image.archive import encode_config
from kist.model import instructions
from kist.model.config import ContainerConfig
from kist.model.errors import Conflict, KistError, NotFound
from kist.model.image import HistoryEntry, Image, ImageConfig, RootFS
from kist.model.request import CommitRequest
from kist.model.timestamp import rfc3339

# The tar of no files at all: a container that changed nothing gets no layer.
EMPTY_LAYER = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


async def commit(engine: Engine, machine: Machine, request: CommitRequest) -> str:
    """The id of the new image. Raises Conflict, InvalidParameter for a change that cannot be, NotFound
    when it is removed meanwhile.
    """
    if machine.state.status == "dead":
        raise Conflict(f"You cannot commit container {machine.id} which is Dead")
    if machine.record.removing:
        raise Conflict(f"You cannot commit container {machine.id} which is being removed")
    own = machine.record.config
    config = fill(instructions.apply(own if request.config is None else request.config, request.changes), own)
    if config.stop_signal and config.stop_signal != own.stop_signal:
        check_signal(config.stop_signal)
    paused = request.pause and machine.state.alive and not machine.state.paused and await _pause(engine, machine)
    try:
        image = await _store(engine, machine, config, request)
        name = request.name.tagged() if request.name is not None else None
        if name is not None:
            engine.images.tag(image.id, name)
        told = {"comment": request.comment, "imageID": str(image.id), "imageRef": name.familiar if name else ""}
        engine.emit(machine, "commit", **told)
        return str(image.id)
    finally:
        if paused and machine.state.paused_briefly:  # nobody else took the pause over
            with suppress(KistError):  # it ended meanwhile, or somebody else let it go on
                await pausing.unpause(engine, machine)


async def _pause(engine: Engine, machine: Machine) -> bool:
    """False when it has just ended: then nothing changes its files either."""
    try:
        await pausing.pause(engine, machine, briefly=True)
    except Conflict:
        if machine.state.alive:
            raise
        return False
    return machine.state.paused


async def _store(engine: Engine, machine: Machine, config: ContainerConfig, request: CommitRequest) -> Image:
    """Layer, configuration and record, as one change of the images."""
    images = engine.images
    parent = images.get(machine.record.image_id)
    write = engine.snapshotter.diff(machine.record.snapshot)
    names = [request.name] if request.name is not None else []

    def store_layer() -> str:
        with images.content.ingest() as ingest:
            write(ingest.write)
            return str(ingest.commit())

    async with images.changing():
        try:
            layer = await in_thread(store_layer)
        except OSError as error:
            raise KistError(f"cannot store the layer: {error.strerror or error}") from error
        if machine.removed.is_set():  # its files went while they were read: the layer may be half of them
            images.discard(layer)
            raise NotFound(f"No such container: {machine.id}")
        layers = [] if layer == EMPTY_LAYER else [layer]
        if not layers:
            images.discard(layer)
        blob = encode_config(_child(parent, machine, config, layers, request))
        return await images.add(blob, [*images.blobs(parent), *layers], names=names)


def _child(
    parent: Image, machine: Machine, config: ContainerConfig, layers: list[str], request: CommitRequest
) -> ImageConfig:
    now = rfc3339()
    entry = HistoryEntry(
        created=now,
        created_by=" ".join(machine.record.config.cmd or ()),
        author=request.author,
        comment=request.comment,
        empty_layer=not layers,
    )
    return msgspec.structs.replace(
        parent.config,
        created=now,
        author=request.author,
        config=config,
        rootfs=RootFS(diff_ids=[*parent.config.rootfs.diff_ids, *layers]),
        history=[*(parent.config.history or ()), entry],
        comment=request.comment,
        container=machine.id,
        parent=str(parent.id),
    )
