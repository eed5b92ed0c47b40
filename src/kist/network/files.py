"""What a container reads to find names: resolv.conf(5), hosts(5), hostname(5). Pure texts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

_DEFAULT_SERVERS = ("8.8.8.8", "8.8.4.4")


def resolv_conf(
    host: str, servers: Sequence[str], search: Sequence[str], options: Sequence[str], keep_local: bool
) -> str:
    """The host's file with the user's servers, domains and options in its place where given.

    Name servers on the host's loopback cannot be reached from another network namespace and are left out, unless the
    container shares the host's (`keep_local`).
    """
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in host.splitlines():
        key, *words = line.split()[:1] + line.split()[1:] if line.split() else [""]
        if key == "nameserver" and words:
            found["nameserver"].append(words[0])
        elif key in ("search", "domain") and words:
            found["search"] = words
        elif key == "options":
            found["options"] += words
    local = [] if keep_local else [one for one in found["nameserver"] if _is_loopback(one)]
    nameservers = list(servers) or [one for one in found["nameserver"] if one not in local] or list(_DEFAULT_SERVERS)
    domains = list(search) or found["search"]
    words = list(options) or found["options"]
    lines = [f"nameserver {one}" for one in nameservers]
    if domains and domains != ["."]:
        lines.append(f"search {' '.join(domains)}")
    if words:
        lines.append(f"options {' '.join(words)}")
    return "\n".join(lines) + "\n"


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return True


def hosts(
    hostname: str,
    domainname: str,
    addresses: Sequence[str],
    extra: Sequence[str],
    gateway: str,
    linked: Sequence[tuple[str, str]] = (),
) -> str:
    """`extra` are `name:address` as --add-host has them; `host-gateway` is the bridge's address. `linked` are the
    addresses and names of --link.

    A name with dots, in one piece or with a domain, is there in full and by its first part.
    """
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "ff00::0\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
    ]
    for entry in extra:
        name, _, where = entry.partition(":")
        lines.append(f"{gateway if where == 'host-gateway' else where}\t{name}")
    lines += [f"{where}\t{names}" for where, names in linked]
    for address in addresses:
        full = f"{hostname}.{domainname}" if domainname else hostname
        bare, dot, _ = full.partition(".")
        lines.append(f"{address}\t{full} {bare}" if dot else f"{address}\t{full}")
    return "\n".join(lines) + "\n"


def with_address(text: str, name: str, address: str) -> str:
    """A hosts file in which a line that begins with `name` has another address; the rest stays as it is."""
    return re.sub(rf"^[^#\s]\S*(\t{re.escape(name)}(?=\s))", rf"{address}\1", text, flags=re.MULTILINE)


def without_name(text: str, name: str) -> str:
    """A hosts file without the lines that begin with `name`."""
    return re.sub(rf"^[^#\s]\S*\t{re.escape(name)}(?=\s).*\n", "", text, flags=re.MULTILINE)
