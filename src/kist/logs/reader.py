"""Reading json-file logs back into what clients get: frames of eight bytes and a line, or plain text.

Whole chunks are taken apart with bytes.replace and split where lines are ordinary, line by line only where they are
not. `LogReader` is plain and synchronous; who follows a log calls `read` again when the file has grown.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from itertools import chain, repeat
from urllib.parse import quote_plus

import msgspec

from kist.logs.files import CHUNK, STDERR, LogChain, LogFile, Member, read_index
from kist.model.timestamp import nanoseconds

_HEADER = struct.Struct(">BxxxI")
_LINE = re.compile(
    rb'\{"log":"((?:[^"\\]|\\.)*)","stream":"(stdout|stderr)",(?:"attrs":(\{[^\n]*?\}),)?"time":"([^"]+)"\}\n?$'
)
_TIME = re.compile(rb',"time":"([^"]+)"\}\n')  # raw quotes are outside of what was written
_UNESCAPE = re.compile(rb"\\(?:u([0-9a-f]{4})|(.))")
_SINGLE = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b", b"f": b"\f"}


class LogOptions(msgspec.Struct, frozen=True):
    """What `logs` was asked. Times are nanoseconds since the epoch; `tail` None is everything."""

    stdout: bool = True
    stderr: bool = True
    since: int = 0
    until: int = 0
    tail: int | None = None
    timestamps: bool = False
    details: bool = False
    multiplexed: bool = True


def unescape(text: bytes) -> bytes:
    """The bytes of a JSON string."""
    if b"\\" not in text:
        return text
    if text.count(b"\\") == 1 and text.endswith(b"\\n"):
        return text[:-2] + b"\n"
    return _UNESCAPE.sub(_one, text)


def _one(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return chr(int(match[1], 16)).encode("utf-8", "replace")
    return _SINGLE.get(match[2], match[2])


class _Headers(dict[int, bytes]):
    """Frame headers of lines of standard output, by the line's length without its newline."""

    def __missing__(self, length: int) -> bytes:
        header = self[length] = _HEADER.pack(1, length + 1)
        return header


_HEADERS = _Headers()
_START, _END = b'{"log":"', b'\\n","stream":"stdout","time":"'
_ESCAPED_END = b'\\\\n","stream":"'  # a line without its newline that ends in a backslash and an n
_MOST_TIMES = 256  # distinct times in a chunk beyond which line by line is faster


def _plain_text(lines: bytes) -> bytes | None:
    """A chunk of whole lines of standard output as it was written, None where it is not as simple as that.

    All lines of one read of the writer have one time, so a few replacements take all the ends off.
    """
    if not lines.startswith(_START) or _ESCAPED_END in lines:
        return None
    text = lines[len(_START) :] + _START  # so that the last end looks like the others
    for _ in range(_MOST_TIMES):
        begin = text.find(_END)
        if begin < 0:
            break
        end = text.find(_START, begin)
        if end < 0:
            return None
        text = text.replace(text[begin : end + len(_START)], b"\n")
    else:
        return None
    if b'","stream":"' in text:
        return None
    if b"\\" not in text:
        return text
    return b"\\".join(map(_unescape_part, text.split(b"\\\\")))


def _unescape_part(text: bytes) -> bytes:
    """Escapes of text without an escaped backslash, the common ones by replacement."""
    if b"\\" not in text:
        return text
    for escaped, plain in _COMMON:
        text = text.replace(escaped, plain)
    return _UNESCAPE.sub(_one, text) if b"\\" in text else text


_COMMON = (
    (b'\\"', b'"'),
    (b"\\u003c", b"<"),
    (b"\\u003e", b">"),
    (b"\\u0026", b"&"),
    (b"\\u0009", b"\t"),
    (b"\\r", b"\r"),
)


