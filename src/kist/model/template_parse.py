"""Go templates, parsed: text and actions into a small tree, with Go's words for what is wrong (text/template/parse)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from kist.model.errors import KistError

_SPACE = " \t\r\n"
_TOKEN = re.compile(
    r'(?P<space>[ \t\r\n]+)|(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<raw>`[^`]*`)|(?P<char>\'(?:[^\'\\\n]|\\.)+\')'
    r"|(?P<declare>:=)|(?P<sign>[|(),=])|(?P<variable>\$\w*)|(?P<field>\.[A-Za-z_]\w*)"
    r"|(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.]))"
    r"|(?P<dot>\.)|(?P<word>[A-Za-z_]\w*)|(?P<other>[!#%&*;<>?@\[\]^_{~/\\-])",
    re.ASCII,
)
_OPERANDS = frozenset({"word", "dot", "variable", "field", "number", "string", "raw", "char"})
_KEYWORDS = frozenset({"if", "range", "with", "end", "else", "define", "template", "block", "break", "continue"})
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"'}


class TemplateError(KistError):
    """A template that cannot be parsed or carried out; the exit status of the command."""

    status = 1


class Token(NamedTuple):
    """`kind` is a group of _TOKEN, or text, left, right, comment, end."""

    kind: str
    text: str
    at: int


class Node(NamedTuple):
    """One node. `kind` says what `value` holds; `text` is how Go prints the node in errors; `at` its offset.

    Operands: dot, nil, value, word (a function), field ([names]), variable ((name, [names])), chain ((pipe, [names])),
    pipe. command ([operands]); pipe ((names, declares, [commands])).
    Statements: text, action (pipe), if/with/range ((pipe, body, otherwise)), break, continue, template ((name, pipe)).
    """

    kind: str
    value: Any
    text: str
    at: int


Tree = list[Node]


def parse(source: str, functions: frozenset[str]) -> tuple[Tree, dict[str, Tree]]:
    """(the template, those it defines by name). Raises TemplateError."""
    parser = _Parser(source, functions)
    return parser.whole(), parser.defined


def _tokens(source: str, fail: Any) -> Iterator[Token]:
    at, trim = 0, False
    while True:
        start = source.find("{{", at)
        text = source[at:] if start < 0 else source[at:start]
        shown = text.lstrip(_SPACE) if trim else text
        if start >= 0 and source[start + 2 : start + 4] in _MINUS:
            shown = shown.rstrip(_SPACE)
        if shown:
            yield Token("text", shown, at)
        if start < 0:
            yield Token("end", "EOF", len(source))
            return
        at = start + 2
        if source[at : at + 2] in _MINUS:
            at += 2
        if source.startswith("/*", at):
            at, trim = _comment(source, at, fail)
            continue
        yield Token("left", "{{", start)
        for token in _inside(source, at, fail):
            if token.kind == "right":
                at, trim = token.at + len(token.text), token.text.startswith("-")
                yield token
                break
            yield token


_MINUS = frozenset({"- ", "-\t", "-\r", "-\n"})


def _comment(source: str, at: int, fail: Any) -> tuple[int, bool]:
    end = source.find("*/", at + 2)
    if end < 0:
        fail("unclosed comment", at)
    closing = re.compile(r"([ \t\r\n]-)?\}\}").match(source, end + 2)
    if closing is None:
        fail("comment ends before closing delimiter", at)
        raise AssertionError
    return closing.end(), bool(closing[1])


def _inside(source: str, at: int, fail: Any) -> Iterator[Token]:
    depth = 0
    while True:
        closing = re.compile(r"[ \t\r\n]-\}\}|\}\}").match(source, at)
        if closing is not None:
            if depth:
                fail("unclosed left paren", at)
            minus = len(closing[0]) == 4
            yield Token("right", closing[0][1:] if minus else closing[0], at + minus)
            return
        if at >= len(source):
            fail("unclosed action", at)
        match = _TOKEN.match(source, at)
        if match is None:
            _unreadable(source, at, fail)
            raise AssertionError
        kind, text = str(match.lastgroup), match[0]
        depth += {"(": 1, ")": -1}.get(text, 0) if kind == "sign" else 0
        if depth < 0:
            fail("unexpected right paren", at)
        following = "" if source.startswith("}}", match.end()) else source[match.end() : match.end() + 1]
        if kind in ("field", "variable", "word") and following.strip(" \t\r\n.,|:()="):
            fail(f"bad character {_rune(following)}", at)
        yield Token(kind, text, at)
        at = match.end()


def _rune(character: str) -> str:
    return f"U+{ord(character):04X} '{character}'"


def _unreadable(source: str, at: int, fail: Any) -> None:
    character = source[at]
    if character == '"':
        fail("unterminated quoted string", at)
    if character == "`":
        fail("unterminated raw quoted string", at)
    if character == "'":
        fail("unterminated character constant", at)
    if character == ":":
        fail("expected :=", at)
    number = re.compile(r"[+-]?[\d.][\w.]*").match(source, at)
    if number is not None and number[0].strip("+-."):
        fail(f'bad number syntax: "{number[0]}"', at)
    fail(f"unrecognized character in action: {_rune(character)}", at)


class _Parser:
    def __init__(self, source: str, functions: frozenset[str]) -> None:
        self._source, self._functions = source, functions
        self._variables = ["$"]
        self._loops = 0
        self.defined: dict[str, Tree] = {}
        self._next: Token | None = None
        self._stream = _tokens(source, self._fail)
        self._returned: list[Token] = []  # taken from the stream and put back

    def _fail(self, text: str, at: int | None = None) -> None:
        if at is None:
            at = self._next.at if self._next is not None else len(self._source)
        line = 1 + self._source.count("\n", 0, at)
        raise TemplateError(f"template parsing error: template: :{line}: {text}")

    # --- tokens ---

    def _peek(self) -> Token:
        if self._next is None:
            self._next = self._returned.pop(0) if self._returned else next(self._stream)
        return self._next

    def _take(self) -> Token:
        token, self._next = self._peek(), None
        return token

    def _skip_space(self) -> Token:
        while self._peek().kind == "space":
            self._take()
        return self._peek()

    def _expect_right(self, where: str) -> None:
        token = self._skip_space()
        if token.kind != "right":
            self._unexpected(token, where)
        self._take()

    def _unexpected(self, token: Token, where: str) -> None:
        shown = {"end": "EOF", "right": '"}}"'}.get(token.kind) or (
            f"<{token.text}>" if token.text in _KEYWORDS or token.kind == "dot" else f'"{token.text}"')  # fmt: skip
        if token.kind in ("string", "raw"):
            shown = json.dumps(token.text, ensure_ascii=False)
        self._fail(f"unexpected {shown} in {where}", token.at)

    # --- statements ---

    def whole(self) -> Tree:
        nodes, end, token = self._list()
        if end:
            self._fail(f"unexpected {{{{{end}}}}}", token.at)
        return nodes

    def _list(self) -> tuple[Tree, str, Token]:
        """(nodes, the keyword that ended them or "", its token)."""
        nodes: Tree = []
        while True:
            token = self._take()
            if token.kind == "end":
                return nodes, "", token
            if token.kind == "text":
                nodes.append(Node("text", token.text, "", token.at))
                continue
            word = self._skip_space()
            if word.kind == "word" and word.text in _KEYWORDS:
                self._take()
                if word.text in ("end", "else"):
                    return nodes, word.text, word
                nodes += self._statement(word)
            else:
                pipe = self._pipeline("command", "right")
                nodes.append(Node("action", pipe, "", pipe.at))

    def _statement(self, word: Token) -> list[Node]:
        if word.text in ("if", "with", "range"):
            return [self._control(word)]
        if word.text in ("break", "continue"):
            self._expect_right("{{" + word.text + "}}")
            if not self._loops:
                self._fail("{{" + word.text + "}} outside {{range}}", word.at)
            return [Node(word.text, None, word.text, word.at)]
        name = self._name(word)
        if word.text == "template":
            pipe = None
            if self._skip_space().kind == "right":
                self._take()
            else:
                pipe = self._pipeline("template clause", "right")
            return [Node("template", (name, pipe), f'template "{name}"', word.at)]
        if word.text == "block":
            pipe = self._pipeline("block clause", "right")
            self._define(name)
            return [Node("template", (name, pipe), f'template "{name}"', word.at)]
        self._expect_right("define clause")
        self._define(name)
        return []

    def _name(self, word: Token) -> str:
        token = self._skip_space()
        if token.kind not in ("string", "raw"):
            self._unexpected(token, f"{word.text} clause")
        self._take()
        return self._unquote(token)

    def _define(self, name: str) -> None:
        outer, self._variables, loops, self._loops = self._variables, ["$"], self._loops, 0
        nodes, end, token = self._list()
        self._variables, self._loops = outer, loops
        if not end:
            self._fail("unexpected EOF", token.at)
        if end != "end":
            self._fail("unexpected {{else}} in define clause", token.at)
        self._expect_right("end")
        self.defined[name] = nodes

    def _control(self, word: Token) -> Node:
        height = len(self._variables)
        pipe = self._pipeline(word.text, "right")
        self._loops += word.text == "range"
        body, end, token = self._list()
        self._loops -= word.text == "range"
        otherwise: Tree = []
        if end == "else":
            following = self._skip_space()
            if following.kind == "word" and following.text == word.text and word.text in ("if", "with"):
                otherwise = [self._control(self._take())]
                del self._variables[height:]
                return Node(word.text, (pipe, body, otherwise), word.text, word.at)
            self._expect_right("else")
            otherwise, end, token = self._list()
            if end == "else":
                self._fail("expected end; found {{else}}", token.at)
        if not end:
            self._fail("unexpected EOF", token.at)
        self._expect_right("end")
        del self._variables[height:]
        return Node(word.text, (pipe, body, otherwise), word.text, word.at)

    # --- pipelines ---

    def _pipeline(self, where: str, closing: str) -> Node:
        start = self._skip_space().at
        names, declares = self._declarations(where)
        commands: list[Node] = []
        while True:
            token = self._skip_space()
            if token.kind == closing or (closing == ")" and token.text == ")" and token.kind == "sign"):
                self._check_pipeline(commands, where, token)
                self._take()
                break
            if token.kind in ("end", "declare", "other") or (token.kind == "sign" and token.text != "(") or (
                token.kind == "word" and token.text in _KEYWORDS):  # fmt: skip
                self._unexpected(token, where)
            commands.append(self._command())
        shown = " | ".join(command.text for command in commands)
        if names:
            shown = f"{', '.join(names)} {':=' if declares else '='} {shown}"
        if declares:
            self._variables += names
        return Node("pipe", (names, declares, commands), shown, start)

    def _declarations(self, where: str) -> tuple[list[str], bool]:
        """The variables before `:=` or `=`; what was read ahead in vain is put back."""
        read: list[Token] = []
        names: list[str] = []
        while self._peek().kind == "variable":
            name = self._take()
            read.append(name)
            while self._peek().kind == "space":
                read.append(self._take())
            sign = self._peek()
            if sign.kind == "declare" or (sign.kind == "sign" and sign.text == "="):
                self._take()
                return [*names, name.text], sign.kind == "declare"
            if sign.kind == "sign" and sign.text == "," and where == "range" and not names:
                names.append(name.text)
                read.append(self._take())
                while self._peek().kind == "space":
                    read.append(self._take())
                continue
            if sign.kind == "sign" and sign.text == ",":
                self._fail(f"too many declarations in {where}", sign.at)
            break
        self._put_back(read)
        return [], False

    def _put_back(self, read: list[Token]) -> None:
        self._returned[:0] = read if self._next is None else [*read, self._next]
        self._next = None

    def _check_pipeline(self, commands: list[Node], where: str, token: Token) -> None:
        if not commands:
            self._fail(f"missing value for {where}", token.at)
        for number, command in enumerate(commands[1:], 2):
            if command.value[0].kind in ("value", "dot", "nil"):
                self._fail(f"non executable command in pipeline stage {number}", token.at)

    def _command(self) -> Node:
        start = self._skip_space().at
        operands: list[Node] = []
        while True:
            token = self._skip_space()
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            following = self._peek()
            if following.kind == "space" and operand is not None:
                self._take()
                continue
            if following.kind == "right" or (following.kind == "sign" and following.text == ")"):
                break
            if following.kind == "sign" and following.text == "|":
                self._take()
                after = self._skip_space()
                if after.kind == "sign" and after.text == "|":
                    self._unexpected(after, "operand")
                break
            self._unexpected(following if operand is not None or following.kind != "space" else token, "operand")
        if not operands:
            self._fail("empty command")
        return Node("command", operands, " ".join(_shown(one) for one in operands), start)

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None or self._peek().kind != "field":
            return node
        names, at, text = [], self._peek().at, _shown(node)
        while self._peek().kind == "field":
            token = self._take()
            names.append(token.text[1:])
            text += token.text
        if node.kind == "field":
            return Node("field", [*node.value, *names], text, at)
        if node.kind == "variable":
            return Node("variable", (node.value[0], names), text, at)
        if node.kind in ("value", "nil", "dot", "word"):
            self._fail(f"unexpected . after term {_quoted(node.text)}", at)
        return Node("chain", (node, names), text, at)

    def _term(self) -> Node | None:
        token = self._peek()
        if token.kind == "word" and token.text in _KEYWORDS:
            return None
        if token.kind not in _OPERANDS and token.text != "(":
            return None
        self._take()
        if token.text == "(" and token.kind == "sign":
            return self._pipeline("parenthesized pipeline", ")")
        if token.kind == "word":
            return self._word(token)
        if token.kind == "dot":
            return Node("dot", None, ".", token.at)
        if token.kind == "variable":
            if token.text not in self._variables:
                self._fail(f'undefined variable "{token.text}"', token.at)
            return Node("variable", (token.text, []), token.text, token.at)
        if token.kind == "field":
            return Node("field", [token.text[1:]], token.text, token.at)
        if token.kind == "number":
            return Node("value", _number(token.text), token.text, token.at)
        if token.kind == "char":
            return Node("value", ord(self._unquote(token)[:1]), token.text, token.at)
        return Node("value", self._unquote(token), token.text, token.at)

    def _word(self, token: Token) -> Node:
        if token.text in ("true", "false"):
            return Node("value", token.text == "true", token.text, token.at)
        if token.text == "nil":
            return Node("nil", None, "nil", token.at)
        if token.text not in self._functions:
            self._fail(f'function "{token.text}" not defined', token.at)
        return Node("word", token.text, token.text, token.at)

    def _unquote(self, token: Token) -> str:
        if token.kind == "raw":
            return token.text[1:-1]

        def one(match: re.Match[str]) -> str:
            if match[2]:
                return chr(int(match[2][1:], 16))
            if match[3]:
                return chr(int(match[3], 8))
            if match[4] not in _ESCAPES:
                self._fail("invalid syntax", token.at)
            return _ESCAPES[match[4]]

        pattern = r"(\\(?:(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})|([0-7]{3})|(.)))"
        return re.sub(pattern, one, token.text[1:-1])


def _shown(node: Node) -> str:
    return f"({node.text})" if node.kind == "pipe" else node.text


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _number(text: str) -> int | float:
    plain = text.replace("_", "")
    try:
        return int(plain, 0)
    except ValueError:
        digits = plain.lstrip("+-")
        if digits.isdigit():  # an old octal number
            return int(plain, 8) if digits.startswith("0") and not set(digits) & {"8", "9"} else int(plain)
        return float(plain)
