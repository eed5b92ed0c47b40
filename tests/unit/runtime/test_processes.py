"""What ps options ask for."""

from __future__ import annotations

import pytest

from kist.model.errors import InvalidParameter
from kist.runtime.processes import parse_arguments


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("-o pid,comm", ["PID", "COMM"]),
        ("-opid", ["PID"]),
        ("-eo pid=", ["PID"]),
        ("-e", ["PID", "TTY", "TIME", "CMD"]),
        ("-o user -o pid", ["USER", "PID"]),
    ],
)
def test_columns(text: str, columns: list[str]) -> None:
    assert parse_arguments(text) == columns


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("-o", "ps: error: format specification must follow -o"),
        ("-eo", "ps: error: format specification must follow -o"),
        ("-o comm", "Couldn't find PID field in ps output"),
        ("-Z", "ps: unsupported option '-Z': use -ef, aux or -o with columns"),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse_arguments(text)
    assert refused.value.message == told
