"""`network connect` and `network disconnect`: of containers that run, at once, of others at their next start."""

from __future__ import annotations

import asyncio

import msgspec

from kist.container import joining
from kist.container.engine import Engine
from kist.container.launching import rewrite_resolv_conf
from kist.container.machine import Machine
from kist.container.threads import in_thread
from kist.container.validate import check_endpoint
from kist.model import endpoint_sysctls
from kist.model.config import EndpointSettings
from kist.model.container import ContainerRecord
from kist.model.errors import Forbidden, InvalidParameter, KistError
from kist.model.network import Endpoint, Network
from kist.network import plugging

_replace = msgspec.structs.replace
_NOT_HOST = "cannot connect container to host network - container must be created in host network mode"

_FROM_HOST = "container cannot be disconnected from host network or connected to host network"


class Connecting:
    """One change of a container's networks after the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._busy: dict[str, asyncio.Lock] = {}

    async def connect(self, container: str, network: str, settings: EndpointSettings) -> None:
        """Raises NotFound, Conflict, Forbidden, InvalidParameter with Docker's texts."""
        machine = self._engine.index.find(container)
        found = self._engine.networks.get(network)
        async with self._busy.setdefault(machine.id, asyncio.Lock()):
            self._check(machine, found, settings)
            if machine.state.alive:
                await self._plug(machine, found, settings)
                self._tell("connect", machine, found)
            elif found.name not in machine.record.networks:
                self._record(machine, found, settings)

    def _check(self, machine: Machine, network: Network, settings: EndpointSettings) -> None:
        record, mode = machine.record, machine.record.host_config.network_mode
        if record.removing:
            raise KistError(
                f"Container {machine.id} is marked for removal and cannot be connected or disconnected to the network"
            )
        if mode.startswith("container:") or (mode == "host" and network.driver != "host"):
            raise InvalidParameter(joining.SHARED)
        if network.driver == "host" and mode != "host":
            raise InvalidParameter(_NOT_HOST)
        if network.config_only:
            raise Forbidden(f"configuration network {network.name} cannot be connected to")
        if mode == "none" or network.name == "none":
            raise InvalidParameter(joining.ALONE)
        check_endpoint(network.name, settings, network)
        if any(endpoint.network_id == network.id for endpoint in record.endpoints):
            raise Forbidden(f"endpoint with name {record.name} already exists in network {network.name}")

    def _record(self, machine: Machine, network: Network, settings: EndpointSettings, **changes: object) -> None:
        asked = dict(machine.record.networks)
        if not asked and not machine.record.left_all:  # what it has by its mode alone is one of several now
            own = self._engine.networks.get(machine.record.host_config.network_mode)
            asked[own.name] = EndpointSettings(network_id=own.id)
        asked[network.name] = _replace(settings, network_id=network.id)
        record = _replace(machine.record, networks=asked, left_all=False)
        self._engine.index.save(machine, _replace(record, **changes) if changes else record)

    async def _plug(self, machine: Machine, network: Network, settings: EndpointSettings) -> None:
        engine, record = self._engine, machine.record
        name = joining.free_name(network, settings, record.endpoints)
        hairpin = bool(record.host_config.port_bindings or record.host_config.publish_all_ports)
        names = joining.names_of(record, network, settings)
        endpoint, link = engine.networks.attach(network, settings, name, names, hairpin=hairpin)
        before = record
        try:
            # recorded first: whatever happens now, the next kistd knows of it
            self._record(machine, network, settings, endpoints=(*record.endpoints, endpoint))
            pid, gateways = machine.state.pid, joining.gateways(machine.record)
            engine.networks.publish(machine.id, record.name, {}, [], joining.let_in(engine, record, [endpoint]))
            sysctls = endpoint_sysctls.parse(settings, name)
            await in_thread(lambda: plugging.plug(pid, link, gateways, sysctls))
        except (OSError, KistError) as error:
            engine.networks.detach(endpoint)
            kept = _replace(machine.record, endpoints=before.endpoints, networks=before.networks)
            engine.index.save(machine, _replace(kept, left_all=before.left_all))
            if isinstance(error, OSError):
                raise KistError(f"cannot connect container {record.name} to network {network.name}: {error}") from error
            raise
        engine.naming.add([endpoint])
        if endpoint.names and not engine.naming.serves(machine):
            engine.naming.ask(machine, fresh=True)
            rewrite_resolv_conf(engine, machine, before)
        await self._settle_ports(machine, before.endpoints)

    async def disconnect(self, container: str, network: str, *, force: bool) -> None:
        """Raises NotFound, KistError with Docker's texts."""
        machine = self._engine.index.find(container)
        found = self._engine.networks.get(network)
        async with self._busy.setdefault(machine.id, asyncio.Lock()):
            if machine.record.host_config.network_mode == "host":
                raise InvalidParameter(_FROM_HOST)
            if machine.state.alive:
                await self._unplug(machine, found)
                self._tell("disconnect", machine, found)
            else:
                self._forget(machine, found)

    def _forget(self, machine: Machine, network: Network) -> None:
        record = machine.record
        by_mode = not record.networks and not record.left_all
        own = by_mode and self._engine.networks.get(record.host_config.network_mode).name == network.name
        if network.name not in record.networks and not own:
            raise KistError(f"container {machine.id} is not connected to the network {network.name}")
        self._engine.index.save(machine, _without(record, network))

    async def _unplug(self, machine: Machine, network: Network) -> None:
        record = machine.record
        endpoint = next((one for one in record.endpoints if one.network_id == network.id), None)
        if endpoint is None:
            raise KistError(f"container {machine.id} is not connected to network {network.name}")
        host_name = endpoint.host_name
        try:
            await in_thread(lambda: plugging.unplug(host_name))
        except OSError as error:
            raise KistError(f"container {machine.id} failed to leave network {network.name}: {error}") from error
        left = tuple(one for one in record.endpoints if one is not endpoint)
        self._engine.index.save(machine, _replace(_without(machine.record, network), endpoints=left))
        self._engine.networks.detach(endpoint)
        self._engine.naming.remove([endpoint])
        gateways = joining.gateways(machine.record)
        pid = machine.state.pid
        try:
            await in_thread(lambda: plugging.lead_out(pid, gateways))
        except OSError as error:
            raise KistError(f"container {machine.id} has no way out any more: {error}") from error
        await self._settle_ports(machine, record.endpoints)

    async def _settle_ports(self, machine: Machine, before: tuple[Endpoint, ...]) -> None:
        """Published ports lead to the endpoint that is the way out now."""
        engine, record = self._engine, machine.record
        if joining.ways(record, record.endpoints) == joining.ways(record, before):
            return
        engine.networks.unpublish(machine.id)
        ports = joining.publish(engine, record, record.endpoints)
        engine.index.save(machine, _replace(machine.record, ports=ports))

    def _tell(self, action: str, machine: Machine, network: Network) -> None:
        attributes = {"container": machine.id, "name": network.name, "type": network.driver}
        self._engine.events.emit("network", action, network.id, attributes)


def _without(record: ContainerRecord, network: Network) -> ContainerRecord:
    """Its mode stays as it was asked for, as Docker leaves it."""
    asked = {name: settings for name, settings in record.networks.items() if name != network.name}
    return _replace(record, networks=asked, left_all=not asked)
