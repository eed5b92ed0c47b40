"""The commands of networks."""

from __future__ import annotations

import sys
from typing import Any

from kist.cli import tables
from kist.cli.containers import filters, inspect_each
from kist.cli.context import Context, confirm
from kist.cli.parse import Parsed
from kist.client.http import ApiError, Unreachable
from kist.model.errors import KistError

_LISTING = tables.Listing(
    "*network.networkContext",
    {"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6",
     "Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT"},
    "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n", "ID",
)  # fmt: skip
_INGRESS = (
    "Before removing the routing-mesh network, make sure all the nodes in your swarm run the same docker engine "
    "version. Otherwise, removal may not be effective and functionality of newly create ingress networks will be "
    "impaired."
)


def listing(context: Context, options: Parsed) -> int:
    found = context.client.call("GET", "/networks", {"filters": filters(options.filter)})
    rows = [
        {"ID": one["Id"] if options.no_trunc else one["Id"][:12], "Name": one["Name"], "Driver": one["Driver"],
         "Scope": one["Scope"], "IPv4": _word(one.get("EnableIPv4", True)), "IPv6": _word(one["EnableIPv6"]),
         "Internal": _word(one["Internal"]), "Labels": tables.labels(one["Labels"]),
         "CreatedAt": _go_time(one["Created"])}
        for one in found
    ]  # fmt: skip
    source = options.format or ("" if options.quiet else context.choice.format("networksFormat"))
    labels = [one["Labels"] or {} for one in found]
    shown = _LISTING._replace(raw="network_id: {{.ID}}") if options.quiet else _LISTING
    sys.stdout.write(tables.show(rows, source, shown, quiet=options.quiet, labels=labels))
    return 0


def _word(value: bool) -> str:
    return "true" if value else "false"


def _go_time(text: str) -> str:
    """`2026-01-02T03:04:05.678Z` as Go's time.Time prints itself."""
    if not text.endswith("Z"):
        return text
    return text.removesuffix("Z").replace("T", " ", 1) + " +0000 UTC"


def inspect(context: Context, options: Parsed) -> int:
    return inspect_each(context, options, lambda name: context.client.call("GET", _path(name)), "network")


def create(context: Context, options: Parsed) -> int:
    from kist.cli.subnets import pools

    body: dict[str, Any] = {
        "Name": options.arguments[0],
        "Driver": options.driver,
        "Scope": options.scope,
        "IPAM": {
            "Driver": options.ipam_driver,
            "Options": options.ipam_opt,
            "Config": pools(options.subnet, options.ip_range, options.gateway, options.aux_address),
        },
        "Internal": options.internal,
        "Attachable": options.attachable,
        "Ingress": options.ingress,
        "ConfigOnly": options.config_only,
        "ConfigFrom": {"Network": options.config_from} if options.config_from else None,
        "Options": options.opt,
        "Labels": dict(one.partition("=")[::2] for one in options.label),
    }
    for flag, field in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if flag in options.given:  # not said: the daemon's own default
            body[field] = getattr(options, flag)
    print(context.client.call("POST", "/networks/create", None, body)["Id"])
    return 0


def remove(context: Context, options: Parsed) -> int:
    """Each by itself; ends with the line that tells scripts of Docker's command that something failed."""
    status = 0
    for name in options.arguments:
        try:
            if _removed(context, name, options.force):
                print(name)
        except Unreachable:
            raise
        except KistError as error:
            prefix = "Error response from daemon: " if isinstance(error, ApiError) else ""
            print(f"{prefix}{error.message}", file=sys.stderr)
            status = 1
    if status:
        print(f"exit status {status}", file=sys.stderr)
    return status


def _removed(context: Context, name: str, force: bool) -> bool:
    """Asks before it removes a swarm's own network, which other daemons may have. Raises KistError."""
    path = _path(name)
    try:
        is_ingress = context.client.call("GET", path).get("Ingress")
    except ApiError:  # told when it is removed
        is_ingress = False
    if is_ingress and not confirm(False, _INGRESS):
        return False
    try:
        context.client.call("DELETE", path)
    except ApiError as error:
        if not force or error.status != 404:
            raise
        return False
    return True


def connect(context: Context, options: Parsed) -> int:
    network, container = options.arguments
    driver_options = dict(_driver_option(one) for one in options.driver_opt)
    settings = {
        "IPAMConfig": {
            key: value
            for key, value in (
                ("IPv4Address", options.ip), ("IPv6Address", options.ip6), ("LinkLocalIPs", options.link_local_ip),
            )
            if value
        },
        "Links": options.link or None,
        "Aliases": options.alias,
        "DriverOpts": driver_options,
        "GwPriority": options.gw_priority,
    }  # fmt: skip
    body = {"Container": _named("container", container), "EndpointConfig": settings}
    context.client.call("POST", f"{_path(network)}/connect", None, body)
    return 0


def _driver_option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise KistError("invalid key/value pair format in driver options")
    return key.strip(), value.strip()


def disconnect(context: Context, options: Parsed) -> int:
    network, container = options.arguments
    body = {"Container": _named("container", container), "Force": options.force}
    context.client.call("POST", f"{_path(network)}/disconnect", None, body)
    return 0


def _path(network: str) -> str:
    return f"/networks/{_named('network', network)}"


def _named(kind: str, name: str) -> str:
    """Raises KistError with the text of Docker's client."""
    if not name.strip():
        raise KistError(f"invalid {kind} name or ID: value is empty")
    return name.strip()
