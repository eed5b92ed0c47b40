"""Expressions of users: the same answers as Python's engine gives, in time that is bounded."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kist.model.pattern import Pattern

_ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", r"\d", "^", "$", r"\b", "(?:)", "A"])


def _bigger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("(?:{}|{})".format, inner, inner),
        st.builds("({}){}".format, inner, st.sampled_from(["*", "+", "?", "{1,3}", "{2}", "*?", "{0,2}?"])),
        st.builds("(?i:{})".format, inner),
    )


@settings(max_examples=300)
@given(st.recursive(_ATOMS, _bigger, max_leaves=8), st.text(alphabet="abAB1 -", max_size=8))
def test_what_python_finds_is_found(expression: str, text: str) -> None:
    assert Pattern(expression).search(text) == bool(re.search(expression, text, re.ASCII)), (expression, text)


@pytest.mark.parametrize("expression", ["(a+)+$", "^(a|a)*$", "^(a|aa)+$", "a*a*a*a*a*a*a*c", "(.*)*x"])
def test_no_expression_takes_long(expression: str) -> None:
    begin = time.monotonic()
    assert not Pattern(expression).search("a" * 2000 + "b")
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("(", "missing ), unterminated subpattern at position 0"),
        ("*a", "nothing to repeat at position 0"),
        (r"(a)\1", "invalid or unsupported Perl syntax"),
        ("(?=a)", "invalid or unsupported Perl syntax"),
        ("(?:a{1000}){1000}", "expression too large"),
        ("(" * 5000 + ")" * 5000, "nested too deeply"),
    ],
)
def test_what_cannot_be_is_told(expression: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        Pattern(expression)