class Renderer:
    """Turns whole lines of a log file into the bytes of an answer."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._headers: dict[tuple[int, int], bytes] = {}
        self.done = False  # a line after `until` was met
        plain = options.stdout and options.stderr and not (
            options.since or options.until or options.timestamps or options.details
        )  # fmt: skip
        self._plain = plain

    def render(self, lines: bytes) -> bytes:
        """`lines` ends with a newline."""
        if self._plain:
            return self._render_plain(lines)
        return b"".join(self._each(lines))

    def _render_plain(self, lines: bytes) -> bytes:
        """No line is looked at for its time."""
        text = _plain_text(lines)
        if text is None:
            return self._line_by_line(lines)
        if not self._options.multiplexed:
            return text
        whole = text[:-1].split(b"\n")
        return b"".join(chain.from_iterable(zip(map(_HEADERS.__getitem__, map(len, whole)), whole, repeat(b"\n"))))

    def _line_by_line(self, lines: bytes) -> bytes:
        """Mixed streams, attributes, pieces of long lines: cut the ends off, unescape what needs it."""
        out: list[bytes] = []
        append, headers, multiplexed = out.append, self._headers, self._options.multiplexed
        for line in lines.split(b"\n"):
            end = line.rfind(b'","stream":"std')
            if end < 8:
                continue
            text = unescape(line[8:end])
            if multiplexed:
                key = (2 if line[end + 15] == 0x65 else 1, len(text))
                header = headers.get(key)
                if header is None:
                    header = headers[key] = _HEADER.pack(*key)
                append(header)
            append(text)
        return b"".join(out)

    def _each(self, lines: bytes) -> Iterator[bytes]:
        options = self._options
        last: bytes = b""
        when: int | None = 0  # many lines have one time
        for line in lines.split(b"\n"):
            match = _LINE.match(line)
            if match is None:
                continue
            stamp = match[4]
            if options.since or options.until:
                if stamp != last:
                    last, when = stamp, _when(stamp)
                if when is None:
                    continue
                if options.since and when < options.since:
                    continue
                if options.until and when > options.until:
                    self.done = True
                    return
            number = 2 if match[2] == b"stderr" else 1
            if not (options.stderr if number == 2 else options.stdout):
                continue
            text = unescape(match[1])
            if options.details:
                text = _details(match[3]) + b" " + text
            if options.timestamps:
                text = _padded(stamp) + b" " + text
            yield (_HEADER.pack(number, len(text)) + text) if options.multiplexed else text


def _when(stamp: bytes) -> int | None:
    """Nanoseconds since the epoch; None for what is no time, in a line that somebody else wrote."""
    try:
        return nanoseconds(stamp.decode())
    except ValueError:
        return None


def _padded(stamp: bytes) -> bytes:
    """Nine digits of the second, so that lines stand in columns (Docker's RFC3339NanoFixed)."""
    head, _, fraction = stamp.rstrip(b"Z").partition(b".")
    return head + b"." + fraction.ljust(9, b"0") + b"Z"


def _details(attrs: bytes | None) -> bytes:
    values = msgspec.json.decode(attrs or b"{}", type=dict[str, str])
    return ",".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in sorted(values.items())).encode()


class LogReader:
    """One reading of a log, from its oldest file to the end of the newest, and with `follow` on as that grows.

    Making one with `tail` may take a while where that reaches back into compressed files.
    """

    def __init__(self, path: str, options: LogOptions, *, follow: bool = True) -> None:
        self._chain = LogChain(path, follow=follow)
        self._renderer = Renderer(options)
        self._options = options
        self._rest = b""
        try:
            if options.tail is not None:
                self._seek_tail(options.tail)
            elif options.since:
                self._seek_since(options.since)
        except BaseException:
            self._chain.close()
            raise

    @property
    def done(self) -> bool:
        return self._renderer.done

    def close(self) -> None:
        self._chain.close()

    def read(self) -> bytes:
        """The next piece of the answer; "" when there is nothing now."""
        while (piece := self.step()) == b"" and not self.done:
            continue
        return piece or b""

    def step(self) -> bytes | None:
        """A little work: a piece of the answer, "" when that part of the log has nothing for it, None when there is
        nothing to read now. Only whole lines are taken.
        """
        data = self._chain.read()
        if not data:
            return b"" if self._go_on() else None
        end = data.rfind(b"\n") + 1
        if not end:
            self._rest += data
            return b""
        out = self._renderer.render(self._rest + data[:end])
        self._rest = data[end:]
        return out

    def _go_on(self) -> bool:
        if self._chain.leaves_file:
            self._rest = b""
        elif self._rest:  # is read again when its end has come: on a full disk the writer takes it back
            self._chain.back(len(self._rest))
            self._rest = b""
        return self._chain.go_on()

    def _seek_tail(self, missing: int) -> None:
        """Opens the file in which the last `missing` lines of the wanted streams begin, at their beginning."""
        for file in self._chain.all():
            if self._chain.file is not None and missing <= 0:
                file.close()
                continue
            self._chain.use(file)
            if file.packed:
                missing -= _seek_packed_tail(file, missing, self._options)
            else:
                offset, found = _tail_offset(file, missing, self._options)
                file.seek(offset)
                missing -= found

    def _seek_since(self, since: int) -> None:
        """Opens the file in which that time falls, near to it; files last written before are not read at all."""
        for file in self._chain.all():
            if self._chain.file is not None and file.modified < since:
                file.close()
                continue
            self._chain.use(file)
        if self._chain.file is not None and not self._chain.file.packed:
            self._chain.file.seek(_since_offset(self._chain.file.descriptor, since))


