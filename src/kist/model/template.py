"""Go templates as `--format` uses them (text/template), carried out on plain JSON values.

Fields are found as in Go: a Struct has the fields it has, a map of JSON anything. What is wrong is told in Go's words
with the place and the node. Parsing is in template_parse, functions are in template_functions, printing is in goformat.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from kist.model.goformat import MISSING, Map, Named, Struct, kind_of, quoted, text
from kist.model.template_functions import FUNCTIONS, OVER_TITLES, Function, FunctionError, truth
from kist.model.template_parse import Node, TemplateError, Tree, parse

__all__ = ["MISSING", "Struct", "Template", "TemplateError", "parsed", "unescape"]

_NAMES = frozenset(FUNCTIONS)
_DEPTH = 200  # templates that call each other; Go says it at 100000


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


_TOO_DEEP = ":1: the template is nested too deeply"


class Template:
    """A parsed template. Raises TemplateError with Go's words."""

    def __init__(self, source: str, *, name: str = "", prefix: str = "template parsing error: ") -> None:
        self._source, self.name, self.prefix = source, name, prefix
        self.so_far = ""  # what came before an error
        try:
            self.nodes, self.defined = parse(source, _NAMES)
        except TemplateError as error:
            told = error.message.removeprefix("template parsing error: template: ")
            raise TemplateError(f"{prefix}template: {name}{told}") from None
        except RecursionError:
            raise TemplateError(f"{prefix}template: {name}{_TOO_DEEP}") from None

    def render(self, value: Any, *, strict: bool = False, titles: bool = False) -> str:
        """`strict`: a key that a map has not is an error. `titles`: a table's head, where functions change nothing.

        Raises TemplateError.
        """
        run = _Run(self, value, strict=strict, titles=titles)
        try:
            run.walk(self.nodes, value)
        except TemplateError:
            self.so_far = "".join(run.out)
            if not titles:
                raise
        except RecursionError:
            raise TemplateError(f"template: {self.name}{_TOO_DEEP}") from None
        except (OverflowError, MemoryError):
            raise TemplateError(f"template: {self.name}:1: a number is too large for what is done with it") from None
        return "".join(run.out)

    def error(self, node: Node, told: str, shown: str = "") -> TemplateError:
        """An error at a node, as Go tells it."""
        before = self._source[: node.at]
        line, column = 1 + before.count("\n"), len(before.rpartition("\n")[2].encode())
        place = f'{self.name}:{line}:{column}: executing "{self.name}" at <{shown or node.text}>'
        return TemplateError(f"{self.prefix}template: {place}: {told}")


def parsed(source: str, *, name: str = "", prefix: str = "template parsing error: ") -> Template:
    """A template where one that cannot be parsed is a wrong command line: status 64. Raises TemplateError."""
    try:
        return Template(source, name=name, prefix=prefix)
    except TemplateError as error:
        error.status = 64
        raise


