"""A new ext4 file system in a sparse file, without mkfs (Documentation/filesystems/ext4 of Linux).

What an empty file already says, zeros, is not written: tables of inodes, and bitmaps of groups that are marked as
not initialised. Without lost+found, so that a new volume is empty.
"""

from __future__ import annotations

import os
import secrets
import struct
import time
from typing import NamedTuple

BLOCK = 4096
SMALLEST, LARGEST = 256 << 10, 1 << 44  # bytes: 32-bit block numbers
_PER_GROUP = 8 * BLOCK  # blocks: as many as a bitmap has bits
_INODE, _DESCRIPTOR = 256, 32  # bytes
_INODE_RATIO = 4  # blocks for each inode
_RESERVED = 10  # inodes; the first of these is 1
_ROOT, _JOURNAL = 2, 8
_SMALLEST_GROUP = 64  # blocks beyond its own tables, or else it is left out
# Feature sets: journal, extended attributes, hashed directories; file types, extents; sparse superblocks, large files,
# checksums of group descriptors, many links, large inodes.
_JOURNALED, _COMPATIBLE, _INCOMPATIBLE, _READ_ONLY = 0x4, 0x8 | 0x20, 0x2 | 0x40, 0x1 | 0x2 | 0x10 | 0x20 | 0x40
_INODE_UNINIT, _BLOCK_UNINIT, _INODE_ZEROED = 1, 2, 4
_EXTENTS_FLAG = 0x80000
_JOURNAL_MAGIC = 0xC03B3998
_CRC16 = [0] * 256


def _fill_table() -> None:
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        _CRC16[byte] = value


_fill_table()


def _crc16(crc: int, data: bytes) -> int:
    for byte in data:
        crc = crc >> 8 ^ _CRC16[(crc ^ byte) & 0xFF]
    return crc


class _Group(NamedTuple):
    first: int  # block
    blocks: int
    front: int  # blocks of superblock and descriptors
    tables: int  # the first block behind those
    used: int  # blocks


class _Shape(NamedTuple):
    blocks: int
    groups: int
    inodes: int  # per group
    table: int  # blocks of a group's inodes
    descriptors: int  # blocks
    journal: int  # blocks


