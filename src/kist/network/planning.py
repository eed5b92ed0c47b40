"""From what is asked of a new network to its record: every check, and the choice of subnets and gateways. Pure.

Checks come in Docker's order, with its texts and kinds of error.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from kist.model.errors import Conflict, Forbidden, InvalidParameter, KistError, NotFound, NotSupported
from kist.model.network import Network, Pool
from kist.model.request import NetworkRequest, PoolRequest
from kist.network import options as driver_options
from kist.network.ipam import DEFAULT_POOLS, OVERLAP, Allocator, Subnet, free_subnet, local_pool, overlaps

PREDEFINED = frozenset({"bridge", "host", "none", "default"})
DRIVERS = frozenset({"bridge", "host", "null"})
_KNOWN_ELSEWHERE = frozenset({"ipvlan", "macvlan", "overlay"})
_replace = msgspec.structs.replace


class Surroundings(msgspec.Struct, frozen=True):
    """What a new network has to fit in. `routes`: subnets that the host reaches directly, and its name servers."""

    networks: tuple[Network, ...]
    routes: tuple[Subnet, ...] = ()
    pools: tuple[tuple[str, int], ...] = DEFAULT_POOLS
    host_seed: str = ""  # the same for a host at all times: its IPv6 pool comes from that
    mtu: int = 1500


def plan(request: NetworkRequest, around: Surroundings, network_id: str, created: str) -> Network:
    """The record of a new network. Raises KistError of the kind that Docker's status tells."""
    if request.name in PREDEFINED:
        raise Forbidden(f"operation is not permitted on predefined {request.name} network ")
    if request.driver == "overlay":
        raise NotSupported("networks of driver overlay come with services, which this engine does not have yet")
    ipv4 = driver_options.enabled(request.options, driver_options.IPV4, request.ipv4, True)
    ipv6 = driver_options.enabled(request.options, driver_options.IPV6, request.ipv6, False)
    check_pools(request.pools, ipv6=ipv6)
    _check_name(request.name, around.networks)
    _check_configuration(request, ipv4, ipv6)
    network = Network(
        id=network_id,
        name=request.name,
        driver=request.driver,
        created=created,
        internal=request.internal,
        attachable=request.attachable,
        ipv4=ipv4,
        ipv6=ipv6,
        options=request.options,
        labels=request.labels,
        ipam_driver=request.ipam_driver,
        ipam_options=request.ipam_options,
        config_only=request.config_only,
        config_from=request.config_from,
        pools=tuple(_asked(pool) for pool in request.pools if ipv6 or ":" not in pool.subnet),
    )
    if request.config_only:
        return _replace(network, driver="null")
    _check_driver(request.driver)
    if request.config_from:
        network = _configured(network, around.networks)
    if request.scope == "swarm":
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    return _bridge(network, around)


def _check_name(name: str, networks: Iterable[Network]) -> None:
    if not name.strip():
        raise InvalidParameter("invalid name: name is empty")
    if any(one.name == name for one in networks):
        raise Conflict(f"network with name {name} already exists")


def _check_configuration(request: NetworkRequest, ipv4: bool, ipv6: bool) -> None:
    if request.ingress:
        raise Forbidden("Ingress network can only be global scope network")
    if request.config_only:
        if request.internal or request.attachable or request.scope:
            raise Forbidden(
                "configuration network can only contain network specific fields. Network operator fields like "
                "[ ingress | internal | attachable | scope ] are not supported."
            )
        if request.config_from:
            raise Forbidden("a configuration network cannot depend on another configuration network")
    if not request.config_from:
        return
    own = request.pools or request.labels or request.ipam_options or request.ipam_driver != "default"
    if own or ipv6 or not ipv4:
        raise Forbidden(
            "user specified configurations are not supported if the network depends on a configuration network"
        )
    if request.options:
        raise Forbidden("network driver options are not supported if the network depends on a configuration network")


def _check_driver(name: str) -> None:
    if name in _KNOWN_ELSEWHERE:
        raise NotSupported(f"networks of driver {name} are not supported by this engine yet")
    if name not in DRIVERS:
        raise NotFound(f'could not find plugin {name} in v1 plugin registry: plugin "{name}" not found')
    if name in ("host", "null"):
        raise Forbidden(f'only one instance of "{name}" network is allowed')


def _configured(network: Network, networks: Iterable[Network]) -> Network:
    found = next((one for one in networks if one.name == network.config_from and one.config_only), None)
    if found is None:
        raise NotFound(f'configuration network "{network.config_from}" does not exist')
    return _replace(
        network,
        ipv4=found.ipv4,
        ipv6=found.ipv6,
        labels=found.labels,
        options=found.options,
        ipam_driver=found.ipam_driver,
        ipam_options=found.ipam_options,
        pools=found.pools,
    )


# --- pools as they are asked for ---


def check_pools(pools: Iterable[PoolRequest], *, ipv6: bool) -> None:
    """Raises InvalidParameter that names everything that is wrong."""
    problems = [problem for pool in pools for problem in _pool_problems(pool, ipv6)]
    if problems:
        told = problems[0] if len(problems) == 1 else "\n".join(f"* {one}" for one in problems)
        raise InvalidParameter(f"invalid network config:\n{told}")


def _pool_problems(pool: PoolRequest, ipv6: bool) -> list[str]:
    subnet = _prefix(pool.subnet)
    if subnet is None:
        return [f"invalid subnet {pool.subnet}: invalid CIDR block notation"]
    if subnet.version == 6 and not ipv6:
        return []
    found = []
    if _written(pool.subnet) != str(subnet):
        found.append(f"invalid subnet {_written(pool.subnet)}: it should be {subnet}")
    found += _range_problems(pool.range, subnet, _written(pool.subnet))
    for address, called in (
        (pool.gateway, f"gateway {pool.gateway}"),
        *((address, f"auxiliary address {name}") for name, address in (pool.auxiliary or {}).items()),
    ):
        problem = _address_problem(address, subnet, _written(pool.subnet))
        if problem:
            found.append(f"invalid {called}: {problem}")
    return found


