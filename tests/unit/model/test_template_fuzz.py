"""No template and no value makes a traceback: the answer is text or a TemplateError."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kist.model.template import Template, TemplateError

VALUE: dict[str, Any] = {
    "Name": "/a", "Id": "0123456789", "List": ["x", 1, None], "Map": {"b": 1, "a": {"z": []}}, "Null": None,
    "Yes": True, "Number": -5, "Large": 1 << 70, "Float": 1.5, "Text": "é\x00\udcff",
}  # fmt: skip
_WORDS = (
    "{{", "}}", "{{-", "-}}", "{{/*", "*/}}", "if", "else", "else if", "end", "range", "with", "define", "template",
    "block", "break", "continue", ".", "..", ".Name", ".List", ".Map", ".Map.a.z", ".Null", ".Number", ".Large",
    ".Float", ".Text", "$", "$x", ":=", "=", ",", "|", "(", ")", "nil", "true", "false", "0", "-1", "1e400",
    "0x1F", "1i", "'a'",
    "'\\x'", '"a"', '"%s%d%v%q%x%*d%[3]d%!"', "`raw", "`r`", "print", "printf", "println", "json", "join", "split",
    "upper", "lower", "title", "pad", "truncate", "index", "slice", "len", "eq", "ne", "lt", "and", "or", "not", "call",
    "html", "js", "urlquery", "table", " ", "\n", "\t", "\\", "é", "\x00",
)  # fmt: skip
PIECES = st.lists(st.sampled_from(_WORDS), max_size=25).map(" ".join)
INSIDE = st.lists(st.sampled_from(_WORDS[17:]), max_size=8).map(lambda words: "{{" + " ".join(words) + "}}")
SOURCES = st.one_of(PIECES, st.lists(INSIDE, max_size=4).map("".join), st.text(max_size=60))
SETTINGS = settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SETTINGS
@given(SOURCES)
def test_any_text(source: str) -> None:
    with suppress(TemplateError):
        assert isinstance(Template(source).render(VALUE), str)


@SETTINGS
@given(INSIDE, st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
))  # fmt: skip
def test_any_value(source: str, value: Any) -> None:
    with suppress(TemplateError):
        assert isinstance(Template(source).render(value, strict=True), str)


_FUNCTIONS = (
    "json", "len", "index", "slice", "join", "split", "truncate", "pad", "title", "upper", "lower", "printf", "eq",
    "lt", "html", "js", "urlquery", "print", "not", "and", "call",
)  # fmt: skip
_ARGUMENTS = (*(f".{name}" for name in sorted(VALUE)), "1", "-1", '"x"', "nil")


@SETTINGS
@given(st.sampled_from(_FUNCTIONS), st.lists(st.sampled_from(_ARGUMENTS), max_size=4))
def test_any_call(function: str, arguments: list[str]) -> None:
    with suppress(TemplateError):
        Template("{{" + " ".join([function, *arguments]) + "}}").render(VALUE)


def test_deep_nesting_is_refused() -> None:
    for source in ("{{" + "(" * 50_000, "{{if .}}" * 20_000, "{{" + "(" * 3_000 + "1" + ")" * 3_000 + "}}",
                   "{{if .}}" * 3_000 + "{{end}}" * 3_000):  # fmt: skip
        with suppress(TemplateError):
            Template(source).render(VALUE)
