"""Takes away what a stopped engine leaves in the kernel on purpose: its bridge, its table, its cgroups.

For private and temporary instances; the engine of a machine keeps them for its next start.
"""

from __future__ import annotations

import shutil
import time

from kist.container.shipping import end_shipper
from kist.kernel import cgroup
from kist.kernel.nftables import Firewall, delete_table, new_table
from kist.kernel.rtnetlink import RouteSocket
from kist.model.network import Network
from kist.network import firewall as rules
from kist.store.database import Database, Records
from kist.store.instance import Instance


def purge(data_root: str, exec_root: str) -> None:
    """Raises KistError while the engine runs."""
    instance = Instance(data_root, exec_root)
    try:
        database = Database(f"{data_root}/kist.db")
        network = Records(database, "network", Network).get("bridge")
        database.close()
        if network is not None and network.bridge:
            with RouteSocket() as route:
                index = route.links().get(network.bridge)
                if index is not None:
                    route.delete_link(index)
        table = f"kist_{instance.id}"
        with Firewall() as firewall:
            closings = rules.closings(firewall.rules(), f"kist {instance.id}")
            firewall.commit([*closings, new_table(table), delete_table(table)])
        end_shipper(exec_root)
        layout = cgroup.detect()
        for _ in range(50):
            if cgroup.remove(layout, f"kist/{instance.id}"):
                break
            time.sleep(0.02)
    finally:
        instance.close()
    shutil.rmtree(exec_root, ignore_errors=True)
