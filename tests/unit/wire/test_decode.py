"""Requests are read as Go reads them."""

from __future__ import annotations

import pytest

from kist.model.config import ContainerConfig, HostConfig
from kist.model.errors import InvalidParameter
from kist.wire.decode import decode, parse


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
        (b'{"Env":"A=b"}', r"json: cannot unmarshal string into Go struct field .*Env of type \[\]string"),
        (b"[]", "invalid JSON: json: cannot unmarshal array into Go value of type container.ContainerConfig"),
        (b'{"StopTimeout":9223372036854775808}', "cannot unmarshal number 9223372036854775808 into .* of type int64"),
        (b'{"StopTimeout":true}', "cannot unmarshal bool into Go struct field .*StopTimeout of type int64"),
        (b'{"Healthcheck":{"Test":[1]}}', "field HealthConfig.Healthcheck.Test of type string"),
        (b'{"StopTimeout":' + b"9" * 5000 + b"}", "cannot unmarshal number into Go value of type int64"),
        (b'{"Labels":{"a":"\\u0000"}}', "invalid value for Labels: it has a NUL character"),
        (b'{"Labels":{"\\u0000":"a"}}', "invalid value for Labels: it has a NUL character"),
        (b'{"Hostname":"a"} {}', "unexpected content after JSON"),
        (b"[" * 200_000, "exceeded max depth"),
    ],
)
def test_what_does_not_fit_is_told_in_gos_words(body: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        decode(body, ContainerConfig)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("nulx", "invalid character 'x' in literal null (expecting 'l')"),
        ("tru", "unexpected EOF"),
        ("{", "unexpected EOF"),
        ('{"a"', "unexpected EOF"),
        ('{"a":"b', "unexpected EOF"),
        ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
        ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":"]\\"{" 1}', "invalid character '1' after object key:value pair"),
        ('{"a":[{}, 1 2]}', "invalid character '2' after array element"),
        ('"\n"', "invalid character '\\n' in string literal"),
        ('"\\x"', "invalid character 'x' in string escape code"),
        ('"\\u12G4"', "invalid character 'G' in \\u hexadecimal character escape"),
        ("-x", "invalid character 'x' in numeric literal"),
        ("NaN", "invalid character 'N' looking for beginning of value"),
        ("-Infinity", "invalid character 'I' in numeric literal"),
        ("\0", "invalid character '\\x00' looking for beginning of value"),
        ("'a'", "invalid character '\\'' looking for beginning of value"),
        ("é", "invalid character 'Ã' looking for beginning of value"),
    ],
)
def test_what_is_no_json_is_told_in_gos_words(body: str, message: str) -> None:
    """The texts are those of Go's encoding/json, got from dockerd."""
    with pytest.raises(InvalidParameter) as refused:
        parse(body.encode())
    assert refused.value.message == f"invalid JSON: {message}"


def test_half_a_surrogate_pair_becomes_the_replacement_character() -> None:
    assert parse(b'{"a":["\\ud800x", "\\ud83d\\ude00"]}') == {"a": ["\ufffdx", "\U0001f600"]}


def test_what_is_no_utf8_becomes_the_replacement_character() -> None:
    assert parse(b'"\xff"') == "\ufffd"


def test_arrays_of_fixed_length_are_cut_and_filled() -> None:
    for given, got in ((b"[1]", (1, 0)), (b"[1,2,3]", (1, 2))):
        assert decode(b'{"ConsoleSize":' + given + b"}", HostConfig).console_size == got
