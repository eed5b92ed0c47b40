"""The YAML of CDI files, held against PyYAML."""

from __future__ import annotations

from typing import Any

import pytest
import yaml as reference
from hypothesis import given
from hypothesis import strategies as some

from kist.container import yaml

_SCALARS = some.one_of(
    some.none(), some.booleans(), some.integers(-(10**9), 10**9), some.text(some.characters(codec="ascii"), max_size=12)
)
_VALUES = some.recursive(
    _SCALARS,
    lambda inner: some.one_of(
        some.lists(inner, max_size=4), some.dictionaries(some.text("abcXYZ_019-./ ", min_size=1), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_VALUES, some.booleans())
def test_what_pyyaml_writes_is_read_or_refused(value: Any, flow: bool) -> None:
    text = reference.safe_dump(value, default_flow_style=flow, width=10**6)
    try:
        assert yaml.loads(text) == value
    except yaml.YamlError:
        assert any(mark in text for mark in "|>&*!?\\'\"") or "..." in text or len(text) > 40, text


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: [x, 'y, z', {k: v}]\nc:\n- d\n-  e: 1\n   f: 2\n-\n  g: ~\n",
        "---\n# a comment\na: 'it''s' # another\nb: \"x\\ty\\u00e4\\x41\"\n",
        "a: 0666\nb: 0x1f\nc: 1.5\nd: yes\ne: No\nf: null\ng: 1.2.3\nh: 0.6.0\n",
        "a:\n  b:\n    c: {}\n    d: []\n  e: x#y\nf: http://x:80/y\n",
        "- a\n- - b\n  - c\n- [ ]\n",
        "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- containerEdits:\n    deviceNodes:\n    - path: /dev/a\n"
        "  name: \"0\"\ncontainerEdits:\n  hooks:\n  - args: [a, --folder, '/x y']\n    hookName: createContainer\n",
        "key with spaces: value with: no colon\n".replace(": no", " no"),
        "",
        "plain",
    ],
)  # fmt: skip
def test_the_same_as_pyyaml(text: str) -> None:
    assert yaml.loads(text) == reference.safe_load(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1", "a: *x", "a: !!str 1", "a: |\n  text", "a: >\n  text", "a: 1\n---\nb: 2", "a: 1\na: 2", "\ta: 1",
        "a: [1", "a: {b: 1", "a: 'x", "a: b: c", "a:\n    b: 1\n  c: 2", "a: 1\n  b: 2", "{a: 1, a: 2}",
        "[" * 200, "a: [1] x",
    ],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    with pytest.raises(yaml.YamlError):
        yaml.loads(text)


@given(some.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        yaml.loads(text)
    except yaml.YamlError:
        return
