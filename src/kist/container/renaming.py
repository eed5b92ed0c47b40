"""`rename`, and the removal of a link, which is a name as well."""

from __future__ import annotations

import msgspec

from kist.container import joining
from kist.container.engine import Engine
from kist.container.launching import forget_link
from kist.container.machine import Machine
from kist.container.names import check_name
from kist.model.errors import Conflict, InvalidParameter, KistError, NotFound


def rename(engine: Engine, machine: Machine, name: str) -> None:
    bare, old = name.removeprefix("/"), machine.name
    if bare == old:
        raise InvalidParameter("Renaming a container with the same name as its current name")
    try:
        check_name(f"/{bare}")
        renamed = msgspec.structs.replace(machine.record, name=bare)
        engine.index.rename(machine, joining.with_names(engine, renamed))
        engine.naming.add(machine.record.endpoints)
    except (InvalidParameter, Conflict) as error:
        raise type(error)(f"Error when allocating new name: {error.message}") from error
    engine.emit(machine, "rename", oldName=f"/{old}")


def unlink(engine: Engine, name: str) -> None:
    """Removes the link `PARENT/ALIAS` to a container. Raises KistError, Conflict with Docker's texts."""
    parent, slash, alias = name.removeprefix("/").partition("/")
    if not slash:
        raise KistError("Conflict, cannot remove the default link name of the container")
    try:
        holder = engine.index.find(parent)
    except NotFound as error:
        raise KistError(f"Cannot get parent /{parent} for link name /{parent}/{alias}") from error
    engine.index.unlink(holder, alias)
    forget_link(engine, holder, alias)