def _shape(size: int) -> _Shape:
    """Raises ValueError when there is no room, or there are not enough block numbers."""
    if not SMALLEST <= size < LARGEST:
        raise ValueError(f"a file system of {size} bytes cannot be made: it takes {SMALLEST} bytes to {LARGEST - 1}")
    blocks = size // BLOCK
    inodes = min(blocks, _PER_GROUP) // _INODE_RATIO
    inodes += -inodes % (BLOCK // _INODE)
    table = inodes * _INODE // BLOCK
    groups = -(-blocks // _PER_GROUP)
    descriptors = -(-groups * _DESCRIPTOR // BLOCK)
    rest = blocks % _PER_GROUP
    if groups > 1 and 0 < rest < 1 + descriptors + 2 + table + _SMALLEST_GROUP:
        groups, blocks = groups - 1, blocks - rest
        descriptors = -(-groups * _DESCRIPTOR // BLOCK)
    journal = next(
        count for most, count in ((2048, 0), (1 << 15, 1024), (1 << 18, 4096), (1 << 33, 8192)) if blocks < most
    )
    return _Shape(blocks, groups, inodes, table, descriptors, journal)


def _has_superblock(group: int) -> bool:
    """Every group with a copy: 0, 1, and the powers of 3, 5 and 7."""
    if group <= 1:
        return True
    for base in (3, 5, 7):
        power = base
        while power < group:
            power *= base
        if power == group:
            return True
    return False


def _groups(shape: _Shape) -> list[_Group]:
    found = []
    for number in range(shape.groups):
        first = number * _PER_GROUP
        front = 1 + shape.descriptors if _has_superblock(number) else 0
        used = front + 2 + shape.table + (1 + shape.journal if number == 0 else 0)
        found.append(_Group(first, min(_PER_GROUP, shape.blocks - first), front, first + front, used))
    return found


def make(path: str, size: int) -> None:
    """Makes the file, which must not be there: as large as `size`, with a few KiB in it. Raises OSError, ValueError."""
    shape = _shape(size)
    groups = _groups(shape)
    identity, now = secrets.token_bytes(16), int(time.time())
    root_block = groups[0].tables + 2 + shape.table
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(file, shape.blocks * BLOCK)
        descriptors = b"".join(_descriptor(shape, groups, number, identity) for number in range(shape.groups))
        for number, group in enumerate(groups):
            if group.front:
                superblock = _superblock(shape, groups, number, identity, now, root_block + 1)
                os.pwrite(file, superblock, group.first * BLOCK + (0 if number else 1024))
                os.pwrite(file, descriptors, (group.first + 1) * BLOCK)
        for number in {0, shape.groups - 1}:
            os.pwrite(file, _block_bitmap(groups[number]), groups[number].tables * BLOCK)
        os.pwrite(file, _bits(_RESERVED, shape.inodes), (groups[0].tables + 1) * BLOCK)
        _write_inodes(file, shape, groups[0], root_block, now)
        os.pwrite(file, _root_directory(), root_block * BLOCK)
        if shape.journal:
            os.pwrite(file, _journal(shape.journal, identity), (root_block + 1) * BLOCK)
        os.fsync(file)
    finally:
        os.close(file)


def _bits(count: int, valid: int) -> bytes:
    """A bitmap of one block: the first `count` bits are set, and all that mean nothing."""
    return (((1 << 8 * BLOCK) - (1 << valid)) | ((1 << count) - 1)).to_bytes(BLOCK, "little")


def _block_bitmap(group: _Group) -> bytes:
    return _bits(group.used, group.blocks)


def _descriptor(shape: _Shape, groups: list[_Group], number: int, identity: bytes) -> bytes:
    """struct ext4_group_desc, with its checksum."""
    group, first, last = groups[number], number == 0, number == shape.groups - 1
    flags = _INODE_ZEROED | (0 if first else _INODE_UNINIT) | (0 if first or last else _BLOCK_UNINIT)
    inodes = shape.inodes - (_RESERVED if first else 0)
    data = struct.pack(
        "<IIIHHHHIHHH",
        *(group.tables, group.tables + 1, group.tables + 2),
        *(group.blocks - group.used, inodes, int(first), flags, 0, 0, 0, inodes),
    )
    crc = _crc16(_crc16(_crc16(0xFFFF, identity), struct.pack("<I", number)), data)
    return data + struct.pack("<H", crc)


def _superblock(shape: _Shape, groups: list[_Group], number: int, identity: bytes, now: int, journal: int) -> bytes:
    """struct ext4_super_block; `number` is of the group it lies in, `journal` the first block of that."""
    inodes = shape.inodes * shape.groups
    free = sum(group.blocks - group.used for group in groups)
    compatible = _COMPATIBLE | (_JOURNALED if shape.journal else 0)
    data = bytearray(1024)
    struct.pack_into(
        "<13I6H4I2H", data, 0,
        *(inodes, shape.blocks, 0, free, inodes - _RESERVED, 0, 2, 2, _PER_GROUP, _PER_GROUP, shape.inodes, 0, now),
        *(0, 0xFFFF, 0xEF53, 1, 1, 0),  # mounts, state: clean, on errors: continue
        *(now, 0, 0, 1, 0, 0),
    )  # fmt: skip
    struct.pack_into(
        "<I2H3I16s", data, 0x54, _RESERVED + 1, _INODE, number & 0xFFFF, compatible, _INCOMPATIBLE, _READ_ONLY, identity
    )
    struct.pack_into("<16s2B", data, 0xEC, secrets.token_bytes(16), 1, 0)  # half MD4
    struct.pack_into("<3I", data, 0x100, 0x4 | 0x8, 0, now)  # user attributes, ACLs
    struct.pack_into("<2HI", data, 0x15C, 32, 32, 1)
    if shape.journal:
        struct.pack_into("<I", data, 0xE0, _JOURNAL)
        data[0xFD] = 1  # a copy of its inode:
        struct.pack_into("<60s2I", data, 0x10C, _extent(journal, shape.journal), 0, shape.journal * BLOCK)
    return bytes(data)


def _extent(start: int, count: int) -> bytes:
    """i_block of a file whose blocks follow each other."""
    return struct.pack("<HHHHIIHHI", 0xF30A, 1, 4, 0, 0, 0, count, 0, start).ljust(60, b"\0")


def _write_inodes(file: int, shape: _Shape, group: _Group, root_block: int, now: int) -> None:
    table = (group.tables + 2) * BLOCK
    os.pwrite(file, _inode(0o40755, 2, root_block, 1, now), table + (_ROOT - 1) * _INODE)
    if shape.journal:
        os.pwrite(file, _inode(0o100600, 1, root_block + 1, shape.journal, now), table + (_JOURNAL - 1) * _INODE)


def _inode(mode: int, links: int, start: int, count: int, now: int) -> bytes:
    """struct ext4_inode."""
    sectors = count * BLOCK // 512
    data = struct.pack(
        "<HH5IHH3I60s",
        mode,
        0,
        count * BLOCK,
        now,
        now,
        now,
        0,
        0,
        links,
        sectors,
        _EXTENTS_FLAG,
        0,
        _extent(start, count),
    )
    return (data.ljust(128, b"\0") + struct.pack("<H", 32)).ljust(_INODE, b"\0")


def _root_directory() -> bytes:
    own = struct.pack("<IHBB4s", _ROOT, 12, 1, 2, b".")
    return (own + struct.pack("<IHBB4s", _ROOT, BLOCK - 12, 2, 2, b"..")).ljust(BLOCK, b"\0")


def _journal(blocks: int, identity: bytes) -> bytes:
    """journal_superblock_t (linux/jbd2.h), big-endian: version 2, empty."""
    head = struct.pack(">12I", _JOURNAL_MAGIC, 4, 0, BLOCK, blocks, 1, 1, 0, 0, 0, 0, 0)
    return (head + identity + struct.pack(">I", 1)).ljust(BLOCK, b"\0")
