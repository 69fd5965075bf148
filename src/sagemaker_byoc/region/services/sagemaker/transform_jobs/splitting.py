"""Split the content of an object into records and the bodies of requests, in bounded memory."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import BinaryIO

from sagemaker_byoc.region.services.s3.store import checksums
from sagemaker_byoc.region.services.sagemaker.jobs import pipes

CHUNK = 1 << 20
TOGETHER = 4096
"""Records that are objects at a time."""
_WINDOW = 64 << 10
MEGABYTE = 1 << 20
_FRAME = struct.Struct("<II")
_TF_LENGTH = struct.Struct("<Q")
_TF_CHECKSUM = struct.Struct("<I")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


class Split(StrEnum):
    NONE = "None"
    LINE = "Line"
    RECORD_IO = "RecordIO"
    TF_RECORD = "TFRecord"


class RecordError(Exception):
    """The content of an object does not match the request, or a record is over the limit."""


@dataclass(frozen=True, slots=True, eq=False)
class Lines(Collection[bytes]):
    """Lines without their ends, in one text: an object per line takes ten times the memory."""

    text: bytes
    """Each line ends with a newline."""
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[bytes]:
        for window in windows(self.text):
            yield from window.split(b"\n")[:-1]

    def __contains__(self, line: object) -> bool:
        return any(each == line for each in self)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one request sends; `records` are its unchanged lines, if the job processes them."""

    body: bytes
    records: Collection[bytes] = ()


Prepare = Callable[[bytes], bytes]
"""Return the part of a record that the model gets."""


def chunks(file: BinaryIO, where: str, *, gunzip: bool) -> Iterator[bytes]:
    """Yield the content, unpacked. Raise DownloadError for incomplete gzip."""
    if gunzip:
        return pipes.gunzip(file, where)
    return iter(partial(file.read, CHUNK), b"")


def batches(
    source: Iterable[bytes], split: Split, limit: int, *, is_single: bool
) -> Iterator[Batch]:
    """Yield the bodies for an object: one record each if `is_single`, else as many as fit.

    Raise RecordError.
    """
    bodies: Iterator[bytes]
    if split is Split.NONE:
        bodies = _whole(source, limit)
    elif split is Split.LINE:
        bodies = lines(source, limit) if is_single else _runs_of_lines(source, limit)
    else:
        frames = _record_io if split is Split.RECORD_IO else _tf_records
        bodies = frames(_Reader(source), limit, is_bare=is_single)
        if not is_single:
            bodies = _packed(bodies, limit)
    return map(Batch, bodies)


def processed(
    source: Iterable[bytes], split: Split, limit: int, prepare: Prepare, *, is_single: bool
) -> Iterator[Batch]:
    """Yield batches for a job that filters or joins; empty lines are not records.

    A batch ends when its records, before or after `prepare`, would be over the limit.
    """
    if split is Split.NONE:
        for body in _whole(source, limit):
            yield Batch(prepare(body), (body,))
        return
    pack = _Pack()
    for line in lines(source, limit):
        record = line.rstrip(b"\r\n")
        if not record.strip():
            continue
        body = prepare(record)
        length = 1 + max(len(record), len(body))
        if pack.size and (is_single or pack.size + length > limit):
            yield pack.batch()
            pack = _Pack()
        pack.add(record, body, length)
    if pack.size:
        yield pack.batch()


class _Pack:
    """A batch that is filled."""

    def __init__(self) -> None:
        self.size = 0
        self._count = 0
        self._records: list[bytes] = []
        self._bodies: list[bytes] = []
        self._kept: list[bytes] = []
        self._sent: list[bytes] = []

    def add(self, record: bytes, body: bytes, length: int) -> None:
        self._records.append(record)
        self._bodies.append(body)
        self.size += length
        if len(self._records) == TOGETHER:
            self._join()

    def batch(self) -> Batch:
        self._join()
        return Batch(b"".join(self._sent), Lines(b"".join(self._kept), self._count))

    def _join(self) -> None:
        self._count += len(self._records)
        self._kept.append(b"\n".join([*self._records, b""]))
        self._sent.append(b"\n".join([*self._bodies, b""]))
        self._records, self._bodies = [], []


def over_limit(limit: int, what: str) -> RecordError:
    return RecordError(
        f"Too much data for max payload size: {what} is over {limit // MEGABYTE} MB. Set a larger "
        "MaxPayloadInMB or a smaller MaxConcurrentTransforms"
    )


