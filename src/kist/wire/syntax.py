"""What is wrong with a text that is no JSON, in the words of Go's encoding/json, which clients of Docker know."""

from __future__ import annotations

import json

CUT = "unexpected EOF"
_LITERALS = {"t": "true", "f": "false", "n": "null"}
_HEX = frozenset("0123456789abcdefABCDEF")


def explain(text: str, error: json.JSONDecodeError) -> str:
    """`invalid character 'x' looking for beginning of value`, or that the text ends too early."""
    kind = error.msg
    place = error.pos
    if kind.startswith("Illegal trailing comma"):  # Python 3.13 and newer point at the comma
        place, kind = place + 1, "Expecting property name" if "object" in kind else "Expecting value"
    while place < len(text) and text[place] in " \t\r\n" and not kind.startswith("Invalid control"):
        place += 1
    if place >= len(text) or kind.startswith("Unterminated string"):
        return CUT
    if kind.startswith("Invalid \\uXXXX"):
        return _hexadecimal(text, place + 1)
    if kind.startswith("Invalid \\escape"):
        return _wrong(text, place + 1, "in string escape code")
    if kind.startswith("Expecting value"):
        return _value(text, place)
    return _wrong(text, place, _where(kind, text, place))


def _where(kind: str, text: str, place: int) -> str:
    if kind.startswith("Invalid control character"):
        return "in string literal"
    if kind.startswith("Expecting property name"):
        return "looking for beginning of object key string"
    if kind.startswith("Expecting ':'"):
        return "after object key"
    return "after object key:value pair" if _innermost(text[:place]) == "{" else "after array element"


def _value(text: str, place: int) -> str:
    word = _LITERALS.get(text[place], "")
    for offset, expected in enumerate(word):
        at = place + offset
        if text[at : at + 1] != expected:
            return _wrong(text, at, f"in literal {word} (expecting '{expected}')")
    if text[place] == "-":
        return _wrong(text, place + 1, "in numeric literal")
    return _wrong(text, place, "looking for beginning of value")


def _hexadecimal(text: str, place: int) -> str:
    while text[place : place + 1] in _HEX:
        place += 1
    return _wrong(text, place, "in \\u hexadecimal character escape")


def _wrong(text: str, place: int, where: str) -> str:
    return f"invalid character {_quoted(text[place])} {where}" if place < len(text) else CUT


def _quoted(character: str) -> str:
    """A character as Go quotes it; Go looks at bytes, so of a longer one the first byte is shown."""
    if character == "'":
        return "'\\''"
    byte = chr(character.encode("utf-8", "replace")[0])
    return f"'{byte}'" if byte.isprintable() else repr(byte)


def _innermost(text: str) -> str:
    """The bracket that is open at the end of a text which is JSON so far."""
    brackets: list[str] = []
    inside = escaped = False
    for character in text:
        if inside:
            inside = escaped or character != '"'
            escaped = not escaped and character == "\\"
        elif character == '"':
            inside = True
        elif character in "{[":
            brackets.append(character)
        elif character in "}]":
            brackets.pop()
    return brackets[-1] if brackets else ""
