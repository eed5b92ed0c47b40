"""Requests are read as Go reads them."""

from __future__ import annotations

import msgspec
import pytest

from kist.model.config import ContainerConfig, Health, HostConfig, TmpfsOptions
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
        (b'{"StopTimeout":9223372036854775808}', "cannot unmarshal number 9223372036854775808 into .* of type int$"),
        (b'{"StopTimeout":true}', "cannot unmarshal bool into Go struct field .*StopTimeout of type int$"),
        (b'{"Healthcheck":{"Test":[1]}}', "field HealthConfig.Healthcheck.Test of type string"),
        (
            b'{"StopTimeout":' + b"9" * 5000 + b"}",
            "cannot unmarshal number 9{5000} into Go struct field .* of type int$",
        ),
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


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"BlkioWeight":70000}', "number 70000 into Go struct field HostConfig.BlkioWeight of type uint16"),
        ('{"BlkioWeight":-1}', "number -1 into Go struct field HostConfig.BlkioWeight of type uint16"),
        ('{"BlkioWeight":"x"}', "string into Go struct field HostConfig.BlkioWeight of type uint16"),
        (
            '{"BlkioWeightDevice":[{"Weight":70000}]}',
            "number 70000 into Go struct field WeightDevice.BlkioWeightDevice.Weight of type uint16",
        ),
        (
            '{"BlkioWeightDevice":[5]}',
            "number into Go struct field HostConfig.BlkioWeightDevice of type blkiodev.WeightDevice",
        ),
        ('{"ConsoleSize":[-1,2]}', "number -1 into Go struct field HostConfig.ConsoleSize of type uint"),
        ('{"ConsoleSize":1}', "number into Go struct field HostConfig.ConsoleSize of type [2]uint"),
        (
            '{"Mounts":[{"TmpfsOptions":{"Mode":-1}}]}',
            "number -1 into Go struct field TmpfsOptions.Mounts.TmpfsOptions.Mode of type fs.FileMode",
        ),
        (
            '{"Mounts":[{"TmpfsOptions":{"Mode":4294967296}}]}',
            "number 4294967296 into Go struct field TmpfsOptions.Mounts.TmpfsOptions.Mode of type fs.FileMode",
        ),
        (
            '{"DeviceRequests":[{"Count":1.0}]}',
            "number 1.0 into Go struct field DeviceRequest.DeviceRequests.Count of type int",
        ),
        ('{"OomScoreAdj":1e2}', "number 1e2 into Go struct field HostConfig.OomScoreAdj of type int"),
        ('{"IOMaximumIOps":-1}', "number -1 into Go struct field HostConfig.IOMaximumIOps of type uint64"),
        ('{"Memory":1.50}', "number 1.50 into Go struct field HostConfig.Memory of type int64"),
        ('{"Memory":1e30}', "number 1e30 into Go struct field HostConfig.Memory of type int64"),
        ('{"Memory":1E999}', "number 1E999 into Go struct field HostConfig.Memory of type int64"),
        ('{"NetworkMode":1e30}', "number into Go struct field HostConfig.NetworkMode of type string"),
    ],
)
def test_numbers_are_of_gos_types(body: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        decode(body.encode(), HostConfig)
    assert refused.value.message == f"invalid JSON: json: cannot unmarshal {message}"


@pytest.mark.parametrize("kind", ["ReadBps", "WriteBps", "ReadIOps", "WriteIOps"])
@pytest.mark.parametrize("rate", ["-1", "18446744073709551616", "0.5"])
def test_rates_are_unsigned(kind: str, rate: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        decode(f'{{"BlkioDevice{kind}":[{{"Rate":{rate}}}]}}'.encode(), HostConfig)
    assert refused.value.message == (
        f"invalid JSON: json: cannot unmarshal number {rate} into Go struct field "
        f"ThrottleDevice.BlkioDevice{kind}.Rate of type uint64"
    )


def test_the_first_and_the_last_number_of_each_type_are_taken() -> None:
    host = decode(
        b'{"BlkioWeight":65535,"BlkioDeviceReadBps":[{"Rate":18446744073709551615},{"Rate":0}],'
        b'"Mounts":[{"TmpfsOptions":{"Mode":4294967295}}],"Memory":-9223372036854775808,"MemorySwap":-0,'
        b'"OomScoreAdj":9223372036854775807}',
        HostConfig,
    )
    assert (host.blkio_weight, host.memory, host.memory_swap, host.oom_score_adj) == (
        65535,
        -(1 << 63),
        0,
        (1 << 63) - 1,
    )
    assert [one.rate for one in host.blkio_device_read_bps or ()] == [(1 << 64) - 1, 0]
    assert host.mounts is not None
    assert host.mounts[0].tmpfs_options == TmpfsOptions(mode=(1 << 32) - 1)


def test_a_health_check_has_durations() -> None:
    for name, kind in (("Interval", "time.Duration"), ("StartInterval", "time.Duration"), ("Retries", "int")):
        with pytest.raises(InvalidParameter, match=f"number 1.5 into .*HealthConfig.{name} of type {kind}$"):
            decode(f'{{"{name}":1.5}}'.encode(), Health, "container.HealthConfig")


def test_what_is_stored_is_not_held_to_the_ranges() -> None:
    """A container made before they were checked must still be there."""
    assert msgspec.json.decode(b'{"BlkioWeight":70000}', type=HostConfig).blkio_weight == 70000


def test_of_an_empty_struct_nothing_is_read() -> None:
    body = b'{"Volumes":{"/a":{"x":1e30},"/b":null,"/c":{}},"Unknown":[1.5]}'
    assert decode(body, ContainerConfig).volumes == {"/a": {}, "/b": {}, "/c": {}}
    with pytest.raises(InvalidParameter, match=r"number into .*ContainerConfig.Volumes of type struct {}$"):
        decode(b'{"Volumes":{"/a":5}}', ContainerConfig)


def test_arrays_of_fixed_length_are_cut_and_filled() -> None:
    for given, got in ((b"[1]", (1, 0)), (b"[1,2,-3]", (1, 2))):
        assert decode(b'{"ConsoleSize":' + given + b"}", HostConfig).console_size == got
