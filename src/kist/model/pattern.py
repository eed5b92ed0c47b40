"""Regular expressions of users, matched in linear time as Go's are: Python's own engine can be kept busy for ever.

Python's parser makes the tree; what is made of it is a program of few instructions, carried out for all ways through it
at once (Thompson, Regular Expression Search Algorithm, 1968). What Go refuses is refused: references to groups, looking
ahead and behind.
"""

from __future__ import annotations

import re
import re._constants as sre  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

_MOST = 10_000  # instructions
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_DIGITS, _SPACE = frozenset("0123456789"), frozenset(" \t\n\r\f\v")
_CATEGORIES: dict[Any, Callable[[str], bool]] = {
    sre.CATEGORY_WORD: _WORD.__contains__,
    sre.CATEGORY_NOT_WORD: lambda char: char not in _WORD,
    sre.CATEGORY_DIGIT: _DIGITS.__contains__,
    sre.CATEGORY_NOT_DIGIT: lambda char: char not in _DIGITS,
    sre.CATEGORY_SPACE: _SPACE.__contains__,
    sre.CATEGORY_NOT_SPACE: lambda char: char not in _SPACE,
}


class _Step(NamedTuple):
    """One instruction: a character that must come, a place that must be, or further instructions (`ways`)."""

    takes: Callable[[str], bool] | None = None
    at: Callable[[str, int], bool] | None = None
    ways: tuple[int, ...] = ()


class Pattern:
    """`search(text)` says whether the expression is found anywhere. Raises ValueError for one that cannot be."""

    def __init__(self, text: str) -> None:
        try:
            tree = parser.parse(text)
        except (re.error, OverflowError) as error:
            raise ValueError(str(error)) from error
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        self._program: list[_Step] = []
        self._add(tree, tree.state.flags)

    def search(self, text: str) -> bool:
        end, states = len(self._program), set[int]()
        for position in range(len(text) + 1):
            states = self._reached({0} | states, text, position)
            if end in states:
                return True
            if position < len(text):
                states = {state + 1 for state in states if self._takes(state, text[position])}
        return False

    def _takes(self, state: int, char: str) -> bool:
        takes = self._program[state].takes
        return takes is not None and takes(char)

    def _reached(self, begin: Iterable[int], text: str, position: int) -> set[int]:
        """All states that are got to from these without another character."""
        found: set[int] = set()
        rest = list(begin)
        while rest:
            state = rest.pop()
            if state in found:
                continue
            found.add(state)
            if state == len(self._program):
                continue
            step = self._program[state]
            rest += step.ways
            if step.at is not None and step.at(text, position):
                rest.append(state + 1)
        return found

    # --- from tree to program ---

    def _add(self, items: Any, flags: int) -> None:
        for kind, value in items:
            self._add_one(kind, value, flags)
            if len(self._program) > _MOST:
                raise ValueError("expression too large")

    def _add_one(self, kind: Any, value: Any, flags: int) -> None:
        if kind in (sre.LITERAL, sre.NOT_LITERAL, sre.IN, sre.ANY):
            self._program.append(_Step(takes=_character(kind, value, flags)))
        elif kind is sre.SUBPATTERN:
            _, more, less, items = value
            self._add(items, (flags | more) & ~less)
        elif kind is sre.BRANCH:
            self._add_branches(value[1], flags)
        elif kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            low, high, repeated = value
            self._add_repeat(low, high, repeated, flags)
        elif kind is sre.AT:
            self._program.append(_Step(at=_place(value, flags)))
        else:
            raise ValueError("invalid or unsupported Perl syntax")

    def _add_branches(self, branches: list[Any], flags: int) -> None:
        fork = len(self._program)
        self._program.append(_Step())
        begins, ends = [], []
        for branch in branches:
            begins.append(len(self._program))
            self._add(branch, flags)
            ends.append(len(self._program))
            self._program.append(_Step())
        self._program[fork] = _Step(ways=tuple(begins))
        for end in ends:
            self._program[end] = _Step(ways=(len(self._program),))

    def _add_repeat(self, low: int, high: Any, items: Any, flags: int) -> None:
        for _ in range(low):
            self._add(items, flags)
        if high is sre.MAXREPEAT:
            fork = len(self._program)
            self._program.append(_Step())
            self._add(items, flags)
            self._program.append(_Step(ways=(fork,)))
            self._program[fork] = _Step(ways=(fork + 1, len(self._program)))
            return
        forks = []
        for _ in range(high - low):
            forks.append(len(self._program))
            self._program.append(_Step())
            self._add(items, flags)
        for fork in forks:
            self._program[fork] = _Step(ways=(fork + 1, len(self._program)))


def _character(kind: Any, value: Any, flags: int) -> Callable[[str], bool]:
    if kind is sre.ANY:
        return (lambda char: True) if flags & re.DOTALL else (lambda char: char != "\n")
    members = [(kind, value)] if kind is not sre.IN else value
    negated = members[0][0] in (sre.NEGATE, sre.NOT_LITERAL)
    tests = [_member(*one) for one in members if one[0] is not sre.NEGATE]

    def takes(char: str) -> bool:
        found = any(test(char) for test in tests)
        if flags & re.IGNORECASE and not found:
            found = any(test(char.lower()) or test(char.upper()) for test in tests)
        return found != negated

    return takes


def _member(kind: Any, value: Any) -> Callable[[str], bool]:
    if kind is sre.CATEGORY:
        return _CATEGORIES[value]
    low, high = value if kind is sre.RANGE else (value, value)
    return lambda char: all(map(low.__le__, map(ord, char))) and all(map(high.__ge__, map(ord, char)))


def _place(kind: Any, flags: int) -> Callable[[str, int], bool]:
    if kind is sre.AT_BEGINNING and flags & re.MULTILINE:
        return lambda text, position: position == 0 or text[position - 1] == "\n"
    if kind in (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING):
        return lambda text, position: position == 0
    if kind is sre.AT_END and flags & re.MULTILINE:
        return lambda text, position: position == len(text) or text[position] == "\n"
    if kind in (sre.AT_END, sre.AT_END_STRING):
        return lambda text, position: position == len(text)
    return lambda text, position: _is_boundary(text, position) == (kind is sre.AT_BOUNDARY)


def _is_boundary(text: str, position: int) -> bool:
    before = position > 0 and text[position - 1] in _WORD
    after = position < len(text) and text[position] in _WORD
    return before != after
