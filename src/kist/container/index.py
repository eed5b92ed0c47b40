"""All containers, found by name, id or prefix; names are reserved before anything else is made."""

from __future__ import annotations

import logging

import msgspec

from kist.container.machine import Machine
from kist.container.names import random_name
from kist.model.container import ContainerRecord
from kist.model.errors import Conflict, InvalidParameter, KistError, NotFound
from kist.store.database import Database, Records

log = logging.getLogger(__name__)


class Index:
    def __init__(self, database: Database) -> None:
        self._records = Records(database, "container", ContainerRecord)
        # A removal that was cut off is not under way any more: it can be asked for again.
        records = [msgspec.structs.replace(record, removing=False) for record in self._records.values()]
        self._machines = {record.id: Machine(record) for record in records}
        self._names = {record.name: record.id for record in records}
        self._linked: set[str] = set()  # ids that some container is, or was, linked to
        for record in records:
            self._register_links(record)
        self._unsaved: set[str] = set()  # ids whose record in memory is newer than the disk's

    def all(self) -> list[Machine]:
        """The newest first, as `ps` shows them."""
        return sorted(self._machines.values(), key=lambda machine: machine.record.created, reverse=True)

    def find(self, name: str) -> Machine:
        """By full id, name, or unambiguous prefix of an id. Raises NotFound, InvalidParameter with Docker's texts."""
        bare = name.removeprefix("/")
        if not name:
            raise InvalidParameter('invalid name or ID supplied: ""')
        found = self._machines.get(bare)
        if found is None and bare in self._names:
            found = self._machines.get(self._names[bare])
        if found is None and bare:
            matches = [machine for key, machine in self._machines.items() if key.startswith(bare)]
            if len(matches) > 1:
                raise InvalidParameter(f"multiple IDs found with provided prefix: {bare}")
            found = matches[0] if matches else None
        if found is None:
            raise NotFound(f"No such container: {name}")
        return found

    def link_names(self) -> dict[str, list[str]]:
        """By id every name of a container that others are linked to: its own, and each `PARENT/ALIAS`. In order."""
        found: dict[str, list[str]] = {}
        for name in sorted(self._names) if self._linked else ():
            if self._names[name] in self._linked:
                found.setdefault(self._names[name], []).append(name)
        return found

    def parents(self, container_id: str) -> list[tuple[Machine, str]]:
        """Who is linked to a container, and by which alias."""
        if container_id not in self._linked:
            return []
        return [
            (machine, link.alias)
            for machine in self._machines.values()
            for link in machine.record.links
            if link.id == container_id
        ]

    def _register_links(self, record: ContainerRecord) -> None:
        """The names `PARENT/ALIAS`; one that is taken stays whose it is."""
        for link in record.links:
            if link.id in self._machines:
                self._names.setdefault(f"{record.name}/{link.alias}", link.id)
                self._linked.add(link.id)

    def _release_links(self, record: ContainerRecord) -> None:
        for link in record.links:
            self.release(f"{record.name}/{link.alias}", link.id)

    def unlink(self, machine: Machine, alias: str) -> None:
        """Takes a link away from the container that has it."""
        old = machine.record
        kept = tuple(link for link in old.links if link.alias != alias)
        self.save(machine, msgspec.structs.replace(old, links=kept))
        self._release_links(old)
        self._register_links(machine.record)

    def reserve(self, name: str, container_id: str) -> str:
        """Takes a name, a random one when it is empty. Raises Conflict with Docker's text."""
        if name:
            self._claim(name, container_id)
            return name
        for attempt in range(64):
            candidate = random_name(attempt)
            if candidate not in self._names:
                self._names[candidate] = container_id
                return candidate
        self._names[container_id[:12]] = container_id
        return container_id[:12]

    def _claim(self, name: str, container_id: str) -> None:
        holder = self._names.get(name)
        if holder is not None and holder != container_id:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
                f"You have to remove (or rename) that container to be able to reuse that name."
            )
        self._names[name] = container_id

    def release(self, name: str, container_id: str) -> None:
        if self._names.get(name) == container_id:
            del self._names[name]

    def add(self, record: ContainerRecord) -> Machine:
        self._records.put(record.id, record)
        machine = self._machines[record.id] = Machine(record)
        self._register_links(record)
        return machine

    def save(self, machine: Machine, record: ContainerRecord) -> None:
        """Records a change: on the disk first, then in memory."""
        self._records.put(record.id, record)
        machine.record = record
        self._unsaved.discard(record.id)
        self.flush()

    def observe(self, machine: Machine, record: ContainerRecord) -> None:
        """Records what has happened and no full disk can undo: in memory at least, on the disk when it can be."""
        machine.record = record
        if self._machines.get(record.id) is not machine:
            return  # removed meanwhile: what its monitor tells late must not bring the row back
        try:
            self._records.put(record.id, record, happened=True)
        except KistError as error:
            if record.id not in self._unsaved:
                log.error("the state of container %s is not saved yet: %s", record.id, error.message)
            self._unsaved.add(record.id)
            return
        self._unsaved.discard(record.id)
        self.flush()

    def is_saved(self, machine: Machine) -> bool:
        return machine.id not in self._unsaved

    def flush(self) -> None:
        """Saves what the disk did not take before."""
        for container_id in list(self._unsaved):
            machine = self._machines.get(container_id)
            if machine is not None:
                try:
                    self._records.put(container_id, machine.record, happened=True)
                except KistError:
                    return
            self._unsaved.discard(container_id)

    def rename(self, machine: Machine, record: ContainerRecord) -> None:
        old = machine.record
        self._claim(record.name, record.id)
        try:
            self.save(machine, record)
        except BaseException:
            self.release(record.name, record.id)
            raise
        self.release(old.name, record.id)
        self._release_links(old)
        self._register_links(record)

    def forget(self, machine: Machine) -> None:
        """The container is gone: its name is free from here on."""
        self._records.delete(machine.id)
        self._machines.pop(machine.id, None)
        self._unsaved.discard(machine.id)
        self.release(machine.name, machine.id)
        self._release_links(machine.record)
        for name in self.link_names().get(machine.id, ()):  # those that links to it gave it
            self.release(name, machine.id)
        self._linked.discard(machine.id)
