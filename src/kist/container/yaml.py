"""The part of YAML that CDI specifications are written in: block and flow collections, plain and quoted scalars,
comments (yaml.org/spec/1.2.2). Anchors, tags, several documents and block scalars are refused, not misread.

Numbers and words are read as YAML 1.1 does, which those who write such files use: `0666` is octal, `yes` is true.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_DEPTH = 64
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_OCTAL = re.compile(r"[-+]?0o?[0-7]+\Z")
_HEX = re.compile(r"[-+]?0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\Z")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    **dict.fromkeys(("null", "~", ""), None),
}
_KEY = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s#\[\]{},"'&*!|>%@`-][^#]*?|-[^\s#][^#]*?)\s*:(?=\s|\Z)""")
_REFUSED = "&*!|>%@`"
_ESCAPES = {"0": "\0", "a": "\a", "e": "\x1b", "v": "\v", " ": " ", "_": "\xa0"}  # that JSON has not


class YamlError(ValueError):
    """What cannot be read, and in which line."""


class _Line(NamedTuple):
    number: int
    indent: int
    text: str


def loads(text: str) -> Any:
    """One document as dicts, lists and scalars. Raises YamlError."""
    lines = _lines(text)
    if not lines:
        return None
    value, rest = _block(lines, lines[0].indent, 0)
    if rest:
        raise YamlError(f"line {rest[0].number}: unexpected indentation")
    return value


def _lines(text: str) -> list[_Line]:
    """Lines that say something, without comments and the marks of a document."""
    found: list[_Line] = []
    for number, raw in enumerate(text.splitlines(), 1):
        bare = _without_comment(raw).rstrip()
        if not bare.strip() or (bare == "---" and not found):
            continue
        if bare in ("---", "...") or bare.startswith("--- "):
            raise YamlError(f"line {number}: more than one document")
        indent = len(bare) - len(bare.lstrip(" "))
        if bare[indent] == "\t":
            raise YamlError(f"line {number}: indented with a tab")
        found.append(_Line(number, indent, bare[indent:]))
    return found


def _without_comment(line: str) -> str:
    quote = ""
    at = 0
    while at < len(line):
        letter = line[at]
        if quote:
            if letter == "\\" and quote == '"':
                at += 1
            elif letter == quote:
                quote = ""
        elif letter in "\"'" and (at == 0 or line[at - 1] in " \t[{,:"):
            quote = letter
        elif letter == "#" and (at == 0 or line[at - 1] in " \t"):
            return line[:at]
        at += 1
    return line


def _block(lines: list[_Line], indent: int, depth: int) -> tuple[Any, list[_Line]]:
    """The value that begins with the first line, and the lines behind it."""
    if depth > _DEPTH:
        raise YamlError(f"line {lines[0].number}: nested too deeply")
    first = lines[0]
    if first.text == "-" or first.text.startswith("- "):
        return _sequence(lines, indent, depth)
    if _KEY.match(first.text):
        return _mapping(lines, indent, depth)
    return _scalar(first.text, first.number), lines[1:]


def _sequence(lines: list[_Line], indent: int, depth: int) -> tuple[list[Any], list[_Line]]:
    found: list[Any] = []
    while lines and lines[0].indent == indent and (lines[0].text == "-" or lines[0].text.startswith("- ")):
        first = lines[0]
        rest = first.text[1:].lstrip(" ")
        if not rest:
            value, lines = _below(lines, indent, depth)
        else:  # what follows the dash is a line of its own, further in
            inner = _Line(first.number, indent + len(first.text) - len(rest), rest)
            value, lines = _block([inner, *lines[1:]], inner.indent, depth + 1)
        found.append(value)
    return found, _at_end(lines, indent)


def _mapping(lines: list[_Line], indent: int, depth: int) -> tuple[dict[str, Any], list[_Line]]:
    found: dict[str, Any] = {}
    while lines and lines[0].indent == indent and (match := _KEY.match(lines[0].text)):
        first = lines[0]
        key = match[1]
        name = _quoted(key, first.number) if key[0] in "\"'" else key
        if name in found:
            raise YamlError(f"line {first.number}: {name} is there twice")
        rest = first.text[match.end() :].strip()
        if rest:
            found[name], lines = _scalar(rest, first.number), lines[1:]
        else:
            found[name], lines = _below(lines, indent, depth)
    return found, _at_end(lines, indent)


