"""The options of run and create: what is sent for them, and what is said of wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from kist.cli.options import CREATE, body
from kist.cli.parse import Command, UsageError, parse
from kist.model.errors import KistError

CREATE_COMMAND = Command("create", "create", "", "run:create", CREATE, 1, -1, interspersed=False)


def sent(*words: str) -> dict[str, Any]:
    parsed = parse(CREATE_COMMAND, [*words, "image", "true"], "kist create")
    return body(parsed, "image", ["true"])


def host(*words: str) -> Any:
    return sent(*words)["HostConfig"]


def test_rates_and_weights() -> None:
    found = host(
        "--device-read-bps", "/dev/a:1mb", "--device-write-iops=/dev/b:7", "--blkio-weight-device", "/dev/a:20"
    )
    assert found["BlkioDeviceReadBps"] == [{"Path": "/dev/a", "Rate": 1 << 20}]
    assert found["BlkioDeviceWriteIOps"] == [{"Path": "/dev/b", "Rate": 7}]
    assert found["BlkioWeightDevice"] == [{"Path": "/dev/a", "Weight": 20}]


def test_devices_by_path_and_by_name() -> None:
    found = host("--device", "/dev/a:r", "--device", "/dev/a:/b", "--device", "v.com/c=d", "--gpus", "device=0")
    assert [tuple(one.values()) for one in found["Devices"]] == [("/dev/a", "/dev/a", "r"), ("/dev/a", "/b", "rwm")]
    assert found["DeviceRequests"] == [
        {"Capabilities": [["gpu"]], "DeviceIDs": ["0"]},
        {"Driver": "cdi", "DeviceIDs": ["v.com/c=d"]},
    ]


def test_settings_of_the_endpoint() -> None:
    found = sent("--ip", "10.0.0.9", "--mac-address", "02:00:00:00:00:01", "--network", "mine", "--network-alias", "a",
                 "--link", "x:y")  # fmt: skip
    assert found["NetworkingConfig"]["EndpointsConfig"] == {
        "mine": {
            "Aliases": ["a"],
            "Links": ["x:y"],
            "MacAddress": "02:00:00:00:00:01",
            "IPAMConfig": {"IPv4Address": "10.0.0.9"},
        }
    }
    assert found["HostConfig"]["Links"] == ["x:y"]
    assert "MacAddress" not in found


def test_hosts_are_sent_with_a_colon() -> None:
    given = ("--add-host", "a=1.2.3.4", "--add-host", "b:[::1]", "--add-host", "c=host-gateway")
    assert host(*given)["ExtraHosts"] == ["a:1.2.3.4", "b:::1", "c:host-gateway"]


def test_cpus_are_a_rational_number() -> None:
    assert host("--cpus", "1/2")["NanoCpus"] == 500_000_000
    assert host("--cpus", "0.1")["NanoCpus"] == 100_000_000


def test_mounts() -> None:
    given = ("type=volume,dst=/a,volume-driver=local,volume-opt=type=nfs,volume-opt=o=addr=a", '"dst=/a,b",ro=0',
             "type=bind,src=/b,dst=/a,bind-nonrecursive", "type=image,src=b,dst=/a,image-subpath=c",
             "type=bind,src=/b,dst=/a,ro,bind-recursive=readonly,bind-propagation=rprivate")  # fmt: skip
    driver = {"Name": "local", "Options": {"type": "nfs", "o": "addr=a"}}
    assert host(*(word for one in given for word in ("--mount", one)))["Mounts"] == [
        {"Type": "volume", "Target": "/a", "VolumeOptions": {"DriverConfig": driver}},
        {"Type": "volume", "Target": "/a,b", "ReadOnly": False},
        {"Type": "bind", "Source": "/b", "Target": "/a", "BindOptions": {"NonRecursive": True}},
        {"Type": "image", "Source": "b", "Target": "/a", "ImageOptions": {"Subpath": "c"}},
        {"Type": "bind", "Source": "/b", "Target": "/a", "ReadOnly": True,
         "BindOptions": {"ReadOnlyForceRecursive": True, "Propagation": "rprivate"}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--device-read-bps /dev/a:-1", 'invalid argument "/dev/a:-1" for "--device-read-bps" flag: invalid rate for '
         "device: /dev/a:-1. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. "
         "Unit is optional and can be kb, mb, or gb"),
        ("--blkio-weight-device /dev/a:5", "invalid weight for device: /dev/a:5"),
        ("--blkio-weight-device a:50", "bad format for device path: a:50"),
        ("--gpus count=x", 'invalid count (x): value must be either "all" or an integer: invalid syntax'),
        ("--gpus 1,count=2", "gpu request key 'count' can be specified only once"),
        ("--device x", "x is not an absolute path"),
        ("--device /a:/b:rr", "bad mode specified: rr"),
        ("--sysctl kernel.pid_max=1", "sysctl 'kernel.pid_max=1' is not allowed"),
        ("--ulimit nofile=2:1", "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
        ("--expose 90-80", "invalid range format for --expose: 90-80, error: invalid range specified for port: 90-80"),
        ("--pid bogus", "--pid: invalid PID mode"),
        ("--cgroupns x", "--cgroupns: invalid CGROUP mode"),
        ("--mac-address x", "x is not a valid mac address"),
        ("--network-alias x", "network-scoped aliases are only supported for user-defined networks"),
        ("--storage-opt x", "invalid storage option"),
        ("--cpu-count 1", '"--cpu-count" is only supported on a Docker daemon running on windows'),
        ("--use-api-socket", "--use-api-socket is not supported yet"),
        ("--shm-size -1", "invalid size: '-1'"),
        ("--blkio-weight 99999", 'strconv.ParseUint: parsing "99999": value out of range'),
        ("--memory-swappiness 101", "invalid value: 101. Valid memory swappiness range is 0-100"),
        ("--cpus 0.0000000001", "value is too precise"),
        ("--mount dst=/a,bind-propagation=rprivate", "cannot mix 'bind-*' options with mount type 'volume'"),
        ("--mount type=bind,src=/b,dst=/a,volume-opt=a=b", "cannot mix 'volume-*' options with mount type 'bind'"),
        ("--mount type=bind,src=/b,dst=/a,bind-recursive=readonly",
         "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction"),
        ("--mount type=bind,src=/b,dst=/a,ro,bind-recursive=readonly",
         "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"),
        ("--mount dst=/a,readonly=maybe", "invalid value for readonly: maybe"),
        ("--mount type=,dst=/a", "type is required"),
        ("--mount type=tmpfs,dst=/a,tmpfs-mode=-1", "invalid value for tmpfs-mode: -1"),
        ("--mount volume-opt,dst=/a", "invalid field 'volume-opt' must be a key=value pair"),
        ("-v /a:/b:ro:x", "invalid spec: /a:/b:ro:x: too many colons"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(words: str, told: str) -> None:
    with pytest.raises((UsageError, KistError)) as caught:
        sent(*words.split(" "))
    assert told in str(caught.value)