class _Run:
    def __init__(self, template: Template, value: Any, *, strict: bool, titles: bool) -> None:
        self._template, self._strict, self._titles = template, strict, titles
        self._bare = strict and not isinstance(value, Struct)  # JSON itself, where null is nothing
        self._variables: list[list[Any]] = [["$", value]]
        self._depth = 0
        self.out: list[str] = []

    # --- statements ---

    def walk(self, nodes: Tree, dot: Any) -> None:
        for node in nodes:
            if node.kind == "text":
                self.out.append(node.value)
            elif node.kind == "action":
                value = self._pipe(node.value, dot)
                if not node.value.value[0]:
                    self.out.append("<no value>" if value is None and self._bare else text(value))
            elif node.kind == "range":
                self._range(node, dot)
            elif node.kind == "template":
                self._call_template(node, dot)
            elif node.kind == "break":
                raise _Break
            elif node.kind == "continue":
                raise _Continue
            else:
                self._branch(node, dot)

    def _branch(self, node: Node, dot: Any) -> None:
        pipe, body, otherwise = node.value
        height = len(self._variables)
        value = self._pipe(pipe, dot)
        if truth(value):
            self.walk(body, value if node.kind == "with" else dot)
        else:
            self.walk(otherwise, dot)
        del self._variables[height:]

    def _range(self, node: Node, dot: Any) -> None:
        pipe, body, otherwise = node.value
        names, declares, _ = pipe.value
        height = len(self._variables)
        value = self._pipe(pipe, dot, assign=False)
        pairs = self._pairs(value, pipe)
        try:
            for key, item in pairs:
                given = dict(zip(names, (key, item) if len(names) == 2 else (item,), strict=False))
                for name, one in given.items():
                    self._set(name, one, declares, pipe)
                try:
                    self.walk(body, item)
                except _Continue:
                    pass
                del self._variables[height:]
        except _Break:
            pass
        del self._variables[height:]
        if not pairs:
            self.walk(otherwise, dot)
        del self._variables[height:]

    def _pairs(self, value: Any, pipe: Node) -> list[tuple[Any, Any]]:
        if value is MISSING or value is None:
            return []
        if isinstance(value, dict) and not isinstance(value, Struct):
            return sorted(value.items())
        if isinstance(value, int) and not isinstance(value, bool):
            return [(number, number) for number in range(value)]
        if isinstance(value, list | tuple):
            return list(enumerate(value))
        raise self._template.error(pipe, f"range can't iterate over {text(value)}")

    def _call_template(self, node: Node, dot: Any) -> None:
        name, pipe = node.value
        shown = f"{{{{template {quoted(name)}{f' {pipe.text}' if pipe else ''}}}}}"
        if name not in self._template.defined:
            told = f'template "{name}" not defined'
            raise self._template.error(node._replace(at=node.at + len("template ")), told, shown)
        if self._depth >= _DEPTH:
            raise self._template.error(node, f"exceeded maximum template depth ({_DEPTH})", shown)
        value = self._pipe(pipe, dot) if pipe is not None else MISSING
        outer, self._variables = self._variables, [["$", value]]
        self._depth += 1
        self.walk(self._template.defined[name], value)
        self._depth -= 1
        self._variables = outer

    # --- values ---

    def _set(self, name: str, value: Any, declares: bool, node: Node) -> None:
        if declares:
            self._variables.append([name, value])
            return
        for one in reversed(self._variables):
            if one[0] == name:
                one[1] = value
                return
        raise self._template.error(node, f"undefined variable: {name}")

    def _pipe(self, pipe: Node, dot: Any, *, assign: bool = True) -> Any:
        names, declares, commands = pipe.value
        value: Any = None
        final: tuple[Any, ...] = ()
        for command in commands:
            value = self._command(command, dot, final)
            final = (value,)
        if assign:
            for name in names:
                self._set(name, value, declares, commands[-1].value[0])
        return value

    def _command(self, command: Node, dot: Any, final: tuple[Any, ...]) -> Any:
        first, *others = command.value
        if first.kind == "word":
            return self._function(command, first, others, dot, final)
        if first.kind in ("field", "variable", "chain"):
            return self._chain(first, others, dot, final)
        if others or final:
            raise self._template.error(first, f"can't give argument to non-function {_parenthesised(first)}")
        if first.kind == "nil":
            raise self._template.error(first, "nil is not a command")
        return self._operand(first, dot)

    def _operand(self, node: Node, dot: Any) -> Any:
        if node.kind == "value":
            return node.value
        if node.kind == "dot":
            return dot
        if node.kind == "nil":
            return None
        if node.kind == "pipe":
            return self._pipe(node, dot)
        if node.kind == "word":
            return self._function(node, node, [], dot, ())
        return self._chain(node, [], dot, ())

    def _chain(self, node: Node, others: list[Node], dot: Any, final: tuple[Any, ...]) -> Any:
        if node.kind == "field":
            receiver, names = dot, node.value
        elif node.kind == "variable":
            variable, names = node.value
            receiver = next(one for one in reversed(self._variables) if one[0] == variable)[1]
        else:
            inner, names = node.value
            receiver = self._operand(inner, dot)
            node = _last_evaluated(inner)
        if not names and (others or final):
            raise self._template.error(node, f"can't give argument to non-function {node.text}")
        if not names:
            return receiver
        for number, (name, following) in enumerate(pairwise(names)):
            outer, receiver = receiver, self._field(receiver, name, node, [], inner=number > 0)
            kind = outer.pointers.get(name) if isinstance(outer, Struct) else "interface {}" if self._bare else None
            if receiver is None and kind is not None:
                raise self._template.error(node, f"nil pointer evaluating {kind}.{following}")
        given = [self._operand(one, dot) for one in others]
        return self._field(receiver, names[-1], node, [*given, *final], inner=len(names) > 1)

    def _field(self, receiver: Any, name: str, node: Node, given: list[Any], *, inner: bool) -> Any:
        fail = self._template.error
        if receiver is MISSING or receiver is None:
            if receiver is None and not self._strict:
                raise fail(node, f"nil data; no entry for key {quoted(name)}")
            if self._strict:
                raise fail(node, f"nil data; no entry for key {quoted(name)}")
            return MISSING
        if isinstance(receiver, Struct | Named) and name in receiver.calls:
            if given:
                raise fail(node, f"wrong number of args for {name}: want 0 got {len(given)}")
            return receiver.calls[name](receiver)
        if isinstance(receiver, Struct):
            return self._struct_field(receiver, name, node, given)
        if not isinstance(receiver, dict) or (isinstance(receiver, Map) and receiver.key != "string"):
            kind = "interface {}" if self._strict and inner else kind_of(receiver)  # what JSON's maps hold
            raise fail(node, f"can't evaluate field {name} in type {kind}")
        if given and not self._titles:
            raise fail(node, f"{name} is not a method but has arguments")
        if name not in receiver and self._strict:
            raise fail(node, f"map has no entry for key {quoted(name)}")
        return receiver.get(name, MISSING) if not given else _title_of_label(str(given[0]))

    def _struct_field(self, receiver: Struct, name: str, node: Node, given: list[Any]) -> Any:
        method = receiver.methods.get(name)
        wanted = 0 if method is None else 1
        if method is None and name not in receiver and name not in receiver.promoted:
            raise self._template.error(node, f"can't evaluate field {name} in type {receiver.kind}")
        if len(given) != wanted:
            if not receiver.marshals:
                raise self._template.error(node, f"{name} has arguments but cannot be invoked as function")
            told = f"wrong number of args for {name}: want {wanted} got {len(given)}"
            raise self._template.error(node, told)
        if method is not None:
            return method(receiver, given[0])
        return receiver[name] if name in receiver else receiver.promoted[name]

    # --- functions ---

    def _function(self, command: Node, word: Node, others: list[Node], dot: Any, final: tuple[Any, ...]) -> Any:
        name = word.value
        function = FUNCTIONS[name]
        count = len(others) + len(final)
        low = len(function.takes) - function.rest
        if count < low or (count > low and not function.rest):
            least = "at least " if function.rest else ""
            raise self._template.error(word, f"wrong number of args for {name}: want {least}{low} got {count}")
        if name in ("and", "or"):
            return self._until(name == "or", others, dot, final)
        values = []
        for number, node in enumerate(others):
            values.append(self._argument(node, self._operand(node, dot), _takes(function, number)))
        if final:
            values.append(self._argument(word, final[0], _takes(function, len(others)), piped=True))
        if self._titles and name in OVER_TITLES:
            return values[0]
        try:
            return function.act(*values)
        except FunctionError as error:
            told = str(error)
            if name == "call" and others:
                told = told.replace("non-function", f"non-function {others[0].text}", 1)
            raise self._template.error(command, f"error calling {name}: {told}") from None

    def _until(self, wanted: bool, others: list[Node], dot: Any, final: tuple[Any, ...]) -> Any:
        value: Any = None
        for node in others:
            value = self._operand(node, dot)
            if truth(value) == wanted:
                return value
        return final[0] if final else value

    def _argument(self, node: Node, value: Any, takes: str, *, piped: bool = False) -> Any:
        expected = {"s": ("string", str), "i": ("int", int), "l": ("[]string", list)}.get(takes)
        if expected is None or self._titles:
            return value
        name, kind = expected
        plain = isinstance(value, kind) and not isinstance(value, bool | Named)
        if plain and (takes != "l" or all(isinstance(one, str) for one in value)):
            return value
        if node.kind in ("value", "nil") and not piped:
            word = {"s": "string", "i": "integer"}.get(takes)
            if word is None:
                raise self._template.error(node, f"can't handle {node.text} for arg of type []string")
            raise self._template.error(node, f"expected {word}; found {node.text}")
        if value is MISSING or value is None:
            raise self._template.error(node, f"invalid value; expected {name}")
        raise self._template.error(node, f"wrong type for value; expected {name}; got {kind_of(value)}")


def _takes(function: Function, number: int) -> str:
    return function.takes[min(number, len(function.takes) - 1)]


def _last_evaluated(node: Node) -> Node:
    """The node that Go names when what came out of a pipeline has not the field."""
    while node.kind == "pipe":
        node = node.value[2][-1].value[-1]
    return node


def _parenthesised(node: Node) -> str:
    return f"({node.text})" if node.kind == "pipe" else node.text


def _title_of_label(name: str) -> str:
    """The head of a column of one label."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


def unescape(source: str) -> str:
    """`\\t` and `\\n` of a --format given in a shell."""
    return source.replace("\\t", "\t").replace("\\n", "\n")
