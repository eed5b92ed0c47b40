"""What an older client's request to create a container means today. The rest is shown by golden answers."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kist.api import compat
from kist.http.server import Request
from kist.model.config import (
    BindOptions,
    ContainerConfig,
    EndpointSettings,
    HostConfig,
    MountRequest,
    TmpfsOptions,
    VolumeOptions,
)
from kist.model.errors import InvalidParameter, KistError

SYSCTLS = "com.docker.network.endpoint.sysctls"


class _Spoken:
    """As much of a request as a version is."""

    def __init__(self, version: str, **query: str) -> None:
        self.version, self.query, self.headers = version, query, dict[str, str]()
        self.query_lists = {key: [value] for key, value in query.items()}


def spoken(version: str, **query: str) -> Request:
    return cast(Request, _Spoken(version, **query))


def create(
    version: str,
    host: HostConfig | None = None,
    endpoints: dict[str, EndpointSettings] | None = None,
    *,
    cgroup2: bool = False,
    **config: Any,
) -> tuple[ContainerConfig, HostConfig, dict[str, EndpointSettings] | None, list[str]]:
    return compat.create(spoken(version), ContainerConfig(**config), host or HostConfig(), endpoints, cgroup2=cgroup2)


@pytest.mark.parametrize(
    ("text", "found"),
    [("1.41", (1, 41)), ("1.41.0", (1, 41)), ("1.041", (1, 41)), ("1", (1,)), ("2.0", (2,)), (".", ()), ("1.", (1,))],
)
def test_versions_are_compared_as_numbers(text: str, found: tuple[int, ...]) -> None:
    assert compat.number(text) == found


def test_cgroup_namespaces_came_with_1_41_on_cgroup_v1() -> None:
    assert create("1.40")[1].cgroupns_mode == "host"
    assert create("1.40", HostConfig(cgroupns_mode="private"))[1].cgroupns_mode == "private"
    assert create("1.40", cgroup2=True)[1].cgroupns_mode == ""
    assert create("1.41")[1].cgroupns_mode == ""


def test_fields_that_came_later_are_not_heard() -> None:
    host = HostConfig(
        auto_remove=True, console_size=(1, 2), annotations={"a": "b"}, kernel_memory=5, kernel_memory_tcp=6
    )
    oldest, newest = create("1.24", host)[1], create("1.51", host)[1]
    assert (oldest.auto_remove, oldest.console_size, oldest.annotations) == (False, None, None)
    assert (oldest.kernel_memory, oldest.kernel_memory_tcp, oldest.ipc_mode) == (5, 0, "shareable")
    assert (newest.auto_remove, newest.console_size, newest.annotations) == (True, (1, 2), {"a": "b"})
    assert (newest.kernel_memory, newest.kernel_memory_tcp, newest.ipc_mode) == (0, 6, "")
    assert create("1.25", host)[1].auto_remove
    assert create("1.42", host)[1].console_size == (1, 2)
    assert create("1.43", host)[1].annotations == {"a": "b"}


@pytest.mark.parametrize(
    ("since", "mount", "text"),
    [
        (
            "1.44",
            MountRequest(type="bind", bind_options=BindOptions(read_only_force_recursive=True)),
            "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
        ),
        (
            "1.45",
            MountRequest(type="volume", volume_options=VolumeOptions(subpath="x")),
            "VolumeOptions.Subpath needs API v1.45 or newer",
        ),
        ("1.48", MountRequest(type="image"), 'Mount type "Image" needs API v1.48 or newer'),
    ],
)
def test_mounts_that_would_not_be_what_was_meant_are_refused(since: str, mount: MountRequest, text: str) -> None:
    create(since, HostConfig(mounts=[mount]))
    before = f"1.{int(since.partition('.')[2]) - 1}"
    with pytest.raises(InvalidParameter) as caught:
        create(before, HostConfig(mounts=[mount]))
    assert caught.value.message == text


def test_options_of_another_type_are_refused_since_1_42() -> None:
    mount = MountRequest(type="bind", tmpfs_options=TmpfsOptions())
    assert (create("1.41", HostConfig(mounts=[mount]))[1].mounts or [])[0].tmpfs_options is None
    with pytest.raises(InvalidParameter, match='TmpfsOptions must not be specified on mount type "bind"'):
        create("1.42", HostConfig(mounts=[mount]))


def test_read_only_binds_were_not_recursive_before_1_44() -> None:
    mount = MountRequest(type="bind", read_only=True)
    old = (create("1.43", HostConfig(mounts=[mount]))[1].mounts or [])[0].bind_options
    assert old is not None
    assert old.read_only_non_recursive
    assert (create("1.44", HostConfig(mounts=[mount]))[1].mounts or [])[0].bind_options is None


def test_several_endpoints_came_with_1_44() -> None:
    endpoints = {"a": EndpointSettings(), "b": EndpointSettings()}
    create("1.44", None, endpoints)
    with pytest.raises(InvalidParameter, match="Container cannot be created with multiple network endpoints: a, b"):
        create("1.43", None, endpoints)


def test_priorities_of_gateways_came_with_1_48() -> None:
    endpoints = {"bridge": EndpointSettings(gw_priority=7)}
    assert (create("1.47", None, endpoints)[2] or {})["bridge"].gw_priority == 0
    assert (create("1.48", None, endpoints)[2] or {})["bridge"].gw_priority == 7


def test_the_address_of_an_endpoint_is_heard_since_1_44() -> None:
    endpoints = {"default": EndpointSettings(mac_address="02::1")}
    assert (create("1.43", None, endpoints)[2] or {})["bridge"].mac_address == ""
    assert (create("1.44", None, endpoints)[2] or {})["bridge"].mac_address == "02::1"


def test_the_address_of_the_container_goes_to_its_endpoint() -> None:
    config, _, endpoints, warnings = create("1.43", mac_address="m")
    assert (config.mac_address, (endpoints or {})["bridge"].mac_address, warnings) == ("m", "m", [])
    config, _, endpoints, warnings = create("1.44", mac_address="m")
    assert (config.mac_address, (endpoints or {})["bridge"].mac_address, len(warnings)) == ("", "m", 1)
    other = {"other": EndpointSettings()}
    assert (create("1.43", None, other, mac_address="m")[2] or {})["other"].mac_address == "m"
    with pytest.raises(InvalidParameter) as caught:
        create("1.44", None, other, mac_address="m")
    assert caught.value.message == (
        "unable to migrate container-wide MAC address to a specific network: HostConfig.NetworkMode must match the "
        "identity of a network in NetworkSettings.Networks"
    )
    with pytest.raises(InvalidParameter, match="must match the endpoint-specific MAC address"):
        create("1.44", None, {"bridge": EndpointSettings(mac_address="n")}, mac_address="m")
    host = HostConfig(network_mode="host")
    with pytest.raises(InvalidParameter, match="conflicting options: mac-address and the network mode"):
        create("1.43", host, mac_address="m")
    assert create("1.44", host, mac_address="m")[2] is None


def test_settings_of_an_interface_go_to_its_endpoint_until_1_47() -> None:
    host = HostConfig(sysctls={"net.ipv4.conf.eth0.log_martians": "1", "net.core.somaxconn": "9"})
    own = {"bridge": EndpointSettings(driver_opts={SYSCTLS: "net.ipv4.conf.IFNAME.log_martians=0"})}
    _, made, endpoints, warnings = create("1.47", host, own)
    assert made.sysctls == {"net.core.somaxconn": "9"}
    assert (endpoints or {})["bridge"].driver_opts == {
        SYSCTLS: "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.log_martians=0"
    }
    assert warnings == [
        'Migrated sysctl "net.ipv4.conf.eth0.log_martians" to DriverOpts{"com.docker.network.endpoint.sysctls":'
        '"net.ipv4.conf.IFNAME.log_martians=1"}.'
    ]
    with pytest.raises(KistError, match="must be supplied using driver option"):
        create("1.48", host)
    with pytest.raises(KistError, match="unable to determine network endpoint for sysctl"):
        create("1.47", HostConfig(sysctls={"net.ipv4.conf.eth1.log_martians": "1"}))
    shared = HostConfig(network_mode="host", sysctls=host.sysctls)
    assert create("1.51", shared)[1].sysctls == host.sysctls


def test_a_useless_volume_driver_is_warned_of_since_1_48() -> None:
    host = HostConfig(volume_driver="local", mounts=[MountRequest(type="volume")])
    assert create("1.47", host)[3] == []
    assert len(create("1.48", host)[3]) == 1
    assert create("1.48", HostConfig(volume_driver="local", mounts=[MountRequest(type="bind")]))[3] == []


def test_parameters_of_the_query_by_version() -> None:
    assert compat.platform(spoken("1.40", platform="linux/x")) == ""
    assert compat.platform(spoken("1.41", platform="linux/x")) == "linux/x"
    assert compat.image_platforms(spoken("1.47", platform="{}"), "platform", "1.48") == []
    assert compat.image_platforms(spoken("1.48", platform="{}"), "platform", "1.48") == ["{}"]
    assert compat.stop_signal(spoken("1.41", signal="INT")) == ""
    assert compat.stop_signal(spoken("1.42", signal="INT")) == "INT"
    assert compat.image_references(spoken("1.40", filter="b*")) == ["b*"]
    assert compat.image_references(spoken("1.41", filter="b*")) == []
    assert compat.usage_types(spoken("1.41", type="image")) == compat.usage_types(spoken("1.51"))
    assert compat.usage_types(spoken("1.42", type="image")) == {"image"}
    with pytest.raises(InvalidParameter, match="unknown object type: bad"):
        compat.usage_types(spoken("1.42", type="bad"))
    assert not compat.prunes_named_volumes(spoken("1.42"))
    assert compat.prunes_named_volumes(spoken("1.41"))


def test_short_ids_were_aliases_before_1_45() -> None:
    def inspected(version: str) -> Any:
        networks = {"bridge": {"Aliases": None}, "own": {"Aliases": ["a"]}}
        data = {"Id": "0123456789abcdef", "Config": {"Hostname": "box"}, "HostConfig": {}}
        shown = compat.container_inspect(spoken(version), {**data, "NetworkSettings": {"Networks": networks}})
        return {name: one["Aliases"] for name, one in shown["NetworkSettings"]["Networks"].items()}

    assert inspected("1.44") == {"bridge": None, "own": ["a", "0123456789ab", "box"]}
    assert inspected("1.45") == {"bridge": None, "own": ["a"]}


def test_events_by_version() -> None:
    assert compat.event_action(spoken("1.24"), "container", "start_failed") == "die"
    assert compat.event_action(spoken("1.25"), "container", "start_failed") is None
    assert compat.event_action(spoken("1.45"), "image", "create") is None
    assert compat.event_action(spoken("1.46"), "image", "create") == "create"
    assert compat.event_action(spoken("1.24"), "container", "create") == "create"


def test_a_version_of_very_many_digits_is_too_new_and_nothing_worse() -> None:
    with pytest.raises(InvalidParameter, match="is too new"):
        compat.check_version("1." + "9" * 10_000)
    with pytest.raises(InvalidParameter, match="is too new"):
        compat.check_version("9" * 10_000)
