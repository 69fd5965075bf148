"""Files that rows of metrics are written to: SageMaker's metrics file, TensorBoard's event files.

The metrics file is JSON lines in $SAGEMAKER_METRICS_DIRECTORY/<pid>.json, in the form of
sagemaker-experiments, smexperiments/metrics.py, which smdebug writes too. A line's time must be
between 14 days before and 2 hours after it is read. Without the variable there is no file.

Event files are TFRecords of Event messages. A record is its length (8 bytes), the masked CRC-32C of
that, the data, and its masked CRC-32C (tensorflow/core/lib/io/record_writer.h); the messages are
event.proto's and summary.proto's.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sagemaker_byoc.contract.variables import METRICS_DIRECTORY
from sagemaker_byoc.training.library.outputs import Appender


class Row(NamedTuple):
    step: int
    time: float
    """Seconds since the epoch."""
    values: Mapping[str, float]


class Sink(Protocol):
    def write(self, rows: Sequence[Row]) -> None:
        """Take rows, on the training's thread, without waiting. Raise OSError if that fails."""

    def close(self, seconds: float) -> None:
        """Write what is kept, within about this time."""


class MetricFile:
    def __init__(self, path: Path) -> None:
        self._file = Appender(path)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> MetricFile | None:
        folder = environ.get(METRICS_DIRECTORY)
        return cls(Path(folder) / f"{os.getpid()}.json") if folder else None

    def write(self, rows: Sequence[Row]) -> None:
        self._file.write("".join([lines(row) for row in rows]).encode())

    def close(self, seconds: float) -> None:  # noqa: ARG002 - nothing is kept
        self._file.close()


def lines(row: Row) -> str:
    """Return a row's finite numbers as JSON lines; not by json.dumps, which is slower."""
    tail = f', "Timestamp": {row.time!r}, "IterationNumber": {row.step}}}\n'
    return "".join(
        [
            f"{_metric_head(name)}{value!r}{tail}"
            for name, value in row.values.items()
            if value - value == 0
        ]
    )


@functools.lru_cache(4096)
def _metric_head(name: str) -> str:
    return f'{{"MetricName": {json.dumps(name)}, "Value": '


POLYNOMIAL = 0x82F63B78
MASK_DELTA = 0xA282EAD8
SHORT = 16
"""Bytes below which a plain loop is as fast."""
VERSION = b"brain.Event:2"
_SMALL = tuple(bytes([number]) for number in range(0x80))
_WALL_TIME = struct.Struct("<Bd")


@functools.cache
def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


@functools.lru_cache(32)
def _shares(size: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.intp]]:
    """Return what each byte value adds at each place to the CRC of so many bytes, which is linear
    over GF(2), and the start of each place's 256 values."""
    table = np.array(_table(), dtype=np.uint32)
    rows = [table]
    for _ in range(size - 1):
        rows.append(table[rows[-1] & 0xFF] ^ (rows[-1] >> 8))  # followed by one zero byte
    return np.concatenate(rows[::-1]), np.arange(size, dtype=np.intp) * 256


def _crcs(data: bytes, size: int) -> npt.NDArray[np.uint32]:
    """Return the checksums of consecutive messages of `size` bytes, at least 4."""
    shares, places = _shares(size)
    messages = np.frombuffer(data, dtype=np.uint8).reshape(-1, size).copy()
    messages[:, :4] ^= 0xFF  # the same as starting with all ones
    crcs: npt.NDArray[np.uint32] = np.bitwise_xor.reduce(shares[messages + places], axis=1)
    return ~crcs


def crc32c(data: bytes) -> int:
    """Return Castagnoli's CRC, as in RFC 3720, appendix B.4."""
    if len(data) < SHORT:
        crc, table = 0xFFFFFFFF, _table()
        for byte in data:
            crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
        return crc ^ 0xFFFFFFFF
    return int(_crcs(data, len(data))[0])


def masked(data: bytes) -> int:
    """Return the CRC rotated, plus a constant: a CRC of data that holds CRCs would be weak."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    return b"".join((_head(len(data)), data, struct.pack("<I", masked(data))))


def records(events: Sequence[bytes]) -> bytes:
    """Return the records of events; those of one length are checksummed together."""
    found: list[bytes] = []
    for size, group in groupby(events, len):
        bodies = [*group]
        if len(bodies) == 1 or size < SHORT:
            found += map(record, bodies)
            continue
        head, sums = _head(size), _all_masked(bodies, size)
        for number, body in enumerate(bodies):
            found += (head, body, sums[4 * number : 4 * number + 4])
    return b"".join(found)


def _all_masked(bodies: Sequence[bytes], size: int) -> bytes:
    """Return `masked` of each body, as four bytes."""
    crcs = _crcs(b"".join(bodies), size)
    rotated = (crcs >> np.uint32(15)) | (crcs << np.uint32(17))
    sums: bytes = (rotated + np.uint32(MASK_DELTA)).astype("<u4").tobytes()
    return sums


@functools.lru_cache(4096)
def _head(size: int) -> bytes:
    length = struct.pack("<Q", size)
    return length + struct.pack("<I", masked(length))


@functools.lru_cache(256)
def _summary(names: tuple[str, ...]) -> tuple[struct.Struct, tuple[bytes, ...]]:
    """Return how the summary of these tags is packed, and the bytes before each number."""
    tags = [_block(1, name.encode()) + b"\x15" for name in names]
    heads = [b"\x0a" + _varint(len(tag) + 4) + tag for tag in tags]
    size = sum(len(head) + 4 for head in heads)
    heads[:1] = [_varint(5 << 3 | 2) + _varint(size) + head for head in heads[:1]]
    return struct.Struct("<" + "".join(f"{len(head)}sf" for head in heads)), tuple(heads)


def scalars(row: Row) -> bytes:
    """Encode an Event: wall_time = 1, step = 2, summary = 5, its tag = 1, simple_value = 2."""
    layout, heads = _summary(tuple(row.values))
    values = row.values.values()
    try:
        summary = layout.pack(*chain.from_iterable(zip(heads, values, strict=True)))
    except OverflowError:
        summary = layout.pack(*chain.from_iterable(zip(heads, map(_float32, values), strict=True)))
    step = b"\x10" + _varint(row.step) if row.step else b""
    return _WALL_TIME.pack(0x09, row.time) + step + summary


def first_event(now: float) -> bytes:
    """Return the event that begins an event file."""
    return struct.pack("<Bd", 0x09, now) + _block(3, VERSION)


def _block(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    if 0 <= number < 0x80:
        return _SMALL[number]
    number &= 0xFFFFFFFFFFFFFFFF
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _float32(value: float) -> float:
    """Return infinity for a number that is too large for a float32, which packing refuses."""
    return value if abs(value) < 3.4028235e38 or value != value else value * float("inf")  # noqa: PLR0124 - NaN


class EventFile:
    """`events.out.tfevents.<time>.<host>.<pid>` in a folder; each write is of whole records."""

    def __init__(self, folder: Path) -> None:
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}"
        self._file = Appender(folder / name)
        self._first = record(first_event(now))

    @property
    def path(self) -> Path:
        return self._file.path

    def write(self, rows: Sequence[Row]) -> None:
        self._file.write(self._first + records([scalars(row) for row in rows]))
        self._first = b""

    def close(self, seconds: float) -> None:  # noqa: ARG002 - nothing is kept
        self._file.close()
