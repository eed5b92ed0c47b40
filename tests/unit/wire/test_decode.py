"""Requests are read as Go reads them."""

from __future__ import annotations

import pytest

from kist.model.config import ContainerConfig, HostConfig
from kist.model.errors import InvalidParameter
from kist.wire.decode import decode


def test_names_match_without_case_and_unknown_ones_are_ignored() -> None:
    config = decode(b'{"IMAGE":"a","cmd":["x"],"Nonsense":1}', ContainerConfig)
    assert (config.image, config.cmd) == ("a", ["x"])


def test_null_is_absent() -> None:
    assert decode(b'{"Hostname":null,"Env":null,"Tty":null}', ContainerConfig) == ContainerConfig()


def test_a_string_stands_for_a_list_of_one_where_docker_takes_it() -> None:
    config = decode(b'{"Cmd":"true","Entrypoint":"sh"}', ContainerConfig)
    assert (config.cmd, config.entrypoint) == (["true"], ["sh"])


def test_nested_names_too() -> None:
    host = decode(b'{"portbindings":{"80/tcp":[{"HOSTPORT":"8080"}]},"logconfig":{"TYPE":"none"}}', HostConfig)
    assert host.port_bindings is not None
    bindings = host.port_bindings["80/tcp"]
    assert bindings is not None
    assert bindings[0].host_port == "8080"
    assert host.log_config is not None
    assert host.log_config.type == "none"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "got EOF while reading request body"),
        (b"{", "unexpected EOF"),
        (b'{"Hostname":1}', "json: cannot unmarshal number into Go struct field .*Hostname of type string"),
        (b'{"Env":"A=b"}', "json: cannot unmarshal string into Go struct field .*Env of type array"),
        (b"[]", "invalid JSON"),
    ],
)
def test_what_does_not_fit_is_told_in_gos_words(body: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        decode(body, ContainerConfig)
