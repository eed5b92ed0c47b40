"""Kernel settings of one interface, given as an option of its endpoint: `net.ipv4.conf.IFNAME.log_martians=1,…`.

The interface's name cannot be known when a container is created: IFNAME stands for it.
"""

from __future__ import annotations

from kist.model.config import EndpointSettings
from kist.model.errors import InvalidParameter

OPTION = "com.docker.network.endpoint.sysctls"


def parse(settings: EndpointSettings, interface: str) -> dict[str, str]:
    """The settings for an interface of this name. Raises InvalidParameter with Docker's text."""
    text = (settings.driver_opts or {}).get(OPTION)
    found: dict[str, str] = {}
    for one in [] if text is None else text.split(","):
        name, _, value = one.partition("=")
        parts = name.split(".", 4)
        if len(parts) != 5 or parts[1] not in ("ipv4", "ipv6", "mpls") or parts[3] not in ("IFNAME", "ifname"):
            raise InvalidParameter(
                f"invalid endpoint settings:\nunrecognised network interface sysctl '{one}'; represent "
                f"'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            )
        parts[3] = interface
        found[("/" if "." in interface else ".").join(parts)] = value  # a dot of the name separates nothing
    return found
