"""Records in a stream of bytes: lines, RecordIO, or the whole stream as one record.

A RecordIO record is a magic word, a word of flag and length, the payload, and padding to a multiple
of four.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from enum import StrEnum
from typing import NoReturn

from sagemaker_byoc.training.library.data.sources import CHUNK, DataError, Source

MAGIC = 0xCED7230A
MXNET_JOINT = struct.pack("<I", MAGIC)
AWS_JOINT = b""

HEADER = struct.Struct("<II")
LENGTH_BITS = 29
LONGEST = (1 << LENGTH_BITS) - 1
"""Bytes of one part."""

LARGE = 32 << 10
"""Bytes of a record from which a read for it alone is cheaper than a copy out of a chunk."""

WHOLE, FIRST, MIDDLE, LAST = range(4)


class RecordError(DataError):
    """Bytes that are not records, and the position of the first of them."""


def record_blocks(source: Source, where: str, joint: bytes = AWS_JOINT) -> Iterator[list[bytes]]:
    """Yield the payloads in `source`, as many at a time as one read returned.

    Raise RecordError at the first byte that is not RecordIO, after all whole records before it.
    """
    cutter = _Cutter(source, where, joint)
    try:
        rest = b""
        while True:
            if cutter.is_large(rest):
                rest = cutter.finish(rest)
            elif chunk := source.read(CHUNK):
                rest = cutter.cut_across(rest, chunk) if rest else cutter.cut(chunk)
            else:
                break
            if cutter.records:
                yield cutter.taken()
        cutter.check_end(rest)
    except RecordError:
        if cutter.records:
            yield cutter.taken()
        raise


class _Cutter:
    """Cuts records out of chunks: small ones many at a time, large ones with reads of their own."""

    def __init__(self, source: Source, where: str, joint: bytes) -> None:
        self.records: list[bytes] = []
        self._source = source
        self._where = where
        self._joint = joint
        self._parts: list[bytes] = []
        self._offset = 0

    def taken(self) -> list[bytes]:
        records, self.records = self.records, []
        return records

    def cut(self, data: bytes, at: int = 0) -> bytes:
        """Take the whole records of `data` from `at` on, and return what is left."""
        # The loop uses local names only, for speed: it runs once per record.
        add, unpack, head, longest = self.records.append, HEADER.unpack_from, HEADER.size, LONGEST
        start, size, parts = at, len(data), self._parts
        try:
            while at + head <= size:
                magic, word = unpack(data, at)
                if magic != MAGIC:
                    self._refuse(at - start, _no_magic(magic))
                end = at + head + (word & longest)
                padded = end + (-word & 3)
                if padded > size:
                    break
                if word <= longest and not parts:
                    add(data[at + head : end])
                else:
                    self._join(data[at + head : end], word >> LENGTH_BITS, at - start)
                at = padded
        finally:
            self._offset += at - start
        return data[at:]

    def cut_across(self, rest: bytes, chunk: bytes) -> bytes:
        """Cut `rest` and `chunk` together, without copying all of the chunk."""
        if len(rest) >= HEADER.size:
            length, _ = self._parse(rest)
            missing = HEADER.size + length + -length % 4 - len(rest)
            if missing <= len(chunk):
                self.cut(rest + chunk[:missing])
                return self.cut(chunk, missing)
        return self.cut(rest + chunk)

    def is_large(self, rest: bytes) -> bool:
        return len(rest) >= HEADER.size and self._parse(rest)[0] >= LARGE

    def finish(self, rest: bytes) -> bytes:
        """Read the rest of the record that `rest` begins; return the bytes after it."""
        length, flag = self._parse(rest)
        end = HEADER.size + length
        payload = rest[HEADER.size : end]
        if len(payload) < length:
            missing = self._read(length - len(payload))
            payload = payload + missing if payload else missing
        if len(payload) < length:
            self._truncated(HEADER.size + len(payload), length)
        # Padding and the next header in one read, which costs more than the bytes of either.
        padding = -length % 4
        tail = rest[end:]
        tail += self._read(max(0, padding + HEADER.size - len(tail)))
        if len(tail) < padding:
            self._truncated(end + len(tail), length)
        if flag == WHOLE and not self._parts:
            self.records.append(payload)
        else:
            self._join(payload, flag, 0)
        self._offset += end + padding
        return tail[padding:]

    def check_end(self, rest: bytes) -> None:
        """Raise unless the data ends where a record does."""
        if len(rest) >= HEADER.size:
            self._truncated(len(rest), self._parse(rest)[0])
        if rest:
            self._refuse(0, f"ends inside a header, {len(rest)} of {HEADER.size} bytes long")
        if self._parts:
            self._refuse(0, f"ends after {len(self._parts)} parts of a record that has more")

    def _read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        data = self._source.read(size) if size else b""
        if len(data) == size:
            return data
        pieces = [data]
        while data and (size := size - len(data)):
            data = self._source.read(size)
            pieces.append(data)
        return b"".join(pieces)

    def _parse(self, rest: bytes) -> tuple[int, int]:
        """Return length and flag of the record that `rest` begins."""
        magic, word = HEADER.unpack_from(rest)
        if magic != MAGIC:
            self._refuse(0, _no_magic(magic))
        return word & LONGEST, word >> LENGTH_BITS

    def _join(self, payload: bytes, flag: int, at: int) -> None:
        expected = (MIDDLE, LAST) if self._parts else (WHOLE, FIRST)
        if flag not in expected:
            self._refuse(at, f"has continuation flag {flag} where {expected} may stand")
        self._parts.append(payload)
        if flag in {WHOLE, LAST}:
            self.records.append(self._joint.join(self._parts))
            self._parts.clear()

    def _truncated(self, end: int, length: int) -> NoReturn:
        start = self._offset
        self._refuse(end, f"ends inside the record of {length} bytes that starts at byte {start}")

    def _refuse(self, at: int, what: str) -> NoReturn:
        raise RecordError(
            where=f"{self._where}, byte {self._offset + at}",
            what=what,
            hint="Check that the data is RecordIO and whole, or read it with another framing",
        )


def _no_magic(magic: int) -> str:
    return f"has {magic:#010x} where a record starts with {MAGIC:#010x}"


def encode_record(payload: bytes) -> bytes:
    """Encode a record as MXNet does: split where the payload holds an aligned magic word."""
    if len(payload) > LONGEST:
        raise RecordError(
            where=f"record of {len(payload)} bytes",
            what=f"is longer than {LONGEST} bytes, RecordIO's limit",
            hint="Split it",
        )
    parts = []
    start = 0
    while (cut := _aligned_magic(payload, start)) >= 0:
        parts.append(payload[start:cut])
        start = cut + len(MXNET_JOINT)
    parts.append(payload[start:])
    flags = [FIRST, *[MIDDLE] * (len(parts) - 2), LAST] if len(parts) > 1 else [WHOLE]
    return b"".join(frame(part, flag) for part, flag in zip(parts, flags, strict=True))


def frame(part: bytes, flag: int = WHOLE) -> bytes:
    """Return a part with its header and its padding."""
    return HEADER.pack(MAGIC, flag << LENGTH_BITS | len(part)) + part + bytes(-len(part) % 4)


def _aligned_magic(payload: bytes, start: int) -> int:
    found = payload.find(MXNET_JOINT, start)
    while found >= 0 and found % 4:
        found = payload.find(MXNET_JOINT, found + 1)
    return found


class Framing(StrEnum):
    LINES = "lines"
    """Each line with its line feed, which the last may lack."""
    RECORD_IO = "RecordIO"
    WHOLE = "whole"
    """The whole content is one record."""


def split(
    source: Source, framing: Framing, where: str, joint: bytes = AWS_JOINT
) -> Iterator[list[bytes]]:
    """Yield the records of `source`, as many at a time as one read has; `where` is for errors.

    Lists, since a generator's step costs a good part of the time for a short line.
    """
    try:
        match framing:
            case Framing.LINES:
                yield from _lines(source)
            case Framing.RECORD_IO:
                yield from record_blocks(source, where, joint)
            case Framing.WHOLE:
                yield [b"".join(_chunks(source))]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RecordError(
            where=where, what=f"is not a whole gzip file ({error})", hint="Upload it again"
        ) from error
    except OSError as error:
        raise DataError(
            where=where,
            what=f"can't be read to its end ({error.strerror or error})",
            hint="Check the channel's source",
        ) from error


def _lines(source: Source) -> Iterator[list[bytes]]:
    begun: list[bytes] = []
    for chunk in _chunks(source):
        # Not chunk.split, which takes three times as long.
        lines = io.BytesIO(chunk).readlines()
        if begun:
            begun.append(lines[0])
            if not lines[0].endswith(b"\n"):
                continue
            lines[0] = b"".join(begun)
            begun = []
        if not lines[-1].endswith(b"\n"):
            begun = [lines.pop()]
        yield lines
    if begun:
        yield [b"".join(begun)]


def _chunks(source: Source) -> Iterator[bytes]:
    return iter(lambda: source.read(CHUNK), b"")
