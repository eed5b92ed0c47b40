"""Times as queries and filters say them."""

from __future__ import annotations

import time

import pytest

from kist.api.times import parse_limit, parse_prune_limit, parse_timestamp
from kist.model.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("", 0), ("5", 5_000_000_000), ("5.000000001", 5_000_000_001), ("5.1", 5_100_000_000), ("-5", -5_000_000_000)],
)
def test_seconds(text: str, wanted: int) -> None:
    assert parse_timestamp(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("1.x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("1.", 'strconv.ParseInt: parsing "": invalid syntax'),
        ("9" * 19, f'strconv.ParseInt: parsing "{"9" * 19}": value out of range'),
        ("9" * 5000, f'strconv.ParseInt: parsing "{"9" * 5000}": value out of range'),
        ("2020-01-01", 'strconv.ParseInt: parsing "2020-01-01": invalid syntax'),
    ],
)
def test_what_are_no_seconds(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse_timestamp(text)
    assert refused.value.message == message


@pytest.mark.parametrize(("text", "ago"), [("24h", 86400), ("1h30m", 5400), ("1.5s", 1.5), ("100ms", 0.1)])
def test_a_span_counts_back_from_now(text: str, ago: float) -> None:
    assert abs(time.time() - ago - parse_limit(text) / 1e9) < 1


def test_a_limit_can_be_a_date_or_seconds() -> None:
    assert parse_limit("2020-01-01T00:00:00Z") == 1_577_836_800_000_000_000
    assert parse_limit("2020-01-01T01:00:00+01:00") == 1_577_836_800_000_000_000
    assert parse_limit("1577836800") == 1_577_836_800_000_000_000


@pytest.mark.parametrize("text", ["bogus", "1x", "h", "2020-13-01", "9" * 30])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse_limit(text)
    assert refused.value.message == f'failed to parse value as time or duration: "{text}"'


def test_a_prune_has_one_limit() -> None:
    assert parse_prune_limit([]) is None
    assert parse_prune_limit(["5", "5"]) == 5_000_000_000
    with pytest.raises(InvalidParameter, match="more than one until filter specified"):
        parse_prune_limit(["1h", "2h"])