def _whole(source: Iterable[bytes], limit: int) -> Iterator[bytes]:
    found: list[bytes] = []
    size = 0
    for chunk in source:
        found.append(chunk)
        size += len(chunk)
        if size > limit:
            raise over_limit(limit, "the object, which SplitType None does not split,")
    if size:
        yield b"".join(found)


def lines(source: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Yield lines with their ends; the last one may have none."""
    for run in _runs_of_lines(source, limit):
        for part in windows(run):
            yield from part.splitlines(keepends=True) if b"\r" not in part else _split(part)


def windows(text: bytes) -> Iterator[bytes]:
    """Yield a text in parts of whole lines, of 64 KiB or one line each."""
    at = 0
    while at < len(text):
        end = text.find(b"\n", at + _WINDOW) + 1 or len(text)
        yield text[at:end]
        at = end


def _split(run: bytes) -> Iterator[bytes]:
    """Split at newlines only; `splitlines` would split at a carriage return, too."""
    at = 0
    while at < len(run):
        end = run.find(b"\n", at) + 1 or len(run)
        yield run[at:end]
        at = end


def _runs_of_lines(source: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Yield as many whole lines at a time as fit into the limit."""
    rest = bytearray()
    for chunk in source:
        rest += chunk
        while len(rest) > limit:
            end = rest.rfind(b"\n", 0, limit) + 1
            if not end:
                raise over_limit(limit, "a line")
            yield bytes(rest[:end])
            del rest[:end]
    if rest:
        yield bytes(rest)


def _packed(records: Iterable[bytes], limit: int) -> Iterator[bytes]:
    found: list[bytes] = []
    size = 0
    for record in records:
        if found and size + len(record) > limit:
            yield b"".join(found)
            found, size = [], 0
        found.append(record)
        size += len(record)
    if found:
        yield b"".join(found)


class _Reader:
    """Reads of exact sizes from an iterator of chunks."""

    def __init__(self, source: Iterable[bytes]) -> None:
        self._source = iter(source)
        self._rest = bytearray()

    def at_end(self) -> bool:
        return not self._rest and not self._fill(1)

    def read(self, size: int) -> bytes:
        """Raise RecordError if the object ends before."""
        if not self._fill(size):
            raise RecordError("The object ends within a record")
        data = bytes(self._rest[:size])
        del self._rest[:size]
        return data

    def _fill(self, size: int) -> bool:
        while len(self._rest) < size:
            chunk = next(self._source, None)
            if chunk is None:
                return False
            self._rest += chunk
        return True


def _record_io(reader: _Reader, limit: int, *, is_bare: bool) -> Iterator[bytes]:
    """Yield records as they are or, if `is_bare`, their payloads.

    A payload that contains the magic word is cut there into parts, which lack it (dmlc's format).
    """
    while not reader.at_end():
        parts: list[bytes] = []
        size = 0
        flag = _FIRST
        while flag in {_FIRST, _MIDDLE}:
            head = reader.read(_FRAME.size)
            magic, word = _FRAME.unpack(head)
            if magic != pipes.MAGIC:
                raise RecordError("The object is not RecordIO: a record has another magic number")
            flag, length = word >> pipes.LENGTH_BITS, word & pipes.LONGEST
            size += _FRAME.size + length
            if size > limit:
                raise over_limit(limit, "a record")
            data = reader.read(length)
            padding = reader.read(-length % 4)
            parts += [data] if is_bare else [head, data, padding]
        magic_word = _FRAME.pack(pipes.MAGIC, 0)[:4]
        yield magic_word.join(parts) if is_bare else b"".join(parts)


def _tf_records(reader: _Reader, limit: int, *, is_bare: bool) -> Iterator[bytes]:
    """Yield records as they are or, if `is_bare`, their payloads, whose checksum is not checked."""
    while not reader.at_end():
        head = reader.read(_TF_LENGTH.size + _TF_CHECKSUM.size)
        (length,) = _TF_LENGTH.unpack_from(head)
        (stated,) = _TF_CHECKSUM.unpack_from(head, _TF_LENGTH.size)
        if stated != _masked(head[: _TF_LENGTH.size]):
            raise RecordError("The object is not TFRecord: a length has another checksum")
        if length + len(head) > limit:
            raise over_limit(limit, "a record")
        data = reader.read(length)
        checksum = reader.read(_TF_CHECKSUM.size)
        yield data if is_bare else head + data + checksum


def _masked(data: bytes) -> int:
    """Return TFRecord's masked CRC-32C."""
    checksum = checksums.start("crc32c")
    checksum.update(data)
    crc = int.from_bytes(checksum.digest(), "big")
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
