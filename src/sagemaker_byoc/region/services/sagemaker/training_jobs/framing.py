"""RecordIO, as the service writes it into a pipe: one object or attribute, one record.

A record is a magic word, a word of flag and length, the payload, padding to a multiple of four.
A payload above 2^29 - 1 bytes is cut into parts, marked first, middle and last.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

MAGIC = 0xCED7230A
LENGTH_BITS = 29
LONGEST = (1 << LENGTH_BITS) - 1
_HEADER = struct.Struct("<II")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


def frame(size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The record of `size` bytes that come as `chunks`; ValueError where they are not so many."""
    rest = b""
    source = iter(chunks)
    at = 0
    while True:
        length = min(LONGEST, size - at)
        yield _HEADER.pack(MAGIC, _flag(at, length, size) << LENGTH_BITS | length)
        left = length
        while left:
            data = rest or next(source, b"")
            if not data:
                raise ValueError(f"{size - at - (length - left)} bytes are missing")
            yield data[:left]
            rest = data[left:]
            left -= min(left, len(data))
        yield b"\0" * (-length % 4)
        at += length
        if at >= size:
            break
    if rest or next(source, b""):
        raise ValueError(f"there are more than {size} bytes")


def _flag(at: int, length: int, size: int) -> int:
    if length == size:
        return _WHOLE
    if at == 0:
        return _FIRST
    return _LAST if at + length == size else _MIDDLE
