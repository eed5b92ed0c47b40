"""Go templates as `--format` uses them (text/template): fields, pipelines, if, range, with, variables, functions.

A template is parsed into a small tree and carried out on plain JSON values. Fields are found as in Go: by their exact
name; a missing key of a map is `<no value>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from kist.model.errors import KistError

_ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r'\s*("(?:[^"\\]|\\.)*"|`[^`]*`|\'(?:[^\'\\]|\\.)*\'|:=|[|(),=]|\$[\w]*(?:\.[\w]+)*|(?:\.[\w]+)+|\.|-?\d+(?:\.\d+)?|[\w]+)'
)


class TemplateError(KistError):
    """A template that cannot be parsed or carried out."""


class _Missing:
    """Go's zero reflect.Value of a missing key."""


MISSING = _Missing()


def _join(values: Any, separator: str = "") -> str:
    return separator.join(text(value) for value in values or ())


def _table_title(value: str) -> str:
    return value.title()


def _json(value: Any) -> str:
    return json.dumps(None if value is MISSING else value, separators=(",", ":"), ensure_ascii=False)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, MISSING)
        else:
            try:
                value = value[int(key)]
            except (IndexError, TypeError) as error:
                raise TemplateError(f"error calling index: index out of range: {key}") from error
    return value


def _printf(pattern: str, *values: Any) -> str:
    """The verbs that formats use: %s %v %d %q %t %x %f and widths."""
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        if match[2] == "%":
            return "%"
        value = rest.pop(0) if rest else ""
        shown: Any = text(value)
        if match[2] == "q":
            shown = json.dumps(shown, ensure_ascii=False)
        elif match[2] in "dxofeg":
            return str(("%" + match[1] + match[2]) % value)
        return str(("%" + match[1] + "s") % shown)

    return re.sub(r"%([-+ 0#]*\d*(?:\.\d+)?)([a-zA-Z%])", one, pattern)


def _compare(check: Callable[[Any, Any], bool]) -> Callable[..., bool]:
    return lambda left, *rights: any(check(left, right) for right in rights)


def _truncate(value: str, length: int) -> str:
    return value[:length]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": _json,
    "join": _join,
    "index": _index,
    "len": lambda value: len(value or ()),
    "upper": lambda value: text(value).upper(),
    "lower": lambda value: text(value).lower(),
    "title": _table_title,
    "split": lambda value, separator: text(value).split(separator),
    "println": lambda *values: " ".join(map(text, values)) + "\n",
    "print": lambda *values: "".join(map(text, values)),
    "printf": _printf,
    "pad": lambda value, before, after: " " * before + value + " " * after if value else value,
    "truncate": _truncate,
    "html": lambda value: text(value),  # noqa: PLW0108  text is defined below
    "eq": _compare(lambda left, right: bool(left == right)),
    "ne": lambda left, right: left != right,
    "lt": lambda left, right: left < right,
    "le": lambda left, right: left <= right,
    "gt": lambda left, right: left > right,
    "ge": lambda left, right: left >= right,
    "not": lambda value: not truth(value),
    "and": lambda *values: next((value for value in values if not truth(value)), values[-1]),
    "or": lambda *values: next((value for value in values if truth(value)), values[-1]),
}


def truth(value: Any) -> bool:
    return value is not MISSING and bool(value)


