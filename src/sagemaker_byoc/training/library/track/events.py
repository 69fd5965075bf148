"""TensorBoard's event files: TFRecords of Event messages, written by hand.

A record is its length (8 bytes), the masked CRC-32C of that, the data, and its masked CRC-32C
(tensorflow/core/lib/io/record_writer.h); the messages are event.proto's and summary.proto's.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sagemaker_byoc.training.library.track.sink import Row

POLYNOMIAL = 0x82F63B78
MASK_DELTA = 0xA282EAD8
SHORT = 16
"""Bytes below which a loop is as fast."""
VERSION = b"brain.Event:2"
_FLOAT = struct.Struct("<f")


@functools.cache
def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


@functools.lru_cache(256)
def _basis(size: int) -> npt.NDArray[np.uint32]:
    """What each single bit of so many bytes adds to their CRC, which is linear over GF(2)."""
    table = np.array(_table(), dtype=np.uint32)
    bits = table[1 << np.arange(8)]
    rows = [bits]
    for _ in range(size - 1):
        bits = table[bits & 0xFF] ^ (bits >> 8)  # one zero byte behind it
        rows.append(bits)
    return np.concatenate(rows[::-1])


def crc32c(data: bytes) -> int:
    """Castagnoli's, as in RFC 3720, appendix B.4."""
    if len(data) < SHORT:
        crc, table = 0xFFFFFFFF, _table()
        for byte in data:
            crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
        return crc ^ 0xFFFFFFFF
    found = np.frombuffer(data, dtype=np.uint8).copy()
    found[:4] ^= 0xFF  # the same as starting with all ones
    bits = np.unpackbits(found, bitorder="little").view(np.bool_)
    return int(np.bitwise_xor.reduce(_basis(len(data))[bits])) ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """A CRC of data that holds CRCs would be weak: rotated, and a constant added."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


@functools.lru_cache(4096)
def _head(size: int) -> bytes:
    length = struct.pack("<Q", size)
    return length + struct.pack("<I", masked(length))


def record(data: bytes) -> bytes:
    return b"".join((_head(len(data)), data, struct.pack("<I", masked(data))))


@functools.lru_cache(4096)
def _tag(name: str) -> bytes:
    """All of a Summary.Value but the four bytes of its number."""
    tag = _block(1, name.encode()) + b"\x15"
    return b"\x0a" + _varint(len(tag) + 4) + tag


def scalars(row: Row) -> bytes:
    """An Event: wall_time = 1, step = 2, summary = 5 of values with tag = 1, simple_value = 2."""
    values = b"".join(
        [_tag(name) + _FLOAT.pack(_float32(value)) for name, value in row.values.items()]
    )
    step = b"\x10" + _varint(row.step) if row.step else b""
    return struct.pack("<Bd", 0x09, row.time) + step + _block(5, values)


def first_event(now: float) -> bytes:
    """What tells a reader that this is an event file."""
    return struct.pack("<Bd", 0x09, now) + _block(3, VERSION)


def _block(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    number &= 0xFFFFFFFFFFFFFFFF
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _float32(value: float) -> float:
    """Packing refuses what is too large for a float32 but is not infinite."""
    return value if abs(value) < 3.4028235e38 or value != value else value * float("inf")  # noqa: PLR0124 - NaN


class EventFile:
    """`events.out.tfevents.<time>.<host>.<pid>` in a folder; each write is of whole records."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._descriptor: int | None = os.open(self.path, flags, 0o644)
        os.write(self._descriptor, record(first_event(now)))

    def write(self, rows: Sequence[Row]) -> None:
        if self._descriptor is not None:
            os.write(self._descriptor, b"".join(record(scalars(row)) for row in rows))

    def close(self, seconds: float) -> None:  # noqa: ARG002 - nothing is kept
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def tensorboard_folder(environ: Mapping[str, str], output: Path, configured: str | None) -> Path:
    """tensorboardoutputconfig.json's LocalPath, where SageMaker uploads from; else output's."""
    return Path(configured or environ.get("BYOC_TENSORBOARD_DIR") or output / "tensorboard")
