"""A layer packed with gzip, on every core, to the same bytes whatever their number.

Blocks are packed apart, each with the end of the one before it as its dictionary, and joined to one
gzip member: any reader takes it for the output of one compressor. The ratio is that of gzip's own.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from sagemaker_byoc.contract.machine import usable_cpus
from sagemaker_byoc.images.push.slices import Slice, scratch

LEVEL = 6
"""gzip's default; the engines' too."""
RECIPE = f"gzip-{LEVEL}-1"
"""Names what makes the bytes; a change of them changes it."""
BLOCK = 2**19
_WINDOW = 2**15
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_AHEAD = usable_cpus() + 4
"""Blocks that wait, packed or not: what bounds the memory."""


@dataclass(frozen=True, slots=True)
class Packed:
    content: Slice
    digest: str
    diff_id: str
    """The digest of what was packed."""


@contextmanager
def packed(
    plain: Slice, pool: Executor, passed: Callable[[int], None] = lambda _: None
) -> Iterator[Packed]:
    """`passed` hears how many bytes went in; what it raises ends the work."""
    before, after = hashlib.sha256(), hashlib.sha256()
    checksum, size = 0, 0
    with scratch() as file:

        def write(data: bytes) -> None:
            nonlocal size
            file.write(data)
            after.update(data)
            size += len(data)

        write(_HEADER)
        waiting: deque[Future[bytes]] = deque()
        for data, window, last in _blocks(plain):
            waiting.append(pool.submit(_pack, data, window, last=last))
            before.update(data)
            checksum = zlib.crc32(data, checksum)
            passed(len(data))
            while len(waiting) > _AHEAD or (last and waiting):
                write(waiting.popleft().result())
        write(struct.pack("<II", checksum, plain.size & 0xFFFFFFFF))
        file.flush()
        yield Packed(_slice(file, size), _sha256(after), _sha256(before))


def _blocks(plain: Slice) -> Iterator[tuple[bytes, bytes, bool]]:
    """Each block, what came before it, and whether it is the last; an empty one of nothing."""
    offset, window = 0, b""
    while True:
        data = _block(plain, offset)
        offset += len(data)
        last = offset >= plain.size
        yield data, window, last
        if last:
            return
        window = data[-_WINDOW:]


def _block(plain: Slice, offset: int) -> bytes:
    data = plain.read(offset, BLOCK)
    while len(data) < min(BLOCK, plain.size - offset):
        data += plain.read(offset + len(data), BLOCK - len(data))
    return data


def _pack(data: bytes, window: bytes, *, last: bool) -> bytes:
    options = (LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY)
    packer = zlib.compressobj(*options, window) if window else zlib.compressobj(*options)
    return packer.compress(data) + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


def _slice(file: IO[bytes], size: int) -> Slice:
    return Slice(file, 0, size)


def _sha256(state: hashlib._Hash) -> str:
    return f"sha256:{state.hexdigest()}"
