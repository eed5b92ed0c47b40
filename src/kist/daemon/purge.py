"""Takes away what a stopped engine leaves in the kernel on purpose: its bridges, its table, its cgroups, its mounts.

For private and temporary instances; the engine of a machine keeps them for its next start.
"""

from __future__ import annotations

import shutil
import time

from kist.container.shipping import end_shipper
from kist.kernel import cgroup
from kist.kernel.nftables import Firewall
from kist.kernel.rtnetlink import RouteSocket
from kist.network import bridges
from kist.network import firewall as rules
from kist.store.instance import Instance
from kist.volume.directories import unmount_volumes


def purge(data_root: str, exec_root: str) -> None:
    """Raises KistError while the engine runs."""
    instance = Instance(data_root, exec_root)
    try:
        tag = f"kist {instance.id}"
        with RouteSocket() as route:
            bridges.remove_others(route, tag, ())
        with Firewall() as firewall:
            firewall.commit([*rules.closings(firewall.rules(), tag), *rules.delete(f"kist_{instance.id}")])
        end_shipper(exec_root)
        unmount_volumes(f"{data_root}/volumes")
        layout = cgroup.detect()
        for _ in range(50):
            if cgroup.remove(layout, f"kist/{instance.id}"):
                break
            time.sleep(0.02)
    finally:
        instance.close()
    shutil.rmtree(exec_root, ignore_errors=True)
