"""The options of procps' ps, read without running it: ps(1), in its UNIX, BSD and GNU styles."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from kist.model.errors import InvalidParameter
from kist.runtime.pscolumns import COLUMNS, Process

_TRUE_NAMES: Final = {"args": "ucomm", "command": "ucomm", "cmd": "ucmd"}
_BSD_FORMATS: Final = {
    "": "pid tname stat bsdtime args",
    "u": "user pid %cpu %mem vsz rss tname stat start_time bsdtime args",
    "l": "f uid pid ppid priority ni vsz rss wchan stat tname bsdtime args",
    "j": "ppid pid pgid sid tname tpgid stat uid bsdtime args",
}
_LISTS: Final = {
    "C": "list of command names",
    "G": "list of real groups",
    "U": "list of real users",
    "g": "list of session leaders OR effective group names",
    "p": "list of process IDs",
    "q": "list of process IDs",
    "s": "list of session IDs",
    "t": "list of terminals",
    "u": "list of users",
    "k": "long sort specification",
    "o": "format specification",
    "O": "format specification",
}
_LONG: Final = {
    "Group": "G",
    "User": "U",
    "format": "o",
    "group": "egid",
    "pid": "p",
    "ppid": "ppid",
    "quick-pid": "p",
    "sid": "s",
    "sort": "k",
    "tty": "t",
    "user": "u",
}
_SIZES: Final = ("cols", "columns", "lines", "rows", "width")
_NO_TITLES: Final = ("no-heading", "no-headings", "no-headers", "noheader", "noheaders", "noheading", "noheadings")


class _Mistake(InvalidParameter):
    """A mistake in the UNIX style: the words may still be good BSD options, as `-aux` is."""


class Shown(msgspec.Struct, frozen=True):
    column: str  # of COLUMNS
    title: str
    width: int = 0


class Listing(msgspec.Struct, frozen=True):
    columns: tuple[Shown, ...]
    selected: tuple[tuple[str, frozenset[str]], ...] = ()  # of SELECTORS; any of them is enough
    everything: bool = False  # whatever is selected besides
    negated: bool = False
    running: bool = False
    threads: bool = False
    forest: str = ""  # "" none, "H" by space, "f" drawn
    environment: bool = False
    sorting: tuple[tuple[str, bool], ...] = ()  # column, backwards
    titled: bool = True


SELECTORS: Final[dict[str, Callable[[Process], str]]] = {
    "C": lambda one: one.name,
    "G": lambda one: str(one.gids[0]),
    "U": lambda one: str(one.uids[0]),
    "egid": lambda one: str(one.gids[1]),
    "p": lambda one: str(one.pid),
    "ppid": lambda one: str(one.ppid),
    "s": lambda one: str(one.session),
    "t": lambda one: one.tty,
    "u": lambda one: str(one.uids[1]),
}


def parse(text: str) -> Listing:
    """Raises InvalidParameter with the words of ps where it refuses, and where this engine does not follow it."""
    words = text.split()
    bare = [word if word.startswith("--") else word.lstrip("-") for word in words]
    try:
        return _Reader(list(words)).listing()
    except _Mistake as mistake:
        try:
            return _Reader(bare).listing()
        except InvalidParameter:
            raise InvalidParameter(mistake.message) from mistake


class _Reader:
    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._flags: set[str] = set()  # UNIX options without a value
        self._bsd: str | None = None  # the format, once an option was in the BSD style
        self._true_names = False
        self._fields: list[Shown] = []
        self._around = False  # -O: the columns of ps around those asked for
        self._selected: list[tuple[str, frozenset[str]]] = []
        self._sorting: list[tuple[str, bool]] = []
        self._set: dict[str, bool] = {}
        self._forest = ""

    def listing(self) -> Listing:
        while self._words:
            word = self._words.pop(0)
            if word.startswith("--"):
                self._long(word[2:])
            elif word.startswith("-"):
                self._cluster(word[1:], self._unix)
            elif word[0].isdigit():
                self._bsd = self._bsd or ""
                self._select("p", word)
            else:
                self._bsd = self._bsd or ""
                self._cluster(word, self._bsd_style)
        return Listing(
            columns=tuple(self._columns()),
            selected=tuple(self._selected),
            forest=self._forest,
            sorting=tuple(self._sorting),
            threads=bool(self._flags & {"L", "T", "threads"}),
            **self._set,
        )

    def _cluster(self, letters: str, read: Callable[[str, Callable[[], str]], None]) -> None:
        if not letters:
            raise _Mistake("ps: error: garbage option")
        rest = iter(letters)
        for letter in rest:
            read(letter, lambda letter=letter: self._value("-" + letter, letter, rest))  # type: ignore[misc]

    def _value(self, option: str, kind: str, rest: Iterator[str]) -> str:
        found = "".join(rest) or (self._words.pop(0) if self._words else "")
        if not found:
            raise _Mistake(f"ps: error: {_LISTS.get(kind, 'an argument')} must follow {option}")
        return found

    def _unix(self, letter: str, value: Callable[[], str]) -> None:
        if letter in "Aead":
            self._set["everything"] = True
        elif letter in "FLTPcfjly":
            self._flags.add(letter)
        elif letter == "H":
            self._forest = "H"
        elif letter == "N":
            self._set["negated"] = True
        elif letter in "Oo":
            self._format(value())
            self._around = self._around or letter == "O"
        elif letter in "CGUgpqstu":
            self._select("p" if letter == "q" else letter, value())
        elif letter in "MZVmn":
            raise InvalidParameter(f"ps: option -{letter} is not supported by this engine")
        elif letter != "w":
            raise _Mistake("ps: error: unsupported SysV option")

    def _bsd_style(self, letter: str, value: Callable[[], str]) -> None:
        if letter in "axg":
            self._set["everything"] = True
        elif letter in "ulj":
            if self._bsd and self._bsd != letter:
                raise InvalidParameter("ps: error: conflicting format options")
            self._bsd = letter
        elif letter == "f":
            self._forest = "f"
        elif letter == "H":
            self._flags.add("threads")
        elif letter in "ceNhr":
            self._true_names = self._true_names or letter == "c"
            if letter != "c":
                self._set[{"e": "environment", "N": "negated", "h": "titled", "r": "running"}[letter]] = letter != "h"
        elif letter == "o":
            self._format(value())
        elif letter == "k":
            self._sort(value())
        elif letter in "Upqt":
            self._select({"U": "u", "q": "p"}.get(letter, letter), value())
        elif letter in "LMOSTVXZmnsv":
            raise InvalidParameter(f"ps: option {letter} (BSD syntax) is not supported by this engine")
        elif letter != "w":
            raise InvalidParameter("ps: error: unsupported option (BSD syntax)")

    def _long(self, word: str) -> None:
        name, _, text = word.partition("=")
        if name in _LONG or name in _SIZES:
            kind = _LONG.get(name, "")
            value = self._value(f"--{name}", kind, iter(text))
            if kind == "o":
                self._format(value)
            elif kind == "k":
                self._sort(value)
            elif kind:
                self._select(kind, value)
        elif name == "forest":
            self._forest = "f"
        elif name == "deselect":
            self._set["negated"] = True
        elif name in _NO_TITLES:
            self._set["titled"] = False
        elif name not in ("headers", "headings"):
            raise InvalidParameter("ps: error: unknown gnu long option")

    def _format(self, text: str) -> None:
        for field in text.split(","):
            if not field:
                raise InvalidParameter("ps: error: improper format list")
            before, renamed, title = field.partition("=")
            name, colon, width = before.partition(":")
            if colon and (not width.isdecimal() or not int(width)):
                raise InvalidParameter("ps: error: column widths must be unsigned decimal numbers")
            if name not in COLUMNS:
                raise InvalidParameter(f'ps: error: unknown user-defined format specifier "{name}"')
            self._fields.append(Shown(name, title if renamed else COLUMNS[name].title, int(width or 0)))

    def _sort(self, text: str) -> None:
        for key in text.split(","):
            name = key.lstrip("+-")
            if name not in COLUMNS:
                raise InvalidParameter("ps: error: unknown sort specifier")
            self._sorting.append((name, key.startswith("-")))

    def _select(self, kind: str, text: str) -> None:
        values = text.split(",")
        if kind in ("p", "ppid", "s") and not all(value.isdecimal() for value in values):
            raise _Mistake("ps: error: process ID list syntax error")
        if kind == "g":
            kind = "s" if all(value.isdecimal() for value in values) else "egid"
        self._selected.append((kind, frozenset(_normal(kind, value) for value in values)))

    def _columns(self) -> list[Shown]:
        if "y" in self._flags and "l" not in self._flags:
            raise InvalidParameter("ps: error: modifier -y without format -l makes no sense")
        if {"L", "T"} <= self._flags:
            raise InvalidParameter("ps: error: thread flags conflict; can't use both -L and -T")
        if self._bsd and (self._fields or self._flags & set("FPcfjly")):
            raise InvalidParameter("ps: error: conflicting format options")
        if self._around:
            columns = [Shown("pid", "PID"), *self._fields, *_shown("s tname time args")]
        elif self._fields:
            columns = self._fields
        elif self._bsd or (self._bsd is not None and not self._flags & set("FLPTcfjl")):
            columns = _shown(" ".join(_with_threads(self._bsd, self._flags)))
        else:
            columns = _shown(" ".join(_unix_format(self._flags, bsd=self._bsd is not None)))
        if self._true_names:
            columns = [Shown(_TRUE_NAMES.get(one.column, one.column), one.title, one.width) for one in columns]
        return columns


def _normal(kind: str, value: str) -> str:
    """As the selector tells it: names as numbers, terminals without their directory."""
    try:
        if kind in ("u", "U") and not value.isdecimal():
            return str(pwd.getpwnam(value).pw_uid)
        if kind in ("G", "egid") and not value.isdecimal():
            return str(grp.getgrnam(value).gr_gid)
    except KeyError as error:
        who = "user" if kind in ("u", "U") else "group"
        raise _Mistake(f"ps: error: {who} name does not exist") from error
    if kind == "t":
        return "?" if value == "-" else value.removeprefix("/dev/")
    return value[:15] if kind == "C" else value  # TASK_COMM_LEN


def _shown(names: str) -> list[Shown]:
    pairs = [word.partition("=") for word in names.split()]
    return [Shown(name, title or COLUMNS[name].title) for name, _, title in pairs]


def _with_threads(kind: str, flags: set[str]) -> list[str]:
    """A BSD format, with the columns of -L or -T put into it."""
    more = {}
    if "T" in flags:
        more = {"pid": "spid"}
    elif "L" in flags:
        more = {{"l": "ppid", "j": "sid"}.get(kind, "pid"): "lwp", "%cpu": "nlwp"}
    return [column for name in _BSD_FORMATS[kind].split() for column in (name, more.get(name)) if column]


def _unix_format(flags: set[str], *, bsd: bool) -> Iterator[str]:
    """What the format options of the UNIX style show together; `bsd` once an option was in that style."""
    long, classes = "l" in flags, "c" in flags
    full = bool(flags & {"f", "F"})
    if long:
        yield from ("s",) if "y" in flags else ("f", "s")
    if full or long:
        yield "user=UID" if full else "uid"
    yield "pid"
    if "T" in flags:
        yield "spid"
    if full or long:
        yield "ppid"
    if "j" in flags:
        yield from ("pgid", "sid")
    if "L" in flags:
        yield "lwp"
    if "P" in flags:
        yield "psr"
    if (full or long) and not classes:
        yield "c"
    if full and "L" in flags:
        yield "nlwp"
    if classes:
        yield from ("cls", "pri")
    if long:
        yield from () if classes else ("opri", "ni")
        yield from ("rss", "sz", "wchan") if "y" in flags else ("addr", "sz", "wchan")
    if "F" in flags:
        yield from () if long else ("sz",)
        yield from () if long and "y" in flags else ("rss",)
        yield from () if "P" in flags else ("psr",)
    if full:
        yield "stime"
    yield "tname"
    if bsd and not long:
        yield "stat"
    yield "bsdtime" if bsd else "time"
    name = "args" if full or bsd else "ucmd"
    yield f"{name}=CMD" if full or long or not bsd else name
