"""Records of a Weights & Biases log: the framing of LevelDB's log and the wire format of protobuf, each within bounds.

A log is blocks of 32,768 bytes; a part has its CRC, its length and whether it begins or ends a record. Nothing here needs
the packages wandb or protobuf, and nothing in the file decides how much is read or kept.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import IO

MAGIC = b":W&B"
VERSION = b"\xe1\xbe\x00"
"""What stands between MAGIC and the first part."""

BLOCK = 2**15
_PART = struct.Struct("<IHB")
"""CRC-32 of kind and content, length of the content, kind."""

_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4

MOST_RECORD = 16 * 2**20
"""Bytes of one record; a step of a thousand numbers has 40,000."""


def records(file: IO[bytes], damaged: Callable[[str], None]) -> Iterator[bytes]:
    """The whole records of a log, from after its first seven bytes; a damaged or unfinished one is told to `damaged`.

    A part whose CRC is wrong is left out with its record; after two in a row the next block is where reading goes on.
    """
    record: bytearray | None = None
    start = len(MAGIC + VERSION)
    # The block lies where it would in the file from its beginning.
    block = bytes(start) + file.read(BLOCK - start)
    while len(block) > start:
        wrong = 0
        while start + _PART.size <= len(block):
            crc, length, kind = _PART.unpack_from(block, start)
            end = start + _PART.size + length
            if not (crc or length or kind) or end > len(block):
                break
            body, start = block[start + _PART.size : end], end
            if zlib.crc32(body, zlib.crc32(bytes([kind]))) != crc or not _FULL <= kind <= _LAST:
                wrong += 1
                damaged("a wrong checksum")
                record = None
                if wrong > 1:
                    start = len(block)
                continue
            wrong = 0
            if kind in (_FULL, _FIRST):
                if record is not None:
                    damaged("not finished")
                record = bytearray()
            if record is None:
                # What is left of a record that was counted already.
                continue
            record += body
            if len(record) > MOST_RECORD:
                damaged(f"longer than {MOST_RECORD // 2**20} MB")
                record = None
            elif kind in (_FULL, _LAST):
                yield bytes(record)
                record = None
        rest = block[start:]
        if any(rest) and len(block) == BLOCK and len(rest) >= _PART.size:
            damaged("a length beyond its block")
            record = None
        elif any(rest) and len(block) < BLOCK:
            # A log that is being written ends in a part of a record.
            record = record if record is not None else bytearray()
        block, start = file.read(BLOCK), 0
    if record is not None:
        damaged("not finished")


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of a protobuf message's fields: an int of a varint, the bytes of all others.

    Raises ValueError where it is no message; a length is held against what is left of it.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(message, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + length > len(message):
            raise ValueError("a length beyond the message")
        yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    # Most keys and lengths are one byte; a run of a million numbers has millions of them.
    if at < len(message) and message[at] < 0x80:
        return message[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("a number without an end")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")