def _prefix(text: str) -> Subnet | None:
    """As netip.ParsePrefix of Go reads it: an address, a slash, and a number without a leading zero."""
    address, slash, length = text.partition("/")
    if not slash or not length.isascii() or not length.isdecimal() or (length[0] == "0" and length != "0"):
        return None
    try:
        if "%" in address:
            return None
        return ipaddress.ip_network((ipaddress.ip_address(address), int(length)), strict=False)
    except ValueError:
        return None


def _written(text: str) -> str:
    address, _, length = text.partition("/")
    return f"{ipaddress.ip_address(address)}/{length}"


def _family(subnet: Subnet) -> str:
    return f"IPv{subnet.version}"


def _range_problems(text: str, subnet: Subnet, shown: str) -> list[str]:
    if not text:
        return []
    part = _prefix(text)
    if part is None:
        return [f"invalid ip-range {text}: invalid CIDR block notation"]
    if part.version != subnet.version:
        return [f"invalid ip-range {text}: parent subnet is an {_family(subnet)} block"]
    found = []
    if part.prefixlen < subnet.prefixlen:
        found.append(f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {shown}")
    if _written(text) != str(part):
        found.append(f"invalid ip-range {_written(text)}: it should be {part}")
    if not overlaps(str(part), [subnet]):
        found.append(f"invalid ip-range {text}: parent subnet {shown} doesn't contain ip-range")
    return found


def _address_problem(text: str, subnet: Subnet, shown: str) -> str:
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "invalid address"
    if address.version != subnet.version:
        return f"parent subnet is an {_family(subnet)} block"
    return "" if address in subnet else f"parent subnet {shown} doesn't contain this address"


def _asked(pool: PoolRequest) -> Pool:
    return Pool(
        subnet=str(ipaddress.ip_network(pool.subnet)),
        gateway=pool.gateway and str(ipaddress.ip_address(pool.gateway)),
        range=pool.range,
        auxiliary={name: str(ipaddress.ip_address(address)) for name, address in (pool.auxiliary or {}).items()},
    )


# --- what the network gets ---


def _bridge(network: Network, around: Surroundings) -> Network:
    """With its subnets, gateways and the name of its interface."""
    options = driver_options.parse(network.options)
    driver_options.check(options, internal=network.internal)
    if network.ipam_driver != "default":
        raise NotFound(f'could not find plugin {network.ipam_driver} in v1 plugin registry: plugin "'
                       f'{network.ipam_driver}" not found')  # fmt: skip
    if not network.ipv4 and not network.ipv6:
        raise InvalidParameter("IPv4 or IPv6 must be enabled")
    pools: list[Pool] = []
    for version, wanted, mode in ((4, network.ipv4, options.mode4), (6, network.ipv6, options.mode6)):
        asked = [pool for pool in network.pools if pool.is_ipv6 == (version == 6)]
        if not wanted:
            continue
        if len(asked) > 1:
            raise Forbidden("bridge driver doesn't support multiple subnets")
        pool = _chosen(asked[0] if asked else None, version, around)
        without = mode == "isolated" or (version == 4 and options.inhibit_ipv4 and network.internal)
        pools.append(pool if without and not pool.gateway else _with_gateway(pool))
    name = options.name or f"br-{network.id[:12]}"
    rival = next((one for one in around.networks if one.bridge == name), None)
    if rival is not None:
        raise Forbidden(
            f"cannot create network {network.id} ({name}): conflicts with network {rival.id} ({rival.bridge}): "
            f"networks have same bridge name"
        )
    return _replace(network, pools=tuple(pools), bridge=name, mtu=options.mtu or around.mtu)


def _chosen(asked: Pool | None, version: int, around: Surroundings) -> Pool:
    others = [ipaddress.ip_network(pool.subnet) for network in around.networks for pool in network.pools
              if not network.config_only]  # fmt: skip
    if asked is not None:
        whole = ipaddress.ip_network(asked.subnet)
        if whole.prefixlen == 0:
            raise InvalidParameter(f"ipv{version} pool is empty")
        if version == 6:
            _check_ipv6(whole)
        if overlaps(asked.subnet, others):
            raise Forbidden(OVERLAP)
        return asked
    pools = [*around.pools, *([local_pool(around.host_seed)] if version == 6 else [])]
    try:
        return Pool(free_subnet([*others, *around.routes], pools, version), asked=False)
    except LookupError as error:
        raise InvalidParameter(str(error)) from error


def _check_ipv6(subnet: Subnet) -> None:
    local = ipaddress.ip_network("fe80::/64")
    if subnet.is_multicast:
        raise InvalidParameter(f"multicast subnet '{subnet}' is not allowed")
    if subnet != local and overlaps(str(subnet), [local]):
        raise InvalidParameter(f"'{subnet}' clashes with the Link-Local prefix 'fe80::/64'")


def _with_gateway(pool: Pool) -> Pool:
    """The gateway is an address of the pool like others: the lowest of its range where none is named."""
    if pool.gateway:
        allocator = Allocator(_replace(pool, gateway="", auxiliary={}))
        if not allocator.is_free(pool.gateway):
            raise KistError(f"failed to allocate gateway ({pool.gateway}): Address already in use")
        return pool
    try:
        return _replace(pool, gateway=Allocator(pool).first_free())
    except LookupError:
        raise KistError("failed to allocate gateway (): no available addresses on this pool") from None
