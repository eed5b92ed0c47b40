"""New limits for a group in which something runs already: the same control files as at a start, in an order that the
kernel takes from where it is.
"""

from __future__ import annotations

from kist.kernel import cgroup
from kist.kernel.cgroup import Layout
from kist.monitor.operations import WriteControl, WriteFirst
from kist.runtime import cgroups
from kist.runtime.oci import Resources

_LIMIT, _WITH_SWAP = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"


def apply(layout: Layout, name: str, resources: Resources) -> None:
    """Writes what the resources say; device rules are left as they are. Raises OSError that names file and value."""
    asked = cgroups.writes(layout, name, resources)
    for choice in asked:
        if isinstance(choice, WriteFirst):
            cgroup.write_first(choice.choices)
    writes = [one for one in asked if isinstance(one, WriteControl)]
    for one in in_order(writes, cgroup.read(f"{layout.path('memory', name)}/{_WITH_SWAP}")):
        cgroup.write(one.path, one.value)


def in_order(writes: list[WriteControl], with_swap: str) -> list[WriteControl]:
    """On v1 memory with swap may never be below memory: it goes first when it grows. `with_swap`: as it is now."""
    swap = next((one for one in writes if one.path.endswith(f"/{_WITH_SWAP}")), None)
    if swap is None or not with_swap.isdigit() or 0 <= int(swap.value) <= int(with_swap):
        return writes
    return [swap, *(one for one in writes if one is not swap)]
