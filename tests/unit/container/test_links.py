"""What a link tells, and how links are written."""

from __future__ import annotations

import pytest

from kist.container.links import environment, parse_link
from kist.model.config import ContainerConfig
from kist.model.errors import InvalidParameter
from kist.network.files import with_address, without_name


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("web", ("web", "web")),
        ("web:db", ("web", "db")),
        ("web:", ("web", "")),
        ("/web:/client/db", ("web", "db")),
        ("web:a/b", ("web", "a/b")),
    ],
)
def test_links(text: str, wanted: tuple[str, str]) -> None:
    assert parse_link(text) == wanted


@pytest.mark.parametrize("text", ["", "a:b:c", "::"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_link(text)


def test_the_first_tcp_port_is_the_port() -> None:
    config = ContainerConfig(exposed_ports={"53/udp": {}, "443/tcp": {}, "80/tcp": {}}, env=["A=b=c", "HOME=/", "D"])
    assert environment("/me/the-db", "10.0.0.2", config) == [
        "THE_DB_PORT=tcp://10.0.0.2:80",
        "THE_DB_PORT_80_TCP=tcp://10.0.0.2:80",
        "THE_DB_PORT_80_TCP_ADDR=10.0.0.2",
        "THE_DB_PORT_80_TCP_PORT=80",
        "THE_DB_PORT_80_TCP_PROTO=tcp",
        "THE_DB_PORT_443_TCP=tcp://10.0.0.2:443",
        "THE_DB_PORT_443_TCP_ADDR=10.0.0.2",
        "THE_DB_PORT_443_TCP_PORT=443",
        "THE_DB_PORT_443_TCP_PROTO=tcp",
        "THE_DB_PORT_53_UDP=udp://10.0.0.2:53",
        "THE_DB_PORT_53_UDP_ADDR=10.0.0.2",
        "THE_DB_PORT_53_UDP_PORT=53",
        "THE_DB_PORT_53_UDP_PROTO=udp",
        "THE_DB_NAME=/me/the-db",
        "THE_DB_ENV_A=b=c",
    ]


def test_only_the_line_of_the_name_changes() -> None:
    text = "1.1.1.1\tdb web\n# 1.1.1.1\tdb\n1.1.1.1\tdbx\n1.1.1.1\tother db\n1.1.1.1\td.b x\n"
    assert with_address(text, "db", "2.2.2.2") == text.replace("1.1.1.1\tdb web", "2.2.2.2\tdb web")
    assert with_address(text, "d.b", "2.2.2.2").splitlines()[4] == "2.2.2.2\td.b x"
    assert without_name(text, "db") == text.partition("\n")[2]