def _since_offset(descriptor: int, since: int) -> int:
    """Where a line begins that is before every line of that time or later, and not far before it."""
    low, high = 0, os.fstat(descriptor).st_size
    while high - low > CHUNK:
        middle = (low + high) // 2
        match = _TIME.search(os.pread(descriptor, CHUNK, middle))
        if match is None:
            break
        when = _when(match[1])
        if when is None:
            break
        if when < since:
            low = middle + match.end()
        else:
            high = middle
    return low


def _seek_packed_tail(file: LogFile, count: int, options: LogOptions) -> int:
    """Goes to the first of the last `count` lines of a file that can only be read forwards, from the member that its
    index names. Without an index: once to count, once more to find. How many lines there are from there.
    """
    members = read_index(file.descriptor)
    if not members:
        members = [_as_member(file, options)]
    found, begin = 0, len(members)
    while begin and found < count:
        begin -= 1
        found += _wanted_of(members[begin], options)
    if begin == len(members):
        file.seek_member(os.fstat(file.descriptor).st_size)
        return 0
    file.seek_member(members[begin].offset)
    _skip(file, found - count, options)
    return min(found, count)


def _as_member(file: LogFile, options: LogOptions) -> Member:
    lines = stderr = 0
    for data in iter(file.read, b""):
        lines += data.count(b"\n")
    if not (options.stdout and options.stderr):
        file.seek_member(0)
        stderr = sum(1 for line in _lines(file) if STDERR in line)
    return Member(0, lines, stderr)


def _wanted_of(member: Member, options: LogOptions) -> int:
    if options.stdout and options.stderr:
        return member.lines
    return member.stderr if options.stderr else member.lines - member.stderr


def _skip(file: LogFile, count: int, options: LogOptions) -> None:
    """Goes behind so many wanted lines, to the beginning of another."""
    while count > 0 and (data := file.read()):
        data = _whole(file, data)
        here = data.count(b"\n")
        if options.stdout and options.stderr:
            if here >= count:
                file.give_back(data.split(b"\n", count)[-1])
            count -= here
            continue
        at = 0
        for line in data.split(b"\n")[:here]:
            if not count:
                break
            at += len(line) + 1
            count -= _wanted(line, options)
        file.give_back(data[at:])


def _whole(file: LogFile, data: bytes) -> bytes:
    """With the rest of its last line."""
    while not data.endswith(b"\n") and (more := file.read()):
        end = more.find(b"\n") + 1
        data += more[:end] if end else more
        if end:
            file.give_back(more[end:])
    return data


def _lines(file: LogFile) -> Iterator[bytes]:
    rest = b""
    while data := file.read():
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def _tail_offset(file: LogFile, count: int, options: LogOptions) -> tuple[int, int]:
    """(offset of the first of the last `count` lines, how many lines there are from there)."""
    position = file.size
    if count == 0:
        return position, 0
    found, rest = 0, b""
    while position > 0:
        size = min(CHUNK, position)
        position -= size
        data = os.pread(file.descriptor, size, position) + rest
        lines = data.split(b"\n")
        rest = lines[0]
        offset = position + len(data)
        for line in reversed(lines[1:] if position else lines):
            offset -= len(line)
            if line and _wanted(line, options):
                found += 1
                if found == count:
                    return offset, found
            offset -= 1
    return 0, found


def _wanted(line: bytes, options: LogOptions) -> bool:
    if options.stdout and options.stderr:
        return True
    return (STDERR in line) == options.stderr
