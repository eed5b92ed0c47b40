"""The plan: what is done in which order, and the configuration behind it, without a kernel."""

from __future__ import annotations

import json

import jsonschema
import msgspec
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4
from tests.conftest import SHARED

from kist.kernel.cgroup import Layout, detect
from kist.model.config import ContainerConfig, HostConfig, Ulimit
from kist.model.container import ContainerRecord, MountPoint
from kist.model.errors import InvalidParameter
from kist.model.mount import Mount
from kist.monitor import operations as do
from kist.runtime import oci, plan
from kist.runtime.launch import LaunchRequest, LogSetup
from kist.runtime.security import DEFAULT_CAPABILITIES
from kist.runtime.spec import Host, Joined, build_spec

HYBRID = Layout({"memory": "/c/memory", "cpu": "/c/cpu,cpuacct", "cpuacct": "/c/cpu,cpuacct", "pids": "/c/pids",
                 "devices": "/c/devices"}, "/c/unified")  # fmt: skip
V2 = Layout({}, "/sys/fs/cgroup")
HOST = Host(capabilities=frozenset(DEFAULT_CAPABILITIES) | {"CAP_SYS_ADMIN"})


def record(
    host: HostConfig | None = None, config: ContainerConfig | None = None, *mounts: MountPoint
) -> ContainerRecord:
    return ContainerRecord(
        id="a" * 64,
        name="x",
        created="2026-01-01T00:00:00Z",
        image="i",
        image_id="sha256:1",
        config=config or ContainerConfig(hostname="h", cmd=["true"]),
        host_config=host or HostConfig(network_mode="bridge"),
        networks={},
        path="true",
        args=(),
        mounts=mounts,
        driver="overlay",
        snapshot="s",
    )


def spec_of(host: HostConfig | None = None, config: ContainerConfig | None = None, *mounts: MountPoint) -> oci.Spec:
    return build_spec(record(host, config, *mounts), HOST, Joined(), {"/etc/hosts": "/h"}, "/root")


def request(spec: oci.Spec) -> LaunchRequest:
    return LaunchRequest("a" * 64, spec, "", (), (Mount("overlay", "overlay", ("lowerdir=/l",)),), (), LogSetup("/log"),
                         "/run", "/root", "kist/x", seccomp_program=b"12345678")  # fmt: skip


def names(spec: oci.Spec, layout: Layout = HYBRID) -> list[str]:
    return [type(one).__name__ for one in plan.init_operations(request(spec), layout)]


def test_the_order_of_a_start() -> None:
    found = names(spec_of())
    order = ["MakeCgroup", "WriteControls", "JoinCgroup",
             "Unshare", "IsolateMounts", "MountRoot", "MountInside", "MakeDevice", "PivotRoot",
             "SetHostname", "RaiseLoopback", "SetSysctl", "ReadonlyPath", "MaskPath", "ResolveUser",
             "ChangeDirectory", "DropBounding", "BecomeUser", "SetCapabilities", "FindExecutable",
             "ParentDeathSignal", "Execute"]  # fmt: skip
    positions = [found.index(name) for name in order]
    assert positions == sorted(positions)
    assert found[-1] == "Execute"
    assert max(index for index, name in enumerate(found) if name in ("MountInside", "BindInside")) < found.index(
        "PivotRoot"
    )


def test_a_name_server_is_opened_when_the_network_is_there_and_only_when_it_is_asked_for() -> None:
    asked = msgspec.structs.replace(request(spec_of()), dns=True)
    found = [type(one).__name__ for one in plan.init_operations(asked, HYBRID)]
    assert found.index("OpenNameserver") == found.index("RaiseLoopback") + 1
    assert found.index("OpenNameserver") < found.index("SetCapabilities")
    assert "OpenNameserver" not in names(spec_of())


def test_a_plan_survives_its_journey() -> None:
    operations = plan.init_operations(request(spec_of()), HYBRID)
    assert [one.describe() for one in do.decode(json.loads(json.dumps(do.encode(list(operations)))))] == [
        one.describe() for one in operations
    ]