def _below(lines: list[_Line], indent: int, depth: int) -> tuple[Any, list[_Line]]:
    """The value of a key or dash that has nothing behind it: further in, or a sequence below its key, or null."""
    first, rest = lines[0], lines[1:]
    is_key = not (first.text == "-" or first.text.startswith("- "))
    if rest and rest[0].indent > indent:
        return _block(rest, rest[0].indent, depth + 1)
    if is_key and rest and rest[0].indent == indent and (rest[0].text == "-" or rest[0].text.startswith("- ")):
        return _sequence(rest, indent, depth + 1)
    return None, rest


def _at_end(lines: list[_Line], indent: int) -> list[_Line]:
    if lines and lines[0].indent > indent:
        raise YamlError(f"line {lines[0].number}: unexpected indentation")
    return lines


def _scalar(text: str, number: int) -> Any:
    """A scalar or a flow collection that fills its line."""
    if text[0] in "[{\"'":
        value, rest = _flow(text, number, 0)
        if rest.strip():
            raise YamlError(f"line {number}: unexpected {rest.strip()!r}")
        return value
    return _plain(text, number)


def _flow(text: str, number: int, depth: int) -> tuple[Any, str]:
    """A value inside of brackets, and what is behind it."""
    text = text.lstrip()
    if not text or depth > _DEPTH:
        raise YamlError(f"line {number}: {'nested too deeply' if text else 'a collection without an end'}")
    if text[0] == "[":
        return _flow_list(text[1:], number, depth)
    if text[0] == "{":
        return _flow_map(text[1:], number, depth)
    if text[0] in "\"'":
        match = re.match(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')""", text)
        if match is None:
            raise YamlError(f"line {number}: a quote without an end")
        return _quoted(match[1], number), text[match.end() :]
    match = re.match(r"(?:[^,\[\]{}:]|:(?!\s|\Z))*", text)
    assert match is not None  # it matches nothing at the least
    return _plain(match[0].strip(), number), text[match.end() :]


def _flow_list(text: str, number: int, depth: int) -> tuple[list[Any], str]:
    found: list[Any] = []
    while True:
        text = text.lstrip()
        if text.startswith("]"):
            return found, text[1:]
        value, text = _flow(text, number, depth + 1)
        found.append(value)
        text = _separated(text, "]", number)


def _flow_map(text: str, number: int, depth: int) -> tuple[dict[str, Any], str]:
    found: dict[str, Any] = {}
    while True:
        text = text.lstrip()
        if text.startswith("}"):
            return found, text[1:]
        key, text = _flow(text, number, depth + 1)
        text = text.lstrip()
        if not isinstance(key, str) or not text.startswith(":"):
            raise YamlError(f"line {number}: a key and a colon are expected")
        if key in found:
            raise YamlError(f"line {number}: {key} is there twice")
        found[key], text = _flow(text[1:], number, depth + 1)
        text = _separated(text, "}", number)


def _separated(text: str, end: str, number: int) -> str:
    text = text.lstrip()
    if text.startswith(","):
        return text[1:]
    if text.startswith(end):
        return text
    raise YamlError(f"line {number}: a comma or {end} is expected")


def _plain(text: str, number: int) -> Any:
    if text[:1] and text[0] in _REFUSED:
        raise YamlError(f"line {number}: {text[0]!r} is not supported in this file")
    if ": " in text or text.endswith(":"):
        raise YamlError(f"line {number}: a mapping is not allowed here")
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.match(text):
        return int(text)
    if _OCTAL.match(text):
        return int(text.replace("o", ""), 8)
    if _HEX.match(text):
        return int(text, 16)
    return float(text) if _FLOAT.match(text) else text


def _quoted(text: str, number: int) -> str:
    if text[0] == "'":
        if len(text) < 2 or not text.endswith("'"):
            raise YamlError(f"line {number}: a quote without an end")
        return text[1:-1].replace("''", "'")
    plain = re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1]) or match[0], text)
    plain = re.sub(r"\\x([0-9a-fA-F]{2})", r"\\u00\1", plain)
    try:
        return str(json.loads(plain, strict=False))
    except ValueError as error:
        raise YamlError(f"line {number}: {text} cannot be read") from error