def text(value: Any) -> str:
    """How Go prints a value: maps as map[a:b], lists as [a b], null as <no value>."""
    if value is MISSING:
        return "<no value>"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{text(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(text(item) for item in value) + "]"
    return str(value)


Node = tuple[str, Any]


class Template:
    """A parsed template. Raises TemplateError with Go's words."""

    def __init__(self, source: str) -> None:
        self._tokens = list(_pieces(source))
        self._position = 0
        self._nodes, ended = self._block(())
        if ended:
            raise TemplateError(f"template parsing error: template: :1: unexpected {{{{{ended}}}}}")

    def render(self, value: Any) -> str:
        out: list[str] = []
        _run(self._nodes, value, {"$": value}, out)
        return "".join(out)

    def _block(self, ends: tuple[str, ...]) -> tuple[list[Node], str]:
        nodes: list[Node] = []
        while self._position < len(self._tokens):
            kind, content = self._tokens[self._position]
            self._position += 1
            if kind == "text":
                nodes.append(("text", content))
                continue
            word, _, rest = content.partition(" ")
            if word in ("end", "else") and (ends or word == "end"):
                return nodes, content
            if word in ("if", "range", "with"):
                nodes.append((word, self._control(word, rest)))
            elif content.startswith("/*"):
                continue
            elif content:
                nodes.append(("action", _parse_pipeline(content)))
            else:
                raise TemplateError("template parsing error: template: :1: missing value for command")
        if ends:
            raise TemplateError("template parsing error: template: :1: unexpected EOF")
        return nodes, ""

    def _control(self, word: str, condition: str) -> tuple[Any, list[Node], list[Node]]:
        body, ended = self._block(("end", "else"))
        otherwise: list[Node] = []
        if ended.startswith("else if "):
            otherwise = [("if", self._control("if", ended[8:]))]
        elif ended == "else":
            otherwise, ended = self._block(("end",))
        return _parse_pipeline(condition), body, otherwise


def _pieces(source: str) -> Iterator[tuple[str, str]]:
    position, trim = 0, False
    for match in _ACTION.finditer(source):
        literal = source[position : match.start()]
        if trim:
            literal = literal.lstrip()
        if match[1]:
            literal = literal.rstrip()
        if literal:
            yield "text", literal
        yield "action", match[2]
        position, trim = match.end(), bool(match[3])
    literal = source[position:]
    if "{{" in literal:
        raise TemplateError("template parsing error: template: :1: unclosed action")
    if trim:
        literal = literal.lstrip()
    if literal:
        yield "text", literal


def _parse_pipeline(source: str) -> list[Any]:
    """[variables, command, command, …]; a command is a list of operands."""
    words, position = [], 0
    while position < len(source.rstrip()):
        match = _TOKEN.match(source, position)
        if match is None:
            raise TemplateError(
                f"template parsing error: template: :1: unexpected {source[position:].strip()[:1]!r} in command"
            )
        words.append(match[1])
        position = match.end()
    variables: list[str] = []
    for sign in (":=", "="):
        if sign in words:
            at = words.index(sign)
            variables = [word[1:] for word in words[:at] if word != ","]
            words = words[at + 1 :]
            break
    commands, rest = _commands(words)
    if rest:
        raise TemplateError("template parsing error: template: :1: unexpected right paren")
    return [variables, *commands]


def _commands(words: list[str]) -> tuple[list[list[Any]], list[str]]:
    commands: list[list[Any]] = [[]]
    while words:
        word = words.pop(0)
        if word == "|":
            commands.append([])
        elif word == ")":
            return commands, [*words, ")"]
        elif word == "(":
            inner, words = _commands(words)
            if not words or words.pop() != ")":
                raise TemplateError("template parsing error: template: :1: unclosed left paren")
            commands[-1].append(("pipeline", [[], *inner]))
        else:
            commands[-1].append(_operand(word))
    if not commands[-1]:
        raise TemplateError("template parsing error: template: :1: missing value for command")
    return commands, []


def _operand(word: str) -> Any:
    if word[0] == '"':
        return ("value", json.loads(word))
    if word[0] in "`'":
        return ("value", word[1:-1])
    if word == ".":
        return ("field", [])
    if word[0] == ".":
        return ("field", word[1:].split("."))
    if word[0] == "$":
        name, *fields = word[1:].split(".")
        return ("variable", (name, fields))
    if word.lstrip("-").isdigit():
        return ("value", int(word))
    if word in ("true", "false", "nil"):
        return ("value", {"true": True, "false": False, "nil": None}[word])
    if word not in FUNCTIONS:
        raise TemplateError(f'template parsing error: template: :1: function "{word}" not defined')
    return ("function", word)


def _fields(value: Any, names: list[str]) -> Any:
    for name in names:
        if value is MISSING or value is None:
            return MISSING
        if not isinstance(value, dict):
            raise TemplateError(f"template: :1: can't evaluate field {name} in type {type(value).__name__}")
        value = value.get(name, MISSING)
    return value


def _evaluate(operand: Any, dot: Any, variables: dict[str, Any], arguments: list[Any]) -> Any:
    kind, content = operand
    if kind == "value":
        return content
    if kind == "field":
        return _fields(dot, content)
    if kind == "variable":
        name, fields = content
        return _fields(variables.get(name or "$", variables.get("$")), fields)
    if kind == "pipeline":
        return _pipeline(content, dot, variables)
    try:
        return FUNCTIONS[content](*arguments)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise TemplateError(f"template: :1: error calling {content}: {error}") from error


def _pipeline(pipeline: list[Any], dot: Any, variables: dict[str, Any]) -> Any:
    result: Any = None
    for number, command in enumerate(pipeline[1:]):
        first, *others = command
        arguments = [_evaluate(one, dot, variables, []) for one in others]
        if number:
            arguments.append(result)
        result = _evaluate(first, dot, variables, arguments)
    return result


def _run(nodes: list[Node], dot: Any, variables: dict[str, Any], out: list[str]) -> None:
    for kind, content in nodes:
        if kind == "text":
            out.append(content)
        elif kind == "action":
            value = _pipeline(content, dot, variables)
            if content[0]:
                variables[content[0][0]] = value
            else:
                out.append(text(value))
        elif kind == "range":
            _range(content, dot, variables, out)
        else:
            pipeline, body, otherwise = content
            value = _pipeline(pipeline, dot, variables)
            inner = {**variables, **({pipeline[0][0]: value} if pipeline[0] else {})}
            if truth(value):
                _run(body, value if kind == "with" else dot, inner, out)
            else:
                _run(otherwise, dot, inner, out)


def _range(content: Any, dot: Any, variables: dict[str, Any], out: list[str]) -> None:
    pipeline, body, otherwise = content
    value = _pipeline(pipeline, dot, variables)
    if not truth(value):
        _run(otherwise, dot, variables, out)
        return
    pairs = sorted(value.items()) if isinstance(value, dict) else list(enumerate(value))
    names = pipeline[0]
    for key, item in pairs:
        inner = dict(variables)
        if len(names) == 2:
            inner[names[0]], inner[names[1]] = key, item
        elif names:
            inner[names[0]] = item
        _run(body, item, inner, out)


def unescape(source: str) -> str:
    """`\\t` and `\\n` of a --format given in a shell."""
    return source.replace("\\t", "\t").replace("\\n", "\n")