def test_the_default_device_rules_refuse_everything_first() -> None:
    writes = [one for one in plan.init_operations(request(spec_of()), HYBRID) if isinstance(one, do.WriteControls)]
    devices = [(one.path.rsplit("/", 1)[1], line) for one in writes for line in one.lines]
    assert devices[0] == ("devices.deny", "a")
    assert ("devices.allow", "c 1:3 rwm") in devices
    assert ("devices.allow", "c 1:1 rwm") not in devices


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (HYBRID, {"memory.limit_in_bytes": "67108864", "cpu.cfs_quota_us": "50000", "pids.max": "9"}),
        (V2, {"memory.max": "67108864", "memory.swap.max": "67108864", "cpu.max": "50000 100000", "pids.max": "9"}),
    ],
)
def test_limits_on_both_kinds_of_hosts(layout: Layout, expected: dict[str, str]) -> None:
    host = HostConfig(network_mode="bridge", memory=64 << 20, nano_cpus=500_000_000, pids_limit=9)
    found = {
        one.path.rsplit("/", 1)[1]: one.value
        for one in plan.init_operations(request(spec_of(host)), layout)
        if isinstance(one, do.WriteControl)
    }
    assert expected.items() <= found.items()


def test_seccomp_holds_sys_admin_only_without_no_new_privileges() -> None:
    plain = plan.init_operations(request(spec_of()), HYBRID)
    held = next(one for one in plain if isinstance(one, do.SetCapabilities))
    assert held.hold == 1 << 21
    strict = spec_of(HostConfig(network_mode="bridge", security_opt=["no-new-privileges"]))
    found = plan.init_operations(request(strict), HYBRID)
    assert next(one for one in found if isinstance(one, do.SetCapabilities)).hold == 0
    assert any(isinstance(one, do.NoNewPrivileges) for one in found)


def test_privileged_has_no_masks_and_a_writable_sys() -> None:
    spec = spec_of(HostConfig(network_mode="bridge", privileged=True))
    assert spec.linux.masked_paths == ()
    assert "ro" not in next(mount for mount in spec.mounts if mount.destination == "/sys").options


def test_mounts_of_the_user_take_the_place_of_defaults() -> None:
    mine = MountPoint(type="bind", source="/s", destination="/dev/shm", propagation="rprivate")
    found = [mount for mount in spec_of(None, None, mine).mounts if mount.destination == "/dev/shm"]
    assert [mount.source for mount in found] == ["/s"]


def test_a_mapped_container_waits_for_its_maps_before_anything_else() -> None:
    spec = build_spec(record(), HOST, Joined(), {}, "/root", id_map=(100000, 65536))
    found = names(spec)
    assert found.index("AwaitMonitor") < found.index("IsolateMounts")
    assert "MakeDevice" not in found


def test_configurations_follow_the_published_schema() -> None:
    directory = SHARED / "reference" / "oci-runtime"
    if not directory.exists():
        pytest.skip("the schema is not on this machine")
    resources = []
    for path in directory.glob("*.json"):
        resource = Resource.from_contents(json.loads(path.read_text()), default_specification=DRAFT4)
        resources += [(path.name, resource), (f"https://opencontainers.org/schema/{path.name}", resource)]
    schema = json.loads((directory / "config-schema.json").read_text())
    validator = jsonschema.Draft4Validator(schema, registry=Registry().with_resources(resources))
    host = HostConfig(network_mode="bridge", memory=1 << 26, pids_limit=5, ulimits=[Ulimit("nofile", 10, 5)])
    for spec in (spec_of(), spec_of(host), spec_of(HostConfig(privileged=True, network_mode="host"))):
        errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(oci.to_json(spec))]
        assert not errors


def test_the_layout_of_this_host_is_found() -> None:
    layout = detect()
    assert layout.is_v2 or layout.v1


@pytest.mark.parametrize(
    ("key", "host", "refused"),
    [
        ("net.ipv4.ip_forward", {}, ""),
        ("net.ipv4.ip_forward", {"network_mode": "host"}, "not allowed in host network namespace"),
        ("net/ipv4/ip_forward", {"network_mode": "host"}, "not allowed in host network namespace"),
        ("kernel.msgmax", {}, ""),
        ("fs.mqueue.msg_max", {}, ""),
        ("kernel.msgmax", {"ipc_mode": "host"}, "is not in a separate kernel namespace"),
        ("kernel.domainname", {}, ""),
        ("kernel.domainname", {"uts_mode": "host"}, "is not in a separate kernel namespace"),
        ("kernel.core_pattern", {}, "is not in a separate kernel namespace"),
        ("vm.swappiness", {}, "is not in a separate kernel namespace"),
    ],
)
def test_settings_of_the_host_are_refused(key: str, host: dict[str, str], refused: str) -> None:
    asked = msgspec.structs.replace(HostConfig(network_mode="bridge", sysctls={key: "1"}), **host)
    if not refused:
        assert spec_of(asked).linux.sysctl[key] == "1"
        return
    with pytest.raises(InvalidParameter, match=f'sysctl "{key}" {refused}'):
        spec_of(asked)
