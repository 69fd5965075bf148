"""The checksums of `x-amz-checksum-ALGORITHM`: over bytes, and over the parts of an upload."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from io import FileIO
from typing import Protocol

CRC = frozenset({"crc32", "crc32c", "crc64nvme"})
"""Checksums of an object that can be computed from those of its parts."""
ALGORITHMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256", "sha512", "md5")
UNKNOWN = ("xxhash64", "xxhash3", "xxhash128")
"""Further checksums of S3, which Python lacks."""
PREFIX = "x-amz-checksum-"

_CHUNK = 1 << 20
_POLYNOMIALS = {
    "crc32": (0xEDB88320, 4),
    "crc32c": (0x82F63B78, 4),
    "crc64nvme": (0x9A6C9329AC4BC9B5, 8),
}
"""Reflected polynomial and bytes of the sum; CRC-32C and CRC-64/NVME as in the catalogue of
parametrised CRC algorithms (reveng)."""

Crc = Callable[[bytes | bytearray | memoryview, int], int]


class Checksum(Protocol):
    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def digest(self) -> bytes: ...


def start(algorithm: str) -> Checksum:
    if algorithm in _POLYNOMIALS:
        return _Running(algorithm)
    return hashlib.new(algorithm, usedforsecurity=False)


def encode(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def stated(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the checksums in `headers`, by algorithm."""
    return {name: headers[PREFIX + name] for name in ALGORITHMS if PREFIX + name in headers}


def as_headers(sums: Mapping[str, str]) -> dict[str, str]:
    """Return checksums by algorithm as headers."""
    return {PREFIX + name: value for name, value in sums.items()}


def copy(source: FileIO, write: Callable[[bytes], None], length: int, algorithm: str) -> str:
    """Copy up to `length` bytes and return their checksum, "" without an algorithm."""
    running = start(algorithm) if algorithm else None
    while piece := source.read(min(_CHUNK, length)):
        length -= len(piece)
        write(piece)
        if running is not None:
            running.update(piece)
    return "" if running is None else encode(running.digest())


def composite(algorithm: str, parts: Iterable[str]) -> str:
    """Return the checksum of the parts' checksums and their number: `BASE64-N`."""
    digests = [base64.b64decode(part) for part in parts]
    whole = start(algorithm)
    whole.update(b"".join(digests))
    return f"{encode(whole.digest())}-{len(digests)}"


def full_object(algorithm: str, parts: Iterable[tuple[str, int]]) -> str:
    """Return the CRC of the object, from the CRC and the size of each part."""
    polynomial, width = _POLYNOMIALS[algorithm]
    crc = 0
    for checksum, size in parts:
        value = int.from_bytes(base64.b64decode(checksum), "big")
        crc = _shift(crc, size, polynomial, width * 8) ^ value
    return encode(crc.to_bytes(width, "big"))


class _Running:
    def __init__(self, algorithm: str) -> None:
        self._crc = _function(algorithm)
        self._width = _POLYNOMIALS[algorithm][1]
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        self._value = self._crc(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


@functools.cache
def _function(algorithm: str) -> Crc:
    """Return zlib's function, that of AWS's library if installed, or a table, ~100 times slower."""
    if algorithm == "crc32":
        return zlib.crc32
    try:
        native = getattr(importlib.import_module("awscrt.checksums"), algorithm)
    except (ImportError, AttributeError):
        return _table_function(*_POLYNOMIALS[algorithm])

    def crc(data: bytes | bytearray | memoryview, value: int) -> int:
        result: int = native(bytes(data), value)
        return result

    return crc


def _table_function(polynomial: int, width: int) -> Crc:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
        table.append(value)
    ones = (1 << width * 8) - 1

    def crc(data: bytes | bytearray | memoryview, value: int) -> int:
        value ^= ones
        for byte in data:
            value = table[(value ^ byte) & 255] ^ value >> 8
        return value ^ ones

    return crc


def _shift(crc: int, size: int, polynomial: int, bits: int) -> int:
    """Return `crc` after `size` more zero bytes: times x^(8·size) modulo the polynomial."""
    power = _multiply_power(size * 8, polynomial, bits)
    return _multiply(crc, power, polynomial, bits)


def _multiply(a: int, b: int, polynomial: int, bits: int) -> int:
    """Multiply in reflected order: the highest bit is x^0."""
    product = 0
    for position in range(bits - 1, -1, -1):
        if a >> position & 1:
            product ^= b
        b = b >> 1 ^ (polynomial if b & 1 else 0)
    return product


def _multiply_power(exponent: int, polynomial: int, bits: int) -> int:
    result = 1 << bits - 1
    square = 1 << bits - 2
    while exponent:
        if exponent & 1:
            result = _multiply(result, square, polynomial, bits)
        square = _multiply(square, square, polynomial, bits)
        exponent >>= 1
    return result
