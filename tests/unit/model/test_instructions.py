"""Instructions of `--change`: words, variables, and what each makes of a configuration. The facts are dockerd's."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.model.config import ContainerConfig, Health
from kist.model.errors import InvalidParameter
from kist.model.instructions import apply, expand

BEFORE = ContainerConfig(env=["PATH=/bin", "A=1"], working_dir="/w", cmd=["old"])


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ("CMD echo $HOME \"a\"", "cmd", ["/bin/sh", "-c", 'echo $HOME "a"']),
        ('CMD ["a","b"]', "cmd", ["a", "b"]),
        ('CMD ["a"', "cmd", ["/bin/sh", "-c", '["a"']),
        ("cmd lower", "cmd", ["/bin/sh", "-c", "lower"]),
        ("CMD", "cmd", None),
        ("ENTRYPOINT x y", "entrypoint", ["/bin/sh", "-c", "x y"]),
        ("ENTRYPOINT []", "entrypoint", None),
        ('ENV PATH=$PATH:/x B="b c" D=\\$x', "env", ["PATH=/bin:/x", "A=1", "B=b c", "D=$x"]),
        ('ENV B b  c "d"', "env", ["PATH=/bin", "A=1", "B=b  c d"]),
        ("ENV A=2\nENV C=3", "env", ["PATH=/bin", "A=2", "C=3"]),
        ("ENV C=1 \\\n  D=2", "env", ["PATH=/bin", "A=1", "C=1", "D=2"]),
        ('LABEL "a b"="c d" e=f', "labels", {"a b": "c d", "e": "f"}),
        ("LABEL x='a$A'", "labels", {"x": "a$A"}),
        ("LABEL a=$NO${A:-x}${NO:-y}${NO:+z}${A:+w}", "labels", {"a": "1yw"}),
        ("VOLUME /a /b", "volumes", {"/a": {}, "/b": {}}),
        ('VOLUME ["/a b"]', "volumes", {"/a b": {}}),
        ("WORKDIR x", "working_dir", "/w/x"),
        ("WORKDIR ../x", "working_dir", "/x"),
        ("WORKDIR /abs/../y", "working_dir", "/abs/../y"),
        ("USER u:g", "user", "u:g"),
        ("USER a b", "user", "a b"),
        ("ONBUILD RUN x y", "on_build", ["RUN x y"]),
        ("EXPOSE 80 8000-8001/udp", "exposed_ports", {"80/tcp": {}, "8000/udp": {}, "8001/udp": {}}),
        ("STOPSIGNAL TERM", "stop_signal", "TERM"),
        ("HEALTHCHECK NONE", "healthcheck", Health(test=["NONE"])),
        ('HEALTHCHECK CMD ["a","b"]', "healthcheck", Health(test=["CMD", "a", "b"])),
        ("HEALTHCHECK --interval=1m30s --timeout=3s --retries=3 CMD curl x", "healthcheck",
         Health(test=["CMD-SHELL", "curl x"], interval=90 * 10**9, timeout=3 * 10**9, retries=3)),
    ],
)  # fmt: skip
def test_instructions(change: str, field: str, value: object) -> None:
    assert getattr(apply(BEFORE, [change]), field) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("", "file with no instructions"),
        ("# c", "file with no instructions"),
        ("FROM x", "from is not a valid change command"),
        ("RUN x", "run is not a valid change command"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV =x", "ENV names can not be blank"),
        ("ENV A=b c", 'Syntax error - can\'t find = in "c". Must be of the form: name=value'),
        ("LABEL =x", "LABEL names can not be blank"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("EXPOSE x", "invalid containerPort: x"),
        ("EXPOSE 99999", "invalid containerPort: 99999"),
        ("EXPOSE 80-90/x", "invalid proto: x"),
        ("USER", "USER requires exactly one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --interval=x CMD a", 'time: invalid duration "x"'),
        ("HEALTHCHECK --foo CMD x", "unknown flag: --foo"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
    ],
)
def test_what_cannot_be(change: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        apply(BEFORE, [change])
    assert caught.value.message == message


_WORD = st.text(st.characters(exclude_characters="\0\n\r", categories=["L", "N", "P", "S", "Z"]), max_size=40)


@given(_WORD)
def test_a_quoted_word_is_itself(text: str) -> None:
    quoted = "".join(f"\\{char}" if char in '"\\$' else char for char in text)
    assert expand(f'"{quoted}"', {}) == text


@given(st.text("a$Z{}:-+?\"'\\ ", max_size=30))
def test_any_word_is_expanded_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidParameter):
        assert isinstance(expand(text, {"Z": "z"}), str)


@given(st.lists(st.text(max_size=60), max_size=3))
def test_any_change_is_applied_or_refused(changes: list[str]) -> None:
    with contextlib.suppress(InvalidParameter):
        assert isinstance(apply(BEFORE, changes), ContainerConfig)
