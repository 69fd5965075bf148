"""The journal: changes are durable here, once per group, before their files are in place.

    ROOT/.journal/0    one of two segments in turns: records of one generation after another
    ROOT/.journal/1    the other

A record is written and synced before the change's files are renamed. So one sync makes a group of
changes durable, and none of their own files is synced. A segment that is full is *checkpointed*:
when the file system has written everything, its first record is erased. A crash leaves at most two
segments to repeat. Segments are overwritten from the start, which costs no change of metadata;
each record carries the generation of its segment, so that an older rest is not taken for new.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from sagemaker_byoc.region.services.s3.store.disk import Disk

SEGMENT_BYTES = 16 << 20
SEGMENT_RECORDS = 8192
"""Both bound what a start repeats after a crash."""
_GROWTH = 1 << 20
_FRAME = struct.Struct("<4sBQII")
"""Magic, whether it counts, generation, length, and CRC-32 of these two and the rest."""
_MAGIC = b"BYJ1"
_BODY = struct.Struct("<BqqHHIIH")  # times before 1970 are negative
_CHECKED = struct.Struct("<QI")
_ERASED = bytes(_FRAME.size)
_COUNTS_AT = 4


class Kind(IntEnum):
    PUT = 1
    """A small object: attributes and bytes."""
    MOVE = 2
    """A large object: attributes, and the name of its synced file in `.new`."""
    DELETE = 3
    TAG = 4
    """New attributes of the object that has this modification time."""
    DROP = 5
    """The bucket was deleted; it had no object."""


@dataclass(frozen=True, slots=True)
class Record:
    """A change. `before` and `mtime` are modification times in nanoseconds, 0 for no object."""

    kind: Kind
    bucket: str
    key: str = ""
    before: int = 0
    mtime: int = 0
    attributes: bytes = b""
    data: bytes | bytearray = b""
    file: str = ""

    def encode(self) -> bytes:
        names = [_bytes(name) for name in (self.bucket, self.key, self.file)]
        sizes = (len(names[0]), len(names[1]), len(self.attributes), len(self.data), len(names[2]))
        head = _BODY.pack(self.kind, self.before, self.mtime, *sizes)
        return b"".join([head, *names[:2], self.attributes, self.data, names[2]])

    @classmethod
    def decode(cls, data: memoryview) -> Record:
        kind, before, mtime, *sizes = _BODY.unpack_from(data)
        pieces, position = [], _BODY.size
        for size in sizes:
            pieces.append(bytes(data[position : position + size]))
            position += size
        bucket, key, attributes, body, file = pieces
        names = (_text(bucket), _text(key))
        return cls(Kind(kind), *names, before, mtime, attributes, body, _text(file))


@dataclass(slots=True)
class _Segment:
    file: int
    size: int

    def grow(self, end: int) -> None:
        """Fill with zeros up to `end` at least: later writes then change no metadata."""
        while self.size < end:
            self.size += os.pwrite(self.file, bytes(_GROWTH), self.size)

    def generation(self) -> int:
        """Return the generation of the first record, 0 if there is none."""
        head = os.pread(self.file, _FRAME.size, 0)
        return int(_FRAME.unpack(head)[2]) if head.startswith(_MAGIC) else 0

    def write(self, data: bytes, position: int) -> None:
        self.grow(position + len(data))
        view = memoryview(data)
        while view:
            written = os.pwrite(self.file, view, position)
            view, position = view[written:], position + written


class Journal:
    """One thread appends; `disk` syncs."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        folder.mkdir(exist_ok=True)
        self._disk = disk
        self._folder = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        files = [os.open(folder / name, flags, 0o600) for name in ("0", "1")]
        self._segments = [_Segment(file, os.fstat(file).st_size) for file in files]
        self._active = 0
        self._position = 0
        self._count = 0
        self._generation = time.time_ns()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="byoc-checkpoint")
        self._checkpoint: Future[None] | None = None
        self._filled = 1

    def records(self) -> list[Record]:
        """Return what a crash left, in the order of the changes."""
        found = [_read(segment) for segment in self._segments]
        return [
            record for _, records in sorted(found, key=lambda one: one[0]) for record in records
        ]

    def erase(self) -> None:
        """Forget all records, when all that they say is in place."""
        self._disk.sync_all(self._folder)
        for segment in sorted(self._segments, key=_Segment.generation):  # the older one first
            self._erase(segment)
        self._position = self._count = 0

    def append(self, records: Sequence[bytes]) -> list[tuple[int, int]]:
        """Make encoded records durable; return their places. Raise OSError: then none counts."""
        for segment in self._segments:  # so that a full disk has room for a deletion in either
            if not segment.size:
                with contextlib.suppress(OSError):
                    segment.grow(1)
        size = sum(map(len, records)) + len(records) * _FRAME.size
        full = self._position + size > SEGMENT_BYTES
        if full or self._count + len(records) > SEGMENT_RECORDS:
            self.rotate()
        try:
            return self._append(records)
        except OSError as error:
            # A full disk still has the room of the other segment: a deletion must be possible.
            if error.errno not in {errno.ENOSPC, errno.EDQUOT} or not self._position:
                raise
            self.rotate()
            return self._append(records)

    def _append(self, records: Sequence[bytes]) -> list[tuple[int, int]]:
        segment, start = self._segments[self._active], self._position
        places: list[tuple[int, int]] = []
        frames: list[bytes] = []
        position = start
        for record in records:
            crc = _crc(self._generation, record)
            frame = _FRAME.pack(_MAGIC, 1, self._generation, len(record), crc)
            places.append((segment.file, position))
            frames += (frame, record)
            position += len(frame) + len(record)
        try:
            segment.write(b"".join(frames), start)
            self._disk.sync(segment.file)
        except OSError:
            with contextlib.suppress(OSError):
                os.pwrite(segment.file, _ERASED, start)
                for file, place in places[1:]:  # the next group could lead to them again
                    os.pwrite(file, b"\0", place + _COUNTS_AT)
            raise
        self._position = position
        self._count += len(records)
        return places

    def withdraw(self, place: tuple[int, int]) -> None:
        """Take back a record whose change failed after it was written."""
        file, position = place
        os.pwrite(file, b"\0", position + _COUNTS_AT)
        self._disk.sync(file)

    @property
    def is_empty(self) -> bool:
        return self._position == 0

    def rotate(self, *, wait: bool = True) -> None:
        """Use the other segment, and checkpoint this one in the background.

        Wait for the other's checkpoint, or do nothing while it runs. Raise OSError if that failed,
        and again just now.
        """
        running = self._checkpoint
        if self.is_empty or (running is not None and not running.done() and not wait):
            return
        if running is not None and running.exception() is not None:
            self._write_out(self._segments[self._filled])
        self._filled, self._active = self._active, 1 - self._active
        self._position = self._count = 0
        self._generation = max(self._generation + 1, time.time_ns())
        self._checkpoint = self._threads.submit(self._write_out, self._segments[self._filled])

    def _write_out(self, segment: _Segment) -> None:
        self._disk.sync_all(self._folder)
        self._erase(segment)

    def _erase(self, segment: _Segment) -> None:
        """Erase the first record, durably: an old record must not outlive a newer one."""
        if segment.size:
            os.pwrite(segment.file, _ERASED, 0)
            self._disk.sync(segment.file)

    def close(self) -> None:
        """Wait for the disk, and leave nothing to repeat. Idempotent."""
        if not self._segments:
            return
        self._threads.shutdown()
        try:
            if not self.is_empty or (self._checkpoint is not None and self._checkpoint.exception()):
                self.erase()
        finally:
            for file in (self._folder, *(segment.file for segment in self._segments)):
                os.close(file)
            self._segments = []


def _read(segment: _Segment) -> tuple[int, list[Record]]:
    """Return the generation and the records of a segment, up to the first that is not whole."""
    data = memoryview(os.pread(segment.file, segment.size, 0))
    records: list[Record] = []
    generation = 0
    for counts, own, body in _frames(data):
        generation = generation or own
        if own != generation:
            break
        if counts:
            records.append(Record.decode(body))
    return generation, records


def _frames(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    position = 0
    while position + _FRAME.size <= len(data):
        magic, counts, generation, length, crc = _FRAME.unpack_from(data, position)
        position += _FRAME.size
        body = data[position : position + length]
        is_whole = magic == _MAGIC and _BODY.size <= length == len(body)
        if not is_whole or _crc(generation, body) != crc:
            return
        yield counts, generation, body
        position += length


def _crc(generation: int, record: bytes | memoryview) -> int:
    return zlib.crc32(record, zlib.crc32(_CHECKED.pack(generation, len(record))))


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")
