"""What --network, and --subnet and its like, are read as, and what is said of wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from kist.cli.endpoints import endpoints, read
from kist.cli.options import CREATE
from kist.cli.parse import Command, go_csv, parse
from kist.cli.subnets import pools
from kist.model.errors import KistError

COMMAND = Command("create", "create", "", "run:create", CREATE, 0, -1)


def asked(*words: str) -> tuple[str, dict[str, Any]]:
    return endpoints(parse(COMMAND, list(words), "kist create"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mine", ("mine", {})),
        ("Mine", ("Mine", {})),
        ("name=", ("name=", {})),  # does not look like the long form
        ("name=Mine", ("mine", {})),
        ("NAME=a ,alias= B ,x", None),
        ("name=a,alias=B,alias=c", ("a", {"Aliases": ["b", "c"]})),
        (
            "name=a,ip=1.2.3.4,ip6=::1,link-local-ip=169.254.0.1",
            (
                "a",
                {"IPAMConfig": {"IPv4Address": "1.2.3.4", "IPv6Address": "::1", "LinkLocalIPs": ["169.254.0.1"]}},
            ),
        ),
        ("name=a,driver-opt=k=v=w,driver-opt=l=", ("a", {"DriverOpts": {"k": "v=w", "l": ""}})),
        ("name=a,gw-priority=-3,mac-address=02:00:00:00:00:01",
         ("a", {"GwPriority": -3, "MacAddress": "02:00:00:00:00:01"})),
        ('name=a,"alias=b"', ("a", {"Aliases": ["b"]})),
    ],
)  # fmt: skip
def test_a_network_is_read(text: str, found: tuple[str, dict[str, Any]] | None) -> None:
    if found is None:
        with pytest.raises(ValueError, match="invalid field x"):
            read(text)
    else:
        assert read(text) == found


def test_flags_without_a_network_are_of_the_first() -> None:
    assert asked("--network", "a", "--network", "name=b,alias=x", "--ip", "1.2.3.4", "--network-alias", "y") == (
        "a",
        {"a": {"Aliases": ["y"], "IPAMConfig": {"IPv4Address": "1.2.3.4"}}, "b": {"Aliases": ["x"]}},
    )


def test_old_names_of_flags_are_read_in_order() -> None:
    assert asked("--net", "a", "--network", "b", "--net", "c")[1] == {"a": {}, "b": {}, "c": {}}
    mode, found = asked("--network", "a", "--net-alias", "x", "--network-alias", "y", "--net-alias", "z")
    assert (mode, found["a"]["Aliases"]) == ("a", ["x", "y", "z"])


def test_what_is_only_a_name_needs_no_endpoint() -> None:
    assert asked() == ("default", {"default": {}})
    assert asked("--network", "a") == ("a", {})
    assert asked("--network", "name=a,gw-priority=0") == ("a", {})


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("a,b", ["a", "b"]),
        ("a,", ["a", ""]),
        (",", ["", ""]),
        ('"a,""b""",c', ['a,"b"', "c"]),
        (" a , b", [" a ", " b"]),
    ],
)
def test_csv(line: str, fields: list[str]) -> None:
    assert go_csv(line) == fields


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "EOF"),
        ('a"b', 'parse error on line 1, column 2: bare " in non-quoted-field'),
        ('a,"b', 'parse error on line 1, column 5: extraneous or missing " in quoted-field'),
        ('"a"b', 'parse error on line 1, column 3: extraneous or missing " in quoted-field'),
    ],
)
def test_csv_that_is_none(line: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"parse error|EOF") as caught:
        go_csv(line)
    assert str(caught.value) == told


def test_pools() -> None:
    found = pools(
        ["10.0.0.0/24", "10.1.0.7/24", "fd00::/64"],
        ["10.1.0.128/25"],
        ["fd00::1", "::ffff:10.0.0.1"],
        {"a": "10.0.0.2", "b": "fd00::2/64"},
    )
    assert found == [
        {"Subnet": "10.0.0.0/24", "AuxiliaryAddresses": {"a": "10.0.0.2"}, "Gateway": "::ffff:10.0.0.1"},
        {"Subnet": "10.1.0.7/24", "AuxiliaryAddresses": {}, "IPRange": "10.1.0.128/25"},
        {"Subnet": "fd00::/64", "AuxiliaryAddresses": {"b": "fd00::2/64"}, "Gateway": "fd00::1"},
    ]


@pytest.mark.parametrize(
    "subnet", ["10.0.0.0/255.0.0.0", "10.0.0/8", "10.0.0.0/", "10.0.0.0/33", "fe80::1%eth0/64", ""]
)
def test_what_is_no_subnet(subnet: str) -> None:
    with pytest.raises(KistError) as caught:
        pools(["10.9.0.0/24", subnet], [], [], {})
    assert caught.value.message.endswith(f"invalid CIDR address: {subnet}")
