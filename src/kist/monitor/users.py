"""Users and groups from a container's own /etc/passwd and /etc/group (passwd(5), group(5)).

Runs in init, below the new root and without the C library's databases, which would load the container's code. The
rules, and the texts of errors, are those of moby's user package.
"""

from __future__ import annotations

from typing import NamedTuple

_HIGHEST = (1 << 31) - 1


class Identity(NamedTuple):
    uid: int
    gid: int
    groups: list[int]
    home: str


class UnknownUser(Exception):
    """A name that the container's files do not know; the text is Docker's."""


def _lines(text: bytes, fields: int) -> list[list[str]]:
    rows = []
    for line in text.decode("utf-8", "surrogateescape").split("\n"):
        parts = line.strip().split(":")
        if len(parts) >= fields and parts[0] and _is_number(parts[2]):
            rows.append(parts)
    return rows


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _number(text: str) -> int:
    """A user or group id, -1 when it is a name. Raises UnknownUser out of range."""
    if not _is_number(text.removeprefix("-")):
        return -1
    number = int(text) if len(text) < 20 else _HIGHEST + 1
    if not 0 <= number <= _HIGHEST:
        raise UnknownUser("uids and gids must be in range 0-2147483647")
    return number


def resolve(spec: str, extra: list[str], passwd: bytes, group: bytes) -> Identity:
    """`user`, `uid`, `user:group` or "" (root) with additional groups. Raises UnknownUser."""
    user, _, group_name = spec.partition(":")
    uid, gid, home, name = _user(user, passwd)
    groups: list[int] = []
    rows = _lines(group, 3)
    if group_name:
        gid = _group(group_name, rows)
    elif name:
        groups = [_number(row[2]) for row in rows if len(row) > 3 and name in row[3].split(",")]
    for one in extra:
        number = _group(one, rows)
        if number not in groups:
            groups.append(number)
    if gid not in groups:  # or leaving the primary group by a setgid program would lift denials for it (CVE-2022-36109)
        groups.insert(0, gid)
    return Identity(uid, gid, groups, home)


def _user(user: str, passwd: bytes) -> tuple[int, int, str, str]:
    """A number is always an id, whatever the image calls its users (CVE-2016-3697)."""
    wanted = _number(user) if user else 0
    for row in _lines(passwd, 6):
        if row[0] == user if wanted < 0 else int(row[2]) == wanted:
            return _number(row[2]), max(_number(row[3]), 0), row[5], row[0]
    if wanted < 0:
        raise UnknownUser(f"unable to find user {user}: no matching entries in passwd file")
    return wanted, 0, "/", ""


def _group(name: str, rows: list[list[str]]) -> int:
    number = _number(name)
    for row in rows:
        if row[0] == name if number < 0 else int(row[2]) == number:
            return _number(row[2])
    if number < 0:
        raise UnknownUser(f"unable to find group {name}: no matching entries in group file")
    return number
